"""Segments as CSV, at any size: read by a server-side cursor, written as it is read."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import polars as pl
import psycopg
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from psycopg import AsyncConnection, AsyncServerCursor, sql
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8BinaryLoader
from psycopg_pool import PoolClosed, PoolTimeout
from starlette.types import Message, Receive, Scope, Send

from api import csv_cells, questions
from api.audiences import Audience
from api.context import Caller, ExportAccess
from api.limits import READ_SECONDS, within
from api.models import time_text
from api.presets import KLAVIYO_CONSENTS, KLAVIYO_OTHERS
from api.problems import ProblemError
from api.questions import COLUMNS, Question
from api.reading import Reading, Row, Statement
from api.runs import side
from api.slots import Full
from books import contacts
from books import exports as book
from events import addresses, instants
from events.payloads import Contact
from events.programs import Program
from lake.past import Standings
from runtime import database, metrics

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/shops/{shop}/exports", tags=["exports"])

MEDIA_TYPE: Final = "text/csv; charset=utf-8"

#: Customers of one read of the cursor, and of one read of the vault; and of the first, which is soon there.
_CHUNK: Final = 5000
_FIRST_CHUNK: Final = 200

#: Who reads more slowly loses their export, for it holds a connection, an open transaction and one of few places:
#: a client has so many seconds, and one more for each so many bytes that it has taken.
_PATIENCE: Final = 30.0
_LEAST_SPEED: Final = 50_000

#: What a read may take to end that is broken off (seconds).
_GOODBYE: Final = 1.0

#: Should we ourselves hang, PostgreSQL lets go of the transaction.
_STALLED: Final = "SET idle_in_transaction_session_timeout = '2min'"

#: The columns of an export's rows behind what they tell of contact and consent. Instants in microseconds.
_VALUES: Final = {
    "customer_id": pl.String,
    **dict.fromkeys(("recency_days", "frequency", "monetary"), pl.Int64),
    "currency": pl.String,
    **dict.fromkeys(("r", "f", "m"), pl.Int64),
    **dict.fromkeys(("score", "segment_id", "segment"), pl.String),
    **dict.fromkeys(("balance", "last_order_at", "as_of"), pl.Int64),
    "cut_points_version": pl.String,
}

_TOLD = sql.SQL(", ").join(sql.Identifier("c", name) for name in contacts.COLUMNS if name != "customer_id")


#: What PostgreSQL's timestamps count from (microseconds since the epoch).
_EPOCH_2000: Final = instants.parse("2000-01-01T00:00:00Z")

# A timestamptz AT TIME ZONE 'UTC' is a timestamp, whose 64 bits are taken as they are.
_LIVE = sql.SQL("""
SELECT customer_id, {told}, recency_days, frequency, monetary, currency, r, f, m, score::text, segment_id,
       segment, balance, last_order_at AT TIME ZONE 'UTC', now AT TIME ZONE 'UTC', cut_points_version
FROM customers AS c
WHERE shop = %(shop)s AND merged_into IS NULL AND {where}
""")

# Consent and address are today's, whatever day is asked for: nobody may be written to by a consent since withdrawn.
_PAST = sql.SQL("""
SELECT b.customer_id, {told}, b.recency_days, b.frequency, b.monetary, %(currency)s::text, b.r, b.f, b.m,
       b.score::text, b.segment_id, b.segment, b.balance, b.last_order_at AT TIME ZONE 'UTC',
       %(as_of)s::timestamptz AT TIME ZONE 'UTC', %(version)s::text
