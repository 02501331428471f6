"""Apache Kafka: its own jars by Maven, run by the machine's Java."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import shutil
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from scripts.serving.server import CACHE, SCRIPTS, Server, ServerError, locked, need, run


def kafka_jars() -> Path:
    """Returns the folder of Kafka's jars, each of which has the SHA-256 of the committed list."""
    sums = read_sums(SCRIPTS / "kafka/jars.sha256")
    wanted = hashlib.sha256(repr(sorted(sums.items())).encode()).hexdigest()[:12]
    folder = CACHE / f"kafka-{wanted}"
    with locked(CACHE):
        if not folder.exists():
            mvn = need("mvn", "Downloading Apache Kafka")
            partial = CACHE / f"{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
            command = [mvn, "--batch-mode", "--file", str(SCRIPTS / "kafka/pom.xml"), *goal]
            run(command, CACHE / "kafka.log", "Downloading Apache Kafka (44 MB)")
            check_sums(partial, sums)
            partial.rename(folder)
        check_sums(folder, sums)
    return folder


def read_sums(file: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file that a list in sha256sum's format names."""
    return {name: digest for digest, name in map(str.split, file.read_text().splitlines())}


def check_sums(folder: Path, sums: dict[str, str]) -> None:
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    wrong = sorted(name for name in found.keys() | sums.keys() if found.get(name) != sums.get(name))
    if wrong:
        raise ServerError(f"{folder} does not hold the jars of scripts/kafka/jars.sha256; remove it. Wrong: {wrong}")


class Kafka(Server):
    """One KRaft node, broker and controller in one."""

    name = "kafka"

    def command(self) -> list[str]:
        java = [need("java", "Apache Kafka"), "-cp", f"{kafka_jars()}/*", "-Xms256m", "-Xmx512m"]
        logger = {
            "defaultLogLevel": "warn",
            "showDateTime": "true",
            "dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS",
        }
        java += [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in logger.items()]
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self.properties().items()))
        if not (self.folder / "data/meta.properties").exists():
            cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
            tool = [
                "kafka.tools.StorageTool",
                "format",
                "--config",
                str(properties),
                f"--cluster-id={cluster}",
            ]
            run([*java, *tool], self.log, "Formatting Kafka's storage")
        # A server that lives for one run of the tests would never get back what HotSpot's second compiler takes.
        compiler = ["-XX:TieredStopAtLevel=1"] if os.environ.get("CI") == "true" else []
        return [*java, *compiler, "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "kafka.Kafka", str(properties)]

    def properties(self) -> dict[str, object]:
        broker, controller = f"127.0.0.1:{self.port()}", f"127.0.0.1:{self.port('controller-port')}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "log.dirs": self.folder / "data",
            # A topic must be made with its settings, so never by a mere mention.
            "auto.create.topics.enable": "false",
            # One node holds every copy.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 8,
            # Tests start groups all the time, and none waits for a second member.
            "group.initial.rebalance.delay.ms": 0,
            # A webhook's body to 10 MB, as JSON text within our envelope.
            "message.max.bytes": 12_582_912,
            "replica.fetch.max.bytes": 12_582_912,
        }

    def answers(self) -> bool:
        address = {"bootstrap.servers": f"127.0.0.1:{self.port()}", "log_level": 0}
        try:
            return bool(AdminClient(address, logger=None).list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def environment(self) -> dict[str, str]:
        return {"LOYALNEST_TEST_KAFKA": f"127.0.0.1:{self.port()}"}
