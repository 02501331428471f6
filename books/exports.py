"""The book of exports: who asked for what and what came of it; and which are to be made aside, by whoever has time.

A row is claimed by who locks it first (FOR UPDATE SKIP LOCKED). Whoever makes an export holds its advisory lock for as
long as their session lasts: one that says `running` and whose lock is free is nobody's any more.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row
from psycopg.types.json import Jsonb

from events import codec

Way = Literal["stream", "job", "shell"]
Status = Literal["waiting", "running", "done", "failed", "broken off"]

#: How long a file is kept.
KEPT: Final = timedelta(days=7)

#: How often one is begun that ends without a word each time.
ATTEMPTS: Final = 5


class Export(NamedTuple):
    """One export. `kept_until`: till then its file waits in the data folder of an API; None where there is none."""

    id: UUID
    shop: str
    asked_by: str
    way: Way
    asked_at: datetime
    question: dict[str, Any]
    scopes: list[str]
    status: Status
    detail: str | None
    attempt: int
    customers: int | None
    done: int
    rows: int
    bytes: int
    started_at: datetime | None
    finished_at: datetime | None
    kept_until: datetime | None


_COLUMNS: Final = ", ".join(Export._fields)

_ADD: Final = f"""
INSERT INTO exports (id, shop, asked_by, way, asked_at, question, scopes, status, started_at)
VALUES (%(id)s, %(shop)s, %(asked_by)s, %(way)s, clock_timestamp(), %(question)s, %(scopes)s, %(status)s,
        CASE WHEN %(status)s = 'running' THEN clock_timestamp() END)
RETURNING {_COLUMNS}
"""  # noqa: S608 (a list of our own names)

_LIST: Final = f"SELECT {_COLUMNS} FROM exports WHERE shop = %s ORDER BY asked_at DESC, id LIMIT %s"  # noqa: S608
_FIND: Final = f"SELECT {_COLUMNS} FROM exports WHERE id = %s AND shop = %s AND way = 'job'"  # noqa: S608

#: Held by whoever makes an export, as long as their session lasts at most.
LOCK: Final = "SELECT pg_advisory_lock(hashtextextended('loyalnest export ' || %s::text, 0))"
_TRY: Final = "SELECT pg_try_advisory_lock(hashtextextended('loyalnest export ' || %s::text, 0))"
_UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('loyalnest export ' || %s::text, 0))"

_NEXT: Final = """
SELECT id FROM exports WHERE status = 'waiting' ORDER BY asked_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_BEGIN: Final = f"""
UPDATE exports SET status = 'running', attempt = attempt + 1, started_at = clock_timestamp(), customers = NULL,
    done = 0, rows = 0, bytes = 0, detail = NULL
WHERE id = %s RETURNING {_COLUMNS}
"""  # noqa: S608

#: Of whom it still is: of whoever began it then, unless somebody was redacted meanwhile.
_OURS: Final = "WHERE id = %(id)s AND status = 'running' AND started_at = %(started_at)s"

_MOVE: Final = f"""
UPDATE exports SET customers = %(customers)s, done = %(done)s, rows = %(rows)s, bytes = %(bytes)s {_OURS}
"""  # noqa: S608

_END: Final = f"""
UPDATE exports SET status = %(status)s, detail = %(detail)s, finished_at = statement_timestamp(),
    customers = coalesce(%(customers)s, customers), done = %(done)s, rows = %(rows)s, bytes = %(bytes)s,
    kept_until = CASE WHEN way = 'job' AND %(status)s = 'done' THEN statement_timestamp() + %(kept)s END
{_OURS}
"""  # noqa: S608

_AGAIN: Final = f"""
UPDATE exports SET status = CASE WHEN attempt >= {ATTEMPTS} THEN 'failed' ELSE 'waiting' END,
    detail = %(detail)s, finished_at = CASE WHEN attempt >= {ATTEMPTS} THEN clock_timestamp() END
{_OURS}
"""  # noqa: S608

#: A stream's row is there a moment before its lock is.
_RUNNING: Final = """
SELECT id, way, started_at FROM exports
WHERE status = 'running' AND (way = 'job' OR started_at < clock_timestamp() - interval '1 minute')
"""
_BROKEN_OFF: Final = f"UPDATE exports SET status = 'broken off', finished_at = clock_timestamp() {_OURS}"  # noqa: S608

#: Why there is no file any more.
OVER: Final = "its week is over: ask again"
REDACTED: Final = "somebody was redacted meanwhile: ask again"

_OLD: Final = f"""
UPDATE exports SET kept_until = NULL, detail = '{OVER}' WHERE kept_until < clock_timestamp()
"""  # noqa: S608

#: Somebody of a shop is to be forgotten, who may stand in any file of it: none of those asked for until then may be had
#: any more, and what is being made is made anew. Parameters: shop, when that was asked (a replay asks again).
FORGET: Final = f"""
UPDATE exports SET kept_until = NULL, attempt = 0,
    status = CASE status WHEN 'running' THEN 'waiting' ELSE status END,
    detail = CASE status WHEN 'running' THEN detail ELSE '{REDACTED}' END
WHERE shop = %s AND asked_at <= %s AND way = 'job' AND (kept_until IS NOT NULL OR status = 'running')
"""  # noqa: S608


