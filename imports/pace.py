"""An import's pace: it goes on only while the readers of the topics are hardly behind, so that webhooks pass it by.

What is published waits in one line with the live webhooks. So that line is kept short: while worker, sink and journal
together are further behind than what they read in a fraction of a second, nothing more is put into it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
from confluent_kafka import KafkaException

from runtime import database
from runtime.progress import JOURNAL, Gauge
from runtime.settings import Settings

log = logging.getLogger(__name__)

#: Messages that the worker may be behind, over all its topics; its positions are up to a second old.
WORKER_LAG: Final = 1_500
#: Records that the sink may be behind: several of an order's.
SINK_LAG: Final = 6_000
#: Messages that may wait in the journal for the embedded broker.
JOURNAL_LAG: Final = 1_000

#: Messages published at once: what a webhook that comes just then has before it.
BATCH: Final = 500

_POLL: Final = 0.05

_WAITING: Final = """
SELECT count(*) FROM (
    SELECT 1 FROM raw_events WHERE id > coalesce(
        (SELECT next_offset FROM sink_positions WHERE incarnation = %s AND topic = %s), 0)
    LIMIT 10000
) AS waiting
"""


class Pace:
    """Waits while anybody is too far behind. `close` it in the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gauge: Gauge | None = None
        self._connection: psycopg.Connection[Any] | None = None

    async def wait(self, on_wait: Callable[[float], None] = lambda _: None) -> None:
        """Returns when there is room; `on_wait` is told how long it has waited (seconds)."""
        began = time.monotonic()
        while not await asyncio.to_thread(self._has_room):
            on_wait(time.monotonic() - began)
            await asyncio.sleep(_POLL)

    def _has_room(self) -> bool:
        try:
            return self._look()
        except (psycopg.Error, KafkaException) as error:
            log.warning("how far the readers are cannot be seen: %s", database.first_line(error))
            self.close()
            time.sleep(1)
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
        return progress.worker_lag <= WORKER_LAG and progress.sink_lag <= SINK_LAG

    def close(self) -> None:
        if self._gauge is not None:
            self._gauge.close()
        if self._connection is not None:
            self._connection.close()
        self._gauge = self._connection = None
