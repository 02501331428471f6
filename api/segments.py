"""Segments: their sizes, share, revenue and mean values, and who moved from where to where."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from psycopg import sql
from pydantic import Field

from api import models
from api.context import ReadAccess, Row
from api.models import Answer, AsOf, CutPointsModel, Money, Time
from api.runs import Run, cut_points_by_version, newest_cut_points, run_at
from events.programs import PROSPECTS, Program

router = APIRouter(prefix="/v1/shops/{shop}/segments", tags=["segments"])

# As the sink keeps them: a shop's page costs the same with a hundred customers and with a million.
_LIVE = sql.SQL("""
SELECT segment, customers, monetary, recency_days::numeric / nullif(recent, 0) AS recency,
       frequency::numeric / customers AS frequency, monetary::numeric / customers AS mean_monetary, balance,
       (SELECT max(stored_at) FROM rfm_segment_counts WHERE shop = %(shop)s) AS newest
FROM rfm_segment_counts WHERE shop = %(shop)s AND customers > 0
""")

_PAST = sql.SQL("""
SELECT segment, count(*) AS customers, sum(monetary) AS monetary, avg(recency_days) AS recency,
       avg(frequency) AS frequency, avg(monetary) AS mean_monetary, sum(balance) AS balance, NULL AS newest
