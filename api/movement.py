"""Who moved from which segment to which between two instants: how many, what they are worth, and who they are."""

from collections.abc import Hashable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import polars as pl
from fastapi import APIRouter, Query
from psycopg import Connection, sql
from pydantic import Field

from api import cursors, models
from api.context import Caller, ReadAccess, Row, Statement
from api.cursors import CursorQuery, LimitQuery
from api.models import Answer, AsOf, Money, Time, time_text
from api.problems import ProblemError
from api.runs import RunModel, Side, Source, newest_run, side
from api.segments import order_of
from events.programs import Program
from lake import movement as moving

router = APIRouter(prefix="/v1/shops/{shop}/segments/movement", tags=["segments"])

_EVERYBODY = {
    "live": sql.SQL(
        "SELECT customer_id, segment, segment_id, monetary FROM customers WHERE shop = {shop} AND merged_into IS NULL"
    ),
    "run": sql.SQL(
        "SELECT customer_id, segment, segment_id, monetary FROM batch_segments WHERE run_id = {run} AND shop = {shop}"
    ),
}

# A text for each group, in place of a row for each customer: reading a million rows, a thread keeps everybody else of
# the process waiting. By `segment_id` as well, so that no text of a large shop is longer than the server can make it.
_LINES = sql.SQL("""
SELECT segment, count(*), string_agg(customer_id || ',' || monetary, E'\n')
FROM ({everybody}) AS everybody GROUP BY segment, segment_id
""")

#: A line's columns: ids have no commas.
_PERSON = {"customer_id": pl.String, "monetary": pl.Int64}

_MOVEMENT = sql.SQL("""
SELECT before.segment AS previous, now.segment AS current, count(*) AS customers,
       coalesce(sum(before.monetary), 0) AS revenue_before, coalesce(sum(now.monetary), 0) AS revenue_after
FROM ({previous}) AS before FULL JOIN ({current}) AS now USING (customer_id)
GROUP BY 1, 2
""")

_PEOPLE = sql.SQL("""
SELECT customer_id, before.segment AS previous, now.segment AS current,
       coalesce(before.monetary, 0) AS revenue_before, coalesce(now.monetary, 0) AS revenue_after
FROM ({previous}) AS before FULL JOIN ({current}) AS now USING (customer_id)
WHERE {where} ORDER BY customer_id LIMIT {limit}
""")

FromQuery = Annotated[
    AsOf | None, Query(alias="from", description="an instant; the newest batch run not after `to` without")
]
ToQuery = Annotated[AsOf | None, Query(description="likewise; live without")]


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


class Mover(Answer):
    """One customer, then and now."""

    customer_id: str = Field(examples=["207119551"])
    previous: str | None = Field(description="null: not known to the shop then")
    current: str | None = Field(description="null: not known to the shop any more")
    revenue_before: Money = Field(description="their monetary value then: net over the look-back")
    revenue_after: Money


class Movers(Answer):
    """A page of the customers of one pair of segments, or of several, by id."""

    shop: str
    from_: Time = Field(serialization_alias="from")
    from_source: Source = Field(description="as of the matrix")
    to: Time
    to_source: Source
    items: list[Mover]
    next: str | None = Field(description="the next page's cursor; null on the last")


class Cell(NamedTuple):
    """Which customers of a movement are asked for, by their segments. None: in any; "": not known to the shop."""

    previous: str | None = None
    current: str | None = None


@router.get("", summary="Who moved from which segment to which, and what they are worth")
async def movement(caller: ReadAccess, from_: FromQuery = None, to: ToQuery = None) -> Movement:
    """The matrix of previous × current segments between any two instants, or between one and now."""
    program = await caller.program()
    now = datetime.now(UTC)
    before, after = await _sides(caller, program, from_, to, now)
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
        moves=[Move(**_sides_of(row, program.currency), customers=row["customers"]) for row in rows],
        moved=sum(
            row["customers"] for row in rows if row["previous"] and row["current"] and row["previous"] != row["current"]
        ),
    )


@router.get("/customers", summary="The customers who moved from one segment to another")
async def movers(
    caller: ReadAccess,
    from_: FromQuery = None,
    to: ToQuery = None,
    previous: Annotated[
        str | None,
        Query(
            description="their segment at `from`, by name; empty: not known to the shop then; left out: any",
            pattern=r"^[^\x00]{0,100}$",
            examples=["Loyal"],
        ),
    ] = None,
    current: Annotated[
        str | None, Query(description="their segment at `to`, likewise", pattern=r"^[^\x00]{0,100}$")
    ] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 100,
) -> Movers:
    """Who stands behind a number of the matrix: everybody of a pair of segments, those who stayed too, by id.

    Ask with the same `from` and `to` as for the matrix. Where `to` is left out, a page is as live as the matrix is.
    """
    program = await caller.program()
    now = datetime.now(UTC)
    before, after = await _sides(caller, program, from_, to, now)
    began, last = time_text(before.at), ""
    if cursor is not None:
        came_by, last = cursors.read(cursor, str, str)
        if came_by != began or "\x00" in last:
            detail = "This cursor belongs to another movement (a batch may have run since): begin again without one."
            raise ProblemError(400, "bad-cursor", detail)
    rows = await _people(caller, before, after, Cell(previous, current), last, limit + 1)
    return Movers(
        shop=caller.shop,
        from_=before.at,
        from_source=before.source,
        to=now if after is None else after.at,
        to_source="live" if after is None else after.source,
        items=[Mover(**_sides_of(row, program.currency), customer_id=row["customer_id"]) for row in rows[:limit]],
        next=cursors.write(began, rows[limit - 1]["customer_id"]) if len(rows) > limit else None,
    )


