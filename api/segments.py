"""Segments: their sizes, share, revenue and mean values, now, as of a past instant, and day by day."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from psycopg import sql
from pydantic import Field

from api import models
from api.context import Caller, ReadAccess, Row
from api.models import Answer, AsOfQuery, CutPointsModel, Money, Time
from api.problems import ProblemError
from api.runs import RunModel, Source, cut_points_by_version, newest_cut_points, side
from events import instants
from events.programs import DEFAULT, PROSPECTS, Program, local_midnight

router = APIRouter(prefix="/v1/shops/{shop}/segments", tags=["segments"])

# As the sink keeps them: a shop's page costs the same with a hundred customers and with a million.
_LIVE = sql.SQL("""
SELECT segment, customers, monetary, recency_days::numeric / nullif(recent, 0) AS recency,
       frequency::numeric / nullif(customers, 0) AS frequency,
       monetary::numeric / nullif(customers, 0) AS mean_monetary, balance, stored_at
FROM rfm_segment_counts WHERE shop = %(shop)s
""")

_PAST = sql.SQL("""
SELECT segment, count(*) AS customers, sum(monetary) AS monetary, avg(recency_days) AS recency,
       avg(frequency) AS frequency, avg(monetary) AS mean_monetary, sum(balance) AS balance
FROM batch_segments WHERE run_id = %(run)s AND shop = %(shop)s GROUP BY segment
""")

# Of a day the last instant that a run was of, and of several of one instant the run that was noted last.
_SIZES = sql.SQL("""
SELECT s.day, s.as_of, s.run_id, s.segment, s.customers, s.monetary, s.balance
FROM (
    SELECT *, rank() OVER (PARTITION BY day ORDER BY as_of DESC, noted_at DESC, run_id)
    FROM (
        SELECT *, width_bucket(as_of, %(starts)s::timestamptz[]) AS day FROM segment_sizes
        WHERE shop = %(shop)s AND as_of >= %(from)s AND as_of < %(to)s
    ) AS those
) AS s WHERE rank = 1
ORDER BY s.day
""")

#: Days of one answer about sizes.
_DAYS: Final = 400


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


class Segments(Answer):
    """All segments of a shop, now or as of a past time."""

    shop: str
    as_of: Time = Field(description="now, or the instant asked for; of a run: the time it worked them out for")
    source: Source = Field(description="`live`, worked out from the `lake`, or, where that cannot tell, of a `run`")
    run: RunModel | None = Field(description="the batch run that `source` means")
    customers: int
    revenue: Money
    segments: list[Segment]
    freshness: Freshness | None = Field(description="null for a past time")
    cut_points: CutPointsModel | None = Field(
        description="in use now: a customer was scored with the version in their own row. For a past time: of then"
    )


class DaySegment(Answer):
    """One segment on one day."""

    segment: str = Field(examples=["Champions"])
    customers: int
    revenue: Money
    points_balance: int


class Day(Answer):
    """A day's segments, as the last batch run of that day worked them out."""

    day: date = Field(description="in the shop's zone")
    as_of: Time
    segments: list[DaySegment]


class Sizes(Answer):
    """Segments day by day, oldest first. A day without a run is not there: `as_of` of the segments tells of it."""

    shop: str
    zone: str
    days: list[Day]


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
    return Segments(
        shop=shop,
        customers=sum(row["customers"] for row in rows),
        revenue=models.amount(sum(int(row["monetary"]) for row in rows), program.currency),
        segments=told(rows, program),
        **rest,
    )


def _freshness(newest: datetime | None, now: datetime) -> Freshness:
    age = None if newest is None else max(round((now - newest).total_seconds(), 3), 0.0)
    return Freshness(stored_at=newest, age_seconds=age)


class Live(NamedTuple):
    """The segments that hold somebody now, as the database has them, and when the newest row was stored."""

    rows: list[Row]
    newest: datetime | None


async def live(caller: Caller) -> Live:
    """A shop's segments now."""
    found = await caller.services.rows(_LIVE, {"shop": caller.shop})
    newest = max((row["stored_at"] for row in found), default=None)
    return Live([row for row in found if row["customers"] > 0], newest)