FROM batch_segments AS b LEFT JOIN customers AS c ON c.shop = b.shop AND c.customer_id = b.customer_id
WHERE b.run_id = %(run)s AND b.shop = %(shop)s AND {where}
""")

_IN_ORDER = sql.SQL("{} ORDER BY customer_id")


# As _PAST, of those that the lake has told of.
_TOLD_OF = sql.SQL(
    "SELECT customer_id, {told} FROM customers AS c WHERE shop = %(shop)s AND customer_id = ANY(%(customers)s)"
).format(told=_TOLD)


#: What holds somebody beside the program's own segments: names change with the grid, at the next batch.
_SEGMENTS = sql.SQL("SELECT segment FROM rfm_segment_counts WHERE shop = %(shop)s AND customers > 0")
_SEGMENTS_OF_RUN = sql.SQL("SELECT DISTINCT segment FROM batch_segments WHERE run_id = %(run)s AND shop = %(shop)s")


_COUNT = sql.SQL("SELECT count(*) AS customers FROM ({}) AS asked")

# Everybody who may have an address.
_EVERYBODY = sql.SQL("""
SELECT {told} FROM customers AS c WHERE shop = %(shop)s AND merged_into IS NULL AND NOT deleted AND NOT redacted
""").format(told=sql.SQL(", ").join(sql.Identifier("c", name) for name in contacts.COLUMNS))


#: Cells of what is sealed. (Klaviyo's word for a consent stands in a list of people alone.)
_TOLD_CELLS: Final = frozenset({"email", "email_sha256", "email_consent"})


class Asker(NamedTuple):
    """For whom an export is made: a shop, what its key allows, and who it is (the id of a key or session)."""

    services: Reading
    shop: str
    scopes: frozenset[str]
    who: str

    async def program(self) -> Program:
        """The shop's program; a problem (404) before it has one."""
        found = await self.services.program(self.shop)
        if found is None:
            raise ProblemError(404, "no-program", "The shop has no program yet: PUT one, or run `loyalnest shops add`.")
        return found


def asker_of(caller: Caller) -> Asker:
    """Who asks with a request."""
    return Asker(caller.services, caller.shop, caller.key.scopes, caller.key.id)


class Export(NamedTuple):
    """One export: what was asked, and what to read for it.

    `standings` are the lake's, of a past instant, and `chosen` who of them is asked for; then the query is none.
    """

    asker: Asker
    question: Question
    query: Statement | None
    parameters: Row
    standings: Standings | None = None
    chosen: pl.Expr | None = None

    @property
    def layout(self) -> Mapping[str, str]:
        """The header's names in the file's order, each with the cell that stands under it."""
        system = self.question.system
        if system is not None and system.layout is not None:
            return system.layout
        if self.question.columns:
            return {name: name for name in self.question.columns}
        shown = "pii" in self.asker.scopes
        names = ["email" if shown and name == "email_sha256" else name for name in COLUMNS]
        return dict(zip(names, names, strict=True))

    @property
    def tells(self) -> bool:
        """Whether anything of addresses or consents is asked: to open them takes most of an export's time."""
        asked = self.question.wanted_consent is not None or self.question.preset is not None
        return asked or not _TOLD_CELLS.isdisjoint(self.layout.values())

    @property
    def scopes(self) -> frozenset[str]:
        """What a key must allow to see the file."""
        clear = "email" in self.layout.values()
        return frozenset({"export"}) | self.question.scopes | (frozenset({"pii"}) if clear else frozenset())


class Tally:
    """How far an export is: customers gone through, rows written, and bytes."""

    def __init__(self) -> None:
        self.done = 0
        self.rows = 0
        self.size = 0


class _Chunk(NamedTuple):
    """Some of an export's rows: their values (_VALUES), and their contacts by customer."""

    values: pl.DataFrame
    contacts: Mapping[str, Contact]


def _addresses(found: Iterable[Contact | None]) -> Iterator[str | None]:
    for contact in found:
        yield None if contact is None or contact.email is None else addresses.plain(contact.email)


def _consents(found: Iterable[Contact | None]) -> Iterator[str | None]:
    """Whose consent nobody told has not given it; of somebody without an address only what was told is said."""
    for contact in found:
        if contact is None or (contact.email is None and contact.consent is None):
            yield None
        else:
            yield contact.consent or "not_subscribed"


#: Cells that are digests, each of another form of the address.
_DIGESTS: Final = {"email_sha256": addresses.plain, "email_google_sha256": addresses.for_google}


