"""The processes that join, leave, die and pause."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from runtime.settings import Settings
from scripts.chaos.load import Chaos

ROOT: Final = Path(__file__).resolve().parents[2]
WORKERS: Final = 4
SESSION_SECONDS: Final = 6
LEAVE_SECONDS: Final = 60.0


class Process:
    """A command of `loyalnest`, started anew as often as it likes."""

    def __init__(self, settings: Settings, folder: Path, name: str, *command: str, lasting: bool = False) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.frozen_until = 0.0
        self.leaving = False
        self._command = [sys.executable, "-P", "-m", "cli.main", *command]
        wanted = {
            "KAFKA": settings.kafka_servers(),
            "DATABASE": settings.database_url(),
            "TOPIC_PREFIX": settings.topic_prefix,
            "PARTITIONS": settings.partitions,
            "DATA_DIR": folder / name,
            "CHUNK_RECORDS": 100,
            "STORE": settings.store,
            "SESSION_TIMEOUT": SESSION_SECONDS,
            **({"WORKER_ID": name} if lasting else {}),
        }
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LOYALNEST_")},
            **{f"LOYALNEST_{key}": str(value) for key, value in wanted.items()},
            "PYTHONPATH": str(ROOT),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._begins = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def frozen(self) -> bool:
        return self.frozen_until > 0

    def start(self) -> None:
        self.leaving = False
        with self.log.open("ab") as output:
            self._begins = output.tell()
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )

    def since_start(self) -> str:
        """What it has logged since it was started last."""
        with self.log.open("rb") as text:
            text.seek(self._begins)
            return text.read().decode(errors="replace")

    def signal(self, number: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def leave(self) -> None:
        self.signal(signal.SIGTERM)
        self.leaving = True

    def freeze(self, seconds: float) -> None:
        self.signal(signal.SIGSTOP)
        self.frozen_until = time.monotonic() + seconds

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)
        self.frozen_until = 0.0

    def wait(self, seconds: float) -> int:
        """Its exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def end(self) -> None:
        if self.alive:
            self.thaw()
            self.signal(signal.SIGKILL)
            assert self.process is not None
            self.process.wait(10)


class Crew:
    """The workers, two with lasting names and two without, and the sink."""

    def __init__(self, settings: Settings, folder: Path, chance: random.Random) -> None:
        self.workers = [
            Process(settings, folder, f"worker-{number}", "worker", lasting=number % 2 == 0)
            for number in range(WORKERS)
        ]
        self.sink = Process(settings, folder, "sink", "sink")
        self.moves: Counter[str] = Counter()
        self._chance = chance

    def start(self) -> None:
        """From nobody to everybody."""
        self.sink.start()
        self.everyone()
        self.wait_until_started()

    def end(self) -> None:
        """All of them, by kill -9."""
        for process in (*self.workers, self.sink):
            process.end()

    def everyone(self) -> None:
        """The workers are thawed, and started where one is not there; who is on their way out goes first."""
        for worker in self.workers:
            if worker.frozen:
                worker.thaw()
        for worker in self.workers:
            if worker.leaving and worker.alive:
                worker.wait(LEAVE_SECONDS)
            if not worker.alive:
                worker.start()

    def move(self) -> None:
        """One of them joins, leaves, dies or pauses, or the sink dies and comes back."""
        for worker in self.workers:
            if worker.frozen and time.monotonic() > worker.frozen_until:
                worker.thaw()
        there = [worker for worker in self.workers if worker.alive and not worker.frozen]
        away = [worker for worker in self.workers if not worker.alive]
        kinds = (["join"] * 2 if away else []) + (["leave", "die", "pause"] if len(there) > 1 else []) + ["sink"]
        kind = self._chance.choice(kinds)
        self.moves[kind] += 1
        if kind == "join":
            self._chance.choice(away).start()
        elif kind == "leave":
            self._chance.choice(there).leave()
        elif kind == "die":
            self._chance.choice(there).signal(signal.SIGKILL)
        elif kind == "pause":
            self._chance.choice(there).freeze(SESSION_SECONDS + self._chance.uniform(0.5, 5))
        else:
            self.check_sink()
            self.sink.end()
            self.sink.start()

    def wait_until_started(self) -> None:
        """Until each has said that it is ready: a process's imports are not what is measured."""
        deadline = time.monotonic() + 120
        while not all(worker.log.exists() and "ready: partitions" in worker.since_start() for worker in self.workers):
            if time.monotonic() > deadline:
                raise Chaos("a worker did not get ready within two minutes of its start")
            time.sleep(0.1)

    def check_sink(self) -> None:
        """It never ends by itself."""
        if not self.sink.alive:
            raise Chaos(f"the sink has stopped: {self.sink.since_start()[-2000:]}")

    def assignments(self) -> int:
        """How often somebody was given partitions, by their logs."""
        return sum(
            worker.log.read_text(errors="replace").count("reading changelogs up to our claims")
            for worker in self.workers
            if worker.log.exists()
        )

    def surprises(self) -> list[str]:
        """Why workers ended by themselves; not those who had stood still while somebody else took over."""
        return [
            f"{worker.name}: {line}"
            for worker in self.workers
            if worker.log.exists()
            for line in worker.log.read_text(errors="replace").splitlines()
            if "the worker stops:" in line and "OvertakenError" not in line
        ]
