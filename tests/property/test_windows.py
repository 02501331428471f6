"""Windows: which one an instant falls into, and that a partition's running sums are those of its entries."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events import codec, instants, keys, topics
from events.account_records import OrderFact
from events.messages import Message
from tables import chunks, contributions, restating, windows
from tables.chunks import Received
from tables.state import Values, Writes
from tests import harness, stores
from tests.harness import Stream
from tests.property.webhooks import thorough

SHOP = "windows.myshopify.com"
PROGRAM: dict[str, Any] = {"currency": "USD", "zone": "America/New_York", "look_back_days": 365, "rules": []}
ZONES = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # its clocks change by half an hour
    "America/Sao_Paulo",  # they changed at midnight: there are days without one
    "America/Havana",
    "Africa/Cairo",
    "Pacific/Apia",  # 30 December 2011 did not take place
    "Pacific/Kiritimati",
]


def us(*when: int) -> int:
    return instants.from_datetime(datetime(*when, tzinfo=UTC))  # type: ignore[arg-type, misc]


# Which window


@thorough(300)
@given(
    size=st.sampled_from(windows.SIZES),
    at=st.integers(us(1975, 1, 1), us(2060, 1, 1)),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    within=st.floats(0, 1, exclude_max=True),
)
@example("day", us(2011, 12, 30, 10), ZoneInfo("Pacific/Apia"), 0.0)
@example("day", us(2018, 11, 4, 3), ZoneInfo("America/Sao_Paulo"), 0.0)
@example("day", us(2018, 2, 18, 2, 30), ZoneInfo("America/Sao_Paulo"), 0.9)
def test_every_instant_falls_into_one_window_of_a_size(
    size: windows.Size, at: int, zone: ZoneInfo, within: float
) -> None:
    window = windows.window(size, at, zone)
    assert window.start <= at < window.end
    other = window.start + int((window.end - window.start) * within)
    assert windows.window(size, other, zone) == window
    assert windows.window(size, window.end - 1, zone) == window
    assert windows.window(size, window.end, zone).start == window.end
    assert windows.window(size, window.start - 1, zone).end == window.start
    assert windows.windows(at, zone)[windows.SIZES.index(size)] == window
    if size == "day":
        start = instants.to_datetime(window.start).astimezone(zone)
        assert start.date() == instants.to_datetime(at).astimezone(zone).date()
        assert instants.to_datetime(window.start - 1).astimezone(zone).date() < start.date()
    else:
        assert (window.start % windows._FIXED[size], window.end - window.start) == (0, windows._FIXED[size])


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("America/New_York", (2026, 3, 8, 12), (2026, 3, 8, 5), 23),
        ("America/New_York", (2026, 11, 1, 12), (2026, 11, 1, 4), 25),
        ("Europe/Berlin", (2026, 3, 29, 12), (2026, 3, 28, 23), 23),
        ("Europe/Berlin", (2026, 10, 25, 12), (2026, 10, 24, 22), 25),
        ("Asia/Kolkata", (2026, 11, 1, 12), (2026, 10, 31, 18, 30), 24),
        ("Australia/Lord_Howe", (2026, 10, 3, 20), (2026, 10, 3, 13, 30), 23.5),
        ("America/Sao_Paulo", (2018, 11, 4, 12), (2018, 11, 4, 3), 23),  # from 01:00, as there was no midnight
        ("America/Sao_Paulo", (2018, 2, 17, 12), (2018, 2, 17, 2), 25),
        ("Pacific/Apia", (2011, 12, 30, 9, 59), (2011, 12, 29, 10), 24),
        ("Pacific/Apia", (2011, 12, 30, 10), (2011, 12, 30, 10), 24),  # already the 31st
    ],
)
def test_a_day_has_the_hours_that_its_zone_gives_it(
    zone: str, day: tuple[int, ...], start: tuple[int, ...], hours: float
) -> None:
    found = windows.window("day", us(*day), ZoneInfo(zone))
    assert (found.start, found.end - found.start) == (us(*start), int(hours * instants.HOUR))


@pytest.mark.parametrize("zone", [*ZONES, "America/St_Johns"])
def test_an_hours_instants_need_not_lie_in_one_day(zone: str) -> None:
    # St. John's turned its clocks back at a minute past midnight: of an hour that began and ended on Saturday a minute
    # was Sunday's.
    known = ZoneInfo(zone)
    for at in range(us(2010, 11, 6, 12), us(2010, 11, 7, 12), 30 * instants.SECOND):
        day = instants.to_datetime(at).astimezone(known).date()
        assert windows.window("day", at, known) == windows._day(day, known)


@thorough(300)
@given(
    at=st.integers(us(1975, 1, 1), us(2060, 1, 1)),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    size=st.sampled_from(windows.SIZES),
    beyond=st.integers(-2 * instants.MINUTE, 2 * instants.MINUTE) | st.integers(-instants.DAY, 500 * instants.DAY),
)
@example(us(2026, 3, 8, 12), ZoneInfo("UTC"), "minute", 0)
@example(us(2026, 3, 8, 12), ZoneInfo("UTC"), "hour", 0)
@example(us(2026, 3, 8, 12), ZoneInfo("UTC"), "day", 0)
def test_of_an_instants_windows_those_are_open_that_are(
    at: int, zone: ZoneInfo, size: windows.Size, beyond: int
) -> None:
    now = windows.window(size, at, zone).end + windows.RETENTION[size] + beyond
    assert windows.open_at(at, zone, now) == [each for each in windows.windows(at, zone) if windows.is_open(each, now)]


@pytest.mark.parametrize("size", windows.SIZES)
def test_a_window_is_written_until_its_retention_ends(size: windows.Size) -> None:
    window = windows.window(size, us(2026, 3, 8, 12), ZoneInfo("UTC"))
    assert windows.is_open(window, window.end + windows.RETENTION[size] - 1)
    assert not windows.is_open(window, window.end + windows.RETENTION[size])


# What a partition keeps of them


def fact(order: int, at: datetime, revision: str = "1", **changes: Any) -> OrderFact:
    when = instants.from_datetime(at)
    made: OrderFact = {
        "type": "order.fact",
        "shop": SHOP,
        "order_id": str(order),
        "customer_id": "7",
        "revision": f"{0:015x}b0{revision}",
        "now": instants.parse("2026-11-01T12:00:00Z"),
        "processed_at": when,
        "homes": [when],
        "currency": "USD",
        "counted": True,
        "paid": True,
        "net": 1000,
        "gross": 1000,
    }
    return {**made, **changes}  # type: ignore[typeddict-item]


class Partition:
    """One partition of the customers' table."""

    def __init__(self) -> None:
        self.reference = harness.reference({SHOP: PROGRAM})
        self.table = Values()
        self.partial = windows.Partial()
        self.outputs: list[Message] = []

    def fold(self, facts: list[OrderFact]) -> Writes:
        """The writes that these facts cause, not yet laid into the table."""
        chunk = chunks.CustomerChunk(self.table, self.reference, 0, 1, self.partial)
        for at, each in enumerate(facts):
            key = keys.join(each["shop"], each["customer_id"]).encode()
            chunk.take(Received(topics.ACCOUNT_FACTS, 0, at, 0, key, codec.dumps(each)))
        writes = chunk.finish()
        self.outputs += chunk.outputs
        return writes

    def take(self, facts: list[OrderFact]) -> None:
        self.lay(self.fold(facts).items())

    def lay(self, writes: Any) -> None:
        for key, value in writes:
            if value is None:
                self.table.remove(key)
            else:
                self.table[key] = value

    def rows(self) -> dict[Any, Any]:
        return open_rows(self.partial)

    def windows(self) -> list[Any]:
        return [codec.loads(output.value) for output in self.outputs if output.topic == topics.WINDOWS]