async def begin(
    connection: AsyncConnection[Any],
    shop: str,
    asked_by: str,
    way: Way,
    question: dict[str, Any],
    scopes: Collection[str],
) -> Export:
    """Notes a new export: it runs, or as a job it waits for whoever makes it."""
    asked = {"id": uuid4(), "shop": shop, "asked_by": asked_by, "way": way, "question": Jsonb(question)}
    asked |= {"scopes": sorted(scopes), "status": "waiting" if way == "job" else "running"}
    cursor = connection.cursor(row_factory=class_row(Export))
    found = await (await cursor.execute(_ADD, asked)).fetchone()
    assert found is not None
    return found


async def claim(connection: AsyncConnection[Any]) -> Export | None:
    """The job that waits longest, now this session's; None if none waits."""
    cursor = connection.cursor(row_factory=tuple_row)
    async with connection.transaction():
        row = await (await cursor.execute(_NEXT)).fetchone()
        if row is None:
            return None
        # Before anybody can see that it runs. (Who tries it lets it go at once.)
        await cursor.execute(LOCK, (row[0],))
        return await (await connection.cursor(row_factory=class_row(Export)).execute(_BEGIN, (row[0],))).fetchone()


async def move(
    connection: AsyncConnection[Any], export: Export, customers: int | None, done: int, rows: int, size: int
) -> bool:
    """Notes how far it is; False if it is not ours any more."""
    told = {"customers": customers, "done": done, "rows": rows, "bytes": size}
    cursor = await connection.execute(_MOVE, {"id": export.id, "started_at": export.started_at, **told})
    return cursor.rowcount == 1


async def end(
    connection: AsyncConnection[Any],
    export: Export,
    status: Status,
    *,
    customers: int | None = None,
    done: int = 0,
    rows: int = 0,
    size: int = 0,
    detail: str | None = None,
) -> bool:
    """It is over, and a job's file is kept from now on; False if it is not ours any more."""
    told = {"customers": customers, "done": done, "rows": rows, "bytes": size, "kept": KEPT}
    asked = {"id": export.id, "started_at": export.started_at, "status": status, "detail": detail, **told}
    cursor = await connection.execute(_END, asked)
    return cursor.rowcount == 1


async def again(connection: AsyncConnection[Any], export: Export, detail: str) -> None:
    """Something kept a job from being made: it waits again, unless that was so too often."""
    await connection.execute(_AGAIN, {"id": export.id, "started_at": export.started_at, "detail": detail})


async def tell(connection: AsyncConnection[Any], export: Export, channel: str) -> None:
    """Lets whoever watches the export know that it has moved."""
    told = codec.dumps({"shop": str(export.id)}).decode()
    await connection.execute("SELECT pg_notify(%s, %s)", (channel, told))


async def find(connection: AsyncConnection[Any], ident: UUID, shop: str) -> Export | None:
    """A job, if it is of this shop."""
    cursor = connection.cursor(row_factory=class_row(Export))
    return await (await cursor.execute(_FIND, (ident, shop))).fetchone()


async def listing(connection: AsyncConnection[Any], shop: str, most: int = 100) -> list[Export]:
    """The shop's exports, the newest first."""
    cursor = connection.cursor(row_factory=class_row(Export))
    return await (await cursor.execute(_LIST, (shop, most))).fetchall()


async def waiting(connection: AsyncConnection[Any], shop: str) -> int:
    """How many jobs of a shop wait or run."""
    asked = "SELECT count(*) FROM exports WHERE status IN ('waiting', 'running') AND way = 'job' AND shop = %s"
    row = await (await connection.cursor(row_factory=tuple_row).execute(asked, (shop,))).fetchone()
    return 0 if row is None else int(row[0])


async def any_waits(connection: AsyncConnection[Any]) -> bool:
    """Whether there is anything to claim."""
    cursor = connection.cursor(row_factory=tuple_row)
    return await (await cursor.execute("SELECT 1 FROM exports WHERE status = 'waiting' LIMIT 1")).fetchone() is not None


async def sweep(connection: AsyncConnection[Any]) -> None:
    """What nobody makes any more waits again, or as a stream was broken off; files of long ago are kept no more."""
    cursor = connection.cursor(row_factory=tuple_row)
    for ident, way, started_at in await (await cursor.execute(_RUNNING)).fetchall():
        row = await (await cursor.execute(_TRY, (ident,))).fetchone()
        if row is not None and row[0]:
            asked = {"id": ident, "started_at": started_at, "detail": "whoever made it ended without a word"}
            await cursor.execute(_AGAIN if way == "job" else _BROKEN_OFF, asked)
            await cursor.execute(_UNLOCK, (ident,))
    await cursor.execute(_OLD)


async def kept_of(connection: AsyncConnection[Any], ident: UUID) -> datetime | None:
    """When the making of that file began that may stay: it is kept, or being made; None if none may. That is so until
    the transaction ends."""
    asked = """
        SELECT started_at FROM exports
        WHERE id = %s AND (status = 'running' OR kept_until > clock_timestamp()) FOR UPDATE
    """
    row = await (await connection.cursor(row_factory=tuple_row).execute(asked, (ident,))).fetchone()
    return None if row is None else row[0]
