"""A worker's windows: made in slices between which the loop lives, and only where something but a fold changed them."""

import asyncio
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from events import codec, instants, keys
from events.messages import Message
from streams.worker import windows as module
from streams.worker.windows import PartialWindows, in_slices
from tables import customers, restating, windows
from tables.reference import Reference
from tables.state import Writes
from tests import harness

SHOP = "windows.myshopify.com"
PROGRAM: dict[str, Any] = {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}
NOW = 1_790_000_000 * instants.SECOND


def table(count: int, zone: str = "UTC") -> dict[str, bytes]:
    """A partition of customers with one order each."""
    found = {windows.zone_key(SHOP): windows.packed_zone(ZoneInfo(zone))}
    for number in range(count):
        state = customers.initial()
        state["now"] = NOW
        state["tree"] = {"e": [[NOW - number * instants.MINUTE, str(number), "r", 100, 1, 0, 1]]}
        found[keys.join(SHOP, str(number))] = customers.packed(state)
    return found


class Partitions:
    """A table that changes when the test says so."""

    def __init__(self, count: int = 30) -> None:
        self.tables = {0: table(count), 1: table(count)}
        self.versions: dict[int, object] = {0: 0, 1: 0}
        self.ours = {0, 1}
        self.sent: list[tuple[int, Message]] = []

    def values(self, number: int) -> Mapping[str, bytes]:
        return self.tables[number]

    def version(self, number: int) -> object:
        return self.versions[number]

    def held(self) -> set[int]:
        return self.ours

    def tenure(self, number: int) -> object | None:
        return 7 if number in self.ours else None

    def fence(self, number: int) -> int:
        return 0

    async def room(self) -> None:
        await asyncio.sleep(0)

    def send(self, number: int, outputs: list[Message], writes: Writes) -> None:
        self.sent += [(number, output) for output in outputs]
        self.tables[number].update({key: value for key, value in writes.items() if value is not None})


class Walks:
    """Counts the walks over whole partitions, and the turns that the loop had meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.at_step: dict[int, Any] = {}  # what the test does at a step of a walk
        self._real = restating.rebuilding
        monkeypatch.setattr(restating, "rebuilding", self._rebuilding)

    def _rebuilding(self, values: Mapping[str, bytes], partial: windows.Partial) -> Iterator[None]:
        self.count += 1
        for at, _ in enumerate(self._real(values, partial)):
            self.at_step.pop(at, lambda: None)()
            yield


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> Walks:
    monkeypatch.setattr(module, "SLICE", -1.0)  # a slice is one step
    return Walks(monkeypatch)


@pytest.fixture
def partitions() -> Partitions:
    return Partitions()


@pytest.fixture
def made(partitions: Partitions) -> PartialWindows:
    return PartialWindows(harness.reference({SHOP: PROGRAM}), partitions)


def test_the_loop_has_its_turn_after_every_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the steps' own clock: whatever the machine does, nobody waits longer than a slice and one step."""
    clock = [0.0]
    monkeypatch.setattr("streams.worker.windows.time.perf_counter", lambda: clock[0])
    step, turns = 0.003, [0.0]

    def steps() -> Iterator[None]:
        for _ in range(1000):
            clock[0] += step
            yield

    async def everybody_else() -> None:
        while True:
            turns.append(clock[0])
            await asyncio.sleep(0)

    async def both() -> None:
        other = asyncio.create_task(everybody_else())
        await asyncio.sleep(0)
        assert await in_slices(steps(), lambda: True)
        turns.append(clock[0])  # who never had a turn has waited until now
        other.cancel()

    asyncio.run(both())
    waits = [b - a for a, b in pairwise(turns)]
    assert clock[0] == pytest.approx(3.0)
    assert max(waits) <= module.SLICE + step + 1e-9


def test_a_customer_with_many_orders_is_many_steps() -> None:
    """Somebody with 50,000 orders would hold the loop by themselves."""
    state = customers.initial()
    state["now"] = NOW
    state["tree"] = {"e": [[NOW - number, str(number), "r", 100, 1, 0, 1] for number in range(5_000, 0, -1)]}
    values = {**table(0), keys.join(SHOP, "1"): customers.packed(state)}
    assert sum(1 for _ in restating.rebuilding(values, windows.Partial())) > 20
    zone = harness.reference({SHOP: PROGRAM})[SHOP].zone
    assert sum(1 for _ in restating.Restatement(values, SHOP, zone).steps()) > 5


def test_only_what_came_or_changed_is_walked(made: PartialWindows, partitions: Partitions, walks: Walks) -> None:
    async def all_of_it() -> None:
        await made.prepare({0})
        assert await made.stand(0)
        assert walks.count == 1
        kept = made.partial(0)
        await made.prepare({0, 1})  # another partition comes
        assert await made.stand(0)
        assert (walks.count, made.partial(0)) == (2, kept)
        partitions.versions[0] = 1  # another owner had it in between
        await made.prepare({0, 1})
        assert (walks.count, made.partial(0) is kept) == (3, False)
        await made.prepare({1})  # given up, and taken again
        await made.prepare({0, 1})
        assert walks.count == 4

    asyncio.run(all_of_it())


def test_who_waits_at_once_waits_for_one_walk(made: PartialWindows, walks: Walks) -> None:
    async def both() -> list[bool]:
        return await asyncio.gather(made.stand(0), made.stand(0), made.prepare({0}))  # type: ignore[return-value]

    assert asyncio.run(both())[:2] == [True, True]
    assert walks.count == 1


def test_a_table_that_changes_under_a_walk_is_walked_again(
    made: PartialWindows, partitions: Partitions, walks: Walks
) -> None:
    def change() -> None:
        partitions.versions[0] = 1
        partitions.tables[0].update(table(40))

    walks.at_step[10] = change
    assert asyncio.run(made.stand(0))
    assert walks.count == 2
    day = windows.window("hour", NOW, harness.reference({SHOP: PROGRAM})[SHOP].zone)
    assert made.partial(0).values(SHOP, day) == restating.rebuild(partitions.tables[0]).values(SHOP, day)


def test_nothing_is_stated_for_a_partition_that_is_ours_no_longer(
    made: PartialWindows, partitions: Partitions, walks: Walks
) -> None:
    """Its next owner states it; what we sent now would be laid over that."""
    partitions.tables[0][windows.zone_key(SHOP)] = windows.packed_zone(ZoneInfo("Asia/Kolkata"))
    walks.at_step[10] = lambda: partitions.ours.discard(0)
    assert not asyncio.run(made.stand(0))
    assert (partitions.sent, partitions.tables[0][windows.zone_key(SHOP)]) == (
        [],
        windows.packed_zone(ZoneInfo("Asia/Kolkata")),
    )
    partitions.ours.add(0)
    assert asyncio.run(made.stand(0))
    assert {codec.loads(output.value)["zone"] for _, output in partitions.sent} == {"UTC"}


def test_a_shop_without_orders_and_an_unknown_one_need_no_statement(walks: Walks, partitions: Partitions) -> None:
    partitions.tables[1] = table(3, "Asia/Kolkata")
    made = PartialWindows(Reference(), partitions)  # a program that nobody has read yet
    assert asyncio.run(made.stand(1))
    assert partitions.sent == []
