"""A query's rows as columns, by COPY: never one at a time."""

from io import BytesIO
from pathlib import Path
from select import POLLIN, poll
from typing import IO, Any

import polars as pl
from psycopg import Connection, errors, pq


def fetch(connection: Connection[Any], query: str, parameters: tuple[Any, ...], schema: dict[str, Any]) -> pl.DataFrame:
    """A query's rows as a frame of `schema`, whose columns are the query's in order."""
    buffer = BytesIO()
    copy(connection, query, parameters, buffer)
    buffer.seek(0)
    return pl.read_csv(buffer, has_header=False, schema=schema, raise_if_empty=False)


def save(
    connection: Connection[Any], query: str, parameters: tuple[Any, ...], schema: dict[str, Any], target: Path
) -> pl.LazyFrame:
    """As `fetch`, in a Parquet file: memory does not grow with its rows."""
    aside = target.with_suffix(".csv")
    with aside.open("wb") as file:
        copy(connection, query, parameters, file)
    if aside.stat().st_size:
        pl.scan_csv(aside, has_header=False, schema=schema).sink_parquet(target)
    else:
        pl.DataFrame(schema=schema).write_parquet(target)
    aside.unlink()
    return pl.scan_parquet(target)


def copy(connection: Connection[Any], query: str, parameters: tuple[Any, ...], into: IO[bytes]) -> None:
    """A query's rows as CSV, written into `into` as they come."""
    statement, server = f"COPY ({query}) TO STDOUT (FORMAT csv)".encode(), connection.pgconn
    with connection.cursor() as cursor, cursor.copy(statement, parameters):
        more = poll()
        more.register(server.socket, POLLIN)
        # Each row is a message of its own. What has come is taken from libpq at once: psycopg's way to it is two
        # generators and a wait for every row, which takes twice as long.
        while (found := server.get_copy_data(1))[0] >= 0:
            if found[0]:
                into.write(found[1])
            else:
                more.poll()
                server.consume_input()
        for result in list(iter(server.get_result, None)):  # to the last, or the connection is not free
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result)
