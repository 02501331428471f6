"""The way in: KafkaPublisher produces to Kafka, JournalPublisher commits to the raw history (embedded).

Both satisfy runtime.ports.Publisher, are made outside or inside an event loop and used on one, and want a `close`.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Final

import psycopg
from confluent_kafka import KafkaError, KafkaException, Producer

from events import codec, instants, keys, topics
from events.errors import BadEvent
from events.messages import Message
from runtime import database, kafka, metrics
from runtime.ports import PublishError
from runtime.progress import JOURNAL_CHANNEL
from runtime.settings import Settings
from streams.sink.rows import COLUMNS, Row

log = logging.getLogger(__name__)

#: How long a full producer queue may take to have room again (seconds).
FULL_SECONDS: Final = 10.0

#: A broker that has left messages waiting for so long is not ready for more (seconds).
STALLED_SECONDS: Final = 3.0

#: How often delivery reports are looked for while any are waited for, and else, for what the producer has to tell of
#: brokers (seconds).
POLL_SECONDS: Final = 0.001
IDLE_SECONDS: Final = 0.25

#: What the journal's probe writes, and takes back: some pages, so that the file grows and a full disk is noticed.
_PROBE: Final = [Message(topics.RESCORE, "probe/0", b"x" * 1000)] * 64

#: The topics of envelopes: of these the journal keeps what they say beside their text.
_ENVELOPES: Final = (topics.ORDERS, topics.CUSTOMERS, topics.SHOPS, topics.REQUESTS)

_NOTIFY: Final = f"NOTIFY {JOURNAL_CHANNEL}".encode()


class _Call:
    """The delivery reports that one call waits for."""

    def __init__(self, count: int, loop: asyncio.AbstractEventLoop) -> None:
        self._left = count
        self._durable: dict[str, int] = {}
        self._error: str | None = None
        self.all_in: asyncio.Future[None] = loop.create_future()

    def add(self, topic: str, error: str | None) -> None:
        self._left -= 1
        if error is None:
            self._durable[topic] = self._durable.get(topic, 0) + 1
        else:
            self._error = self._error or error
        if self._left:
            return
        _published(self._durable)
        if self.all_in.done():
            return  # the caller was cancelled
        if self._error is None:
            self.all_in.set_result(None)
        else:
            self.all_in.set_exception(PublishError(self._error))


_durable_of: Final = cache(metrics.PUBLISHED.labels)


def _published(counts: Mapping[str, int]) -> None:
    for topic, count in counts.items():
        _durable_of(topic).inc(count)


class KafkaPublisher:
    """Produces by one idempotent producer, acks=all; a call returns when all its delivery reports are in.

    After an error that the producer calls fatal nothing more is published: every call raises PublishError, and the
    process must be started anew.

    The loop looks for reports itself, every POLL_SECONDS while messages wait for theirs. A thread that waits for them
    has to take the interpreter from the loop for each, and to wake it: that took longer than the rest of a call.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = cache(settings.topic)
        self._fatal: str | None = None
        self._closed = False
        #: Messages that wait for the broker's word, and since when it has said nothing (seconds of time.monotonic).
        self._waiting = 0
        self._silent_since = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next_look: asyncio.TimerHandle | None = None
        self._producer: Any = Producer({**kafka.producer_config(settings), "error_cb": self._heard})

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when Kafka has every message durably; PublishError otherwise (some may be there then)."""
        if not messages:
            return
        call = _Call(len(messages), self._begun())
        for message in messages:
            deadline = 0.0
            while not self._queued(message, call):
                deadline = deadline or time.monotonic() + FULL_SECONDS
                if time.monotonic() > deadline:
                    self._refused(call, message.topic, KafkaError(KafkaError._QUEUE_FULL))
                    break
                await asyncio.sleep(0.01)
        await call.all_in

    def failed(self) -> str | None:
        """What the producer cannot recover from; None while it can publish."""
        return self._fatal

    async def ready(self) -> bool:
        """Whether Kafka answers, and has not left what was sent waiting for STALLED_SECONDS."""
        self._begun()  # who is not ready is sent nothing: what the producer tells of brokers would pile up, unheard
        stalled = self._waiting and time.monotonic() - self._silent_since > STALLED_SECONDS
        if self._fatal is not None or self._closed or stalled:
            return False
        return await asyncio.to_thread(kafka.answers, self._producer, self._topic(topics.ORDERS))

    def _begun(self) -> asyncio.AbstractEventLoop:
        """The loop of the first call, and of every other; from the first on it looks what the producer tells."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            if not self._closed:
                self._look_in(IDLE_SECONDS)
        return self._loop

    def _queued(self, message: Message, call: _Call) -> bool:
        """False while the queue is full; what is refused at once is reported."""
        if self._fatal is not None or self._closed:
            call.add(message.topic, self._fatal or "the publisher is closed")
            return True
        where = {} if message.partition is None else {"partition": message.partition}
        name, told = self._topic(message.topic), partial(self._delivered, call, message.topic)
        try:
            self._producer.produce(name, message.value, message.key.encode(), on_delivery=told, **where)
        except BufferError:
            return False
        except KafkaException as error:  # too large, say
            self._refused(call, message.topic, error.args[0])
            return True
        if not self._waiting:
            self._silent_since = time.monotonic()
            self._look_in(POLL_SECONDS)
        self._waiting += 1
        return True

    def _delivered(self, call: _Call, topic: str, error: KafkaError | None, _message: object) -> None:
        """What the broker says of a message, or the producer, once it has given up."""
        self._waiting -= 1
        self._silent_since = time.monotonic()
        if error is None:
            call.add(topic, None)
        else:
            self._refused(call, topic, error)

    def _refused(self, call: _Call, topic: str, error: KafkaError) -> None:
        metrics.PUBLISH_ERRORS.labels(topic, error.name()).inc()
        self._heard(error)
        call.add(topic, f"{topic}: {error.str()}")

    def _heard(self, error: KafkaError) -> None:
        if error.fatal() and self._fatal is None:
            self._fatal = f"the producer cannot go on: {error.str()}"
            log.critical("%s; nothing is published until this process is started anew", self._fatal)

    def _look_in(self, seconds: float) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        assert self._loop is not None
        self._next_look = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        try:
            self._producer.poll(0)
        finally:
            self._look_in(POLL_SECONDS if self._waiting else IDLE_SECONDS)

    async def close(self) -> None:
        """Wait for what is on its way (up to 10 s), and end. Twice is harmless."""
        self._closed = True
        if not await self._emptied(10):
            self._producer.purge()  # whoever waits for these is told that they failed
            await self._emptied(1)
        if self._next_look is not None:
            self._next_look.cancel()

    async def _emptied(self, seconds: float) -> bool:
        """Whether nothing was on its way any more within so many seconds."""
        until = time.monotonic() + seconds
        while len(self._producer) and time.monotonic() < until:
            self._producer.poll(0)
            await asyncio.sleep(POLL_SECONDS)
        return not len(self._producer)


