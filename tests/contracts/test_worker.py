"""What a worker promises, on the embedded broker and on Apache Kafka alike: real processes, really killed."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from events import codec, instants, keys, topics
from runtime import kafka
from runtime.settings import Settings
from streams import unreadable
from tests import poison, stores
from tests.oracle import oracle
from tests.workers import Feeder, Reader, WorkerProcess, committed, place, wait

SHOP = "worker.myshopify.com"
PROGRAM = {"shop": SHOP, "currency": "USD"}
pytestmark = pytest.mark.slow  # a process takes its seconds to start
OUTPUTS = (topics.CUSTOMER_ROWS, topics.POINTS, topics.RFM, topics.WINDOWS, topics.DEAD_LETTERS)


EMBEDDED = pytest.param(("embedded_stream", "memory"), id="embedded")
REAL = [
    pytest.param(("real_stream", store), id=f"real, {store}", marks=pytest.mark.server)
    for store in ("memory", "rocksdb")
]


@pytest.fixture(params=[EMBEDDED, *REAL])
def settings(request: pytest.FixtureRequest) -> Settings:
    name, store = request.param
    found: Settings = request.getfixturevalue(name).model_copy(update={"store": store})
    kafka.create_topics(found)
    return found


@pytest.fixture
def feeder(settings: Settings) -> Feeder:
    feeder = Feeder(settings)
    feeder.programs(PROGRAM)
    return feeder


@pytest.fixture
def reader(settings: Settings) -> Iterator[Reader]:
    reader = Reader(settings, *OUTPUTS)
    yield reader
    reader.close()


@pytest.fixture
def worker(settings: Settings, feeder: Feeder, tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(settings, tmp_path)
    yield worker
    if worker.process is not None and not worker.exited():
        worker.kill()


def order(number: int, customer: int, amount: str = "10.00", **more: Any) -> dict[str, Any]:
    at = instants.text((1_790_000_000 + number) * instants.SECOND)
    payload = {
        "id": number,
        "created_at": at,
        "updated_at": at,
        "financial_status": "paid",
        "currency": "USD",
        "current_subtotal_price": amount,
        "subtotal_price": amount,
        "customer": {"id": customer},
        "refunds": [],
        **more,
    }
    return {
        "topic": "orders/paid",
        "shop": SHOP,
        "webhook_id": f"w-{number}",
        "event_id": None,
        "api_version": "2026-07",
        "triggered_at": at,
        "received_at": at,
        "payload": payload,
    }


def balances(reader: Reader) -> dict[str, int]:
    return {customer: row["balance"] for (_, customer), row in reader.rows().items()}


def test_kill_9_at_any_moment_changes_nothing(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    """Killed in the midst of its work, several times, a worker ends where the oracle does."""
    shops = {f"kill{seed}.myshopify.com": seed for seed in range(4)}
    programs = {shop: {**stores.program(seed), "shop": shop} for shop, seed in shops.items()}
    feeder.programs(*programs.values())
    several = [each for shop, seed in shops.items() for each in stores.store(seed, shop=shop, orders=60)]
    random.Random(7).shuffle(several)
    worker.start()
    for start in range(0, len(several), 400):
        feeder.envelopes(several[start : start + 400])
        reader.poll(0.3)
        worker.kill()
        worker.launch()
    expected = {
        (shop, ident): (customer.balance, customer.frequency, customer.monetary, customer.recency)
        for shop, found in oracle(several, programs, None, None).items()
        for ident, customer in found.customers.items()
    }

    def as_expected() -> bool:
        rows = reader.rows()
        names = ("balance", "frequency", "monetary", "recency_days")
        return {key: tuple(row[name] for name in names) for key, row in rows.items()} == expected

    reader.until(as_expected, 90)
    assert worker.stop() == 0
    assert reader.values(topics.DEAD_LETTERS) == []


def test_a_table_comes_back_from_its_changelog(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    feeder.envelopes([order(number, 1) for number in range(100)])  # long enough for a tree of nodes
    worker.start()
    reader.until(lambda: balances(reader).get("1") == 1000)
    wait(lambda: committed(settings, topics.ORDERS) == 100)
    assert worker.stop() == 0
    worker.start()
    feeder.envelopes([order(100, 1)])
    reader.until(lambda: balances(reader).get("1") == 1010)
    assert worker.stop() == 0


def test_a_key_on_the_wrong_partition_finds_its_way(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    sent = order(1, 5)
    key = keys.join(SHOP, "1")
    wrong = (keys.partition_of(key.encode(), settings.partitions) + 1) % settings.partitions
    worker.start()
    feeder.raw(topics.ORDERS, key, codec.dumps(sent), wrong)
    feeder.raw(topics.ORDERS, "not its key", codec.dumps(order(2, 5)))
    reader.until(lambda: balances(reader).get("5") == 20)
    assert all(
        message.partition() == keys.partition_of(message.key(), settings.partitions)
        for message in reader.messages[topics.CUSTOMER_ROWS]
    )


def test_a_message_of_eleven_megabytes_is_folded(feeder: Feeder, reader: Reader, worker: WorkerProcess) -> None:
    worker.start()
    feeder.envelopes([order(1, 5, note="x" * 11_000_000), order(2, 5)])
    reader.until(lambda: balances(reader).get("5") == 20)


def test_bad_messages_become_dead_letters_and_the_rest_goes_on(
    feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    worker.start()
    feeder.raw(topics.ORDERS, keys.join(SHOP, "7"), b'{"topic": "orders/paid", "shop')
    feeder.raw(topics.ORDERS, keys.join(SHOP, "7"), None)
    feeder.envelopes([order(8, 5, currency="EUR"), {**order(9, 5), "shop": "nobody.myshopify.com"}, order(10, 5)])
    reader.until(lambda: balances(reader).get("5") == 10)
    reader.until(lambda: len(reader.values(topics.DEAD_LETTERS)) == 4)
    errors = {letter["error"] for letter in reader.values(topics.DEAD_LETTERS)}
    assert errors == {"bad_envelope", "empty", "other_currency", "unknown_shop"}


def test_a_program_that_was_just_announced_is_known(feeder: Feeder, reader: Reader, worker: WorkerProcess) -> None:
    worker.start()
    for number in range(5):
        shop = f"new{number}.myshopify.com"
        feeder.programs({"shop": shop, "currency": "USD"})
        feeder.envelopes([{**order(1, 5), "shop": shop}])
    reader.until(lambda: len(reader.rows()) == 5)
    assert reader.values(topics.DEAD_LETTERS) == []


def test_a_changelog_that_cannot_be_read_stops_the_worker(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    """Faust by itself would log a warning and wait in recovery for ever."""
    feeder.raw(kafka.changelog(settings, "customers"), keys.join(SHOP, "5"), b"not JSON", 0)
    worker.launch()
    wait(worker.exited)
    assert worker.process is not None
    assert worker.process.returncode == 1
    assert "UnreadableChangelog" in worker.said()


#: A worker that makes windows as slowly as if it held a thousand times as many customers.
_SLOW = """
import time
from tables import restating
from collections.abc import Iterator
real = restating.rebuilding

