"""Master keys: the newest wraps customers' keys, older ones still open what they wrapped, until they are rotated out.

A wrapped key names its master key by an id of 4 bytes. What was wrapped before there were ids has none: then each
master key is tried.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import psycopg

from books.sealed import LENGTH, MasterKeys, VaultError
from runtime.settings import Settings

#: Keys that are wrapped anew in one transaction.
SLICE: Final = 1_000


def parse(text: str) -> bytes:
    """A master key's 32 bytes from base64 (standard or URL-safe); VaultError if it is none."""
    try:
        key = base64.b64decode(text.strip().translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise VaultError("LOYALNEST_MASTER_KEY must be 32 bytes in base64 (openssl rand -base64 32)")
    return key


def master_keys(settings: Settings) -> MasterKeys:
    """The master keys of the settings, the newest first; VaultError if there is none, or a malformed one."""
    if settings.master_key is None:
        raise VaultError("LOYALNEST_MASTER_KEY is not set (openssl rand -base64 32)")
    return MasterKeys([parse(each) for each in settings.master_key.get_secret_value().split(",")])


# --- rotating ---

_OTHERS: Final = """
SELECT shop, customer_id, wrapped FROM customer_keys
WHERE (shop, customer_id) > (%(shop)s, %(id)s) AND wrapped IS NOT NULL
  AND (length(wrapped) <> %(length)s OR substring(wrapped FROM 1 FOR 5) <> %(prefix)s)
ORDER BY shop, customer_id LIMIT %(slice)s
"""

# Only what is still as it was read: a key that was destroyed meanwhile stays so.
_REWRAP: Final = """
UPDATE customer_keys AS k SET wrapped = n.fresh
FROM unnest(%s::text[], %s::text[], %s::bytea[], %s::bytea[]) AS n (shop, customer_id, before, fresh)
WHERE k.shop = n.shop AND k.customer_id = n.customer_id AND k.wrapped = n.before
"""


class Rotated(NamedTuple):
    """Keys that are wrapped with the newest master key by now and were not, and those that none of them opens."""

    rewrapped: int
    unreadable: int


def rotate(
    connection: psycopg.Connection[Any], keys: MasterKeys, on_progress: Callable[[int], None] = lambda _: None
) -> Rotated:
    """Wraps every customer's key with the newest master key, a slice at a time, until none is left.

    The connection commits by itself. Broken off, it goes on with those that are left when it is called again.
    """
    total = 0
    while True:  # once more after each that found some: others may have made keys with an older one meanwhile
        rewrapped, unreadable = 0, 0
        at = {"shop": "", "id": "", "length": LENGTH, "prefix": keys.prefix, "slice": SLICE}
        while found := connection.execute(_OTHERS, at).fetchall():
            at |= {"shop": found[-1][0], "id": found[-1][1]}
            fresh = []
            for shop, customer_id, before in found:
                try:
                    key = keys.unwrap(shop, customer_id, before)
                except VaultError:
                    unreadable += 1
                    continue
                fresh.append((shop, customer_id, before, keys.wrap(shop, customer_id, key)))
            if fresh:
                columns = [list(column) for column in zip(*fresh, strict=True)]
                rewrapped += connection.execute(_REWRAP, columns).rowcount
                on_progress(total + rewrapped)
        total += rewrapped
        if not rewrapped:
            return Rotated(total, unreadable)
