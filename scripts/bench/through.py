"""Orders a second from the topic through both agents and the sink, with one worker."""

import time
from typing import NamedTuple

from events import topics
from runtime import kafka
from scripts.bench import data
from scripts.bench.world import BenchError, Run, World, wait

#: Whose CPU time is told.
NAMES = ("worker", "sink", "Kafka", "PostgreSQL")


class Through(NamedTuple):
    """Seconds from the worker's being ready to the last points record, and to the last row; CPU seconds by process."""

    orders: int
    published: float
    stored: float
    cpu: dict[str, float]


def through(world: World, orders: list[data.Order]) -> Through:
    """One run of LoyalNest over these orders, checked to have counted every one."""
    with world.run("through") as run:
        sink = run.sink()
        run.send(run.settings.topic(topics.ORDERS), data.by_order(orders))
        worker = run.worker()
        began, started = time.perf_counter(), (worker.cpu(), sink.cpu(), *world.server_cpu())
        sink.go_on()
        points = run.settings.topic(topics.POINTS)
        wait("the worker", lambda: worker.check() and run.records(points) >= len(orders))
        published = time.perf_counter() - began
        wait("the sink", lambda: sink.check() and _all_stored(run, len(orders)))
        stored = time.perf_counter() - began
        ended = (worker.cpu(), sink.cpu(), *world.server_cpu())
        _check(run, orders)
    cpu = {name: after - before for name, before, after in zip(NAMES, started, ended, strict=True)}
    return Through(len(orders), published, stored, cpu)


def _all_stored(run: Run, orders: int) -> bool:
    """Whether every record there is has been stored. The ends are asked for only once the orders are."""
    if run.stored(topics.POINTS) < orders or run.stored(topics.ORDERS) < orders:
        return False
    return run.stored_in_all() >= run.records(*map(run.settings.topic, kafka.SINK_TOPICS))


def _check(run: Run, orders: list[data.Order]) -> None:
    """No speed is worth a wrong sum."""
    found = run.database.execute(
        "SELECT (SELECT count(*) FROM points_totals), (SELECT sum(points) FROM points_transactions)::bigint,"
        " (SELECT sum(balance) FROM customers)::bigint, (SELECT count(*) FROM raw_events WHERE stream = %s),"
        " (SELECT count(*) FROM customers)",
        [topics.ORDERS],
    ).fetchone()
    points = sum(order.points for order in orders)
    customers = len({order.customer_id for order in orders})
    wanted = (len(orders), points, points, len(orders), customers)
    if found != wanted:
        raise BenchError(f"totals, ledger, balances, history and customers are {found}, not {wanted}")
