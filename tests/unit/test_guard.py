"""The guard: outputs are in before any write leaves, and a position moves when everything before it is in."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from confluent_kafka import KafkaException
from faust.types import TP

from events.messages import Message
from streams.worker.guard import IN_FLIGHT, RECORDS_IN_FLIGHT, Changelog, DeliveryFailed, Guard
from tables.state import CLAIM, FENCING, Writes, token_bytes

CHANGELOG = "orders-changelog"
TOKEN = 7
ONE, TWO = TP("shopify.orders", 0), TP("shopify.orders", 1)


class Sent:
    """A record at the fake producer."""

    def __init__(
        self, topic: str, value: bytes | None, key: str, partition: int | None, report: Any, headers: Any = None
    ) -> None:
        self._topic, self.value, self.key, self.partition, self._report = topic, value, key, partition, report
        self.headers = headers
        self.at = 0

    def topic(self) -> str:
        return self._topic

    def offset(self) -> int:
        return self.at

    def deliver(self, offset: int = 0) -> None:
        self.at = offset
        self._report(None, self)

    def fail(self) -> None:
        self._report(Error(), self)


class Error:
    def str(self) -> str:
        return "Broker: gone"


class FakeProducer:
    """Keeps what it is given until the test delivers it."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.broken: Exception | None = None

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: str,
        partition: int | None = None,
        on_delivery: Any = None,
        timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        if self.broken is not None:
            raise self.broken
        self.sent.append(Sent(topic, value, key, partition, on_delivery, headers))

    def poll(self, timeout: float) -> int:
        time.sleep(0.001)
        return 0

    def waiting(self, topic: str | None = None) -> list[Sent]:
        """What was handed over since this was last asked for the topic."""
        found = [each for each in self.sent if topic in (None, each.topic())]
        self.sent = [each for each in self.sent if topic not in (None, each.topic())]
        return found


class World:
    """A guard with its fake producer."""

    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.failures: list[Exception] = []
        self.kept: list[list[int]] = []
        self.guard = Guard(self.producer, lambda name: f"test-{name}", self.failures.append)

    def note(self, offsets: list[int], _: Writes) -> None:
        self.kept.append(offsets)

    def submit(self, tp: TP, next_offset: int, outputs: int = 2, writes: int = 2) -> None:
        self.guard.submit(
            (tp, next_offset),
            [Message("out", f"k{number}", b"o") for number in range(outputs)],
            Changelog(CHANGELOG, tp.partition, TOKEN, self.note),
            {f"{next_offset}-{number}": b"w" for number in range(writes)},
        )


