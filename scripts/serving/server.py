"""What a server of ours is: a folder with its pid file, its log and its ports; and where all of them lie."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("LOYALNEST_SERVERS") or SCRIPTS.parent / ".servers").resolve()
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loyalnest"
READY_SECONDS = 60


class ServerError(Exception):
    """One clear sentence for the person at the terminal."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time in this folder: two `make servers` at once must not fill it twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def need(program: str, why: str) -> str:
    found = shutil.which(program)
    if not found:
        raise ServerError(f"{why} wants '{program}' on PATH.")
    return found


def run(command: list[str], log: Path, doing: str, **environment: str) -> None:
    print(f"  {doing} ...", flush=True)
    with log.open("ab") as out:
        code = subprocess.call(command, stdout=out, stderr=out, env={**os.environ, **environment})
    if code:
        raise ServerError(f"{doing} failed; its last words, from {log}:\n{tail(log)}")


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def birth(pid: int) -> str | None:
    """Returns when the process was born, in ticks since boot; None if it is dead or a zombie.

    A pid alone is not enough: after a reboot it may be another's.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if words[0] in "ZX" else words[19]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server of ours: a folder with its pid file, its log and its ports, which it keeps if it can."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.folder = STATE / self.name
        self.log = self.folder / "log"
        self.pid_file = self.folder / "pid"

    def pid(self) -> int | None:
        """Returns the pid of the running process; None if there is none."""
        if not self.pid_file.exists():
            return None
        pid, born = self.pid_file.read_text().split()
        return int(pid) if birth(int(pid)) == born else None

    def kept(self, name: str, make: Callable[[], str]) -> str:
        """Returns a word that is made once and then the same at every start."""
        file = self.folder / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(make())
        return file.read_text()

    def port(self, name: str = "port") -> int:
        return int(self.kept(name, lambda: str(free_port())))

    def give_up_taken_ports(self) -> None:
        for file in self.folder.glob("*port"):
            with socket.socket() as probe:
                # As the servers do: a port in TIME_WAIT is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", int(file.read_text())))
                except OSError:
                    file.unlink()

    def start(self) -> None:
        """Starts the process if it is not running; `wait` then says when it is of use."""
        if self.pid():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.give_up_taken_ports()
        self.launch(self.command())

    def launch(self, command: list[str]) -> None:
        nothing = subprocess.DEVNULL
        with self.log.open("ab") as out:
            process = subprocess.Popen(command, stdin=nothing, stdout=out, stderr=out, start_new_session=True)
        # Everybody waits for a server; but Linux may give each session the same share of the cores (autogroup), be it a
        # server's or a single test's process.
        with contextlib.suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text("-10")
        # Died at once: no birth, and a pid file that matches no process.
        self.pid_file.write_text(f"{process.pid} {birth(process.pid) or '-'}")

    def wait(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not answer in {READY_SECONDS} s; from its log:\n{tail(self.log)}")
            if not self.pid():
                self.died(deadline)
            time.sleep(0.2)

    def died(self, deadline: float) -> None:
        raise ServerError(f"{self.name} ended while starting; from its log:\n{tail(self.log)}")

    def end(self, sign: signal.Signals) -> bool:
        """Sends the signal and returns, once the process is gone, whether there was one."""
        pid = self.pid()
        if pid:
            os.kill(pid, sign)
            deadline = time.monotonic() + 30
            while self.pid():
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    deadline += 30
                time.sleep(0.05)
        self.pid_file.unlink(missing_ok=True)
        return pid is not None

    def purge(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self) -> list[str]:
        """Prepares what is not yet prepared and returns the command line of the server."""
        raise AssertionError

    def answers(self) -> bool:
        """Whether the server can be used, found out by using it."""
        raise AssertionError

    def environment(self) -> dict[str, str]:
        raise AssertionError
