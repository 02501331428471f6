"""The sink from the broker to the database: once, whatever is killed, and loudly where it cannot go on."""

import itertools
import os
import random
import shutil
import signal
import string
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client import REGISTRY
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from books.migrate import migrate
from cli.stack.embedded import EmbeddedDatabase
from events import codec, keys, topics
from runtime import kafka
from runtime.settings import Settings
from streams.sink import main as sink_main
from streams.sink.main import SinkError
from streams.sink.refusals import MAX_REFUSED
from streams.sink.store import Fenced
from tests import killed, poison
from tests.processes import Forked
from tests.sinks import (
    EVIL,
    SHOP,
    Sent,
    customer,
    drain,
    envelope,
    key,
    letter,
    points,
    rows,
    running,
    send,
    stored,
    unstorable,
    wait,
    window,
)


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.server)])
def settings(request: pytest.FixtureRequest) -> Settings:
    found: Settings = request.getfixturevalue(request.param)
    kafka.create_topics(found)
    return found


def orders(first: int, count: int) -> list[Sent]:
    """What so many orders leave on the topics; every customer has ten, and each order earns 10 points."""
    sent: list[Sent] = []
    for number in range(first, first + count):
        order, buyer = str(number), str(number // 10)
        sent += [
            (topics.ORDERS, key(order), envelope("orders/paid", {"id": number}, webhook_id=f"w-{number}")),
            (topics.POINTS, key(buyer), points(order, buyer, 10, "a")),
            (topics.CUSTOMER_ROWS, key(buyer), customer(buyer, balance=number)),
            (topics.RFM, key(buyer), {"not": "read"}),
            (topics.WINDOWS, f"{SHOP}/0", window(orders=number)),
            (topics.ACCOUNT_FACTS, key(buyer), {"not": "read"}),
        ]
    return sent


def check(settings: Settings, count: int) -> None:
    """Everything of orders 0 to count - 1 is there, once."""
    expected = {
        "SELECT count(*), count(DISTINCT webhook_id) FROM raw_events": (count, count),
        "SELECT count(*), sum(points) FROM points_transactions": (count, 10 * count),
        "SELECT count(*), sum(total) FROM points_totals": (count, 10 * count),
        "SELECT count(*), sum(balance) FROM customers": (count // 10, sum(range(9, count, 10))),
        "SELECT sum(customers), sum(monetary) FROM rfm_segment_counts": (count // 10, 12_000 * (count // 10)),
        "SELECT count(*), count(DISTINCT customer_id) FROM rfm_score_history": (count // 10, count // 10),
        "SELECT count(*), max(orders) FROM points_windows": (1, count - 1),
        "SELECT count(*), 0 FROM dead_letters": (0, 0),
    }
    found = {query: tuple(map(int, rows(settings, query)[0])) for query in expected}
    assert found == expected


def test_every_record_is_stored_once_and_a_restart_goes_on(settings: Settings) -> None:
    send(settings, orders(0, 300))
    drain(settings)
    check(settings, 300)
    send(settings, orders(300, 200))
    drain(settings)
    check(settings, 500)
    assert not {settings.topic(topics.ACCOUNT_FACTS), settings.topic(topics.RFM)} & {
        topic for topic, _ in stored(settings)
    }


def test_small_batches_end_in_the_same_rows(settings: Settings) -> None:
    send(settings, orders(0, 50))
    drain(settings.model_copy(update={"sink_batch": 7}))
    check(settings, 50)


def test_another_incarnation_starts_from_the_beginning(embedded: Settings) -> None:
    send(embedded, orders(0, 50))
    drain(embedded)
    drain(embedded.model_copy(update={"incarnation": "another", "journal": True}))
    check(embedded, 50)  # replays repeat, and change nothing


def test_one_shops_poison_stops_nobody(settings: Settings) -> None:
    bad = [each for each in unstorable() if each[0] in kafka.SINK_TOPICS]
    good = orders(0, 100)
    mixed = [each for pair in zip_longest(good, bad) for each in pair if each is not None]
    send(settings, mixed)
    drain(settings)
    letters = rows(settings, "SELECT source, error, shop, value FROM dead_letters")
    assert len(letters) == len(bad)
    assert {error for _, error, _, _ in letters} == {"bad_record"}
    assert {shop for _, _, shop, _ in letters} == {EVIL, None}
    assert Counter(source for source, *_ in letters) == Counter(topic for topic, _, _ in bad)
    with psycopg.connect(settings.database_url()) as connection:
        connection.execute("DELETE FROM dead_letters")
    check(settings, 100)


def test_a_row_that_the_database_alone_refuses_is_found_and_let_go(settings: Settings) -> None:
    """The models bound every value; should they miss one, the batch is halved until the row stands alone."""
    with psycopg.connect(settings.database_url()) as connection:
        connection.execute("CREATE INDEX ON customers (contact)")  # too long for it: 54000, an OperationalError
        connection.execute("ALTER TABLE customers ADD CHECK (balance <> -666)")
        connection.execute("CREATE INDEX ON dead_letters (value)")
    long = "".join(random.Random(4).choices(string.ascii_letters, k=8000))  # nothing that could be compressed
    bad: list[Sent] = [
        (topics.CUSTOMER_ROWS, key("901"), customer("901", contact=long)),
        (topics.CUSTOMER_ROWS, key("902"), customer("902", balance=-666)),
        (topics.DEAD_LETTERS, None, letter(value=long)),
    ]
    good = orders(0, 100)
    send(settings, [*good[:300], *bad, *good[300:]])
    drain(settings)
    query = "SELECT source, error, detail, value IS NULL FROM dead_letters ORDER BY 1, 3"
    assert rows(settings, query) == [
        (topics.CUSTOMER_ROWS, "not_storable", "CheckViolation", False),
        (topics.CUSTOMER_ROWS, "not_storable", "ProgramLimitExceeded", True),  # its value is too long for this index
        (topics.DEAD_LETTERS, "not_storable", "ProgramLimitExceeded", True),
    ]
    with psycopg.connect(settings.database_url()) as connection:
        connection.execute("DELETE FROM dead_letters")
    check(settings, 100)


def test_a_bad_record_of_the_year_10000_is_a_dead_letter(embedded: Settings) -> None:
    """Of our own broker: Kafka refuses such a timestamp by default."""
    send(embedded, [(topics.POINTS, key("7"), b"{")], timestamp=2**60)
    send(embedded, orders(0, 10))
    drain(embedded)
    assert rows(embedded, "SELECT error, at::text FROM dead_letters") == [
        ("bad_record", "9998-12-31 23:59:59.999999+00")
    ]
    with psycopg.connect(embedded.database_url()) as connection:
        connection.execute("DELETE FROM dead_letters")
    check(embedded, 10)


def test_more_refusals_than_can_be_chance_stop_it(embedded: Settings) -> None:
    with psycopg.connect(embedded.database_url()) as connection:
        connection.execute("ALTER TABLE customers ADD CHECK (false) NOT VALID")
    send(embedded, [(topics.CUSTOMER_ROWS, key(str(n)), customer(str(n))) for n in range(50)])
    with running(embedded) as sink:
        wait(sink.finished)
    assert isinstance(sink.error, SinkError)
    assert "could not be stored" in str(sink.error)
    assert rows(embedded, "SELECT count(*) FROM dead_letters") == [(MAX_REFUSED,)]


def test_two_sinks_share_the_partitions(settings: Settings) -> None:
    with running(settings) as one, running(settings) as two:
        for first in range(0, 500, 100):
            send(settings, orders(first, 100))
            time.sleep(0.2)
        wait(lambda: one.caught_up() and two.caught_up())
    assert (one.error, two.error) == (None, None)
    check(settings, 500)


def test_a_second_reader_of_a_partition_is_noticed(settings: Settings) -> None:
    send(settings, orders(0, 50))
    with running(settings) as sink:
        wait(sink.caught_up)
        with psycopg.connect(settings.database_url()) as connection:
            connection.execute("UPDATE sink_positions SET next_offset = next_offset + 1")
        send(settings, orders(50, 50))
        wait(sink.finished)
    assert isinstance(sink.error, Fenced)
    assert "another sink" in str(sink.error)
    check(settings, 50)


def test_a_total_that_somebody_else_stores_meanwhile_is_no_bad_record(settings: Settings) -> None:
    """Of one customer before and after partitions were added, say, or by the sink of another incarnation."""
    columns = "shop, source, source_id, customer_id, via, revision, total, processed_at"
    values = (SHOP, "order", "1", "7", "", "a", 10, "2026-01-01T00:00:00Z")
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(settings.database_url()) as other, running(settings) as sink:
        wait(sink.caught_up)
        other.execute(f"INSERT INTO points_totals ({columns}) VALUES ({', '.join(['%s'] * 8)})".encode(), values)
        send(settings, [(topics.POINTS, key("7"), points("1", "7", 30, "b"))])
        wait(lambda: rows(settings, waits) == [(1,)])
        other.commit()
        wait(sink.caught_up)
    assert rows(settings, "SELECT error, detail FROM dead_letters") == []
    assert rows(settings, "SELECT revision, total FROM points_totals") == [("b", 30)]
    assert rows(settings, "SELECT points FROM points_transactions") == [(20,)]


def test_a_position_beyond_the_logs_end_stops_it(settings: Settings) -> None:
    send(settings, orders(0, 50))
    drain(settings)
    with psycopg.connect(settings.database_url()) as connection:
        connection.execute("UPDATE sink_positions SET next_offset = next_offset + 1000")
    with running(settings) as sink:
        wait(sink.finished)
    assert isinstance(sink.error, SinkError)
    assert "the topic was made anew" in str(sink.error)
    check(settings, 50)


@pytest.mark.server
def test_what_retention_removed_is_counted_and_reading_goes_on(real: Settings) -> None:
    kafka.create_topics(real)
    send(real, orders(0, 50))
    drain(real)
    send(real, orders(50, 10))
    admin = AdminClient(kafka.client_config(real))
    name = real.topic(topics.WINDOWS)
    latest = {TopicPartition(name, at): OffsetSpec.latest() for at in range(real.partitions)}
    ends = admin.list_offsets(latest).items()
    cut = [TopicPartition(name, at.partition, answer.result(10).offset) for at, answer in ends]
    # A partition that was just made may not have its leader yet.
    patiently = Retrying(retry=retry_if_exception_type(KafkaException), stop=stop_after_delay(30), wait=wait_fixed(0.2))
    for attempt in patiently:
        with attempt:
            for answer in admin.delete_records(cut).values():
                answer.result(10)
    before = REGISTRY.get_sample_value("loyalnest_sink_lost_records_total", {"topic": topics.WINDOWS}) or 0
    drain(real)
    lost = REGISTRY.get_sample_value("loyalnest_sink_lost_records_total", {"topic": topics.WINDOWS})
    assert lost == before + 10
    assert rows(real, "SELECT max(orders) FROM points_windows") == [(49,)]
    assert rows(real, "SELECT count(*) FROM points_transactions") == [(60,)]


def test_the_metrics_say_what_was_stored(embedded: Settings) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0

    table = {"table": "points_transactions"}
    before = value("loyalnest_sink_rows_total", **table)
    strange = envelope("orders/paid", {"id": 1, "financial_status": "bartered"}, webhook_id="w-strange")
    sent: list[Sent] = [
        (topics.POINTS, key("7"), b"{"),
        # What the worker and the front door could not use.
        (topics.DEAD_LETTERS, None, letter(error="unexpected")),
        (topics.DEAD_LETTERS, None, letter(id=f"{0:08d}-0000-4000-8000-{7:012d}", source="webhook", error="bad_json")),
        (topics.WINDOWS, f"{SHOP}/0", window("2020-01-01T00:00:00Z", late=True)),
        (topics.ORDERS, key("1"), strange),
    ]
    metered: dict[str, list[dict[str, str]]] = {
        "loyalnest_dead_letters_total": [
            {"source": topics.POINTS, "error": "bad_record"},
            {"source": topics.ORDERS, "error": "unexpected"},
            {"source": "webhook", "error": "bad_json"},
        ],
        "loyalnest_late_windows_total": [{"size": "hour"}],
        "loyalnest_unknown_statuses_total": [{}],
    }
    seen = [(name, labels, value(name, **labels)) for name, every in metered.items() for labels in every]
    paid = [
        (topic, name, {**found, "payload": {**found["payload"], "financial_status": "paid"}})
        if topic == topics.ORDERS
        else (topic, name, found)
        for topic, name, found in orders(0, 20)
    ]
    send(embedded, [*paid, *sent])
    drain(embedded)
    assert value("loyalnest_sink_rows_total", **table) == before + 20
    for name, labels, was in seen:
        assert value(name, **labels) == was + 1, (name, labels)
    assert value("loyalnest_sink_batch_seconds_count") > 0


# --- killed ------------------------------------------------------------------------------------------------------


def test_connections_cut_while_it_works_lose_and_double_nothing(settings: Settings) -> None:
    small = settings.model_copy(update={"sink_batch": 200})
    with running(small) as sink:
        for first in range(0, 1000, 100):
            send(settings, orders(first, 100))
            with psycopg.connect(settings.database_url(), autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'loyalnest sink' AND datname = current_database()"
                )
        wait(sink.caught_up)
    assert sink.error is None
    check(settings, 1000)


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedDatabase]:
    """A migrated PostgreSQL of this test alone, which may kill it."""
    folder = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    server = EmbeddedDatabase(folder / "database")
    try:
        migrate(server.start())
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


#: A sink that has begun to write a batch, and waits for somebody's lock.
_IN_THE_MIDST = "SELECT FROM pg_stat_activity WHERE application_name = 'loyalnest sink' AND wait_event_type = 'Lock'"


def _kill(url: str) -> None:
    """kill -9 of the postmaster and all of its processes, as a machine's loss would."""
    folder = Path(unquote(urlsplit(url).query.partition("host=")[2]))
    postmaster = int((folder / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (postmaster, *map(int, children)):
        with suppress(ProcessLookupError):  # a child that has seen its postmaster's end goes by itself
            os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds PostgreSQL's processes in Linux's /proc")
def test_a_killed_database_loses_and_doubles_nothing(mock_kafka: str, own_postgres: EmbeddedDatabase) -> None:
    settings = Settings(kafka=mock_kafka, database=own_postgres.url, partitions=4, sink_batch=300)
    with running(settings) as sink:
        send(settings, orders(0, 200))
        wait(lambda: bool(rows(settings, "SELECT FROM points_totals LIMIT 1")))
        for first in (200, 600):
            with closing(psycopg.connect(own_postgres.url)) as holder:
                holder.execute("LOCK TABLE points_totals IN ACCESS EXCLUSIVE MODE")
                send(settings, orders(first, 400))
                wait(lambda: bool(rows(settings, _IN_THE_MIDST)))
                _kill(own_postgres.url)
            own_postgres.start()
        wait(sink.caught_up)
    assert sink.error is None
    check(settings, 1000)


def _process(settings: Settings, folder: Path) -> Forked:
    environment = {
        **os.environ,
        "LOYALNEST_KAFKA": settings.kafka_servers(),
        "LOYALNEST_DATABASE": settings.database_url(),
        "LOYALNEST_TOPIC_PREFIX": settings.topic_prefix,
        "LOYALNEST_SINK_BATCH": str(settings.sink_batch),
        "LOYALNEST_PARTITIONS": str(settings.partitions),
        "LOYALNEST_SESSION_TIMEOUT": "6",
        "LOYALNEST_WORKER_ID": "sink-under-test",
    }
    return Forked(killed.sink, environment=environment, stdout=folder / "sink.log", stderr=folder / "sink.log")


@pytest.mark.slow
def test_a_killed_sink_loses_and_doubles_nothing(settings: Settings, tmp_path: Path) -> None:
    small = settings.model_copy(update={"sink_batch": 100})
    sent = 0
    for _ in range(3):
        process = _process(small, tmp_path)
        send(settings, orders(sent, 300))
        sent += 300
        before = sum(stored(settings).values())
        wait(lambda at=before: sum(stored(settings).values()) > at)  # type: ignore[misc]
        process.kill()
        process.wait(10)
    drain(settings)
    check(settings, sent)


def test_it_ends_cleanly_when_told_to(settings: Settings, tmp_path: Path) -> None:
    process = _process(settings, tmp_path)
    send(settings, orders(0, 50))
    wait(lambda: bool(rows(settings, "SELECT FROM points_totals LIMIT 1")))
    process.terminate()
    assert process.wait(20) == 0
    drain(settings)
    check(settings, 50)


class _Unsure:
    """A message of an error as the client may give it: with an offset that it made up."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def offset(self) -> int:
        return int.from_bytes(b'_id":"1#')

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


@pytest.mark.parametrize("pattern", [(True,), (True, False), (False, True), (False, True, True)])
def test_an_offset_that_the_client_made_up_is_not_believed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, pattern: tuple[bool, ...]
) -> None:
    """Where a batch cannot be read its offset may be whatever stood there in memory, once or each time."""
    made_up = itertools.cycle(pattern)

    class Client(Consumer):
        def consume(self, *args: Any, **more: Any) -> list[Any]:
            found = super().consume(*args, **more)
            return [each if each.error() is None or not next(made_up) else _Unsure(each) for each in found]

    monkeypatch.setattr(sink_main, "Consumer", Client)
    partition = keys.partition_of(key("1").encode(), settings.partitions)
    bad = poison.unknown_codec([codec.dumps(points("1", "1", 10, "a"))] * 3, b"k")
    with running(settings) as sink:
        taken = 0
        for number in range(3):
            taken += poison.put(settings.kafka_servers(), settings.topic(topics.POINTS), partition, bad) == 0
            send(settings, [(topics.POINTS, key("1"), points(str(number), "1", 10, "a"))])
        wait(sink.caught_up)
    assert sink.error is None
    assert rows(settings, "SELECT count(*) FROM points_totals") == [(3,)]
    assert rows(settings, "SELECT count(*) FROM dead_letters") == [(taken,)]


def test_batches_that_cannot_be_read_are_passed(settings: Settings) -> None:
    """The client by itself stands still before one of them, and with it every shop of that partition."""
    partition = keys.partition_of(key("1").encode(), settings.partitions)
    values = [codec.dumps(points("1", "1", 10, "a"))] * 3
    refused = 0
    with running(settings) as sink:
        for number, bad in enumerate(
            (
                poison.unknown_codec(values, b"k"),
                poison.broken_checksum(values, b"k"),
                poison.broken_body(values, b"k", 3),
                poison.unknown_codec(values, b"k"),
            )
        ):
            for topic in (topics.POINTS, topics.ORDERS):
                code = poison.put(settings.kafka_servers(), settings.topic(topic), partition, bad)
                refused += code == 0 and topic == topics.POINTS
            if number < 3:
                send(settings, [(topics.POINTS, key("1"), points(str(number), "1", 10, "a"))])
        wait(sink.caught_up)
    assert sink.error is None
    assert rows(settings, "SELECT count(*) FROM points_totals") == [(3,)]
    # Of the worker's topics the worker tells.
    expected = [(topics.POINTS, "unreadable", refused)] if refused else []
    assert rows(settings, "SELECT source, error, count(*) FROM dead_letters GROUP BY 1, 2") == expected
