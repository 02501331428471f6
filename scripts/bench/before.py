"""What an order costs beside another commit: both trees in turns, on the servers of `make servers`.

`python -m scripts.bench.before COMMIT [--orders 50000] [--rounds 3]` sends the same orders through both agents and the
sink of each tree, after a round that is not counted, and prints CPU by process, the rate, and the ratios of medians.
Once for each it also weighs what the tables keep and times their recovery.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]

#: What is printed: a name, and whether less is better.
ROWS: Final = {
    "agents, µs an order": True,
    "sink, µs an order": True,
    "Kafka, µs an order": True,
    "PostgreSQL, µs an order": True,
    "orders/s": False,
    "recovery, records/s": False,
    "state, bytes a customer with their orders": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--orders", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        there = Path(made)
        archive = subprocess.run(["git", "archive", given.commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "x", "-C", there], input=archive.stdout, check=True)
        trees = {"before": there, "now": ROOT}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        for turn in range(given.rounds + 1):
            for name, tree in trees.items():
                number = given.orders if turn else given.orders // 5
                measured = _in(tree, "through", number)
                if turn:
                    found[name].append(measured)
        for name, tree in trees.items():
            found[name].append(_in(tree, "alone", given.orders))
    print(f"{'':45}{'before':>12}{'now':>12}{'ratio':>8}")
    for row in ROWS:
        before, now = (median(each[row] for each in found[name] if row in each) for name in trees)
        print(f"{row:45}{before:12,.1f}{now:12,.1f}{now / before:8.2f}")


def _in(tree: Path, what: str, orders: int) -> dict[str, float]:
    """What a tree measures of itself, in a process of its own."""
    servers = os.environ.get("LOYALNEST_SERVERS") or str(ROOT / ".servers")
    environment = {**os.environ, "PYTHONPATH": str(tree), "LOYALNEST_SERVERS": servers}
    # -P: the modules beside this file are not to be taken for others of their names.
    command = [sys.executable, "-P", str(Path(__file__).resolve()), what, str(orders)]
    done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


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
    else:
        main()
