"""The changelogs, read by a consumer of our own: what a partition held when it becomes ours, and standbys meanwhile.

Faust's recovery is not used. It signals its end by an event that it clears again (a worker may wait for ever), reads to
the end that the log had when it asked (an owner that was frozen may still write behind that), and applies records on
the loop that has to answer heartbeats.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from runtime import kafka
from runtime.settings import Settings
from tables import state as states
from tables.state import PartitionState, UnreadableChangelog

log = logging.getLogger(__name__)

#: (a changelog's name on the broker, a partition)
Place = tuple[str, int]

#: Records taken from librdkafka at once; the interpreter is given up between two of them.
_BATCH = 2000


class _Order(NamedTuple):
    """What to read from now on: to a claim, or (None) for ever, as a standby."""

    wanted: Mapping[Place, tuple[PartitionState, int | None]]
    done: Callable[[], object]


class ChangelogReader:
    """Reads changelogs on a thread of its own. A partition's state is the thread's until `recover` has returned."""

    def __init__(self, settings: Settings, on_failure: Callable[[Exception], None]) -> None:
        self._settings = settings
        self._on_failure = on_failure
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._reading: dict[Place, tuple[PartitionState, int | None]] = {}
        self._done: Callable[[], object] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="changelogs", daemon=True)

    def start(self) -> None:
        """Begins to read, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, within 5 s."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    async def recover(
        self, actives: Mapping[Place, tuple[PartitionState, int]], standbys: Mapping[Place, PartitionState]
    ) -> None:
        """Returns when each active partition has been read up to its claim; follows the standbys from then on.

        Nothing else is read any more. A call that comes before the last one has returned takes its place; the last
        one then never returns, and is to be cancelled.
        """
        loop = asyncio.get_running_loop()
        recovered: asyncio.Future[None] = loop.create_future()

        def done() -> None:
            if not recovered.done():
                recovered.set_result(None)

        wanted: dict[Place, tuple[PartitionState, int | None]] = {
            place: (each, None) for place, each in standbys.items()
        }
        wanted.update(actives)
        self._orders.put(_Order(wanted, lambda: loop.call_soon_threadsafe(done)))
        await recovered

    async def look(self, place: Place, offsets: range, token: int) -> set[str]:
        """The keys of the records at these offsets that the owner with this token did not write."""
        return await asyncio.to_thread(self._look, place, offsets, token)

    # --- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        consumer = self._consumer()
        try:
            while not self._closing.is_set():
                self._obey(consumer)
                for message in consumer.consume(_BATCH, self._patience()) if self._reading else ():
                    self._take(message)
                self._settle(consumer)
        except Exception as error:
            self._on_failure(error)
        finally:
            consumer.close()

    def _patience(self) -> float:
        """How long to wait for a whole batch (seconds): the last one before the claims is never whole."""
        return 0.1 if self._done is None else 0.01

    def _consumer(self) -> Any:
        return Consumer(
            {
                **kafka.consumer_config(self._settings, f"{self._settings.group}-changelogs"),
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": 64 * 1024,
            }
        )

    def _obey(self, consumer: Any) -> None:
        """Takes up the newest order; while there is nothing to read it waits for one."""
        order = None
        try:
            order = self._orders.get(timeout=0.0 if self._reading else 0.1)
            while True:
                order = self._orders.get_nowait()
        except queue.Empty:
            if order is None:
                return
        self._reading = dict(order.wanted)
        self._done = order.done
        self._assign(consumer)

    def _take(self, message: Any) -> None:
        error = message.error()
        if error is not None:
            if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise KafkaException(error)
            log.warning("reading changelogs: %s", error.str())
            return
        reading = self._reading.get((message.topic(), message.partition()))
        if reading is None:
            return
        state, claim = reading
        if claim is None or message.offset() <= claim:
            try:
                state.read(message.offset(), message.key(), message.value(), message.headers())
            except UnreadableChangelog as unreadable:
                raise UnreadableChangelog(f"{message.topic()}[{message.partition()}]: {unreadable}") from unreadable

    def _settle(self, consumer: Any) -> None:
        """Once every partition has been read up to its claim the consumer goes on with the standbys alone.

        Not with each: an assignment throws away what has been fetched of all others.
        """
        if self._done is None or any(
            claim is not None and state.offset < claim for state, claim in self._reading.values()
        ):
            return
        self._reading = {place: (state, claim) for place, (state, claim) in self._reading.items() if claim is None}
        self._assign(consumer)
        self._done()
        self._done = None

    def _assign(self, consumer: Any) -> None:
        # Of a partition whose leader it does not know yet librdkafka asks for the beginning half a second later.
        for topic in {topic for topic, _ in self._reading}:
            with suppress(KafkaException):
                consumer.list_topics(topic, timeout=1.0)
        consumer.assign(
            [
                TopicPartition(*place, state.offset + 1 if state.offset >= 0 else OFFSET_BEGINNING)
                for place, (state, _) in self._reading.items()
            ]
        )

    def _look(self, place: Place, offsets: range, token: int) -> set[str]:
        consumer = self._consumer()
        found: set[str] = set()
        try:
            consumer.assign([TopicPartition(*place, offsets.start)])
            at = offsets.start
            while at < offsets.stop:
                for message in consumer.consume(_BATCH, 1.0):
                    if message.error() is not None:
                        raise KafkaException(message.error())
                    at = message.offset() + 1
                    if message.offset() in offsets:
                        key = states.foreign(token, message.key(), message.value(), message.headers())
                        found |= {key} if key is not None else set()
        finally:
            consumer.close()
        return found
