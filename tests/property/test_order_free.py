"""Any permutation, duplication, batching and any crash of one set of webhooks ends in the same state: the oracle's."""

import random
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import instants, keys
from tables import contributions, windows
from tests import harness, oracle, stores
from tests.harness import Sink, Stream
from tests.property.webhooks import END, PROGRAM, SHOP, deliveries, envelopes, text, thorough

Json = dict[str, Any]

CUT_POINTS: Json = {
    "version": "v1",
    "as_of": text(END),
    "recency": [0, 1, 20, 300],
    "frequency": [1, 1, 2, 3],
    "monetary": [0, 999, 1000, 9999],
}

GROWING = ("now", "homes", "codes", "addresses", "contact", "consent")


def instant(at: datetime | None) -> str | None:
    return None if at is None else instants.text(instants.from_datetime(at))


def expected_row(customer: oracle.Customer) -> Json:
    r, f, m = customer.digits or (None, None, None)
    return {
        "now": instants.text(instants.from_datetime(customer.now)),
        "balance": customer.balance,
        "pending": customer.pending,
        "earned": customer.earned,
        "spent": customer.spent,
        "expired": customer.expired,
        "expiring": customer.expiring,
        "expires_at": instant(customer.expires_at),
        "recency_days": customer.recency,
        "frequency": customer.frequency,
        "monetary": customer.monetary,
        "last_order_at": instant(customer.last_order_at),
        "merged_into": customer.merged_into,
        "standing": {
            "r": r,
            "f": f,
            "m": m,
            "score": customer.score or None,
            "segment_id": customer.segment_id,
            "segment": customer.segment,
            "cut_points_version": customer.version,
        },
    }


def check_rows(sink: Sink, shop: str, expected: oracle.Shop, crashes: int) -> None:
    assert {customer for of, customer in sink.rows if of == shop} == set(expected.customers)
    for customer_id, customer in expected.customers.items():
        row: Any = sink.rows[shop, customer_id]
        wanted = expected_row(customer)
        assert {name: row[name] for name in wanted} == wanted, customer_id
        check_days(sink, shop, customer_id, customer, row)
        reach = customer.reach
        assert (row["contact"], row["consent"]) == (reach.contact, reach.consent), customer_id
        assert (row["contact_at"], row["consent_at"]) == (instant(reach.contact_at), instant(reach.consent_at))
        assert row["consent_by_order"] == reach.by_order
        # A change is told once. One that left just before a crash may not come about again, when topics interleave
        # otherwise in the replay: the history is made of rows, and leads to the standing of the last.
        assert crashes or sink.last_rfm[shop, customer_id]["current"] == row["standing"]
        changes = sink.standings.changes[shop, customer_id]
        assert changes[-1].standing == row["standing"]
        assert all(two.previous == one.standing and one.at < two.at for one, two in pairwise(changes))


def check_days(sink: Sink, shop: str, customer_id: str, customer: oracle.Customer, row: Json) -> None:
    """What ran out on each day; with that, the account is what the ledger sums to."""
    days = sink.expired().get((shop, customer_id), {})
    assert {day: points for day, (_, _, points) in days.items()} == +customer.expired_on, customer_id
    now = instants.parse(row["now"])
    posted = [record for key, record in sink.points.items() if key[:2] == (shop, customer_id)]
    ledger = sum(record["total"] for record in posted if instants.parse(record["processed_at"]) <= now)
    held = row["balance"] + row["pending"]
    assert held == ledger - sum(points for _, _, points in days.values()), customer_id


def check_orders(sink: Sink, shop: str, expected: oracle.Shop) -> None:
    """Facts and points: all that an order is worth to its customer, and nothing to whoever had it before."""
    for order_id, order in expected.orders.items():
        owner = order.customer or keys.guest(order_id)
        for (of, customer_id, about), fact in sink.facts.items():
            if (of, about) == (shop, order_id):
                mine = customer_id == owner
                assert fact["counted"] == (mine and (order.counts or order.guest))
                assert fact["net"] == (order.net if fact["counted"] else 0)
        for each in {*order.ever, order.whose} - {None}:
            posted = sink.posted(shop, str(each), order_id)
            assert posted == ((order.earned, order.reversed) if each == order.whose else (0, 0))
    balances = sink.balances()
    assert sink.ledger_sums() == {key: total for key, total in balances.items() if key in sink.ledger_sums()}
    assert not any(total for key, total in balances.items() if key not in sink.ledger_sums())


def check_windows(stream: Stream, sink: Sink, shop: str, expected: oracle.Shop, zone: str) -> None:
    """A window that is still written is exact; of one that is closed, what is not exact has been told to be late."""
    now = harness.stream_time(stream, shop)
    found = {key[1:]: sums for key, sums in sink.windows().items() if key[0] == shop}
    wanted = {(size, instants.from_datetime(start)): row for (size, start), row in expected.windows.items()}
    for key in found.keys() | wanted.keys():
        size: Any = key[0]
        window = windows.window(size, key[1], ZoneInfo(zone))
        assert window.start == key[1]
        row = {name: value for name, value in harness.Sums(*found.get(key, (0,) * 9))._asdict().items() if value}
        if windows.is_open(window, now):
            assert row == dict(wanted.get(key, {})), key
        else:
            assert row == dict(wanted.get(key, {})) or (shop, *key) in sink.late, key


