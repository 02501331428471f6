"""python -m scripts.chaos: the command."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import scripts.chaos
from scripts.chaos.load import Chaos
from scripts.chaos.runs import REST_SECONDS, run, world


def main() -> int:
    """The command; the exit code."""
    parser = argparse.ArgumentParser(
        description=scripts.chaos.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rebalances", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=150.0, help="webhooks a second")
    parser.add_argument("--rest", type=float, default=REST_SECONDS, help="seconds until all must be at rest")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--store", choices=["memory", "rocksdb"], default="memory", help="where workers keep tables")
    given = parser.parse_args()
    servers, database = (os.environ.get(f"LOYALNEST_TEST_{name}") for name in ("KAFKA", "DATABASE"))
    if not servers or not database:
        print("make chaos needs real servers: run `make servers` first", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="loyalnest-chaos-"))
    print(f"seed {given.seed}; logs in {folder}", flush=True)
    try:
        with world(servers, database, given.partitions, given.store) as settings:
            run(settings, folder, given.rebalances, given.seed, given.rate, given.rest)
    except Chaos as found:
        print(f"NOT HELD: {found}\nlogs in {folder}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