def _told(export: Export, chunk: _Chunk) -> pl.DataFrame:
    """The chunk's values with what its contacts tell: `email`, those of its digests that are asked for, `consent`."""
    found = [chunk.contacts.get(customer_id) for customer_id in chunk.values["customer_id"]]
    emails = [*_addresses(found)]
    told = {"email": pl.Series(emails, dtype=pl.String), "consent": pl.Series([*_consents(found)], dtype=pl.String)}
    for name in _DIGESTS.keys() & export.layout.values():
        digests = [None if email is None else addresses.hashed(_DIGESTS[name](email)) for email in emails]
        told[name] = pl.Series(digests, dtype=pl.String)
    return chunk.values.with_columns(**told)


def _agreeing(export: Export, chunk: _Chunk) -> _Chunk:
    """Of the chunk who stands in the file: of a list of people who is reached, and whose consent is asked for."""
    wanted, reached = export.question.wanted_consent, export.question.preset is not None
    if wanted is None and not reached:
        return chunk
    found = [chunk.contacts.get(customer_id) for customer_id in chunk.values["customer_id"]]
    agree = [
        wanted in (None, consent) and not (reached and contact is None)
        for contact, consent in zip(found, _consents(found), strict=True)
    ]
    return chunk._replace(values=chunk.values.filter(pl.Series(agree, dtype=pl.Boolean)))


def _rows(export: Export, chunk: _Chunk) -> tuple[bytes, int]:
    """What of the chunk stands in the file, and how many rows that is."""
    chosen = _agreeing(export, chunk)
    return (_lines(export, chosen), chosen.values.height) if chosen.values.height else (b"", 0)


def _lines(export: Export, chunk: _Chunk) -> bytes:
    """The chunk's rows as they stand in the file."""
    values = _told(export, chunk)
    plain: dict[str, pl.Expr] = {name: pl.col(name) for name in (*COLUMNS, *_DIGESTS) if name in values.columns}
    cells = plain | {
        "customer_id": csv_cells.digits("customer_id") if export.question.for_excel else pl.col("customer_id"),
        "email": csv_cells.text("email"),
        "email_consent": csv_cells.text("consent"),
        "monetary": csv_cells.amount("monetary", "currency", values["currency"].unique()),
        "segment": csv_cells.text("segment"),
        "points_balance": pl.col("balance"),
        "last_order_at": csv_cells.time("last_order_at"),
        "as_of": csv_cells.time("as_of"),
        "cut_points_version": csv_cells.text("cut_points_version"),
        "last_order_day": csv_cells.day("last_order_at"),
        "klaviyo_consent": pl.col("consent").replace_strict(KLAVIYO_CONSENTS, default=KLAVIYO_OTHERS),
    }
    return csv_cells.lines(values.select(**{name: cells[cell] for name, cell in export.layout.items()}))


def _split(rows: list[tuple[Any, ...]]) -> tuple[pl.DataFrame, list[contacts.Told]]:
    """The values of rows of _LIVE or _PAST, and what they tell."""
    columns = list(zip(*rows, strict=True))
    told = len(contacts.COLUMNS)
    found = dict(zip(_VALUES, (columns[0], *columns[told:]), strict=True))
    values = pl.DataFrame(found, schema=_VALUES).with_columns(pl.col("last_order_at", "as_of") + _EPOCH_2000)
    return values, [*map(contacts.Told._make, zip(*columns[:told], strict=True))]


async def _reader(
    export: Export,
    connection: AsyncConnection[Any],
    cursor: AsyncServerCursor[tuple[Any, ...]],
    audience: Audience | None,
) -> Callable[[], Awaitable[_Chunk | None]]:
    """What reads the next rows; None at the end. What they tell is opened anew each time, on the same connection.

    For an audience only who is reached by it.
    """
    asker = export.asker
    sizes = chain([_FIRST_CHUNK], repeat(_CHUNK))

    async def chunk(values: pl.DataFrame, told: list[contacts.Told]) -> _Chunk:
        if not export.tells:
            return _Chunk(values, {})
        if audience is None:
            return _Chunk(values, await contacts.opened(asker.services.vault, connection, asker.shop, told))
        accounts = await contacts.accounts(asker.services.vault, connection, asker.shop, told)
        return _Chunk(values, await asyncio.to_thread(audience.reached, values["customer_id"], accounts))

    if export.query is not None:
        await cursor.execute(_IN_ORDER.format(export.query), export.parameters, binary=True)

        async def read() -> _Chunk | None:
            rows = await cursor.fetchmany(next(sizes))
            return await chunk(*await asyncio.to_thread(_split, rows)) if rows else None

        return read
    assert export.standings is not None
    slices = export.standings.slices(_CHUNK, export.chosen)

    async def read_lake() -> _Chunk | None:
        frame = await asyncio.to_thread(next, slices, None)
        if frame is None:
            return None
        own = connection.cursor(row_factory=tuple_row)
        await own.execute(_TOLD_OF, {"shop": asker.shop, "customers": frame["customer_id"].to_list()})
        return await chunk(_of_lake(frame, export.parameters), [*map(contacts.Told._make, await own.fetchall())])

    return read_lake