def told(rows: list[Row], program: Program) -> list[Segment]:
    """Segments as they are told, best first."""
    rank = order_of(program)
    customers = sum(row["customers"] for row in rows)
    revenue = sum(int(row["monetary"]) for row in rows)
    listed = sorted(rows, key=lambda row: (rank.get(row["segment"], len(rank)), row["segment"]))
    return [_segment(row, customers, revenue, program) for row in listed]


def _row(kept: Row) -> Row:
    """A segment of the lake's, with the mean values that the database gives of the others."""
    customers, recent = kept["customers"], kept["recent"]
    return {
        **kept,
        "recency": Decimal(kept["recency_days"]) / recent if recent else None,
        "frequency": Decimal(kept["frequency"]) / customers,
        "mean_monetary": Decimal(kept["monetary"]) / customers,
    }


@router.get("", summary="Sizes, share, revenue and mean values of the segments")
async def segments(caller: ReadAccess, as_of: AsOfQuery = None) -> Segments:
    """Live without `as_of`; with it, as of that very instant: all that was told up to then, whenever it arrived."""
    program = await caller.program()
    if as_of is not None:
        found = await side(caller, program, as_of)
        run: RunModel | None = None
        used: CutPointsModel | None
        if found.standings is not None:
            rows, cuts = [_row(each) for each in found.standings.segments], found.standings.cut_points
            used = CutPointsModel.of(cuts, program.currency, known=cuts.version != DEFAULT)
        else:
            assert found.run is not None
            run = RunModel.of(found.run)
            rows = await caller.services.rows(_PAST, {"shop": caller.shop, "run": found.run.id})
            used = await cut_points_by_version(caller, found.run.version, program.currency)
        rest = {"as_of": found.at, "source": found.source, "run": run, "freshness": None, "cut_points": used}
        return _answer(caller.shop, program, rows, **rest)
    now = datetime.now(UTC)
    rows, newest = await live(caller)
    used = await newest_cut_points(caller, program, now)
    fresh = _freshness(newest, now)
    return _answer(caller.shop, program, rows, as_of=now, source="live", run=None, freshness=fresh, cut_points=used)


@router.get("/history", summary="The segments' sizes day by day")
async def history(
    caller: ReadAccess,
    from_: Annotated[date, Query(alias="from", description="the first day, in the shop's zone")],
    to: Annotated[date, Query(description=f"the last day; {_DAYS} days at most")],
) -> Sizes:
    """How large each segment was and what it was worth, as the last batch run of each day worked it out.

    A run of a past time (`loyalnest batch segments --shop SHOP --as-of TIME`) fills in its day.
    """
    if not models.FIRST_DAY <= from_ <= to <= models.LAST_DAY or to - from_ >= timedelta(days=_DAYS):
        raise ProblemError(422, "invalid", f"from and to: days from 1970 to 2200, in this order, {_DAYS} at most")
    program = await caller.program()
    zone = ZoneInfo(program.zone)
    asked = [from_ + timedelta(days=day) for day in range((to - from_).days + 2)]
    *starts, end = (instants.to_datetime(local_midnight(day, zone)) for day in asked)
    # The days' beginnings, and not the zone's name: PostgreSQL's rules of time zones may be of another year.
    bounds = {"from": starts[0], "to": end, "starts": starts}
    rows = await caller.services.rows(_SIZES, {"shop": caller.shop, **bounds})
    rank = order_of(program)
    days = []
    for day, found in groupby(rows, key=itemgetter("day")):
        listed = sorted(found, key=lambda row: (rank.get(row["segment"], len(rank)), row["segment"]))
        days.append(
            Day(day=asked[day - 1], as_of=listed[0]["as_of"], segments=[_sized(row, program) for row in listed])
        )
    return Sizes(shop=caller.shop, zone=program.zone, days=days)


def _sized(row: Row, program: Program) -> DaySegment:
    return DaySegment(
        segment=row["segment"],
        customers=row["customers"],
        revenue=models.amount(row["monetary"], program.currency),
        points_balance=row["balance"],
    )
