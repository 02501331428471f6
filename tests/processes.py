"""Processes of ours that tests start by the dozen: forked from one that has loaded the libraries.

Most of what a short command takes is loading them, and most of what a start of `up` takes: it has six processes. Some
of tests/e2e/test_up.py and tests/e2e/test_real.py are started as a user's are; so are the commands of
tests/unit/test_cli.py.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from multiprocessing import connection, forkserver, get_context, reduction
from pathlib import Path
from typing import IO, Any, Final

from runtime.supervised import LISTENER

_CONTEXT = get_context("forkserver")

#: What the commands and the processes of `up` load. Not the commands themselves: their consoles look at the
#: environment.
_CONTEXT.set_forkserver_preload(
    [
        *("aiohttp", "typer", "rich.progress", "cli.stack.supervisor", "streams.publisher", "streams.worker.main"),
        *("streams.sink.main", "api.server", "notices.main", "fulfilment.main"),
        *("batch.segments", "imports.importing", "imports.files", "imports.pace", "books.privacy", "books.api_keys"),
    ]
)

#: Starting one and asking what became of another look at the same list of them.
_ONE_AT_A_TIME = threading.Lock()

#: A command as `up`, the bench and the chaos write it.
_COMMANDS: Final = ([sys.executable, "-m", "cli.main"], [sys.executable, "-P", "-m", "cli.main"])

_POPEN: Final = subprocess.Popen


class _Passed:
    """A file's number that becomes the child's own on the way to it."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _taken, (reduction.DupFd(self._number),)


def _taken(passed: Any) -> int:
    return int(passed.detach())


class _Process:
    """A process that runs `work(*args)` in this environment. The face of a subprocess.Popen."""

    def __init__(
        self, files: Sequence[int], work: Callable[..., Any], *args: Any, environment: Mapping[str, str]
    ) -> None:
        words = (dict(environment), [_Passed(each) for each in files], work, args)
        self._process = _CONTEXT.Process(target=_run, args=words)
        with _ONE_AT_A_TIME:
            self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; below 0 the signal that ended it."""
        with _ONE_AT_A_TIME:
            return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        connection.wait([self._process.sentinel], timeout)
        if (code := self.returncode) is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


class Forked(_Process):
    """As `_Process`, without input, its output in files."""

    def __init__(
        self, work: Callable[..., Any], *args: Any, environment: Mapping[str, str], stdout: Path, stderr: Path
    ) -> None:
        with Path(os.devnull).open() as nothing, stdout.open("ab") as out, stderr.open("ab") as err:
            super().__init__((nothing.fileno(), out.fileno(), err.fileno()), work, *args, environment=environment)


class _Popen(_Process):
    """A command of `loyalnest` that is started by the words of a subprocess.Popen."""

    def __init__(
        self,
        words: list[str],
        *,
        env: Mapping[str, str] | None = None,
        stdout: Any,
        stderr: Any,
        stdin: int | None = None,
        cwd: Path | None = None,
        start_new_session: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        nothing = os.open(os.devnull, os.O_RDWR)
        given = [nothing]
        source = target = nothing
        if stdin == subprocess.PIPE:
            source, mine = os.pipe()
            given.append(source)
            self.stdin = os.fdopen(mine, "wb")
        if stdout == subprocess.PIPE:
            mine, target = os.pipe()
            given.append(target)
            self.stdout = os.fdopen(mine, "rb")
        elif stdout != subprocess.DEVNULL:
            target = stdout.fileno()
        error = target if stderr == subprocess.STDOUT else nothing if stderr == subprocess.DEVNULL else stderr.fileno()
        try:
            super().__init__(
                (source, target, error, *pass_fds),
                *(_started, words, cwd or Path.cwd(), start_new_session),
                environment=os.environ if env is None else env,
            )
        finally:
            for each in given:
                os.close(each)


def _started(words: list[str], folder: Path, session: bool) -> None:
    os.chdir(folder)
    if session:
        os.setsid()
    command(words[words.index("cli.main") + 1 :])


def popen(words: Any, **more: Any) -> Any:
    """As subprocess.Popen, and a command of `loyalnest` that nobody waits for on the spot is forked."""
    ours = isinstance(words, list) and any(words[: len(each)] == each for each in _COMMANDS)
    return _Popen(words, **more) if ours and more["stderr"] != subprocess.PIPE else _POPEN(words, **more)


def command(words: list[str]) -> None:
    """`loyalnest <words>`; what processes of `loyalnest` it starts, it forks."""
    forking()
    sys.argv = ["loyalnest", *words]
    from cli import main

    main.main()


def module(name: str, words: list[str]) -> None:
    """`python -m <name> <words>`, likewise."""
    forking()
    sys.argv = [name, *words]
    sys.exit(import_module(f"{name}.__main__").main())


def forking() -> None:
    """From now on this process, itself forked, forks a command of `loyalnest` where it would start one."""
    if sys.version_info >= (3, 14):  # who is forked does not know the key of whom it came from
        return
    # Its own children come from where it came from. (It knows the address, and yet would start another.)
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    subprocess.Popen = popen  # type: ignore[assignment,misc]


def _run(environment: dict[str, str], files: list[int], work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
        os.close(file)
    if files[3:]:  # the listening socket that `up` gives
        os.environ[LISTENER] = str(files[3])
    work(*args)
