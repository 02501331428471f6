"""What integrators are told: their endpoints, and the queue of messages to them.

A message is written in the transaction that stores what it tells of: none is lost, and none tells of what is not there.
Its id is that row's, and one endpoint is told one id once. Who sends claims an endpoint for a while (SKIP LOCKED); what
comes of each message is committed before the next is sent. docs/decisions/0030-notices.md says why it is so.
"""

import base64
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import class_row

from events import codec, instants
from events.awards import BALANCES
from runtime.addresses import is_public

#: What can be told of.
EVENTS: Final = ("segment.changed", "points.posted", "points.expiring", "points.expired", "batch.done")
TEST: Final = "test"

#: What happened longer ago than this is the past, and no news. Messages are kept longer, so that it is known what was
#: told.
NEWS: Final = timedelta(days=30)
KEPT: Final = timedelta(days=35)

#: Attempts go on for so long.
TRIED: Final = timedelta(days=3)

#: Endpoints of one shop.
MOST: Final = 10

LONGEST_URL: Final = 2000

#: Above every message's number: a list from there on begins with the newest.
NEWEST: Final = 2**63 - 1

#: Changes of one instant are stored a microsecond apart (streams/sink/standings.py: NEAR), and a rebuild may
#: see more of them than were told.
_NEAR: Final = timedelta(milliseconds=1)

_INSERT: Final = "INSERT INTO notices (endpoint, shop, customer_id, message, event, body)"
_ONCE: Final = "ON CONFLICT (endpoint, message) DO NOTHING"


def _time(column: str) -> str:
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def _news(column: str) -> str:
    return f"{column} >= greatest(e.created_at, now() - interval '{NEWS.days} days')"


#: By table: what tells of the rows that a statement has added to it, `stored`. (The history comes before the deltas.)
_TOLD: Final = {
    "points_transactions": f"""
        {_INSERT}
        SELECT e.id, s.shop, s.customer_id, s.id, 'points.posted', json_build_object(
            'type', 'points.posted', 'timestamp', {_time("s.posted_at")}, 'data', json_build_object(
                'shop', s.shop, 'customer_id', s.customer_id, 'entry', s.id, 'kind', s.kind, 'points', s.points,
                'source', s.source, 'source_id', s.source_id))
        FROM stored s JOIN notice_endpoints e ON e.shop = s.shop AND 'points.posted' = ANY(e.events)
        WHERE {_news("s.posted_at")} AND NOT (s.source IN ('award', 'deduction') AND s.source_id ~ '{BALANCES}')
        ORDER BY s.posted_at, s.id {_ONCE}
    """,  # noqa: S608
    # The statement's snapshot still has the days as they were. What is stored again as it is is no news.
    "points_expired": f"""
        {_INSERT}
        SELECT e.id, s.shop, s.customer_id, gen_random_uuid(), 'points.expired', json_build_object(
            'type', 'points.expired', 'timestamp', {_time("s.at")}, 'data', json_build_object(
                'shop', s.shop, 'customer_id', s.customer_id, 'day', s.day, 'points', s.points,
                'previous', coalesce(b.points, 0)))
        FROM stored s JOIN notice_endpoints e ON e.shop = s.shop AND 'points.expired' = ANY(e.events)
        LEFT JOIN LATERAL (
            SELECT points FROM points_expired b WHERE (b.shop, b.customer_id, b.day) = (s.shop, s.customer_id, s.day)
            OFFSET 0
        ) AS b ON true
        WHERE {_news("s.at")} AND s.points <> coalesce(b.points, 0) AND NOT EXISTS (
            SELECT FROM notice_marks m WHERE (m.shop, m.customer_id) = (s.shop, s.customer_id) AND s.at <= m.at)
        ORDER BY s.at, s.customer_id {_ONCE}
    """,  # noqa: S608
    "rfm_segment_deltas": f"""
        {_INSERT}
        SELECT e.id, s.shop, s.customer_id, s.id, 'segment.changed', json_build_object(
            'type', 'segment.changed', 'timestamp', {_time("s.at")}, 'data', json_build_object(
                'shop', s.shop, 'customer_id', s.customer_id, 'previous', s.previous_segment, 'segment', s.segment,
                'segment_id', h.segment_id, 'r', h.r, 'f', h.f, 'm', h.m, 'cause', s.cause))
        FROM stored s
        JOIN rfm_score_history h ON (h.shop, h.customer_id, h.at, h.id) = (s.shop, s.customer_id, s.at, s.id)
        JOIN notice_endpoints e ON e.shop = s.shop AND 'segment.changed' = ANY(e.events)
        WHERE {_news("s.at")} AND NOT EXISTS (
            SELECT FROM notice_marks m WHERE (m.shop, m.customer_id) = (s.shop, s.customer_id)
                AND s.at <= m.at + interval '{_NEAR.microseconds} microseconds')
        ORDER BY s.at, s.id {_ONCE}
    """,  # noqa: S608
}

