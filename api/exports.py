"""Segments as CSV, at any size: read by a server-side cursor, written as it is read."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain, repeat
from typing import Annotated, Any, Final, NamedTuple

import polars as pl
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from psycopg import AsyncConnection, AsyncServerCursor, sql
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8BinaryLoader
from starlette.types import Message, Receive, Scope, Send

from api import csv_cells
from api.context import Caller, ExportAccess, Row, Statement
from api.customers import SegmentQuery
from api.limits import READ_SECONDS, within
from api.models import AsOfQuery, time_text
from api.problems import ProblemError
from api.runs import side
from api.slots import Full, Slot
from books import contacts
from events import instants
from events.payloads import Contact
from lake.past import Standings
from runtime import database, metrics

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/shops/{shop}/exports", tags=["exports"])

COLUMNS: Final = (
    "customer_id",
    "email_sha256",
    "email_consent",
    "recency_days",
    "frequency",
    "monetary",
    "currency",
    "r",
    "f",
    "m",
    "score",
    "segment_id",
    "segment",
    "points_balance",
    "last_order_at",
    "as_of",
    "cut_points_version",
)

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
WHERE shop = %(shop)s AND merged_into IS NULL AND (%(segment)s::text IS NULL OR segment = %(segment)s)
ORDER BY customer_id
""").format(told=_TOLD)

# Consent and address are today's, whatever day is asked for: nobody may be written to by a consent since withdrawn.
_PAST = sql.SQL("""
SELECT b.customer_id, {told}, b.recency_days, b.frequency, b.monetary, %(currency)s::text, b.r, b.f, b.m,
       b.score::text, b.segment_id, b.segment, b.balance, b.last_order_at AT TIME ZONE 'UTC',
       %(as_of)s::timestamptz AT TIME ZONE 'UTC', %(version)s::text
FROM batch_segments AS b LEFT JOIN customers AS c ON c.shop = b.shop AND c.customer_id = b.customer_id
WHERE b.run_id = %(run)s AND b.shop = %(shop)s AND (%(segment)s::text IS NULL OR b.segment = %(segment)s)
ORDER BY b.customer_id
""").format(told=_TOLD)


# As _PAST, of those that the lake has told of.
_TOLD_OF = sql.SQL(
    "SELECT customer_id, {told} FROM customers AS c WHERE shop = %(shop)s AND customer_id = ANY(%(customers)s)"
).format(told=_TOLD)


class Export(NamedTuple):
    """One export: what to read, whether addresses are shown or hashed, and whether it is for a spreadsheet.

    `standings` are the lake's, of a past instant; then the query is none.
    """

    caller: Caller
    query: Statement | None
    parameters: Row
    addresses: bool
    excel: bool
    standings: Standings | None = None

    @property
    def header(self) -> list[str]:
        """The columns' names, in the file's order."""
        return ["email" if self.addresses and name == "email_sha256" else name for name in COLUMNS]


class _Chunk(NamedTuple):
    """Some of an export's rows: their values (_VALUES), and their contacts by customer."""

    values: pl.DataFrame
    contacts: Mapping[str, Contact]


def _addresses(export: Export, found: Iterable[Contact | None]) -> Iterator[str | None]:
    for contact in found:
        if contact is None or contact.email is None:
            yield None
        else:
            email = contact.email.strip().lower()
            yield email if export.addresses else sha256(email.encode()).hexdigest()


def _consents(found: Iterable[Contact | None]) -> Iterator[str | None]:
    """Whose consent nobody told has not given it; of somebody without an address only what was told is said."""
    for contact in found:
        if contact is None or (contact.email is None and contact.consent is None):
            yield None
        else:
            yield contact.consent or "not_subscribed"


def _lines(export: Export, chunk: _Chunk) -> bytes:
    """The chunk's rows as they stand in the file."""
    found = [chunk.contacts.get(customer_id) for customer_id in chunk.values["customer_id"]]
    address = pl.Series("address", [*_addresses(export, found)], pl.String)
    consent = pl.Series("consent", [*_consents(found)], pl.String)
    values = chunk.values.with_columns(address, consent)
    plain = {name: pl.col(name) for name in COLUMNS if name in values.columns}
    cells = plain | {
        "customer_id": csv_cells.digits("customer_id") if export.excel else pl.col("customer_id"),
        "email_sha256": csv_cells.text("address"),
        "email_consent": csv_cells.text("consent"),
        "monetary": csv_cells.amount("monetary", "currency", values["currency"].unique()),
        "segment": csv_cells.text("segment"),
        "points_balance": pl.col("balance"),
        "last_order_at": csv_cells.time("last_order_at"),
        "as_of": csv_cells.time("as_of"),
        "cut_points_version": csv_cells.text("cut_points_version"),
    }
    return csv_cells.lines(values.select(**{name: cells[name] for name in COLUMNS}))


