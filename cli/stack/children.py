"""The processes of `up`: started, watched and ended one by one, each with a log of bounded size."""

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from runtime.supervised import LISTENER, SUPERVISED

#: Bytes of a log, and of the older one beside it.
LOG_BYTES = 10 * 1024 * 1024

_ASK_EVERY: Final = 2.0
_ANSWER: Final = 5.0

#: For what an ended process said last to come out of its pipe (seconds).
_LAST_WORDS: Final = 2.0


class Child:
    """One process: `python -m cli.main <words>`, its output appended to `log`, line by line.

    With a `listener` it answers /healthz there, and is asked: see `silent`.
    """

    def __init__(
        self,
        name: str,
        words: tuple[str, ...],
        environment: dict[str, str],
        log: Path,
        listener: socket.socket | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, "-m", "cli.main", *words]
        self._listener = listener
        own = {} if listener is None else {LISTENER: str(listener.fileno())}
        self._environment = {**environment, **own, SUPERVISED: "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._sign: float | None = None
        self._writer: threading.Thread | None = None

    def start(self) -> None:
        """Starts the process; its log goes on where it was."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._sign = None
        # Its own session: Ctrl-C in the terminal is for `up`, which ends its children in order.
        self._process = process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[] if self._listener is None else [self._listener.fileno()],
        )
        assert process.stdout is not None
        self._writer = threading.Thread(target=_write, args=(process.stdout, self.log, self._writer), daemon=True)
        self._writer.start()
        if self._listener is not None:
            threading.Thread(target=self._ask, args=(self._process, self._listener), daemon=True).start()

    def _ask(self, process: "subprocess.Popen[bytes]", listener: socket.socket) -> None:
        """Asks one life of the process for signs, as long as it lasts."""
        host, port = listener.getsockname()[:2]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/healthz"
        while process.poll() is None and process is self._process:
            # A refusal, no answer, or 503: no sign.
            with suppress(OSError, ValueError), urllib.request.urlopen(address, timeout=_ANSWER):
                if process is self._process:
                    self._sign = time.monotonic()
            time.sleep(_ASK_EVERY)

    @property
    def silent(self) -> float:
        """Seconds since its last sign of life; 0 before the first one, and for a process that is not asked."""
        return 0.0 if self._sign is None else time.monotonic() - self._sign

    @property
    def pid(self) -> int:
        """The process's id; 0 before it is started."""
        return self._process.pid if self._process is not None else 0

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0 the signal that ended it."""
        return self._process.poll() if self._process is not None else 0

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it now: it does not answer, and would not hear anything else."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, and end it after `seconds`."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._hear_out()

    def _hear_out(self) -> None:
        if self._writer is not None and self.exit_code is not None:
            self._writer.join(_LAST_WORDS)

    def last_line(self) -> str:
        """What it said last, for an error message."""
        self._hear_out()
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""


def _write(said: IO[bytes], log: Path, before: threading.Thread | None) -> None:
    """Appends what a process says to its log, as long as it lasts; a full log moves aside between two lines.

    What the process before this one left unread comes first.
    """
    if before is not None:
        before.join(_LAST_WORDS)
    with said:
        for line in said:
            with suppress(OSError):  # a full disk must not hold the process up
                if log.exists() and log.stat().st_size + len(line) > LOG_BYTES:
                    log.replace(log.with_suffix(".log.1"))
                with log.open("ab") as output:
                    output.write(line)
