"""Whether what came in has arrived: in the history before a batch reads it, in the rows after it has asked for them.

With real Kafka the sink writes the raw history a little after the topics; a batch that read at once would miss what is
on its way, and publish thresholds of a shop that never was. With a journal the history is first.
"""

import time
from contextlib import closing
from typing import Any, Final

from confluent_kafka import KafkaException
from psycopg import Connection

from batch.frames import BatchError
from batch.rescoring import OnProgress
from events import topics
from runtime import patience
from runtime.progress import JOURNAL, Gauge, Place
from runtime.settings import Settings

_INPUTS: Final = frozenset({topics.ORDERS, topics.CUSTOMERS, topics.SHOPS, topics.PROGRAMS})
_POLL: Final = 0.2

#: At rest is what was so twice, so many seconds apart: the worker commits once a second.
_REST: Final = 1.0

_IN_JOURNAL: Final = """
SELECT EXISTS (SELECT FROM raw_events WHERE id > coalesce(
    (SELECT next_offset FROM sink_positions WHERE incarnation = %s AND topic = %s), 0))
"""


def wait(settings: Settings, connection: Connection[Any], on_progress: OnProgress, seconds: float = 60.0) -> None:
    """Until the sink has stored every input that stood on the topics at the call.

    BatchError when the sink has not moved for so many seconds.
    """
    if settings.journal or settings.kafka is None:
        return
    with closing(Gauge(settings)) as gauge:
        ends = {at: end for at, end in gauge.read(connection).ends.items() if at[0] in _INPUTS}

        def look() -> int | None:
            if left := _left(gauge, connection, ends):
                on_progress("arriving", 0, left)
            return left or None

        left = patience.while_moving(look, seconds, _POLL)
        if left is not None:
            raise BatchError(f"the history lacks {left:,} messages and the sink does not move: is it running?")


def _left(gauge: Gauge, connection: Connection[Any], ends: dict[tuple[str, int], int]) -> int:
    sink = gauge.read(connection).sink
    return sum(max(end - sink.get(at, 0), 0) for at, end in ends.items())


class Rest:
    """Tells whether the stream has worked off all that it was told: what a row is not then, it will not be unasked.

    `close` it in the end.
    """

    def __init__(self, settings: Settings, connection: Connection[Any]) -> None:
        self._settings = settings
        self._connection = connection
        self._gauge: Gauge | None = None
        self._looked = time.monotonic()
        self._ends: dict[Place, int] | None = None

    def reached(self) -> bool:
        """True once worker and sink have read all, twice in a row; False also where Kafka cannot be asked."""
        if self._settings.kafka is None or time.monotonic() - self._looked < _REST:
            return False
        before, self._ends = self._ends, self._look()
        self._looked = time.monotonic()
        return self._ends is not None and self._ends == before

    def _look(self) -> dict[Place, int] | None:
        """Where the topics end, if everybody has read as far."""
        if self._settings.journal:
            asked = (self._settings.incarnation, JOURNAL)
            row = self._connection.execute(_IN_JOURNAL, asked).fetchone()
            # (Of a broker that is gone, too, the journal has read nothing.)
            if row is None or row[0]:
                return None
        try:
            self._gauge = self._gauge or Gauge(self._settings)
            progress = self._gauge.read(self._connection)
        except KafkaException:
            return None
        return None if progress.worker_lag or progress.sink_lag else progress.ends

    def close(self) -> None:
        """Ends its clients of Kafka."""
        if self._gauge is not None:
            self._gauge.close()
