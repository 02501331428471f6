"""The live view: a shop's segments and its running hour, by server-sent events."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from psycopg import sql
from pydantic import Field

from api import models
from api.context import Caller, ReadAccess
from api.models import Answer, Money, Time
from api.points import Window, windows_between
from api.segments import order_of
from events.programs import PROSPECTS, Program

router = APIRouter(prefix="/v1/shops/{shop}/live", tags=["live"])

_COUNTS = sql.SQL("""
SELECT segment, customers, monetary, balance, stored_at FROM rfm_segment_counts WHERE shop = %(shop)s
""")


class LiveSegment(Answer):
    """A segment's size now."""

    segment: str
    customers: int
    revenue: Money
    points_balance: int = Field(description="points outstanding, summed")


class Snapshot(Answer):
    """The data of one event."""

    shop: str
    at: Time
    customers: int
    active: int = Field(description="customers who are not Prospects")
    revenue: Money
    points_balance: int = Field(description="points outstanding, summed")
    stored_at: Time | None = Field(description="when the newest row was stored")
    segments: list[LiveSegment]
    hour: Window | None = Field(description="the hour that runs now; null before its first order")


async def _snapshot(caller: Caller, program: Program) -> bytes:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    counted = await caller.services.rows(_COUNTS, {"shop": caller.shop})
    rows = [row for row in counted if row["customers"] > 0]
    rank = order_of(program)
    rows.sort(key=lambda row: (rank.get(row["segment"], len(rank)), row["segment"]))
    found = await windows_between(caller.services, caller.shop, program, "hour", hour, hour + timedelta(hours=1))
    return (
        Snapshot(
            shop=caller.shop,
            at=now,
            customers=sum(row["customers"] for row in rows),
            active=sum(row["customers"] for row in rows if row["segment"] != PROSPECTS),
            revenue=models.amount(sum(row["monetary"] for row in rows), program.currency),
            points_balance=sum(row["balance"] for row in rows),
            stored_at=max((row["stored_at"] for row in counted), default=None),
            segments=[
                LiveSegment(
                    segment=row["segment"],
                    customers=row["customers"],
                    revenue=models.amount(row["monetary"], program.currency),
                    points_balance=row["balance"],
                )
                for row in rows
            ],
            hour=found[0] if found else None,
        )
        .model_dump_json()
        .encode()
    )


async def _events(caller: Caller, program: Program) -> AsyncIterator[bytes]:
    async def read() -> bytes:
        return await _snapshot(caller, program)

    yield b"retry: 2000\n\n"
    watching = caller.services.live.watch(caller.shop, read, caller.credentials, caller.still_allowed)
    async with aclosing(watching) as snapshots:
        async for snapshot in snapshots:
            yield b": heartbeat\n\n" if snapshot is None else b"event: snapshot\ndata: " + snapshot + b"\n\n"


@router.get(
    "",
    summary="Segments and the running hour, as they change",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events of the type `snapshot`; a comment every 15 s when nothing changes",
            "model": Snapshot,
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: snapshot\ndata: {"shop": ...}\n\n',
                }
            },
        }
    },
)
async def live(caller: ReadAccess) -> StreamingResponse:
    """A snapshot at once, and another whenever something was stored (a few a second at most).

    Each is whole, so a client that missed some has missed nothing: one that comes back gets the newest at once.
    Browsers' EventSource cannot send a key (it sends the dashboard's cookie): read the stream with fetch().
    """
    program = await caller.program()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(caller, program), media_type="text/event-stream", headers=headers)