def _of_lake(frame: pl.DataFrame, parameters: Row) -> pl.DataFrame:
    """A slice of the lake's standings as _PAST has them."""
    at = instants.from_datetime(parameters["as_of"])
    common = {"currency": parameters["currency"], "as_of": at, "cut_points_version": parameters["version"]}
    return frame.with_columns(**{name: pl.lit(value) for name, value in common.items()}).select(
        pl.col(name).cast(kind) for name, kind in _VALUES.items()
    )


async def _hear(asker: Asker, connection: AsyncConnection[Any], audience: Audience) -> None:
    """Tells the audience what everybody of the shop has told."""
    async with connection.cursor("everybody", row_factory=tuple_row) as cursor:
        await cursor.execute(_EVERYBODY, {"shop": asker.shop})
        while True:
            async with asyncio.timeout(READ_SECONDS):
                rows = await cursor.fetchmany(_CHUNK)
                if not rows:
                    break
                told = [*map(contacts.Told._make, rows)]
                accounts = await contacts.accounts(asker.services.vault, connection, asker.shop, told)
            await asyncio.to_thread(audience.hear, accounts.values())
    await asyncio.to_thread(audience.conclude)


#: Exports that are being closed: a task that nobody holds may be collected before it is done.
_closing: set["asyncio.Task[None]"] = set()


async def written(
    export: Export, tally: Tally, over: Callable[[], None], ident: UUID | None = None
) -> AsyncGenerator[bytes]:
    """The file, piece by piece. Whoever takes it closes it; `over` is called once it holds nothing any more.

    `ident`: by which name the book has it; its lock is held as long as this goes on.
    """
    url = export.asker.services.settings.database_url()
    ahead: asyncio.Task[_Chunk | None] | None = None
    try:
        connection = await database.connect_async(url, "loyalnest-export")
    except BaseException:
        over()
        raise
    connection.adapters.register_loader("timestamp", Int8BinaryLoader)
    cursor = connection.cursor("export", row_factory=tuple_row)
    try:
        await connection.execute(_STALLED)
        if ident is not None:
            await connection.execute(book.LOCK, (ident,))
        preset = export.question.system
        audience = None if preset is None else Audience(preset, past=export.question.as_of is not None)
        read = await _reader(export, connection, cursor, audience)

        async def read_in_time() -> _Chunk | None:
            # Not `within`: it leaves a read behind that holds the connection, and closing the cursor waits for it.
            async with asyncio.timeout(READ_SECONDS):
                return await read()

        header = ",".join(export.layout).encode() + b"\r\n"
        header = csv_cells.MARK + header if export.question.for_excel else header
        tally.size += len(header)
        yield header
        if audience is not None:
            await _hear(export.asker, connection, audience)
        chunk = await read_in_time()
        while chunk is not None:
            # One is read while the one before is written and sent.
            ahead = asyncio.create_task(read_in_time())
            lines, rows = await asyncio.to_thread(_rows, export, chunk)
            metrics.EXPORTED_ROWS.inc(rows)
            tally.done += chunk.values.height
            tally.rows += rows
            tally.size += len(lines)
            if rows:
                yield lines
            chunk = await ahead
    finally:
        if ahead is None or ahead.done():
            _looked_at(ahead)
            await _close(connection, cursor, over)
        else:
            # A task of its own: it waits for the read to end, and whoever is cancelled here may be so once more.
            closing = asyncio.create_task(_break_off(ahead, connection, cursor, over))
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)


