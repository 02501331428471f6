"""A query's rows as columns, by COPY: never one at a time."""

from io import BytesIO
from pathlib import Path
from typing import IO, Any

import polars as pl
from psycopg import Connection


def fetch(connection: Connection[Any], query: str, parameters: tuple[Any, ...], schema: dict[str, Any]) -> pl.DataFrame:
    """A query's rows as a frame of `schema`, whose columns are the query's in order."""
    buffer = BytesIO()
    _copy(connection, query, parameters, buffer)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, schema=schema, raise_if_empty=False)


def save(
    connection: Connection[Any], query: str, parameters: tuple[Any, ...], schema: dict[str, Any], target: Path
) -> pl.LazyFrame:
    """As `fetch`, in a Parquet file: memory does not grow with its rows."""
    aside = target.with_suffix(".csv")
    with aside.open("wb") as file:
        _copy(connection, query, parameters, file)
    if aside.stat().st_size:
        pl.scan_csv(aside, has_header=False, schema=schema).sink_parquet(target)
    else:
        pl.DataFrame(schema=schema).write_parquet(target)
    aside.unlink()
    return pl.scan_parquet(target)


def _copy(connection: Connection[Any], query: str, parameters: tuple[Any, ...], into: IO[bytes]) -> None:
    statement = f"COPY ({query}) TO STDOUT (FORMAT csv)".encode()
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as stream:
        for block in stream:
            into.write(block)
