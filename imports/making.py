"""Pieces of a file into what can be published, in processes of their own: that is most of an import's work."""

import gc
import os
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from typing import Any, Final, NamedTuple

from events import codec, envelopes, instants
from events.envelopes import Personal
from imports.items import Chunk, Item, Problem, Reader
from imports.judging import judge

#: A file of fewer lines is made in this process: others take a second to begin.
SMALL: Final = 5_000

PROCESSES: Final = 2


class Made(NamedTuple):
    """An item that can be used, as bytes: another process has less to hand over.

    `head` is its envelope up to the payload; `payload` lacks what has yet to be sealed.
    """

    line: int
    personal: Personal
    head: bytes
    payload: bytes

    def sealed(self, fields: dict[str, Any]) -> bytes:
        """The envelope, with what was sealed in its payload."""
        return self.head + codec.joined(self.payload, fields) + b"}"


Batch = list[Made | Problem]


class Maker:
    """Makes what a reader's chunks come to, for one shop."""

    def __init__(self, reader: Reader, shop: str, currency: str, received_at: int) -> None:
        self.reader = reader
        self._shop, self._currency = shop, currency
        self._received_at = instants.text(received_at)

    def make(self, chunks: list[Chunk | Problem]) -> Batch:
        """What these pieces come to, in their order."""
        return [each if isinstance(each, Problem) else self._one(each) for each in chunks]

    def _one(self, chunk: Chunk) -> Made | Problem:
        item = self.reader.item(chunk)
        if isinstance(item, Problem):
            return item
        found = judge(item, self._shop, self._currency)
        if isinstance(found, Problem):
            return found
        return Made(
            item.line,
            envelopes.personal(item.topic, found.opened),
            codec.dumps(self._head(item))[:-1] + b',"payload":',
            codec.dumps(found.opened.payload),
        )

    def _head(self, item: Item) -> dict[str, Any]:
        return {
            "topic": item.topic,
            "shop": self._shop,
            "webhook_id": item.webhook_id,
            "event_id": None,
            "api_version": None,
            "triggered_at": instants.text(item.triggered_at),
            "received_at": self._received_at,
        }


def batches(reader: Reader, size: int, skip: int) -> Generator[list[Chunk | Problem]]:
    """A file's chunks, so many at a time, without the first `skip`."""
    chunks = islice(reader.chunks(), skip, None)
    while found := list(islice(chunks, size)):
        yield found


# --- other processes ---------------------------------------------------------------------------------------------

_maker: Maker | None = None


def _begin(maker: Maker, parent: int) -> None:
    global _maker
    _maker = maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal: the parent ends this one
    # Nothing here lives long or refers to itself: looking for it takes a tenth of the time.
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A process whose parent was killed would wait for work for ever."""
    while os.getppid() == parent:
        threading.Event().wait(1)
    os._exit(1)


def make(chunks: list[Chunk | Problem]) -> tuple[Batch, Counter[str]]:
    """In one of the processes: what the chunks come to, and what was noticed of them."""
    assert _maker is not None
    _maker.reader.notes.counts.clear()
    return _maker.make(chunks), Counter(_maker.reader.notes.counts)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # there nobody may say what signals do
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def processes(maker: Maker) -> Iterator[Executor]:
    """Processes that run `make`.

    In the end they finish what they have in hand. One that was killed in the middle of an answer would leave whoever
    reads it waiting for ever.
    """
    executor = ProcessPoolExecutor(
        PROCESSES, mp_context=get_context("spawn"), initializer=_begin, initargs=(maker, os.getpid())
    )
    try:
        with _without_interrupts():  # what starts inherits that, and would die of one with a traceback while it loads
            for _ in range(PROCESSES):
                executor.submit(os.getpid)
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