def slowly(values, partial):
    for _ in real(values, partial):
        time.sleep(0.05)  # it holds the loop as work would, and takes no core from the other tests
        yield

restating.rebuilding = slowly
"""


def test_a_worker_keeps_its_partitions_while_it_makes_windows(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess, tmp_path: Path
) -> None:
    """It takes twice the session timeout: held up for so long, a worker would lose its partitions, and begin again."""
    feeder.envelopes([order(number, number % 250) for number in range(250)])
    worker.start()
    reader.until(lambda: len(balances(reader)) == 250)
    wait(lambda: committed(settings, topics.ACCOUNT_FACTS) == 250)
    assert worker.stop() == 0
    slow = WorkerProcess(settings, tmp_path, "slow", before=_SLOW).start()
    try:
        feeder.envelopes([order(250, 7)])
        reader.until(lambda: balances(reader)["7"] == 20)
        assert slow.said().count("ready: partitions") == 1
        assert slow.stop() == 0
    finally:
        if not slow.exited():
            slow.kill()


# Embedded there is one worker, and when it dies everything starts again.
@pytest.mark.parametrize("settings", REAL, indirect=True)
def test_two_workers_share_and_take_over(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess, tmp_path: Path
) -> None:
    other = WorkerProcess(settings, tmp_path, "other")
    try:
        worker.start()
        feeder.envelopes([order(number, number % 20) for number in range(400)])
        other.start()
        feeder.envelopes([order(number, number % 20) for number in range(400, 800)])
        reader.until(lambda: sorted(balances(reader).values()) == [400] * 20, 90)
        worker.kill()
        feeder.envelopes([order(number, number % 20) for number in range(800, 1200)])
        reader.until(lambda: sorted(balances(reader).values()) == [600] * 20, 90)
        assert other.stop() == 0
    finally:
        if other.process is not None and not other.exited():
            other.kill()


def test_another_number_of_partitions_is_refused(settings: Settings, tmp_path: Path) -> None:
    """Every key would look misplaced, and be sent on for ever."""
    wrong = settings.model_copy(update={"partitions": settings.partitions + 1})
    worker = WorkerProcess(wrong, tmp_path).launch()
    wait(worker.exited)
    assert worker.process is not None
    assert worker.process.returncode == 1
    assert "partitions" in worker.said()


@pytest.mark.server
def test_a_delivery_that_fails_stops_the_worker_and_commits_nothing(real_stream: Settings, tmp_path: Path) -> None:
    """A changelog topic that refuses our records: what was folded is not durable, and nobody may say it is."""
    kafka.create_topics(real_stream)
    feeder = Feeder(real_stream)
    feeder.programs(PROGRAM)
    worker = WorkerProcess(real_stream, tmp_path).start()
    limit = ConfigEntry("max.message.bytes", "100", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(
        ResourceType.TOPIC, kafka.changelog(real_stream, "customers"), incremental_configs=[limit]
    )
    admin = AdminClient({"bootstrap.servers": real_stream.kafka_servers()})
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(10)
    _until_refused(real_stream, kafka.changelog(real_stream, "customers"), keys.join(SHOP, "5"))
    feeder.envelopes([order(1, 5)])
    wait(worker.exited)
    assert worker.process is not None
    assert worker.process.returncode == 1
    assert "DeliveryFailed" in worker.said()
    assert committed(real_stream, topics.ACCOUNT_FACTS) == 0


def _until_refused(settings: Settings, topic: str, beside: str) -> None:
    """A broker takes a moment to heed a topic's new limit; tried on another partition than this key's."""
    elsewhere = (keys.partition_of(beside.encode(), settings.partitions) + 1) % settings.partitions
    answers: list[KafkaError | None] = []

    def refused() -> bool:
        producer.produce(topic, b"x" * 1000, "probe", elsewhere, lambda error, _: answers.append(error))
        producer.flush(10)
        return answers[-1] is not None and answers[-1].code() == KafkaError.MSG_SIZE_TOO_LARGE

    producer = Producer(kafka.producer_config(settings))
    wait(refused)


def test_every_codec_of_kafka_is_read(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    """As somebody else's producers send it: many records to a batch."""
    worker.start()
    for customer, kind in enumerate(("gzip", "snappy", "lz4", "zstd"), start=1):
        config = {"compression.type": kind, "linger.ms": 200}
        producer = Producer(kafka.producer_config(settings) | config)
        for each in [order(100 * customer + number, customer) for number in range(100)]:
            topic, key = place(each)
            producer.produce(settings.topic(topic), codec.dumps(each), key)
        assert producer.flush(30) == 0
    reader.until(lambda: balances(reader) == dict.fromkeys("1234", 1000))


