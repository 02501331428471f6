"""What customers can spend as of an instant: their orders' points and what was awarded, held, taken and has run out.

Written apart from the stream's formula (tables/account.py) on purpose: here lots are kept, of whoever was ever taken
anything from one by one. The two are compared customer by customer.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl

from events import instants
from events.names import CHECKED
from events.programs import Inactivity, Program, local_midnight

#: An instant beyond all.
_NEVER: Final = 1 << 62

#: From here on nothing runs out any more: a new year after it would be no date.
_LAST: Final = instants.LATEST - 366 * instants.DAY

#: What an account comes to: points, and when the next run out (microseconds, null: never).
COLUMNS: Final = ("balance", "pending", "earned", "spent", "expired", "expiring", "expires_at")

#: Nothing given and nothing taken. `kind` is what the ledger calls it: award, deduction or redeem. What was taken back,
#: or returned, has 0 points.
NONE: Final = pl.DataFrame(
    schema={
        "customer_id": pl.String,
        "award_id": pl.String,
        "at": pl.Int64,
        "points": pl.Int64,
        "counts_as_earned": pl.Boolean,
        "kind": pl.String,
    }
)

_LOT: Final = {"customer_id": pl.String, "at": pl.Int64, "points": pl.Int64}

_DAYS: Final = {"customer_id": pl.String, "day": pl.String, "points": pl.Int64}

#: A lot, or what was taken: [when it can be spent, or was taken; when it runs out; points]
_Lot = list[int]

#: Of lots: (balance, pending), what was left of what ran out with when it did, (expiring, expires_at)
_Lots = tuple[tuple[int, int], list[tuple[int, int]], tuple[int, int | None]]


def by_inactivity(program: Program) -> bool:
    """Whether what runs out, runs out for want of activity."""
    return any(isinstance(each, Inactivity) for each in program.expiry)


def is_plain(program: Program) -> bool:
    """Whether a program holds nothing back and lets nothing run out: lots need not be known."""
    return not any(each.hold_days for each in program.holds) and all(each.days is None for each in program.expiry)


def awards(rows: pl.DataFrame) -> pl.DataFrame:
    """What stands of the awards that rows of lake/rows.py tell of, with the columns of NONE.

    Of two of one name the greater stands, and of one that was taken back no points.
    """
    body = ("at", "points", "reason", "source", "counts_as_earned")
    return (
        rows.sort(body)
        .group_by("customer_id", "award_id")
        .agg(*(pl.col(name).last() for name in body), voided=pl.col("voided").any())
        .filter(pl.col("points") != 0)
        .with_columns(
            kind=pl.when(pl.col("points") < 0).then(pl.lit("deduction")).otherwise(pl.lit("award")),
            points=pl.when("voided").then(0).otherwise("points"),
        )
        .select(NONE.columns)
    )


def with_redemptions(given: pl.DataFrame, taken: pl.DataFrame) -> pl.DataFrame:
    """Awards, with what redemptions take (lake/redemptions.py)."""
    if taken.is_empty():
        return given
    by_hand = pl.col("request_id").str.starts_with(CHECKED)
    told = taken.with_columns(
        award_id="request_id",
        counts_as_earned=pl.lit(value=False),
        kind=pl.when(by_hand).then(pl.lit("deduction")).otherwise(pl.lit("redeem")),
    )
    return pl.concat([given, told.select(NONE.columns)])


def settled(
    found: pl.DataFrame, given: pl.DataFrame, lots: Callable[[], pl.DataFrame], program: Program
) -> pl.DataFrame:
    """`found` (customer_id, now, deserved: the points of all their orders up to then) with COLUMNS, as of each `now`.

    `given` is what was given and taken (NONE), of whoever they are in the end; `lots` (customer_id, at, points, and
    `active`: whether it counts, or ever brought points) the orders, asked for only where it matters when each was.
    """
    then = _until_now(given, found)
    summed = then.group_by("customer_id").agg(
        gained=pl.col("points").filter(pl.col("points") > 0).sum(),
        counted=pl.col("points").filter((pl.col("points") > 0) & pl.col("counts_as_earned")).sum(),
        spent=-pl.col("points").filter(pl.col("points") < 0).sum(),
    )
    told = found.join(summed, on="customer_id", how="left", maintain_order="left").with_columns(
        pl.col("gained", "counted", "spent").fill_null(0)
    )
    everything = pl.col("deserved") + pl.col("gained")
    told = told.with_columns(earned=pl.col("deserved") + pl.col("counted"))
    if is_plain(program):
        nothing = pl.lit(0, dtype=pl.Int64)
        return told.with_columns(
            balance=everything - pl.col("spent"),
            pending=nothing,
            expired=nothing,
            expiring=nothing,
            expires_at=pl.lit(None, dtype=pl.Int64),
        ).drop("gained", "counted")
    others, spent = _lots_of(found, then, lots(), program)
    left = pl.concat([_unspent(others), _spent(spent)])
    return (
        told.join(left, on="customer_id", how="left", maintain_order="left")
        .with_columns(pl.col("balance", "pending", "expired", "expiring").fill_null(0))
        .drop("gained", "counted")
    )


def ran_out(found: pl.DataFrame, given: pl.DataFrame, lots: pl.DataFrame, program: Program) -> pl.DataFrame:
    """(customer_id, day, points): what ran out on each day of the shop's zone (as text), up to each `now` of `found`.

    Arguments as of `settled`; days on which nothing ran out are left out.
    """
    if is_plain(program):
        return pl.DataFrame(schema=_DAYS)
    others, spent = _lots_of(found, _until_now(given, found), lots, program)
    whole = others.filter(pl.col("ends") <= pl.col("now")).select("customer_id", "ends", "points")
    rest = [(customer, at, points) for customer, _, gone, _ in spent for at, points in gone]
    ended = pl.concat([whole, pl.DataFrame(rest, schema=whole.schema, orient="row")])
    zone = ZoneInfo(program.zone)
    days = [instants.to_datetime(at).astimezone(zone).date().isoformat() for at in ended["ends"].to_list()]
    return (
        ended.with_columns(day=pl.Series(days, dtype=pl.String))
        .group_by("customer_id", "day")
        .agg(pl.col("points").sum())
        .filter(pl.col("points") > 0)
        .select(list(_DAYS))
    )


def _lots_of(
    found: pl.DataFrame, then: pl.DataFrame, lots: pl.DataFrame, program: Program
) -> tuple[pl.DataFrame, Iterator[tuple[str, *_Lots]]]:
    """The lots of whom nothing was ever taken from, and what became of the others', one by one. `then` is what was
    given and taken up to each `now`."""
    gained, taken = then.filter(pl.col("points") > 0), then.filter(pl.col("points") < 0)
    timed = _timed(pl.concat([lots.select(list(_LOT)), gained.select(list(_LOT))]), found, program)
    spends = pl.col("customer_id").is_in(taken["customer_id"].unique().implode())
    how: Callable[..., _Lots]
    if by_inactivity(program):
        acts = [lots.filter("active"), then.filter(pl.col("kind") != "deduction")]
        acted = _acted(pl.concat([each.select("customer_id", "at") for each in acts]), found, program)
        timed, how, more = _lost(timed, acted), _step_by_step, [acted.filter(spends)]
    else:
        timed, how, more = timed.with_columns(ends=_life_ends(timed["begins"], program)), _lot_by_lot, []
    spent = _each(how, [timed.filter(spends), taken, *more], found.filter(spends))
    return timed.filter(~spends), spent


# --- when --------------------------------------------------------------------------------------------------------


def _timed(lots: pl.DataFrame, found: pl.DataFrame, program: Program) -> pl.DataFrame:
    """The lots of each customer's up to their `now`: customer_id, now, at, points and `begins`."""
    theirs = _until_now(lots.filter(pl.col("points") > 0), found)
    holds = [(each.since, each.hold_days, "") for each in program.holds]
    return theirs.with_columns(begins=_end(theirs["at"], [(-_NEVER, 0, ""), *holds], ZoneInfo(program.zone)))


