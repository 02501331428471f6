"""The peers: a plain one-table Faust agent, and Quix Streams doing that one table; each alone on the machine."""

import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import NewTopic

from scripts.bench import data
from scripts.bench.world import BenchError, Run, World, wait

HERE = Path(__file__).resolve().parent

#: Where the peers' own virtual environments are made: Quix Streams wants an older confluent-kafka than we do.
HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loyalnest"


class Peer(NamedTuple):
    """Seconds from ready to everything on the changelog; CPU seconds by process."""

    orders: int
    seconds: float
    cpu: dict[str, float]


def python_with(name: str) -> Path:
    """The Python that has requirements-{name}.txt, made on first use and whenever these change."""
    wanted, home = HERE / f"requirements-{name}.txt", HOME / f"bench-{name}"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    python, stamp = home / "bin" / "python", home / "stamp"
    if not stamp.exists() or stamp.read_text() != digest:
        venv.create(home, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--require-hashes", "-r", str(wanted)], check=True)
        stamp.write_text(digest)
    return python


def plain_faust(world: World, orders: list[data.Order]) -> Peer:
    """`table[customer] += amount`: timed to its last changelog record, one of which it writes for each order."""
    with world.run("faust") as run:
        topic, ready = _preload(run, orders)
        words = [sys.executable, str(HERE / "plain_faust.py"), world.kafka, f"{run.prefix}peer", topic, str(ready)]
        peer = run.spawn("plain-faust", words, _environment())
        wait("plain Faust", lambda: peer.check() and ready.exists(), pause=0.01, seconds=120)
        began, started = time.perf_counter(), (peer.cpu(), world.server_cpu()[0])
        changelog = f"{run.prefix}peer-totals-changelog"
        wait("plain Faust", lambda: peer.check() and run.records(changelog) >= len(orders))
        seconds, ended = time.perf_counter() - began, (peer.cpu(), world.server_cpu()[0])
    return Peer(len(orders), seconds, _used(started, ended))


def quix(world: World, orders: list[data.Order]) -> Peer:
    """The same by Quix Streams: timed from its first order until it has ended, its last checkpoint done."""
    python = python_with("peers")
    with world.run("quix") as run:
        topic, ready = _preload(run, orders)
        words = [str(python), str(HERE / "plain_quix.py"), world.kafka, f"{run.prefix}peer", topic, str(ready)]
        peer = run.spawn("quix", [*words, str(len(orders))], _environment())
        wait("Quix Streams", lambda: not peer.finished() and ready.exists(), pause=0.01, seconds=120)
        began, started = time.perf_counter(), (peer.cpu(), world.server_cpu()[0])
        used = started
        while not peer.finished():
            # A process that has ended takes its clock with it.
            used = (peer.cpu() or used[0], world.server_cpu()[0])
            time.sleep(0.05)
            if time.perf_counter() - began > 300:
                raise BenchError("Quix Streams did not end within 300 s")
        seconds = time.perf_counter() - began
    return Peer(len(orders), seconds, _used(started, used))


def _preload(run: Run, orders: list[data.Order]) -> tuple[str, Path]:
    topic = f"{run.prefix}amounts"
    made = run.admin.create_topics([NewTopic(topic, run.settings.partitions, 1)])
    made[topic].result(15)
    run.send(topic, data.by_customer(orders))
    return topic, run.folder / "ready"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LOYALNEST_")}


def _used(started: tuple[float, float], ended: tuple[float, float]) -> dict[str, float]:
    return {name: after - before for name, before, after in zip(("itself", "Kafka"), started, ended, strict=True)}