class Expected:
    """What the oracle says of some webhooks, for every stream that they are sent to."""

    def __init__(self, sent: list[Json], plain: dict[str, Json], cut: dict[str, list[Json]], end: datetime) -> None:
        self.zones = {shop: program["zone"] for shop, program in plain.items()}
        self.end = end
        self.at_their_own_now = oracle.oracle(sent, plain, cut)
        self.at_the_end = oracle.oracle(sent, plain, cut, end, known=self.at_their_own_now)
        for shop in self.at_the_end.values():
            for customer in shop.customers.values():
                customer.now = end


def check(stream: Stream, wanted: Expected) -> Sink:
    """The stream's whole state against the oracle: at each customer's own now, then for all at the end."""
    sink = stream.sink()
    assert not sink.letters
    for shop, expected in wanted.at_their_own_now.items():
        check_rows(sink, shop, expected, stream.crashes)
        check_orders(sink, shop, expected)
        check_windows(stream, sink, shop, expected, wanted.zones[shop])
        stream.rescore(shop, wanted.end, "v1")
    stream.run()
    sink = stream.sink()
    for shop, expected in wanted.at_the_end.items():
        check_rows(sink, shop, expected, stream.crashes)
    return sink


def absolute(stream: Stream, sink: Sink) -> Json:
    """Everything that may not depend on how the webhooks came."""
    return {
        "orders": stream.orders(),
        "customers": stream.customers(),
        "rows": {key: {**row, "fence": None} for key, row in sink.rows.items()},
        # What may grow without the revision is not the fact's.
        "facts": {key: {**fact, **dict.fromkeys(GROWING)} for key, fact in sink.facts.items()},
        "points": sink.points,
        "expired": sink.expired(),
        "balances": sink.balances(),
    }


@thorough(150)
@given(
    sent=envelopes(),
    plain=PROGRAM,
    seed=st.integers(0, 2**32),
    crashes=st.integers(0, 3),
    small=st.booleans(),
    data=st.data(),
)
def test_any_order_of_the_webhooks_and_any_crash_end_in_the_oracles_state(
    sent: list[Json], plain: Json, seed: int, crashes: int, small: bool, data: st.DataObject
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(contributions, "LEAF", 2)
            patch.setattr(contributions, "FAN", 2)
        known = harness.reference({SHOP: plain}, {SHOP: [CUT_POINTS]})
        wanted = Expected(sent, {SHOP: plain}, {SHOP: [CUT_POINTS]}, END)
        plainly = Stream(known, partitions=1, workers=1)
        for each in sent:
            plainly.send(each)
        plainly.run()
        one = absolute(plainly, check(plainly, wanted))

        chance = random.Random(seed)
        stream = Stream(known, chance, partitions=chance.choice([1, 3]), most=chance.choice([1, 3, 40]))
        for each in data.draw(deliveries(sent)):
            stream.send(each, astray=chance.random() < 0.1)
            if chance.random() < 0.3:
                stream.step()
        stream.run(crashes, frozen=0.4)
        sink = check(stream, wanted)
        other = absolute(stream, sink)
        for part in one:
            assert other[part] == one[part], part


@thorough(100)
@given(sent=envelopes(), plain=PROGRAM, seed=st.integers(0, 2**32), crashes=st.integers(0, 3), data=st.data())
def test_a_batch_run_may_come_at_any_moment(
    sent: list[Json], plain: Json, seed: int, crashes: int, data: st.DataObject
) -> None:
    """Whoever is named only after it, or whose facts were late, ends as those whom it met."""
    known = harness.reference({SHOP: plain}, {SHOP: [CUT_POINTS]})
    after = Stream(known, partitions=1, workers=1)
    for each in sent:
        after.send(each)
    after.run()
    after.rescore(SHOP, END, "v1", slices=1)
    after.run()

    chance = random.Random(seed)
    stream = Stream(known, chance, partitions=chance.choice([1, 3]), most=chance.choice([1, 3, 40]))
    several = data.draw(deliveries(sent))
    moment = chance.randrange(len(several) + 1)
    for at, each in enumerate(several):
        if at == moment:
            stream.rescore(SHOP, END, "v1", slices=chance.choice([1, 3]))
        stream.send(each)
        if chance.random() < 0.3:
            stream.step()
    if moment == len(several):
        stream.rescore(SHOP, END, "v1")
    stream.run(crashes)
    one, other = absolute(after, after.sink()), absolute(stream, stream.sink())
    for found in (one, other):  # what a row was scored for last is told, and is whatever came last
        found["rows"] = {key: {**row, "cause": None} for key, row in found["rows"].items()}
    for part in one:
        assert other[part] == one[part], part


@thorough(40)
@given(seed=st.integers(0, 2**32), crashes=st.integers(0, 8), small=st.booleans())
def test_long_histories_in_small_chunks_survive_crashes(seed: int, crashes: int, small: bool) -> None:
    """Customers with dozens of orders, whose trees are several directories deep, in stores made to be nasty."""
    chance = random.Random(seed)
    sent = stores.store(seed, customers=chance.choice([1, 3]), orders=24, moments=chance.choice([1, 3, 6]))
    plain = stores.program(seed)
    end = stores.NOW + timedelta(days=41)
    cut = {stores.SHOP: [{**CUT_POINTS, "as_of": text(end)}]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contributions, "LEAF", 2 if small else 4)
        patch.setattr(contributions, "FAN", 2 if small else 3)
        stream = Stream(
            harness.reference({stores.SHOP: plain}, cut), chance, partitions=2, most=chance.choice([3, 10, 40])
        )
        chance.shuffle(sent)
        for each in sent:
            stream.send(each)
        stream.run(crashes, horizon=120, frozen=0.4)
        check(stream, Expected(sent, {stores.SHOP: plain}, cut, end))
