"""A generated shop whose year has been played: webhooks through the real folds, and what they made in a database.

Nothing is delivered twice or astray here: what comes of that other tests find out.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Connection

from batch import segments
from batch.rescoring import Patience
from cli.shop import store_maker
from events import instants, topics
from events.messages import Message
from events.programs import CutPoints, Program
from lake.manifest import Lake
from runtime import kafka
from streams.sink import store
from streams.sink.rows import Rows
from tests import harness
from tests.integration.test_batch import add_program

SHOP = "demo.myshopify.com"
UNTIL = instants.parse("2026-11-21T09:30:00Z")


class Played:
    """The shop in the database of `url`. `batch` runs its batch as of a time."""

    def __init__(self, url: str, customers: int, webhooks: int, program: dict[str, Any] | None = None) -> None:
        self.url = url
        self._stored: dict[tuple[str, int], int] = {}
        with psycopg.connect(url, autocommit=True) as connection:
            self.program: Program = add_program(connection, SHOP, **(program or {}))
        plain = {**self.program.model_dump(mode="json"), "shop": SHOP}
        self._stream = harness.Stream(harness.reference({SHOP: plain}), partitions=1, workers=1, most=10_000, losses=0)
        self._stream.calm = True
        for each in store_maker.make_store(UNTIL, seed=1, customers=customers, webhooks=webhooks):
            self._stream.send(
                {
                    "topic": each.topic,
                    "shop": SHOP,
                    "webhook_id": each.webhook_id,
                    "event_id": each.event_id,
                    "api_version": "2026-07",
                    "triggered_at": instants.text(each.triggered_at),
                    "received_at": instants.text(each.triggered_at),
                    "payload": each.payload,
                }
            )
        self._follow()

    def batch(self, connection: Connection[Any], lake: Lake, as_of: datetime) -> None:
        segments.run(connection, self._publish, SHOP, as_of, None, patience=Patience(3, 1.0, 0.01), lake=lake)

    def _publish(self, messages: Sequence[Message]) -> None:
        for each in messages:
            if each.topic == topics.CUT_POINTS:
                self._stream.reference.put_cut_points(CutPoints.model_validate_json(each.value))
            self._stream.put(each.topic, each.key, each.value, partition=0)
        self._follow()

    def _follow(self) -> None:
        """Folds what came, and stores what that made."""
        self._stream.run()
        with psycopg.connect(self.url, options="-c timezone=UTC") as connection:
            store.prepare(connection)
            rows = Rows(journal=False)
            for (topic, number), log in self._stream.logs.items():
                if topic in kafka.SINK_TOPICS:
                    for received in log[self._stored.get((topic, number), 0) :]:
                        rows.add(received)
                    self._stored[topic, number] = len(log)
            with connection.transaction(), connection.cursor() as cursor:
                store.write(cursor, rows)