def _sides_of(row: Row, currency: str) -> dict[str, Any]:
    revenue = {name: models.amount(row[name], currency) for name in ("revenue_before", "revenue_after")}
    return {"previous": row["previous"], "current": row["current"], **revenue}


async def _sides(
    caller: Caller, program: Program, from_: datetime | None, to: datetime | None, now: datetime
) -> tuple[Side, Side | None]:
    """Both ends of a movement; None for live."""
    before = await (_last_run(caller, to or now) if from_ is None else side(caller, program, from_))
    return before, None if to is None else await side(caller, program, to)


async def _last_run(caller: Caller, until: datetime) -> Side:
    run = await newest_run(caller, until)
    if run is None:
        text = time_text(until.astimezone(UTC))
        detail = f"No batch has run for this shop as of {text} or before: say `from`."
        raise ProblemError(404, "no-batch-run", detail)
    return Side(run.as_of, run=run)


# --- by the database where it has both sides; else beside the event loop -----------------------------------------


async def _moves(caller: Caller, before: Side, after: Side | None) -> list[Row]:
    """As _MOVEMENT has it."""
    queries = [_everybody(caller.shop, each) for each in (before, after)]
    if None not in queries:
        return await caller.services.rows(_MOVEMENT.format(previous=queries[0], current=queries[1]), {})

    def counted(connection: Connection[Any]) -> list[Row]:
        sides = [_frame(connection, *each) for each in zip((before, after), queries, strict=True)]
        return moving.moves(*sides).to_dicts()

    past = caller.services.past
    return await past.work(lambda: past.connected(counted), (caller.shop, _name(before), _name(after)))


def _name(whose: Side | None) -> Hashable:
    """What tells one side from every other; None for live."""
    if whose is None:
        return None
    return whose.run.id if whose.run is not None else whose.standings and whose.standings.name


async def _people(caller: Caller, before: Side, after: Side | None, cell: Cell, last: str, limit: int) -> list[Row]:
    """As _PEOPLE has it, behind the customer `last`.

    A side whose segment is named is read no further than that: of the rows that then seem to lack the other side, none
    is asked for.
    """
    asked = list(zip((before, after), cell, strict=True))
    queries = [_everybody(caller.shop, whose, segment, last) for whose, segment in asked]
    if None not in queries:
        named = zip(("before", "now"), cell, strict=True)
        where = [_is(sql.Identifier(side_, "segment"), name) for side_, name in named if name is not None]
        page = _PEOPLE.format(
            previous=queries[0],
            current=queries[1],
            where=sql.SQL(" AND ").join([sql.SQL("true"), *where]),
            limit=sql.Literal(limit),
        )
        return await caller.services.rows(page, {})

    def listed(connection: Connection[Any]) -> list[Row]:
        frames = [
            _frame(connection, whose, query).filter(pl.col("customer_id") > last, *_named(segment))
            for (whose, segment), query in zip(asked, queries, strict=True)
        ]
        found = moving.joined(*frames).filter(
            *_wanted("segment", cell.previous), *_wanted("segment_after", cell.current)
        )
        page = found.sort("customer_id").head(limit)
        revenue = {
            "revenue_before": pl.col("monetary").fill_null(0),
            "revenue_after": pl.col("monetary_after").fill_null(0),
        }
        return page.select("customer_id", previous="segment", current="segment_after", **revenue).to_dicts()

    past = caller.services.past
    return await past.work(lambda: past.connected(listed))


def _everybody(shop: str, whose: Side | None, segment: str | None = None, after: str = "") -> sql.Composed | None:
    """SQL: customer_id, segment and monetary of everybody, or of a segment's, behind a customer; None where the lake
    has them."""
    if whose is None:
        found = _EVERYBODY["live"].format(shop=sql.Literal(shop))
    elif whose.run is not None:
        found = _EVERYBODY["run"].format(shop=sql.Literal(shop), run=sql.Literal(whose.run.id))
    else:
        return None
    if segment:
        found += sql.SQL(" AND segment = {}").format(sql.Literal(segment))
    return found + sql.SQL(" AND customer_id > {}").format(sql.Literal(after)) if after else found


def _is(column: sql.Identifier, name: str) -> Statement:
    return sql.SQL("{} = {}").format(column, sql.Literal(name)) if name else sql.SQL("{} IS NULL").format(column)


def _frame(connection: Connection[Any], whose: Side | None, query: sql.Composed | None) -> pl.DataFrame:
    """One side's customers, with their segment and monetary value."""
    if query is not None:
        groups = connection.execute(_LINES.format(everybody=query)).fetchall()
        if not groups:
            return pl.DataFrame(schema=moving.STANDING)
        names, counts, lines = zip(*groups, strict=True)
        people = pl.read_csv("\n".join(lines).encode(), has_header=False, schema=_PERSON, quote_char=None)
        segments = pl.DataFrame({"segment": names, "of": counts}).select(pl.col("segment").repeat_by("of").explode())
        return people.hstack(segments).select(*moving.STANDING)
    assert whose is not None
    assert whose.standings is not None
    return whose.standings.read(*moving.STANDING)


def _named(segment: str | None) -> Sequence[pl.Expr]:
    return [pl.col("segment") == segment] if segment else []


def _wanted(column: str, segment: str | None) -> Sequence[pl.Expr]:
    if segment is None:
        return []
    return [pl.col(column) == segment if segment else pl.col(column).is_null()]
