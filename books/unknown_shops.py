"""Bringing in what came for a shop before it was added.

Until a shop has a program nobody can say what its orders are worth: the worker makes a dead letter of each of its
messages (`unknown_shop`). That is no refusal of what they say. They stand in the raw history, and once the shop is
there they are put on their topics again, by whoever looks first: `loyalnest shops add`, the schedule, a batch.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final

import psycopg

from events import topics
from events.messages import Message
from runtime import patience
from runtime.progress import Gauge, Place
from runtime.settings import Settings

log = logging.getLogger(__name__)

UNKNOWN_SHOP: Final = "unknown_shop"

INPUTS: Final = [topics.ORDERS, topics.CUSTOMERS, topics.SHOPS, topics.REQUESTS]
#: Returns when its messages are durable; PublishError otherwise.
Publish = Callable[[Sequence[Message]], None]

_AT_ONCE: Final = 500
_POLL: Final = 0.1

_WAITING: Final = """
SELECT DISTINCT d.shop FROM dead_letters d JOIN programs p USING (shop)
WHERE d.error = %s AND d.replayed_at IS NULL ORDER BY d.shop
"""

# With real Kafka the sink may store a letter before the message: then it is left to the next look.
_LETTERS: Final = """
SELECT id, source, key FROM dead_letters d
WHERE shop = %(shop)s AND error = %(error)s AND replayed_at IS NULL AND source = ANY(%(inputs)s)
  AND (%(journal)s OR EXISTS (
      SELECT FROM sink_positions s
      WHERE s.incarnation = %(incarnation)s AND s.topic = %(prefix)s || d.source AND s.partition = d.partition
        AND s.next_offset > d."offset"))
FOR UPDATE
"""

# One of each: what was replayed before stands there twice.
_MESSAGES: Final = """
SELECT DISTINCT ON (md5(value)) stream, key, value FROM raw_events
WHERE shop = %s AND (stream, key) IN (SELECT * FROM unnest(%s::text[], %s::text[])) ORDER BY md5(value), id
"""

_DONE: Final = "UPDATE dead_letters SET replayed_at = clock_timestamp() WHERE id = ANY(%s) AND shop = %s"


def waiting(connection: psycopg.Connection[Any]) -> list[str]:
    """The shops that have a program by now, and messages from before it."""
    return [shop for (shop,) in connection.execute(_WAITING, [UNKNOWN_SHOP])]


def bring_in(settings: Settings, connection: psycopg.Connection[Any], publish: Publish, shop: str) -> int:
    """Publishes again what was refused because the shop was unknown, and notes it on the letters; how many messages.

    Twice does no harm. The shop must have a program that the worker can read. PublishError when something could not be
    made durable: then the letters stay open.
    """
    asked = {
        "shop": shop,
        "error": UNKNOWN_SHOP,
        "inputs": INPUTS,
        "journal": settings.journal,
        "incarnation": settings.incarnation,
        "prefix": settings.topic_prefix,
    }
    sent = 0
    with connection.transaction():
        # Two that look at once: the second finds what has come since, and no more.
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('bring in ' || %s, 0))", [shop])
        letters = connection.execute(_LETTERS, asked).fetchall()
        if not letters:
            return 0
        ids, sources, letter_keys = (list(column) for column in zip(*letters, strict=True))
        with connection.cursor("brought", scrollable=False) as cursor:
            cursor.execute(_MESSAGES, [shop, sources, letter_keys])
            while rows := cursor.fetchmany(_AT_ONCE):
                publish([Message(stream, key, value.encode()) for stream, key, value in rows])
                sent += len(rows)
        connection.execute(_DONE, [ids, shop])
    log.info("brought in %d messages from before %s was added", sent, shop)
    return sent


def bring_in_and_wait(
    settings: Settings, connection: psycopg.Connection[Any], publish: Publish, shop: str, seconds: float
) -> tuple[int, bool]:
    """As `bring_in`, for a shop that was added a moment ago: with what is still on its way to being refused.

    How many messages, and whether worker and sink came within so many seconds to have taken them in.
    """
    with closing(Gauge(settings)) as gauge:
        waiting = _Waiting(gauge, connection, time.monotonic() + seconds)
        if not (waiting.known(shop) and waiting.through()):
            return 0, False
        before = waiting.inputs()
        sent = bring_in(settings, connection, publish, shop)
        return sent, sent == 0 or waiting.through(before + sent)


class _Waiting:
    """Waiting, until a deadline, for worker and sink to see what stands on the topics and what follows from it."""

    def __init__(self, gauge: Gauge, connection: psycopg.Connection[Any], deadline: float) -> None:
        self._gauge = gauge
        self._connection = connection
        self._deadline = deadline

    def known(self, shop: str) -> bool:
        """Once the sink has stored the shop's program, so that the worker can read it."""
        query = "SELECT 1 FROM programs WHERE shop = %s"
        return self._until(lambda: self._connection.execute(query, [shop]).fetchone() is not None)

    def inputs(self) -> int:
        """Where the inputs end, over all partitions."""
        return sum(end for at, end in self._gauge.read(self._connection).ends.items() if at[0] in INPUTS)

    def through(self, inputs: int = 0) -> bool:
        """Once so many messages stand on the inputs: the journal's come there a little later. False: too late."""
        if not self._until(lambda: self.inputs() >= inputs):
            return False
        # The inputs; the facts made of them; the results and letters made of those.
        for _ in range(3):
            ends = self._gauge.read(self._connection).ends
            if not self._until(lambda ends=ends: self._passed(ends)):  # type: ignore[misc]
                return False
        return True

    def _passed(self, ends: dict[Place, int]) -> bool:
        now = self._gauge.read(self._connection)
        read = [at for at in ends if at in now.worker or at in now.sink]
        return all(now.done(at) >= ends[at] for at in read)

    def _until(self, condition: Callable[[], bool]) -> bool:
        return patience.until(condition, self._deadline - time.monotonic(), _POLL)