_BATCH_DONE: Final = f"""
{_INSERT}
SELECT e.id, r.shop, NULL, r.id, 'batch.done', json_build_object(
    'type', 'batch.done', 'timestamp', {_time("r.finished_at")}, 'data', json_build_object(
        'shop', r.shop, 'run', r.id, 'as_of', {_time("r.as_of")}, 'version', r.version, 'customers', r.customers))
FROM batch_runs r JOIN notice_endpoints e ON e.shop = r.shop AND 'batch.done' = ANY(e.events)
WHERE r.id = %s AND r.published {_ONCE}
"""  # noqa: S608

#: Whose points run out within these days, by the shortest of them. (30 at most, as the settings have it: what was told
#: is known for longer, KEPT.) One message of a customer, an instant at which points run out, and a number of days: its
#: id is made of these.
_EXPIRING: Final = f"""
{_INSERT}
SELECT e.id, r.shop, c.customer_id,
    left(encode(sha256(
        concat_ws('/', r.shop, c.customer_id, {_time("c.expires_at")}, d.days)::bytea), 'hex'), 32)::uuid,
    'points.expiring', json_build_object(
        'type', 'points.expiring', 'timestamp', {_time("r.finished_at")}, 'data', json_build_object(
            'shop', r.shop, 'customer_id', c.customer_id, 'points', c.expiring, 'expires_at', {_time("c.expires_at")},
            'days', d.days))
FROM batch_runs r
JOIN notice_endpoints e ON e.shop = r.shop AND 'points.expiring' = ANY(e.events)
JOIN customers c ON c.shop = r.shop AND c.expires_at > r.finished_at AND c.expiring > 0
    AND c.merged_into IS NULL AND NOT c.deleted AND NOT c.redacted
JOIN LATERAL (
    SELECT min(days) AS days FROM unnest(%(days)s::integer[]) AS days
    WHERE c.expires_at <= r.finished_at + make_interval(hours => 24 * days)) d ON d.days IS NOT NULL
WHERE r.id = %(run)s AND r.published ORDER BY c.expires_at, c.customer_id {_ONCE}
"""  # noqa: S608

#: What a rebuild, who empties what the stream made, must do before, in the same transaction: up to when each customer's
#: changes of segment are known.
REMEMBER: Final = """
INSERT INTO notice_marks AS t (shop, customer_id, at)
SELECT shop, customer_id, now FROM customers WHERE shop IN (SELECT shop FROM notice_endpoints)
ON CONFLICT (shop, customer_id) DO UPDATE SET at = greatest(t.at, excluded.at)
"""

#: A shop's endpoints of until then go, and all messages of the shop's that have none any more; parameters: `shop`, and
#: when that was `asked` (a replay asks it again).
FORGET: Final = """
WITH gone AS (DELETE FROM notice_endpoints WHERE shop = %(shop)s AND created_at <= %(asked)s RETURNING id)
DELETE FROM notices WHERE shop = %(shop)s
    AND endpoint NOT IN (SELECT id FROM notice_endpoints WHERE shop = %(shop)s EXCEPT SELECT id FROM gone)
"""


# --- what is told ------------------------------------------------------------------------------------------------


def somebody_listens(cursor: psycopg.Cursor[Any], shops: Collection[str]) -> bool:
    """Whether one of these shops has an endpoint."""
    cursor.execute("SELECT EXISTS (SELECT FROM notice_endpoints WHERE shop = ANY(%s))", [list(shops)])
    row = cursor.fetchone()
    return row is not None and bool(row[0])


def telling(table: str, insert: str) -> str:
    """A statement that adds rows to a table, made to tell of those that were not there; any other as it is."""
    told = _TOLD.get(table)
    return insert if told is None else f"WITH stored AS ({insert} RETURNING t.*) {told}"


