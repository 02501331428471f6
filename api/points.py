"""Points: a customer's ledger, and a shop's windows."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from psycopg import sql
from pydantic import Field

from api import cursors, models
from api.context import ReadAccess, Row, Services
from api.cursors import CursorQuery, LimitQuery
from api.customers import CustomerPath, find
from api.models import Answer, AsOf, Money, Time
from api.problems import ProblemError
from books import ledger as books_ledger
from events import instants
from events.programs import Program, local_midnight

router = APIRouter(prefix="/v1/shops/{shop}", tags=["points"])

Size = Literal["minute", "hour", "day"]

_LENGTHS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}

#: What is shown without `from`: an hour of minutes, two days of hours, a month of days.
_SHOWN = {"minute": 60, "hour": 48, "day": 31}

#: Windows at most in one answer.
_MOST = 10_000

_LEDGER = sql.SQL(books_ledger.PAGE)

_WINDOWS = sql.SQL("""
SELECT start, orders, net, points_earned, points_reversed, customers, guest_orders, guest_net,
    points_awarded, points_redeemed
FROM shop_windows
WHERE shop = %(shop)s AND size = %(size)s AND zone = %(zone)s AND start >= %(from)s AND start < %(to)s
ORDER BY start
""")


class Entry(Answer):
    """One entry of the ledger."""

    id: UUID = Field(description="the same after any replay")
    posted_at: Time
    kind: Literal["earned", "reversed", "adjusted", "redeemed", "returned", "expired"] = Field(
        description="an order's points are `earned` and `reversed`; what is given or deducted by hand, or that this is"
        " taken back, is `adjusted`; a redemption's points are `redeemed`, and `returned` where they come back;"
        " what ran out on one day is `expired`, and may be another number once more is known"
    )
    points: int = Field(description="above 0 given, below 0 taken or run out", examples=[129])
    source: Literal["order", "award", "deduction", "redeem", "expiry"] = Field(
        description="what the points come from, or go for: `award` and `deduction` are given and taken by hand,"
        " `expiry` is that they ran out"
    )
    source_id: str = Field(
        description="the order's id; an award's, a deduction's or a redemption's name; the day on which they ran out",
        examples=["450789469"],
    )
    processed_at: Time = Field(description="the source's time: its points are filed under it")
    via: str | None = Field(description="whose it was before they were merged into this customer; null: their own")

    @classmethod
    def of(cls, row: Row) -> "Entry":
        """From its row."""
        return cls(**{**{name: row[name] for name in cls.model_fields}, "via": row["via"] or None})


class Ledger(Answer):
    """A page of the ledger, newest first.

    All entries up to the customer's `now` sum to points_balance + points_pending, those that are `expired` to
    -points_expired: that points can be spent from now on is no entry.
    """

    customer_id: str
    points_balance: int = Field(description="points that can be spent; below 0: owed")
    points_pending: int = Field(description="points that cannot be spent yet")
    points_expired: int = Field(description="points that have run out")
    items: list[Entry]
    next: str | None = Field(description="the next page's cursor; null on the last")


class Window(Answer):
    """What happened in a half-open stretch of time, by the orders' `processed_at`, the adjustments' `at` and when
    redemptions were decided."""

    start: Time
    end: Time
    label: str = Field(description="the day in the shop's zone, or the start in UTC", examples=["2026-11-21"])
    orders: int
    net: Money
    points_earned: int
    points_reversed: int
    customers: int = Field(description="distinct")
    guest_orders: int
    guest_net: Money
    points_awarded: int = Field(
        description="given by hand less those deducted by hand, without what was taken back of either"
    )
    points_redeemed: int = Field(description="that redemptions took, without those that were returned")


class Windows(Answer):
    """Windows in the order of time; those in which nothing happened are left out."""

    size: Size
    zone: str = Field(description="days begin at midnight here; minutes and hours are of UTC")
    items: list[Window]


@router.get("/customers/{customer_id}/points", summary="A customer's points ledger")
async def ledger(
    caller: ReadAccess, customer_id: CustomerPath, cursor: CursorQuery = None, limit: LimitQuery = 100
) -> Ledger:
    """What was given and what was taken, of orders, by hand and for rewards, and what ran out on each day; newest
    first."""
    row = await find(caller, customer_id)
    rows = await caller.services.rows(
        _LEDGER, {"shop": caller.shop, "customer": customer_id, "limit": limit, **cursors.time_and_id(cursor)}
    )
    last = rows[limit - 1] if len(rows) > limit else None
    return Ledger(
        customer_id=customer_id,
        points_balance=row["balance"],
        points_pending=row["pending"],
        points_expired=row["expired"],
        items=[Entry.of(each) for each in rows[:limit]],
        next=None if last is None else cursors.write(last["posted_at"], str(last["id"])),
    )


def window(row: Row, size: str, program: Program) -> Window:
    """A window from its summed row."""
    start: datetime = row["start"]
    end, label = start + _LENGTHS[size], models.time_text(start)
    if size == "day":
        zone = ZoneInfo(program.zone)
        day = start.astimezone(zone).date()
        # The next midnight, not 24 hours later: clocks change.
        end = instants.to_datetime(local_midnight(day + timedelta(days=1), zone))
        label = day.isoformat()
    points = ("points_earned", "points_reversed", "points_awarded", "points_redeemed")
    counts = ("orders", *points, "customers", "guest_orders")
    return Window(
        start=start,
        end=end,
        label=label,
        net=models.amount(row["net"], program.currency),
        guest_net=models.amount(row["guest_net"], program.currency),
        **{name: int(row[name]) for name in counts},
    )


async def windows_between(
    services: Services, shop: str, program: Program, size: str, start: datetime, end: datetime
) -> list[Window]:
    """The shop's windows that begin in [start, end)."""
    zone = program.zone if size == "day" else "UTC"
    rows = await services.rows(_WINDOWS, {"shop": shop, "size": size, "zone": zone, "from": start, "to": end})
    return [window(row, size, program) for row in rows]


@router.get("/points/windows", summary="Orders, points and customers by minute, hour or day")
async def windows(
    caller: ReadAccess,
    size: Size = "hour",
    from_: Annotated[AsOf | None, Query(alias="from", description="windows that begin here or later")] = None,
    to: Annotated[AsOf | None, Query(description="windows that begin before it; now without")] = None,
) -> Windows:
    """Live: an hour that is still running is in it, and a refund restates the window of its order."""
    program = await caller.program()
    end = to or datetime.now(UTC)
    try:
        start = from_ or end - _LENGTHS[size] * _SHOWN[size]
    except OverflowError:
        start = end
    if (end - start) / _LENGTHS[size] > _MOST:
        raise ProblemError(422, "too-many", f"At most {_MOST} windows in one answer: ask for a shorter time.")
    items = await windows_between(caller.services, caller.shop, program, size, start, end)
    return Windows(size=size, zone=program.zone, items=items)
