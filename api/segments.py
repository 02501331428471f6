"""Segments: their sizes, share, revenue and mean values, day by day, and who moved from where to where."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import polars as pl
from fastapi import APIRouter, Query
from psycopg import Connection, sql
from pydantic import Field

from api import models
from api.context import Caller, ReadAccess, Row
from api.models import Answer, AsOf, AsOfQuery, CutPointsModel, Money, Time, time_text
from api.problems import ProblemError
from api.runs import Run, Side, Source, cut_points_by_version, newest_cut_points, newest_run, side
from events import instants
from events.programs import DEFAULT, PROSPECTS, Program, local_midnight
from runtime import columns

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

_EVERYBODY = {
    "live": sql.SQL("SELECT customer_id, segment, monetary FROM customers WHERE shop = {shop} AND merged_into IS NULL"),
    "run": sql.SQL("SELECT customer_id, segment, monetary FROM batch_segments WHERE run_id = {run} AND shop = {shop}"),
}
_STANDING: Final = {"customer_id": pl.String, "segment": pl.String, "monetary": pl.Int64}

_MOVEMENT = sql.SQL("""
SELECT before.segment AS previous, now.segment AS current, count(*) AS customers,
       coalesce(sum(before.monetary), 0) AS revenue_before, coalesce(sum(now.monetary), 0) AS revenue_after
