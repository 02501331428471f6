"""An import's pace: what it publishes is worked off before more is, in parts small enough for that to take a moment.

An import's messages and live webhooks stand in one line, so whoever comes has at most one part before them. The parts
grow while they are worked off faster than they need be, and shrink when that takes longer.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from confluent_kafka import KafkaException

from events import topics
from events.messages import Message
from runtime import database
from runtime.progress import JOURNAL, Gauge
from runtime.settings import Settings

log = logging.getLogger(__name__)

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

_POLL: Final = 0.02

#: What the worker tells of each message of a stream, at least.
_TOLD: Final = {topics.ORDERS: topics.POINTS, topics.CUSTOMERS: topics.CUSTOMER_ROWS}

_WAITING: Final = """
SELECT count(*) FROM (
    SELECT 1 FROM raw_events WHERE id > coalesce(
        (SELECT next_offset FROM sink_positions WHERE incarnation = %s AND topic = %s), 0)
    LIMIT 10000
) AS waiting
"""


class Pace:
    """Waits until what was published has been worked off. `size` is how much to publish next; `close` it in the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gauge: Gauge | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self.size = FIRST
        self._ends: Counter[str] = Counter()
        self._wanted: Counter[str] = Counter()
        self._sent_at: float | None = None
        self._closed = threading.Event()

    def sent(self, messages: Sequence[Message]) -> None:
        """These have been published just now, after `wait`."""
        streams = Counter(message.topic for message in messages)
        # Each order makes a record of points at least, each customer a row. (Some are refused, and make none.)
        self._wanted = Counter({name: self._ends[name] + streams[stream] * 9 // 10 for stream, name in _TOLD.items()})
        self._sent_at = time.monotonic()

    async def wait(self) -> None:
        """Returns when what was sent has been worked off and nobody is far behind."""
        await asyncio.to_thread(self._until_room)
        if self._sent_at is not None:
            took = time.monotonic() - self._sent_at
            if took > LONG:
                self.size = max(self.size * 2 // 3, LEAST)
            elif took < SHORT:
                self.size = min(self.size * 5 // 4, MOST)
            self._sent_at = None

    def _until_room(self) -> None:
        while not self._has_room():
            if self._closed.wait(_POLL):
                return

    def _has_room(self) -> bool:
        try:
            return self._look()
        except (psycopg.Error, KafkaException) as error:
            log.warning("how far the readers are cannot be seen: %s", database.first_line(error))
            self._leave()
            self._closed.wait(1)
            return False

    def _look(self) -> bool:
        if self._connection is None or self._gauge is None:
            url = self._settings.database_url()
            self._connection = database.connect(url, "loyalnest import", autocommit=True)
            self._gauge = Gauge(self._settings)
        if self._settings.journal:
            row = self._connection.execute(_WAITING, (self._settings.incarnation, JOURNAL)).fetchone()
            if row is not None and row[0] > JOURNAL_LAG:
                return False
        progress = self._gauge.read(self._connection)
        self._ends = Counter()
        for (topic, _), end in progress.ends.items():
            self._ends[topic] += end
        told = all(self._ends[name] >= wanted for name, wanted in self._wanted.items())
        if not told and progress.worker_lag > 0:
            return False
        return progress.worker_lag <= WORKER_LAG and progress.sink_lag <= SINK_LAG

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
