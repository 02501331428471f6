"""A piece of a log through its fold and on its way: what an agent does, without Faust and without a broker.

The one rule of this file: nothing leaves a fold but through the guard. A piece is folded and submitted whole, or it is
skipped because it is not what comes next (then the fetch goes back, streams/worker/sequence.py), or an exception leaves
`fold` and the process ends. There is no other way out.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from faust.types import TP

from events import topics
from runtime import metrics
from streams import unreadable
from streams.unreadable import UnreadableBatch
from streams.worker.guard import Changelog, Guard
from streams.worker.sequence import Piece, Sequence
from tables import chunks
from tables.reference import Missed, Reference
from tables.state import TableState, Writes

log = logging.getLogger(__name__)

#: Unforeseen exceptions of the folds that a worker survives, each as a dead letter; then a person has to look.
UNEXPECTED = 25


class Reader(Protocol):
    """Keeps the reference current (streams/worker/reference.py)."""

    def apply(self) -> None:
        """Takes in what was read since; between two chunks."""

    def is_worth_reading(self, missed: set[Missed]) -> bool:
        """Whether any of these may be there by now."""

    async def catch_up(self, missed: set[Missed]) -> None:
        """Reads to the end of the topics, for these. TimeoutError or KafkaException if it cannot."""


async def _stands(_number: int) -> bool:
    return True


@dataclass
class Table:
    """A table: its name, its changelog, what it holds, and how a partition of it takes a chunk."""

    name: str
    changelog: str
    make: Callable[[int], chunks.Chunk]
    state: TableState = field(default_factory=TableState)
    #: Waits for what chunks of a partition build on; False when the partition is ours no longer.
    stand: Callable[[int], Awaitable[bool]] = _stands
    #: Hears of records in the changelog that are not ours: (partition, offsets).
    on_gaps: Callable[[int, list[range]], None] = lambda number, gaps: None


class Folder:
    """Folds what comes, in its order, and hands what it causes to the guard."""

    def __init__(
        self, reference: Reference, reader: Reader, guard: Guard, sequence: Sequence, prefix: str = ""
    ) -> None:
        self.reference = reference
        self.reader = reader
        self.guard = guard
        self.sequence = sequence
        self._prefix = prefix
        self._unexpected = 0
        self._unreadable = unreadable.Limit()

    async def fold(self, table: Table, tp: TP, piece: Piece) -> bool:
        """Folds a piece and submits it; False if it was not what comes next. From the last await nothing comes between.

        Whatever it raises must end the process: the piece is then folded again by whoever takes over.
        """
        await self.guard.room()
        self.reader.apply()
        if not await table.stand(tp.partition) or not self._is_next(tp, piece):
            return False
        batch = list(self._received(piece.records))
        chunk = self._chunk(table, tp, batch)
        missed = set(self.reference.missed)
        # Whoever wrote the account log knew. What one run refuses there, and another does not, would be decided twice.
        surely = tp.topic == self._prefix + topics.ACCOUNT_FACTS
        if missed and (surely or self.reader.is_worth_reading(missed)):
            await self.reader.catch_up(missed)
            if not await table.stand(tp.partition) or not self._is_next(tp, piece):
                return False
            chunk = self._chunk(table, tp, batch)
        state = table.state.partition(tp.partition)
        if state.token is None:
            raise RuntimeError(f"{table.name}[{tp.partition}] is folded before it is ours")
        writes = chunk.finish()
        state.apply(writes)
        self.sequence.folded(tp, piece)
        self.guard.submit((tp, piece.ends), chunk.outputs, self.changelog(table, tp.partition), writes)
        metrics.RECORDS_FOLDED.labels(table.name).inc(len(batch))
        metrics.RECORDS_REROUTED.labels(table.name).inc(chunk.rerouted)
        metrics.RECORDS_IGNORED.labels(table.name).inc(chunk.ignored)
        return True

    def changelog(self, table: Table, number: int) -> Changelog:
        """Where a partition's writes go, under its present owner's token."""
        state = table.state.partition(number)
        assert state.token is not None

        def kept(offsets: list[int], writes: Writes) -> None:
            gaps = state.delivered(offsets, writes)
            if gaps:
                table.on_gaps(number, gaps)

        return Changelog(table.changelog, number, state.token, kept)

    def write_again(self, table: Table, number: int, keys: set[str]) -> None:
        """What the changelog has last for these keys counts nowhere: what does count is put after it."""
        if not keys:
            return
        state = table.state.partition(number)
        log.warning("%s[%s]: records of a former owner under %s keys", table.changelog, number, len(keys))
        values: Writes = {key: state.values[key] for key in sorted(keys) if key in state.values}
        gone: Writes = {key: None for key in sorted(keys) if key not in state.values}
        state.apply(values | gone)
        self.guard.submit(None, [], self.changelog(table, number), values | gone)
        state.strays -= keys

    def _is_next(self, tp: TP, piece: Piece) -> bool:
        if self.guard.failed:
            return False
        gaps = self.sequence.gaps
        if self.sequence.is_next(tp, piece):
            return True
        if self.sequence.gaps > gaps:
            log.warning("%s[%s]: offsets before %s did not come; reading them again", *tp, piece.begins)
            metrics.GAPS.labels(tp.topic[len(self._prefix) :]).inc()
        return False

    def _chunk(self, table: Table, tp: TP, batch: list[chunks.Received]) -> chunks.Chunk:
        self.reference.missed.clear()
        return chunks.fold(lambda: table.make(tp.partition), batch, self._spend)

    def _received(self, records: list[chunks.Received | UnreadableBatch]) -> Iterator[chunks.Received]:
        for record in records:
            if isinstance(record, UnreadableBatch):
                stands_for, error = record.received, record.received.error
                if error is not None and self._unreadable.exceeded():
                    raise error
                yield stands_for
            else:
                yield record

    def _spend(self, received: chunks.Received, error: Exception) -> None:
        self._unexpected += 1
        where = f"{received.topic}[{received.partition}]@{received.offset}"
        log.error("an unforeseen exception at %s", where, exc_info=error)
        if self._unexpected > UNEXPECTED:
            raise error
