"""API keys: `ln_<id>_<secret>`, each for one shop. The secret is shown once; its SHA-256 is all that is kept.

A secret is 256 random bits, which nobody guesses, so a slow password hash would protect nothing.
"""

import hmac
import secrets
from collections.abc import Collection
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row, tuple_row

from events import keys

#: read: results. export: CSV. pii: e-mail addresses in it. admin: the shop's program. None implies another.
SCOPES: Final = ("read", "export", "pii", "admin")

_LONGEST = 200


class ApiKey(NamedTuple):
    """A key as it is listed: everything but the secret."""

    id: str
    shop: str
    name: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


class Granted(NamedTuple):
    """What a valid key allows."""

    id: str
    shop: str
    scopes: frozenset[str]


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()


async def create(connection: AsyncConnection[Any], shop: str, name: str, scopes: Collection[str], now: datetime) -> str:
    """A new key in full, to be shown once; ValueError for a scope there is not or a shop that is none."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise ValueError(f"scopes are {', '.join(SCOPES)}; not {', '.join(unknown) or 'none at all'}")
    shop = keys.shop_domain(shop)
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO api_keys (id, shop, name, hash, scopes, created_at) VALUES (%s, %s, %s, %s, %s, %s)",
        (key_id, shop, name, _hash(secret), sorted(set(scopes), key=SCOPES.index), now),
    )
    return f"ln_{key_id}_{secret}"


async def listing(connection: AsyncConnection[Any], shop: str | None = None) -> list[ApiKey]:
    """A shop's keys, or everybody's, newest first."""
    cursor = connection.cursor(row_factory=class_row(ApiKey))
    await cursor.execute(
        "SELECT id, shop, name, scopes, created_at, revoked_at FROM api_keys"
        " WHERE %(shop)s::text IS NULL OR shop = %(shop)s ORDER BY created_at DESC, id",
        {"shop": shop},
    )
    return await cursor.fetchall()


async def revoke(connection: AsyncConnection[Any], key_id: str, now: datetime) -> bool:
    """Ends a key, from the next request on, by its id or the key in full; False if there is no such key."""
    if key_id.startswith("ln_"):
        key_id = key_id.split("_", 2)[1]
    cursor = await connection.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, %s) WHERE id = %s", (now, key_id)
    )
    return cursor.rowcount == 1


async def check(connection: AsyncConnection[Any], key: str) -> Granted | None:
    """What the key allows, read anew each time: a revoked key stops at once. None if it is not valid."""
    parts = key.split("_", 2) if len(key) <= _LONGEST else []
    if len(parts) != 3 or parts[0] != "ln" or "\x00" in key:
        return None
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute("SELECT shop, hash, scopes FROM api_keys WHERE id = %s AND revoked_at IS NULL", (parts[1],))
    shop, stored, scopes = await cursor.fetchone() or (None, bytes(32), ())
    same = hmac.compare_digest(bytes(stored), _hash(parts[2]))
    return Granted(parts[1], shop, frozenset(scopes)) if same and shop is not None else None
