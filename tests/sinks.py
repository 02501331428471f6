"""Feeding the history sink and running it until it has read everything, for tests."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from events import codec, keys, topics
from runtime import kafka, patience
from runtime.settings import Settings
from streams.sink.main import Sink

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
    answers = patience.retried(
        lambda: [
            (at, answer.result(10).offset)
            for at, answer in admin.list_offsets(dict.fromkeys(places, OffsetSpec.latest())).items()
        ],
        KafkaException,  # a topic that was made just now has no leader yet
        seconds=10,
        every=0.1,
    )
    return {(at.topic, at.partition): offset for at, offset in answers}


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
        "source": "order",
        "source_id": order,
        "via": None,
        "revision": revision,
        "changed_at": "2026-11-21T09:30:00Z",
        "processed_at": "2026-11-20T08:00:00Z",
        "earned": max(total, 0),
        "reversed": 0,
        "total": total,
        **more,
    }


def ran_out(customer: str, day: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "points.expired",
        "shop": SHOP,
        "customer_id": customer,
        "day": day,
        "zone": "UTC",
        "at": f"{day}T00:00:00Z",
        "points": number,
        "fence": 0,
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
        "pending": 0,
        "earned": 150,
        "spent": 30,
        "expired": 0,
        "expiring": 20,
        "expires_at": "2027-11-19T00:00:00Z",
        "recency_days": 3,
        "frequency": 2,
        "monetary": 12_000,
        "last_order_at": "2026-11-18T09:30:00Z",
        "standing": standing(segment),
        "contact": None,
        "contact_at": None,
        "consent": None,
        "consent_at": None,
        "consent_by_order": False,
        "deleted": False,
        "redacted": False,
        "merged_into": None,
        "fence": 0,
        "cause": "order 1",
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
        "zone": "UTC",
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
        "points_awarded": 0,
        "points_redeemed": 0,
        "fence": 0,
        **more,
    }


def letter(**more: Any) -> dict[str, Any]:
    return {
        "id": "5f0d4c1e-0000-4000-8000-00000000000d",
        "at": "2026-11-21T09:30:00Z",
        "shop": SHOP,
        "source": topics.ORDERS,
        "partition": 0,
        "offset": 0,
        "key": key("1"),
        "error": "bad_time",
        "detail": "not an RFC 3339 time",
        "value": None,
        "sealed": None,
        **more,
    }


EVIL = "evil.myshopify.com"


def unstorable() -> list[Sent]:
    """One shop's records with a value each that no column, index or key of ours could hold."""
    name, far = "n" * 8000, "9999-12-31T23:59:59Z"
    good = {
        topics.CUSTOMER_ROWS: customer("1", shop=EVIL),
        topics.POINTS: points("1", "1", 5, "a", shop=EVIL),
        topics.RFM: rfm("1", None, "New", shop=EVIL),
        topics.WINDOWS: window(shop=EVIL),
        topics.RESCORE: {"shop": EVIL, "customer_id": "1", "as_of": "2026-11-21T09:30:00Z", "version": "v"},
    }
    changes: list[tuple[str, dict[str, Any]]] = [
        *((topics.CUSTOMER_ROWS, {"balance": number}) for number in (2**63, -(2**63) - 1, 10**30)),
        *((topics.CUSTOMER_ROWS, {"monetary": 2**63}), (topics.CUSTOMER_ROWS, {"frequency": 2**31})),
        *((topics.CUSTOMER_ROWS, {"recency_days": each}) for each in (2**31, -1)),
        *((topics.CUSTOMER_ROWS, {"now": at}) for at in ("2026-99-99T00:00:00Z", far, "2026-W01-1T00:00:00+00:00")),
        *((topics.CUSTOMER_ROWS, {"standing": standing(each)}) for each in (name, "", "a\0b", "a\x1bb")),
        *((topics.CUSTOMER_ROWS, {"standing": standing(score=each)}) for each in ("44.3", "NaN")),
        (topics.CUSTOMER_ROWS, {"standing": standing(cut_points_version=name)}),
        *((topics.CUSTOMER_ROWS, {"customer_id": each}) for each in (name, "1\0", "")),
        *((topics.CUSTOMER_ROWS, {"contact": "v1.\0"}), (topics.CUSTOMER_ROWS, {"shop": name})),
        *((topics.POINTS, {"earned": number, "total": number}) for number in (10**13 + 1, 2**63, 10**19)),
        *((topics.POINTS, {"revision": each}) for each in (name, "a\0b", "")),
        *((topics.POINTS, {"source": "gift"}), (topics.POINTS, {"source_id": name}), (topics.POINTS, {"shop": "x"})),
        *((topics.RFM, {"id": "5"}), (topics.RFM, {"cause": "order \0"}), (topics.RFM, {"cause": name})),
        *((topics.WINDOWS, {"net": 2**63}), (topics.WINDOWS, {"partition": -1}), (topics.WINDOWS, {"size": "year"})),
        *((topics.RESCORE, {"version": name}), (topics.RESCORE, {"as_of": far})),
    ]
    sent: list[Sent] = [
        (topic, key("1", EVIL), json.dumps({**good[topic], **change}).encode()) for topic, change in changes
    ]
    surrogate = json.dumps({**good[topics.RFM], "cause": "\ud800"}).encode()
    return [*sent, (topics.RFM, key("1", EVIL), surrogate), (topics.POINTS, "k\0" * 900, b"\xff\x00")]
