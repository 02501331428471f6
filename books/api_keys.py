"""API keys: `ln_<id>_<secret>`, for one shop or several. The secret is shown once; all that is kept is its SHA-256.

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

#: read: results. export: CSV. pii: e-mail addresses in it. adjust: giving and taking points. redeem: asking for rewards
#: and cancelling. till: telling of rewards that were given already. fulfil: telling what became of a reward's code.
#: admin: the shop's program. None implies another.
SCOPES: Final = ("read", "export", "pii", "adjust", "redeem", "till", "fulfil", "admin")

_LONGEST = 200


class ApiKey(NamedTuple):
    """A key as it is listed: everything but the secret."""

    id: str
    shops: list[str]
    name: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


class Granted(NamedTuple):
    """What a valid key, or a session, allows. It has one shop at least."""

    id: str
    shops: tuple[str, ...]
    scopes: frozenset[str]
    way: str = "key"


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()


def check_scopes(scopes: Collection[str]) -> None:
    """ValueError for a scope there is not, or for none at all."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        raise ValueError(f"scopes are {', '.join(SCOPES)}; not {', '.join(unknown) or 'none at all'}")


async def create(
    connection: AsyncConnection[Any],
    shop: str,
    name: str,
    scopes: Collection[str],
    now: datetime,
    more_shops: Collection[str] = (),
) -> str:
    """A new key in full, to be shown once; ValueError for a scope there is not or a shop that is none."""
    check_scopes(scopes)
    shop = keys.shop_domain(shop)
    others = sorted({keys.shop_domain(each) for each in more_shops} - {shop})
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO api_keys (id, shop, more_shops, name, hash, scopes, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (key_id, shop, others, name, _hash(secret), sorted(set(scopes), key=SCOPES.index), now),
    )
    return f"ln_{key_id}_{secret}"


async def listing(connection: AsyncConnection[Any], shop: str | None = None) -> list[ApiKey]:
    """A shop's keys, or everybody's, newest first."""
    cursor = connection.cursor(row_factory=class_row(ApiKey))
    await cursor.execute(
        "SELECT id, array_prepend(shop, more_shops) AS shops, name, scopes, created_at, revoked_at FROM api_keys"
        " WHERE %(shop)s::text IS NULL OR shop = %(shop)s OR %(shop)s = ANY(more_shops) ORDER BY created_at DESC, id",
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
    await cursor.execute(
        "SELECT array_prepend(shop, more_shops), hash, scopes FROM api_keys WHERE id = %s AND revoked_at IS NULL",
        (parts[1],),
    )
    shops, stored, scopes = await cursor.fetchone() or ((), bytes(32), ())
    same = hmac.compare_digest(bytes(stored), _hash(parts[2]))
    return Granted(parts[1], tuple(shops), frozenset(scopes)) if same and shops else None
