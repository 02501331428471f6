"""Real workers as processes of their own, to be fed, killed and started again, for tests."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from events import codec, keys, payloads, topics, webhook_topics
from events.programs import Program
from runtime import kafka
from runtime.settings import Settings
from tests.processes import Forked


def _work(before: str) -> None:
    exec(before, {})
    from streams.worker import main

    sys.exit(main.main(Settings()))


class WorkerProcess:
    """A worker as a process. `start` returns once it holds its partitions and recovered its tables.

    `before` is what the process runs first.
    """

    def __init__(self, settings: Settings, folder: Path, name: str = "worker", before: str = "") -> None:
        self._before = before
        self.log = folder / f"{name}.log"
        self._ready = folder / f"{name}.ready"
        wanted = {
            "KAFKA": settings.kafka_servers(),
            "TOPIC_PREFIX": settings.topic_prefix,
            "PARTITIONS": settings.partitions,
            "DATA_DIR": folder / name,
            "WORKER_ID": name,
            "READY_FILE": self._ready,
            "STORE": settings.store,
            "STORE_CACHE_MIB": 16,  # what is asked for is read from files
            "CHUNK_RECORDS": 50,  # many chunks in little data
            "SESSION_TIMEOUT": 6,
        }
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LOYALNEST_")},
            **{f"LOYALNEST_{key}": str(value) for key, value in wanted.items()},
        }
        self.process: Forked | None = None

    def launch(self) -> "WorkerProcess":
        self._ready.unlink(missing_ok=True)
        self.process = Forked(_work, self._before, environment=self._environment, stdout=self.log, stderr=self.log)
        return self

    def start(self) -> "WorkerProcess":
        self.launch()
        wait(lambda: self._ready.exists() or self.exited(), 60)
        assert not self.exited(), self.said()
        return self

    def exited(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-6000:]

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it in time"
        time.sleep(0.05)


def place(envelope: dict[str, Any]) -> tuple[str, str]:
    """(topic, key) of an envelope."""
    ident = payloads.resource_of(envelope["topic"], envelope["payload"])
    return webhook_topics.stream_of(envelope["topic"]), keys.join(envelope["shop"], str(ident))


class Feeder:
    """Produces what the tests want a worker to read; every call waits for the broker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(kafka.producer_config(settings))

    def programs(self, *programs: dict[str, Any]) -> None:
        for each in programs:
            program = Program.model_validate(each)
            self._send(topics.PROGRAMS, program.shop, program.model_dump_json().encode())
        self.flush()

    def envelopes(self, several: Sequence[dict[str, Any]]) -> None:
        for each in several:
            self._send(*place(each), codec.dumps(each))
        self.flush()

    def raw(self, topic: str, key: str, value: bytes | None, partition: int | None = None) -> None:
        self._send(topic, key, value, partition)
        self.flush()

    def _send(self, topic: str, key: str, value: bytes | None, partition: int | None = None) -> None:
        name = topic if topic.endswith("-changelog") else self._settings.topic(topic)
        if partition is None:
            self._producer.produce(name, value, key)
        else:
            self._producer.produce(name, value, key, partition)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


class Reader:
    """Follows our output topics from their beginning and keeps the newest customer rows."""

    def __init__(self, settings: Settings, *names: str) -> None:
        self._settings = settings
        self._consumer = Consumer({**kafka.consumer_config(settings, "tests"), "auto.offset.reset": "earliest"})
        self.messages: dict[str, list[Message]] = {name: [] for name in names}
        found = {name: self._consumer.list_topics(settings.topic(name), timeout=10) for name in names}
        self._consumer.assign(
            [
                TopicPartition(settings.topic(name), number, 0)
                for name in names
                for number in found[name].topics[settings.topic(name)].partitions
            ]
        )

    def poll(self, seconds: float = 0.1) -> None:
        for message in self._consumer.consume(5000, seconds):
            assert message.error() is None, message.error()
            self.messages[message.topic().removeprefix(self._settings.topic_prefix)].append(message)

    def values(self, name: str) -> list[Any]:
        return [codec.loads(message.value()) for message in self.messages[name]]

    def rows(self) -> dict[tuple[str, str], Any]:
        """The newest row of every customer."""
        return {(row["shop"], row["customer_id"]): row for row in self.values(topics.CUSTOMER_ROWS)}

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"the topics never showed it: {self._summary()}"
            self.poll()

    def _summary(self) -> str:
        """What there is instead, for a failure's message."""
        counts = {name: len(found) for name, found in self.messages.items()}
        return f"{counts}, balances {[row['balance'] for row in self.rows().values()][:40]}"

    def close(self) -> None:
        self._consumer.close()


def committed(settings: Settings, topic: str) -> int:
    """How far the worker's group has committed a topic, over its partitions."""
    group = f"{settings.topic_prefix}{settings.group}"
    consumer = Consumer({"bootstrap.servers": settings.kafka_servers(), "group.id": group})
    try:
        places = [TopicPartition(settings.topic(topic), number) for number in range(settings.partitions)]
        return sum(max(at.offset, 0) for at in consumer.committed(places, timeout=10))
    finally:
        consumer.close()
