"""An import's pace: what it publishes is worked off before more is, in parts small enough for that to take a moment.

An import's messages and live webhooks stand in one line, so whoever comes has at most one part before them. The parts
grow while they are worked off faster than they need be, and shrink when that takes longer.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import psycopg
from confluent_kafka import KafkaException

from events import topics
from events.messages import Message
from runtime import database
from runtime.progress import JOURNAL, Gauge, Progress
from runtime.settings import Settings

#: Messages of a part: the first one's, and bounds.
FIRST: Final = 200
LEAST: Final = 200
MOST: Final = 500

#: Seconds in which a part should be worked off: read by the worker, told, and stored.
SHORT: Final = 0.25
LONG: Final = 0.4

#: Records that worker and sink may be behind all the same: others' (and the worker's positions are a second old).
WORKER_LAG: Final = 10_000
SINK_LAG: Final = 500
#: Messages that may wait in the journal for the embedded broker.
JOURNAL_LAG: Final = 50

#: Chunks of a file that are made at once.
BATCH: Final = 500

#: Seconds in which whoever is waited for gets nowhere, until that is said.
STALL: Final = 10.0

#: Seconds of waiting after which the one who waits may look whether it still wants to.
LOOK: Final = 1.0

_POLL: Final = 0.05

#: What the worker tells of each message of a stream, at least.
_TOLD: Final = {
    topics.ORDERS: topics.POINTS,
    topics.REQUESTS: topics.POINTS,
    topics.CUSTOMERS: topics.CUSTOMER_ROWS,
}

_WAITING: Final = """
SELECT count(*), coalesce((SELECT next_offset FROM sink_positions WHERE incarnation = %(life)s AND topic = %(name)s), 0)
FROM (
    SELECT 1 FROM raw_events WHERE id > coalesce(
        (SELECT next_offset FROM sink_positions WHERE incarnation = %(life)s AND topic = %(name)s), 0)
    LIMIT 10000
) AS waiting
"""


class Waited(NamedTuple):
    """For whom an import waits: what to do, how far they are (anything that changes as they go on), and behind."""

    who: str
    remedy: str
    at: int
    behind: int | None

    def said(self, seconds: float) -> str:
        """In words, after so many seconds in which nothing moved."""
        behind = "" if self.behind is None else f", {self.behind:,} messages behind"
        return f"waits for {self.who}{behind}, and nothing has moved for {seconds:.0f} s: {self.remedy}"


class Pace:
    """Waits until what was published has been worked off. `size` is how much to publish next; `close` it in the end.

    `tell` hears, from another thread, for whom it waits once they have got nowhere for STALL seconds: once each time.
    """

    def __init__(self, settings: Settings, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._tell = tell
        self._gauge: Gauge | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self.size = FIRST
        self._ends: Counter[str] = Counter()
        self._wanted: Counter[str] = Counter()
        self._sent_at: float | None = None
        self._closed = threading.Event()
        self._waited: Waited | None = None
        self._since = 0.0
        self._said = False

    def sent(self, messages: Sequence[Message]) -> None:
        """These have been published just now, after `wait`."""
        streams = Counter(message.topic for message in messages)
        # Each order or award makes a record of points at least, each customer a row. (Some are refused, and make none.)
        self._wanted = Counter({name: self._ends[name] for name in _TOLD.values()})
        for stream, name in _TOLD.items():
            self._wanted[name] += streams[stream] * 9 // 10
        self._sent_at = time.monotonic()

    async def wait(self) -> bool:
        """True once what was sent has been worked off and nobody is far behind; False after LOOK seconds: wait on."""
        if not await asyncio.to_thread(self._until_room):
            return False
        if self._sent_at is not None:
            took = time.monotonic() - self._sent_at
            if took > LONG:
                self.size = max(self.size * 2 // 3, LEAST)
            elif took < SHORT:
                self.size = min(self.size * 5 // 4, MOST)
            self._sent_at = None
        return True

    def _until_room(self) -> bool:
        until = time.monotonic() + LOOK
        while (waited := self._look()) is not None:
            self._note(waited)
            if self._closed.wait(_POLL) or time.monotonic() > until:
                return False
        self._waited = None
        return True

    def _note(self, waited: Waited) -> None:
        now = time.monotonic()
        if self._waited is None or (waited.who, waited.at) != (self._waited.who, self._waited.at):
            self._since, self._said = now, False
        self._waited = waited
        if not self._said and now - self._since >= STALL:
            self._said = True
            self._tell(waited.said(now - self._since))

    def _look(self) -> Waited | None:
        """For whom it waits; None if there is room."""
        try:
            if self._connection is None or self._gauge is None:
                url = self._settings.database_url()
                self._connection = database.connect(url, "loyalnest import", autocommit=True)
                self._gauge = Gauge(self._settings)
            return self._journal(self._connection) or self._readers(self._gauge.read(self._connection))
        except (psycopg.Error, KafkaException) as error:
            self._leave()
            self._closed.wait(1)
            return Waited("Kafka or the database", database.first_line(error), 0, None)

    def _journal(self, connection: psycopg.Connection[Any]) -> Waited | None:
        if not self._settings.journal:
            return None
        row = connection.execute(_WAITING, {"life": self._settings.incarnation, "name": JOURNAL}).fetchone()
        if row is None or row[0] <= JOURNAL_LAG:
            return None
        return Waited("the journal", "is `loyalnest up` running?", row[1], row[0])

    def _readers(self, progress: Progress) -> Waited | None:
        self._ends = Counter()
        for (topic, _), end in progress.ends.items():
            self._ends[topic] += end
        told = all(self._ends[name] >= wanted for name, wanted in self._wanted.items())
        if progress.worker_lag > (WORKER_LAG if told else 0):
            at = sum(progress.worker.values())
            return Waited("the worker", "is `loyalnest worker` running?", at, progress.worker_lag)
        if progress.sink_lag > SINK_LAG:
            at = sum(progress.sink.values())
            return Waited("the sink", "is `loyalnest sink` running?", at, progress.sink_lag)
        return None

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed.set()
        self._leave()

    def _leave(self) -> None:
        if self._gauge is not None:
            self._gauge.close()
        if self._connection is not None:
            self._connection.close()
        self._gauge = self._connection = None
