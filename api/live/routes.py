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
from events.programs import Program

router = APIRouter(prefix="/v1/shops/{shop}/live", tags=["live"])

_COUNTS = sql.SQL("""
SELECT segment, customers, monetary FROM rfm_segment_counts WHERE shop = %(shop)s AND customers > 0
""")


class LiveSegment(Answer):
    """A segment's size now."""

    segment: str
    customers: int
    revenue: Money


class Snapshot(Answer):
    """The data of one event."""

    shop: str
    at: Time
    customers: int
    segments: list[LiveSegment]
    hour: Window | None = Field(description="the hour that runs now; null before its first order")


async def _snapshot(caller: Caller, program: Program) -> bytes:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows = await caller.services.rows(_COUNTS, {"shop": caller.shop})
    rank = order_of(program)
    rows.sort(key=lambda row: (rank.get(row["segment"], len(rank)), row["segment"]))
    found = await windows_between(caller.services, caller.shop, program, "hour", hour, hour + timedelta(hours=1))
    return (
        Snapshot(
            shop=caller.shop,
            at=now,
            customers=sum(row["customers"] for row in rows),
            segments=[
                LiveSegment(
                    segment=row["segment"],
                    customers=row["customers"],
                    revenue=models.amount(row["monetary"], program.currency),
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
    async with aclosing(caller.services.live.watch(caller.shop, read)) as snapshots:
        async for snapshot in snapshots:
            if not await caller.still_allowed():
                return
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

    Each is whole, so a client that missed some has missed nothing. Browsers' EventSource cannot send the key: read the
    stream with fetch().
    """
    program = await caller.program()
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(caller, program), media_type="text/event-stream", headers=headers)
