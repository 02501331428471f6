"""Workers side by side: how much more two do than one."""

import time
from typing import NamedTuple

from events import topics
from scripts.bench import data
from scripts.bench.world import World, wait


class Abreast(NamedTuple):
    """Seconds from the first order on the topic to the last points record, and the workers' CPU seconds together."""

    orders: int
    seconds: float
    cpu: float


def abreast(world: World, orders: list[data.Order], workers: int) -> Abreast:
    """So many workers at rest, each with its share of the partitions; then the orders come, all at once. No sink."""
    messages = list(data.by_order(orders))
    with world.run("abreast") as run:
        started = run.workers(workers)
        began, before = time.perf_counter(), sum(each.cpu() for each in started)
        run.send(run.settings.topic(topics.ORDERS), messages)
        points = run.settings.topic(topics.POINTS)
        wait("the workers", lambda: all(each.check() for each in started) and run.records(points) >= len(orders))
        return Abreast(len(orders), time.perf_counter() - began, sum(each.cpu() for each in started) - before)