def open_rows(partial: windows.Partial) -> dict[tuple[str, windows.Window], list[int]]:
    """A partial's rows that say anything, of windows that are still open."""
    return {
        (shop, window): sums
        for shop, found in partial._shops.items()
        for window, sums in found.rows.items()
        if any(sums) and windows.is_open(window, found.time)
    }


T = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["leaf", "tree"])
def tree(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as nearly all are kept, in one leaf, and once as who has many orders is: each asks in a way of its own."""
    if request.param == "tree":
        monkeypatch.setattr(contributions, "LEAF", 2)
        monkeypatch.setattr(contributions, "FAN", 2)


@pytest.mark.usefixtures("tree")
def test_a_customer_is_counted_once_in_every_window() -> None:
    partition = Partition()
    minute = timedelta(minutes=1)
    partition.take([fact(1, T), fact(2, T), fact(3, T + minute), fact(4, T - timedelta(hours=1))])
    found = {(row["size"], row["start"]): (row["orders"], row["customers"]) for row in partition.windows()}
    assert found["minute", "2026-11-01T12:00:00Z"] == (2, 1)
    assert found["hour", "2026-11-01T12:00:00Z"] == (3, 1)
    assert found["day", "2026-11-01T04:00:00Z"] == (4, 1)
    partition.take([fact(1, T, "2", counted=False, net=0), fact(2, T, "2", counted=False, net=0)])
    found = {(row["size"], row["start"]): (row["orders"], row["customers"]) for row in partition.windows()}
    assert found["minute", "2026-11-01T12:00:00Z"] == (0, 0)
    assert found["hour", "2026-11-01T12:00:00Z"] == (1, 1)
    assert found["day", "2026-11-01T04:00:00Z"] == (2, 1)


@pytest.mark.usefixtures("tree")
def test_an_hour_may_lie_in_two_days_of_the_shop() -> None:
    """18:30 UTC is midnight in Kolkata: alone in a day there is not alone in the hour."""
    partition = Partition()
    partition.reference = harness.reference({SHOP: {**PROGRAM, "zone": "Asia/Kolkata"}})
    partition.take([fact(3 + days, T - timedelta(days=10 + days)) for days in range(4)])
    partition.outputs.clear()
    partition.take([fact(1, datetime(2026, 10, 31, 18, 10, tzinfo=UTC))])
    partition.take([fact(2, datetime(2026, 10, 31, 18, 50, tzinfo=UTC))])
    found = {(row["size"], row["start"]): row["customers"] for row in partition.windows()}
    assert found["hour", "2026-10-31T18:00:00Z"] == 1
    assert [count for (size, _), count in found.items() if size == "day"] == [1, 1]


def test_a_late_change_is_told_and_carries_no_number() -> None:
    partition = Partition()
    partition.take([fact(1, T)])
    partition.take([fact(2, T, now=instants.parse("2026-11-02T12:00:59.999999Z"))])  # the minute ended at 12:01
    assert not any(row["late"] for row in partition.windows())
    partition.outputs.clear()
    partition.take([fact(3, T, now=instants.parse("2026-11-02T12:01:00Z"))])
    found = {row["size"]: row for row in partition.windows()}
    assert {size: row["late"] for size, row in found.items()} == {"minute": True, "hour": False, "day": False}
    assert [found["minute"][name] for name in harness.Sums._fields] == [0] * 9
    assert (found["hour"]["orders"], found["hour"]["net"]) == (3, 3000)
    # A duplicate changes nothing, so that nothing is late.
    partition.outputs.clear()
    partition.take([fact(3, T, now=instants.parse("2026-11-02T12:01:00Z"))])
    assert {row["size"] for row in partition.windows()} == {"hour", "day"}


MOMENTS = [T, T + timedelta(minutes=1), T - timedelta(hours=1), T - timedelta(days=2), T - timedelta(days=390)]

FACTS = st.lists(
    st.builds(
        lambda order, homes, revision, customer, counted, now: fact(
            order,
            homes[0],
            str(revision),
            customer_id=customer,
            counted=counted,
            net=(100 * order + revision) * counted,
            homes=[instants.from_datetime(each) for each in homes],
            now=instants.from_datetime(now),
        ),
        st.integers(1, 9),
        st.lists(st.sampled_from(MOMENTS), min_size=1, max_size=3, unique=True),
        st.integers(1, 5),
        st.sampled_from(["7", "8", "guest-07"]),
        st.booleans(),
        st.sampled_from([*MOMENTS, T + timedelta(days=1), T + timedelta(days=30)]),
    ),
    max_size=25,
)


@thorough(150)
@given(facts=FACTS, sizes=st.lists(st.integers(1, 6), min_size=25, max_size=25))
def test_what_recovery_rebuilds_is_what_was_running(facts: list[OrderFact], sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contributions, "LEAF", 2)
        patch.setattr(contributions, "FAN", 3)
        partition = Partition()
        while facts:
            size = sizes.pop()
            partition.take(facts[:size])
            facts = facts[size:]
            again = restating.rebuild(partition.table)
            assert again.time(SHOP) == partition.partial.time(SHOP)
            assert open_rows(again) == partition.rows()


@thorough(60)
@given(
    before=st.integers(0, 8),
    facts=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 400), st.booleans()), min_size=2, max_size=6),
)
@example(before=2, facts=[(9, 0, True), (10, 100, True)])
def test_windows_are_whole_after_a_crash_at_any_write(before: int, facts: list[tuple[int, int, bool]]) -> None:
    """A chunk of which only a beginning was kept is folded again, record by record; a day holds whole chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contributions, "LEAF", 2)
        patch.setattr(contributions, "FAN", 2)
        whole = Partition()
        for order in range(before):
            whole.take([fact(50 + order, T + timedelta(seconds=50 * order), counted=order % 3 > 0)])
        table = dict(whole.table)
        made = [
            fact(order, T + timedelta(seconds=late), f"r{at}", counted=counted)
            for at, (order, late, counted) in enumerate(facts, start=2)
        ]
        made = [
            {
                **each,
                "homes": sorted(
                    {home for other in made if other["order_id"] == each["order_id"] for home in other["homes"]}
                ),
            }
            for each in made
        ]
        writes = list(whole.fold(made).items())
        for kept in range(len(writes) + 1):
            after = Partition()
            after.table = Values(table)
            after.lay(writes[:kept])
            after.partial = restating.rebuild(after.table)
            for each in made:
                after.take([each])
            assert after.rows() == whole.rows(), kept


