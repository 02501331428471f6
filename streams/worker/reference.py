"""Programs and cut points, read to their end before any agent starts and followed from then on.

By a plain consumer: Faust's GlobalTable is known to loop in recovery. The two topics are small and never dropped.
A thread reads, the event loop applies what was read between two chunks: no fold ever sees a reference that changes.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Collection

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from tenacity import AsyncRetrying, before_sleep_log, retry_if_exception_type, stop_after_delay, wait_exponential

from events import announcements, topics
from events.errors import BadEvent
from events.programs import CutPoints, Program
from runtime import patience
from runtime.settings import Settings
from tables.reference import Missed, Reference

log = logging.getLogger(__name__)

#: How long the broker may take to answer (seconds), and how long it may fail to before the worker stops.
_PATIENCE = 30.0
_ALTOGETHER = 300.0

#: How long what was looked for in vain is not looked for again (seconds): one stranger must not slow a partition.
_REMEMBERED = 1.0


class ReferenceReader:
    """Keeps a Reference current. `apply` alone changes it, on the thread that folds."""

    def __init__(self, settings: Settings, reference: Reference) -> None:
        self._reference = reference
        self._programs = settings.topic(topics.PROGRAMS)
        self._topics = (self._programs, settings.topic(topics.CUT_POINTS))
        self._lock = threading.Lock()
        client = {
            "bootstrap.servers": settings.kafka_servers(),
            "group.id": f"{settings.group}-reference",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            # The embedded broker keeps an empty answer back until its time is over, whatever comes meanwhile.
            "fetch.wait.max.ms": 20 if settings.journal else 500,
        }
        self._consumer = Consumer(client)
        # Where the topics end: the other's question would wait behind its own long poll.
        self._asking = Consumer(client)
        self._position: dict[tuple[str, int], int] = {}
        self._inbox: deque[Program | CutPoints] = deque()
        self._in_vain: dict[Missed, float] = {}

    def start(self) -> None:
        """Reads both topics to their end.

        TimeoutError or KafkaException if the broker does not answer for half a minute, or tells of no leader so long.
        """
        self._consumer.assign(
            [
                TopicPartition(topic, partition, OFFSET_BEGINNING)
                for topic in self._topics
                for partition in self._partitions(topic)
            ]
        )
        # A broker shows a topic that was made just now before it leads its partitions.
        patience.retried(self._read, KafkaException, _PATIENCE, every=0.2)
        self.apply()

    def _partitions(self, topic: str) -> list[int]:
        def look() -> list[int]:
            try:
                found = self._consumer.list_topics(topic, timeout=5).topics[topic]
            except KafkaException as error:
                log.info("waiting for %s: %s", topic, error)
                return []
            return [] if found.error is not None else list(found.partitions)

        numbers = patience.until(look, _PATIENCE, every=0.2)
        if not numbers:
            raise TimeoutError(f"topic {topic} is not there: create the topics first (loyalnest topics create)")
        self._position.update(dict.fromkeys(((topic, number) for number in numbers), 0))
        return numbers

    def apply(self) -> None:
        """What was read since the last time becomes known to the folds. For the thread that folds."""
        while self._inbox:
            found = self._inbox.popleft()
            if isinstance(found, CutPoints):
                self._reference.put_cut_points(found)
                continue
            try:
                self._reference.put_program(found)
            except BadEvent as error:  # as below
                log.error("an announcement of %s is left out: %s", found.shop, error)

    def is_worth_reading(self, missed: Collection[Missed]) -> bool:
        """Whether any of what the folds missed has not been looked for in vain a moment ago."""
        since = time.monotonic() - _REMEMBERED
        return any(self._in_vain.get(each, 0.0) < since for each in missed)

    async def catch_up(self, missed: Collection[Missed]) -> None:
        """Reads both topics to their end and applies it, without holding up the event loop.

        A broker that does not answer is asked again, for some minutes; then its error is raised.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((TimeoutError, KafkaException)),
            wait=wait_exponential(multiplier=0.2, max=5),
            stop=stop_after_delay(_ALTOGETHER),
            before_sleep=before_sleep_log(log, logging.WARNING),
            reraise=True,
        )
        began = time.monotonic()
        await retrying(asyncio.to_thread, self._read)
        self.apply()
        recent = began - _REMEMBERED
        self._in_vain = {each: at for each, at in self._in_vain.items() if at > recent} | dict.fromkeys(missed, began)

    def _read(self) -> None:
        """Takes in everything that is on the two topics now. Blocks."""
        with self._lock:
            ends = {
                key: self._asking.get_watermark_offsets(TopicPartition(*key), timeout=_PATIENCE)
                for key in self._position
            }
            until = time.monotonic() + _PATIENCE
            while any(max(self._position[key], low) < high for key, (low, high) in ends.items()):
                self._take(0.05)
                if time.monotonic() > until:
                    raise TimeoutError("the programs and cut points could not be read to their end")

    async def follow(self) -> None:
        """Reads on, for ever; what is new is known within a second."""
        while True:
            await asyncio.to_thread(self._poll)
            self.apply()

    def _poll(self) -> None:
        with self._lock:
            self._take(0.0)
        time.sleep(0.1)

    def _take(self, timeout: float) -> None:
        for message in self._consumer.consume(1000, timeout):
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    log.warning("reading programs and cut points: %s", error.str())
                continue
            self._position[message.topic(), message.partition()] = message.offset() + 1
            _, timestamp = message.timestamp()
            self._keep(message.topic(), message.key(), message.value(), timestamp)

    def _keep(self, topic: str, key: bytes | None, value: bytes | None, timestamp: int) -> None:
        try:
            if topic == self._programs:
                self._inbox.append(announcements.read(key, value, timestamp))
            else:
                self._inbox.append(announcements.read_cut_points(value, timestamp))
        except BadEvent as error:
            # The sink makes the dead letter; a worker goes on with what it knew.
            log.error("a record on %s is left out: %s", topic, error)

    def close(self) -> None:
        """Ends its consumers."""
        self._consumer.close()
        self._asking.close()
