"""The Faust app: two agents, thin coats around the folds of tables/."""

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import faust
from confluent_kafka import Producer
from faust.types import TP
from yarl import URL

from events import topics
from runtime import kafka, metrics
from runtime.settings import Settings
from streams import unreadable
from streams.guard import Guard
from streams.reference import ReferenceReader
from streams.transport import CHUNK, ChunkConsumer, ChunkTransport
from streams.unreadable import UnreadableBatch
from tables import chunks, windows
from tables.faust_tables import ChunkTable
from tables.reference import Reference

log = logging.getLogger(__name__)

#: Unforeseen exceptions of the folds that a worker survives, each as a dead letter; then a person has to look.
UNEXPECTED = 25


def stop_now(error: Exception) -> None:
    """Ends the process: what is not durable is folded again by whoever takes over.

    At once, without Faust's farewell: a graceful stop would wait for deliveries that will never come.
    """
    log.critical("the worker stops: %s: %s", type(error).__name__, error, exc_info=error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(1)


class Worker:
    """One worker's app, tables and agents."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.reference = Reference()
        self.reader = ReferenceReader(settings, self.reference)
        self.guard = Guard(Producer(kafka.producer_config(settings)), settings.topic, stop_now)
        self.windows: dict[int, windows.Partial] = {}
        self.unexpected = 0
        self._unreadable = unreadable.Limit()
        self._ready_file = settings.ready_file
        self.app = self._new_app()
        self.orders = self._new_table("orders")
        self.customers = self._new_table("customers")
        self._new_agent("orders", (topics.ORDERS,), self.orders, self._order_chunk)
        self._new_agent(
            "customers",
            (topics.ORDER_FACTS, topics.CUSTOMERS, topics.RESCORE),
            self.customers,
            self._customer_chunk,
        )
        self._new_tasks()

    def _new_app(self) -> faust.App:
        settings = self.settings
        settings.data.mkdir(parents=True, exist_ok=True)
        app = faust.App(
            f"{settings.topic_prefix}{settings.group}",
            broker=[URL(f"kafka://{server}") for server in settings.kafka_servers().split(",")],
            datadir=str(settings.data / "faust"),
            store="memory://",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            topic_partitions=settings.partitions,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=settings.worker_id,
            consumer_max_fetch_size=4 * 1024 * 1024,
            broker_session_timeout=settings.session_timeout,
            broker_heartbeat_interval=settings.session_timeout / 4,
            broker_commit_interval=1.0,
            stream_wait_empty=True,
            stream_recovery_delay=0.0,
        )
        unreadable.read_on()
        transport = ChunkTransport(app.conf.broker_consumer, app)
        app.transport = transport
        ChunkConsumer.guard = self.guard
        ChunkConsumer.chunk_records = settings.chunk_records
        return app

    def _new_table(self, name: str) -> ChunkTable:
        table = ChunkTable(
            self.app,
            name=name,
            partitions=self.settings.partitions,
            key_type=bytes,
            # Chunks, not records. Never 1: Faust then goes on reading the changelog after recovery, and would lay
            # our own older records over what has been folded since.
            recovery_buffer_size=8,
        )
        table.value_serializer = CHUNK
        table.on_broken = stop_now
        self.app.tables.add(table)
        return table

    def _order_chunk(self, partition: int) -> chunks.OrderChunk:
        values = self.orders.store.partition(partition)
        return chunks.OrderChunk(values, self.reference, partition, self.settings.partitions)

    def _customer_chunk(self, partition: int) -> chunks.CustomerChunk:
        values = self.customers.store.partition(partition)
        partial = self.windows.setdefault(partition, windows.Partial())
        return chunks.CustomerChunk(values, self.reference, partition, self.settings.partitions, partial)

    def _new_agent(
        self, name: str, sources: tuple[str, ...], table: ChunkTable, make: Callable[[int], chunks.Chunk]
    ) -> None:
        channel = self.app.topic(
            *map(self.settings.topic, sources), key_type=None, key_serializer="raw", value_serializer=CHUNK
        )

        async def agent(stream: Any) -> AsyncIterator[None]:
            async for event in stream.events():
                await self._fold(event.message, table, make)
                yield

        self.app.agent(channel, name=name)(agent)

    async def _fold(self, message: Any, table: ChunkTable, make: Callable[[int], chunks.Chunk]) -> None:
        """One chunk through its fold and on its way. From the last await to `submit` nothing may come between."""
        batch = list(self._received(message.value))
        await self.guard.room()
        self.reference.missed = False
        chunk = chunks.fold(lambda: make(message.partition), batch, self._spend)
        if self.reference.missed:
            await self.reader.catch_up()
            chunk = chunks.fold(lambda: make(message.partition), batch, self._spend)
        if not self.guard.accepting or message.generation_id != self.app.consumer_generation_id:
            return  # a rebalance came between: the chunk is fetched again by whoever holds the partition
        writes = chunk.finish()
        table.store.apply(message.partition, writes)
        self.guard.submit(
            TP(message.topic, message.partition),
            message.offset + 1,
            chunk.outputs,
            table.changelog_topic.get_topic_name(),
            writes,
            table.store.delivered,
        )
        metrics.RECORDS_FOLDED.labels(table.name).inc(len(batch))
        metrics.RECORDS_REROUTED.labels(table.name).inc(chunk.rerouted)

    def _received(self, records: list[Any]) -> Iterator[chunks.Received]:
        prefix = len(self.settings.topic_prefix)
        for record in records:
            place = record.topic[prefix:], record.partition
            if isinstance(record, UnreadableBatch):
                if self._unreadable.exceeded():
                    stop_now(record.error)
                yield chunks.Received(*place, record.first, record.timestamp, None, None, record.error)
            else:
                yield chunks.Received(*place, record.offset, record.timestamp, record.key, record.value)

    def _spend(self, received: chunks.Received, error: Exception) -> None:
        self.unexpected += 1
        where = f"{received.topic}[{received.partition}]@{received.offset}"
        log.error("an unforeseen exception at %s", where, exc_info=error)
        if self.unexpected > UNEXPECTED:
            stop_now(error)

    def _new_tasks(self) -> None:
        @self.app.task
        async def begin() -> None:
            self.guard.start()
            self.app.add_future(self.reader.follow())

        @self.app.on_rebalance_complete.connect
        async def recovered(sender: Any, **kwargs: Any) -> None:
            store = self.customers.store
            self.windows = {
                number: chunks.rebuild(values, self.reference) for number, values in store.partitions.items()
            }

        @self.app.timer(0.1)
        async def say_ready() -> None:
            if self._ready_file is not None and self.app.tables.actives_ready:
                self._ready_file.write_text(str(os.getpid()))
                self._ready_file = None
