"""The pump: from the raw history into the embedded broker, in the order of commits, never too far ahead.

Embedded, an input is durable once it stands in `raw_events`; the broker only carries it on. Each broker's life
begins with a replay of everything, so the pump keeps its cursor in memory.
"""

import logging
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import psycopg
from confluent_kafka import KafkaError, Message, Producer

from events import codec, instants, keys, letters, topics
from events.errors import BadEvent
from runtime import database, kafka
from runtime.ports import PublishError
from runtime.progress import JOURNAL, JOURNAL_CHANNEL, Gauge, Place, Progress
from runtime.settings import Settings

log = logging.getLogger(__name__)

#: Messages that the readers of one partition (of all topics) may together be behind. The worker makes of an input at
#: most three records in one topic (its windows), of some 400 bytes each, to the same partition; so what of one topic
#: can be unread in a partition stays below the 5 MiB that the broker keeps, even should the sink stand still.
MAX_BEHIND: Final = 4000

#: Bytes of inputs that may be unread in one partition.
MAX_BYTES: Final = 2_500_000

#: The broker loses a batch that displaces all others of its partition, so two of the largest must fit: nothing that is
#: longer as it is sent goes in. A body of 10 MB is sent compressed, to some tenth of its length.
MAX_RECORD: Final = 2_500_000

#: Messages of more bytes than this are sent compressed; for small ones it costs more than it saves.
PLAIN: Final = 200_000

#: What the worker reads by itself, beside the topics of its chunks.
_REFERENCE: Final = (topics.PROGRAMS, topics.CUT_POINTS)

#: What the account log is told of by: once the worker is done with it, it stands there.
_TELLING: Final = (topics.ORDERS, topics.REQUESTS, topics.CUSTOMERS)

_START: Final = ("0", 0)

#: The pump reads no more often than this (seconds): what it adds to the delay of a webhook, at most.
_PACE: Final = 0.02

#: How long an idle pump waits for word of a commit (seconds) before it looks by itself, and whether it is to end.
IDLE: Final = 0.2
_RETRY: Final = 1.0

# An id is drawn before its transaction commits, so `id > last` would lose late commits. Transactions below the
# oldest one still running are over, and no later one can be below it.
_NEXT = """
SELECT xid::text AS cursor, id, stream, key, size, CASE WHEN size <= %(record)s THEN value END, received_at
FROM (
    SELECT *, octet_length(value) AS size,
           sum(octet_length(value)) OVER (ORDER BY xid, id) - octet_length(value) AS before
    FROM (
        SELECT xid, id, stream, key, value, received_at FROM raw_events
        WHERE (xid, id) > (%(xid)s::xid8, %(id)s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
          AND stream <> ALL(%(skip)s)
        ORDER BY xid, id LIMIT %(rows)s
    ) AS next
) AS sized
WHERE before < %(bytes)s
ORDER BY sized.xid, id
"""

_WAITS = """
SELECT FROM raw_events WHERE (xid, id) > (%(xid)s::xid8, %(id)s) AND stream <> ALL(%(skip)s) LIMIT 1
"""

_LISTEN: Final = f"LISTEN {JOURNAL_CHANNEL}".encode()

_REMAINING = """
SELECT count(*) FROM raw_events WHERE (xid, id) > (%(xid)s::xid8, %(id)s) AND stream <> ALL(%(skip)s)
"""


#: The first program of each shop. A replay begins with them: what came before its shop was added has been brought in
#: since, and must not be refused once more.
_FIRST = """
SELECT DISTINCT ON (shop) key, value, received_at FROM raw_events
WHERE stream = %(programs)s AND stream <> ALL(%(skip)s) AND xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY shop, xid, id
"""


#: So that who brings much in at once sees how much is waiting.
_NOTE = """
INSERT INTO sink_positions (incarnation, topic, partition, next_offset) VALUES (%s, %s, 0, %s)
ON CONFLICT (incarnation, topic, partition) DO UPDATE SET next_offset = excluded.next_offset
"""


class Bounds(NamedTuple):
    """How much a pump puts into its broker.

    `rows` and `row_bytes` of one read, in messages (`behind`) and bytes (`unread_bytes`) what readers may be behind in
    one partition, in bytes the longest `record`.
    """

    rows: int
    row_bytes: int
    behind: int
    unread_bytes: int
    record: int


EMBEDDED: Final = Bounds(500, 1_000_000, MAX_BEHIND, MAX_BYTES, MAX_RECORD)

#: Kafka keeps what it is given: only so far ahead that nobody waits for the pump and what is next is still in memory.
#: (Fed 14,000 to 17,000 messages a second instead of 1,000, beside a worker and a sink on two busy cores.)
KAFKA: Final = Bounds(5_000, 16_000_000, 50_000, 200_000_000, topics.MAX_MESSAGE_BYTES)


class Row(NamedTuple):
    """A row of the journal: `size` is its length as it is sent; `value` is None where that is too much."""

    xid: str
    id: int
    stream: str
    key: str
    size: int
    value: bytes | None
    received_at: Any


