"""Real servers for tests and trials, without Docker: Apache Kafka, and PostgreSQL with TimescaleDB.

    make servers | make servers-down
    python scripts/servers.py up|down|status|restart|kill|purge [kafka|database]

Kafka is Apache's own jars by Maven, run by the machine's Java. PostgreSQL is Debian's, in a folder of its own
that debootstrap fills from the mirror that apt is set up with. Downloads live in a cache outside the checkout
($XDG_CACHE_HOME/loyalnest); pids, ports, logs and Kafka's data in the state folder (.servers, or
$LOYALNEST_SERVERS). PostgreSQL's data must lie inside the folder that it is chrooted to, so they lie in the
cache, under a name made from the state folder's path.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # as a script, its own folder stands there
    sys.path.insert(0, str(ROOT))

from scripts.serving.database import Database  # noqa: E402
from scripts.serving.kafka import Kafka  # noqa: E402
from scripts.serving.server import STATE, Server, ServerError, locked  # noqa: E402

SERVERS: dict[str, type[Server]] = {"kafka": Kafka, "database": Database}


def up(servers: list[Server]) -> None:
    began = time.monotonic()
    for server in servers:
        server.start()
    for server in servers:
        server.wait()
    everything = [make() for make in SERVERS.values()]
    words = {k: v for server in everything if server.pid() for k, v in server.environment().items()}
    file = STATE / "env"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in words.items()))
    for server in servers:
        print(f"{server.name} is up, pid {server.pid()}; its log is {server.log}")
    print(f"Ready in {time.monotonic() - began:.1f} s. To point LoyalNest at them:")
    keys = {name: f"LOYALNEST_TEST_{name.upper()}" for name in SERVERS}
    print("  .venv/bin/loyalnest up", *(f"--{name} {words[key]}" for name, key in keys.items() if key in words))
    print(f"or take the settings from {file}")


def end(servers: list[Server], kill: bool = False) -> None:
    for server in servers:
        there = server.end(signal.SIGKILL if kill else server.stop_signal)
        print(f"{server.name} {'killed' if kill else 'ended'}" if there else f"{server.name} was not running")


def main() -> int:
    parser = argparse.ArgumentParser(description="Apache Kafka and PostgreSQL with TimescaleDB, without Docker")
    parser.add_argument("action", choices=["up", "down", "status", "restart", "kill", "purge"])
    parser.add_argument("server", nargs="?", choices=list(SERVERS), help="only this one")
    arguments = parser.parse_args()
    servers = [make() for name, make in SERVERS.items() if arguments.server in (None, name)]
    if arguments.action == "status":
        for server in servers:
            print(f"{server.name} {'is up' if server.pid() and server.answers() else 'is down'}")
        return 0 if all(server.pid() for server in servers) else 1
    with locked(STATE):
        if arguments.action in ("down", "restart", "purge"):
            end(servers)
        if arguments.action == "kill":
            end(servers, kill=True)
        if arguments.action in ("up", "restart"):
            up(servers)
        if arguments.action in ("down", "purge") and not arguments.server:
            (STATE / "env").unlink(missing_ok=True)
        if arguments.action == "purge":
            for server in servers:
                server.purge()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ServerError, subprocess.CalledProcessError) as error:
        print(f"servers: {error}", file=sys.stderr)
        sys.exit(1)