def _looked_at(reading: "asyncio.Task[_Chunk | None] | None") -> None:
    """What became of it no longer matters, and so is nothing to be logged."""
    if reading is not None and reading.done() and not reading.cancelled():
        reading.exception()


async def _break_off(
    reading: "asyncio.Task[_Chunk | None]",
    connection: AsyncConnection[Any],
    cursor: AsyncServerCursor[tuple[Any, ...]],
    over: Callable[[], None],
) -> None:
    """Ends a read that nobody needs any more (not waited for for long, should the server not answer), and closes."""
    try:
        reading.cancel()
        await asyncio.wait({reading}, timeout=_GOODBYE)
        _looked_at(reading)
    finally:
        await _close(connection, cursor, over)


async def _close(
    connection: AsyncConnection[Any], cursor: AsyncServerCursor[tuple[Any, ...]], over: Callable[[], None]
) -> None:
    try:
        # The connection first: a cursor of a closed one asks nothing more of a server that may not answer. So nothing
        # is waited for here, and whoever is cancelled once more meanwhile leaves nothing open.
        await connection.close()
        await cursor.close()
    finally:
        over()


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
        self._whole = False

    async def _pieces(self, first: bytes) -> AsyncGenerator[bytes]:
        yield first
        async for piece in self._rest:
            yield piece
        self._whole = True

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
                self._whole = False
            finally:
                self._noted.over("done" if self._whole else "broken off")


async def prepared(asker: Asker, question: Question) -> Export:
    """What to read for a question. A problem (403, 404, 422, 503) where it cannot be answered for this asker."""
    questions.refuse_without_scopes(question, asker.scopes)
    program = await asker.program()
    if question.as_of is None:
        where, parameters = questions.where(question, "c")
        parameters |= {"shop": asker.shop}
        if question.segment:
            await _refuse_unknown_segments(asker, question, program, _SEGMENTS, parameters)
        return Export(asker, question, _LIVE.format(told=_TOLD, where=where), parameters)
    found = await side(asker, program, question.as_of)
    parameters = {"shop": asker.shop, "as_of": found.at, "currency": program.currency}
    if found.standings is not None:
        questions.refuse_unknown_segments(question, program, (each["segment"] for each in found.standings.segments))
        parameters |= {"version": found.standings.cut_points.version}
        chosen = await questions.expression(asker.services, asker.shop, question)
        return Export(asker, question, None, parameters, found.standings, chosen)
    assert found.run is not None
    where, asked = questions.where(question, "b")
    parameters |= {**asked, "run": found.run.id, "version": found.run.version}
    if question.segment:
        await _refuse_unknown_segments(asker, question, program, _SEGMENTS_OF_RUN, parameters)
    return Export(asker, question, _PAST.format(told=_TOLD, where=where), parameters)


async def of(export: Export) -> int:
    """How many customers it goes through; in a list of people, fewer may stand in the file."""
    if export.query is None:
        assert export.standings is not None
        assert export.chosen is not None
        return await asyncio.to_thread(export.standings.count, export.chosen)
    (row,) = await export.asker.services.rows(_COUNT.format(export.query), export.parameters)
    return int(row["customers"])


async def _refuse_unknown_segments(
    asker: Asker, question: Question, program: Program, query: Statement, parameters: Row
) -> None:
    others = [row["segment"] for row in await asker.services.rows(query, parameters)]
    questions.refuse_unknown_segments(question, program, others)


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
    try:
        slot = caller.services.exports.take(caller.shop)
    except Full as full:
        whose = "exports of this shop" if full.of_shop else "exports"
        detail = f"Too many {whose} run now: try again soon."
        raise ProblemError(429, "too-many", detail, {"Retry-After": "30"}) from None
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


def headers(shop: str, question: Question) -> dict[str, str]:
    """The headers of an answer that is such a file."""
    day = time_text(question.as_of or datetime.now(UTC))[:10]
    name = f"{question.preset or 'segments'}-{shop.partition('.')[0]}-{day}.csv"
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
