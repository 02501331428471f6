"""Frames to and from PostgreSQL by COPY, and what the batch asks of a shop's books."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import polars as pl
from psycopg import Connection, Cursor, sql

from events import topics
from events.programs import CutPoints, Program
from runtime import database
from runtime.columns import fetch as fetch
from runtime.columns import save as save
from runtime.settings import Settings

_SLICE = 50_000


class BatchError(RuntimeError):
    """A batch that cannot be done; the message is one sentence for the operator."""


def connect(settings: Settings) -> Connection[Any]:
    """A connection of the batch's own: its statements may take long. psycopg.OperationalError without a server."""
    return database.connect(settings.database_url(), "loyalnest batch", statement_seconds=0, autocommit=True)


def microseconds(column: str) -> str:
    """SQL: an instant column as whole microseconds since the epoch, under its own name."""
    return f"(extract(epoch FROM {column}) * 1000000)::bigint AS {column}"


def load(cursor: Cursor[Any], table: str, frame: pl.DataFrame) -> None:
    """Rows into the table's columns of the same names."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, frame.columns))
    )
    with cursor.copy(statement) as stream:
        for part in _slices(frame):
            stream.write(part.write_csv(include_header=False, datetime_format="%Y-%m-%dT%H:%M:%S%.6fZ"))


def _slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    return frame.iter_slices(_SLICE)


def program(connection: Connection[Any], shop: str) -> Program:
    """The shop's program; BatchError if it has none."""
    row = connection.execute("SELECT program FROM programs WHERE shop = %s", (shop,)).fetchone()
    if row is None:
        raise BatchError(f"{shop} has no program: add the shop first")
    return Program.model_validate(row[0])


def programs(connection: Connection[Any]) -> list[Program]:
    """Every shop's program, by shop."""
    rows = connection.execute("SELECT program FROM programs ORDER BY shop").fetchall()
    return [Program.model_validate(found) for (found,) in rows]


def published(connection: Connection[Any], shop: str) -> list[CutPoints]:
    """Every cut points ever published for a shop, in the order of publication.

    From the raw history: the table cut_points does not tell which of two with one as_of came later.
    """
    rows = connection.execute(
        "SELECT value FROM raw_events WHERE shop = %s AND stream = %s ORDER BY xid, id",
        (shop, topics.CUT_POINTS),
    ).fetchall()
    return [CutPoints.model_validate_json(value) for (value,) in rows]


def last_as_of(found: list[CutPoints]) -> datetime | None:
    """The newest as_of of these cut points; None if there are none."""
    return max((each.as_of for each in found), default=None)
