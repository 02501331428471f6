"""The processes of `up`: started, watched and ended one by one, each with a log of bounded size."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

#: Bytes of a log, and of the older one beside it.
LOG_BYTES = 10 * 1024 * 1024

#: Tells a child that its standard input is the life line of `up`.
SUPERVISED = "LOYALNEST_SUPERVISED"


class Child:
    """One process: `python -m runtime.cli <words>`, its output appended to `log`."""

    def __init__(self, name: str, words: tuple[str, ...], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = [sys.executable, "-m", "runtime.cli", *words]
        self._environment = {**environment, SUPERVISED: "1"}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            # Its own session: Ctrl-C in the terminal is for `up`, which ends its children in order.
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0 the signal that ended it."""
        return self._process.poll() if self._process is not None else 0

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            self._process.terminate()

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

    def last_line(self) -> str:
        """What it said last, for an error message."""
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace")[-4000:].splitlines()
            return next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ""

    def bound_log(self) -> None:
        """Keep the log below LOG_BYTES: what it holds moves aside. It is open for appending, so it may be cut."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)


def die_with_parent() -> None:
    """In a child of `up`: end when `up` is gone, however it went.

    The pipe on standard input closes with the parent, on every platform, kill -9 included.
    """
    if os.environ.get(SUPERVISED):
        threading.Thread(target=_until_gone, name="life line", daemon=True).start()


def _until_gone() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(15)
    os._exit(1)
