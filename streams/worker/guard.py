"""The guard of commits: a chunk's position moves on when the delivery report of all it caused is in.

A chunk leaves in two steps. First its outputs; when every one of them is on the broker, its changelog records. So a
table never knows more than what has left: after a crash a replay finds an older state and makes the same outputs again,
rather than a state that sees nothing new. When the changelog records are delivered too, the position moves. Chunks go
through the second step in the order in which they were folded, so that a key's newest record is the last.

Everything leaves by one idempotent producer. A delivery that failed for good stops the worker.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from faust.types import TP

from events.messages import Message
from tables.state import CLAIM, FENCING, Writes, token_bytes

#: Leaves the choice of a partition to the partitioner.
_ANY = -1

#: What may be on its way at once, over all partitions: chunks, and records of theirs.
IN_FLIGHT = 64
RECORDS_IN_FLIGHT = 50_000


class DeliveryFailed(RuntimeError):
    """A record could not be delivered: what was folded since is not durable, so the worker must stop."""


class Changelog(NamedTuple):
    """Where a table's writes go: a partition of its changelog, under the owner's fencing token.

    `kept` hears of the offsets at which a chunk's records came to stand, ascending, and of its writes.
    """

    topic: str
    partition: int
    token: int
    kept: Callable[[list[int], Writes], None]


@dataclass
class _Flight:
    source: tuple[TP, int] | None  # what is read when everything is delivered; None: nothing was
    changelog: Changelog
    writes: Writes
    records: int
    pending: int = 0
    left: bool = False  # its changelog records have been handed to the producer
    offsets: list[int] = field(default_factory=list)


class Guard:
    """Sends what chunks cause, in order, and knows up to where everything is durable.

    `positions` holds, for each source partition, the offset after the last chunk all of whose effects are delivered.
    """

    def __init__(
        self, producer: Producer, topic: Callable[[str], str], on_failure: Callable[[Exception], None]
    ) -> None:
        self.positions: dict[TP, int] = {}
        self._producer = producer
        self._topic = topic
        self._on_failure = on_failure
        self._flights: deque[_Flight] = deque()
        self._records = 0
        self._failed: Exception | None = None
        self._moved = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Delivery reports, on whatever thread they come, act on this loop."""
        self._loop = loop

    def start(self) -> None:
        """From here on delivery reports are heard, by the running event loop."""
        self.attach(asyncio.get_running_loop())
        self._poller.start()

    def stop(self) -> None:
        """Ends the thread of the delivery reports."""
        self._stopping.set()
        if self._poller.is_alive():
            self._poller.join(timeout=5)

    @property
    def failed(self) -> bool:
        """Whether a delivery failed for good: nothing leaves any more."""
        return self._failed is not None

    @property
    def full(self) -> bool:
        """Whether as many chunks are on their way as may be."""
        return len(self._flights) >= IN_FLIGHT or self._records >= RECORDS_IN_FLIGHT

    async def room(self) -> None:
        """Waits until another chunk may be on its way."""
        while self.full and self._failed is None:
            await self._wait()

    async def drain(self) -> None:
        """Waits until nothing is on its way; raises DeliveryFailed if it never will be."""
        while self._flights and self._failed is None:
            await self._wait()
        if self._failed is not None:
            raise DeliveryFailed(str(self._failed)) from self._failed

    async def _wait(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def submit(
        self, source: tuple[TP, int] | None, outputs: list[Message], changelog: Changelog, writes: Writes
    ) -> None:
        """Sends a folded chunk on its way. `source`: the partition it was folded from, and the offset after it."""
        flight = _Flight(source, changelog, writes, len(outputs) + len(writes))
        self._flights.append(flight)
        self._records += flight.records
        flight.pending = len(outputs)
        names = {name: self._topic(name) for name in {output.topic for output in outputs}}
        records = ((names[each.topic], each.key, each.value, each.partition) for each in outputs)
        self._produce(records, self._reporter(flight))
        if not outputs:
            self._advance()

    async def claim(self, topic: str, partition: int, by: str) -> int:
        """Claims a partition of a changelog; the claim's offset, which is the owner's token from here on."""
        assert self._loop is not None
        claimed: asyncio.Future[int] = self._loop.create_future()

        def settle(offset: int) -> None:
            if not claimed.done():
                claimed.set_result(offset)

        def report(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                self._from_thread(self._fail, DeliveryFailed(f"{topic}: {error.str()}"))
            else:
                self._from_thread(settle, message.offset())

        self._produce([(topic, CLAIM, by.encode(), partition)], report)
        return await claimed

    def _reporter(self, flight: _Flight) -> Callable[[Any, Any], None]:
        def report(error: KafkaError | None, message: Any) -> None:
            # On the poller's thread: it alone counts down, the loop's thread acts when a step is complete.
            if error is not None:
                self._from_thread(self._fail, DeliveryFailed(f"{message.topic()}: {error.str()}"))
                return
            if flight.left:
                flight.offsets.append(message.offset())
            flight.pending -= 1
            if flight.pending == 0:
                self._from_thread(self._advance)

        return report

    def _from_thread(self, function: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._surely, function, *args)

    def _surely(self, function: Callable[..., None], *args: Any) -> None:
        """An event loop only logs what its callbacks raise, and chunks would then wait for ever."""
        try:
            function(*args)
        except Exception as error:
            self._fail(error)

    def _advance(self) -> None:
        """Moves every chunk on that can be: second steps in order, positions from the front."""
        for flight in self._flights:
            if flight.left:
                continue
            if flight.pending:
                break
            self._keep(flight)
        while self._flights and self._flights[0].left and not self._flights[0].pending:
            done = self._flights.popleft()
            self._records -= done.records
            done.changelog.kept(done.offsets, done.writes)
            if done.source is not None:
                tp, offset = done.source
                self.positions[tp] = offset
        self._moved.set()

    def _keep(self, flight: _Flight) -> None:
        flight.pending = len(flight.writes)
        flight.left = True
        topic, at, token, _ = flight.changelog
        mark, report = token_bytes(token), self._reporter(flight)
        values = ((topic, key, mark + value, at) for key, value in flight.writes.items() if value is not None)
        self._produce(values, report)
        # A fold gives removals last: nothing that is kept names them any more.
        gone = [key for key, value in flight.writes.items() if value is None]
        if gone:
            self._produce(((topic, key, None, at) for key in gone), report, [(FENCING, mark)])

    def _produce(
        self,
        records: Iterable[tuple[str, str, bytes | None, int | None]],
        report: Any,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Hands over (topic, key, value, partition), in one loop: a call for each would cost half as much again."""
        if self._failed is not None:
            return
        produce, topic = self._producer.produce, ""
        try:
            if headers is None:
                for topic, key, value, partition in records:
                    produce(topic, value, key, _ANY if partition is None else partition, report)
            else:
                for topic, key, value, partition in records:
                    produce(topic, value, key, _ANY if partition is None else partition, report, headers=headers)
        except (BufferError, KafkaException) as error:
            self._fail(DeliveryFailed(f"{topic}: {error}"))

    def _fail(self, error: Exception) -> None:
        if self._failed is None:
            self._failed = error
            self._on_failure(error)
        self._moved.set()

    def _poll(self) -> None:
        try:
            while not self._stopping.is_set():
                self._producer.poll(0.1)
        except Exception as error:
            self._from_thread(self._fail, error)
