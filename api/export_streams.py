"""An export's file, piece by piece: read by a cursor or from the lake, opened, and written as it is read."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import chain, repeat
from typing import Any, Final, NamedTuple
from uuid import UUID

import polars as pl
from psycopg import AsyncConnection, AsyncServerCursor, sql
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8BinaryLoader

from api import csv_cells
from api.audiences import Audience
from api.export_queries import Asker, Export
from api.export_rows import file_rows, of_lake, split, with_told
from api.limits import READ_SECONDS
from books import contacts
from books import exports as book
from runtime import database, metrics

#: Customers of one read of the cursor, and of one read of the vault; and of the first, which is soon there. What is
#: asked beside a chunk's rows takes as long for a few as for many; but three chunks are on their way at a time, and of
#: 5000 each a process grows by some 10 MiB more, close to the floor of 100.
_CHUNK: Final = 4000
_FIRST_CHUNK: Final = 200

#: What a read may take to end that is broken off (seconds).
_GOODBYE: Final = 1.0

#: Should we ourselves hang, PostgreSQL lets go of the transaction. And dates as api/sql_cells.py takes them to be.
_SET: Final = "SET idle_in_transaction_session_timeout = '2min'; SET DateStyle = ISO"

_IN_ORDER = sql.SQL("{} ORDER BY customer_id")

# What those tell of whose standings the lake has, in their order; not everybody's row is stored.
_TOLD_OF: Final = """
SELECT asked.customer_id, {} FROM unnest(%(customers)s::text[]) WITH ORDINALITY AS asked (customer_id, place)
LEFT JOIN customers AS c ON c.shop = %(shop)s AND c.customer_id = asked.customer_id ORDER BY place
"""

# Everybody who may have an address.
_EVERYBODY: Final = """
SELECT c.customer_id, {}, coalesce((extract(epoch FROM c.consent_at) * 1000000)::bigint, 0),
       coalesce(c.consent_by_order, false)
FROM customers AS c
WHERE shop = %(shop)s AND merged_into IS NULL AND NOT deleted AND NOT redacted
"""


class Tally:
    """How far an export is: customers gone through, rows written, and bytes."""

    def __init__(self) -> None:
        self.done = 0
        self.rows = 0
        self.size = 0


class _Rows(NamedTuple):
    """Some of an export's rows: their values, and the columns of what they tell, sealed, if the file tells anything."""

    values: pl.DataFrame
    told: Sequence[Sequence[Any]]


async def _reader(
    export: Export, connection: AsyncConnection[Any], cursor: AsyncServerCursor[tuple[Any, ...]]
) -> Callable[[], Awaitable[_Rows | None]]:
    """What reads the next rows; None at the end."""
    sizes = chain([_FIRST_CHUNK], repeat(_CHUNK))
    if export.query is not None:
        await cursor.execute(_IN_ORDER.format(export.query), export.parameters, binary=True)

        async def read() -> _Rows | None:
            rows = await cursor.fetchmany(next(sizes))
            return _Rows(*await asyncio.to_thread(split, export, rows)) if rows else None

        return read
    assert export.standings is not None
    slices = export.standings.slices(_CHUNK, export.chosen)

    async def read_lake() -> _Rows | None:
        frame = await asyncio.to_thread(next, slices, None)
        if frame is None:
            return None
        values = of_lake(frame, export.parameters)
        if not export.tells:
            return _Rows(values, ())
        own = connection.cursor(row_factory=tuple_row)
        asked = {"shop": export.asker.shop, "customers": values["customer_id"].to_list()}
        await own.execute(_TOLD_OF.format(contacts.SEALED).encode(), asked)
        _, *told = zip(*await own.fetchall(), strict=True)
        return _Rows(values, told)

    return read_lake


async def _opened(
    export: Export, connection: AsyncConnection[Any], audience: Audience | None, rows: _Rows
) -> pl.DataFrame:
    """The rows with what they tell, opened anew each time. For an audience only who is reached by it."""
    values, told = rows
    if not export.tells:
        return values
    shop, vault = export.asker.shop, export.asker.services.vault
    sealed = contacts.Rows(values["customer_id"].to_list(), *told)
    if audience is None:
        return with_told(values, *await contacts.opened(vault, connection, shop, sealed))
    persons = await contacts.told(vault, connection, shop, sealed)
    return with_told(values, *await asyncio.to_thread(audience.reached, *persons.joined))


async def _hear(
    asker: Asker, connection: AsyncConnection[Any], beside: AsyncConnection[Any], audience: Audience
) -> None:
    """Tells the audience what everybody of the shop has told."""
    async with connection.cursor("everybody", row_factory=tuple_row) as cursor:
        await cursor.execute(_EVERYBODY.format(contacts.SEALED).encode(), {"shop": asker.shop}, binary=True)
        while True:
            async with asyncio.timeout(READ_SECONDS):
                rows = await cursor.fetchmany(_CHUNK)
                if not rows:
                    break
                *sealed, at, by_order = zip(*rows, strict=True)
                told = await contacts.told(asker.services.vault, beside, asker.shop, contacts.Rows(*sealed))
            await asyncio.to_thread(audience.hear, told, at, by_order)
    await asyncio.to_thread(audience.conclude)


