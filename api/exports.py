"""Segments as CSV, at any size: streamed to whoever asks, and noted in the book of exports."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Final

import psycopg
from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse
from psycopg_pool import PoolClosed, PoolTimeout
from starlette.types import Message, Receive, Scope, Send

from api.context import Caller, ExportAccess
from api.export_queries import Export, asker_of, prepared
from api.export_streams import Tally, written
from api.limits import READ_SECONDS, within
from api.models import time_text
from api.problems import ProblemError
from api.questions import COLUMNS, Question
from api.slots import Full, Slot
from books import exports as book
from runtime import database

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/shops/{shop}/exports", tags=["exports"])

MEDIA_TYPE: Final = "text/csv; charset=utf-8"

#: Who reads more slowly loses their export, for it holds a connection, an open transaction and one of few places:
#: a client has so many seconds, and one more for each so many bytes that it has taken.
_PATIENCE: Final = 30.0
_LEAST_SPEED: Final = 50_000

#: So long an answer waits, at its very end, for the book to note it: whoever has read it whole finds it there.
_NOTED_WITHIN: Final = 5.0


async def _first(stream: AsyncGenerator[bytes]) -> bytes:
    return await anext(stream)


#: What is being noted of exports that are over.
_noting: set["asyncio.Task[None]"] = set()


class Noted:
    """An export as the book has it: noted when it begins, and how it ended, whoever is cancelled meanwhile."""

    def __init__(self, export: Export, row: book.Export) -> None:
        self.row = row
        self.tally = Tally()
        self._services = export.asker.services

    @classmethod
    async def begun(cls, export: Export, way: book.Way) -> "Noted":
        """Notes that it begins."""
        asker = export.asker
        async with asker.services.pool.connection() as connection:
            question = export.question.said()
            return cls(export, await book.begin(connection, asker.shop, asker.who, way, question, export.scopes))

    def over(self, status: book.Status) -> "asyncio.Task[None]":
        """Notes how it ended. The task goes on by itself."""
        task = asyncio.create_task(self._over(status))
        _noting.add(task)
        task.add_done_callback(_noting.discard)
        return task

    async def _over(self, status: book.Status) -> None:
        tally = self.tally
        try:
            async with self._services.pool.connection() as connection:
                await book.end(connection, self.row, status, done=tally.done, rows=tally.rows, size=tally.size)
        except (psycopg.Error, PoolTimeout, PoolClosed) as error:
            log.warning("how export %s ended was not noted: %s", self.row.id, database.first_line(error))


class _Export(StreamingResponse):
    """Closes what it streams however it ends, also when the client is gone before the first byte, or too slow."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], headers: dict[str, str], noted: Noted) -> None:
        super().__init__(self._pieces(first), media_type=MEDIA_TYPE, headers=headers)
        self._rest = rest
        self._noted = noted
        self._ended: asyncio.Task[None] | None = None

    async def _pieces(self, first: bytes) -> AsyncGenerator[bytes]:
        yield first
        async for piece in self._rest:
            yield piece
        self._ended = self._noted.over("done")
        await asyncio.wait({self._ended}, timeout=_NOTED_WITHIN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop, left = asyncio.get_running_loop(), _PATIENCE

        async def hurried(message: Message) -> None:
            # The client's own time alone: what it waits for us is not its slowness.
            nonlocal left
            began = loop.time()
            async with asyncio.timeout(left):
                await send(message)
            left += len(message.get("body", b"")) / _LEAST_SPEED - (loop.time() - began)

        async with aclosing(self._rest):
            try:
                await super().__call__(scope, receive, hurried)
            except TimeoutError:
                # It stays without its last chunk, so that the client can tell; the server closes the connection.
                log.warning("an export was ended: its client, or the database, is too slow")
            finally:
                if self._ended is None:
                    self._noted.over("broken off")


_EXAMPLE = (
    ",".join(COLUMNS)
    + "\r\n207119551,ecc2b4a8d2e8c1c3a0d5a1d3a2b4a8d2e8c1c3a0d5a1d3a2b4a8d2e8c1c3a0d5,subscribed,12,4,"
    "519.60,USD,5,4,5,4.7,seg_545,Champions,519,2026-11-09T09:30:00Z,2026-11-21T01:00:00Z,default\r\n"
)


@router.get(
    "/segments.csv",
    summary="A segment, or everybody, as CSV",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "RFC 4180 in UTF-8 with a header row, by customer_id; streamed",
            "content": {"text/csv": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        }
    },
)
async def segments_csv(caller: ExportAccess, question: Annotated[Question, Query()]) -> StreamingResponse:
    """One row per customer. Streamed: any size takes the same memory.

    `email_sha256` is the SHA-256 of the trimmed, lowercased address; with the scope `pii` the column is `email`.
    It is empty without an address, and like consent after the customer was deleted or redacted. `email_consent` is
    what was told last, `not_subscribed` for an address without any. Consent is always today's.
    A past answer's instant stands in the column `as_of`: the one asked for or, where the lake cannot tell, that of the
    newest batch run before it.
    A text cell that a spreadsheet would run as a formula begins with an apostrophe. A spreadsheet that opens the file
    as it is takes UTF-8 for something else and rounds long ids: ask for `excel=true` then.

    All that is asked must hold of everybody in the file: several segments, digits, points, the last order, consent, a
    segment that changed since. A segment or a column that there is not is a 422 that names those there are.
    """
    slot = _place(caller)
    try:
        export = await prepared(asker_of(caller), question)
        noted = await Noted.begun(export, "stream")
    except BaseException:
        slot.give_back()
        raise
    try:
        stream = written(export, noted.tally, slot.give_back, noted.row.id)
        # What can go wrong at the start does so while it can still be said.
        first = await within(READ_SECONDS, _first(stream))
    except BaseException:
        slot.give_back()
        noted.over("broken off")
        raise
    return _Export(first, stream, headers(caller.shop, question), noted)


@router.head("/segments.csv", include_in_schema=False)
async def segments_csv_head(caller: ExportAccess, question: Annotated[Question, Query()]) -> Response:
    """Whether it would be answered, and under which name: what reads nothing is noted nowhere."""
    _place(caller).give_back()
    await prepared(asker_of(caller), question)
    answer = Response(media_type=MEDIA_TYPE, headers=headers(caller.shop, question))
    del answer.headers["content-length"]  # a GET's is not known
    return answer


def _place(caller: Caller) -> Slot:
    """A place for an export; a problem (429) where there is none."""
    try:
        return caller.services.exports.take(caller.shop)
    except Full as full:
        whose = "exports of this shop" if full.of_shop else "exports"
        detail = f"Too many {whose} run now: try again soon."
        raise ProblemError(429, "too-many", detail, {"Retry-After": "30"}) from None


def headers(shop: str, question: Question) -> dict[str, str]:
    """The headers of an answer that is such a file."""
    day = time_text(question.as_of or datetime.now(UTC))[:10]
    name = f"{question.preset or 'segments'}-{shop.partition('.')[0]}-{day}.csv"
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