def test_what_was_awarded_and_redeemed_is_told_anew_when_it_changes() -> None:
    """Under the time of the award, and that of the decision; so it is rebuilt."""
    program = {**PROGRAM, "rewards": [{"reward_id": "ten", "cost": 10, "kind": "shipping", "name": "ten"}]}
    stream = Stream(harness.reference({SHOP: program}))
    sent: list[Any] = []

    def say(topic: str, when: datetime, **said: Any) -> tuple[int, int]:
        """What is awarded and redeemed in the hour of T, after that was said."""
        envelope = {
            "topic": f"account/{topic}",
            "shop": SHOP,
            "webhook_id": f"{topic}-{len(sent)}",
            "event_id": None,
            "api_version": None,
            "triggered_at": when.isoformat(),
            "received_at": when.isoformat(),
            "payload": {"customer_id": "7", **said},
        }
        sent.append(envelope)
        stream.send(envelope)
        stream.run()
        for worker in stream.workers:
            for number, partial in worker.partials.items():
                assert open_rows(restating.rebuild(stream.durable["customers", number])) == open_rows(partial)
        found = stream.sink().windows()[SHOP, "hour", instants.from_datetime(T)]
        return found.points_awarded, found.points_redeemed

    later = T + timedelta(hours=2)
    gift = {"award_id": "gift", "at": T.isoformat(), "points": 50}
    assert say("award", T, **gift) == (50, 0)
    assert say("redeem", T + timedelta(minutes=1), request_id="a", reward_id="ten", cost=10) == (50, 10)
    assert say("redeem", T + timedelta(minutes=2), request_id="b", reward_id="ten", cost=10) == (50, 20)
    assert say("deduct", T + timedelta(minutes=3), request_id="checked/c", cost=4, source="api") == (46, 20)
    assert say("award", later, award_id="lost", at=T.isoformat(), points=-5) == (41, 20)
    assert say("cancel", later, request_id="a") == (41, 10)
    assert say("cancel", later, request_id="checked/c") == (45, 10)
    assert say("award", later, **gift, voided=True) == (-5, 10)
    assert say("award", later, **gift, voided=True) == (-5, 10)


