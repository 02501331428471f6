"""Topics are compared before anything reads or writes: what would lose something is refused, the rest is named."""

import logging
import sys
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from pydantic import SecretStr

from cli import main as cli
from events import topics
from runtime import kafka, topic_settings
from runtime.settings import Settings
from streams.sink import main as sink
from tests.workers import WorkerProcess, wait

WEEK = "604800000"
SMALL = str(1 << 20)


@pytest.fixture
def made(real_stream: Settings) -> Settings:
    kafka.create_topics(real_stream)
    return real_stream


def alter(settings: Settings, name: str, setting: str, value: str) -> None:
    change = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[change])
    admin = AdminClient({"bootstrap.servers": settings.kafka_servers()})
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(10)
    asked = ConfigResource(ResourceType.TOPIC, name)
    wait(lambda: admin.describe_configs([asked])[asked].result(10)[setting].value == value, 10)


@pytest.mark.server
def test_topics_as_we_make_them_are_right(made: Settings, caplog: pytest.LogCaptureFixture) -> None:
    topic_settings.check(made)
    assert caplog.records == []


def test_the_embedded_broker_has_no_settings_to_compare(
    embedded_stream: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    topic_settings.check(embedded_stream)
    assert [each.getMessage() for each in caplog.records if each.name == topic_settings.__name__] == []


@pytest.mark.server
@pytest.mark.parametrize(
    ("topic", "setting", "value"),
    [
        (topics.PROGRAMS, "retention.ms", WEEK),  # as a broker makes them by itself
        (topics.CUT_POINTS, "retention.ms", WEEK),
        (topics.CUT_POINTS, "retention.bytes", "1000000"),
        (topics.PROGRAMS, "cleanup.policy", "compact"),
        (topics.ORDERS, "cleanup.policy", "compact"),
        (topics.ORDERS, "max.message.bytes", SMALL),
        ("customers", "cleanup.policy", "delete"),
        ("orders", "max.message.bytes", SMALL),
    ],
)
def test_what_would_lose_something_is_refused(made: Settings, topic: str, setting: str, value: str) -> None:
    name = made.topic(topic) if topic in topics.BY_NAME else kafka.changelog(made, topic)
    if name.endswith("-changelog") and value == "delete":
        alter(made, name, "retention.ms", WEEK)
    alter(made, name, setting, value)
    with pytest.raises(kafka.TopicError, match=f"{name} has {setting}={value} instead of"):
        topic_settings.check(made)


@pytest.mark.server
def test_what_is_merely_otherwise_is_named(made: Settings, caplog: pytest.LogCaptureFixture) -> None:
    alter(made, made.topic(topics.RFM), "retention.ms", WEEK)
    alter(made, made.topic(topics.ORDERS), "retention.bytes", "1000000000")
    alter(made, made.topic(topics.POINTS), "max.message.bytes", "20000000")
    with caplog.at_level(logging.WARNING, topic_settings.__name__):
        topic_settings.check(made.model_copy(update={"replication": 2}))
    said = "\n".join(each.getMessage() for each in caplog.records)
    assert f"{made.topic(topics.RFM)} has retention.ms={WEEK} instead of 2592000000" in said
    assert f"{made.topic(topics.ORDERS)} has retention.bytes=1000000000" in said
    assert f"{made.topic(topics.POINTS)} has max.message.bytes=20000000" in said
    assert said.count("has 1 replicas instead of 2") == len(kafka.wanted(made))


@pytest.mark.server
@pytest.mark.slow
def test_nobody_makes_a_topic_by_mentioning_it(
    real: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broker may make whatever is asked for, with seven days for programs that are never to be dropped."""
    worker = WorkerProcess(real, tmp_path).launch()
    wait(worker.exited)
    assert worker.process is not None
    assert worker.process.returncode == 1
    assert "run `loyalnest topics create`" in worker.said()
    assert sink.main(real) == 1
    assert isinstance(real.database, SecretStr)
    monkeypatch.setenv("LOYALNEST_KAFKA", real.kafka_servers())
    monkeypatch.setenv("LOYALNEST_DATABASE", real.database.get_secret_value())
    monkeypatch.setenv("LOYALNEST_TOPIC_PREFIX", real.topic_prefix)
    monkeypatch.setattr(sys, "argv", ["loyalnest", "shops", "add", "a.myshopify.com", "--data", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "loyalnest topics create" in capsys.readouterr().err
    admin = AdminClient({"bootstrap.servers": real.kafka_servers()})
    assert [name for name in admin.list_topics(timeout=10).topics if name.startswith(real.topic_prefix)] == []