def batch_done(connection: psycopg.Connection[Any], run_id: UUID, expiring_days: Sequence[int]) -> None:
    """Tells, if a run was published, whose points run out within so many days, and that it is done; in the transaction
    that notes it."""
    connection.execute(_EXPIRING.encode(), {"run": run_id, "days": list(expiring_days)})
    connection.execute(_BATCH_DONE.encode(), [run_id])


# --- endpoints ---------------------------------------------------------------------------------------------------


def secret_text(secret: bytes) -> str:
    """A secret as Standard Webhooks writes it."""
    return f"whsec_{base64.b64encode(secret).decode()}"


class Endpoint(NamedTuple):
    """An endpoint as it is listed. `waiting` and `dead` count its messages."""

    id: UUID
    url: str
    events: list[str]
    created_at: datetime
    failures: int
    rests_until: datetime | None
    waiting: int
    dead: int


class Notice(NamedTuple):
    """A message to an endpoint, and how far it is."""

    id: int
    message: UUID
    event: str
    body: str
    status: str
    attempts: int
    code: int | None
    error: str | None
    created_at: datetime
    due_at: datetime
    finished_at: datetime | None


_NOTICE: Final = ", ".join(Notice._fields)

_ENDPOINTS: Final = """
SELECT id, url, events, created_at, failures, rests_until,
    (SELECT count(*) FROM notices n WHERE n.endpoint = e.id AND n.status = 'waiting') AS waiting,
    (SELECT count(*) FROM notices n WHERE n.endpoint = e.id AND n.status = 'dead') AS dead
FROM notice_endpoints e WHERE shop = %s ORDER BY created_at, id
"""


def check_url(url: str, *, private: bool) -> None:
    """ValueError for what messages cannot be sent to: anything but https, or, with `private`, http.

    What a name leads to is only known, and checked, when it is sent to.
    """
    parts = urlsplit(url)
    ways = ("https", "http") if private else ("https",)
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"a URL of at most {LONGEST_URL} plain characters")
    if parts.scheme not in ways or not parts.hostname or parts.fragment:
        raise ValueError("a URL such as https://example.com/hook")
    if "@" in parts.netloc:
        raise ValueError("a URL without a name or password")
    if not 0 < (parts.port or 443) < 65536:
        raise ValueError("a URL with a port from 1 to 65535")
    try:
        ip_address(parts.hostname)
    except ValueError:
        return
    if not private and not is_public(parts.hostname):
        raise ValueError("a public address")


async def create(
    connection: AsyncConnection[Any], endpoint_id: UUID, shop: str, url: str, events: Sequence[str], now: datetime
) -> bool:
    """A new endpoint; False where the shop has MOST already."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('notices ' || %s, 0))", (shop,))
        cursor = await connection.execute(
            "INSERT INTO notice_endpoints (id, shop, url, events, created_at) SELECT %s, %s, %s, %s, %s"
            " WHERE (SELECT count(*) FROM notice_endpoints WHERE shop = %s) < %s",
            (endpoint_id, shop, url, list(events), now, shop, MOST),
        )
    return cursor.rowcount == 1


async def listing(connection: AsyncConnection[Any], shop: str) -> list[Endpoint]:
    """A shop's endpoints, the oldest first."""
    cursor = connection.cursor(row_factory=class_row(Endpoint))
    await cursor.execute(_ENDPOINTS, (shop,))
    return await cursor.fetchall()


async def remove(connection: AsyncConnection[Any], shop: str, endpoint_id: UUID) -> bool:
    """Removes an endpoint with its messages; False if there is none such."""
    async with connection.transaction():
        cursor = await connection.execute(
            "DELETE FROM notice_endpoints WHERE shop = %s AND id = %s", (shop, endpoint_id)
        )
        await connection.execute("DELETE FROM notices WHERE shop = %s AND endpoint = %s", (shop, endpoint_id))
    return cursor.rowcount == 1


async def exists(connection: AsyncConnection[Any], shop: str, endpoint_id: UUID) -> bool:
    """Whether it is an endpoint of the shop's."""
    cursor = await connection.execute("SELECT 1 FROM notice_endpoints WHERE shop = %s AND id = %s", (shop, endpoint_id))
    return await cursor.fetchone() is not None


