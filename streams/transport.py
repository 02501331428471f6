"""Faust's Kafka transport, by chunks: one event for everything that a fetch brought of one partition.

Faust hands an agent one message at a time, at two asyncio tasks each; that is its slowest part by far. Here an event's
value is the list of records (aiokafka's ConsumerRecord), and a chunk is as long as what has come, never waiting for
more. The commit is guarded as well: Faust's list of acknowledged offsets and its tree of gaps do not fit chunks, so one
position per partition is committed, which streams/guard.py moves on once everything a chunk caused is durable.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from faust.serializers import codecs
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.guard import Guard

#: The codec of chunks: they pass as they are.
CHUNK = "chunk"


class _PassThrough(codecs.Codec):
    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, s: Any) -> Any:
        return s


codecs.register(CHUNK, _PassThrough())


class ChunkConsumer(driver.Consumer):
    """A consumer that yields chunks and commits what the guard vouches for."""

    guard: Guard  # given by the app before anything starts
    chunk_records: int

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 (Faust\'s signature)
        records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        generation = self.app.consumer_generation_id
        for tp, batch in records.items():
            for start in range(0, len(batch), self.chunk_records):
                # A rebalance between two chunks makes the rest stale: it is fetched again from what was committed.
                if not self.flow_active or generation != self.app.consumer_generation_id:
                    return
                if active is None or tp in active or tp in self._buffered_partitions:
                    yield tp, self._chunk(tp, batch[start : start + self.chunk_records])

    def _chunk(self, tp: TP, records: list[Any]) -> ConsumerMessage:
        last = records[-1]
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000.0,
            timestamp_type=last.timestamp_type,
            headers=None,
            key=None,
            value=records,
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Back to what is committed, after a rebalance; to the beginning where nothing is.

        aiokafka leaves a partition that was never committed where it stands, and that may be behind records which
        were fetched while the flow stood still, and thrown away.
        """
        committed: Mapping[TP, int] = await super().seek_to_committed()
        never = [tp for tp, offset in committed.items() if not offset or offset < 0]
        never = [tp for tp in never if not self._is_changelog_tp(tp)]
        if never:
            # By offset: aiokafka's own seek to the beginning waits for its fetcher, which may wait for us.
            await self._thread.seek_wait(await self._thread.earliest_offsets(*never))
        return committed

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
        self.guard.suspend()
        await self.guard.drain()
        await self.commit()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.guard.resume()
        await super().on_partitions_assigned(assigned, generation_id)


class ChunkTransport(driver.Transport):
    """Faust's aiokafka transport with the chunk consumer."""

    Consumer: ClassVar[type] = ChunkConsumer
