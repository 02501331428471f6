"""Record batches that cannot be read: a codec nobody knows, bytes that do not decompress, a checksum that fails.

aiokafka raises out of the fetch, which ends the worker, and the batch is there again after its restart; librdkafka
stands still before it without end. Here a batch becomes one record that stands for it in the worker, and the folds make
a dead letter of that. The sink steps over it.

What can be read is made into what the folds take at once: aiokafka's own record of eleven fields, made only to be
copied, would cost half of what its fetching does.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from confluent_kafka import KafkaError

from events.errors import BadEvent
from tables.chunks import Received

log = logging.getLogger(__name__)

#: Batches that a process passes over in a minute; past it, it is not the batches that are wrong.
LIMIT: Final = 25

#: A batch whose checksum fails may not know its own length: beyond this many records it is not believed.
_PLAUSIBLE: Final = 1_000_000

#: What librdkafka says at a batch that it will never get past by itself.
CODES: Final = frozenset({KafkaError._NOT_IMPLEMENTED, KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})


def bad_event(last: int, cause: str) -> BadEvent:
    """What a dead letter says of a batch that ends with offset `last`."""
    return BadEvent("unreadable", f"a record batch, up to offset {last}, cannot be read: {cause}")


class Limit:
    """Whether something happens too often: more than `count` times within `seconds`."""

    def __init__(self, count: int = LIMIT, seconds: float = 60.0) -> None:
        self._count = count
        self._seconds = seconds
        self._times: deque[float] = deque()

    def exceeded(self) -> bool:
        """Counts one more, now."""
        now = time.monotonic()
        self._times.append(now)
        while self._times[0] < now - self._seconds:
            self._times.popleft()
        return len(self._times) > self._count


class UnreadableBatch(NamedTuple):
    """What of a log cannot be read, up to and with `offset`; `received` stands for it."""

    offset: int
    timestamp: int  # milliseconds
    received: Received


class _Batches:
    """aiokafka's MemoryRecords, remembering the batch that was taken last."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.last: Any = None

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        self.last = None  # should the header itself be broken
        self.last = self._records.next_batch()
        return self.last


class ReadablePartitionRecords(fetcher.PartitionRecords):
    """What a fetch brought of a partition: as Received, and an UnreadableBatch in place of what cannot be read.

    `prefix` is that of the topics' names.
    """

    next_fetch_offset: int

    def __init__(self, prefix: str, tp: Any, records: Any, *args: Any) -> None:
        self._batches = _Batches(records)
        self._topic, self._partition = tp.topic[len(prefix) :], tp.partition
        super().__init__(tp, self._batches, *args)

    def _unpack_records(self) -> Iterator[Received | UnreadableBatch]:
        while True:
            try:
                yield from super()._unpack_records()
            except Exception as error:
                yield self._stand_in(error)
                if self._batches.last is None:
                    return  # where the next one begins is not known: fetched anew
            else:
                return

    def _consumer_record(self, _tp: Any, record: Any) -> Received:
        return Received(self._topic, self._partition, record.offset, record.timestamp, record.key, record.value)

    def _stand_in(self, error: Exception) -> UnreadableBatch:
        first: int = self.next_fetch_offset
        batch = self._batches.last
        last, timestamp = first, 0
        if batch is not None and first < batch.next_offset <= batch.base_offset + _PLAUSIBLE:
            last, timestamp = batch.next_offset - 1, max(batch.max_timestamp, 0)
        self.next_fetch_offset = last + 1
        where = f"{self._tp.topic}[{self._tp.partition}]@{first} to {last}"
        log.error("a record batch cannot be read, and is passed: %s: %s: %s", where, type(error).__name__, error)
        bad = bad_event(last, type(error).__name__)
        return UnreadableBatch(
            last, timestamp, Received(self._topic, self._partition, first, timestamp, None, None, bad)
        )


def read_on(prefix: str) -> None:
    """From here on this process's aiokafka gives what the folds take, and goes on past what cannot be read."""
    # aiokafka makes them by this name and has no setting for it.
    fetcher.PartitionRecords = partial(ReadablePartitionRecords, prefix)
