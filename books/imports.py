"""The book of imports: which files were brought in, how far, and what was rejected. No line of a file is kept."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row, tuple_row
from psycopg.types.json import Jsonb

Status = Literal["waiting", "running", "done", "failed"]

#: How many rejected lines are kept with an import; all of them stand in a file beside the input.
PROBLEMS_KEPT: Final = 100


class Import(NamedTuple):
    """One import of one file. `position` counts orders, customers and rejected lines that are durable.

    `spooled_at`: since when the file waits in the data folder of an API; None where it does not.
    """

    id: UUID
    shop: str
    file: str
    sha256: str
    bytes: int
    format: str | None
    status: Status
    detail: str | None
    lines: int
    line: int
    from_line: int
    position: int
    orders: int
    customers: int
    rejected: int
    problems: list[list[Any]]
    notes: dict[str, int]
    first_at: datetime
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    spooled_at: datetime | None

    @property
    def rate(self) -> float:
        """Lines a second since it was started, or started again."""
        seconds = (self.updated_at - self.started_at).total_seconds()
        return (self.line - self.from_line) / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None while that cannot be said, and once it is over."""
        if self.status != "running" or self.rate <= 0:
            return None
        return max(self.lines - self.line, 0) / self.rate


class Progress(NamedTuple):
    """How far an import is."""

    line: int
    position: int
    orders: int
    customers: int
    rejected: int
    problems: Sequence[tuple[int, str]]
    notes: dict[str, int]


_COLUMNS: Final = ", ".join(Import._fields)

_ADD: Final = f"""
INSERT INTO imports (id, shop, file, sha256, bytes, status, first_at, started_at, updated_at, spooled_at)
VALUES (%(id)s, %(shop)s, %(file)s, %(sha256)s, %(bytes)s, 'waiting',
        coalesce((SELECT min(first_at) FROM imports WHERE shop = %(shop)s AND sha256 = %(sha256)s), %(now)s),
        %(now)s, %(now)s, CASE WHEN %(spooled)s THEN clock_timestamp() END)
RETURNING {_COLUMNS}
"""  # noqa: S608 (a list of our own names)

_OF_CONTENT: Final = f"""
SELECT {_COLUMNS} FROM imports WHERE shop = %s AND sha256 = %s ORDER BY started_at DESC, id LIMIT 1
"""  # noqa: S608

_LIST: Final = f"SELECT {_COLUMNS} FROM imports WHERE shop = %s ORDER BY started_at DESC, id LIMIT %s"  # noqa: S608
_FIND: Final = f"SELECT {_COLUMNS} FROM imports WHERE id = %s AND shop = coalesce(%s, shop)"  # noqa: S608
_SPOOLED: Final = f"SELECT {_COLUMNS} FROM imports WHERE shop = %s AND spooled_at IS NOT NULL"  # noqa: S608

#: What is sent anew after it was let go waits anew.
_RESPOOL: Final = f"""
UPDATE imports SET spooled_at = clock_timestamp(), status = CASE status WHEN 'failed' THEN 'waiting' ELSE status END
WHERE id = %s AND spooled_at IS NULL AND status <> 'done' RETURNING {_COLUMNS}
"""  # noqa: S608

_BEGIN: Final = """
UPDATE imports SET status = 'running', detail = NULL, format = %s, lines = %s, from_line = line, started_at = %s,
    updated_at = %s, finished_at = NULL
WHERE id = %s
"""

_MOVE: Final = """
UPDATE imports SET line = %s, position = %s, orders = %s, customers = %s, rejected = %s, problems = %s, notes = %s,
    updated_at = clock_timestamp()
WHERE id = %s
"""

_END: Final = """
UPDATE imports SET status = %(status)s, detail = %(detail)s, batch_due = %(batch_due)s,
    updated_at = clock_timestamp(), finished_at = clock_timestamp(),
    spooled_at = CASE WHEN %(status)s <> 'done' THEN spooled_at END
WHERE id = %(id)s
"""

#: Why an import has failed whose file a redaction took.
REDACTED: Final = "somebody was redacted meanwhile: send the file again"

#: Somebody of a shop is to be forgotten, whose address may stand in any file of it that waits: none may be used any
#: more, and whoever has one removes it (imports/spool.py). Parameters: shop, when that was asked (a replay asks again).
FORGET: Final = f"""
UPDATE imports SET status = 'failed', detail = '{REDACTED}', spooled_at = NULL, updated_at = clock_timestamp(),
    finished_at = clock_timestamp()
WHERE shop = %s AND spooled_at <= %s
"""  # noqa: S608

#: Held by whoever brings a content in for a shop, as long as their session lasts at most.
_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('loyalnest import ' || %s || ' ' || %s, 0))"
_UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('loyalnest import ' || %s || ' ' || %s, 0))"


