"""A publisher behind which a worker folds, and the sink stores: redemptions are decided as they are in earnest."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg

from events import topics
from events.messages import Message
from streams.sink import store as sink_store
from streams.sink.rows import Rows
from tests import harness
from tests.integration.api_world import SHOP, Remembering, World, opened

Json = dict[str, Any]

PROGRAM: Json = {
    "shop": SHOP,
    "currency": "USD",
    "rules": [{"effective_from": None, "points_per_unit": "1"}],
    "rewards": [
        {"reward_id": "ten", "cost": 10, "kind": "shipping", "name": "ten"},
        {"reward_id": "rare", "cost": 2, "kind": "shipping", "name": "rare", "limit": {"count": 1, "days": 10}},
        {"reward_id": "gone", "cost": 1, "kind": "shipping", "name": "gone", "until": "2026-01-01T00:00:00Z"},
        {"reward_id": "cheap", "cost": 3, "kind": "shipping", "name": "cheap"},
        {"reward_id": "cheap", "cost": 4, "kind": "shipping", "name": "c", "effective_from": "2026-10-01T00:00:00Z"},
    ],
}


@contextmanager
def rewarding(database: str, publisher: "Deciding") -> Iterator[World]:
    """An API over a database, whose shop has rewards, and behind which this publisher decides."""
    with opened(database, publisher) as running:
        running.publisher = publisher
        running.program(**PROGRAM)
        yield running


#: What the sink reads of a worker's.
_READ = (topics.REQUESTS, topics.REDEMPTIONS, topics.POINTS, topics.CUSTOMER_ROWS, topics.DEAD_LETTERS)


class Deciding(Remembering):
    """A publisher whose messages are folded and stored a moment later; while `held`, once they are let go."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._lock = threading.Lock()
        self._stream = harness.Stream(harness.reference({SHOP: PROGRAM}), partitions=2)
        self._stored: dict[Any, int] = {}
        self.held: list[Message] | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        await super().publish(messages)
        if self.held is None:
            asyncio.get_running_loop().run_in_executor(None, self.decide, list(messages))
        else:
            self.held.extend(messages)

    def decide(self, messages: Sequence[Message]) -> None:
        with self._lock:
            for message in messages:
                at = int(datetime.now(UTC).timestamp() * 1000)
                self._stream.put(message.topic, message.key, message.value, timestamp=at)
            self._stream.run()
            self._store()

    def _store(self) -> None:
        rows = Rows(journal=False)
        for place, log in self._stream.logs.items():
            if place[0] in _READ:
                for received in log[self._stored.get(place, 0) :]:
                    rows.add(received)
                self._stored[place] = len(log)
        assert not rows.dead_letters
        with psycopg.connect(self._url) as connection:
            sink_store.prepare(connection)
            with connection.transaction(), connection.cursor() as cursor:
                sink_store.write(cursor, rows)
