"""How far worker and sink are behind, noted every few seconds for whoever asks the database: the API, at any time.

Records are what Kafka tells. In time it is until when all that had come has been read: the last look whose ends
everybody has passed since.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from confluent_kafka import KafkaException

from runtime import database
from runtime.progress import JOURNAL, Gauge, Place, Progress
from runtime.settings import Settings

log = logging.getLogger(__name__)

#: Between two looks (seconds).
EVERY: Final = 5.0

#: Looks that nobody has passed yet: an hour of them. Later ones are left out until some have.
_KEPT: Final = 720

#: Waiting messages are counted so far.
_COUNTED: Final = 10_000

_WAITING: Final = """
SELECT count(*) FROM (
    SELECT 1 FROM raw_events WHERE id > coalesce(
        (SELECT next_offset FROM sink_positions WHERE incarnation = %s AND topic = %s), 0)
    LIMIT %s
) AS waiting
"""

_NOTE: Final = """
INSERT INTO stream_lag (noted_at, waiting, worker, worker_read_to, sink, sink_read_to)
VALUES (%(noted_at)s, %(waiting)s, %(worker)s, %(worker_read_to)s, %(sink)s, %(sink_read_to)s)
ON CONFLICT (singular) DO UPDATE SET (noted_at, waiting, worker, worker_read_to, sink, sink_read_to) =
    (excluded.noted_at, excluded.waiting, excluded.worker, excluded.worker_read_to, excluded.sink,
     excluded.sink_read_to)
"""


class Trail:
    """Where the logs ended at each look, and so until when somebody has read everything."""

    def __init__(self) -> None:
        self._ends: deque[tuple[datetime, Mapping[Place, int]]] = deque()
        self._read_to: datetime | None = None

    def looked(self, at: datetime, ends: Mapping[Place, int]) -> None:
        """At this time the logs held all that had come, and ended here."""
        if len(self._ends) < _KEPT:
            self._ends.append((at, ends))

    def read_to(self, positions: Mapping[Place, int]) -> datetime | None:
        """Until when all that had come is before these positions; of logs without one nothing is asked."""
        while self._ends and all(positions.get(place, end) >= end for place, end in self._ends[0][1].items()):
            self._read_to = self._ends.popleft()[0]
        return self._read_to


class Watch(threading.Thread):
    """Looks and notes until `stop` is set; what does not answer is asked again at the next look."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        super().__init__(name="lag", daemon=True)
        self._settings = settings
        # Not `_stop`: threading.Thread has a method of that name.
        self._ending = stop
        self._gauge: Gauge | None = None
        self._worker, self._sink = Trail(), Trail()

    def run(self) -> None:
        """The thread."""
        while not self._ending.wait(EVERY):
            try:
                self.look(datetime.now(UTC))
            except (psycopg.Error, KafkaException) as error:
                log.info("the lag is not known just now (%s)", type(error).__name__)
        if self._gauge is not None:
            self._gauge.close()

    def look(self, at: datetime) -> None:
        """One look, as of this time."""
        settings = self._settings
        self._gauge = self._gauge or Gauge(settings)
        with database.connect(settings.database_url(), "loyalnest lag", statement_seconds=EVERY, autocommit=True) as on:
            waiting = self._waiting(on) if settings.journal else None
            found = self._gauge.read(on)
            on.execute(_NOTE, self._noted(at, waiting, found))

    def _waiting(self, connection: psycopg.Connection[Any]) -> int:
        asked = (self._settings.incarnation, JOURNAL, _COUNTED)
        row = connection.execute(_WAITING, asked).fetchone()
        return 0 if row is None else int(row[0])

    def _noted(self, at: datetime, waiting: int | None, found: Progress) -> dict[str, Any]:
        if not waiting:  # else the logs lack some of what has come
            self._worker.looked(at, found.ends)
            self._sink.looked(at, found.ends)
        return {
            "noted_at": at,
            "waiting": waiting,
            "worker": found.worker_lag,
            "worker_read_to": self._worker.read_to(found.worker),
            "sink": found.sink_lag,
            "sink_read_to": self._sink.read_to(found.sink),
        }
