"""The journal's pump: the order of commits, a bounded backlog, everything again for each broker."""

import asyncio
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from books import migrate
from cli.stack.embedded import EmbeddedBroker, EmbeddedDatabase
from events import codec, keys, topics
from events.messages import Message
from runtime import kafka
from runtime.progress import WORKER_TOPICS, Gauge
from runtime.settings import Settings
from streams.journal import pump as journal
from streams.journal.pump import Pump
from streams.publisher import JournalPublisher

Connection = psycopg.Connection[Any]
SHOP = "a.myshopify.com"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("journal") / "postgres"
    database = EmbeddedDatabase(folder)
    migrate.migrate(database.start())
    yield database.url
    database.stop()


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE raw_events, sink_positions")
        yield connection


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker()
    yield broker
    broker.close()


@pytest.fixture
def settings(url: str, broker: EmbeddedBroker) -> Settings:
    return _settings(url, broker)


@pytest.fixture
def pump(settings: Settings, broker: EmbeddedBroker) -> Iterator[Pump]:
    pump = Pump(settings, broker.partitions)
    pump._ending = _Pauses()
    yield pump
    if pump.ident is not None:
        pump.stop()
    assert pump.error is None


def _settings(url: str, broker: EmbeddedBroker) -> Settings:
    return Settings.model_validate(
        {"kafka": broker.servers, "database": url, "incarnation": broker.incarnation, "journal": True}
    )


def _insert(connection: Connection, values: list[str], stream: str = topics.ORDERS, key: str = "1") -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO raw_events (received_at, stream, key, shop, triggered_at, value)"
            " VALUES (now(), %s, %s, %s, now(), %s)",
            [(stream, f"{SHOP}/{key}", SHOP, value) for value in values],
        )


def _wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class _Pauses(threading.Event):
    """A pump's way to wait, which counts: it pauses only when it has found nothing to do, or no room."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.count += 1
        return super().wait(timeout)


def _pauses(pump: Pump) -> int:
    assert isinstance(pump._ending, _Pauses)
    return pump._ending.count


def _settle(pump: Pump) -> int:
    """What it has pumped, once it has looked twice, one time after the other, and gone no further."""
    while True:
        before, pauses = pump.pumped, _pauses(pump)
        _wait(lambda pauses=pauses: _pauses(pump) >= pauses + 3)  # type: ignore[misc]
        if pump.pumped == before:
            return before


def _read(settings: Settings, topic: str, count: int, from_offset: int = 0) -> list[str]:
    consumer = Consumer({"bootstrap.servers": settings.kafka_servers(), "group.id": "look", "fetch.wait.max.ms": 20})
    home = keys.partition_of(f"{SHOP}/1".encode(), 4)
    consumer.assign([TopicPartition(topic, at, from_offset if at == home else 0) for at in range(4)])
    found: list[str] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        found += [(message.value() or b"").decode() for message in consumer.consume(count - len(found), 0.2)]
    consumer.close()
    return found


def _read_all(settings: Settings, connection: Connection) -> None:
    """Stand in for the worker and the sink: claim that everything there is has been read."""
    gauge = Gauge(settings)
    ends = gauge.read(connection).ends
    gauge.close()
    consumer = Consumer({"bootstrap.servers": settings.kafka_servers(), "group.id": settings.group})
    consumer.commit(
        offsets=[TopicPartition(topic, at, end) for (topic, at), end in ends.items() if topic in WORKER_TOPICS],
        asynchronous=False,
    )
    consumer.close()
    for (topic, partition), end in ends.items():
        if topic not in kafka.SINK_TOPICS:
            continue
        connection.execute(
            "INSERT INTO sink_positions VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (incarnation, topic, partition) DO UPDATE SET next_offset = excluded.next_offset",
            (settings.incarnation, topic, partition, end),
        )


def test_a_late_commit_is_neither_lost_nor_overtaken(
    url: str, connection: Connection, settings: Settings, pump: Pump
) -> None:
    pump.start()
    with psycopg.connect(url) as late:
        _insert(late, ["drawn first, committed last"])
        _insert(connection, ["committed while the other one runs"])
        assert _settle(pump) == 0
        late.commit()
    _insert(connection, ["afterwards"])
    assert _read(settings, topics.ORDERS, 3) == [
        "drawn first, committed last",
        "committed while the other one runs",
        "afterwards",
    ]
    assert pump.remaining(connection) == 0


def test_transactions_are_ordered_as_numbers(connection: Connection, settings: Settings, pump: Pump) -> None:
    for xid in (100, 9, 99, 10):
        connection.execute(
            "INSERT INTO raw_events (received_at, xid, stream, key, shop, triggered_at, value)"
            " VALUES (now(), %s::text::xid8, %s, %s, %s, now(), %s)",
            [xid, topics.ORDERS, f"{SHOP}/1", SHOP, str(xid)],
        )
    pump.start()
    assert _read(settings, topics.ORDERS, 4) == ["9", "10", "99", "100"]
    assert _settle(pump) == 4
    assert pump.remaining(connection) == 0


def test_a_row_is_in_the_broker_at_once(connection: Connection, settings: Settings, pump: Pump) -> None:
    pump.start()
    _insert(connection, ["warm"])
    _wait(lambda: pump.pumped == 1)
    _insert(connection, ["quick"])
    pauses = _pauses(pump)
    _wait(lambda: pump.pumped == 2)
    # It found it at its first or second look after that, however long the machine took for one.
    assert _pauses(pump) - pauses <= 3


@pytest.mark.usefixtures("connection")
def test_a_commit_of_the_way_in_wakes_it(settings: Settings, pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not look for itself, and hardly does."""
    monkeypatch.setattr(journal, "IDLE", 2.0)
    message = Message(topics.RESCORE, f"{SHOP}/1", b"{}")

    async def one_by_one() -> float:
        way_in = JournalPublisher(settings)
        began = time.monotonic()
        for count in range(1, 11):
            await way_in.publish([message])
            await asyncio.to_thread(_wait, lambda count=count: pump.pumped == count)  # type: ignore[misc]
        took = time.monotonic() - began
        await way_in.close()
        return took

    pump.start()
    assert asyncio.run(one_by_one()) < 5  # else a second each


