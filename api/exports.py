"""Segments as CSV, at any size: read by a server-side cursor, written as it is read."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple

import polars as pl
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from psycopg import AsyncConnection, AsyncServerCursor, sql
from psycopg.rows import dict_row
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
from events import instants, money
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

#: Customers of one read of the cursor, and of one read of the vault.
_CHUNK: Final = 1000

#: Who reads more slowly loses their export, for it holds a connection, an open transaction and one of few places:
#: a client has so many seconds, and one more for each so many bytes that it has taken.
_PATIENCE: Final = 30.0
_LEAST_SPEED: Final = 50_000

#: Should we ourselves hang, PostgreSQL lets go of the transaction.
_STALLED: Final = "SET idle_in_transaction_session_timeout = '2min'"

_TOLD = sql.SQL(", ").join(sql.Identifier("c", name) for name in contacts.COLUMNS if name != "customer_id")

_LIVE = sql.SQL("""
SELECT customer_id, {told}, recency_days, frequency, monetary, currency, r, f, m, score, segment_id,
       segment, balance, last_order_at, now AS as_of, cut_points_version
FROM customers AS c
WHERE shop = %(shop)s AND merged_into IS NULL AND (%(segment)s::text IS NULL OR segment = %(segment)s)
ORDER BY customer_id
""").format(told=_TOLD)

# Consent and address are today's, whatever day is asked for: nobody may be written to by a consent since withdrawn.
_PAST = sql.SQL("""
SELECT b.customer_id, {told}, b.recency_days, b.frequency, b.monetary, %(currency)s AS currency, b.r, b.f, b.m, b.score,
       b.segment_id, b.segment, b.balance, b.last_order_at, %(as_of)s AS as_of, %(version)s AS cut_points_version
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


def _address(contact: Contact | None, shown: bool) -> str | None:
    if contact is None or contact.email is None:
        return None
    email = contact.email.strip().lower()
    return csv_cells.safe(email) if shown else sha256(email.encode()).hexdigest()


def _consent(contact: Contact | None) -> str | None:
    """Whose consent nobody told has not given it; of somebody without an address only what was told is said."""
    if contact is None or (contact.email is None and contact.consent is None):
        return None
    return csv_cells.safe(contact.consent or "not_subscribed")


def _cells(row: Row, contact: Contact | None, export: Export) -> Sequence[object]:
    ident = row["customer_id"]
    return (
        csv_cells.text(ident) if export.excel else ident,
        _address(contact, export.addresses),
        _consent(contact),
        row["recency_days"],
        row["frequency"],
        money.decimal_text(row["monetary"], row["currency"]),
        row["currency"],
        row["r"],
        row["f"],
        row["m"],
        row["score"],
        row["segment_id"],
        csv_cells.safe(row["segment"]),
        row["balance"],
        None if row["last_order_at"] is None else time_text(row["last_order_at"]),
        time_text(row["as_of"]),
        csv_cells.safe(row["cut_points_version"]),
    )


async def _contacts(export: Export, connection: AsyncConnection[Any], rows: list[Row]) -> Mapping[str, Contact]:
    """Opened anew for each chunk, on the export's own connection."""
    return await contacts.opened(export.caller.services.vault, connection, export.caller.shop, rows)


async def _reader(
    export: Export, connection: AsyncConnection[Any], cursor: AsyncServerCursor[Row]
) -> Callable[[], Awaitable[list[Row]]]:
    """What reads the next rows; none at the end."""
    if export.query is not None:
        await cursor.execute(export.query, export.parameters)
        return partial(cursor.fetchmany, _CHUNK)
    assert export.standings is not None
    slices = export.standings.slices(_CHUNK, export.parameters["segment"])

    async def read() -> list[Row]:
        frame = await asyncio.to_thread(next, slices, None)
        return [] if frame is None else await _told(export, connection, frame)

    return read


async def _told(export: Export, connection: AsyncConnection[Any], frame: pl.DataFrame) -> list[Row]:
    """Rows as _PAST has them: the lake's, and what the customers' own tell of contact and consent."""
    asked = {"shop": export.caller.shop, "customers": frame["customer_id"].to_list()}
    own = connection.cursor(row_factory=dict_row)
    found = {row["customer_id"]: row async for row in await own.execute(_TOLD_OF, asked)}
    common = {name: export.parameters[name] for name in ("currency", "as_of")}
    common |= {"cut_points_version": export.parameters["version"]} | dict.fromkeys(contacts.COLUMNS)
    rows = []
    for row in frame.iter_rows(named=True):
        last = row["last_order_at"]
        dated = {"last_order_at": None if last is None else instants.to_datetime(last)}
        rows.append(common | found.get(row["customer_id"], {}) | row | dated)
    return rows


async def _written(export: Export, slot: Slot) -> AsyncGenerator[bytes]:
    url = export.caller.services.settings.database_url()
    try:
        connection = await database.connect_async(url, "loyalnest-export")
        cursor = connection.cursor("export", row_factory=dict_row)
        try:
            await connection.execute(_STALLED)
            read = await _reader(export, connection, cursor)
            header = csv_cells.lines([export.header])
            yield csv_cells.MARK + header if export.excel else header
            while True:
                # Not `within`: it leaves a read behind that holds the connection, and closing the cursor waits for it.
                async with asyncio.timeout(READ_SECONDS):
                    rows = await read()
                    found = await _contacts(export, connection, rows)
                if not rows:
                    break
                metrics.EXPORTED_ROWS.inc(len(rows))
                yield csv_cells.lines(_cells(row, found.get(row["customer_id"]), export) for row in rows)
        finally:
            # The connection first: a cursor of a closed one asks nothing more of a server that may not answer. So
            # nothing is waited for here, and whoever is cancelled once more meanwhile leaves nothing open.
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
