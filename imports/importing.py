"""Bringing a file in: its orders and customers as envelopes, the front door's way, each batch durable, then noted.

What is published is a function of the file and of when its content was first asked for, so whatever is published
again after a crash, or wanted again, is the same message and changes nothing.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Final, Protocol

from psycopg import AsyncConnection

from books import contacts
from books import imports as book
from books.vault import Vault
from events import instants
from events.messages import Message
from events.webhook_topics import TOPICS, Kind
from imports import apart, files, making
from imports.items import FileError, ImportingError, Problem
from imports.making import Batch, Made, Maker
from runtime.ports import Publisher

log = logging.getLogger(__name__)

#: Seconds between two notes of how far it is.
_NOTE: Final = 1.0

#: Batches that are made ahead of the one that is published.
_AHEAD: Final = 4


class ForgottenError(ImportingError):
    """The file may not be used any more: the book says why, and what became of the import."""


class Waits(Protocol):
    """Says when how much may be published (imports/pace.py): `wait` is called until it is true."""

    size: int

    async def wait(self) -> bool:
        """True once so many may be published; False: not yet."""

    def sent(self, messages: Sequence[Message]) -> None:
        """These have been published."""


@dataclass
class Tally:
    """What of a file is durable."""

    line: int = 0
    position: int = 0
    orders: int = 0
    customers: int = 0
    rejected: int = 0
    problems: list[tuple[int, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, found: book.Import) -> "Tally":
        """Where an import that was broken off goes on. (What was noticed in lines before is noticed again.)"""
        problems = [(int(line), str(reason)) for line, reason in found.problems]
        return cls(found.line, found.position, found.orders, found.customers, found.rejected, problems)

    def add(self, batch: Batch) -> None:
        """A batch is durable, or was rejected."""
        for each in batch:
            self.line = max(self.line, each.line)
            if isinstance(each, Problem):
                self.rejected += 1
                if len(self.problems) < book.PROBLEMS_KEPT:
                    self.problems.append((each.line, each.reason))
            elif TOPICS[each.personal.topic].kind is Kind.SNAPSHOT:
                self.orders += 1
            else:
                self.customers += 1
        self.position += len(batch)

    def progress(self, noticed: Counter[str]) -> book.Progress:
        """As the book keeps it; `noticed` is what the reader has noticed beside."""
        return book.Progress(
            self.line,
            self.position,
            self.orders,
            self.customers,
            self.rejected,
            self.problems,
            dict(self.notes + noticed),
        )


@dataclass
class Bringing:
    """One file on its way in. `rejected` is told of each line that cannot be read, `moved` how far it is.

    Without a `pace`, `batch` messages are published at once; with `batch_due` the schedule runs the shop's batch once
    it is in.
    """

    path: Path
    shop: str
    currency: str
    vault: Vault
    publisher: Publisher
    pace: Waits | None
    batch: int
    batch_due: bool
    rejected: Callable[[list[Problem]], None] = lambda _: None
    moved: Callable[[Tally, int], None] = lambda *_: None

    async def run(self, connection: AsyncConnection[Any], found: book.Import) -> Tally:
        """From where it was left to its end, by an import that is ours (book.held).

        FileError for a file that cannot be read, ImportingError where it cannot go on just now; PublishError
        and psycopg.Error as they come. The book then says `failed`, and running it again goes on. ForgottenError once
        a redaction took the file that was spooled.
        """
        since = instants.from_datetime(found.first_at)
        try:
            reader = await asyncio.to_thread(files.reader, self.path, self.shop, self.currency, since)
            lines = await asyncio.to_thread(reader.scan)
            await book.begin(connection, found.id, reader.form, lines, datetime.now(UTC))
            tally = Tally.of(found)
            maker = Maker(reader, self.shop, self.currency, since)
            with ExitStack() as stack:
                make = _here(maker)
                if lines > making.SMALL:
                    make = stack.enter_context(apart.processes(maker)).make
                await self._pass(connection, found, maker, make, tally, lines)
            tally.notes += reader.notes.counts  # what this process has noticed itself: of a small file, all
            await book.move(connection, found.id, tally.progress(Counter()))
        except (asyncio.CancelledError, ForgottenError):
            raise  # the process is ending: it stays `running`, and goes on at the next start; or the book is right
        except Exception as error:
            said = str(error) if isinstance(error, FileError | ImportingError) else type(error).__name__
            await _failed(connection, found, said)
            raise
        await book.end(connection, found.id, "done", batch_due=self.batch_due and tally.position > 0)
        return tally

    async def _pass(
        self,
        connection: AsyncConnection[Any],
        found: book.Import,
        maker: Maker,
        make: "Make",
        tally: Tally,
        lines: int,
    ) -> None:
        cut = making.batches(maker.reader, self.batch, tally.position)
        noted = monotonic()
        async with aclosing(_ahead(cut, make)) as ahead:  # closed, whatever happens: it holds the file open
            async for batch, noticed in ahead:
                if (why := self.publisher.failed()) is not None:
                    raise ImportingError(why)
                await _still_there(connection, found)
                made = [each for each in batch if isinstance(each, Made)]
                await self._publish(connection, found, await self._sealed(made))
                self.rejected([each for each in batch if isinstance(each, Problem)])
                tally.add(batch)
                tally.notes += noticed
                self.moved(tally, lines)
                if monotonic() - noted > _NOTE:
                    noted = monotonic()
                    await book.move(connection, found.id, tally.progress(maker.reader.notes.counts))

    async def _publish(self, connection: AsyncConnection[Any], found: book.Import, messages: list[Message]) -> None:
        """Returns when all are durable."""
        at = 0
        while at < len(messages):
            if self.pace is None:
                part = messages
            else:
                while not await self.pace.wait():
                    await _still_there(connection, found)
                part = messages[at : at + self.pace.size]
            await self.publisher.publish(part)
            if self.pace is not None:
                self.pace.sent(part)
            at += len(part)

    async def _sealed(self, made: list[Made]) -> list[Message]:
        """As messages, e-mail and consent sealed."""
        found = await contacts.sealed(self.vault, self.shop, [each.personal for each in made])
        return [
            Message(TOPICS[each.personal.topic].stream, key, each.sealed(fields))
            for each, (key, fields) in zip(made, found, strict=True)
        ]


Make = Callable[[list[Any]], "asyncio.Future[tuple[Batch, Counter[str]]]"]


def _here(maker: Maker) -> Make:
    """Made in a thread of this process; what is noticed stays with the reader."""

    def make(chunks: list[Any]) -> "asyncio.Future[tuple[Batch, Counter[str]]]":
        return asyncio.ensure_future(asyncio.to_thread(lambda: (maker.make(chunks), Counter[str]())))

    return make


async def _ahead(cut: Generator[list[Any]], make: Make) -> AsyncGenerator[tuple[Batch, Counter[str]]]:
    """Batches in their order, some of them being made while one is published."""
    waiting: deque[asyncio.Future[tuple[Batch, Counter[str]]]] = deque()
    over = False
    try:
        while waiting or not over:
            while not over and len(waiting) < _AHEAD:
                chunks = await asyncio.to_thread(next, cut, None)
                if chunks is None:
                    over = True
                else:
                    waiting.append(make(chunks))
            if waiting:
                yield await waiting.popleft()
    finally:
        for each in waiting:
            each.cancel()
        with suppress(ValueError):  # a thread is reading just now: it ends with the last word of the file's
            cut.close()


async def _still_there(connection: AsyncConnection[Any], found: book.Import) -> None:
    """ForgottenError if the file that was spooled has been let go since, or was sent anew."""
    if found.spooled_at is not None and await book.spooled_since(connection, found.id) != found.spooled_at:
        raise ForgottenError(book.REDACTED)


async def _failed(connection: AsyncConnection[Any], found: book.Import, why: str) -> None:
    try:
        await book.end(connection, found.id, "failed", why)
    except Exception:
        log.exception("that an import failed could not be noted")
