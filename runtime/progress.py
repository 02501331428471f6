"""How far the worker and the history sink are behind the ends of the topics."""

from collections import Counter
from typing import Any, Final, NamedTuple

import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from events import topics
from runtime import kafka, patience
from runtime.settings import Settings

#: What the worker's group commits; programs and cut points it reads without a group.
WORKER_TOPICS: Final = (topics.ORDERS, topics.REQUESTS, topics.CUSTOMERS, topics.RESCORE, topics.ACCOUNT_FACTS)

#: Under this name the journal's pump notes, beside the sink's positions, up to which id it has read the raw history.
JOURNAL: Final = "raw_events"

#: Who writes the raw history as a journal notifies this channel, with the commit: the pump waits for it.
JOURNAL_CHANNEL: Final = "loyalnest_journal"

_TIMEOUT = 10.0

#: (a topic's name in events.topics, a partition)
Place = tuple[str, int]


class Progress(NamedTuple):
    """Where the topics end and where their readers are, as next offsets; and what that leaves, in messages."""

    ends: dict[Place, int]
    worker: dict[Place, int]
    sink: dict[Place, int]

    @property
    def worker_lag(self) -> int:
        """Messages that the worker has not read."""
        return sum(max(end - self.worker[at], 0) for at, end in self.ends.items() if at in self.worker)

    @property
    def sink_lag(self) -> int:
        """Messages that the sink has not stored."""
        return sum(max(end - self.sink[at], 0) for at, end in self.ends.items() if at in self.sink)

    def behind(self) -> Counter[int]:
        """How far everybody together is behind, by the number of the partition."""
        found: Counter[int] = Counter()
        for at, end in self.ends.items():
            for readers in (self.worker, self.sink):
                found[at[1]] += max(end - readers.get(at, end), 0)
        return found

    def done(self, at: Place) -> int:
        """The offset up to which everybody has read a partition."""
        return min(readers[at] for readers in (self.worker, self.sink) if at in readers)


class Gauge:
    """Reads the progress. Offsets come from the broker, the sink's positions from its database."""

    def __init__(self, settings: Settings) -> None:
        servers = kafka.client_config(settings)
        self._incarnation = settings.incarnation
        self._names = {settings.topic(topic.name): topic.name for topic in topics.ALL}
        self._admin: Any = AdminClient(servers)
        self._group: Any = Consumer(
            {**servers, "group.id": settings.topic(settings.group), "enable.auto.commit": False}
        )
        self._places = self._find()

    def _find(self) -> list[TopicPartition]:
        known = self._admin.list_topics(timeout=_TIMEOUT).topics
        return [TopicPartition(name, at) for name in self._names if name in known for at in known[name].partitions]

    def _place(self, at: TopicPartition) -> Place:
        return self._names[at.topic], at.partition

    def read(self, connection: psycopg.Connection[Any]) -> Progress:
        """Ends first, then the readers: a lag of 0 with the same ends twice in a row means all was read."""
        try:
            # A partition that is between two leaders, or led by nobody yet, has an answer in a moment.
            ends = patience.retried(self._ends, KafkaException, _TIMEOUT, every=0.2)
            grouped = [at for at in self._places if self._names[at.topic] in WORKER_TOPICS]
            committed = self._group.committed(grouped, timeout=_TIMEOUT)
        finally:
            for client in (self._admin, self._group):
                client.poll(0)  # what they log is kept until somebody hears it
        rows = connection.execute(
            "SELECT topic, partition, next_offset FROM sink_positions WHERE incarnation = %s",
            (self._incarnation,),
        )
        return Progress(
            ends,
            {self._place(at): max(at.offset, 0) for at in committed},
            {
                **{at: 0 for at in ends if at[0] in kafka.SINK_TOPICS},
                **{(self._names.get(name, name), partition): offset for name, partition, offset in rows},
            },
        )

    def _ends(self) -> dict[Place, int]:
        latest = OffsetSpec.latest()
        # The request has a time limit. One of the answer's own would run out with it, as another error than Kafka's.
        asked = self._admin.list_offsets(dict.fromkeys(self._places, latest), request_timeout=_TIMEOUT)
        return {self._place(at): answer.result().offset for at, answer in asked.items()}

    def close(self) -> None:
        """Ends its clients of Kafka."""
        self._group.close()
