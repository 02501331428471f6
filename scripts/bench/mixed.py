"""A store's topics as they come: orders created, paid, updated, cancelled and refunded, customers, guests."""

import time
from collections import Counter
from typing import Final, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions

from cli.shop import store_maker
from events import instants, topics
from runtime import kafka
from scripts.bench import web
from scripts.bench.alone import SIZE
from scripts.bench.through import NAMES
from scripts.bench.world import BenchError, Process, Run, World, wait

_UNTIL: Final = instants.parse("2026-11-20T00:00:00Z")
_FOLDED: Final = (topics.ORDERS, topics.ACCOUNT_FACTS, topics.CUSTOMERS, topics.RESCORE)


class Mixed(NamedTuple):
    """What came by webhook topic, of how many orders, seconds until all was stored, CPU seconds by process, and the
    bytes by which the database grew."""

    came: Counter[str]
    orders: int
    seconds: float
    cpu: dict[str, float]
    size: int

    @property
    def webhooks(self) -> int:
        return self.came.total()


def mixed(world: World, customers: int, webhooks: int) -> Mixed:
    """A demo store's webhooks through the front door; then both agents and the sink take what lies on the topics."""
    store = list(store_maker.make_store(_UNTIL, customers=customers, webhooks=webhooks))
    with world.run("mixed") as run:
        served, port = web.api(run)
        web.outcome(web.load(run, port, [("", web.request(each), None) for each in store], 0), len(store))
        served.end()
        before = run.number(SIZE)
        sink = run.sink()
        worker = run.worker()
        began, started = time.perf_counter(), (worker.cpu(), sink.cpu(), *world.server_cpu())
        sink.go_on()
        seconds = _until_stored(run, worker, sink) - began
        ended = (worker.cpu(), sink.cpu(), *world.server_cpu())
        _check(run)
        size = run.number(SIZE) - before
        orders = run.number("SELECT count(DISTINCT source_id) FROM points_totals")
    cpu = {name: after - before for name, before, after in zip(NAMES, started, ended, strict=True)}
    return Mixed(Counter(each.topic for each in store), orders, seconds, cpu, size)


def _until_stored(run: Run, worker: Process, sink: Process) -> float:
    """When the last record was stored; by the worker's positions, which it commits once a second, no more will come."""
    stored, since = -1, 0.0

    def all_stored() -> bool:
        nonlocal stored, since
        before, stored = stored, run.stored_in_all()
        if stored != before:
            since = time.perf_counter()
        return worker.check() and sink.check() and _folded(run) and stored >= _records(run, kafka.SINK_TOPICS)

    wait("worker and sink", all_stored, pause=0.02)
    return since


def _records(run: Run, names: tuple[str, ...]) -> int:
    return run.records(*map(run.settings.topic, names))


def _folded(run: Run) -> bool:
    """Whether the worker's positions are at the ends of what it reads."""
    group = f"{run.settings.topic_prefix}{run.settings.group}"
    asked = run.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=15)
    at: int = sum(max(each.offset, 0) for each in asked[group].result(15).topic_partitions)
    return at >= _records(run, _FOLDED)


def _check(run: Run) -> None:
    """No speed is worth a wrong sum: the balances are the ledger's."""
    ledger = run.number("SELECT sum(points) FROM points_transactions")
    balances = run.number("SELECT sum(balance) FROM customers WHERE merged_into IS NULL")
    if ledger != balances or not ledger:
        raise BenchError(f"the ledger has {ledger} points, the balances {balances}")