async def begin_or_find(
    connection: AsyncConnection[Any],
    shop: str,
    file: str,
    sha256: str,
    size: int,
    now: datetime,
    *,
    again: bool,
    spooled: bool = False,
) -> Import:
    """The import of this content: the one there is, or a new one where there is none or it is wanted `again`.

    `spooled`: the file is about to wait in a data folder, unless the import is done.
    """
    cursor = connection.cursor(row_factory=class_row(Import))
    found = await (await cursor.execute(_OF_CONTENT, (shop, sha256))).fetchone()
    if found is not None and not (again and found.status == "done"):
        if spooled and found.spooled_at is None and found.status != "done":
            return await (await cursor.execute(_RESPOOL, (found.id,))).fetchone() or found
        return found
    asked = {"id": uuid4(), "shop": shop, "file": file[-200:], "sha256": sha256, "bytes": size, "now": now}
    asked["spooled"] = spooled
    made = await (await cursor.execute(_ADD, asked)).fetchone()
    assert made is not None
    return made


@asynccontextmanager
async def held(connection: AsyncConnection[Any], shop: str, sha256: str) -> AsyncIterator[bool]:
    """Whether nobody else is bringing this content in: then it is ours until the block ends, or the connection.

    A connection that was closed, or cut off, keeps it until the server has noticed.
    """
    row = await (await connection.execute(_LOCK, (shop, sha256))).fetchone()
    ours = row is not None and bool(row[0])
    try:
        yield ours
    finally:
        if ours:
            with suppress(psycopg.OperationalError):  # cut off: then the server lets it go
                await connection.execute(_UNLOCK, (shop, sha256))


async def begin(connection: AsyncConnection[Any], ident: UUID, form: str, lines: int, now: datetime) -> None:
    """Somebody begins with it, or goes on: its format, and how many lines its file has."""
    await connection.execute(_BEGIN, (form, lines, now, now, ident))


async def move(connection: AsyncConnection[Any], ident: UUID, to: Progress) -> None:
    """Notes how far it is."""
    problems = Jsonb([list(each) for each in to.problems[:PROBLEMS_KEPT]])
    values = (to.line, to.position, to.orders, to.customers, to.rejected, problems, Jsonb(to.notes), ident)
    await connection.execute(_MOVE, values)


async def end(
    connection: AsyncConnection[Any], ident: UUID, status: Status, detail: str | None = None, *, batch_due: bool = False
) -> None:
    """It is over; `batch_due`: the schedule is to run the shop's batch."""
    await connection.execute(_END, {"status": status, "detail": detail, "batch_due": batch_due, "id": ident})


async def find(connection: AsyncConnection[Any], ident: UUID, shop: str | None = None) -> Import | None:
    """An import, if it is of this shop (None: of any)."""
    cursor = connection.cursor(row_factory=class_row(Import))
    return await (await cursor.execute(_FIND, (ident, shop))).fetchone()


async def spooled(connection: AsyncConnection[Any], shop: str) -> list[Import]:
    """The shop's imports whose files wait."""
    cursor = connection.cursor(row_factory=class_row(Import))
    return await (await cursor.execute(_SPOOLED, (shop,))).fetchall()


async def spooled_since(connection: AsyncConnection[Any], ident: UUID, *, locked: bool = False) -> datetime | None:
    """Since when an import's file waits; None if it does not. `locked`: that stays so until the transaction ends."""
    asked = "SELECT spooled_at FROM imports WHERE id = %s"
    cursor = connection.cursor(row_factory=tuple_row)
    row = await (await cursor.execute(f"{asked} FOR UPDATE" if locked else asked, (ident,))).fetchone()
    return row[0] if row is not None else None


async def let_go(connection: AsyncConnection[Any], ident: UUID) -> None:
    """The file of an import is wanted no more."""
    await connection.execute("UPDATE imports SET spooled_at = NULL WHERE id = %s", (ident,))


async def listing(connection: AsyncConnection[Any], shop: str, most: int = 100) -> list[Import]:
    """The shop's imports, the newest first."""
    cursor = connection.cursor(row_factory=class_row(Import))
    return await (await cursor.execute(_LIST, (shop, most))).fetchall()


def batch_done(connection: Connection[Any], shop: str, until: datetime | None = None) -> None:
    """The shop's batch has run since its imports ended, or since those did that ended up to `until`."""
    connection.execute(
        "UPDATE imports SET batch_due = false"
        " WHERE batch_due AND shop = %s AND finished_at <= coalesce(%s, finished_at)",
        (shop, until),
    )


def batches_due(connection: Connection[Any]) -> dict[str, datetime]:
    """Shops whose batch is to run once because an import has ended, each with when the last did: until `batch_done`."""
    rows = connection.execute("SELECT shop, max(finished_at) FROM imports WHERE batch_due GROUP BY shop ORDER BY shop")
    return dict(rows.fetchall())