def test_it_never_runs_further_ahead_than_the_bound(connection: Connection, settings: Settings, pump: Pump) -> None:
    _insert(connection, [str(number) for number in range(10_000)])
    pump.start()
    first = _settle(pump)
    assert 0 < first <= journal.MAX_BEHIND
    while pump.pumped < 10_000:
        before = pump.pumped
        _read_all(settings, connection)
        _wait(lambda before=before: pump.pumped > before)  # type: ignore[misc]
    assert _read(settings, topics.ORDERS, 10_000) == [str(number) for number in range(10_000)]


def test_it_counts_bytes_too(connection: Connection, settings: Settings, pump: Pump, broker: EmbeddedBroker) -> None:
    _insert(connection, [secrets.token_hex(500_000) for _ in range(12)])
    pump.start()
    assert _settle(pump) * 500_000 <= journal.MAX_BYTES  # a digit of 8 bits holds 4
    seen = 0
    while seen < 12:
        _settle(pump)
        seen += len(_read(settings, topics.ORDERS, pump.pumped - seen, from_offset=seen))
        assert seen == pump.pumped, "a message was dropped before it was read"
        _read_all(settings, connection)
        _wait(lambda seen=seen: pump.pumped > seen or seen == 12)  # type: ignore[misc]


def test_what_the_broker_cannot_carry_becomes_a_dead_letter(
    connection: Connection, settings: Settings, pump: Pump
) -> None:
    _insert(connection, ["before", secrets.token_hex(journal.MAX_RECORD + 10_000), "after"])
    pump.start()
    assert _read(settings, topics.ORDERS, 2) == ["before", "after"]
    letter = codec.loads(_read(settings, topics.DEAD_LETTERS, 1)[0].encode())
    assert (letter["error"], letter["source"], letter["key"]) == ("too_large", topics.ORDERS, f"{SHOP}/1")


