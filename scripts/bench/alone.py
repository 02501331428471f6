"""The parts alone: the worker on what has piled up, its recovery, its state, the sink, and one customer with a history.

One preloaded topic serves all: the worker reads it from nothing while no sink runs; then the worker's state is
weighed and recovered; then the sink stores everything while no worker runs.
"""

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition

from events import topics
from runtime import kafka
from scripts.bench import data
from scripts.bench.world import BenchError, Process, Run, World, wait

#: What a stored order leaves in the history.
_TABLES: Final = (
    *("raw_events", "points_totals", "points_transactions", "rfm_score_history", "rfm_segment_deltas"),
    *("points_windows", "customers"),
)

#: Bytes of a database.
SIZE: Final = "SELECT pg_database_size(current_database())"


class Replay(NamedTuple):
    """A worker on a whole topic: orders, records that its two agents folded, and seconds from ready to the last."""

    orders: int
    records: int
    seconds: float


class Recovery(NamedTuple):
    """A table's changelog read back: its records, and the seconds from the first read to the last."""

    records: int
    seconds: float


class State(NamedTuple):
    """The newest record of each key of a changelog: how many keys, bytes of keys and values, the largest value."""

    keys: int
    size: int
    largest: int


class Sink(NamedTuple):
    """The sink alone: records stored, rows they became, the seconds from its first transaction to its last, and the
    bytes by which the database grew, indexes and all."""

    records: int
    rows: int
    seconds: float
    size: int


class Alone(NamedTuple):
    replay: Replay
    recovery: Recovery
    customers: int
    states: dict[str, State]  # by table
    sink: Sink


def alone(world: World, orders: list[data.Order]) -> Alone:
    with world.run("alone") as run:
        run.send(run.settings.topic(topics.ORDERS), data.by_order(orders))
        replay = _replay(run, len(orders))
        states = {table: weigh(run, kafka.changelog(run.settings, table)) for table in kafka.TABLES}
        recovery = _recover(run)
        sink = _store(run)
    return Alone(replay, recovery, len({order.customer_id for order in orders}), states, sink)


def one_customer(world: World, number: int) -> tuple[Replay, State]:
    """Every order is the same customer's: the worker's pace, and the largest value of their state."""
    orders = list(data.orders(number, 1))
    with world.run("one-customer") as run:
        run.send(run.settings.topic(topics.ORDERS), data.by_order(orders))
        replay = _replay(run, number)
        return replay, weigh(run, kafka.changelog(run.settings, "customers"))


def _replay(run: Run, orders: int) -> Replay:
    worker = run.worker()
    began = time.perf_counter()
    points = run.settings.topic(topics.POINTS)
    wait("the worker", lambda: worker.check() and run.records(points) >= orders)
    seconds = time.perf_counter() - began
    records = orders + run.records(run.settings.topic(topics.ACCOUNT_FACTS))
    worker.end()  # well: everything in flight is delivered and committed
    return Replay(orders, records, seconds)


# --- state -------------------------------------------------------------------------------------------------------


def weigh(run: Run, changelog: str) -> State:
    """What compaction would leave of a changelog."""
    kept = newest(run, changelog)
    sizes = [len(value) for value in kept.values()]
    return State(len(sizes), sum(map(len, kept)) + sum(sizes), max(sizes, default=0))


def newest(run: Run, changelog: str) -> dict[bytes, bytes]:
    """The newest value of each key that has one."""
    kept: dict[bytes, bytes] = {}
    for key, value in _records(run, changelog):
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = value
    return kept


def _records(run: Run, topic: str) -> Iterator[tuple[bytes, bytes | None]]:
    ends = run.ends(topic)
    left = sum(ends.values())
    consumer: Any = Consumer({**kafka.consumer_config(run.settings, "bench"), "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(*place, 0) for place in ends])
    try:
        while left > 0:
            batch = consumer.consume(min(left, 10_000), 10)
            if not batch:
                raise BenchError(f"{topic} could not be read to its end")
            left -= len(batch)
            yield from ((message.key(), message.value()) for message in batch)
    finally:
        consumer.close()


# --- recovery ----------------------------------------------------------------------------------------------------

_BEGINS, _ENDS = "reading changelogs", "changelogs are read"


def _recover(run: Run) -> Recovery:
    """A worker with nothing in memory, its group at the topic's end: how long its tables take by its own log."""
    changelogs = [kafka.changelog(run.settings, table) for table in kafka.TABLES]
    records = run.records(*changelogs)
    script = Path(__file__).resolve().parent / "recovering.py"
    # -P: the modules beside it are not to be taken for others of their names.
    worker = run.worker([sys.executable, "-P", str(script)])
    seconds = _between(worker, _BEGINS, _ENDS)
    worker.end()
    return Recovery(records, seconds)


def _between(process: Process, first: str, last: str) -> float:
    text = process.log.read_text()
    found = [re.search(rf"^([0-9.]+) .*{words}", text, re.MULTILINE) for words in (first, last)]
    times = [float(match[1]) for match in found if match]
    if len(times) != 2:
        raise BenchError(f"the worker's log does not say {first!r} and {last!r}")
    return times[1] - times[0]


# --- the sink ----------------------------------------------------------------------------------------------------


def _store(run: Run) -> Sink:
    records = run.records(*map(run.settings.topic, kafka.SINK_TOPICS))
    before = run.number(SIZE)
    sink = run.start("sink")
    wait("the sink", lambda: sink.check() and run.number("SELECT count(*) FROM sink_positions") > 0, pause=0.005)
    began = time.perf_counter()
    wait("the sink", lambda: sink.check() and run.stored_in_all() >= records)
    seconds = time.perf_counter() - began
    sink.end()
    rows = sum(run.number(f"SELECT count(*) FROM {table}") for table in _TABLES)
    return Sink(records, rows, seconds, run.number(SIZE) - before)