# --- the journal -------------------------------------------------------------------------------------------------


class JournalPublisher:
    """Commits to raw_events; a call returns when its messages are committed.

    Calls that come while a commit is under way share the next one: one fsync for all of them.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.database_url()
        self._connection: psycopg.AsyncConnection | None = None
        self._waiting: list[tuple[list[Row], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None
        self._refused = False

    def failed(self) -> str | None:
        """Nothing: a database comes back, and the next call finds it."""
        return None

    async def ready(self) -> bool:
        """Whether the last commit went well; after one that did not, whether the raw history can be written."""
        if not self._refused:
            return True
        try:
            async with (
                asyncio.timeout(STALLED_SECONDS),
                await database.connect_async(self._url, "loyalnest journal") as connection,
                connection.transaction(force_rollback=True),
            ):
                await self._copy(connection, [_row(message) for message in _PROBE])
        except (psycopg.Error, TimeoutError):
            return False
        self._refused = False
        return True

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when every message is committed; PublishError otherwise."""
        if not messages:
            return
        rows = [_row(message) for message in messages]
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, done))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_all())
        await done
        _published(Counter(message.topic for message in messages))

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._commit_group(group)
        finally:
            self._committing = None

    async def _commit_group(self, group: list[tuple[list[Row], asyncio.Future[None]]]) -> None:
        error: Exception | None = None
        try:
            await self._commit([row for rows, _ in group for row in rows])
        except psycopg.DataError as bad:
            if len(group) > 1:  # one call's bad value must not fail the others
                for each in group:
                    await self._commit_group([each])
                return
            error = bad
        except Exception as failed:
            error = failed
        # A value that does not fit says nothing of the database.
        self._refused = error is not None and not isinstance(error, psycopg.DataError)
        for _, done in group:
            if done.done():
                continue  # the caller was cancelled
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(PublishError(f"the journal could not be written: {type(error).__name__}"))
        if error is not None:
            metrics.PUBLISH_ERRORS.labels("raw_events", type(error).__name__).inc(len(group))
            log.warning("the journal could not be written: %s", database.first_line(error))

    async def _commit(self, rows: list[Row]) -> None:
        try:
            await self._copy(await self._connected(), rows)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            # The database may have been started anew since the last call. A commit that broke off may have
            # happened: then its messages stand twice, and whoever reads them drops what they have.
            await self._disconnect()
            await self._copy(await self._connected(), rows)

    async def _copy(self, connection: psycopg.AsyncConnection, rows: list[Row]) -> None:
        statement = f"COPY raw_events ({', '.join(COLUMNS['raw_events'])}) FROM STDIN".encode()
        async with connection.transaction(), connection.cursor() as cursor:
            async with cursor.copy(statement) as stream:
                for row in rows:
                    await stream.write_row(row)
            await cursor.execute(_NOTIFY)

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is None:
            self._connection = await database.connect_async(self._url, "loyalnest journal", autocommit=True)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def close(self) -> None:
        """Wait for what is being committed, and end. Twice is harmless."""
        if self._committing is not None:
            await self._committing
        await self._disconnect()


def _row(message: Message) -> Row:
    """A message as a row of raw_events; PublishError for what is no text, or no envelope where one belongs."""
    if message.partition is not None:
        raise PublishError("the journal keeps no partition: who reads it goes by the key")
    try:
        value = message.value.decode()
        if message.topic not in _ENVELOPES:
            now = instants.text(time.time_ns() // 1000)
            return now, message.topic, message.key, keys.split(message.key)[0], None, None, now, value
        envelope = codec.loads(message.value)
        said = instants.parse(envelope["received_at"])
        believed = instants.believed(said, time.time_ns() // 1_000_000)
        if believed != said:  # a letter that is replayed, say
            envelope["received_at"] = instants.text(believed)
            value = codec.dumps(envelope).decode()
        received_at, triggered_at = instants.text(believed), instants.text(instants.parse(envelope["triggered_at"]))
        topic, shop, webhook_id = envelope["topic"], envelope["shop"], envelope["webhook_id"]
    except (UnicodeDecodeError, BadEvent, KeyError, TypeError) as error:
        raise PublishError(f"not a message for {message.topic}: {type(error).__name__}") from None
    return received_at, message.topic, message.key, shop, topic, webhook_id, triggered_at, value
