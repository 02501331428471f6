"""How far the stream is behind: measured beside the sink, told by the API."""

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from psycopg.rows import dict_row

from cli.stack.embedded import EmbeddedBroker
from events import topics
from runtime import kafka
from runtime.progress import JOURNAL, Gauge
from runtime.settings import Settings
from streams.sink.lag import Trail, Watch
from streams.sink.main import Sink
from tests import sinks
from tests.integration.api_world import NOW, SHOP, opened

T = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def later(seconds: int) -> datetime:
    return T + timedelta(seconds=seconds)


def test_all_that_had_come_is_read_until_the_last_look_that_everybody_has_passed() -> None:
    trail, log, other = Trail(), ("orders", 0), ("orders", 1)
    assert trail.read_to({log: 0}) is None
    trail.looked(later(0), {log: 10, other: 5})
    assert trail.read_to({log: 9, other: 5}) is None
    trail.looked(later(5), {log: 20, other: 5})
    assert trail.read_to({log: 19, other: 5}) == later(0)
    trail.looked(later(10), {log: 20, other: 5})
    assert trail.read_to({log: 20, other: 5}) == later(10)
    assert trail.read_to({log: 20, other: 5}) == later(10)
    trail.looked(later(15), {log: 20, other: 6})
    assert trail.read_to({log: 20}) == later(15), "a log that somebody does not read holds nobody up"


def test_what_nobody_reads_is_not_remembered_without_end() -> None:
    trail = Trail()
    for number in range(5000):
        trail.looked(later(number), {("orders", 0): number + 1})
    assert len(trail._ends) < 1000
    assert trail.read_to({("orders", 0): 10_000}) is not None


def noted(settings: Settings) -> dict[str, Any]:
    with psycopg.connect(settings.database_url(), row_factory=dict_row) as connection:
        row = connection.execute("SELECT * FROM stream_lag").fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("who", ["lag", "sink"])
def test_what_kafkas_clients_say_while_it_is_away_is_heard(
    who: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They keep it until somebody hears it, some lines a second: of a long outage hundreds of megabytes."""
    monkeypatch.setattr("runtime.progress._TIMEOUT", 1)
    with closing(EmbeddedBroker()) as broker:
        settings = Settings(kafka=broker.servers, partitions=broker.partitions)
        gauge, sink = Gauge(settings), Sink(settings)
    caplog.clear()
    if who == "lag":
        with pytest.raises(KafkaException):
            gauge.read(cast(Any, None))
    else:
        assert sink.kafka_away() is not None
    assert "loyalnest.librdkafka" in {record.name for record in caplog.records}


def test_worker_and_sink_are_each_as_far_as_they_are(settings: Settings) -> None:
    watch = Watch(settings, threading.Event())
    watch.look(later(0))
    assert (noted(settings)["worker"], noted(settings)["sink"]) == (0, 0)
    assert noted(settings)["worker_read_to"] == noted(settings)["sink_read_to"] == later(0)
    sinks.send(settings, [(topics.ORDERS, f"{SHOP}/{number}", {}) for number in range(30)])
    watch.look(later(5))
    found = noted(settings)
    assert (found["worker"], found["sink"]) == (30, 30)
    assert found["worker_read_to"] == found["sink_read_to"] == later(0)
    group = settings.topic(settings.group)
    consumer = Consumer({**kafka.client_config(settings), "group.id": group, "enable.auto.commit": False})
    ends = [(place, end) for place, end in sinks.ends(settings).items() if place[0] == settings.topic(topics.ORDERS)]
    consumer.commit(offsets=[TopicPartition(*place, end) for place, end in ends], asynchronous=False)
    consumer.close()
    watch.look(later(10))
    found = noted(settings)
    assert (found["worker"], found["sink"]) == (0, 30)
    assert (found["worker_read_to"], found["sink_read_to"]) == (later(10), later(0))
    assert found["waiting"] is (0 if settings.journal else None)


def test_what_waits_for_the_embedded_broker_has_come_too(embedded: Settings) -> None:
    settings = embedded.model_copy(update={"journal": True})
    watch = Watch(settings, threading.Event())
    watch.look(later(0))
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO raw_events (received_at, triggered_at, stream, key, shop, webhook_topic, webhook_id, value)"
            " VALUES (%(now)s, %(now)s, %(stream)s, %(shop)s || '/1', %(shop)s, 'orders/paid', 'w-1', '{}')",
            {"now": NOW, "stream": topics.ORDERS, "shop": SHOP},
        )
        watch.look(later(5))
        assert (noted(settings)["waiting"], noted(settings)["worker_read_to"]) == (1, later(0))
        connection.execute(
            "INSERT INTO sink_positions SELECT %s, %s, 0, max(id) FROM raw_events", (settings.incarnation, JOURNAL)
        )
        watch.look(later(10))
    assert (noted(settings)["waiting"], noted(settings)["worker_read_to"]) == (0, later(10))


def test_the_api_tells_it(database: str) -> None:
    with opened(database) as world:
        headers = world.key("read")
        assert world.get("/lag", headers).json() == {
            "shop": SHOP,
            **dict.fromkeys(("measured_at", "waiting", "worker", "sink")),
            "running": False,
        }
        now = datetime.now(UTC)
        row = {"waiting": None, "worker": 7, "worker_read_to": now - timedelta(seconds=9), "sink": 8}
        world.insert("stream_lag", noted_at=now, sink_read_to=None, **row)
        told = world.get("/lag", headers).json()
        assert (told["running"], told["worker"]["records"], told["sink"]["records"]) == (True, 7, 8)
        assert told["worker"]["seconds"] >= 9
        assert (told["sink"]["read_to"], told["sink"]["seconds"]) == (None, None)
        world.sql("UPDATE stream_lag SET noted_at = now() - interval '31 seconds'")
        assert not world.get("/lag", headers).json()["running"]
