"""Processes that make what a file's pieces come to: that is most of an import's work, and one process has one core for
Python.

`python -m imports.apart` is such a process: it is given a maker on stdin, then pieces, until that ends. So it never
outlives who started it, and nothing but reading files is loaded for it.
"""

import asyncio
import gc
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import IO, Any, Final

from imports.items import Chunk, ImportingError, Problem
from imports.making import Batch, Maker

PROCESSES: Final = 2

#: What pieces come to, and what was noticed of them.
Answer = tuple[Batch, Counter[str]]


class _Process:
    """One of them."""

    def __init__(self, maker: Maker) -> None:
        # A session of its own: what a terminal interrupts is who asks, who then ends it. -P: what lies in the folder
        # where somebody gave the command is not ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "imports.apart"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._answers = self._process.stdin, self._process.stdout
        with suppress(OSError):  # whoever asks is told
            _put(self._asked, maker)

    def ask(self, chunks: list[Chunk | Problem]) -> Answer:
        """For a thread: it waits for the process. ImportingError once that has ended."""
        try:
            _put(self._asked, chunks)
            found = pickle.load(self._answers)  # noqa: S301 (from our own child)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise ImportingError("a process that reads the file has ended: bring the file in again") from None
        if isinstance(found, Exception):
            raise found
        answer: Answer = found
        return answer

    def end(self) -> None:
        """Whoever waits for it is told that it has ended."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Once nobody waits for it."""
        for pipe in (self._asked, self._answers):
            with suppress(OSError):  # it had not read all of it
                pipe.close()


class Processes:
    """All of them."""

    def __init__(self, maker: Maker) -> None:
        self._all = [_Process(maker) for _ in range(PROCESSES)]
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        for each in self._all:
            self._idle.put(each)
        self._threads = ThreadPoolExecutor(PROCESSES, "apart")

    def make(self, chunks: list[Chunk | Problem]) -> "asyncio.Future[Answer]":
        """What the pieces come to, by whichever is idle."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._ask, chunks)

    def _ask(self, chunks: list[Chunk | Problem]) -> Answer:
        process = self._idle.get()
        try:
            return process.ask(chunks)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """Ends them, whatever they have in hand."""
        for each in self._all:
            each.end()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for each in self._all:
            each.close()


@contextmanager
def processes(maker: Maker) -> Iterator[Processes]:
    """Processes that make as the maker does, until the block ends."""
    found = Processes(maker)
    try:
        yield found
    finally:
        found.close()


def _put(pipe: IO[bytes], what: object) -> None:
    pipe.write(pickle.dumps(what, pickle.HIGHEST_PROTOCOL))
    pipe.flush()


def _serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    maker: Maker = pickle.load(asked)  # noqa: S301 (from who started us)
    # Nothing here lives long or refers to itself: looking for it takes a tenth of the time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
    while True:
        chunks = pickle.load(asked)  # noqa: S301
        maker.reader.notes.counts.clear()
        answer: Any
        try:
            answer = maker.make(chunks), Counter(maker.reader.notes.counts)
        except Exception as error:
            answer = error
        _put(answers, answer)


if __name__ == "__main__":
    with suppress(EOFError, OSError):  # who started us has gone
        _serve(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # not by way of a pipe that nobody reads
