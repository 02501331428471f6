"""A plain one-table Faust agent, and Quix Streams, Bytewax and our own parts doing that one table; each alone."""

import hashlib
import os
import struct
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from confluent_kafka.admin import NewTopic

from events import topics
from runtime import kafka
from scripts.bench import data
from scripts.bench.alone import newest
from scripts.bench.world import BenchError, Run, World, wait
from tables.state import CLAIM

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
        # Faust makes it by itself, but on a busy machine it may be given its partitions before its client has heard of
        # the topic, and then counts none there, for ever: the agent crashes with each message (PartitionsMismatch).
        changelog = f"{run.prefix}peer-totals-changelog"
        topic, ready = _preload(run, orders, changelog)
        words = [sys.executable, str(HERE / "plain_faust.py"), world.kafka, f"{run.prefix}peer", topic, str(ready)]
        peer = run.spawn("plain-faust", words, _environment())
        wait("plain Faust", lambda: peer.check() and ready.exists(), pause=0.01, seconds=120)
        began, started = time.perf_counter(), (peer.cpu(), world.server_cpu()[0])
        wait("plain Faust", lambda: peer.check() and run.records(changelog) >= len(orders))
        seconds, ended = time.perf_counter() - began, (peer.cpu(), world.server_cpu()[0])
    return Peer(len(orders), seconds, _used(started, ended))


def quix(world: World, orders: list[data.Order]) -> Peer:
    """The same by Quix Streams: timed from its first order until it has ended, its last checkpoint done."""
    return _until_it_ends(
        world, orders, "quix", lambda run, topic: [world.kafka, f"{run.prefix}peer", topic], len(orders)
    )


def bytewax(world: World, orders: list[data.Order]) -> Peer:
    """The same by Bytewax: timed from its first order until it has ended, its last snapshot in SQLite."""
    return _until_it_ends(world, orders, "bytewax", lambda _, topic: [world.kafka, topic])


def _until_it_ends(
    world: World, orders: list[data.Order], name: str, words: Callable[[Run, str], list[str]], *more: int
) -> Peer:
    python = python_with(name)
    with world.run(name) as run:
        topic, ready = _preload(run, orders)
        command = [str(python), str(HERE / f"plain_{name}.py"), *words(run, topic), str(ready), *map(str, more)]
        peer = run.spawn(name, command, _environment())
        wait(name, lambda: not peer.finished() and ready.exists(), pause=0.01, seconds=120)
        began, started = time.perf_counter(), (peer.cpu(), world.server_cpu()[0])
        used = started
        while not peer.finished():
            # A process that has ended takes its clock with it.
            used = (peer.cpu() or used[0], world.server_cpu()[0])
            time.sleep(0.02)
            if time.perf_counter() - began > 300:
                raise BenchError(f"{name} did not end within 300 s")
        seconds = time.perf_counter() - began
    return Peer(len(orders), seconds, _used(started, used))


def one_table(world: World, orders: list[data.Order]) -> Peer:
    """The same by our transport, guard and table: timed until every order's sum is on the changelog."""
    with world.run("one-table") as run:
        run.send(run.settings.topic(topics.ORDERS), data.by_customer(orders))
        done = run.folder / "done"
        # -P: the modules beside it are not to be taken for others of their names.
        peer = run.worker([sys.executable, "-P", str(HERE / "one_table.py"), str(done), str(len(orders))])
        began, started = time.perf_counter(), (peer.cpu(), world.server_cpu()[0])
        wait("the one table", lambda: peer.check() and done.exists(), pause=0.01)
        seconds, ended = time.perf_counter() - began, (peer.cpu(), world.server_cpu()[0])
        _check_sums(run, orders)
    return Peer(len(orders), seconds, _used(started, ended))


def _check_sums(run: Run, orders: list[data.Order]) -> None:
    """No speed is worth a wrong sum: the newest record of each key has it, behind its owner's token."""
    kept = newest(run, kafka.changelog(run.settings, "orders"))
    kept.pop(CLAIM.encode(), None)
    cents = sum(round(100 * struct.unpack("<d", value[-8:])[0]) for value in kept.values())
    wanted = sum(order.cents for order in orders)
    if cents != wanted:
        raise BenchError(f"the sums of the one table are {cents} cents, not {wanted}")


def _preload(run: Run, orders: list[data.Order], changelog: str | None = None) -> tuple[str, Path]:
    topic = f"{run.prefix}amounts"
    wanted = [NewTopic(topic, run.settings.partitions, 1)]
    if changelog is not None:
        wanted.append(NewTopic(changelog, run.settings.partitions, 1, config={"cleanup.policy": "compact"}))
    for made in run.admin.create_topics(wanted).values():
        made.result(15)
    run.send(topic, data.by_customer(orders))
    return topic, run.folder / "ready"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LOYALNEST_")}


def _used(started: tuple[float, float], ended: tuple[float, float]) -> dict[str, float]:
    return {name: after - before for name, before, after in zip(("itself", "Kafka"), started, ended, strict=True)}