def test_batches_that_cannot_be_read_are_named_and_passed(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    """One of them stopped the worker for every shop, at each start anew. Apache Kafka refuses most of them itself."""
    name, key = settings.topic(topics.ORDERS), keys.join(SHOP, "1")
    at = keys.partition_of(key.encode(), settings.partitions)
    values = [codec.dumps(order(1, 5))] * 3
    worker.start()
    named, end = [], 0
    for bad in (
        poison.unknown_codec(values, key.encode()),
        poison.broken_checksum(values, key.encode()),
        poison.bad_header(values, key.encode()),
        *(poison.broken_body(values, key.encode(), number) for number in (1, 2, 3, 4)),
    ):
        if poison.put(settings.kafka_servers(), name, at, bad) == 0:
            named.append(end)
            end += len(values)
        feeder.envelopes([order(1, 5)])
        end += 1
    feeder.envelopes([order(number, 5) for number in range(2, 50)])
    reader.until(lambda: balances(reader).get("5") == 490)
    wait(lambda: committed(settings, topics.ORDERS) == end + 48)
    reader.until(lambda: len(reader.messages[topics.DEAD_LETTERS]) == len(named))
    letters = reader.values(topics.DEAD_LETTERS)
    assert {letter["error"] for letter in letters} == {"unreadable"}
    assert [letter["offset"] for letter in letters] == named
    assert worker.stop() == 0


# Embedded, since Apache Kafka refuses such a batch.
@pytest.mark.parametrize("settings", [EMBEDDED], indirect=True)
def test_too_many_batches_that_cannot_be_read_stop_the_worker(
    settings: Settings, feeder: Feeder, worker: WorkerProcess
) -> None:
    name, bad = settings.topic(topics.ORDERS), poison.unknown_codec([b"1"], b"k")
    for _ in range(unreadable.LIMIT + 1):
        assert poison.put(settings.kafka_servers(), name, 0, bad) == 0
    worker.launch()
    wait(worker.exited)
    assert worker.process is not None
    assert worker.process.returncode == 1
    assert "unreadable: a record batch" in worker.said()


@pytest.mark.parametrize("settings", REAL[:1], indirect=True)
def test_what_a_transaction_took_back_counts_nowhere(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    """The sink does not read it either: nothing of it is in the history."""
    producer = Producer({**kafka.producer_config(settings), "transactional.id": f"{settings.topic_prefix}tests"})
    producer.init_transactions(20)
    worker.start()
    for number, ends in enumerate((producer.abort_transaction, producer.commit_transaction), start=1):
        producer.begin_transaction()
        topic, key = place(order(number, 5))
        producer.produce(settings.topic(topic), codec.dumps(order(number, 5, f"{number}0.00")), key)
        assert producer.flush(20) == 0
        ends(20)
    feeder.envelopes([order(3, 5, "30.00")])
    reader.until(lambda: balances(reader) == {"5": 50})
    assert worker.stop() == 0


def test_forged_programs_and_times_change_nothing(
    settings: Settings, feeder: Feeder, reader: Reader, worker: WorkerProcess
) -> None:
    """Whoever can write to the topics changes no currency, no rules, and no customer's now for ever."""
    ever = {"points_per_unit": "1"}
    forged = (
        {**PROGRAM, "currency": "JPY"},
        {**PROGRAM, "rules": [{"points_per_unit": "1000"}]},
        {**PROGRAM, "rules": [ever, {"points_per_unit": "1000", "effective_from": "2020-01-01T00:00:00Z"}]},
    )
    for each in forged:
        feeder.programs({**each, "announced_at": "9998-01-01T00:00:00Z"})
    feeder.raw(topics.PROGRAMS, SHOP, b"not json")
    to_come = "9998-01-01T00:00:00Z"
    as_of = {"shop": SHOP, "as_of": to_come, "version": "v", "slice": 0, "slices": 1}
    feeder.envelopes([order(1, 1) | {"triggered_at": to_come, "received_at": to_come}])
    worker.start()
    reader.until(lambda: balances(reader) == {"1": 10})
    feeder.raw(topics.RESCORE, keys.join(SHOP, "1"), codec.dumps(as_of))
    feeder.envelopes([order(2, 1)])
    reader.until(lambda: balances(reader) == {"1": 20})
    reader.until(lambda: len(reader.values(topics.DEAD_LETTERS)) == 1)
    assert [letter["error"] for letter in reader.values(topics.DEAD_LETTERS)] == ["future_time"]
    assert worker.stop() == 0
    (row,) = reader.rows().values()
    assert (row["currency"], row["frequency"]) == ("USD", 2)
    latest = instants.from_datetime(datetime.now(UTC)) + instants.CLOCK_SKEW
    assert instants.parse(row["now"]) <= latest + instants.SECOND


@pytest.mark.server
def test_whoever_is_ended_while_starting_moves_nothing(real_stream: Settings, tmp_path: Path) -> None:
    """They would join for half of the topics, and somebody else would be given input without its table."""
    kafka.create_topics(real_stream)
    first = WorkerProcess(real_stream, tmp_path, "first").start()
    try:
        for number in range(2):
            starting = WorkerProcess(real_stream, tmp_path, f"starting-{number}").launch()
            wait(lambda: starting.log.exists() and "ChunkThread]: Starting" in starting.said())  # noqa: B023 - at once
            assert starting.stop() == 0
            assert "changelogs are read" not in starting.said()
        assert first.said().count("ready: partitions") == 1
        assert not first.exited()
    finally:
        first.kill()
