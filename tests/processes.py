"""Processes of ours that tests start by the dozen: forked from one that has loaded the libraries.

Most of what a short command takes is loading them. The processes of `up` are started as a user's are; so are the
commands of tests/unit/test_cli.py.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_CONTEXT = get_context("forkserver")

#: What the commands and the worker load. Not the commands themselves: their consoles look at the environment.
_CONTEXT.set_forkserver_preload(
    [
        *("aiohttp", "typer", "rich.progress", "cli.stack.supervisor", "streams.publisher", "streams.worker.main"),
        *("batch.segments", "imports.importing", "imports.files", "imports.pace", "books.privacy", "books.api_keys"),
    ]
)


class Forked:
    """A process that runs `work(*args)` in this environment, its output in files. The face of a subprocess.Popen."""

    def __init__(
        self, work: Callable[..., Any], *args: Any, environment: Mapping[str, str], stdout: Path, stderr: Path
    ) -> None:
        words = (dict(environment), str(stdout), str(stderr), work, args)
        self._process = _CONTEXT.Process(target=_run, args=words)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; below 0 the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return code

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def command(words: list[str]) -> None:
    """`loyalnest <words>`."""
    sys.argv = ["loyalnest", *words]
    from cli import main

    main.main()


def _run(
    environment: dict[str, str], stdout: str, stderr: str, work: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for name, number in ((stdout, 1), (stderr, 2)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    work(*args)