def guarded(test: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Runs a test on an event loop, with the guard started and stopped."""

    async def main() -> None:
        world = World()
        world.guard.start()
        try:
            await test(world)
        finally:
            world.guard.stop()

    asyncio.run(main())


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_no_write_leaves_before_every_output_is_in() -> None:
    async def test(world: World) -> None:
        world.submit(ONE, 10)
        first, second = world.producer.waiting()
        assert (first.topic(), second.topic()) == ("test-out", "test-out")
        first.deliver()
        await settle()
        assert not world.producer.waiting()
        second.deliver()
        await settle()
        writes = world.producer.waiting()
        assert [(each.topic(), each.key, each.partition) for each in writes] == [
            (CHANGELOG, "10-0", 0),
            (CHANGELOG, "10-1", 0),
        ]
        assert not world.guard.positions
        writes[0].deliver(100)
        await settle()
        assert not world.guard.positions
        writes[1].deliver(101)
        await settle()
        assert world.guard.positions == {ONE: 10}
        assert world.kept == [[100, 101]]
        await world.guard.drain()

    guarded(test)


def test_chunks_write_in_the_order_in_which_they_were_folded() -> None:
    async def test(world: World) -> None:
        world.submit(ONE, 10)
        early = world.producer.waiting()
        world.submit(ONE, 20)
        world.submit(TWO, 5)
        for each in world.producer.waiting():
            each.deliver()
        await settle()
        assert not world.producer.waiting(), "the first chunk's outputs are not in"
        for each in early:
            each.deliver()
        await settle()
        writes = world.producer.waiting(CHANGELOG)
        assert [each.key for each in writes] == ["10-0", "10-1", "20-0", "20-1", "5-0", "5-1"]
        for each in writes[2:]:
            each.deliver()
        await settle()
        assert not world.guard.positions, "the first chunk's writes are not in"
        for each in writes[:2]:
            each.deliver()
        await settle()
        assert world.guard.positions == {ONE: 20, TWO: 5}

    guarded(test)


@pytest.mark.parametrize(("outputs", "writes"), [(0, 2), (2, 0), (0, 0)])
def test_a_chunk_that_causes_nothing_moves_the_position_too(outputs: int, writes: int) -> None:
    async def test(world: World) -> None:
        world.submit(ONE, 10, outputs, writes)
        for _ in range(2):
            for each in world.producer.waiting():
                each.deliver()
            await settle()
        assert world.guard.positions == {ONE: 10}

    guarded(test)


@pytest.mark.parametrize("step", ["output", "write"])
def test_a_failed_delivery_stops_everything(step: str) -> None:
    async def test(world: World) -> None:
        world.submit(ONE, 10, 1, 2)
        world.submit(TWO, 20, 1, 0)
        first, second = world.producer.waiting()
        failing = first
        if step == "write":
            first.deliver()
            await settle()
            failing = world.producer.waiting()[0]
        failing.fail()
        second.deliver()
        await settle()
        assert [type(each) for each in world.failures] == [DeliveryFailed]
        assert world.guard.failed
        assert not world.guard.positions
        world.submit(ONE, 30)
        assert not world.producer.waiting(), "nothing leaves after a failure"
        with pytest.raises(DeliveryFailed):
            await asyncio.wait_for(world.guard.drain(), 5)
        await asyncio.wait_for(world.guard.room(), 5)

    guarded(test)


@pytest.mark.parametrize("error", [BufferError("full"), KafkaException("no")])
def test_a_record_that_cannot_be_handed_over_stops_everything(error: Exception) -> None:
    async def test(world: World) -> None:
        world.producer.broken = error
        world.submit(ONE, 10)
        await settle()
        assert len(world.failures) == 1
        assert not world.guard.positions

    guarded(test)


def test_an_error_that_nobody_foresaw_stops_everything_too() -> None:
    """An event loop logs what its callbacks raise, and goes on."""

    async def test(world: World) -> None:
        world.submit(ONE, 10, 1, 1)
        world.producer.broken = TypeError("no")
        world.producer.waiting()[0].deliver()
        await settle()
        assert [type(each) for each in world.failures] == [TypeError]
        assert not world.guard.positions

    guarded(test)


def test_only_so_many_chunks_are_on_their_way() -> None:
    async def test(world: World) -> None:
        for number in range(IN_FLIGHT):
            await asyncio.wait_for(world.guard.room(), 5)
            world.submit(ONE, number + 1, 1, 0)
        room = asyncio.ensure_future(world.guard.room())
        await settle()
        assert not room.done()
        world.producer.waiting()[0].deliver()
        await asyncio.wait_for(room, 5)
        assert world.guard.positions == {ONE: 1}

    guarded(test)


def test_only_so_many_records_are_on_their_way_however_few_chunks_they_are() -> None:
    async def test(world: World) -> None:
        world.submit(ONE, 1, RECORDS_IN_FLIGHT - 1, 0)
        await asyncio.wait_for(world.guard.room(), 5)
        world.submit(ONE, 2, 1, 0)
        room = asyncio.ensure_future(world.guard.room())
        await settle()
        assert not room.done()
        for each in world.producer.waiting():
            each.deliver()
        await asyncio.wait_for(room, 5)
        assert not world.guard.full

    guarded(test)


def test_what_a_table_gets_carries_the_token_of_its_owner() -> None:
    async def test(world: World) -> None:
        writes: Writes = {"a": b"1", "gone": None, "b": b"2"}
        world.guard.submit((ONE, 10), [], Changelog(CHANGELOG, 0, TOKEN, world.note), writes)
        sent = world.producer.waiting(CHANGELOG)
        mark = token_bytes(TOKEN)
        assert [(each.key, each.value, each.headers) for each in sent] == [
            ("a", mark + b"1", None),
            ("b", mark + b"2", None),
            ("gone", None, [(FENCING, mark)]),
        ]

    guarded(test)


def test_a_claim_gives_the_offset_at_which_it_stands() -> None:
    async def test(world: World) -> None:
        claiming = asyncio.ensure_future(world.guard.claim(CHANGELOG, 3, "me"))
        await settle()
        (sent,) = world.producer.waiting()
        assert (sent.topic(), sent.key, sent.partition) == (CHANGELOG, CLAIM, 3)
        assert not claiming.done()
        sent.deliver(41)
        assert await asyncio.wait_for(claiming, 5) == 41

    guarded(test)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_order_of_the_reports(seed: int) -> None:
    """Deliveries in any order: a write never leaves before the outputs of all chunks up to its own are in."""

    async def test(world: World) -> None:
        chance = random.Random(seed)
        outputs_in: dict[int, int] = {}
        wanted: dict[int, tuple[TP, int]] = {}
        waiting: list[tuple[int, Sent]] = []
        positions: dict[TP, int] = {}
        next_chunk = 0
        while next_chunk < 6 or waiting:
            if next_chunk < 6 and chance.random() < 0.4:
                next_chunk += 1
                count = chance.randint(0, 3)
                wanted[next_chunk] = chance.choice([ONE, TWO]), count
                outputs_in[next_chunk] = 0
                world.submit(wanted[next_chunk][0], next_chunk, count, chance.randint(0, 3))
                waiting += [(next_chunk, each) for each in world.producer.waiting("test-out")]
            elif waiting:
                chunk, each = waiting.pop(chance.randrange(len(waiting)))
                outputs_in[chunk] += each.topic() == "test-out"
                each.deliver()
            await settle()
            for write in world.producer.waiting(CHANGELOG):
                chunk = int(write.key.split("-")[0])
                assert all(outputs_in[each] == wanted[each][1] for each in range(1, chunk + 1))
                waiting.append((chunk, write))
            for tp, position in world.guard.positions.items():
                assert position >= positions.get(tp, 0)
                assert not [chunk for chunk, _ in waiting if wanted[chunk][0] == tp and chunk <= position]
            positions = dict(world.guard.positions)
        last = {tp: max(chunk for chunk, (of, _) in wanted.items() if of == tp) for tp, _ in wanted.values()}
        assert world.guard.positions == last

    guarded(test)
