"""What an order costs beside another commit: both trees in turns, on the servers of `make servers`.

`python -m scripts.bench.before COMMIT [--orders 50000] [--webhooks 20000] [--customers 100000] [--rounds 3]
[--only ...]`, each after a round that is not counted; it prints the ratios of medians.

- `through`: the same orders through both agents and the sink of each tree: CPU by process, and the rate.
- `door`: the same requests to one API process of each tree, byte for byte, over as many connections as `make bench`
  has: webhooks answered 200 a second and the API's CPU; a generated store's as they come, and orders each of which is
  by a customer whom nobody has met.
- `csv`: everybody of a shop of --customers through one API process of each tree: a row's time, and CPU of the API's
  processes and PostgreSQL; where nobody told an address, and where most did, each sealed with a key of their own.
- `alone`: once for each, what the tables keep is weighed, and their recovery timed.
"""

import argparse
import asyncio
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.request import Request, urlopen

import psycopg

ROOT: Final = Path(__file__).resolve().parents[2]

#: What can be measured, and what is printed of it.
PARTS: Final = {
    "through": (
        *("agents, µs an order", "sink, µs an order", "Kafka, µs an order", "PostgreSQL, µs an order"),
        "orders/s",
    ),
    "door": (
        *("webhooks/s accepted by one API process", "API, µs a webhook"),
        *("webhooks/s, each of a new customer", "API, µs a webhook of a new customer"),
    ),
    "csv": (
        *("CSV, µs a row", "CPU of it, µs a row"),
        *("CSV with addresses, µs a row", "CPU of it with addresses, µs a row"),
    ),
    "alone": ("recovery, records/s", "state, bytes a customer with their orders"),
}