async def deliveries(
    connection: AsyncConnection[Any], endpoint_id: UUID, status: str | None, before: int, limit: int
) -> list[Notice]:
    """An endpoint's messages of a status, or all, with ids below `before`, the newest first."""
    cursor = connection.cursor(row_factory=class_row(Notice))
    await cursor.execute(
        f"SELECT {_NOTICE} FROM notices WHERE endpoint = %(endpoint)s AND id < %(before)s"  # noqa: S608
        " AND status = ANY(%(statuses)s) ORDER BY id DESC LIMIT %(limit)s".encode(),
        {
            "endpoint": endpoint_id,
            "before": before,
            "statuses": ["waiting", "done", "dead"] if status is None else [status],
            "limit": limit,
        },
    )
    return await cursor.fetchall()


_AGAIN: Final = f"""
UPDATE notices SET status = 'waiting', since = clock_timestamp(), due_at = clock_timestamp(), finished_at = NULL
WHERE endpoint = %s AND id = %s RETURNING {_NOTICE}
"""  # noqa: S608


async def replay(connection: AsyncConnection[Any], endpoint_id: UUID, notice_id: int) -> Notice | None:
    """Has a message sent again, now and for as long as a new one, under its old id; None if there is none such.

    An endpoint that rests is woken: whoever asks has mended it.
    """
    return await _sent_now(
        connection,
        endpoint_id,
        _AGAIN,
        (endpoint_id, notice_id),
    )


async def test(connection: AsyncConnection[Any], shop: str, endpoint_id: UUID, now: datetime) -> Notice:
    """A message that tells of nothing, sent now."""
    body = {"type": TEST, "timestamp": instants.text(instants.from_datetime(now)), "data": {"shop": shop}}
    made = await _sent_now(
        connection,
        endpoint_id,
        f"{_INSERT} VALUES (%s, %s, NULL, %s, %s, %s) RETURNING {_NOTICE}",
        (endpoint_id, shop, uuid4(), TEST, codec.dumps(body).decode()),
    )
    assert made is not None
    return made


async def _sent_now(
    connection: AsyncConnection[Any], endpoint_id: UUID, statement: str, parameters: tuple[Any, ...]
) -> Notice | None:
    async with connection.transaction():
        cursor = connection.cursor(row_factory=class_row(Notice))
        await cursor.execute(statement.encode(), parameters)
        found = await cursor.fetchone()
        if found is not None:
            await connection.execute("UPDATE notice_endpoints SET rests_until = NULL WHERE id = %s", (endpoint_id,))
    return found


# --- sending -----------------------------------------------------------------------------------------------------


class Held(NamedTuple):
    """An endpoint that somebody sends to, and nobody else meanwhile."""

    id: UUID
    shop: str
    url: str


class Due(NamedTuple):
    """A message whose time has come."""

    id: int
    message: UUID
    event: str
    body: str
    attempts: int


_CLAIM: Final = """
UPDATE notice_endpoints SET held_by = %(me)s, held_until = clock_timestamp() + %(lease)s, worked_at = clock_timestamp()
WHERE id IN (
    SELECT id FROM notice_endpoints e
    WHERE coalesce(held_until <= clock_timestamp(), true) AND coalesce(rests_until <= clock_timestamp(), true)
      AND EXISTS (
        SELECT FROM notices n WHERE n.endpoint = e.id AND n.status = 'waiting' AND n.due_at <= clock_timestamp())
    ORDER BY worked_at NULLS FIRST LIMIT %(most)s FOR NO KEY UPDATE SKIP LOCKED
) RETURNING id, shop, url
"""

_DUE: Final = """
SELECT id, message, event, body, attempts FROM notices
WHERE endpoint = %s AND status = 'waiting' AND due_at <= clock_timestamp() ORDER BY id LIMIT %s
"""

_DONE: Final = """
UPDATE notices SET status = 'done', attempts = attempts + 1, code = %s, error = NULL, finished_at = clock_timestamp()
WHERE id = %s AND status = 'waiting'
"""
_WELL: Final = """
UPDATE notice_endpoints SET failures = 0, rests_until = NULL, held_until = clock_timestamp() + %s
WHERE id = %s AND held_by = %s
"""

_FAILED: Final = """
UPDATE notices SET attempts = attempts + 1, code = %(code)s, error = %(error)s, due_at = clock_timestamp() + %(wait)s
WHERE id = %(id)s AND status = 'waiting'
"""
_UNWELL: Final = """
UPDATE notice_endpoints SET failures = failures + 1, held_until = clock_timestamp() + %s WHERE id = %s AND held_by = %s
RETURNING failures
"""
_REST: Final = "UPDATE notice_endpoints SET rests_until = clock_timestamp() + %s WHERE id = %s"

