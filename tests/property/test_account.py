"""What of a customer's points can be spent, against lots kept one by one."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events import instants
from events.programs import Program
from tables import account, contributions
from tables.terms import Terms
from tests import oracle
from tests.property.test_history import Kept as Table
from tests.property.test_history import small
from tests.property.webhooks import NOW, POOL, PROGRAM, SHOP, thorough

Json = dict[str, Any]

_AT = st.sampled_from([*POOL, *(NOW + timedelta(days=days) for days in (1, 30, 61, 62, 400))])
_POINTS = st.integers(0, 9)


def micros(at: datetime) -> int:
    return instants.from_datetime(at)


@thorough(1500)
@given(
    lots=st.lists(st.tuples(_AT, _POINTS), max_size=12),
    debits=st.lists(st.tuples(_AT, _POINTS), max_size=12),
    plain=PROGRAM,
    at=_AT,
    nodes_of=st.sampled_from([2, 3, 32]),
)
def test_a_purse_is_what_lots_kept_one_by_one_come_to(
    lots: list[tuple[datetime, int]], debits: list[tuple[datetime, int]], plain: Json, at: datetime, nodes_of: int
) -> None:
    """However deep the trees are."""
    with small(nodes_of, nodes_of):
        check(lots, debits, plain, at)


def check(lots: list[tuple[datetime, int]], debits: list[tuple[datetime, int]], plain: Json, at: datetime) -> None:
    terms = Terms(Program.model_validate({**plain, "shop": SHOP}))
    nodes: Any = Table().open()[1]
    tree, held = contributions.empty(), account.empty()
    for number, (when, points) in enumerate(lots):
        tree = contributions.put(nodes, tree, [micros(when), str(number), "r", 0, points, 0, 0, 1])
    for number, (when, points) in enumerate(debits):
        entry = [micros(when), f"award:{number}", "r", 0, points, 0, 0, 1]
        held["debits"] = contributions.put(nodes, held["debits"], entry)
    wanted = oracle.Customer(now=at)
    oracle.spend(wanted, sorted(lots), debits, at, plain)
    found = account.purse(nodes, tree, held, terms, micros(at))
    ends = None if wanted.expires_at is None else micros(wanted.expires_at)
    assert (found.balance, found.pending, found.spent, found.expired) == (
        *(wanted.balance, wanted.pending, wanted.spent, wanted.expired),
    )
    assert (found.expiring, found.expires_at) == (wanted.expiring, ends or 0)


@thorough(500)
@given(plain=PROGRAM, at=_AT, earned_at=_AT)
def test_when_points_begin_and_end_and_up_to_when_they_have_are_one(
    plain: Json, at: datetime, earned_at: datetime
) -> None:
    terms = Terms(Program.model_validate({**plain, "shop": SHOP}))
    begins = oracle.spendable_from(earned_at, plain)
    ends = oracle.runs_out(earned_at, plain)
    assert terms.spendable_from(micros(earned_at)) == micros(begins)
    assert (begins <= at) == (micros(earned_at) <= terms.spendable_until(micros(at)))
    assert (ends is not None and ends <= at) == (micros(earned_at) <= terms.gone_until(micros(at)))
