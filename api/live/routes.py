"""The live view: a shop's segments and its running hour, by server-sent events."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import Field

from api import models, segments
from api.context import Caller, ReadAccess
from api.models import Answer, Money, Time
from api.points import Window, windows_between
from api.segments import Segment
from events.programs import PROSPECTS, Program

router = APIRouter(prefix="/v1/shops/{shop}/live", tags=["live"])


class Snapshot(Answer):
    """The data of one event."""

    shop: str
    at: Time
    customers: int
    active: int = Field(description="customers who are not Prospects")
    revenue: Money
    points_balance: int = Field(description="points outstanding, summed")
    stored_at: Time | None = Field(description="when the newest row was stored")
    segments: list[Segment] = Field(description="those that hold somebody, best first")
    hour: Window | None = Field(description="the hour that runs now; null before its first order")


async def _snapshot(caller: Caller, program: Program) -> bytes:
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    rows, newest = await segments.live(caller)
    found = await windows_between(caller.services, caller.shop, program, "hour", hour, hour + timedelta(hours=1))
    return (
        Snapshot(
            shop=caller.shop,
            at=now,
            customers=sum(row["customers"] for row in rows),
            active=sum(row["customers"] for row in rows if row["segment"] != PROSPECTS),
            revenue=models.amount(sum(row["monetary"] for row in rows), program.currency),
            points_balance=sum(row["balance"] for row in rows),
            stored_at=newest,
            segments=segments.told(rows, program),
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
