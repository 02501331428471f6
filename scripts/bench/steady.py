"""Everything at a steady rate for a while: does anything grow but state?"""

import json
import subprocess
import time
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from runtime import kafka
from scripts.bench import peers, web
from scripts.bench.world import Run, World, family_cpu, memory

#: How often everything is looked at (seconds).
EVERY: Final = 2.0

#: Customers who buy again and again; new ones would let the worker's tables grow all the time.
CUSTOMERS: Final = 20_000


class Look(NamedTuple):
    """One look: seconds since the first, records stored and not yet stored, and bytes and CPU seconds by process."""

    at: float
    stored: int
    behind: int
    memory: dict[str, int]
    cpu: dict[str, float]


class Steady(NamedTuple):
    """`orders` a second were asked for; `took` is how long each webhook's 200 took (seconds)."""

    rate: float
    looks: list[Look]
    took: list[float]


def steady(world: World, rate: float, seconds: float) -> Steady:
    """API, Kafka, worker, sink and PostgreSQL at so many orders a second, looked at every other second."""
    number = int(rate * seconds)
    with world.run("steady") as run:
        served, port = web.api(run)
        sink = run.sink()
        worker = run.worker()
        sink.go_on()
        names = {"API": served.seen, "worker": worker.seen, "sink": sink.seen}
        watched = {**names, "Kafka": world.broker, "PostgreSQL": world.postmaster}
        sending = web.load(run, port, list(web.requests(number, customers=CUSTOMERS)), rate)
        looks: list[Look] = []
        began = time.monotonic()
        while not sending.finished():
            all(each.check() for each in (served, worker, sink))
            looks.append(_look(run, watched, time.monotonic() - began))
            time.sleep(max(0.0, EVERY * len(looks) - (time.monotonic() - began)))
        came = web.outcome(sending, number)
    return Steady(rate, looks, came["took"])


def _look(run: Run, watched: dict[str, psutil.Process], at: float) -> Look:
    stored = run.stored_in_all()
    behind = run.records(*map(run.settings.topic, kafka.SINK_TOPICS)) - stored
    return Look(
        at,
        stored,
        behind,
        {name: memory(process) for name, process in watched.items()},
        {name: family_cpu(process) for name, process in watched.items()},
    )


def draw(found: Steady, file: Path) -> None:
    """The picture of it, as SVG, by matplotlib in an environment of its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [str(peers.python_with("picture")), str(peers.HERE / "draw_steady.py"), str(file)]
    looks = [look._asdict() for look in found.looks]
    subprocess.run(command, input=json.dumps(looks), text=True, check=True)