def _acted(acted: pl.DataFrame, found: pl.DataFrame, program: Program) -> pl.DataFrame:
    """When each customer was active up to their `now`: customer_id, now, at, and `ends`, when what can be spent is lost
    if they are not active before (_NEVER: it is not)."""
    theirs = _until_now(acted, found).unique()
    return theirs.with_columns(ends=_life_ends(theirs["at"], program))


def _lost(timed: pl.DataFrame, acted: pl.DataFrame) -> pl.DataFrame:
    """The lots with `ends`: when what can be spent then is next lost for want of activity (_NEVER: it is not)."""
    following = pl.col("at").shift(-1).over("customer_id", order_by="at")
    idle = acted.filter(following.is_null() | (following >= pl.col("ends"))).select("customer_id", "ends")
    return (
        timed.sort("begins")
        .join_asof(
            idle.sort("ends"),
            left_on="begins",
            right_on="ends",
            by="customer_id",
            strategy="forward",
            allow_exact_matches=False,
            coalesce=False,
            check_sortedness=False,
        )
        .with_columns(pl.col("ends").fill_null(_NEVER))
    )


def _until_now(told: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    theirs = told.join(found.select("customer_id", "now"), on="customer_id", how="inner")
    return theirs.filter(pl.col("at") <= pl.col("now"))


def _life_ends(begun: pl.Series, program: Program) -> pl.Series:
    lives = [(each.since, each.days, each.calendar) for each in program.expiry]
    return _end(begun, [(-_NEVER, None, "day"), *lives], ZoneInfo(program.zone))


def _end(begun: pl.Series, told: list[tuple[int, int | None, str]], zone: ZoneInfo) -> pl.Series:
    """When what began at each instant ends: by the span in force then, or by a later one from when that took effect,
    whichever comes first. Of several spans of one instant the last is in force."""
    spans = sorted({since: (days, how) for since, days, how in told}.items())
    first = pl.repeat(_NEVER, begun.len(), dtype=pl.Int64, eager=True)
    for at, (since, (days, how)) in enumerate(spans):
        if days is None:
            continue
        frame = pl.DataFrame({"begun": begun})
        until = spans[at + 1][0] if at + 1 < len(spans) else _NEVER
        end = frame.select(pl.max_horizontal("begun", pl.lit(since, dtype=pl.Int64)) + days * instants.DAY).to_series()
        end = _next_midnight(end, how, zone) if how else end.clip(upper_bound=instants.LATEST)
        reached = frame.select(pl.col("begun") < until).to_series()
        first = pl.select(pl.when(reached).then(pl.min_horizontal(first, end)).otherwise(first)).to_series()
    return first


def _next_midnight(at: pl.Series, how: str, zone: ZoneInfo) -> pl.Series:
    """The first local midnight, of a day or a new year, after each instant; _NEVER where the calendar is at its end."""
    at = at.clip(upper_bound=_LAST)
    hours = at // instants.HOUR  # of an hour at most one zone's change, and that is looked up exactly
    known = {}
    for hour in hours.unique().to_list():
        day = instants.to_datetime(hour * instants.HOUR).astimezone(zone).date()
        known[hour] = [day, day + timedelta(days=1)]
    ends = [
        _NEVER if when == _LAST else _after(when, known[hour], how, zone)
        for when, hour in zip(at.to_list(), hours.to_list(), strict=True)
    ]
    return pl.Series(ends, dtype=pl.Int64)


def _after(at: int, days: list[Any], how: str, zone: ZoneInfo) -> int:
    starts = days if how == "day" else [day.replace(month=1, day=1) for day in days]
    if how == "year":
        starts = [*starts, starts[-1].replace(year=starts[-1].year + 1)]
    else:
        starts = [*starts, starts[-1] + timedelta(days=1)]
    return next(midnight for start in starts if (midnight := local_midnight(start, zone)) > at)


# --- what is left ------------------------------------------------------------------------------------------------

_LEFT: Final = {
    "customer_id": pl.String,
    **dict.fromkeys(("balance", "pending", "expired", "expiring", "expires_at"), pl.Int64),
}


def _unspent(timed: pl.DataFrame) -> pl.DataFrame:
    """What is left to whom nothing was ever taken from."""
    points, now = pl.col("points"), pl.col("now")
    lasting = pl.col("ends") > now
    first = (
        timed.filter(lasting & (pl.col("ends") < _NEVER))
        .group_by("customer_id")
        .agg(expires_at=pl.col("ends").min(), expiring=points.filter(pl.col("ends") == pl.col("ends").min()).sum())
    )
    summed = timed.group_by("customer_id").agg(
        balance=points.filter((pl.col("begins") <= now) & lasting).sum(),
        pending=points.filter(pl.col("begins") > now).sum(),
        expired=points.filter(~lasting).sum(),
    )
    both = summed.join(first, on="customer_id", how="left").with_columns(pl.col("expiring").fill_null(0))
    return both.select(list(_LEFT))


def _spent(spent: Iterable[tuple[str, *_Lots]]) -> pl.DataFrame:
    """What is left to whom something was taken from."""
    rows = [(customer, *held, sum(points for _, points in gone), *ending) for customer, held, gone, ending in spent]
    return pl.DataFrame(rows, schema=_LEFT, orient="row")


def _each(how: Callable[..., _Lots], told: list[pl.DataFrame], found: pl.DataFrame) -> Iterator[tuple[str, *_Lots]]:
    """Customer by customer: `how` takes what was told of one, and their `now`."""
    parts = [(frame.partition_by("customer_id", as_dict=True), frame.clear()) for frame in told]
    for customer, now in found.select("customer_id", "now").iter_rows():
        yield customer, *how(*(part.get((customer,), none) for part, none in parts), now)


def _lot_by_lot(timed: pl.DataFrame, taken: pl.DataFrame, now: int) -> _Lots:
    """The oldest first, what is owed before all."""
    waiting = deque(list(row) for row in timed.sort("at").select("begins", "ends", "points").iter_rows())
    held: deque[_Lot] = deque()
    gone: list[tuple[int, int]] = []
    owed = 0
    for at, points in _taken(taken, now):
        while True:  # whatever runs out or can be spent by then, in the order in which it does
            begins = waiting[0][0] if waiting else _NEVER
            ends = held[0][1] if held else _NEVER
            if min(begins, ends) > at:
                break
            if ends <= begins:
                _, at_end, rest = held.popleft()
                gone.append((at_end, rest))
            else:
                lot = waiting.popleft()
                paid = min(owed, lot[2])
                owed, lot[2] = owed - paid, lot[2] - paid
                held.append(lot)
        while points and held:
            used = min(points, held[0][2])
            points, held[0][2] = points - used, held[0][2] - used
            if not held[0][2]:
                held.popleft()
        owed += points
    pending = sum(lot[2] for lot in waiting)
    return (sum(lot[2] for lot in held) - owed, pending), gone, _ending(held, waiting, owed)


def _step_by_step(timed: pl.DataFrame, taken: pl.DataFrame, acted: pl.DataFrame, now: int) -> _Lots:
    """One thing after the other: what is lost, what can be spent, what is taken, and that the customer was active."""
    ends, lasts = _NEVER, dict(acted.select("at", "ends").iter_rows())
    changes: dict[int, int] = {}
    for at, points in [*timed.select("begins", "points").iter_rows(), *taken.select("at", "points").iter_rows()]:
        changes[at] = changes.get(at, 0) + points
    balance, gone = 0, []
    for at in sorted({now, *(each for each in (*lasts, *changes) if each <= now)}):
        if ends <= at:
            gone.append((ends, max(balance, 0)))
            balance, ends = min(balance, 0), _NEVER
        balance += changes.get(at, 0)
        ends = lasts.get(at, ends)
    waiting = {at: points for at, points in changes.items() if at > now}
    left = balance + sum(points for at, points in waiting.items() if at < ends)
    ending = (left, ends) if ends < _NEVER and left > 0 else (0, None)
    return (balance, sum(waiting.values())), gone, ending


def _taken(taken: pl.DataFrame, now: int) -> Iterator[tuple[int, int]]:
    """When something was taken and how much, in order; at the end nothing, as of now."""
    yield from taken.sort("at").select("at", -pl.col("points")).iter_rows()
    yield now, 0


def _ending(held: deque[_Lot], waiting: deque[_Lot], owed: int) -> tuple[int, int | None]:
    """How much runs out next, and when: what is owed takes what can be spent first."""
    ends: dict[int, int] = {}
    for lot in held:
        ends[lot[1]] = ends.get(lot[1], 0) + lot[2]
    for lot in waiting:
        paid = min(owed, lot[2])
        owed -= paid
        ends[lot[1]] = ends.get(lot[1], 0) + lot[2] - paid
    left = sorted((at, points) for at, points in ends.items() if points and at < _NEVER)
    return (left[0][1], left[0][0]) if left else (0, None)
