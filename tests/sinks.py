"""Feeding the history sink and running it until it has read everything, for tests."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from events import codec, keys
from runtime import kafka
from runtime.settings import Settings
from streams.sink import Sink

SHOP = "demo.myshopify.com"

#: (topic without prefix, key, value)
Sent = tuple[str, str | None, Any]


def send(settings: Settings, messages: Sequence[Sent], timestamp: int = 0) -> None:
    """Produce messages, dicts as JSON; `timestamp` in milliseconds, 0 for now."""
    producer = Producer(kafka.producer_config(settings))
    failed: list[Any] = []
    for topic, key, value in messages:
        data = value if isinstance(value, bytes) or value is None else codec.dumps(value)
        producer.produce(
            *(settings.topic(topic), data, key),
            on_delivery=lambda error, _: failed.append(error) if error else None,
            timestamp=timestamp,
        )
        producer.poll(0)
    assert producer.flush(30) == 0
    assert not failed


def ends(settings: Settings) -> dict[tuple[str, int], int]:
    """The end of every partition that the sink reads."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_servers(), "log_level": 2})
    known = admin.list_topics(timeout=10).topics
    names = [settings.topic(topic) for topic in kafka.SINK_TOPICS]
    places = [TopicPartition(name, at) for name in names if name in known for at in known[name].partitions]
    answers = admin.list_offsets(dict.fromkeys(places, OffsetSpec.latest()))
    return {(at.topic, at.partition): answer.result(10).offset for at, answer in answers.items()}


def rows(settings: Settings, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.database_url(), options="-c timezone=UTC") as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def stored(settings: Settings) -> dict[tuple[str, int], int]:
    query = "SELECT topic, partition, next_offset FROM sink_positions WHERE incarnation = %s"
    return {(topic, part): at for topic, part, at in rows(settings, query, settings.incarnation)}


def wait(condition: Callable[[], bool], seconds: float = 45) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it in time"
        time.sleep(0.05)


class Running:
    """A sink in a thread; `error` is what ended it, if anything did."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.error: Exception | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            Sink(self.settings).run(self._end)
        except Exception as error:
            self.error = error

    def finished(self) -> bool:
        return not self._thread.is_alive()

    def caught_up(self) -> bool:
        assert self.error is None, self.error
        try:
            at = stored(self.settings)
        except psycopg.OperationalError:
            return False  # the test has just killed it
        return all(at.get(place, 0) >= end for place, end in ends(self.settings).items())

    def stop(self) -> None:
        self._end.set()
        self._thread.join(30)
        assert self.finished()


@contextmanager
def running(settings: Settings) -> Iterator[Running]:
    sink = Running(settings)
    try:
        yield sink
    finally:
        sink.stop()


def drain(settings: Settings) -> None:
    """Run a sink until it has stored everything there is."""
    with running(settings) as sink:
        wait(sink.caught_up)
    assert sink.error is None, sink.error


# --- records -----------------------------------------------------------------------------------------------------


def key(customer: str, shop: str = SHOP) -> str:
    return keys.join(shop, customer)


def envelope(topic: str, payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "topic": topic,
        "shop": SHOP,
        "webhook_id": "w-1",
        "event_id": None,
        "api_version": "2026-07",
        "triggered_at": "2026-11-21T09:30:00Z",
        "received_at": "2026-11-21T09:30:01Z",
        "payload": payload,
        **more,
    }


def points(order: str, customer: str, total: int, revision: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "points.earned",
        "shop": SHOP,
        "customer_id": customer,
        "order_id": order,
        "revision": revision,
        "changed_at": "2026-11-21T09:30:00Z",
        "processed_at": "2026-11-20T08:00:00Z",
        "earned": max(total, 0),
        "reversed": 0,
        "total": total,
        **more,
    }


def standing(segment: str = "Champions", **more: Any) -> dict[str, Any]:
    return {
        "r": 5,
        "f": 4,
        "m": 3,
        "score": "4.1",
        "segment_id": "seg_543",
        "segment": segment,
        "cut_points_version": "default",
        **more,
    }


def customer(ident: str, segment: str = "Champions", **more: Any) -> dict[str, Any]:
    return {
        "shop": SHOP,
        "customer_id": ident,
        "now": "2026-11-21T09:30:00Z",
        "currency": "USD",
        "balance": 120,
        "recency_days": 3,
        "frequency": 2,
        "monetary": 12_000,
        "last_order_at": "2026-11-18T09:30:00Z",
        "standing": standing(segment),
        "contact": None,
        "deleted": False,
        "redacted": False,
        **more,
    }


def rfm(ident: str, previous: str | None, current: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "rfm.updated",
        "id": "5f0d4c1e-0000-4000-8000-000000000001",
        "shop": SHOP,
        "customer_id": ident,
        "at": "2026-11-21T09:30:00Z",
        "currency": "USD",
        "recency_days": 3,
        "frequency": 2,
        "monetary": 12_000,
        "previous": None if previous is None else standing(previous),
        "current": standing(current),
        "cause": "order 1",
        **more,
    }


def window(start: str = "2026-11-21T09:00:00Z", **more: Any) -> dict[str, Any]:
    return {
        "shop": SHOP,
        "size": "hour",
        "start": start,
        "partition": 0,
        "late": False,
        "currency": "USD",
        "orders": 1,
        "net": 12_000,
        "points_earned": 120,
        "points_reversed": 0,
        "customers": 1,
        "guest_orders": 0,
        "guest_net": 0,
        **more,
    }