def _split(rows: list[tuple[Any, ...]]) -> tuple[pl.DataFrame, list[contacts.Told]]:
    """The values of rows of _LIVE or _PAST, and what they tell."""
    columns = list(zip(*rows, strict=True))
    told = len(contacts.COLUMNS)
    found = dict(zip(_VALUES, (columns[0], *columns[told:]), strict=True))
    values = pl.DataFrame(found, schema=_VALUES).with_columns(pl.col("last_order_at", "as_of") + _EPOCH_2000)
    return values, [*map(contacts.Told._make, zip(*columns[:told], strict=True))]


async def _reader(
    export: Export, connection: AsyncConnection[Any], cursor: AsyncServerCursor[tuple[Any, ...]]
) -> Callable[[], Awaitable[_Chunk | None]]:
    """What reads the next rows; None at the end. What they tell is opened anew each time, on the same connection."""
    caller = export.caller
    sizes = chain([_FIRST_CHUNK], repeat(_CHUNK))

    async def chunk(values: pl.DataFrame, told: list[contacts.Told]) -> _Chunk:
        return _Chunk(values, await contacts.opened(caller.services.vault, connection, caller.shop, told))

    if export.query is not None:
        await cursor.execute(export.query, export.parameters, binary=True)

        async def read() -> _Chunk | None:
            rows = await cursor.fetchmany(next(sizes))
            return await chunk(*await asyncio.to_thread(_split, rows)) if rows else None

        return read
    assert export.standings is not None
    slices = export.standings.slices(_CHUNK, export.parameters["segment"])

    async def read_lake() -> _Chunk | None:
        frame = await asyncio.to_thread(next, slices, None)
        if frame is None:
            return None
        own = connection.cursor(row_factory=tuple_row)
        await own.execute(_TOLD_OF, {"shop": caller.shop, "customers": frame["customer_id"].to_list()})
        return await chunk(_of_lake(frame, export.parameters), [*map(contacts.Told._make, await own.fetchall())])

    return read_lake


def _of_lake(frame: pl.DataFrame, parameters: Row) -> pl.DataFrame:
    """A slice of the lake's standings as _PAST has them."""
    at = instants.from_datetime(parameters["as_of"])
    common = {"currency": parameters["currency"], "as_of": at, "cut_points_version": parameters["version"]}
    return frame.with_columns(**{name: pl.lit(value) for name, value in common.items()}).select(
        pl.col(name).cast(kind) for name, kind in _VALUES.items()
    )


#: Exports that are being closed: a task that nobody holds may be collected before it is done.
_closing: set["asyncio.Task[None]"] = set()


async def _written(export: Export, slot: Slot) -> AsyncGenerator[bytes]:
    url = export.caller.services.settings.database_url()
    ahead: asyncio.Task[_Chunk | None] | None = None
    try:
        connection = await database.connect_async(url, "loyalnest-export")
    except BaseException:
        slot.give_back()
        raise
    connection.adapters.register_loader("timestamp", Int8BinaryLoader)
    cursor = connection.cursor("export", row_factory=tuple_row)
    try:
        await connection.execute(_STALLED)
        read = await _reader(export, connection, cursor)

        async def read_in_time() -> _Chunk | None:
            # Not `within`: it leaves a read behind that holds the connection, and closing the cursor waits for it.
            async with asyncio.timeout(READ_SECONDS):
                return await read()

        header = ",".join(export.header).encode() + b"\r\n"
        yield csv_cells.MARK + header if export.excel else header
        chunk = await read_in_time()
        while chunk is not None:
            # One is read while the one before is written and sent.
            ahead = asyncio.create_task(read_in_time())
            metrics.EXPORTED_ROWS.inc(chunk.values.height)
            yield await asyncio.to_thread(_lines, export, chunk)
            chunk = await ahead
    finally:
        if ahead is None or ahead.done():
            _looked_at(ahead)
            await _close(connection, cursor, slot)
        else:
            # A task of its own: it waits for the read to end, and whoever is cancelled here may be so once more.
            closing = asyncio.create_task(_break_off(ahead, connection, cursor, slot))
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
    slot: Slot,
) -> None:
    """Ends a read that nobody needs any more (not waited for for long, should the server not answer), and closes."""
    try:
        reading.cancel()
        await asyncio.wait({reading}, timeout=_GOODBYE)
        _looked_at(reading)
    finally:
        await _close(connection, cursor, slot)


