"""What every client of ours asks of Kafka: the settings of producers and consumers, and the topics.

The worker reads by Faust; everything else by confluent-kafka, with the settings of this file.
"""

import logging
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from events import topics
from runtime import patience
from runtime.settings import Settings

log = logging.getLogger(__name__)

#: Faust's tables, whose changelogs are made here too: Faust itself would give them the broker's defaults.
TABLES: Final = ("orders", "customers")

#: What the history sink reads. Order facts are derived and in nobody's history: a rebuild makes them again. Changes of
#: standing it takes from the customers' rows.
SINK_TOPICS: Final = tuple(topic.name for topic in topics.ALL if topic.name not in (topics.ACCOUNT_FACTS, topics.RFM))

_TIMEOUT = 15.0


class TopicError(RuntimeError):
    """A topic is not as the settings want it, or could not be made; the message says which and why."""


def client_config(settings: Settings) -> dict[str, Any]:
    """What every client has: where, and a log through Python's logging."""
    return {
        "bootstrap.servers": settings.kafka_servers(),
        "client.id": "loyalnest",
        "logger": logging.getLogger("loyalnest.librdkafka"),
        # Warnings and worse; a broker that comes and goes is said there too.
        "log_level": 4,
        "log.connection.close": False,
        # A message of MAX_MESSAGE_BYTES within a response, with room for the others of its fetch.
        "receive.message.max.bytes": 100_000_000,
        "reconnect.backoff.max.ms": 2000,
        "topic.metadata.refresh.interval.ms": 30_000,
    }


def producer_config(settings: Settings) -> dict[str, Any]:
    """An idempotent producer: acks=all, in order, no doubles by retries, and the partitioner all agree on."""
    return {
        **client_config(settings),
        "enable.idempotence": True,
        "acks": "all",
        "partitioner": "murmur2_random",
        "linger.ms": 5,
        "message.max.bytes": topics.MAX_MESSAGE_BYTES,
        # On one machine compressing costs more than it saves.
        "compression.type": "none",
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 256 * 1024,
        # Long enough for a broker's restart, and short enough to be told of it.
        "delivery.timeout.ms": 30_000,
    }


def consumer_config(settings: Settings, group: str) -> dict[str, Any]:
    """A consumer whose positions are kept elsewhere than in Kafka, and which never jumps by itself."""
    return {
        **client_config(settings),
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # An offset that is not there is somebody's decision, not the client's.
        "auto.offset.reset": "error",
        # As the worker's client does: what one of them refuses, the other must not take.
        "check.crcs": True,
        "session.timeout.ms": int(settings.session_timeout * 1000),
        "heartbeat.interval.ms": int(settings.session_timeout * 1000 / 4),
        "max.poll.interval.ms": 300_000,
        "fetch.wait.max.ms": 100,
        "fetch.message.max.bytes": topics.MAX_MESSAGE_BYTES,
        "queued.max.messages.kbytes": 64 * 1024,
    }


def answers(client: Any, topic: str, seconds: float = 2.0) -> bool:
    """Whether Kafka tells a client (a producer, a consumer, an admin) of a topic within so many seconds."""
    try:
        return client.list_topics(topic, timeout=seconds).topics[topic].error is None
    except (KafkaException, KeyError):
        return False


# --- topics ------------------------------------------------------------------------------------------------------


def changelog(settings: Settings, table: str) -> str:
    """The changelog of one of Faust's tables (`orders`, `customers`), as it is named on the broker."""
    return settings.topic(f"{settings.group}-{table}-changelog")


def wanted(settings: Settings) -> list[NewTopic]:
    """Every topic with its partitions and settings: those of events.topics, and the changelogs."""
    asked = [(settings.topic(topic.name), topic.keyed, topic.config()) for topic in topics.ALL]
    # A former owner's late record must not be all that is left of a key before its owner has written over it.
    compacted = {**topics.BY_NAME[topics.CUSTOMER_ROWS].config(), "min.compaction.lag.ms": str(3_600_000)}
    asked += [(changelog(settings, table), True, compacted) for table in TABLES]
    return [
        NewTopic(name, settings.partitions if keyed else 1, settings.replication, config=config)
        for name, keyed, config in asked
    ]


def topic_id(settings: Settings, name: str) -> str:
    """What Kafka calls a topic for ever: one made anew under its name has another. TopicError if it does not tell."""
    admin = AdminClient(client_config(settings))
    try:
        described = admin.describe_topics(TopicCollection([name]), request_timeout=_TIMEOUT)[name].result()
    except KafkaException as error:
        raise TopicError(f"{name} cannot be described: {error}") from error
    return str(described.topic_id)


def create_topics(settings: Settings, seconds: float = _TIMEOUT) -> list[str]:
    """Make the topics that are not there; the names of those made. Running it again changes nothing.

    Kafka may take so many `seconds` to be reached: it may be starting beside who calls, and somebody may be waiting.
    Raises TopicError where the broker cannot be asked, refuses one, or has a keyed topic with another number of
    partitions than the settings: customers would move to other workers, away from their state.
    """
    admin = AdminClient(client_config(settings))
    there = partitions(admin, seconds)
    asked = wanted(settings)
    made = _create(settings, admin, [topic for topic in asked if topic.topic not in there])

    def shown() -> bool:
        nonlocal there
        if made:
            there = partitions(admin)
        return all(topic.topic in there for topic in asked)

    # A topic is made before every broker knows of it; who comes next must not miss it.
    if not patience.until(shown, _TIMEOUT, every=0.05):
        raise TopicError("the topics were made, but the broker does not show them all")
    _check_counts(settings, there)
    return made


def partitions(admin: Any, seconds: float = _TIMEOUT) -> dict[str, int]:
    """Every topic of a Kafka with the number of its partitions. TopicError where it is not reached in `seconds`."""
    try:
        found = admin.list_topics(timeout=seconds).topics
    except KafkaException as error:
        raise TopicError(f"Kafka cannot be reached: {error.args[0].str()}") from None
    return {name: len(topic.partitions) for name, topic in found.items()}


def has_controller(cluster: Any) -> bool:
    """Whether topics can be made and have settings. Embedded they cannot: whoever asks for one makes it."""
    return cluster.controller_id in cluster.brokers


def _create(settings: Settings, admin: Any, lacking: list[NewTopic]) -> list[str]:
    if not lacking:
        return []
    cluster = admin.list_topics(timeout=_TIMEOUT)
    if not has_controller(cluster):
        asking = Producer(client_config(settings))
        return [topic.topic for topic in lacking if asking.list_topics(topic.topic, timeout=_TIMEOUT)]
    made = []
    for name, answer in admin.create_topics(lacking, request_timeout=_TIMEOUT).items():
        try:
            answer.result()
            made.append(name)
        except KafkaException as error:
            # Somebody else who made it at the same time did what we wanted.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(f"topic {name} could not be made: {error.args[0].str()}") from None
    return made


def keyed(settings: Settings) -> list[str]:
    """The topics that share the one number of partitions, as they are named on the broker."""
    names = [settings.topic(topic.name) for topic in topics.ALL if topic.keyed]
    return names + [changelog(settings, table) for table in TABLES]


def _check_counts(settings: Settings, there: dict[str, int]) -> None:
    wrong = [name for name in keyed(settings) if name in there and there[name] != settings.partitions]
    if wrong:
        raise TopicError(
            f"topic {wrong[0]} has {there[wrong[0]]} partitions (and so {len(wrong) - 1} more), but"
            f" LOYALNEST_PARTITIONS is {settings.partitions}; the number changes only by a rebuild into topics"
            " of another prefix"
        )
