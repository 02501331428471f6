"""A shop changes its zone, again and again: in the end its days are those of the last, whatever came when and who died.

Workers share the partitions of the customers' table. Each hears of programs when it does, folds facts as they come, and
states days anew by small steps; what it sends arrives later, its writes after its outputs, and a crash ends that at any
moment. A worker that starts again knows what is durable, and every program.
"""

import random
from collections import defaultdict, deque
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import codec, instants, keys, topics, webhook_topics
from events.messages import Message
from streams.worker import windows as streams_windows
from streams.worker.windows import PartialWindows
from tables import chunks, customers, restating, windows
from tables.chunks import Received
from tables.reference import Reference
from tables.state import Values, Writes
from tests import harness, oracle
from tests.harness import Sums
from tests.property.webhooks import NOW, PROGRAM, SHOP, Json, about, deliveries, envelopes, text, thorough

ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "Europe/Berlin", "Pacific/Kiritimati"]

Key = tuple[str, str, int]  # size, zone, start


def facts_of(sent: Iterable[Json], plain: Json) -> list[bytes]:
    """The facts of these webhooks, through the fold of orders."""
    chunk = chunks.OrderChunk({}, harness.reference({SHOP: plain}), 0, 1)
    for at, each in enumerate(sent):
        if webhook_topics.stream_of(each["topic"]) == topics.ORDERS:
            chunk.take(Received(topics.ORDERS, 0, at, harness.LATE, harness.key_of(each).encode(), codec.dumps(each)))
    return [output.value for output in chunk.outputs if output.topic == topics.ACCOUNT_FACTS]


@dataclass
class _Flight:
    outputs: deque[Message]
    writes: deque[tuple[str, bytes | None]]
    position: int | None


class Worker:
    """Some partitions, as a worker's memory has them; its windows see the table."""

    def __init__(self, world: "World", numbers: list[int]) -> None:
        self.world = world
        self.numbers = numbers
        self.reference = Reference()
        self.heard = 0
        while self.hear():
            pass
        self.tables = {number: Values(world.durable[number]) for number in numbers}
        self.positions = {number: world.positions[number] for number in numbers}
        self.flights: dict[int, deque[_Flight]] = {number: deque() for number in numbers}
        self.windows = PartialWindows(self.reference, self)
        self.doing: dict[int, Coroutine[Any, Any, Any]] = {}

    def hear(self) -> bool:
        """The next program becomes known, if there is one."""
        if self.heard == len(self.world.programs):
            return False
        announced = {**self.world.programs[self.heard], "announced_at": f"2026-01-01T00:00:{self.heard:02}Z"}
        self.reference.put_program(harness.reference({SHOP: announced})[SHOP].program)
        self.heard += 1
        return True

    def values(self, number: int) -> Mapping[str, bytes]:
        return self.tables[number]

    def version(self, number: int) -> object:
        return 0

    def tenure(self, number: int) -> object | None:
        return 0

    def held(self) -> set[int]:
        return set(self.numbers)

    def fence(self, number: int) -> int:
        return 0

    async def room(self) -> None:
        pass

    def send(self, number: int, outputs: list[Message], writes: Writes, position: int | None = None) -> None:
        lay(self.tables[number], writes.items())
        self.flights[number].append(_Flight(deque(outputs), deque(writes.items()), position))

    async def fold(self, number: int) -> None:
        if not await self.windows.stand(number):
            return
        at = self.positions[number]
        batch = self.world.facts[number][at : at + self.world.chance.randint(1, 4)]
        partial = self.windows.partial(number)
        chunk = chunks.CustomerChunk(self.tables[number], self.reference, number, self.world.partitions, partial)
        for offset, (key, value) in enumerate(batch, start=at):
            chunk.take(Received(topics.ACCOUNT_FACTS, number, offset, 0, key, value))
        writes = chunk.finish()
        self.positions[number] = at + len(batch)
        self.send(number, chunk.outputs, writes, at + len(batch))

    def stands(self, number: int) -> bool:
        return self.windows._stands(number)

    def deliver(self, number: int) -> None:
        """One record arrives: an output of any chunk, or the next write if its chunk's outputs are in."""
        flights = self.flights[number]
        waiting = next((flight.outputs for flight in flights if flight.outputs), None)
        keeps = not flights[0].outputs and flights[0].writes
        if waiting and not (keeps and self.world.chance.random() < 0.5):
            self.world.take(waiting.popleft())
        elif keeps:
            lay(self.world.durable[number], [flights[0].writes.popleft()])
        while flights and not flights[0].outputs and not flights[0].writes:
            position = flights.popleft().position
            if position is not None:
                self.world.positions[number] = position


def lay(table: Values, writes: Iterable[tuple[str, bytes | None]]) -> None:
    for key, value in writes:
        if value is None:
            table.remove(key)
        else:
            table[key] = value


