"""What of a customer's points can be spent, against lots kept one by one."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from events import instants
from events.programs import Program
from lake import accounts
from tables import account, contributions
from tables.terms import FOR_EVER, Terms
from tests import oracle
from tests.property.test_history import Kept as Table
from tests.property.test_history import small
from tests.property.webhooks import NOW, POOL, PROGRAM, SHOP, US, text, thorough

Json = dict[str, Any]

_AT = st.sampled_from([*POOL, *(NOW + timedelta(days=days) for days in (1, 30, 61, 62, 400))])
_POINTS = st.integers(0, 9)

#: Midnights in UTC and New York, just before and at them, that many days after one another.
_EDGES = [
    edge - before + timedelta(days=days)
    for edge in (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 5, tzinfo=UTC))
    for before in (timedelta(0), US)
    for days in (0, 1, 29, 30, 31, 35, 36, 37, 60, 61, 62)
]
_LOTS = {"customer_id": pl.String, "at": pl.Int64, "points": pl.Int64, "active": pl.Boolean}

_EDGE = st.sampled_from(_EDGES)

#: Programs by which a customer may be inactive for so long, be it from one of these instants on.
_IDLING = st.builds(
    lambda zone, holds, days: {
        "currency": "USD",
        "zone": zone,
        "holds": [{"effective_from": None, "hold_days": each} for each in holds],
        "expiry": [{"effective_from": start, "inactive_days": each} for start, each in days],
    },
    st.sampled_from(["UTC", "America/New_York"]),
    st.sampled_from([[], [2], [36]]),
    st.lists(
        st.tuples(st.none() | _EDGE.map(text), st.sampled_from([30, 35, 36])),
        min_size=1,
        max_size=3,
        unique_by=lambda each: each[0],
    ),
)


#: Midnights in UTC, and a program by which a customer may be inactive for thirty days, after a hold of some.
_DAY0 = datetime(2026, 3, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return _DAY0 + timedelta(days=number)


def idling(hold_days: int) -> Json:
    held = [{"effective_from": None, "hold_days": hold_days}]
    return {"currency": "USD", "zone": "UTC", "holds": held, "expiry": [{"effective_from": None, "inactive_days": 30}]}


def living(life_days: int) -> Json:
    return {"currency": "USD", "zone": "UTC", "expiry": [{"effective_from": None, "life_days": life_days}]}


def micros(at: datetime) -> int:
    return instants.from_datetime(at)


class Told(NamedTuple):
    """Of a customer: what each order or award gave, of what kind it was, and whether its points were taken back; what
    was taken, by a redemption or not, and whether it was returned."""

    given: list[tuple[datetime, int, str, bool]]
    taken: list[tuple[datetime, int, str, bool]]

    def purse(self, terms: Terms, at: datetime) -> account.Purse:
        nodes: Any = Table().open()[1]
        tree, held = contributions.empty(), account.empty()
        for number, (when, points, kind, back) in enumerate(self.given):
            counts = int(kind == "order" and not back)
            entry = [micros(when), str(number), "r", 0, points, points if back else 0, counts, 1]
            tree = contributions.put(nodes, tree, entry)
        for number, (when, points, kind, back) in enumerate(self.taken):
            counts = int(kind == "redeem")
            entry = [micros(when), f"{kind}:{number}", "r", 0, points, points if back else 0, counts, 1]
            held["debits"] = contributions.put(nodes, held["debits"], entry)
        return account.purse(nodes, tree, held, terms, micros(at))

    def expected(self, at: datetime, plain: Json) -> oracle.Customer:
        lots = sorted((when, points) for when, points, _, back in self.given if not back)
        debits = [(when, points) for when, points, _, back in self.taken if not back]
        wanted = oracle.Customer(now=at)
        if oracle.by_inactivity(plain):
            active = [when for when, points, kind, back in self.given if points or (kind == "order" and not back)]
            active += [when for when, _, kind, _ in self.taken if kind == "redeem"]
            oracle.idle(wanted, lots, debits, active, at, plain)
        else:
            oracle.spend(wanted, lots, debits, at, plain)
        return wanted


def told(at: st.SearchStrategy[datetime]) -> st.SearchStrategy[Told]:
    back = st.sampled_from([False, False, True])
    given = st.tuples(at, _POINTS, st.sampled_from(["order", "award"]), back)
    taken = st.tuples(at, st.integers(1, 9), st.sampled_from(["redeem", "deduction"]), back)
    return st.builds(Told, st.lists(given, max_size=12), st.lists(taken, max_size=12))


def same(found: account.Purse, wanted: oracle.Customer) -> None:
    ends = None if wanted.expires_at is None else micros(wanted.expires_at)
    assert (found.balance, found.pending, found.spent, found.expired) == (
        *(wanted.balance, wanted.pending, wanted.spent, wanted.expired),
    )
    assert (found.expiring, found.expires_at) == (wanted.expiring, ends or 0)


@thorough(1500)
@given(said=told(_AT), plain=PROGRAM, at=_AT, nodes_of=st.sampled_from([2, 3, 32]))
def test_a_purse_is_what_lots_kept_one_by_one_come_to(said: Told, plain: Json, at: datetime, nodes_of: int) -> None:
    """However deep the trees are."""
    check(said, plain, at, nodes_of)


@thorough(1500)
@given(said=told(_EDGE), plain=_IDLING, at=_EDGE, nodes_of=st.sampled_from([2, 3, 32]))
# Points that can be spent from the very midnight on at which what could be spent is lost.
@example(Told([(day(0), 5, "order", False), (day(5), 5, "order", False)], []), idling(36), day(36), 32)
def test_what_is_lost_for_want_of_activity_is_lost_at_the_midnight_to_the_instant(
    said: Told, plain: Json, at: datetime, nodes_of: int
) -> None:
    check(said, plain, at, nodes_of)


def check(said: Told, plain: Json, at: datetime, nodes_of: int) -> None:
    terms = Terms(Program.model_validate({**plain, "shop": SHOP}))
    with small(nodes_of, nodes_of):
        same(said.purse(terms, at), said.expected(at, plain))


class Counted:
    """Nodes, and how often one was read."""

    def __init__(self, nodes: contributions.Reads) -> None:
        self.nodes, self.reads = nodes, 0

    def get(self, number: int) -> contributions.Node:
        self.reads += 1
        return self.nodes.get(number)


def test_who_was_active_daily_for_ten_years_is_found_by_a_few_looks_a_life() -> None:
    """Be it that of most orders nothing is left, that nobody redeemed anything, or that there was a deduction daily."""
    terms = Terms(Program.model_validate({"shop": SHOP, "currency": "USD", "expiry": [{"inactive_days": 365}]}))
    nodes: Any = Table().open()[1]
    tree, held = contributions.empty(), account.empty()
    for day in range(3650):
        at = micros(NOW) + day * instants.DAY
        back = 5 if day % 300 else 0
        tree = contributions.put(nodes, tree, [at, str(day), "r", 0, 5, back, int(not back), 1])
        held["debits"] = contributions.put(nodes, held["debits"], [at, f"award:{day}", "r", 0, 1, 0, 0, 1])
    counted = Counted(nodes)
    found = account.purse(counted, tree, held, terms, micros(NOW) + 3649 * instants.DAY)
    assert (found.earned, found.spent, found.expired) == (13 * 5, 3650, 0)
    assert counted.reads < 120


@thorough(150)
@given(customers=st.lists(st.tuples(told(_EDGE), _EDGE), min_size=1, max_size=12), plain=_IDLING)
# Somebody who is active again at the very midnight at which what they could spend is lost.
@example([(Told([(day(0), 5, "order", False), (day(31), 5, "order", False)], []), day(31))], idling(0))
def test_the_batch_loses_the_same_for_want_of_activity(customers: list[tuple[Told, datetime]], plain: Json) -> None:
    """Of whom something was taken from, and of the others."""
    check_batch(customers, plain)


@thorough(150)
@given(customers=st.lists(st.tuples(told(_AT), _AT), min_size=1, max_size=12), plain=PROGRAM)
# What is left of a lot runs out between two debits.
@example(
    [(Told([(day(0), 5, "order", False)], [(day(1), 2, "redeem", False), (day(9), 1, "redeem", False)]), day(9))],
    living(5),
)
def test_the_batch_keeps_the_same_lots(customers: list[tuple[Told, datetime]], plain: Json) -> None:
    check_batch(customers, plain)


def check_batch(customers: list[tuple[Told, datetime]], plain: Json) -> None:
    program = Program.model_validate({**plain, "shop": SHOP})
    lots, given, found = [], [], []
    for number, (said, at) in enumerate(customers):
        who = f"c{number}"
        of_orders = [n for when, n, kind, back in said.given if kind == "order" and not back and when <= at]
        found.append((who, micros(at), sum(of_orders)))
        for when, points, kind, back in said.given:
            worth, active = 0 if back else points, points > 0 or not back
            if kind == "order":
                lots.append((who, micros(when), worth, active))
            elif points:
                given.append((who, micros(when), worth, kind))
        given += [(who, micros(when), 0 if back else -points, kind) for when, points, kind, back in said.taken]
    settled = accounts.settled(
        pl.DataFrame(found, ["customer_id", "now", "deserved"], orient="row"),
        pl.DataFrame(
            [(who, str(each), at, points, False, kind) for each, (who, at, points, kind) in enumerate(given)],
            accounts.NONE.schema,
            orient="row",
        ),
        lambda: pl.DataFrame(lots, _LOTS, orient="row"),
        program,
    )
    for row, (said, at) in zip(settled.iter_rows(named=True), customers, strict=True):
        values = {name: row[name] or 0 for name in account.Purse.__struct_fields__}
        same(account.Purse(**values), said.expected(at, plain))


@thorough(500)
@given(plain=PROGRAM, at=_AT, earned_at=_AT)
def test_when_points_begin_and_end_and_up_to_when_they_have_are_one(
    plain: Json, at: datetime, earned_at: datetime
) -> None:
    terms = Terms(Program.model_validate({**plain, "shop": SHOP}))
    begins = oracle.spendable_from(earned_at, plain)
    ends = oracle.runs_out(earned_at, plain)
    if oracle.by_inactivity(plain):
        ends = oracle.life_ends(earned_at, plain, "inactive_days")
    assert terms.runs_out(micros(earned_at)) == (FOR_EVER if ends is None else micros(ends))
    assert terms.spendable_from(micros(earned_at)) == micros(begins)
    assert (begins <= at) == (micros(earned_at) <= terms.spendable_until(micros(at)))
    assert (ends is not None and ends <= at) == (micros(earned_at) <= terms.gone_until(micros(at)))
