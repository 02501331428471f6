"""Faust's Kafka transport, by pieces: one event for everything that a fetch brought of one partition.

Faust hands an agent one message at a time, at two asyncio tasks each; that is its slowest part by far. Here an event's
value is a Piece (sequence.py), as long as what has come, never waiting for more. The commit is guarded as well: Faust's
list of acknowledged offsets and its tree of gaps do not fit pieces, so one position per partition is committed, which
guard.py moves on once everything a piece caused is durable.

Every fetch begins where the sequence says. Faust and aiokafka let records go in several places while partitions move
(a fetch whose caller was cancelled, a queue that is cleared, a set of partitions that changes while a fetch waits);
whatever is lost there is fetched again, because nobody but the sequence says what is next.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError
from faust.serializers import codecs
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from events import topics
from streams.worker.guard import Guard
from streams.worker.sequence import Piece, Sequence

log = logging.getLogger(__name__)
T = TypeVar("T")

#: The codec of pieces: they pass as they are.
PIECE = "piece"

#: Pieces of a partition that may wait to be folded: while one is folded the next is there, and memory stays small.
_AHEAD = 3

#: How long a fetch waits for records (seconds), and how soon it is seen that there is something to fetch.
_FETCH_SECONDS = 1.0
_IDLE_SECONDS = 0.02


class Linger(NamedTuple):
    """How long the broker holds an answer back (milliseconds), unless there is so much to send (bytes)."""

    milliseconds: int
    bytes: int


#: The first record after a silence comes at once.
SILENCE: Final = Linger(1500, 1)

#: The embedded broker keeps an empty answer back until its time is over, whatever comes meanwhile.
EMBEDDED_SILENCE: Final = Linger(50, 1)

#: While there is traffic, what comes within a moment is fetched, folded and sent together: alone, an order costs worker
#: and broker several times what it costs among others.
TRAFFIC: Final = Linger(20, 64 * 1024)

#: After so long without a record there is silence (seconds).
TRAFFIC_SECONDS: Final = 0.5

#: While so many records as come in a BACKLOG are folded, which takes longer than this, nobody waits for what comes
#: next; asking for it all the time costs a fortieth of what folding does.
LAGGING: Final = Linger(100, 64 * 1024)
BACKLOG: Final = 1000


class Fetching:
    """What each fetch asks of the broker, after what the last ones brought."""

    def __init__(self, silence: Linger) -> None:
        self._silence = silence
        self._traffic_until = 0.0

    def linger(self, now: float, came: int) -> Linger:
        """Of the next fetch, when so many records came; `now` in seconds, of a clock that never goes back."""
        if came:
            self._traffic_until = now + TRAFFIC_SECONDS
        if came >= BACKLOG:
            return LAGGING
        return TRAFFIC if now < self._traffic_until else self._silence


class _PassThrough(codecs.Codec):
    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


codecs.register(PIECE, _PassThrough())


class OffsetBeyondEnd(RuntimeError):
    """A committed offset lies beyond the end of its log: the topic is not the one that was read."""


class ChunkThread(driver.AIOKafkaConsumerThread):
    """The thread around aiokafka's consumer. Its public methods are called on the event loop of the agents."""

    consumer: "ChunkConsumer"

    def __post_init__(self) -> None:
        super().__post_init__()
        #: Where partitions stand before offsets that hold no record: the first of these, and that behind the last.
        self._empty: dict[TP, tuple[int, int]] = {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Faust's, which would also take what somebody's transaction wrote and took back. The sink does not."""
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer

    async def fetch(self, wanted: Mapping[TP, int], seconds: float) -> dict[TP, list[Any]]:
        """What has come of each of these partitions from its offset on; empty after so long without any.

        Raises OffsetBeyondEnd.
        """
        return await self._there(self._fetch(wanted, seconds))

    async def starts(self, partitions: set[TP], changelogs: set[TP]) -> dict[TP, int]:
        """Where each partition begins: at what is committed, or at its log's start where nothing is.

        The changelogs are not fetched by this consumer: changelogs.py reads them. Raises OffsetBeyondEnd.
        """
        return await self._there(self._starts(partitions, changelogs))

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        """On the thread's loop. Not by Faust's queue of calls: it takes two at a time, and a commit must not wait."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))

    async def _fetch(self, wanted: Mapping[TP, int], seconds: float) -> dict[TP, list[Any]]:
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        deadline = time.monotonic() + seconds
        while self.consumer.flow_active and not fetcher._subscriptions.reassignment_in_progress:
            if consumer._closed or fetcher._closed:
                raise ConsumerStoppedError
            with fetcher._subscriptions.fetch_context():
                ours = {tp: at for tp, at in wanted.items() if tp in consumer.assignment()}
                if await self._moved(consumer, ours):
                    continue
                # Without a timeout it takes what is there and never waits: between the look at the positions and the
                # taking nothing else can run on this loop.
                found = await fetcher.fetched_records(ours.keys(), timeout=0) if ours else {}
                self._note_empty(consumer, ours, found)
                left = deadline - time.monotonic()
                linger = self.consumer.fetching.linger(time.monotonic(), sum(map(len, found.values())))
                fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes = linger
                if found or left <= 0:
                    return {TP(*tp): records for tp, records in found.items()}
                waiter = fetcher._create_fetch_waiter()
                await asyncio.wait([waiter], timeout=left)
                if not waiter.done():
                    waiter.cancel()
        return {}

    async def _moved(self, consumer: Any, ours: Mapping[TP, int]) -> bool:
        """Whether aiokafka stood elsewhere than at what is to come; then it was moved, and others ran meanwhile."""
        astray = [
            tp
            for tp, state in _states(consumer, ours).items()
            if not state.has_valid_position or state.position != self._held_from(tp, ours[tp])
        ]
        if not astray:
            return False
        first, end = await asyncio.gather(consumer.beginning_offsets(astray), consumer.end_offsets(astray))
        for tp in astray:
            offset = ours[tp]
            _check_end(tp, offset, end[tp])
            if first[tp] > offset:
                log.error("%s[%s]: retention removed the offsets %s to %s unread", *tp, offset, first[tp] - 1)
            self._empty[tp] = offset, max(offset, first[tp])
            if tp in consumer.assignment():
                consumer.seek(tp, max(offset, first[tp]))
        return True

    def _note_empty(self, consumer: Any, ours: Mapping[TP, int], found: Mapping[Any, list[Any]]) -> None:
        """aiokafka passes over what is no record (the end of a transaction, what one took back) and tells nobody: sent
        back to what is to come it would do so again, without end."""
        for tp, state in _states(consumer, ours).items():
            at = found[tp][-1].offset + 1 if tp in found else ours[tp]
            if state.position > at:
                self._empty[tp] = at, state.position

    def _held_from(self, tp: TP, offset: int) -> int:
        """Where the next record may be: at this offset, or behind those that are known to hold none."""
        first, end = self._empty.get(tp, (offset, offset))
        return end if first == offset else offset

    async def _starts(self, partitions: set[TP], changelogs: set[TP]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        ours = consumer.assignment()
        consumer.pause(*(TopicPartition(*tp) for tp in changelogs & ours))
        asked = [TopicPartition(*tp) for tp in partitions & ours]
        if not asked:
            return {}
        committed = await consumer._coordinator.fetch_committed_offsets(asked)
        first, end = await asyncio.gather(consumer.beginning_offsets(asked), consumer.end_offsets(asked))
        starts = {}
        for tp in asked:
            at = committed[tp].offset if tp in committed else -1
            _check_end(tp, at, end[tp])
            starts[TP(*tp)] = first[tp] if at < 0 else at
        return starts


def _states(consumer: Any, partitions: Iterable[TP]) -> dict[TP, Any]:
    assignment = consumer._subscription.subscription.assignment
    return {tp: assignment.state_value(tp) for tp in partitions}


def _check_end(tp: Any, offset: int, end: int) -> None:
    if offset > end:
        raise OffsetBeyondEnd(
            f"{tp.topic}[{tp.partition}] ends at {end}, but what stands before {offset} was folded: the topic was made"
            " anew. If that was meant, rebuild (loyalnest rebuild)"
        )


class ChunkConsumer(driver.Consumer):
    """A consumer that yields pieces and commits what the guard vouches for."""

    guard: Guard  # given by the app before anything starts
    sequence: Sequence
    chunk_records: int
    fetching: Fetching
    on_failure: Callable[[Exception], None]
    _thread: ChunkThread

    def _new_consumer_thread(self) -> ChunkThread:
        return ChunkThread(self, loop=self.loop, beacon=self.beacon)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Never without the changelogs: the group gives out a table's partitions with those of what is folded into it
        only while all its members want both. Faust would also join where it is ended before its tables are there."""
        wanted = set(topics)
        if wanted >= self.app.tables.changelog_topics:
            await super().subscribe(wanted)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 (Faust's signature)
        """Chunks of the partitions that are wanted, each as one event; at most `timeout` seconds."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        asked = self.sequence.wanted(self._get_active_partitions(), _AHEAD * self.chunk_records)
        if self.should_stop or not asked:
            await self.sleep(_IDLE_SECONDS)
            return
        try:
            found = await self._thread.fetch({tp: offset for tp, (_, offset) in asked.items()}, _FETCH_SECONDS)
        except OffsetBeyondEnd as error:
            self.on_failure(error)
            raise
        for tp, records in found.items():
            # One record of a batch run concerns a thousand customers: a fold of many would hold up the loop.
            most = 1 if tp.topic.endswith(topics.RESCORE) else self.chunk_records
            for start in range(0, len(records), most):
                piece = self.sequence.fetched(tp, asked[tp], records[start : start + most])
                if piece is None:
                    break
                asked[tp] = piece.run, piece.ends
                self._read_offset[tp] = None  # Faust's own notion of what is next, which would drop what comes again
                yield tp, self._message(tp, piece)

    def _message(self, tp: TP, piece: Piece) -> ConsumerMessage:
        last = piece.records[-1]
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000.0,
            timestamp_type=0,
            headers=None,
            key=None,
            value=piece,
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def starts(self) -> dict[TP, int]:
        """Where each of our partitions begins once the tables are recovered; OffsetBeyondEnd for another log."""
        ours = self.assignment()
        changelogs = {tp for tp in ours if self._is_changelog_tp(tp)}
        self._committed_offset.clear()
        return await self._thread.starts(ours - changelogs, changelogs)

    def ack(self, message: Any) -> bool:
        """The stream is done with the event; what counts is when the guard is."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Gaps (compaction, control records) need no bookkeeping when one position is committed."""

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commits the guard's positions; the commit handler calls it on its interval."""
        positions = {
            tp: offset
            for tp, offset in self.guard.positions.items()
            if self._committed_offset.get(tp) != offset and tp in self.assignment()
        }
        if not positions:
            return False
        committed = bool(await self._commit(positions))
        if committed:
            self._committed_offset.update(positions)
        return committed

    async def wait_empty(self) -> None:
        """Before partitions are given up, and at a stop: everything in flight is delivered, then committed."""
        self.sequence.clear()
        await self.guard.drain()
        await self.commit()
        self.guard.positions.clear()


class ChunkTransport(driver.Transport):
    """Faust's aiokafka transport with the chunk consumer."""

    Consumer: ClassVar[type] = ChunkConsumer
