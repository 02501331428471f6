"""A LoyalNest that a test starts as a user does, by the command line."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import psutil
from pydantic import SecretStr

from cli.stack.home import running
from runtime.settings import Settings
from tests.processes import Forked, command

COMMAND = [sys.executable, "-m", "cli.main"]


def loyalnest(
    *words: str, seconds: float = 120, check: bool = True, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command to its end; `settings` are LOYALNEST_* in lower case."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = Forked(command, [*words], environment=environment(settings or {}), stdout=out, stderr=err)
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
        ended = subprocess.CompletedProcess([*words], code, out.read_text("utf-8"), err.read_text("utf-8"))
    if check:
        assert ended.returncode == 0, f"{words} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
    return ended


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOYALNEST_")}
    return clean | {"COLUMNS": "120"} | {f"LOYALNEST_{name.upper()}": value for name, value in settings.items()}


def wait(condition: Callable[[], Any], seconds: float = 60, what: str = "something") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.1)


class Up:
    """`loyalnest up` on a data folder; its processes are forked (tests/processes.py), or started `as_users_do`."""

    #: The demo's batches are held against their gates; here that would cost each of them seconds.
    SETTINGS: ClassVar[dict[str, str]] = {"batch_gates": "false"}

    def __init__(
        self, folder: Path, *words: str, prefix: str = "", partitions: int = 4, as_users_do: bool = False
    ) -> None:
        self.folder = folder
        self._as_users_do = as_users_do
        self._settings = {"topic_prefix": prefix, "partitions": str(partitions), **self.SETTINGS}
        self._words = words
        self._output = folder.parent / f"{folder.name}.out"
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self._said_before = 0

    def start(self) -> None:
        self._said_before = len(self.said()) if self._output.exists() else 0
        words = ["up", "--data", str(self.folder), "--port", "0", "--no-schedule", *self._words]
        given, output = environment(self._settings), self._output
        if self._as_users_do:
            with output.open("ab") as file:
                self.process = subprocess.Popen([*COMMAND, *words], stdout=file, stderr=subprocess.STDOUT, env=given)
        else:
            self.process = Forked(command, words, environment=given, stdout=output, stderr=output)
        wait(self._is_up, what="loyalnest up")

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.said()
        return "LoyalNest is up" in self.said()[self._said_before :]

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8")

    @property
    def announced(self) -> dict[str, Any]:
        return running(self.folder) or {}

    def pid(self, name: str) -> int:
        return int(self.announced["children"][name])

    def kill(self, name: str) -> None:
        """kill -9 of one process, and wait for the life after it."""
        before = self.announced["children"]
        os.kill(before[name], signal.SIGKILL)
        wait(lambda: self.announced.get("children", before) != before, what=f"the life after the {name}'s end")

    def settings(self) -> Settings:
        there = self.announced
        return Settings(database=SecretStr(there["database"]), kafka=there["kafka"], data_dir=self.folder)

    def descendants(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def run(self, *words: str, seconds: float = 120) -> str:
        return loyalnest(*words, "--data", str(self.folder), seconds=seconds, settings=self._settings).stdout

    def run_anyway(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As `run`, for what may fail."""
        return loyalnest(*words, "--data", str(self.folder), check=False, settings=self._settings)

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))


@contextmanager
def up(folder: Path, *words: str, prefix: str = "", as_users_do: bool = False) -> Iterator[Up]:
    stack = Up(folder, *words, prefix=prefix, as_users_do=as_users_do)
    try:
        stack.start()
        yield stack
    finally:
        if stack.process is not None and stack.process.poll() is None:
            stack.stop()
