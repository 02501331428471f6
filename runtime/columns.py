"""A query's rows as columns, by COPY: never one at a time."""

from io import BytesIO
from typing import Any

import polars as pl
from psycopg import Connection


def fetch(connection: Connection[Any], query: str, parameters: tuple[Any, ...], schema: dict[str, Any]) -> pl.DataFrame:
    """A query's rows as a frame of `schema`, whose columns are the query's in order."""
    buffer = BytesIO()
    statement = f"COPY ({query}) TO STDOUT (FORMAT csv)".encode()
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as stream:
        for block in stream:
            buffer.write(block)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, schema=schema, raise_if_empty=False)
