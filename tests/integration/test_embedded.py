"""The embedded servers do what the rest relies on, and no more than it knows of."""

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from cli.stack import embedded
from events import keys, topics
from runtime.settings import Settings


@pytest.fixture(scope="module")
def broker() -> Iterator[embedded.EmbeddedBroker]:
    broker = embedded.EmbeddedBroker("try.")
    yield broker
    broker.close()


def _produce(servers: str, topic: str, values: list[bytes], partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": topics.MAX_MESSAGE_BYTES})
    for value in values:
        producer.produce(topic, value, partition=partition)
        producer.flush(10)  # a batch for each


def _kept(servers: str, topic: str) -> tuple[int, int]:
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "look"})
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        return int(low), int(high)
    finally:
        consumer.close()


def test_every_topic_is_there_with_the_partitions_the_broker_always_gives(
    broker: embedded.EmbeddedBroker,
) -> None:
    producer = Producer({"bootstrap.servers": broker.servers})
    found = producer.list_topics(timeout=10).topics
    assert broker.partitions == embedded.PARTITIONS
    for topic in topics.ALL:
        assert len(found[f"try.{topic.name}"].partitions) == embedded.PARTITIONS


def test_it_partitions_keys_as_the_agents_expect(broker: embedded.EmbeddedBroker) -> None:
    landed: dict[bytes, int] = {}
    producer = Producer({"bootstrap.servers": broker.servers, "partitioner": "murmur2_random"})
    for number in range(100):
        key = f"a.myshopify.com/{number}".encode()
        producer.produce("keyed", b"", key, on_delivery=lambda _, msg: landed.update({msg.key(): msg.partition()}))
    producer.flush(10)
    assert landed == {key: keys.partition_of(key, broker.partitions) for key in landed}
    assert len(landed) == 100


def test_a_partition_keeps_5_mib_and_drops_the_oldest(broker: embedded.EmbeddedBroker) -> None:
    _produce(broker.servers, "full", [b"x" * 500_000] * 20)
    low, high = _kept(broker.servers, "full")
    assert high == 20
    assert (high - low) * 500_000 <= embedded.PARTITION_BYTES < (high - low + 1) * 500_100


def test_a_batch_that_displaces_all_others_is_lost(broker: embedded.EmbeddedBroker) -> None:
    # Why the journal lets nothing through that is larger than journal.MAX_RECORD.
    _produce(broker.servers, "giant", [b"small", b"x" * 6_000_000])
    assert _kept(broker.servers, "giant") == (2, 2)


def test_each_life_of_a_broker_has_its_own_name() -> None:
    first, second = embedded.EmbeddedBroker(), embedded.EmbeddedBroker()
    assert first.incarnation != second.incarnation
    assert first.servers != second.servers


def test_the_database_keeps_everything_between_runs(tmp_path: Path) -> None:
    database = embedded.EmbeddedDatabase(tmp_path / "postgres")
    with psycopg.connect(database.start()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    database.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(database.url, connect_timeout=2)
    with psycopg.connect(database.start()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (1,)
    database.stop()


def test_a_server_left_behind_is_taken_over(tmp_path: Path) -> None:
    left = embedded.EmbeddedDatabase(tmp_path / "postgres")
    left.start()
    type(left._server)._instances.clear()  # as in a new process
    heir = embedded.EmbeddedDatabase(tmp_path / "postgres")
    assert heir.start() == left.url
    heir.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(left.url, connect_timeout=2)


def test_a_killed_server_is_started_again_with_what_was_committed(tmp_path: Path) -> None:
    database = embedded.EmbeddedDatabase(tmp_path / "postgres")
    with psycopg.connect(database.start()) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    os.kill(int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    while database.alive():
        time.sleep(0.01)
    with psycopg.connect(database.start()) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (1,)
    database.stop()


def test_a_folder_whose_making_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("18\n")
    # As a process of initdb leaves it that is killed: a negative pid, and no address.
    (folder / "postmaster.pid").write_text(f"-29645\n{folder}\n1700000000\n5432\n\n\n 10017219     32779")
    database = embedded.EmbeddedDatabase(folder)
    with psycopg.connect(database.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    database.stop()


def test_a_pid_file_that_names_a_stranger_does_not_stop_it(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    database = embedded.EmbeddedDatabase(folder)
    database.start()
    database.stop()
    lines = [os.getpid(), folder, 1_700_000_000, 5432, folder, "", "1 1", "ready", ""]
    (folder / "postmaster.pid").write_text("\n".join(map(str, lines)))
    with psycopg.connect(database.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    database.stop()


def test_the_master_key_and_the_webhook_secret_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, master_key=None, shopify_secrets=[])
    key, secrets = embedded.master_key(settings), embedded.webhook_secrets(settings)
    assert embedded.master_key(settings) == key
    assert embedded.webhook_secrets(settings) == secrets
    for name in ("master.key", "webhook.secret"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    given = Settings(data_dir=tmp_path, shopify_secrets=["one", "two"])
    assert [each.get_secret_value() for each in embedded.webhook_secrets(given)] == ["one", "two"]
