"""A shop's program as the API and the commands see it: what the sink has stored, and what was announced since.

Announcing goes by one way, whoever does it and in whatever process: under a lock of the shop's in the database, made
from the program as it stands, published, and noted beside the stored one, so that everybody sees it at once.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import psycopg

from events import announcements, topics
from events.messages import Message
from events.programs import Program
from runtime.ports import Publisher

_KNOWN: Final = """
SELECT program FROM (
    SELECT program, judged_to AS at, 0 AS step FROM programs WHERE shop = %(shop)s
    UNION ALL
    SELECT a.program, a.announced_at, 1 FROM announcements a LEFT JOIN programs p USING (shop)
    WHERE a.shop = %(shop)s AND a.announced_at > coalesce(p.judged_to, '-infinity')
) AS known
ORDER BY step, at
"""

#: Held by whoever announces until it has committed; nobody else waits for it, so a slow broker holds up no sink.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('loyalnest program ' || %(shop)s, 0))"

_JUDGED: Final = """
DELETE FROM announcements a USING programs p
WHERE a.shop = %(shop)s AND p.shop = a.shop AND a.announced_at <= p.judged_to
"""
_NOTE: Final = "INSERT INTO announcements (shop, announced_at, program) VALUES (%(shop)s, %(at)s, %(program)s)"

#: Makes the new program of the one there is; None for a shop without.
Change = Callable[[Program | None], Program]


def _fold(rows: list[tuple[Any, ...]]) -> Program | None:
    return announcements.fold([Program.model_validate(found) for (found,) in rows])


def known(connection: psycopg.Connection[Any], shop: str) -> Program | None:
    """The shop's program with all that was announced; None for a shop that is not there."""
    return _fold(connection.execute(_KNOWN, {"shop": shop}).fetchall())


async def known_async(connection: psycopg.AsyncConnection[Any], shop: str) -> Program | None:
    """As `known`, for asyncio."""
    cursor = await connection.execute(_KNOWN, {"shop": shop})
    return _fold(await cursor.fetchall())


async def announce(
    connection: psycopg.AsyncConnection[Any], publisher: Publisher, shop: str, change: Change
) -> Program:
    """Publish what `change` makes of the shop's program; the program as it is from then on.

    `change` may refuse by raising. BadEvent if what it made may not follow, PublishError if it could not be made
    durable. Should the process end in between, the record is on its way and nothing is lost.
    """
    async with connection.transaction():
        await connection.execute(_LOCK, {"shop": shop})
        before = await known_async(connection, shop)
        newer = _dated(announcements.completed(before, change(before)), before)
        announcements.succeed(before, newer)
        await publisher.publish([Message(topics.PROGRAMS, shop, newer.model_dump_json().encode())])
        await connection.execute(_JUDGED, {"shop": shop})
        noted = {"shop": shop, "at": newer.announced_at, "program": newer.model_dump_json()}
        await connection.execute(_NOTE, noted)
    return newer


def _dated(program: Program, before: Program | None) -> Program:
    """The program as announced now, and after the one before it: two processes' clocks may differ."""
    at = datetime.now(UTC)
    if before is not None and before.announced_at is not None:
        at = max(at, before.announced_at + timedelta(microseconds=1))
    return program.model_copy(update={"announced_at": at, "id": uuid4()})
