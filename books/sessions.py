"""Who is signed in on the dashboard: sessions, and the links that open one, once.

A session's cookie is `<id>.<secret>`; as with API keys, the SHA-256 of the secret is all that is kept. A session may do
what the API key that opened it may, for as long as that is valid; or what its link said.
"""

import hmac
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from books import api_keys
from events import keys

Way = Literal["key", "link", "shopify"]

#: A session ends this long after it began, and when nobody has used it for so long.
LASTS: Final = timedelta(days=7)
IDLE: Final = timedelta(hours=24)

#: A link can be used for this long.
LINK_LASTS: Final = timedelta(minutes=15)

#: `seen_at` is written this seldom at most: every call of a page would write a row else.
_SEEN_EVERY: Final = timedelta(minutes=1)

_LONGEST: Final = 200


class Session(NamedTuple):
    """A session as it is listed: everything but the secret."""

    id: str
    shops: list[str]
    scopes: list[str]
    key_id: str | None
    way: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()


async def begin(
    connection: AsyncConnection[Any],
    shops: Sequence[str],
    scopes: Collection[str],
    way: Way,
    now: datetime,
    key_id: str | None = None,
) -> str:
    """A new session's cookie."""
    await connection.execute("DELETE FROM dashboard_sessions WHERE expires_at < %s", (now,))
    session_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO dashboard_sessions (id, hash, shops, scopes, key_id, way, created_at, seen_at, expires_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (session_id, _hash(secret), list(shops), sorted(scopes), key_id, way, now, now, now + LASTS),
    )
    return f"{session_id}.{secret}"


async def check(connection: AsyncConnection[Any], cookie: str, now: datetime) -> api_keys.Granted | None:
    """What the session allows, read anew each time; None if it is not valid (any more)."""
    session_id, dot, secret = cookie.partition(".") if len(cookie) <= _LONGEST else ("", "", "")
    if not dot or "\x00" in cookie:
        return None
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(
        "SELECT s.hash, s.shops, s.scopes, s.seen_at, s.way,"
        " k.id IS NOT NULL, k.scopes, array_prepend(k.shop, k.more_shops)"
        " FROM dashboard_sessions s LEFT JOIN api_keys k ON k.id = s.key_id"
        " WHERE s.id = %s AND s.revoked_at IS NULL AND s.expires_at > %s AND s.seen_at > %s"
        " AND (s.key_id IS NULL OR (k.id IS NOT NULL AND k.revoked_at IS NULL))",
        (session_id, now, now - IDLE),
    )
    row = await cursor.fetchone()
    if row is None or not hmac.compare_digest(bytes(row[0]), _hash(secret)):
        return None
    _, shops, scopes, seen_at, way, by_key, key_scopes, key_shops = row
    if now - seen_at > _SEEN_EVERY:
        await connection.execute("UPDATE dashboard_sessions SET seen_at = %s WHERE id = %s", (now, session_id))
    if by_key:
        shops, scopes = key_shops, key_scopes
    return api_keys.Granted(session_id, tuple(shops), frozenset(scopes), way)


async def listing(connection: AsyncConnection[Any], shop: str, now: datetime) -> list[Session]:
    """Who is signed in for a shop, the newest first."""
    cursor = connection.cursor(row_factory=class_row(Session))
    await cursor.execute(
        "SELECT s.id, s.shops, s.scopes, s.key_id, s.way, s.created_at, s.seen_at, s.expires_at"
        " FROM dashboard_sessions s LEFT JOIN api_keys k ON k.id = s.key_id"
        " WHERE s.shops @> ARRAY[%s] AND s.revoked_at IS NULL AND k.revoked_at IS NULL"
        " AND s.expires_at > %s AND s.seen_at > %s ORDER BY s.created_at DESC, s.id",
        (shop, now, now - IDLE),
    )
    return await cursor.fetchall()


async def revoke(connection: AsyncConnection[Any], session_id: str, now: datetime, shop: str | None = None) -> bool:
    """Ends a session, from the next request on; False if there is none such (of the shop, if one is given)."""
    cursor = await connection.execute(
        "UPDATE dashboard_sessions SET revoked_at = coalesce(revoked_at, %(now)s) WHERE id = %(id)s"
        " AND (%(shop)s::text IS NULL OR shops @> ARRAY[%(shop)s])",
        {"now": now, "id": session_id, "shop": shop},
    )
    return cursor.rowcount == 1


async def make_link(
    connection: AsyncConnection[Any], shops: Sequence[str], scopes: Collection[str], now: datetime
) -> str:
    """A token that signs in once, within LINK_LASTS. ValueError for a scope there is not or a shop that is none."""
    api_keys.check_scopes(scopes)
    token = secrets.token_urlsafe(32)
    await connection.execute("DELETE FROM sign_in_links WHERE expires_at < %s", (now - LASTS,))
    await connection.execute(
        "INSERT INTO sign_in_links (hash, shops, scopes, expires_at) VALUES (%s, %s, %s, %s)",
        (_hash(token), [keys.shop_domain(each) for each in shops], sorted(scopes), now + LINK_LASTS),
    )
    return token


async def use_link(connection: AsyncConnection[Any], token: str, now: datetime) -> str | None:
    """A session's cookie for a link's token, once; None if it was used, is too old, or is none."""
    if len(token) > _LONGEST:
        return None
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(
        "UPDATE sign_in_links SET used_at = %(now)s WHERE hash = %(hash)s AND used_at IS NULL AND expires_at > %(now)s"
        " RETURNING shops, scopes",
        {"now": now, "hash": _hash(token)},
    )
    row = await cursor.fetchone()
    return None if row is None else await begin(connection, row[0], row[1], "link", now)