def test_it_carries_what_the_front_door_takes(connection: Connection, settings: Settings, pump: Pump) -> None:
    """An order of 90,000 lines, twice, among small ones, in their order."""
    lines = [{"id": random.getrandbits(43), "price": f"{at % 977}.99", "quantity": 1} for at in range(180_000)]
    body = codec.dumps({"id": 1, "line_items": lines}).decode()
    assert len(body) > 9_000_000
    _insert(connection, ["first", body, "between", body, "last"])
    pump.start()
    assert _read(settings, topics.ORDERS, 2) == ["first", body]
    _settle(pump)
    _read_all(settings, connection)
    assert _read(settings, topics.ORDERS, 3, from_offset=2) == ["between", body, "last"]


def test_a_shop_is_known_before_what_came_before_it(connection: Connection, settings: Settings, pump: Pump) -> None:
    _insert(connection, ["an order"])
    _insert(connection, ["its program", "its second program"], stream=topics.PROGRAMS)
    pump.start()
    assert _read(settings, topics.ORDERS, 1) == ["an order"]
    assert _read(settings, topics.PROGRAMS, 3) == ["its program", "its program", "its second program"]
    with Consumer({"bootstrap.servers": settings.kafka_servers(), "group.id": "look"}) as consumer:
        home = keys.partition_of(f"{SHOP}/1".encode(), 4)
        times = [
            next(each.timestamp()[1] for each in _at(consumer, TopicPartition(topic, home, 0)))
            for topic in (topics.PROGRAMS, topics.ORDERS)
        ]
    assert times[0] <= times[1]


def _at(consumer: Any, place: TopicPartition) -> list[Any]:
    consumer.assign([place])
    return list(consumer.consume(1, 10))


def test_every_broker_gets_everything_again_in_the_same_order(connection: Connection, url: str) -> None:
    for number in range(50):
        _insert(connection, [f"{number}"], stream=topics.RESCORE if number % 7 == 3 else topics.ORDERS)
    lives = []
    for _ in range(2):
        broker = EmbeddedBroker()
        settings = _settings(url, broker)
        pump = Pump(settings, broker.partitions)
        pump.start()
        _wait(lambda pump=pump: pump.pumped == 50 or pump.error is not None)  # type: ignore[misc]
        assert pump.error is None
        lives.append((_read(settings, topics.ORDERS, 43), _read(settings, topics.RESCORE, 7)))
        pump.stop()
        broker.close()
    assert lives[0] == lives[1]
    assert lives[0][1] == [str(number) for number in range(3, 50, 7)]


def test_it_survives_the_end_of_its_connection(connection: Connection, settings: Settings, pump: Pump) -> None:
    pump.start()
    _insert(connection, ["one"])
    _wait(lambda: pump.pumped == 1)
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    _insert(connection, ["two"])
    _wait(lambda: pump.pumped == 2)
    assert _read(settings, topics.ORDERS, 2) == ["one", "two"]


def test_history_is_over_when_all_of_it_was_told_and_read(
    connection: Connection, settings: Settings, pump: Pump
) -> None:
    """Where what comes at a time is cut by its bytes, too: else a request is decided before its decision comes."""
    _insert(connection, [secrets.token_hex(30_000) for _ in range(100)])
    pump.start()
    while (before := _settle(pump)) < 100:
        assert not pump.live
        _read_all(settings, connection)
        _wait(lambda before=before: pump.pumped > before)  # type: ignore[misc]
    assert not pump.live
    _read_all(settings, connection)
    _wait(lambda: pump.live)


def test_history_that_was_told_is_not_told_again_when_its_connection_ends(
    connection: Connection, settings: Settings, pump: Pump
) -> None:
    """Nor where there is none yet: nobody would say any more that it is over."""
    pump.start()
    _wait(lambda: pump.live)
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    _insert(connection, ["one"])
    _wait(lambda: pump.pumped == 1)
    gauge = Gauge(settings)
    ends = gauge.read(connection).ends
    gauge.close()
    modes = [end for (topic, _), end in ends.items() if topic == topics.ACCOUNT_FACTS]
    assert modes == [2] * len(modes)
