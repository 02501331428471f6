"""The history sink: every topic into the database, each record once.

Rows and positions go in one transaction, and positions live in the database alone (Kafka's committed offsets are
not used): whatever is killed whenever, the sink goes on from exactly what is stored. The consumer group only says
which sink reads which partitions; that none of them writes a partition of another's is guarded by the positions
themselves (sink_store.move).

A gap between the stored position and the first record that comes is met in three cases. Compaction and the control
records of transactions leave offsets that hold nothing: harmless. Retention may have removed what was not read yet:
then the position lies below the log's start, which is counted and said, and the position moves there, since nothing
brings those records back. A position beyond the log's end means another log under the same name: the sink stops.

Order facts are not read: they are derived, and a rebuild makes them again.
"""

import gc
import logging
import signal
import threading
import time
from collections import Counter
from operator import attrgetter
from typing import Any, Final

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from events import topics
from events.errors import BadEvent
from runtime import database, health, kafka, metrics, topic_settings
from runtime.progress import WORKER_TOPICS
from runtime.settings import Settings
from runtime.supervised import health_listener
from streams import unreadable
from streams.sink import store as sink_store
from streams.sink.lag import Watch
from streams.sink.redemptions import Contradicted
from streams.sink.refusals import MAX_REFUSED, REFUSED_WITHIN, meaning
from streams.sink.rows import Rows
from streams.sink.store import Fenced, Place
from tables.chunks import Received

log = logging.getLogger(__name__)

#: How long a batch may wait to fill (seconds): what the sink adds to the delay of a quiet shop.
POLL_SECONDS: Final = 0.05

#: No statement of a batch takes this long (seconds) unless something is wrong with the database.
STATEMENT_SECONDS: Final = 300

_LAG_SECONDS: Final = 5.0
_TIMEOUT: Final = 10.0

#: The pause (seconds) before a database that had an error is asked again.
_PAUSE: Final = 0.2

#: How long Kafka may take to tell where a log ends (seconds).
_WATERMARKS: Final = 5.0


_PLACE: Final = attrgetter("topic", "partition")
_OFFSET: Final = attrgetter("offset")
_TOPIC: Final = attrgetter("topic")


class SinkError(RuntimeError):
    """The sink cannot go on by itself; the message says why and what to do."""


