"""Opens what is sealed in processes of their own: a customer takes some 10 µs, and one process has one core for Python.

`python -m books.opening` is such a process: it opens what it is given on stdin until that ends, and so never outlives
who started it. It holds the master keys as they do, and nothing else for longer than it takes.
"""

import asyncio
import marshal
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import IO, Any, Final

from books.sealed import MasterKeys, Opened, Sealed, VaultError, open_all

#: At most so many processes, however many cores there are.
_MOST: Final = 4

#: Bytes of the number that says how long what follows it is.
_SIZE: Final = 8

#: How long one may take to end by itself (seconds).
_GOODBYE: Final = 2.0


class _Opener:
    """One such process, started when it is first asked, and again should it have died."""

    def __init__(self, masters: MasterKeys) -> None:
        self._masters = masters
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, shop: str, asked: Sealed) -> Opened:
        """As open_all. For a thread: it waits for the process. Where that cannot be had, the thread does it."""
        try:
            # Plain columns: each name of a class, and each tuple of a row, costs more than the rest.
            found: Opened | None = self._ask(self._started(), (shop, *asked))
        except (OSError, EOFError):
            self.close()
            return open_all(self._masters, shop, asked)
        if found is None:
            raise VaultError("a customer's key does not open with this master key: is it the one it was made with?")
        return found

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            # A session of its own: what a terminal interrupts is who asks, who then closes it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "books.opening"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            _put(self._process.stdin, self._masters.keys)
        return self._process

    @staticmethod
    def _ask(process: "subprocess.Popen[bytes]", asked: object) -> Any:
        _put(process.stdin, asked)
        return _take(process.stdout)

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait(_GOODBYE)
        for pipe in (process.stdin, process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # it had not read all of it
                continue


def _put(pipe: IO[bytes] | None, what: Any) -> None:
    assert pipe is not None
    data = marshal.dumps(what)
    pipe.write(len(data).to_bytes(_SIZE))
    pipe.write(data)
    pipe.flush()


def _take(pipe: IO[bytes] | None) -> Any:
    """What the other end put; EOFError once it is gone.

    Both are the same Python, so that marshal may be used: pickle looks each text up among those before it, and takes
    eight times as long.
    """
    assert pipe is not None
    size = int.from_bytes(pipe.read(_SIZE))
    data = pipe.read(size)
    if not size or len(data) < size:
        raise EOFError
    return marshal.loads(data)  # noqa: S302 (from our own child, or from who started us)


class Openers:
    """A process for each core, shared by all who ask in an event loop."""

    def __init__(self, masters: MasterKeys) -> None:
        self._number = max(1, min(os.cpu_count() or 1, _MOST))
        self._masters = masters
        self._openers: list[_Opener] = []
        self._mine = threading.local()
        self._threads = ThreadPoolExecutor(self._number, "opening", self._begin)

    def _begin(self) -> None:
        self._mine.opener = _Opener(self._masters)
        self._openers.append(self._mine.opener)

    async def open(self, shop: str, asked: Sealed) -> Opened:
        """As open_all, a part of it in each process."""
        number = len(asked.customer_ids)
        size = -(-number // self._number)
        parts = [asked.part(first, first + size) for first in range(0, number, size)]
        loop = asyncio.get_running_loop()
        found = await asyncio.gather(*(loop.run_in_executor(self._threads, self._open, shop, part) for part in parts))
        emails, consents = ([*chain.from_iterable(columns)] for columns in zip(*found, strict=True))
        return emails, consents

    def _open(self, shop: str, asked: Sealed) -> Opened:
        opener: _Opener = self._mine.opener
        return opener.open(shop, asked)

    def close(self) -> None:
        """Ends the processes. Whoever still waits for one has it done by a thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for each in self._openers:
            each.close()


def _serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    masters = MasterKeys(_take(asked))
    while True:
        try:
            shop, *columns = _take(asked)
        except EOFError:
            return
        try:
            opened = open_all(masters, shop, Sealed(*columns))
        except VaultError:
            _put(answers, None)
            continue
        _put(answers, opened)


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