class World:
    """What outlives the workers: logs, changelogs, positions, and what a reader of the windows' topic holds."""

    def __init__(self, facts: list[bytes], programs: list[Json], chance: random.Random) -> None:
        self.chance = chance
        self.partitions = chance.choice([1, 2, 3])
        self.to_come = deque(programs[1:])
        self.programs = programs[:1]
        self.facts: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        self.more(facts)
        self.durable: dict[int, Values] = defaultdict(Values)
        self.positions: dict[int, int] = defaultdict(int)
        self.rows: dict[tuple[Key, int], Any] = {}
        self.late: set[Key] = set()
        numbers = list(range(self.partitions))
        count = chance.choice([1, 2])
        self.workers = [Worker(self, numbers[first::count]) for first in range(count)]

    def more(self, facts: list[bytes]) -> None:
        """These facts come, each to its customer's partition."""
        for value in facts:
            key = keys.join(SHOP, codec.loads(value)["customer_id"]).encode()
            self.facts[keys.partition_of(key, self.partitions)].append((key, value))

    def take(self, output: Message) -> None:
        if output.topic == topics.WINDOWS:
            row = codec.loads(output.value)
            key = row["size"], row["zone"], instants.parse(row["start"])
            if row["late"]:
                self.late.add(key)
            else:
                self.rows[key, row["partition"]] = row

    def step(self) -> bool:
        """Something that can happen next happens; False when nothing is left to do."""
        choices: list[tuple[Any, ...]] = []
        if self.to_come:
            choices.append((self._announce,))
        for worker in self.workers:
            if worker.heard < len(self.programs):
                choices.append((worker.hear,))
            for number in worker.numbers:
                if number in worker.doing:
                    choices += [(self._go_on, worker, number)] * 3
                elif worker.positions[number] < len(self.facts[number]):
                    choices += [(self._begin, worker, number, worker.fold)] * 2
                elif not worker.stands(number):
                    choices.append((self._begin, worker, number, worker.windows.stand))
                if worker.flights[number]:
                    choices += [(worker.deliver, number)] * 3
        if not choices:
            return False
        act, *arguments = self.chance.choice(choices)
        act(*arguments)
        return True

    def _announce(self) -> None:
        self.programs.append(self.to_come.popleft())

    def _begin(self, worker: Worker, number: int, work: Any) -> None:
        worker.doing[number] = work(number)
        self._go_on(worker, number)

    def _go_on(self, worker: Worker, number: int) -> None:
        try:
            worker.doing[number].send(None)
        except StopIteration:
            del worker.doing[number]

    def crash(self) -> None:
        which = self.chance.randrange(len(self.workers))
        for coroutine in self.workers[which].doing.values():
            coroutine.close()
        self.workers[which] = Worker(self, self.workers[which].numbers)

    def windows(self, zone: str) -> dict[tuple[str, int], Sums]:
        """What a reader is shown while a zone is in force."""
        found: dict[tuple[str, int], Sums] = {}
        for ((size, of, start), _), row in self.rows.items():
            if of == (zone if size == "day" else "UTC"):
                have = found.get((size, start), Sums(*(0,) * 9))
                found[size, start] = Sums(*(a + row[name] for a, name in zip(have, Sums._fields, strict=True)))
        return {key: sums for key, sums in found.items() if any(sums)}

    def now(self) -> int:
        values = [
            customers.unpacked(value)
            for table in self.durable.values()
            for key, value in table.items()
            if "#" not in key
        ]
        return max((state["now"] for state in values), default=0)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step at a time, and few rows at once: a crash may come between any two."""
    monkeypatch.setattr(streams_windows, "SLICE", -1.0)
    monkeypatch.setattr(streams_windows, "_ROWS", 2)
    monkeypatch.setattr(restating, "_ENTRIES", 2)


def check(world: World, sent: list[Json], plain: Json) -> None:
    """What is there in the end, against the oracle of what these workers fold: orders, and nobody's merge."""
    zone = plain["zone"]
    of_orders = [each for each in sent if webhook_topics.stream_of(each["topic"]) == topics.ORDERS]
    expected = oracle.oracle(of_orders, {SHOP: plain})[SHOP].windows
    wanted = {(size, instants.from_datetime(start)): dict(row) for (size, start), row in expected.items()}
    found = {key: {name: n for name, n in sums._asdict().items() if n} for key, sums in world.windows(zone).items()}
    for size, start in found.keys() | wanted.keys():
        window = windows.window(size, start, ZoneInfo(zone))  # type: ignore[arg-type]
        same = found.get((size, start), {}) == wanted.get((size, start), {})
        open_ = windows.is_open(window, world.now())
        assert same or (not open_ and (size, window.zone, start) in world.late), (size, start)