class Weight(NamedTuple):
    """What a slice of the journal puts on each partition: messages and bytes."""

    messages: Counter[int]
    size: Counter[int]


class Slice(NamedTuple):
    """What is in the broker by one read of the journal: up to where, and its bytes by partition."""

    ends: dict[Place, int]
    size: Counter[int]


def _oversize(row: Row) -> tuple[str, bytes]:
    """The dead letter in place of a row that the embedded broker cannot carry."""
    found = letters.letter(
        str(uuid5(NAMESPACE_URL, f"loyalnest:oversize:{row.xid}:{row.id}")),
        instants.from_datetime(row.received_at),
        row.stream,
        BadEvent(
            "too_large", f"{row.size} bytes, compressed, are more than the embedded broker carries ({MAX_RECORD})"
        ),
        key=row.key,
    )
    return topics.DEAD_LETTERS, codec.dumps(found)


class Pump(threading.Thread):
    """Feeds one broker. `error` is what ended it early; None while it runs or after `stop`.

    `skip` names streams that are left out; a record that is sent as more bytes than the bounds' becomes a dead
    letter. `sent` counts what went to each partition.
    """

    def __init__(
        self, settings: Settings, partitions: int, skip: Iterable[str] = (), bounds: Bounds = EMBEDDED
    ) -> None:
        super().__init__(name="journal", daemon=True)
        self._settings = settings
        self._partitions = partitions
        self._skip = list(skip)
        self._bounds = bounds
        self._producer: Any = Producer(kafka.producer_config(settings))
        self._compressing: Any = Producer(kafka.producer_config(settings) | {"compression.type": "gzip"})
        self._cursor = _START
        self._room: Counter[int] = Counter()
        self._unread: deque[Slice] = deque()
        # Not `_stop`: threading.Thread has a method of that name.
        self._ending = threading.Event()
        self.pumped = 0
        self.sent: Counter[Place] = Counter()
        #: Whether history has been told, so that what comes from now on is decided (tables/asking.py).
        self.live = False
        self._history: dict[Place, int] | None = None
        self.error: Exception | None = None

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._ending.set()
        self.join(timeout=15)

    def remaining(self, connection: psycopg.Connection[Any]) -> int:
        """Rows of the journal that are not in the broker yet."""
        xid, ident = self._cursor
        row = connection.execute(_REMAINING, {"xid": xid, "id": ident, "skip": self._skip}).fetchone()
        return int(row[0]) if row else 0

    def run(self) -> None:
        """The thread: until `stop`, or an error that it does not get over (`error`)."""
        try:
            gauge = Gauge(self._settings)
            while not self._ending.is_set():
                try:
                    # No time limit: the first look goes through a whole history.
                    with database.connect(
                        self._settings.database_url(), "loyalnest journal", statement_seconds=0, autocommit=True
                    ) as connection:
                        connection.execute(_LISTEN)
                        self._begin(connection)
                        self._pump(connection, gauge)
                except psycopg.OperationalError as error:
                    log.warning("the journal waits for the database: %s", error)
                    self._ending.wait(_RETRY)
            gauge.close()
        except Exception as error:
            log.exception("the journal stopped")
            self.error = error

    def _begin(self, connection: psycopg.Connection[Any]) -> None:
        if self.live or self._cursor != _START:
            return
        self._tell("replay")
        asked = {"programs": topics.PROGRAMS, "skip": self._skip}
        failed: list[KafkaError] = []
        for key, value, received_at in connection.execute(_FIRST, asked):
            report = lambda error, _: failed.append(error) if error else None  # noqa: E731
            self._produce(self._producer, topics.PROGRAMS, key, value.encode(), received_at, report)
        self._flush(self._producer, failed)

    def _pump(self, connection: psycopg.Connection[Any], gauge: Gauge) -> None:
        while not self._ending.is_set():
            began = time.monotonic()
            rows, is_all = self._read(connection)
            if rows:
                weight = self._weigh(rows)
                if not self._wait_for_room(connection, gauge, weight):
                    return
                self._send(rows, weight)
                self._cursor = (rows[-1].xid, rows[-1].id)
                connection.execute(_NOTE, (self._settings.incarnation, JOURNAL, rows[-1].id))
                self.pumped += len(rows)
            if not self.live and is_all:
                self._go_live(gauge.read(connection))
            if len(rows) < self._bounds.rows and not self._ending.wait(max(0.0, began + _PACE - time.monotonic())):
                self._wait_for_word(connection)

    def _go_live(self, progress: Progress) -> None:
        """Once the worker has read what the history came to, and so told all accounts of it, requests are decided."""
        if self._history is None:
            self._history = {at: end for at, end in progress.ends.items() if at[0] in _TELLING}
        if all(progress.worker.get(at, 0) >= end for at, end in self._history.items()):
            self._tell("live")
            self.live = True

    def _tell(self, mode: str) -> None:
        """Every partition of the account log, whether history is being told."""
        failed: list[KafkaError] = []
        value = codec.dumps({"type": "account.mode", "mode": mode})
        name = self._settings.topic(topics.ACCOUNT_FACTS)
        for partition in range(self._partitions):
            report = lambda error, _: failed.append(error) if error else None  # noqa: E731
            self._producer.produce(name, value, b"mode", partition=partition, on_delivery=report)
        self._flush(self._producer, failed)

    def _wait_for_word(self, connection: psycopg.Connection[Any]) -> None:
        """Of a commit. What is there already waits for an older transaction, of whose end there is no word."""
        xid, ident = self._cursor
        asked = {"xid": xid, "id": ident, "skip": self._skip}
        if connection.execute(_WAITS, asked).fetchone() is None:
            for _ in connection.notifies(timeout=IDLE, stop_after=1):
                pass

    def _read(self, connection: psycopg.Connection[Any]) -> tuple[list[Row], bool]:
        """What comes next, and whether that is all there is: a read ends by its rows or by its bytes."""
        xid, ident = self._cursor
        asked = {"xid": xid, "id": ident, "skip": self._skip}
        asked |= {"rows": self._bounds.rows, "bytes": self._bounds.row_bytes, "record": topics.MAX_MESSAGE_BYTES}
        found = connection.execute(_NEXT, asked).fetchall()
        is_all = len(found) < self._bounds.rows and sum(row[4] for row in found) < self._bounds.row_bytes
        return [self._row(*row) for row in found], is_all

    def _row(self, xid: str, ident: int, stream: str, key: str, size: int, value: str | None, at: Any) -> Row:
        found = None if value is None else value.encode()
        if found is not None and size > PLAIN:
            size = len(zlib.compress(found))
        return Row(xid, ident, stream, key, size, found if size <= self._bounds.record else None, at)

    def _weigh(self, rows: list[Row]) -> Weight:
        messages, size = Counter[int](), Counter[int]()
        for row in rows:
            partition = keys.partition_of(row.key.encode(), self._partitions)
            messages[partition] += 1
            size[partition] += 0 if row.value is None else row.size
        return Weight(messages, size)

    def _wait_for_room(self, connection: psycopg.Connection[Any], gauge: Gauge, weight: Weight) -> bool:
        """False if the pump is to end first."""
        waited = 0
        while not self._fits(weight):
            progress = gauge.read(connection)
            self._measure(progress)
            if self._fits(weight):
                break
            waited += 1
            if waited % 1500 == 0:
                behind = f"the worker {progress.worker_lag}, the sink {progress.sink_lag} messages behind"
                log.warning("the journal waits for its readers: %s", behind)
            if self._ending.wait(_PACE):
                return False
        self._room.subtract(weight.messages)
        return True

    def _fits(self, weight: Weight) -> bool:
        unread = sum((each.size for each in self._unread), Counter[int]())
        return all(
            count <= self._room[at] and (not unread[at] or unread[at] + weight.size[at] <= self._bounds.unread_bytes)
            for at, count in weight.messages.items()
        )

    def _measure(self, progress: Progress) -> None:
        behind = progress.behind()
        self._room = Counter({at: self._bounds.behind - behind[at] for at in range(self._partitions)})
        while self._unread and all(progress.done(at) >= end for at, end in self._unread[0].ends.items()):
            self._unread.popleft()

    def _send(self, rows: list[Row], weight: Weight) -> None:
        ends: dict[Place, int] = {}
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append(error)
            else:
                name = str(message.topic()).removeprefix(self._settings.topic_prefix)
                at = (name, int(message.partition() or 0))
                self.sent[at] += 1
                ends[at] = max(ends.get(at, 0), int(message.offset() or 0) + 1)

        for row in rows:
            stream, value = _oversize(row) if row.value is None else (row.stream, row.value)
            packed = len(value) > PLAIN
            producer = self._compressing if packed else self._producer
            if packed:  # the order holds over both producers
                self._flush(self._producer, failed)
            self._produce(producer, stream, row.key, value, row.received_at, delivered)
            if packed or stream in _REFERENCE:  # what comes after a program may need it
                self._flush(producer, failed)
        # The order holds across slices because the next one starts only when this one is in.
        self._flush(self._producer, failed)
        self._unread.append(Slice(ends, weight.size))

    def _produce(self, producer: Any, stream: str, key: str, value: bytes, received_at: Any, delivered: Any) -> None:
        # A program is judged by its record's time: that must be the same in every life. The others' is now, since a
        # real Kafka's retention would end at once what seems old.
        timestamp = instants.from_datetime(received_at) // 1000 if stream in _REFERENCE else 0
        name = self._settings.topic(stream)
        producer.produce(name, value, key.encode(), on_delivery=delivered, timestamp=timestamp)

    def _flush(self, producer: Any, failed: list[KafkaError]) -> None:
        if producer.flush(30) > 0 or failed:
            raise PublishError(str(failed[0]) if failed else "the embedded broker does not answer")
