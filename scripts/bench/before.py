"""What an order costs beside another commit: both trees in turns, on the servers of `make servers`.

`python -m scripts.bench.before COMMIT [--orders 50000] [--webhooks 20000] [--rounds 3] [--only ...]`, each after a
round that is not counted; it prints the ratios of medians.

- `through`: the same orders through both agents and the sink of each tree: CPU by process, and the rate.
- `door`: the same requests to one API process of each tree, byte for byte, over as many connections as `make bench`
  has: webhooks answered 200 a second and the API's CPU; a generated store's as they come, and orders each of which is
  by a customer whom nobody has met.
- `alone`: once for each, what the tables keep is weighed, and their recovery timed.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

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
    "alone": ("recovery, records/s", "state, bytes a customer with their orders"),
}

#: Customers of the generated store, a webhook.
_CUSTOMERS: Final = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--orders", type=int, default=50_000)
    parser.add_argument("--webhooks", type=int, default=20_000)
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
        doors = _requests(Path(made), given.webhooks) if "door" in given.only else {}
        for turn in range(given.rounds + 1):
            for name, tree in trees.items():
                measured: dict[str, float] = {}
                if "through" in given.only:
                    measured |= _in(tree, "through", given.orders if turn else given.orders // 5)
                for kind, file in doors.items():
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
    else:
        main()
