"""Fetches of a log that does not hold every offset: retention removed some, and some are no records."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as Place
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faust.types import TP

from runtime import kafka
from runtime.settings import Settings
from streams.worker.transport import SILENCE, ChunkThread, Fetching

pytestmark = pytest.mark.server


class Alone(ChunkThread):
    """A consumer's thread without Faust: it reads one partition by aiokafka, and counts how often it was moved."""

    def __init__(self, reading: AIOKafkaConsumer, at: TP) -> None:
        self._reading = reading
        self._at = at
        self.consumer = cast(Any, SimpleNamespace(flow_active=True, fetching=Fetching(SILENCE)))
        self._empty = {}
        self.moves = 0

    def _ensure_consumer(self) -> AIOKafkaConsumer:
        return self._reading

    async def _moved(self, consumer: Any, ours: Any) -> bool:
        moved = await super()._moved(consumer, ours)
        self.moves += moved
        return moved

    async def offsets(self, begins: int, seconds: float = 20) -> list[int]:
        """What comes from an offset on; a fetch that never ends fails."""
        async with asyncio.timeout(30):
            found = await self._fetch({self._at: begins}, seconds)
        return [record.offset for record in found.get(self._at, [])]


@pytest.fixture
def at(real_stream: Settings) -> TP:
    found = TP(real_stream.topic("log"), 0)
    admin = AdminClient(kafka.client_config(real_stream))
    for made in admin.create_topics([NewTopic(found.topic, 1, 1)]).values():
        made.result(20)
    return found


@asynccontextmanager
async def reading(settings: Settings, at: TP) -> AsyncIterator[Alone]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_servers(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        consumer.assign([Place(*at)])
        yield Alone(consumer, at)
    finally:
        await consumer.stop()


def put(producer: Producer, at: TP, count: int) -> None:
    for _ in range(count):
        producer.produce(at.topic, b"{}", "key", at.partition)
    assert producer.flush(20) == 0


def removed(settings: Settings, at: TP, before: int) -> None:
    """Lets everything go that stands before an offset."""
    admin = AdminClient(kafka.client_config(settings))
    for answer in admin.delete_records([TopicPartition(at.topic, at.partition, before)]).values():
        answer.result(20)


def test_what_retention_removed_is_passed(real_stream: Settings, at: TP) -> None:
    producer = Producer(kafka.producer_config(real_stream))
    put(producer, at, 10)
    removed(real_stream, at, 7)

    async def read() -> None:
        async with reading(real_stream, at) as thread:
            assert await thread.offsets(3) == [7, 8, 9]
            assert await thread.offsets(10, 0.2) == []

    asyncio.run(read())


def test_where_retention_left_nothing_the_next_record_is_waited_for(real_stream: Settings, at: TP) -> None:
    producer = Producer(kafka.producer_config(real_stream))
    put(producer, at, 10)
    removed(real_stream, at, 10)

    async def read() -> None:
        async with reading(real_stream, at) as thread:
            assert await thread.offsets(3, 0.2) == []
            moves = thread.moves
            assert await thread.offsets(3, 0.2) == []
            put(producer, at, 1)
            assert await thread.offsets(3) == [10]
            assert thread.moves == moves, "it was told once"

    asyncio.run(read())


def test_the_end_of_a_transaction_is_passed_once(real_stream: Settings, at: TP) -> None:
    producer = Producer({**kafka.producer_config(real_stream), "transactional.id": f"{at.topic}-tests"})
    producer.init_transactions(20)
    producer.begin_transaction()
    put(producer, at, 3)
    producer.commit_transaction(20)
    producer.begin_transaction()
    put(producer, at, 2)
    producer.abort_transaction(20)

    async def read() -> None:
        async with reading(real_stream, at) as thread:
            assert await thread.offsets(0) == [0, 1, 2]
            moves = thread.moves
            assert await thread.offsets(3, 0.2) == []
            assert await thread.offsets(3, 0.2) == []
            # Behind the end of the first, two that were taken back, and the end of these.
            put(Producer(kafka.producer_config(real_stream)), at, 1)
            assert await thread.offsets(3) == [7]
            assert await thread.offsets(8, 0.2) == []
            assert thread.moves == moves
            # What got lost on its way is fetched again.
            assert await thread.offsets(2) == [2, 7]
            assert await thread.offsets(3) == [7]

    asyncio.run(read())
