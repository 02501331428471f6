"""A worker's tables in memory and in RocksDB's files, side by side: how much memory, and how long until it is ready.

`python -m scripts.bench.stores [--customers 2000000]` (on the servers of `make servers`) puts the states of so many
customers of five orders on a changelog. A worker takes them over with either store; one with files is then ended, and
started again on its files.
"""

import argparse
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from confluent_kafka import Producer

from cli.stack import home
from events import keys
from runtime import kafka
from scripts.bench import standing
from scripts.bench.world import BenchError, Run, World
from tables.state import CLAIM, token_bytes

#: Customers whose states are made at a time.
_SLICE = 100_000


class Life(NamedTuple):
    """A worker from its start until it may fold: seconds, of them reading changelogs, CPU seconds, and memory after."""

    seconds: float
    reading: float
    cpu: float
    rss: int


def life(run: Run, store: str) -> Life:
    script = Path(__file__).resolve().parent / "recovering.py"
    changed = home.changed(run.settings, ready_file=run.folder / "ready", store=store)
    (run.folder / "ready").unlink(missing_ok=True)
    began = time.perf_counter()
    worker = run.spawn(f"worker-{store}", [sys.executable, "-P", str(script)], home.environment(changed))
    while worker.check() and not (run.folder / "ready").exists():
        if time.perf_counter() - began > 1800:
            raise BenchError("the worker was not ready within half an hour")
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    said = re.findall(r"^([0-9.]+) (?:reading changelogs|changelogs are read)", worker.log.read_text(), re.MULTILINE)
    found = Life(seconds, float(said[-1]) - float(said[-2]), worker.cpu(), psutil.Process(worker.pid).memory_info().rss)
    worker.end()
    return found


def fill(run: Run, customers: int) -> int:
    """The changelog of the customers' table; its bytes."""
    name = kafka.changelog(run.settings, "customers")
    producer: Any = Producer({**kafka.producer_config(run.settings), "linger.ms": 50})
    mark, size = token_bytes(0), 0
    for partition in range(run.settings.partitions):
        producer.produce(name, b"the bench", CLAIM, partition)
    for key, value in states(customers):
        size += len(key) + len(value)
        places = range(run.settings.partitions) if "#" in key else [_place(key, run.settings.partitions)]
        for partition in places:
            while True:
                try:
                    producer.produce(name, mark + value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.1)
    if producer.flush(120):
        raise BenchError("the changelog could not be filled")
    return size


def _place(key: str, partitions: int) -> int:
    return keys.partition_of(key.encode(), partitions)


def states(customers: int) -> Iterator[tuple[str, bytes]]:
    """Customers' states by key, and what stands beside them."""
    for start in range(0, customers, _SLICE):
        yield from standing.table(min(_SLICE, customers - start), start).items()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=2_000_000)
    customers = parser.parse_args().customers
    with World().run("stores") as run:
        size = fill(run, customers)
        print(f"{customers:,} customers, {size / customers:.0f} bytes each with the key")
        for name, store in (("memory", "memory"), ("files, new", "rocksdb"), ("files, again", "rocksdb")):
            found = life(run, store)
            print(
                f"{name}: ready after {found.seconds:.1f} s ({found.reading:.1f} s of it reading the changelog),"
                f" {found.cpu:.0f} s of CPU; {found.rss / 2**20:,.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