#: Customers of the generated store, a webhook.
_CUSTOMERS: Final = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--orders", type=int, default=50_000)
    parser.add_argument("--webhooks", type=int, default=20_000)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        there = Path(made) / "tree"
        there.mkdir()
        archive = subprocess.run(["git", "archive", given.commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "x", "-C", there], input=archive.stdout, check=True)
        trees = {"before": there, "now": ROOT}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        files = _requests(Path(made), given.webhooks) if "door" in given.only else {}
        files |= _shops(Path(made), given.customers) if "csv" in given.only else {}
        for turn in range(given.rounds + 1):
            for name, tree in trees.items():
                measured: dict[str, float] = {}
                if "through" in given.only:
                    measured |= _in(tree, "through", given.orders if turn else given.orders // 5)
                for kind, file in files.items():
                    measured |= _in(tree, kind, file)
                if turn:
                    found[name].append(measured)
        if "alone" in given.only:
            for name, tree in trees.items():
                found[name].append(_in(tree, "alone", given.orders))
    print(f"{'':45}{'before':>12}{'now':>12}{'ratio':>8}")
    for row in (row for part, rows in PARTS.items() if part in given.only for row in rows):
        before, now = (median(each[row] for each in found[name] if row in each) for name in trees)
        print(f"{row:45}{before:12,.1f}{now:12,.1f}{now / before:8.2f}")


def _requests(folder: Path, number: int) -> dict[str, Path]:
    """What is sent to both trees' doors: files of requests that this tree makes."""
    from cli.shop import store_maker
    from events import instants
    from scripts.bench import web

    until = instants.parse("2026-11-20T00:00:00Z")
    store = store_maker.make_store(until, customers=int(number * _CUSTOMERS), webhooks=number)
    kinds = {"store": [("", web.request(each), None) for each in store], "strangers": list(web.requests(number))}
    files = {kind: folder / kind for kind in kinds}
    for kind, wanted in kinds.items():
        files[kind].write_bytes(pickle.dumps(wanted))
    return files


def _shops(folder: Path, number: int) -> dict[str, Path]:
    """Rows of the same shops for both trees, as this one seals them."""
    from scripts.bench import exporting

    files = {"plain": folder / "plain", "told": folder / "told"}
    for kind, file in files.items():
        file.write_bytes(pickle.dumps((exporting.NAMES, list(exporting.customers(number, told=kind == "told")))))
    return files


def _in(tree: Path, what: str, given: int | Path) -> dict[str, float]:
    """What a tree measures of itself, in a process of its own."""
    servers = os.environ.get("LOYALNEST_SERVERS") or str(ROOT / ".servers")
    environment = {**os.environ, "PYTHONPATH": str(tree), "LOYALNEST_SERVERS": servers}
    # -P: the modules beside this file are not to be taken for others of their names.
    command = [sys.executable, "-P", str(Path(__file__).resolve()), what, str(given)]
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


#: What the measurements of a tree are called on a command line of its own, and what takes their word.
_DOORS: Final = {"store": PARTS["door"][:2], "strangers": PARTS["door"][2:]}
_CSVS: Final = {"plain": PARTS["csv"][:2], "told": PARTS["csv"][2:]}


def door(kind: str, file: Path) -> dict[str, float]:
    """One API process of the tree that PYTHONPATH names, and a load that is the same for all trees."""
    from scripts.bench import web
    from scripts.bench.world import BenchError, World, wait

    number = len(pickle.loads(file.read_bytes()))
    with World().run("door") as run:
        served, port = web.api(run)
        words = [sys.executable, "-P", str(Path(__file__).with_name("load.py")), "127.0.0.1", str(port), str(file)]
        before = served.cpu()
        sending = run.spawn("load", [*words, "32", "0", ""], dict(os.environ))
        wait("the load", sending.finished)
        used = served.cpu() - before
        came = json.loads(sending.log.read_text())
    if came["refused"] or came["sent"] != number:
        raise BenchError(f"{came['refused']} of {came['sent']} webhooks were not answered 200")
    rate, cost = _DOORS[kind]
    return {rate: number / came["seconds"], cost: 1e6 * used / number}


def csv(kind: str, file: Path) -> dict[str, float]:
    """One API process of the tree that PYTHONPATH names, asked for everybody of a shop that is the same for all."""
    from scripts.bench import data, web
    from scripts.bench.world import BenchError, World

    names, rows = pickle.loads(file.read_bytes())
    world = World()
    with world.run("csv") as run:
        key = asyncio.run(_key_of(run.settings.database_url()))
        with psycopg.connect(run.settings.database_url(), autocommit=True) as connection:
            program = data.program().model_dump_json(), datetime.now(UTC)
            connection.execute(
                "INSERT INTO programs (shop, program, updated_at) VALUES (%s, %s, %s)", (data.SHOP, *program)
            )
            _copy(connection, "customers", names, (row for row, _ in rows))
            _copy(connection, "customer_keys", ("shop", "customer_id", "wrapped"), (key for _, key in rows if key))
            connection.execute("VACUUM ANALYZE")
        start: Any = getattr(web, "api", None) or web.__dict__["_api"]  # as it was called before
        served, port = start(run)
        address = f"http://127.0.0.1:{port}/v1/shops/{data.SHOP}/exports/segments.csv"
        _lines(f"{address}?segment=Champions", key)  # what is loaded at the first is there
        began, used = time.perf_counter(), _cpu(served) + world.server_cpu()[1]
        lines = _lines(address, key)
        took, used = time.perf_counter() - began, _cpu(served) + world.server_cpu()[1] - used
    if lines < 0.98 * len(rows):
        raise BenchError(f"{lines} lines are not everybody")
    return dict(zip(_CSVS[kind], (1e6 * took / len(rows), 1e6 * used / len(rows)), strict=True))


def _copy(
    connection: psycopg.Connection[Any], table: str, names: Iterable[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    with connection.cursor().copy(f"COPY {table} ({', '.join(names)}) FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _lines(address: str, key: str) -> int:
    """As fast as they come."""
    lines = 0
    with urlopen(Request(address, headers={"Authorization": f"Bearer {key}"}), timeout=300) as answer:
        while got := answer.read1(1 << 20):
            lines += got.count(b"\n")
    return lines


async def _key_of(database: str) -> str:
    from books import api_keys
    from scripts.bench import data

    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        return await api_keys.create(connection, data.SHOP, "bench", ["read", "export"], datetime.now(UTC))


def _cpu(served: Any) -> float:
    """Of a process and those it started."""
    times = [each.cpu_times() for each in (served.seen, *served.seen.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def measure(what: str, number: int) -> dict[str, float]:
    """In the tree that PYTHONPATH names."""
    from scripts.bench import alone, data, through
    from scripts.bench.world import World

    orders = list(data.orders(number, number // 5))
    if what == "through":
        run = through.through(World(), orders)
        names = {"worker": "agents", "sink": "sink", "Kafka": "Kafka", "PostgreSQL": "PostgreSQL"}
        costs = {f"{names[name]}, µs an order": 1e6 * seconds / number for name, seconds in run.cpu.items()}
        return {**costs, "orders/s": number / run.stored}
    found: Any = alone.alone(World(), orders)
    size = sum(state.size for state in found.states.values())
    return {
        "recovery, records/s": found.recovery.records / found.recovery.seconds,
        "state, bytes a customer with their orders": size / found.customers,
    }


if __name__ == "__main__":
    if sys.argv[1:2] in (["through"], ["alone"]):
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    elif sys.argv[1:2] in (["store"], ["strangers"]):
        print(json.dumps(door(sys.argv[1], Path(sys.argv[2]))))
    elif sys.argv[1:2] in (["plain"], ["told"]):
        print(json.dumps(csv(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