FROM ({previous}) AS before FULL JOIN ({current}) AS now USING (customer_id)
GROUP BY 1, 2
""")

# Of a day the last instant that a run was of, and of several of one instant the run that was noted last.
_SIZES = sql.SQL("""
SELECT s.day, s.as_of, s.run_id, s.segment, s.customers, s.monetary, s.balance
FROM (
    SELECT (as_of AT TIME ZONE %(zone)s)::date AS day, *,
           rank() OVER (PARTITION BY (as_of AT TIME ZONE %(zone)s)::date ORDER BY as_of DESC, noted_at DESC, run_id)
    FROM segment_sizes WHERE shop = %(shop)s AND as_of >= %(from)s AND as_of < %(to)s
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


class Move(Answer):
    """Those who went from one segment to another, or stayed: how many, and what they were worth, before and after."""

    previous: str | None = Field(description="null: not known to the shop then")
    current: str | None = Field(description="null: not known to the shop any more")
    customers: int
    revenue_before: Money = Field(description="their summed monetary value then: net over the look-back")
    revenue_after: Money


class Movement(Answer):
    """The matrix previous × current; pairs without customers are left out."""

    shop: str
    from_: Time = Field(serialization_alias="from")
    from_source: Source = Field(description="`lake`, or a `run`: see `segments`")
    from_run: RunModel | None = Field(description="the batch run that `from_source` means")
    to: Time
    to_source: Source = Field(description="`live`, `lake`, or a `run`")
    to_run: RunModel | None
    segments: list[str] = Field(description="the order of the rows and columns, best first")
    moves: list[Move]
    moved: int = Field(description="customers known on both sides whose segment changed")


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


def _row(told: Row) -> Row:
    """A segment of the lake's, with the mean values that the database gives of the others."""
    customers, recent = told["customers"], told["recent"]
    return {
        **told,
        "recency": Decimal(told["recency_days"]) / recent if recent else None,
        "frequency": Decimal(told["frequency"]) / customers,
        "mean_monetary": Decimal(told["monetary"]) / customers,
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
        told = {"as_of": found.at, "source": found.source, "run": run, "freshness": None, "cut_points": used}
        return _answer(caller.shop, program, rows, **told)
    now = datetime.now(UTC)
    rows = await caller.services.rows(_LIVE, {"shop": caller.shop})
    used = await newest_cut_points(caller, program, now)
    fresh = _freshness(rows, now)
    return _answer(caller.shop, program, rows, as_of=now, source="live", run=None, freshness=fresh, cut_points=used)


@router.get("/movement", summary="Who moved from which segment to which, and what they are worth")
async def movement(
    caller: ReadAccess,
    from_: Annotated[
        AsOf | None, Query(alias="from", description="an instant; the newest batch run not after `to` without")
    ] = None,
    to: Annotated[AsOf | None, Query(description="likewise; live without")] = None,
) -> Movement:
    """The matrix of previous × current segments between any two instants, or between one and now."""
    program = await caller.program()
    now = datetime.now(UTC)
    before = await (_last_run(caller, to or now) if from_ is None else side(caller, program, from_))
    after = None if to is None else await side(caller, program, to)
    rows = await _moves(caller, before, after)
    rank = order_of(program)
    named = {name for row in rows for name in (row["previous"], row["current"]) if name is not None}
    names = sorted({*rank, *named}, key=lambda name: (rank.get(name, len(rank)), name))
    place = {name: at for at, name in enumerate([*names, None])}
    rows.sort(key=lambda row: (place[row["previous"]], place[row["current"]]))
    return Movement(
        shop=caller.shop,
        from_=before.at,
        from_source=before.source,
        from_run=None if before.run is None else RunModel.of(before.run),
        to=now if after is None else after.at,
        to_source="live" if after is None else after.source,
        to_run=None if after is None or after.run is None else RunModel.of(after.run),
        segments=names,
        moves=[_move(row, program.currency) for row in rows],
        moved=sum(
            row["customers"] for row in rows if row["previous"] and row["current"] and row["previous"] != row["current"]
        ),
    )


def _move(row: Row, currency: str) -> Move:
    revenue = {name: models.amount(row[name], currency) for name in ("revenue_before", "revenue_after")}
    return Move(previous=row["previous"], current=row["current"], customers=row["customers"], **revenue)


async def _last_run(caller: Caller, until: datetime) -> Side:
    run = await newest_run(caller, until)
    if run is None:
        text = time_text(until.astimezone(UTC))
        detail = f"No batch has run for this shop as of {text} or before: say `from`."
        raise ProblemError(404, "no-batch-run", detail)
    return Side(run.as_of, run=run)


async def _moves(caller: Caller, before: Side, after: Side | None) -> list[Row]:
    """By the database where it has both sides; else beside the event loop."""
    queries = [_everybody(caller.shop, before), _everybody(caller.shop, after)]
    if None not in queries:
        return await caller.services.rows(_MOVEMENT.format(previous=queries[0], current=queries[1]), {})
    past = caller.services.past
    return await past.work(lambda: past.connected(_joined, list(zip((before, after), queries, strict=True))))


def _everybody(shop: str, whose: Side | None) -> sql.Composed | None:
    """SQL: customer_id, segment and monetary of everybody; None where the lake has them."""
    if whose is None:
        return _EVERYBODY["live"].format(shop=sql.Literal(shop))
    if whose.run is None:
        return None
    return _EVERYBODY["run"].format(shop=sql.Literal(shop), run=sql.Literal(whose.run.id))


def _joined(connection: Connection[Any], sides: list[tuple[Side | None, sql.Composed | None]]) -> list[Row]:
    """As _MOVEMENT has it."""
    frames = []
    for whose, query in sides:
        if query is not None:
            frames.append(columns.fetch(connection, query.as_string(connection), (), _STANDING))
        else:
            assert whose is not None
            assert whose.standings is not None
            frames.append(whose.standings.read(*_STANDING))
    both = frames[0].join(frames[1], on="customer_id", how="full", suffix="_after")
    sums = {"revenue_before": pl.col("monetary").sum(), "revenue_after": pl.col("monetary_after").sum()}
    return both.group_by(previous="segment", current="segment_after").agg(customers=pl.len(), **sums).to_dicts()


@router.get("/history", summary="The segments' sizes day by day")
async def history(
    caller: ReadAccess,
    from_: Annotated[date, Query(alias="from", description="the first day, in the shop's zone")],
    to: Annotated[date, Query(description=f"the last day; {_DAYS} days at most")],
) -> Sizes:
    """How large each segment was and what it was worth, as the last batch run of each day worked it out.

    A run of a past time (`loyalnest batch segments --shop SHOP --as-of TIME`) fills in its day.
    """
    if not date(1970, 1, 2) <= from_ <= to <= date(2200, 1, 1) or to - from_ >= timedelta(days=_DAYS):
        raise ProblemError(422, "invalid", f"from and to: days from 1970 to 2200, in this order, {_DAYS} at most")
    program = await caller.program()
    zone = ZoneInfo(program.zone)
    bounds = {
        "from": instants.to_datetime(local_midnight(from_, zone)),
        "to": instants.to_datetime(local_midnight(to + timedelta(days=1), zone)),
    }
    rows = await caller.services.rows(_SIZES, {"shop": caller.shop, "zone": program.zone, **bounds})
    rank = order_of(program)
    days = []
    for day, found in groupby(rows, key=itemgetter("day")):
        listed = sorted(found, key=lambda row: (rank.get(row["segment"], len(rank)), row["segment"]))
        days.append(Day(day=day, as_of=listed[0]["as_of"], segments=[_sized(row, program) for row in listed]))
    return Sizes(shop=caller.shop, zone=program.zone, days=days)


def _sized(row: Row, program: Program) -> DaySegment:
    return DaySegment(
        segment=row["segment"],
        customers=row["customers"],
        revenue=models.amount(row["monetary"], program.currency),
        points_balance=row["balance"],
    )
