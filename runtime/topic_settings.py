"""Whether the topics are as they must be: every process of ours looks before it reads or writes.

A topic that a broker made by itself has the broker's defaults: programs that must never be dropped live for seven days,
and a table's changelog loses what it holds. What would lose something is refused; what is merely otherwise is named.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from events import topics
from runtime import kafka
from runtime.kafka import TopicError
from runtime.settings import Settings

log = logging.getLogger(__name__)

_TIMEOUT: Final = 10.0
_ENDLESS: Final = "-1"


class KafkaAwayError(TopicError):
    """Kafka does not answer, so nothing is known of its topics."""


class Difference(NamedTuple):
    """One setting of one topic that is not as it should be; `dangerous` where something would be lost."""

    topic: str
    what: str
    dangerous: bool

    def __str__(self) -> str:
        return f"topic {self.topic} {self.what}"


def check(settings: Settings) -> None:
    """Names every difference in the log; TopicError if one of them is dangerous, or a topic is not there.

    KafkaAwayError where Kafka does not answer within 10 s. The embedded broker's topics have no settings; of them the
    partitions are compared.
    """
    admin: Any = AdminClient(kafka.client_config(settings))
    try:
        cluster = admin.list_topics(timeout=_TIMEOUT)
    except KafkaException as error:
        raise KafkaAwayError(f"Kafka cannot be reached: {error.args[0].str()}") from None
    found = list(_shapes(settings, cluster))
    if kafka.has_controller(cluster):
        found += _missing(settings, cluster)
        there = [topic for topic in kafka.wanted(settings) if topic.topic in cluster.topics]
        configs = _configs(admin, there)
        found += [each for topic in there for each in _settings(topic, configs.get(topic.topic))]
    for each in found:
        (log.error if each.dangerous else log.warning)("%s", each)
    dangerous = [each for each in found if each.dangerous]
    if dangerous:
        more = f" (and {len(dangerous) - 1} more: see the log)" if len(dangerous) > 1 else ""
        raise TopicError(f"{dangerous[0]}{more}")


def check_if_there(settings: Settings) -> None:
    """As `check`; where Kafka does not answer it is said, for who waits for it anyway."""
    try:
        check(settings)
    except KafkaAwayError as error:
        log.warning("the topics are not compared: %s", error)


def _missing(settings: Settings, cluster: Any) -> Iterator[Difference]:
    for topic in kafka.wanted(settings):
        if topic.topic not in cluster.topics:
            yield Difference(topic.topic, "is not there: run `loyalnest topics create`", True)


def _shapes(settings: Settings, cluster: Any) -> Iterator[Difference]:
    """Partitions, and with real Kafka replicas. What is not keyed is read whole, over however many partitions."""
    keyed, real = kafka.keyed(settings), kafka.has_controller(cluster)
    for topic in kafka.wanted(settings):
        if topic.topic not in cluster.topics:
            continue
        partitions = cluster.topics[topic.topic].partitions
        dangerous = topic.topic in keyed
        if len(partitions) != topic.num_partitions and (real or dangerous):
            what = f"has {len(partitions)} partitions instead of {topic.num_partitions}"
            if dangerous:
                what += " (LOYALNEST_PARTITIONS); the number changes only by a rebuild into topics of another prefix"
            yield Difference(topic.topic, what, dangerous)
        replicas = {len(each.replicas) for each in partitions.values()}
        if real and replicas != {topic.replication_factor}:
            counts = " or ".join(map(str, sorted(replicas)))
            what = f"has {counts} replicas instead of {topic.replication_factor} (LOYALNEST_REPLICATION)"
            yield Difference(topic.topic, what, False)


def _configs(admin: Any, asked: list[NewTopic]) -> dict[str, Mapping[str, str]]:
    """Each topic's settings; those that may not be asked for are left out, and named."""
    if not asked:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, topic.topic) for topic in asked]
    found: dict[str, Mapping[str, str]] = {}
    for resource, answer in admin.describe_configs(resources, request_timeout=_TIMEOUT).items():
        try:
            found[resource.name] = {name: entry.value for name, entry in answer.result().items()}
        except KafkaException as error:
            log.warning("the settings of topic %s cannot be read: %s", resource.name, error.args[0].str())
    return found


def _settings(topic: NewTopic, found: Mapping[str, str] | None) -> Iterator[Difference]:
    if found is None:
        return
    wanted: Mapping[str, str] = topic.config
    compacted, endless = wanted["cleanup.policy"] == "compact", wanted["retention.ms"] == _ENDLESS
    policy = found.get("cleanup.policy", "")
    for name in ("cleanup.policy", "retention.ms", "max.message.bytes", "message.timestamp.type"):
        if found.get(name) == wanted[name] or (name == "retention.ms" and policy == "compact" and compacted):
            continue
        if name == "message.timestamp.type":
            dangerous = False  # its producers' clocks are believed instead of the broker's
        elif name == "max.message.bytes":
            dangerous = int(found.get(name) or 0) < topics.MAX_MESSAGE_BYTES
        elif name == "cleanup.policy" and not compacted:
            dangerous = True  # all but a key's last record would be dropped
        else:
            dangerous = endless and _deletes(found)  # what a table or a shop still stands on
        yield Difference(topic.topic, f"has {name}={found.get(name)} instead of {wanted[name]}", dangerous)
    size = found.get("retention.bytes", _ENDLESS)
    if size != _ENDLESS and "delete" in policy:
        yield Difference(topic.topic, f"has retention.bytes={size} instead of {_ENDLESS}", endless)


def _deletes(found: Mapping[str, str]) -> bool:
    """Whether records go by their age."""
    return "delete" in found.get("cleanup.policy", "delete") and found.get("retention.ms") != _ENDLESS