#: The opening of the next chunk, and the reading of the rows of the one after it.
_Ahead = tuple["asyncio.Task[pl.DataFrame | None]", "asyncio.Task[_Rows | None]"]

#: Exports that are being closed: a task that nobody holds may be collected before it is done.
_closing: set["asyncio.Task[None]"] = set()


#: What the rows are read by, in one transaction, and what looks up what they tell while the next are read.
_Connections = tuple[AsyncConnection[Any], AsyncConnection[Any]]


async def _connected(url: str) -> _Connections:
    connection = await database.connect_async(url, "loyalnest-export")
    try:
        beside = await database.connect_async(url, "loyalnest-export", autocommit=True)
    except BaseException:
        await connection.close()
        raise
    connection.adapters.register_loader("timestamp", Int8BinaryLoader)
    return connection, beside


async def written(
    export: Export, tally: Tally, over: Callable[[], None], ident: UUID | None = None
) -> AsyncGenerator[bytes]:
    """The file, piece by piece. Whoever takes it closes it; `over` is called once it holds nothing any more.

    `ident`: by which name the book has it; its lock is held as long as this goes on.
    """
    ahead: _Ahead | None = None
    try:
        connections = await _connected(export.asker.services.settings.database_url())
    except BaseException:
        over()
        raise
    connection, beside = connections
    cursor = connection.cursor("export", row_factory=tuple_row)
    try:
        await connection.execute(_SET)
        if ident is not None:
            await connection.execute(book.LOCK, (ident,))
        preset = export.question.system
        audience = None if preset is None else Audience(preset, past=export.question.as_of is not None)
        read = await _reader(export, connection, cursor)

        # Not `within`: it leaves a read behind that holds the connection, and closing the cursor waits for it.
        async def rows() -> _Rows | None:
            async with asyncio.timeout(READ_SECONDS):
                return await read()

        async def rows_after(before: "asyncio.Task[_Rows | None]") -> _Rows | None:
            return None if await before is None else await rows()

        async def opened(of: "asyncio.Task[_Rows | None]") -> pl.DataFrame | None:
            found = await of
            async with asyncio.timeout(READ_SECONDS):
                return None if found is None else await _opened(export, beside, audience, found)

        def begun(reading: "asyncio.Task[_Rows | None]") -> "_Ahead":
            return asyncio.create_task(opened(reading)), asyncio.create_task(rows_after(reading))

        header = ",".join(export.layout).encode() + b"\r\n"
        header = csv_cells.MARK + header if export.question.for_excel else header
        tally.size += len(header)
        yield header
        if audience is not None:
            await _hear(export.asker, connection, beside, audience)
        # While a chunk is written and sent, the next is opened, and the rows of the one after it are read.
        ahead = begun(asyncio.create_task(rows()))
        while (chunk := await ahead[0]) is not None:
            ahead = begun(ahead[1])
            lines, count = await asyncio.to_thread(file_rows, export, chunk)
            metrics.EXPORTED_ROWS.inc(count)
            tally.done += chunk.height
            tally.rows += count
            tally.size += len(lines)
            if count:
                yield lines
        await ahead[1]
    finally:
        if ahead is None or all(each.done() for each in ahead):
            _looked_at(ahead)
            await _close(connections, cursor, over)
        else:
            # A task of its own: it waits for the read to end, and whoever is cancelled here may be so once more.
            closing = asyncio.create_task(_break_off(ahead, connections, cursor, over))
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)


def _looked_at(ahead: "_Ahead | None") -> None:
    """What became of them no longer matters, and so is nothing to be logged."""
    for each in ahead or ():
        if each.done() and not each.cancelled():
            each.exception()


async def _break_off(
    ahead: "_Ahead",
    connections: _Connections,
    cursor: AsyncServerCursor[tuple[Any, ...]],
    over: Callable[[], None],
) -> None:
    """Ends what nobody needs any more (not waited for for long, should the server not answer), and closes."""
    try:
        for each in ahead:
            each.cancel()
        await asyncio.wait(ahead, timeout=_GOODBYE)
        _looked_at(ahead)
    finally:
        await _close(connections, cursor, over)


async def _close(
    connections: _Connections, cursor: AsyncServerCursor[tuple[Any, ...]], over: Callable[[], None]
) -> None:
    try:
        # Connections first: a cursor of a closed one asks nothing more of a server that may not answer. So nothing is
        # waited for here, and whoever is cancelled once more meanwhile leaves nothing open.
        for each in connections:
            await each.close()
        await cursor.close()
    finally:
        over()
