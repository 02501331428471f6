"""An import that waits for somebody who gets nowhere says for whom, and says it once."""

import asyncio
import time
from collections.abc import Iterator

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from events import topics
from events.messages import Message
from imports import pace as pacing
from imports.pace import Pace
from runtime import kafka
from runtime.settings import Settings
from tests import sinks
from tests.integration.api_world import SHOP


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(pacing, "STALL", 0.6)
    monkeypatch.setattr(pacing, "LOOK", 0.2)
    return []


@pytest.fixture
def pace(settings: Settings, told: list[str]) -> Iterator[Pace]:
    found = Pace(settings, told.append)
    yield found
    found.close()


def orders(count: int) -> list[Message]:
    return [Message(topics.ORDERS, f"{SHOP}/{number}", b"{}") for number in range(count)]


def send(settings: Settings, messages: list[Message]) -> None:
    sinks.send(settings, [(each.topic, each.key, each.value) for each in messages])


def waits(pace: Pace, seconds: float) -> bool:
    """Whether there is room within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if asyncio.run(pace.wait()):
            return True
    return False


def worker_reads(settings: Settings, share: float) -> None:
    group = settings.topic(settings.group)
    consumer = Consumer({**kafka.client_config(settings), "group.id": group, "enable.auto.commit": False})
    ours = [(place, end) for place, end in sinks.ends(settings).items() if place[0] == settings.topic(topics.ORDERS)]
    consumer.commit(offsets=[TopicPartition(*place, int(end * share)) for place, end in ours], asynchronous=False)
    consumer.close()


def sink_stores(settings: Settings) -> None:
    with psycopg.connect(settings.database_url()) as connection:
        for (name, partition), end in sinks.ends(settings).items():
            connection.execute(
                "INSERT INTO sink_positions (incarnation, topic, partition, next_offset) VALUES (%s, %s, %s, %s)",
                (settings.incarnation, name, partition, end),
            )


def test_who_gets_nowhere_is_named_once(settings: Settings, pace: Pace, told: list[str]) -> None:
    assert waits(pace, 5)
    send(settings, orders(300))
    pace.sent(orders(300))
    assert not waits(pace, 3)
    (first,) = told
    assert first.startswith("waits for the worker, 300 messages behind, and nothing has moved for ")
    assert first.endswith("is `loyalnest worker` running?")
    # It has read some, and stands still again: that is another time.
    worker_reads(settings, 0.5)
    assert not waits(pace, 3)
    assert len(told) == 2
    assert told[1].startswith("waits for the worker, ")
    # All of it is read and told; nobody stores it.
    worker_reads(settings, 1)
    send(settings, [Message(topics.POINTS, each.key, b"{}") for each in orders(300)])
    assert not waits(pace, 3)
    assert len(told) == 3
    assert told[2].startswith("waits for the sink, 600 messages behind, ")
    sink_stores(settings)
    assert waits(pace, 5)
    assert len(told) == 3


def test_servers_that_are_away_are_named_too(told: list[str]) -> None:
    away = Settings(kafka="127.0.0.1:9", database="postgresql://127.0.0.1:9/none")
    pace = Pace(away, told.append)
    assert not waits(pace, 4)
    pace.close()
    (said,) = told
    assert said.startswith("waits for Kafka or the database, and nothing has moved for ")