@pytest.mark.parametrize("seed", range(4))
def test_the_rebuilt_windows_of_a_store_are_the_running_ones(seed: int) -> None:
    plain = stores.program(seed)
    stream = Stream(harness.reference({stores.SHOP: plain}), random.Random(seed), partitions=2)
    for each in stores.store(seed, customers=2):
        stream.send(each)
    stream.run()
    seen = 0
    for worker in stream.workers:
        for number, partial in worker.partials.items():
            again = restating.rebuild(stream.durable["customers", number])
            assert open_rows(again) == open_rows(partial)
            seen += len(open_rows(again))
    assert seen


@thorough(200)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from("abc"), st.booleans()),
        min_size=1,
        max_size=contributions.LEAF,
        unique_by=lambda each: each[:2],
    )
)
def test_an_entrys_neighbours_are_the_next_counted_ones(found: list[tuple[int, str, bool]]) -> None:
    entries: list[list[Any]] = [[at, order, "r", 1, 0, 0, int(counts), 1] for at, order, counts in sorted(found)]
    for at, entry in enumerate(entries):
        before = [each[0] for each in entries[:at] if each[contributions.COUNTED]]
        after = [each[0] for each in entries[at + 1 :] if each[contributions.COUNTED]]
        near = contributions.neighbours({"e": entries}, entry)
        assert near == (before[-1] if before else -1, after[0] if after else 1 << 62)
    assert contributions.neighbours({"c": [], "h": 0}, entries[0]) is None