FROM batch_segments WHERE run_id = %(run)s AND shop = %(shop)s GROUP BY segment
""")

_CURRENT = {
    "customers": sql.SQL("SELECT customer_id, segment FROM customers WHERE shop = %(shop)s AND merged_into IS NULL"),
    "run": sql.SQL("SELECT customer_id, segment FROM batch_segments WHERE run_id = %(to)s AND shop = %(shop)s"),
}

_MOVEMENT = sql.SQL("""
SELECT before.segment AS previous, now.segment AS current, count(*) AS customers
FROM (SELECT customer_id, segment FROM batch_segments WHERE run_id = %(from)s AND shop = %(shop)s) AS before
FULL JOIN ({current}) AS now USING (customer_id)
GROUP BY 1, 2
""")


class Segment(Answer):
    """One segment. Mean values are of its customers; recency has none for Prospects."""

    segment: str = Field(examples=["Champions"])
    names: dict[str, str] = Field(description="language tag -> the name shown", examples=[{"de": "Meister"}])
    customers: int
    share: float = Field(description="of all customers, 0 to 1", examples=[0.047])
    revenue: Money = Field(description="summed monetary value: net over the look-back")
    revenue_share: float = Field(description="of the shop's revenue over the look-back, 0 to 1")
    points_balance: int = Field(description="points outstanding, summed")
    mean_recency_days: float | None
    mean_frequency: float
    mean_monetary: Money


class Freshness(Answer):
    """How new the newest stored row is."""

    stored_at: Time | None
    age_seconds: float | None


class RunModel(Answer):
    """The batch run that an answer about the past comes from."""

    id: UUID
    as_of: Time

    @classmethod
    def of(cls, run: Run) -> "RunModel":
        """A run as the batch has noted it."""
        return cls(id=run.id, as_of=run.as_of)


class Segments(Answer):
    """All segments of a shop, now or as of a past time."""

    shop: str
    as_of: Time = Field(description="now, or the time that the run worked them out for")
    run: RunModel | None = Field(description="null: live")
    customers: int
    revenue: Money
    segments: list[Segment]
    freshness: Freshness | None = Field(description="null for a past time")
    cut_points: CutPointsModel | None = Field(
        description="in use now: a customer was scored with the version in their own row. For a past time: the run's"
    )


class Move(Answer):
    """How many customers went from one segment to another, or stayed."""

    previous: str | None = Field(description="null: not known to the shop then")
    current: str | None = Field(description="null: not known to the shop any more")
    customers: int


class Movement(Answer):
    """The matrix previous × current; pairs without customers are left out."""

    shop: str
    from_run: RunModel
    to_run: RunModel | None = Field(description="null: live, as of `to`")
    to: Time
    segments: list[str] = Field(description="the order of the rows and columns, best first")
    moves: list[Move]
    moved: int = Field(description="customers known on both sides whose segment changed")


def order_of(program: Program) -> dict[str, int]:
    """Segment names by rank, best first, Prospects last; unknown names (an older grid's) come after."""
    names = dict.fromkeys(name for row in program.grid for name in row)
    return {name: rank for rank, name in enumerate([*names, PROSPECTS])}


def _rounded(value: Decimal | None) -> float | None:
    return None if value is None else float(round(value, 2))


def _segment(row: Row, customers: int, revenue: int, program: Program) -> Segment:
    currency = program.currency
    tongues = {tag: names[row["segment"]] for tag, names in program.translations.items() if row["segment"] in names}
    return Segment(
        segment=row["segment"],
        names=tongues,
        customers=row["customers"],
        share=round(row["customers"] / customers, 6),
        revenue=models.amount(row["monetary"], currency),
        revenue_share=round(int(row["monetary"]) / revenue, 6) if revenue else 0.0,
        points_balance=int(row["balance"]),
        mean_recency_days=_rounded(row["recency"]),
        mean_frequency=_rounded(row["frequency"]) or 0.0,
        mean_monetary=models.amount(round(row["mean_monetary"]), currency),
    )


def _answer(shop: str, program: Program, rows: list[Row], **rest: Any) -> Segments:
    rank = order_of(program)
    customers = sum(row["customers"] for row in rows)
    revenue = sum(int(row["monetary"]) for row in rows)
    rows.sort(key=lambda row: (rank.get(row["segment"], len(rank)), row["segment"]))
    return Segments(
        shop=shop,
        customers=customers,
        revenue=models.amount(revenue, program.currency),
        segments=[_segment(row, customers, revenue, program) for row in rows],
        **rest,
    )


def _freshness(rows: list[Row], now: datetime) -> Freshness:
    newest = max((row["newest"] for row in rows), default=None)
    age = None if newest is None else max(round((now - newest).total_seconds(), 3), 0.0)
    return Freshness(stored_at=newest, age_seconds=age)


@router.get("", summary="Sizes, share, revenue and mean values of the segments")
async def segments(
    caller: ReadAccess,
    as_of: Annotated[
        AsOf | None,
        Query(description="a past time: answered by the newest batch run whose as_of is not after it"),
    ] = None,
) -> Segments:
    """Live without `as_of`; with it, as the newest finished batch run not after that time worked them out."""
    program = await caller.program()
    if as_of is not None:
        run = await run_at(caller, as_of)
        rows = await caller.services.rows(_PAST, {"shop": caller.shop, "run": run.id})
        used = await cut_points_by_version(caller, run.version, program.currency)
        return _answer(
            caller.shop, program, rows, as_of=run.as_of, run=RunModel.of(run), freshness=None, cut_points=used
        )
    now = datetime.now(UTC)
    rows = await caller.services.rows(_LIVE, {"shop": caller.shop})
    used = await newest_cut_points(caller, program, now)
    fresh = _freshness(rows, now)
    return _answer(caller.shop, program, rows, as_of=now, run=None, freshness=fresh, cut_points=used)


@router.get("/movement", summary="Who moved from which segment to which")
async def movement(
    caller: ReadAccess,
    from_: Annotated[
        AsOf | None, Query(alias="from", description="the newest batch run not after it; its newest run without")
    ] = None,
    to: Annotated[AsOf | None, Query(description="likewise; live without")] = None,
) -> Movement:
    """The matrix of previous × current segments, between two batch runs or between one and now."""
    program = await caller.program()
    now = datetime.now(UTC)
    before = await run_at(caller, from_ or to or now)
    after = None if to is None else await run_at(caller, to)
    query = _MOVEMENT.format(current=_CURRENT["customers" if after is None else "run"])
    rows = await caller.services.rows(
        query, {"shop": caller.shop, "from": before.id, "to": None if after is None else after.id}
    )
    rank = order_of(program)
    named = {name for row in rows for name in (row["previous"], row["current"]) if name is not None}
    names = sorted({*rank, *named}, key=lambda name: (rank.get(name, len(rank)), name))
    place = {name: at for at, name in enumerate([*names, None])}
    rows.sort(key=lambda row: (place[row["previous"]], place[row["current"]]))
    return Movement(
        shop=caller.shop,
        from_run=RunModel.of(before),
        to_run=None if after is None else RunModel.of(after),
        to=now if after is None else after.as_of,
        segments=names,
        moves=[Move(**row) for row in rows],
        moved=sum(
            row["customers"] for row in rows if row["previous"] and row["current"] and row["previous"] != row["current"]
        ),
    )