class Sink:
    """One member of the sink's consumer group. `run` it in a thread or a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names = {name: settings.topic(name) for name in kafka.SINK_TOPICS}
        self._topics = {full: name for name, full in self._names.items()}
        self._admin: Any = AdminClient(kafka.client_config(settings))
        self._consumer: Any = None
        self._connection: psycopg.Connection | None = None
        self._left: dict[Place, int] = {}  # the positions as this sink stored them last
        self._given: list[Place] = []
        self._seek = False
        self._refused = unreadable.Limit(MAX_REFUSED, REFUSED_WITHIN)
        self._unreadable = unreadable.Limit()
        # Where a batch that cannot be read begins, and to where we have stepped over it.
        self._stuck: dict[Place, tuple[int, int]] = {}
        self._lag_at = 0.0
        self._lag = 0
        #: A batch may take as long as its statements may: until then the sink lives.
        self.pulse = health.Pulse(STATEMENT_SECONDS + 30)

    def kafka_away(self) -> str | None:
        """Whether Kafka does not answer, in words; called from another thread."""
        there = kafka.answers(self._admin, self._settings.topic(topics.ORDERS))
        self._admin.poll(0)  # what it logs is kept until somebody hears it
        return None if there else "Kafka does not answer"

    def _beat(self) -> None:
        self.pulse.beat()
        waiting = [f"it is {self._lag} records behind"] if self._lag > health.READY_LAG else []
        if self._connection is None or self._seek:
            waiting.append("it waits for the database, or for its positions")
        self.pulse.waiting = waiting

    def run(self, stop: threading.Event) -> None:
        """Read and store until `stop` is set; a batch in hand is finished first.

        Waits for a database that is down. Raises Fenced where another sink reads the same partitions, SinkError
        where the log is not the one its positions belong to, KafkaException for what no retry mends.
        """
        group = self._settings.topic(f"{self._settings.group}-sink")
        self._consumer = Consumer(self._consumer_config(group))
        try:
            self._consumer.subscribe(list(self._topics), on_assign=self._assigned, on_revoke=self._revoked)
            while not stop.is_set():
                self._beat()
                self._step(stop)
        finally:
            self._consumer.close()
            self._disconnect()

    def _consumer_config(self, group: str) -> dict[str, Any]:
        # What comes within a moment is stored in one transaction, and is one answer of the broker's.
        linger = {"fetch.wait.max.ms": 50, "fetch.min.bytes": 64 * 1024}
        config = {**kafka.consumer_config(self._settings, group), **linger}
        if self._settings.worker_id and not self._settings.journal:
            # A sink that was killed comes back to its partitions at once.
            config["group.instance.id"] = f"{self._settings.worker_id}-sink"
        return config

    def _step(self, stop: threading.Event) -> None:
        messages = self._consumer.consume(self._settings.sink_batch, POLL_SECONDS)
        try:
            if self._seek:
                # What was fetched before the partitions changed hands is fetched again.
                self._take_positions(stop)
            elif messages:
                self._store(self._usable(messages))
                self._step_over(messages)
        except psycopg.Error as error:
            if meaning(error, self._connection) != "away":
                raise
            # Whether a commit that broke off happened, the stored positions say.
            log.warning("the sink starts over from the stored positions: %s", database.first_line(error))
            metrics.SINK_RETRIES.labels(type(error).__name__).inc()
            self._disconnect()
            self._seek = True
            stop.wait(_PAUSE)
        self._measure_lag()

    # --- partitions and positions --------------------------------------------------------------------------------

    def _assigned(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        consumer.assign([])  # nothing comes before the positions are known
        self._given = [(each.topic, each.partition) for each in partitions]
        self._seek = True

    def _revoked(self, consumer: Any, _partitions: list[TopicPartition]) -> None:
        consumer.unassign()
        self._given = []
        self._left = {}
        self._seek = True

    def _take_positions(self, stop: threading.Event) -> None:
        """Begin each partition at its stored position, a new one at the start of its log."""
        connection = self._connected(stop)
        if connection is None or not self._given:
            self._seek = bool(self._given)
            return
        try:
            starts, ends = self._offsets(OffsetSpec.earliest()), self._offsets(OffsetSpec.latest())
        except KafkaException as error:
            log.warning("the ends of the topics cannot be read yet: %s", error)
            stop.wait(0.5)
            return
        incarnation = self._settings.incarnation
        stored = sink_store.positions(connection, incarnation, self._given)
        unknown = {place: starts[place] for place in self._given if place not in stored}
        if unknown:
            sink_store.begin(connection, incarnation, unknown)
            stored = sink_store.positions(connection, incarnation, self._given)
        self._refuse_beyond(stored, ends)
        lost = {place: (at, starts[place]) for place, at in stored.items() if at < starts[place]}
        if lost:
            sink_store.move(connection, incarnation, lost)
        connection.commit()
        self._tell_lost(lost)
        self._left = stored | {place: start for place, (_, start) in lost.items()}
        self._consumer.assign([TopicPartition(*place, at) for place, at in self._left.items()])
        self._seek = False

    def _offsets(self, spec: OffsetSpec) -> dict[Place, int]:
        asked = {TopicPartition(*place): spec for place in self._given}
        answers = self._admin.list_offsets(asked, request_timeout=_TIMEOUT)
        return {(at.topic, at.partition): answer.result().offset for at, answer in answers.items()}

    def _refuse_beyond(self, stored: dict[Place, int], ends: dict[Place, int]) -> None:
        for (topic, partition), at in stored.items():
            if at > ends[topic, partition]:
                raise SinkError(
                    f"topic {topic} partition {partition} ends at offset {ends[topic, partition]}, but the records"
                    f" before {at} are stored: the topic was made anew. If that was meant, remove its rows from"
                    f" sink_positions (incarnation {self._settings.incarnation!r}) and start the sink again"
                )

    def _tell_lost(self, lost: dict[Place, tuple[int, int]]) -> None:
        for (topic, partition), (at, start) in lost.items():
            log.error(
                "topic %s partition %s: retention removed offsets %s to %s before they were read; they are lost",
                *(topic, partition, at, start - 1),
            )
            metrics.SINK_LOST.labels(self._topics[topic]).inc(start - at)

    # --- batches -------------------------------------------------------------------------------------------------

    def _usable(self, messages: list[Any]) -> list[Received]:
        batch = []
        for message in messages:
            error = message.error()
            if error is None:
                topic, (_, timestamp) = self._topics[message.topic()], message.timestamp()
                partition, offset, key, value = message.partition(), message.offset(), message.key(), message.value()
                batch.append(Received(topic, partition, offset, timestamp, key, value))
            else:
                self._heed(error)
        return batch

    def _heed(self, error: KafkaError) -> None:
        """What the consumer has to say between the records."""
        if error.fatal():
            raise KafkaException(error)
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._seek = True  # the log no longer has what we were about to read: see _take_positions
        elif error.code() != KafkaError._PARTITION_EOF:
            log.warning("kafka: %s", error.str())

    def _step_over(self, messages: list[Any]) -> None:
        """On past batches that cannot be read, an offset at a time: where such a batch ends is not told.

        Of the worker's topics the worker makes the dead letter.
        """
        stuck = {
            (each.topic(), each.partition()): each
            for each in messages
            if each.error() is not None and each.error().code() in unreadable.CODES
        }
        for place, message in stuck.items():
            topic, left = self._topics[place[0]], self._left[place]
            rows = Rows(self._settings.journal)
            stuck_at, stepped_to = self._stuck.get(place, (-1, -1))
            # The client may tell an offset that stood in its memory where it could not read one: then it is still the
            # batch that we are stepping over, or one that begins here.
            at = message.offset()
            if at not in self._there(place):
                at = stuck_at if stepped_to == left else left
            after = max(left, at) + 1
            self._stuck[place] = at, after
            if at != stuck_at:
                if self._unreadable.exceeded():
                    raise SinkError(f"too many record batches that cannot be read, the last on {topic}")
                bad = BadEvent("unreadable", f"a record batch cannot be read: {message.error().name()}")
                if topic not in WORKER_TOPICS:
                    rows.refuse(Received(topic, place[1], at, time.time_ns() // 1_000_000, None, None), bad)
            self._commit(rows, {place: (left, after)})
            try:
                self._consumer.seek(TopicPartition(*place, after))
            except KafkaException:  # it has begun to look for an offset by itself
                self._seek = True

    def _there(self, place: Place) -> range:
        """The offsets that there are, from the log's beginning to its end; none where Kafka does not tell."""
        try:
            begin, end = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=_WATERMARKS)
        except KafkaException:
            return range(0)
        return range(begin, end)

    def _store(self, batch: list[Received], again: bool = False) -> None:
        if not batch:
            return
        began = time.perf_counter()
        rows = Rows(self._settings.journal)
        for received in batch:
            try:
                rows.add(received)
            except Exception as error:  # nobody foresaw it: a bad record all the same
                self._spend(received, error)
                rows.refuse(received, BadEvent("unexpected", type(error).__name__))
        last = dict(zip(map(_PLACE, batch), map(_OFFSET, batch), strict=True))
        places = {(self._names[topic], partition): offset + 1 for (topic, partition), offset in last.items()}
        moves = {place: (self._left[place], end) for place, end in places.items()}
        try:
            self._commit(rows, moves)
        except (psycopg.Error, ValueError, OverflowError) as error:
            if meaning(error, self._connection) != "content":
                raise
            self._find_bad(batch, error, again)
            return
        self._count(batch, began)

    def _commit(self, rows: Rows, moves: dict[Place, tuple[int, int]]) -> None:
        connection = self._connection
        assert connection is not None, "positions are taken before anything is read"
        with connection.transaction(), connection.cursor() as cursor:
            sink_store.move(connection, self._settings.incarnation, moves)
            counts = sink_store.write(cursor, rows)
        self._left.update({place: after for place, (_, after) in moves.items()})
        for table, number in counts.items():
            metrics.SINK_ROWS.labels(table).inc(number)
        for (source, reason), number in rows.letters.items():
            metrics.DEAD_LETTERS.labels(source, reason).inc(number)
        for size, number in rows.late_windows.items():
            metrics.LATE_WINDOWS.labels(size).inc(number)
        metrics.UNKNOWN_STATUSES.inc(rows.unknown_statuses)
        metrics.RECORDS_IGNORED.labels("sink").inc(rows.ignored)

    def _find_bad(self, batch: list[Received], error: Exception, again: bool) -> None:
        """One record of the batch holds what its column cannot: halve until it stands alone, and let it go.

        If what it collides with is a row that somebody else stored meanwhile, nothing is wrong with the record, and the
        next look finds the row.
        """
        if len(batch) > 1:
            middle = len(batch) // 2
            self._store(batch[:middle])
            self._store(batch[middle:])
            return
        if isinstance(error, psycopg.errors.UniqueViolation) and not again:
            self._store(batch, again=True)
            return
        received = batch[0]
        self._spend(received, error)
        place = self._names[received.topic], received.partition
        moves = {place: (self._left[place], received.offset + 1)}
        # The database's words would repeat the value, which may be somebody's.
        bad = BadEvent("not_storable", type(error).__name__)
        try:
            self._commit(self._letter(received, bad), moves)
        except (psycopg.Error, ValueError) as still:
            if meaning(still, self._connection) != "content":
                raise
            # Not even in a letter: of the record its place alone is kept.
            self._commit(self._letter(received._replace(key=None, value=None), bad), moves)

    def _letter(self, received: Received, bad: BadEvent) -> Rows:
        rows = Rows(self._settings.journal)
        rows.refuse(received, bad)
        return rows

    def _spend(self, received: Received, error: Exception) -> None:
        """One more record is let go; SinkError when they are too many to be chance."""
        where = f"{received.topic}[{received.partition}]@{received.offset}"
        log.error("a record cannot be stored and becomes a dead letter: %s (%s)", where, type(error).__name__)
        if self._refused.exceeded():
            raise SinkError(
                f"more than {MAX_REFUSED} records within {REFUSED_WITHIN:.0f} s could not be stored, at last {where}:"
                f" {type(error).__name__}. Is the database's schema another version's (loyalnest migrate)?"
            ) from error

    def _count(self, batch: list[Received], began: float) -> None:
        metrics.SINK_BATCH_SECONDS.observe(time.perf_counter() - began)
        for topic, number in Counter(map(_TOPIC, batch)).items():
            metrics.SINK_RECORDS.labels(topic).inc(number)

    def _measure_lag(self) -> None:
        if time.monotonic() < self._lag_at:
            return
        self._lag_at = time.monotonic() + _LAG_SECONDS
        lags = dict.fromkeys(self._topics.values(), 0)
        for place, at in self._left.items():
            _, end = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            lags[self._topics[place[0]]] += max(end - at, 0)
        self._lag = sum(lags.values())
        for topic, lag in lags.items():
            metrics.SINK_LAG.labels(topic).set(lag)

    # --- the database --------------------------------------------------------------------------------------------

    def _connected(self, stop: threading.Event) -> psycopg.Connection | None:
        """The connection, made anew if need be; None when `stop` was set while there was none to be had."""
        if self._connection is None:
            url, name = self._settings.database_url(), "loyalnest sink"
            fresh = database.wait_until_up(url, name, stop=stop, statement_seconds=STATEMENT_SECONDS, on_try=self._beat)
            if fresh is not None:
                sink_store.prepare(fresh)
            self._connection = fresh
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def main(settings: Settings) -> int:
    """`loyalnest sink`: run until SIGTERM or SIGINT; the exit code. Metrics are served on `worker_port`."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # A batch is many small values that live until its commit; looking through them over and over finds nothing.
    gc.set_threshold(100_000, 20, 100)
    try:
        topic_settings.check_if_there(settings)
        sink = Sink(settings)
        listener = health_listener(settings.worker_host, settings.worker_port)
        if listener is not None:
            health.serve(listener, sink.pulse, [sink.kafka_away])
        Watch(settings, stop).start()
        sink.run(stop)
    except (kafka.TopicError, Fenced, SinkError, Contradicted, KafkaException, psycopg.Error) as error:
        log.error("the sink stopped: %s", error)
        return 1
    return 0
