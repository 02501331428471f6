"""How far the stream is behind: what came in and cannot be seen yet."""

from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter
from psycopg import sql
from pydantic import Field

from api.context import ReadAccess
from api.models import Answer, Time

router = APIRouter(prefix="/v1/shops/{shop}/lag", tags=["health"])

#: A sink notes it every five seconds: what was noted longer ago says nothing of now.
_FRESH: Final = timedelta(seconds=30)

_LAG = sql.SQL("SELECT noted_at, waiting, worker, worker_read_to, sink, sink_read_to FROM stream_lag")


class Reader(Answer):
    """How far somebody is who reads the logs."""

    records: int = Field(description="that are not read yet, of all shops")
    read_to: Time | None = Field(description="all that had come until then is read; null: not known yet")
    seconds: float | None = Field(description="since then")


class Lag(Answer):
    """How far the stream is behind, as a sink measured it last. Everything is null where none ever did."""

    shop: str
    measured_at: Time | None
    running: bool = Field(description="it was measured within the last 30 seconds: a sink is running")
    waiting: int | None = Field(
        description="embedded: webhooks that the broker has not been given yet, 10,000 at most; null: there are none"
        " that could wait so"
    )
    worker: Reader | None = Field(description="who makes points and segments of what came")
    sink: Reader | None = Field(description="who stores all of it, so that it can be seen")


@router.get("", summary="How far the stream is behind")
async def lag(caller: ReadAccess) -> Lag:
    """Of all shops together: they share the stream. Up to five seconds old."""
    row = await caller.services.row(_LAG, {})
    if row is None:
        return Lag(shop=caller.shop, measured_at=None, running=False, waiting=None, worker=None, sink=None)
    now = datetime.now(UTC)
    worker, sink = (_reader(row[name], row[f"{name}_read_to"], now) for name in ("worker", "sink"))
    return Lag(
        shop=caller.shop,
        measured_at=row["noted_at"],
        running=now - row["noted_at"] < _FRESH,
        waiting=row["waiting"],
        worker=worker,
        sink=sink,
    )


def _reader(records: int, read_to: datetime | None, now: datetime) -> Reader:
    seconds = None if read_to is None else max(round((now - read_to).total_seconds(), 1), 0.0)
    return Reader(records=records, read_to=read_to, seconds=seconds)