#: All that has been tried for long enough; of an endpoint that rests all that has waited for so long, for of that one
#: message at a time is tried.
_DEAD: Final = """
UPDATE notices SET status = 'dead', finished_at = clock_timestamp()
WHERE endpoint = %s AND status = 'waiting' AND since <= clock_timestamp() - %s AND (attempts > 0 OR %s) RETURNING event
"""

_TIDY: Final = (
    "DELETE FROM notices WHERE created_at < now() - %(kept)s AND status <> 'waiting'",
    "DELETE FROM notices n WHERE NOT EXISTS (SELECT FROM notice_endpoints e WHERE e.id = n.endpoint)",
    "DELETE FROM notice_marks WHERE at < now() - %(kept)s",
)

_LOAD: Final = """
SELECT (SELECT count(*) FROM notices WHERE status = 'waiting'),
       (SELECT count(*) FROM notice_endpoints WHERE rests_until > clock_timestamp())
"""


async def claim(connection: AsyncConnection[Any], me: UUID, lease: timedelta, most: int) -> list[Held]:
    """Endpoints that have something due and that nobody holds, held by `me` for so long; those of longest ago first."""
    cursor = connection.cursor(row_factory=class_row(Held))
    await cursor.execute(_CLAIM, {"me": me, "lease": lease, "most": most})
    return await cursor.fetchall()


async def due(connection: AsyncConnection[Any], endpoint_id: UUID, most: int) -> list[Due]:
    """What is due for an endpoint, in the order in which it came about."""
    cursor = connection.cursor(row_factory=class_row(Due))
    await cursor.execute(_DUE, (endpoint_id, most))
    return await cursor.fetchall()


async def note_done(
    connection: AsyncConnection[Any], me: UUID, lease: timedelta, held: Held, notice_id: int, code: int
) -> bool:
    """A message has arrived; False if the endpoint is not ours any more."""
    async with connection.transaction():
        await connection.execute(_DONE, (code, notice_id))
        cursor = await connection.execute(_WELL, (lease, held.id, me))
    return cursor.rowcount == 1


class Failed(NamedTuple):
    """What a failure came to: whether the endpoint is still ours, how long it rests, and the events of what is dead."""

    ours: bool
    rests: timedelta | None
    dead: list[str]


async def note_failed(
    connection: AsyncConnection[Any],
    me: UUID,
    lease: timedelta,
    held: Held,
    notice_id: int,
    code: int | None,
    error: str,
    wait: timedelta,
    rest: Callable[[int], timedelta | None],
    asked_for: timedelta | None = None,
) -> Failed:
    """A message has not arrived: it is due again after `wait`, unless it has been tried for TRIED.

    `rest` says how long the endpoint rests after so many failures in a row; it rests at least as long as its receiver
    has `asked_for`.
    """
    async with connection.transaction():
        await connection.execute(_FAILED, {"id": notice_id, "code": code, "error": error, "wait": wait})
        cursor = await connection.execute(_UNWELL, (lease, held.id, me))
        row = await cursor.fetchone()
        broken = None if row is None else rest(row[0])
        rests = [each for each in (broken, None if row is None else asked_for) if each is not None]
        if rests:
            await connection.execute(_REST, (max(rests), held.id))
        cursor = await connection.execute(_DEAD, (held.id, TRIED, broken is not None))
        dead = [event for (event,) in await cursor.fetchall()]
    return Failed(row is not None, max(rests, default=None), dead)


async def release(connection: AsyncConnection[Any], me: UUID, held: Held) -> None:
    """Others may send there."""
    await connection.execute(
        "UPDATE notice_endpoints SET held_by = NULL, held_until = NULL WHERE id = %s AND held_by = %s", (held.id, me)
    )


async def tidy(connection: AsyncConnection[Any]) -> None:
    """Removes what is old, and what belongs to no endpoint any more."""
    for statement in _TIDY:
        await connection.execute(statement.encode(), {"kept": KEPT})


async def load(connection: AsyncConnection[Any]) -> tuple[int, int]:
    """(messages that wait, endpoints that rest)"""
    cursor = await connection.execute(_LOAD)
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]
