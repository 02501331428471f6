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
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from faust.types import TP

from tables.chunks import Output, Writes

#: Leaves the choice of a partition to the partitioner.
_ANY = -1

#: Chunks that may be on their way at once, over all partitions.
IN_FLIGHT = 8


class DeliveryFailed(RuntimeError):
    """A record could not be delivered: what was folded since is not durable, so the worker must stop."""


@dataclass
class _Flight:
    tp: TP
    next_offset: int
    outputs: list[Output]
    changelog: str
    writes: Writes
    on_kept: Callable[[int, int], None]
    pending: int = 0
    left: bool = False  # its changelog records have been handed to the producer
    kept: bool = False
    started: float = field(default=0.0)


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
        self._failed: Exception | None = None
        self._suspended = False
        self._moved = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="delivery-reports", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._poller.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._poller.is_alive():
            self._poller.join(timeout=5)

    def suspend(self) -> None:
        """From here on no chunk is accepted: partitions are being given up."""
        self._suspended = True

    def resume(self) -> None:
        """Partitions were assigned; the positions begin anew with what is committed."""
        self.positions.clear()
        self._suspended = False

    @property
    def accepting(self) -> bool:
        return not self._suspended and self._failed is None

    async def room(self) -> None:
        """Waits until another chunk may be on its way."""
        while len(self._flights) >= IN_FLIGHT and self._failed is None:
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
        self,
        tp: TP,
        next_offset: int,
        outputs: list[Output],
        changelog: str,
        writes: Writes,
        on_kept: Callable[[int, int], None],
    ) -> None:
        """Sends a folded chunk on its way. `on_kept(partition, offset)` hears of each changelog record delivered."""
        flight = _Flight(tp, next_offset, outputs, changelog, writes, on_kept)
        self._flights.append(flight)
        flight.pending = len(outputs)
        names = {name: self._topic(name) for name in {output.topic for output in outputs}}
        self._produce(((names[topic], key, value, at) for topic, key, value, at in outputs), self._reporter(flight))
        if not outputs:
            self._advance()

    def _reporter(self, flight: _Flight) -> Callable[[Any, Any], None]:
        def report(error: KafkaError | None, message: Any) -> None:
            # On the poller's thread: it alone counts down, the loop's thread acts when a step is complete.
            if error is not None:
                self._from_thread(self._fail, DeliveryFailed(f"{message.topic()}: {error.str()}"))
                return
            if flight.left:
                flight.on_kept(flight.tp.partition, message.offset())
            flight.pending -= 1
            if flight.pending == 0:
                self._from_thread(self._advance)

        return report

    def _from_thread(self, function: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

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
            self.positions[done.tp] = done.next_offset
        self._moved.set()

    def _keep(self, flight: _Flight) -> None:
        flight.pending = len(flight.writes)
        flight.left = True
        changelog, at = flight.changelog, flight.tp.partition
        self._produce(((changelog, key, value, at) for key, value in flight.writes.items()), self._reporter(flight))

    def _produce(self, records: Iterable[tuple[str, str, bytes | None, int | None]], report: Any) -> None:
        """Hands over (topic, key, value, partition), in one loop: a call for each would cost half as much again."""
        if self._failed is not None:
            return
        produce, topic = self._producer.produce, ""
        try:
            for topic, key, value, partition in records:
                produce(topic, value, key, _ANY if partition is None else partition, report)
        except (BufferError, KafkaException) as error:
            self._fail(DeliveryFailed(f"{topic}: {error}"))

    def _fail(self, error: Exception) -> None:
        if self._failed is None:
            self._failed = error
            self._on_failure(error)
        self._moved.set()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)
