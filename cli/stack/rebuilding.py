"""A rebuild on real Kafka: the derived tables and the worker's state emptied, and made again from the raw history.

Everything else is ended first. The worker then forgets (its changelogs are made anew, its positions and the sink's go
to the ends), the derived tables are emptied, and a worker and a sink of our own take in the raw history, which is put
on the input topics once more. That sink does not archive what it reads: it stands in raw_events already. Should
somebody have produced meanwhile, the sink's positions go back, so that the next sink archives everything; twice is
harmless, for what is read twice counts once.
"""

import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from books import notices, schema
from cli.stack import settled
from cli.stack.supervisor import REFUSED_AGAIN, Stack
from events import topics
from runtime import database, kafka, patience
from runtime.progress import WORKER_TOPICS, Gauge, Place, Progress
from runtime.settings import Settings

_TIMEOUT: Final = 15.0
_DELETED: Final = 60.0


class RebuildError(RuntimeError):
    """The rebuild cannot begin, or did not end; the message says why and what to do."""


def rebuild(settings: Settings, say: Callable[[str], None], on_progress: Callable[[int], None]) -> int:
    """Do it; how many messages of the raw history were taken in. `on_progress` is told how many are on their way."""
    admin: Any = AdminClient(kafka.client_config(settings))
    _check_nobody_reads(admin, settings)
    kafka.create_topics(settings)
    with database.connect(settings.database_url(), "loyalnest rebuild", statement_seconds=0, autocommit=True) as books:
        start = _read(settings, books)
        if start.sink_lag:
            raise RebuildError(
                f"{start.sink_lag:,} messages are not in the raw history yet: run `loyalnest sink` until it has them"
            )
        say("forgetting the worker's state and emptying the derived tables")
        _forget(admin, settings, start)
        books.execute(notices.REMEMBER.encode())
        books.execute(f"TRUNCATE {', '.join(schema.DERIVED)}".encode())
        books.execute(REFUSED_AGAIN)
        stack = Stack(settings, say, rebuilding=True)
        try:
            stack.start()
            settled.wait(stack, on_progress)
            sent = stack.pump.sent.copy() if stack.pump is not None else {}
        finally:
            stack.stop()
        if _strangers(start, _read(settings, books), sent):
            say("something was produced meanwhile: the next sink archives it, and the replay beside it")
            _go_back(books, settings, start)
    return sum(sent.values())


def _check_nobody_reads(admin: Any, settings: Settings) -> None:
    # A worker with a lasting name stays a member until its session is over.
    deadline = time.monotonic() + settings.session_timeout + 5
    for name in (settings.topic(settings.group), settings.topic(f"{settings.group}-sink")):
        left = deadline - time.monotonic()
        if members := _still_reading(admin, name, left):
            raise RebuildError(f"{members} still read in the group {name}: end all workers, sinks and the API first")


def _still_reading(admin: Any, group: str, seconds: float) -> int:
    """How many read in the group when nobody does any more, or so many seconds are over."""
    members = 0

    def look() -> bool:
        nonlocal members
        members = _members(admin, group)
        return members == 0

    patience.until(look, seconds, every=0.5)
    return members


def _members(admin: Any, group: str) -> int:
    try:
        found = admin.describe_consumer_groups([group], request_timeout=_TIMEOUT)[group].result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return 0
        raise
    return len(found.members)


def _read(settings: Settings, books: psycopg.Connection) -> Progress:
    gauge = Gauge(settings)
    try:
        return gauge.read(books)
    finally:
        gauge.close()


def _forget(admin: Any, settings: Settings, start: Progress) -> None:
    """The worker's positions to the ends, its changelogs made anew."""
    group = settings.topic(settings.group)
    ends = [
        TopicPartition(settings.topic(topic), partition, end)
        for (topic, partition), end in start.ends.items()
        if topic in WORKER_TOPICS
    ]
    asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, ends)], request_timeout=_TIMEOUT)
    for answer in asked.values():
        answer.result()
    changelogs = [kafka.changelog(settings, table) for table in kafka.TABLES]
    for answer in admin.delete_topics(changelogs, request_timeout=_TIMEOUT).values():
        answer.result()
    deadline = time.monotonic() + _DELETED

    def gone() -> bool:
        return not set(changelogs) & set(admin.list_topics(timeout=_TIMEOUT).topics)

    if not patience.until(gone, _DELETED, every=0.2):
        raise RebuildError("Kafka has not deleted the changelogs: is delete.topic.enable off? Try again")
    # A broker may still be deleting what it no longer lists.
    left = deadline - time.monotonic()
    patience.retried(lambda: kafka.create_topics(settings), kafka.TopicError, left, every=0.5)


def _inputs(progress: Progress) -> dict[Place, int]:
    inputs = (topics.ORDERS, topics.CUSTOMERS, topics.SHOPS, topics.REQUESTS)
    return {at: end for at, end in progress.ends.items() if at[0] in inputs}


def _strangers(start: Progress, now: Progress, sent: dict[Place, int]) -> bool:
    """Whether somebody else has produced webhooks: a sink of ours has read them, and nobody archived them."""
    before = _inputs(start)
    return any(end - before[at] != sent.get(at, 0) for at, end in _inputs(now).items())


def _go_back(books: psycopg.Connection, settings: Settings, start: Progress) -> None:
    for (topic, partition), end in _inputs(start).items():
        books.execute(
            "UPDATE sink_positions SET next_offset = %s WHERE incarnation = %s AND partition = %s AND topic = ANY(%s)",
            [end, settings.incarnation, partition, [topic, settings.topic(topic)]],
        )