async def _close(connection: AsyncConnection[Any], cursor: AsyncServerCursor[tuple[Any, ...]], slot: Slot) -> None:
    try:
        # The connection first: a cursor of a closed one asks nothing more of a server that may not answer. So nothing
        # is waited for here, and whoever is cancelled once more meanwhile leaves nothing open.
        await connection.close()
        await cursor.close()
    finally:
        slot.give_back()


async def _first(stream: AsyncGenerator[bytes]) -> bytes:
    return await anext(stream)


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


class _Export(StreamingResponse):
    """Closes what it streams however it ends, also when the client is gone before the first byte, or too slow."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes], headers: dict[str, str]) -> None:
        super().__init__(_after(first, rest), media_type="text/csv; charset=utf-8", headers=headers)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        until = asyncio.get_running_loop().time() + _PATIENCE

        async def hurried(message: Message) -> None:
            nonlocal until
            async with asyncio.timeout_at(until):
                await send(message)
            until += len(message.get("body", b"")) / _LEAST_SPEED

        async with aclosing(self._rest):
            try:
                await super().__call__(scope, receive, hurried)
            except TimeoutError:
                # It stays without its last chunk, so that the client can tell; the server closes the connection.
                log.warning("an export was ended: its client, or the database, is too slow")


async def _prepared(caller: Caller, segment: str | None, as_of: datetime | None, excel: bool) -> Export:
    program = await caller.program()
    parameters: Row = {"shop": caller.shop, "segment": segment}
    if as_of is None:
        return Export(caller, _LIVE, parameters, "pii" in caller.key.scopes, excel)
    found = await side(caller, program, as_of)
    parameters |= {"as_of": found.at, "currency": program.currency}
    if found.standings is not None:
        parameters |= {"version": found.standings.cut_points.version}
        return Export(caller, None, parameters, "pii" in caller.key.scopes, excel, found.standings)
    assert found.run is not None
    parameters |= {"run": found.run.id, "version": found.run.version}
    return Export(caller, _PAST, parameters, "pii" in caller.key.scopes, excel)


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
async def segments_csv(
    caller: ExportAccess,
    segment: SegmentQuery = None,
    as_of: AsOfQuery = None,
    excel: Annotated[
        bool,
        Query(description="for Excel: a byte order mark, and an apostrophe before each id, as in Shopify's exports"),
    ] = False,
) -> StreamingResponse:
    """One row per customer. Streamed: any size takes the same memory.

    `email_sha256` is the SHA-256 of the trimmed, lowercased address; with the scope `pii` the column is `email`.
    It is empty without an address, and like consent after the customer was deleted or redacted. `email_consent` is
    what was told last, `not_subscribed` for an address without any. Consent is always today's.
    A past answer's instant stands in the column `as_of`: the one asked for or, where the lake cannot tell, that of the
    newest batch run before it.
    A text cell that a spreadsheet would run as a formula begins with an apostrophe. A spreadsheet that opens the file
    as it is takes UTF-8 for something else and rounds long ids: ask for `excel=true` then.
    """
    try:
        slot = caller.services.exports.take(caller.shop)
    except Full as full:
        whose = "exports of this shop" if full.of_shop else "exports"
        detail = f"Too many {whose} run now: try again soon."
        raise ProblemError(429, "too-many", detail, {"Retry-After": "30"}) from None
    try:
        stream = _written(await _prepared(caller, segment, as_of, excel), slot)
        # What can go wrong at the start does so while it can still be said.
        first = await within(READ_SECONDS, _first(stream))
    except BaseException:
        slot.give_back()
        raise
    day = time_text(as_of or datetime.now(UTC))[:10]
    name = f"segments-{caller.shop.partition('.')[0]}-{day}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return _Export(first, stream, headers)
