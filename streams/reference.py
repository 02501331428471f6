"""Programs and cut points, read to their end before any agent starts and followed from then on.

By a plain consumer: Faust's GlobalTable is known to loop in recovery. The two topics are small and never dropped.
"""

import asyncio
import logging
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from pydantic import ValidationError

from events import topics
from events.programs import CutPoints, Program
from runtime.settings import Settings
from tables.reference import Reference

log = logging.getLogger(__name__)

_PATIENCE = 30.0


class ReferenceReader:
    """Keeps a Reference current. Only the thread that calls `read` or `catch_up` changes it."""

    def __init__(self, settings: Settings, reference: Reference) -> None:
        self._reference = reference
        self._programs = settings.topic(topics.PROGRAMS)
        self._topics = (self._programs, settings.topic(topics.CUT_POINTS))
        self._lock = threading.Lock()
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_servers(),
                "group.id": f"{settings.group}-reference",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # Asking where the topics end waits behind the consumer's own long poll.
                "fetch.wait.max.ms": 20,
            }
        )
        self._position: dict[tuple[str, int], int] = {}

    def start(self) -> None:
        """Reads both topics to their end; TimeoutError if the broker does not answer for half a minute."""
        self._consumer.assign(
            [
                TopicPartition(topic, partition, OFFSET_BEGINNING)
                for topic in self._topics
                for partition in self._partitions(topic)
            ]
        )
        self.read()

    def _partitions(self, topic: str) -> list[int]:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            try:
                found = self._consumer.list_topics(topic, timeout=5).topics[topic]
                if found.error is None and found.partitions:
                    self._position.update(dict.fromkeys(((topic, number) for number in found.partitions), 0))
                    return list(found.partitions)
            except KafkaException as error:
                log.info("waiting for %s: %s", topic, error)
            time.sleep(0.2)
        raise TimeoutError(f"topic {topic} is not there: create the topics first (loyalnest topics create)")

    def read(self) -> None:
        """Takes in everything that is on the two topics now. Blocks; may be called from any one thread at a time."""
        with self._lock:
            ends = {
                key: self._consumer.get_watermark_offsets(TopicPartition(*key), timeout=_PATIENCE)
                for key in self._position
            }
            until = time.monotonic() + _PATIENCE
            while any(max(self._position[key], low) < high for key, (low, high) in ends.items()):
                self._take(0.05)
                if time.monotonic() > until:
                    raise TimeoutError("the programs and cut points could not be read to their end")

    async def catch_up(self) -> None:
        """As `read`, without holding up the event loop."""
        await asyncio.to_thread(self.read)

    async def follow(self) -> None:
        """Reads on, for ever; what is new is known within a second."""
        while True:
            await asyncio.to_thread(self._poll)

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
            self._apply(message.topic(), message.value())

    def _apply(self, topic: str, value: bytes | None) -> None:
        try:
            if topic == self._programs:
                self._reference.put_program(Program.model_validate_json(value or b""))
            else:
                self._reference.put_cut_points(CutPoints.model_validate_json(value or b""))
        except (ValidationError, ValueError) as error:
            # The sink makes the dead letter; a worker goes on with what it knew.
            log.error("a record on %s cannot be used: %s", topic, type(error).__name__)

    def close(self) -> None:
        self._consumer.close()