@thorough(150)
@given(
    sent=envelopes(),
    plain=PROGRAM,
    zones=st.lists(st.sampled_from(ZONES), min_size=2, max_size=3, unique=True).flatmap(
        lambda few: st.lists(st.sampled_from(few), min_size=1, max_size=5)
    ),
    seed=st.integers(0, 2**32),
    crashes=st.integers(0, 5),
    data=st.data(),
)
def test_days_are_those_of_the_last_zone(
    sent: list[Json], plain: Json, zones: list[str], seed: int, crashes: int, data: st.DataObject
) -> None:
    programs = [{**plain, "zone": zone} for zone in zones]
    world = World(facts_of(data.draw(deliveries(sent)), plain), programs, random.Random(seed))
    for _ in range(crashes):
        for _ in range(world.chance.randrange(120)):
            if not world.step():
                break
        world.crash()
    while world.step():
        pass
    check(world, sent, programs[-1])


def one_order(order: int, **more: Any) -> Json:
    at = text(NOW - timedelta(hours=16))  # 03:00 UTC: yesterday in New York, today in Berlin
    payload = {
        "id": order,
        "created_at": at,
        "updated_at": text(NOW),
        "financial_status": "paid",
        "currency": "USD",
        "current_subtotal_price": "10.00",
        "subtotal_price": "10.00",
        "customer": {"id": 7},
        "refunds": [],
        **more,
    }
    return {**about("orders/updated", payload), "webhook_id": f"{order}-{len(more)}"}


PLAIN: Json = {"currency": "USD", "zone": "America/New_York", "look_back_days": None, "rules": []}
ORDERS = [one_order(1), one_order(2)]
CANCELLED = one_order(1, updated_at=text(NOW + timedelta(seconds=1)), cancelled_at=text(NOW))
OF_OLD = one_order(3, created_at=text(NOW - timedelta(days=402)))


MOVED = one_order(1, updated_at=text(NOW + timedelta(seconds=1)), processed_at=text(NOW - timedelta(days=3)))


def to_rest(world: World) -> None:
    while world.step():
        pass


def test_a_cancellation_after_the_change_is_taken_out_of_the_new_day() -> None:
    """It was taken out of a day of the new zone in which the order had never been: -1 orders, -10.00, -1 customers."""
    plain = {**PLAIN, "zone": "Europe/Berlin"}
    world = World(facts_of(ORDERS, PLAIN), [PLAIN], random.Random(0))
    to_rest(world)
    world.to_come.append(plain)
    to_rest(world)
    world.more(facts_of([*ORDERS, CANCELLED], PLAIN))
    to_rest(world)
    days = {window: sums for window, sums in world.windows("Europe/Berlin").items() if window[0] == "day"}
    assert [(sums.orders, sums.net, sums.customers) for sums in days.values()] == [(1, 1000, 1)]
    check(world, [*ORDERS, CANCELLED], plain)


def test_a_day_that_lost_everything_under_another_zone_is_nothing_when_the_first_returns() -> None:
    world = World(facts_of(ORDERS[:1], PLAIN), [PLAIN], random.Random(0))
    to_rest(world)
    world.to_come.append({**PLAIN, "zone": "Europe/Berlin"})
    to_rest(world)
    world.more(facts_of([ORDERS[0], MOVED], PLAIN))
    to_rest(world)
    world.to_come.append(PLAIN)
    to_rest(world)
    check(world, [ORDERS[0], MOVED], PLAIN)


def test_days_past_their_retention_are_left_to_the_batch() -> None:
    world = World(facts_of([*ORDERS, OF_OLD], PLAIN), [PLAIN], random.Random(0))
    to_rest(world)
    before = set(world.late)
    world.to_come.append({**PLAIN, "zone": "Europe/Berlin"})
    to_rest(world)
    assert [(size, zone) for size, zone, _ in world.late - before] == [("day", "Europe/Berlin")]
    check(world, [*ORDERS, OF_OLD], {**PLAIN, "zone": "Europe/Berlin"})


def test_a_crash_may_keep_a_shops_zone_and_nothing_more() -> None:
    """The zone is written first; the entries that come again are those of the zone in force by then."""
    world = World(facts_of(ORDERS, PLAIN), [PLAIN], random.Random(0))
    for number in range(world.partitions):
        world.durable[number][windows.zone_key(SHOP)] = windows.packed_zone(ZoneInfo("Asia/Kolkata"))
    world.workers = [Worker(world, worker.numbers) for worker in world.workers]  # all of them start again
    to_rest(world)
    check(world, ORDERS, PLAIN)


@pytest.mark.parametrize("steps", range(12))
def test_a_restatement_that_was_cut_off_is_made_again(steps: int) -> None:
    """However much of it had arrived. Nothing else ever comes to the shop."""
    sent = [one_order(at, created_at=text(NOW - timedelta(days=at))) for at in range(1, 6)]
    world = World(facts_of(sent, PLAIN), [PLAIN], random.Random(steps))
    to_rest(world)
    world.to_come.append({**PLAIN, "zone": "Asia/Kolkata"})
    for _ in range(3 * steps):
        world.step()
    world.crash()
    to_rest(world)
    check(world, sent, {**PLAIN, "zone": "Asia/Kolkata"})
