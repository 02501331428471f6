"""The Faust app: two agents, thin coats around streams/worker/folding.py."""

import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import faust
from confluent_kafka import Producer
from faust.types import TP
from mode import CrashingSupervisor
from yarl import URL

from events import topics
from runtime import kafka
from runtime.settings import Settings
from streams import unreadable
from streams.worker.changelogs import ChangelogReader
from streams.worker.folding import Folder, Table
from streams.worker.guard import Guard
from streams.worker.recovery import Recovery
from streams.worker.reference import ReferenceReader
from streams.worker.sequence import Sequence
from streams.worker.stored import Store
from streams.worker.transport import EMBEDDED_SILENCE, PIECE, SILENCE, ChunkConsumer, ChunkTransport, Fetching
from streams.worker.windows import Kept, PartialWindows
from tables import chunks
from tables.reference import Reference
from tables.state import PartitionState, TableState

log = logging.getLogger(__name__)


def stop_now(error: BaseException) -> None:
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
        self.producer = Producer(kafka.producer_config(settings))
        self.guard = Guard(self.producer, settings.topic, stop_now)
        self.sequence = Sequence()
        self.folder = Folder(self.reference, self.reader, self.guard, self.sequence, settings.topic_prefix)
        self.changelogs = ChangelogReader(settings, stop_now)
        self._ready_file = settings.ready_file
        self.app = self._new_app()
        in_files = (
            settings.store == "rocksdb" and not settings.journal
        )  # an embedded broker's logs begin anew each time
        self._store = Store(settings.tables, settings.store_cache_mib) if in_files else None
        self.orders = self._new_table("orders", self._order_chunk)
        self.customers = self._new_table("customers", self._customer_chunk)
        tables = (self.orders, self.customers)
        self.windows = PartialWindows(self.reference, Kept(self.folder, self.customers, self._fence))
        self.customers.stand = self.windows.stand
        self.app.tables._recovery = Recovery(
            self.app,
            self.folder,
            tables,
            self.changelogs,
            self.windows.prepare,
            stop_now,
            beacon=self.app.tables.beacon,
        )
        self._new_agent(self.orders, topics.ORDERS, topics.REQUESTS)
        self._new_agent(self.customers, topics.ACCOUNT_FACTS, topics.CUSTOMERS, topics.RESCORE)
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
        )
        unreadable.read_on(settings.topic_prefix)
        transport = ChunkTransport(app.conf.broker_consumer, app)
        app.transport = transport
        ChunkConsumer.guard = self.guard
        ChunkConsumer.sequence = self.sequence
        ChunkConsumer.chunk_records = settings.chunk_records
        ChunkConsumer.fetching = Fetching(EMBEDDED_SILENCE if settings.journal else SILENCE)
        ChunkConsumer.on_failure = staticmethod(stop_now)
        return app

    def _new_table(self, name: str, make: Callable[[int], chunks.Chunk]) -> Table:
        """A table. Faust knows it by name alone: whoever gets a partition gets that of its changelog as well."""
        known = faust.Table(self.app, name=name, partitions=self.settings.partitions, key_type=bytes)
        self.app.tables.add(known)
        changelog = known.changelog_topic.get_topic_name()
        return Table(name, changelog, make, TableState(self._new_state(name, changelog)))

    def _new_state(self, table: str, changelog: str) -> Callable[[int], PartitionState]:
        store = self._store
        if store is None:
            return lambda _: PartitionState()
        log = kafka.topic_id(self.settings, changelog)
        return lambda number: store.state(table, number, log)

    def close(self) -> None:
        """What the tables know stays in their files, if they have any."""
        for table in (self.orders, self.customers):
            table.state.keep_only(())

    def _order_chunk(self, partition: int) -> chunks.OrderChunk:
        values = self.orders.state.partition(partition).values
        return chunks.OrderChunk(values, self.reference, partition, self.settings.partitions)

    def _customer_chunk(self, partition: int) -> chunks.CustomerChunk:
        values = self.customers.state.partition(partition).values
        partial, fence = self.windows.partial(partition), self._fence(partition)
        return chunks.CustomerChunk(values, self.reference, partition, self.settings.partitions, partial, fence)

    def _fence(self, partition: int) -> int:
        """What the rows of a partition's present owner carry."""
        token = self.customers.state.partition(partition).token
        # Embedded there is one worker, and its broker's offsets begin anew with each life.
        return 0 if self.settings.journal or token is None else token

    def _new_agent(self, table: Table, *sources: str) -> None:
        channel = self.app.topic(
            *map(self.settings.topic, sources), key_type=None, key_serializer="raw", value_serializer=PIECE
        )

        async def agent(stream: Any) -> AsyncIterator[None]:
            async for event in stream.events():
                message = event.message
                try:
                    await self.folder.fold(table, TP(message.topic, message.partition), message.value)
                except Exception as error:
                    # Faust would start the agent again, with the next event.
                    stop_now(error)
                    raise
                yield

        self.app.agent(channel, name=table.name, supervisor_strategy=CrashingSupervisor)(agent)

    def lag(self) -> int:
        """Records between what is durable and the ends of the topics that this worker reads, as last heard of."""
        consumer, behind = self.app.consumer, 0
        for tp in consumer.assignment():
            end, at = consumer.highwater(tp), self.guard.positions.get(tp, consumer._committed_offset.get(tp))
            if not consumer._is_changelog_tp(tp) and end is not None and at is not None:
                behind += max(end - at, 0)
        return behind

    def _new_tasks(self) -> None:
        @self.app.task
        async def begin() -> None:
            self.app.add_future(self._follow(self.reader.follow))
            self.app.add_future(self._follow(self.windows.follow))

        @self.app.timer(0.1)
        async def say_ready() -> None:
            if self._ready_file is not None and self.app.tables.actives_ready:
                self._ready_file.write_text(str(os.getpid()))
                self._ready_file = None

        @self.app.timer(15.0)
        async def heed_what_stands_still() -> None:
            for tp in self.sequence.go_back_where_nothing_moves():
                log.warning("%s[%s]: nothing was folded for a while; reading again from there", *tp)

    async def _follow(self, follow: Callable[[], Awaitable[None]]) -> None:
        try:
            await follow()
        except Exception as error:
            stop_now(error)
