"""python -m scripts.bench.standing: how long the loop stands still while windows are made, and how long that takes.

A partition of so many customers, whose orders lie anywhere in the last year, is walked as a worker walks it when the
partition comes, and when its shop changes the zone; another task on the same loop notes its longest wait.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

from events import instants, keys
from scripts.bench import data
from streams.worker.windows import in_slices
from tables import customers, restating, windows
from tables.reference import ShopReference

ORDERS = 5


def table(count: int, first: int = 0) -> dict[str, bytes]:
    """A partition of the customers' table: so many of them, numbered from `first`."""
    chance = random.Random(7)
    now = 1_790_000_000 * instants.SECOND
    shop = data.program().shop
    found = {windows.zone_key(shop): windows.packed_zone(ZoneInfo(data.program().zone))}
    revision = "0065c1b6d4f8a40b00065c1b6d4f8a40b1f5e5c8e-3d2a-4f6e-9b4c-8e7d6c5b4a39 5bde4e4b6b4badf9b0b000"
    for number in range(first, first + count):
        state: Any = customers.initial()
        state["now"] = now - chance.randrange(30 * instants.DAY)
        times = sorted((chance.randrange(365 * instants.DAY) for _ in range(ORDERS)), reverse=True)
        places = [(now - at, str(number * ORDERS + each)) for each, at in enumerate(times)]
        state["tree"] = {"e": [[at, order, revision, 5000, 50, 0, 1, 1] for at, order in places]}
        found[keys.join(shop, str(number))] = customers.packed(state)
    return found


class _Waiting:
    """Notes the longest time between two turns on the loop, on the wall's clock and of this process's own work."""

    def __init__(self) -> None:
        self.longest = self.busiest = 0.0
        self.ended = False

    async def wait(self) -> None:
        last, used = time.perf_counter(), time.process_time()
        while not self.ended:
            await asyncio.sleep(0)
            now, by_now = time.perf_counter(), time.process_time()
            self.longest, self.busiest = max(self.longest, now - last), max(self.busiest, by_now - used)
            last, used = now, by_now


async def measured(name: str, count: int, steps: Iterator[None]) -> None:
    waiting = _Waiting()
    task = asyncio.create_task(waiting.wait())
    began, used = time.perf_counter(), time.process_time()
    await in_slices(steps, lambda: True)
    took, used, waiting.ended = time.perf_counter() - began, time.process_time() - used, True
    await task
    print(
        f"{name}: {count:,} customers of {ORDERS} orders in {took:.1f} s, {used:.1f} s of CPU"
        f" ({1e6 * used / count:.0f} µs a customer); the loop stood still for {1000 * waiting.longest:.0f} ms at most,"
        f" and worked for {1000 * waiting.busiest:.0f} ms at most"
    )


async def main(count: int) -> None:
    values = table(count)
    shop = ShopReference.of(data.program())
    partial = windows.Partial()
    await measured("a partition that comes", count, restating.rebuilding(values, partial))
    await measured("a change of zone", count, restating.Restatement(values, shop.program.shop, shop.zone).steps())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    asyncio.run(main(parser.parse_args().customers))
