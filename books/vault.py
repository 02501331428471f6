"""Customers' keys: what is sealed with one can be read until it is destroyed, wherever it has been copied.

Every customer of a shop has a random 256-bit key of their own, wrapped by a master key (books/master_keys.py), in the
table `customer_keys`. Contacts travel sealed with it (AES-256-GCM, shop and customer bound as associated data), so that
a redaction reaches every topic and archive at once by destroying one row's key.

Opening always reads the table: a destroyed key opens nothing from the commit on. Only sealing remembers keys
(for KEY_SECONDS at most), and what is sealed with a destroyed key nobody can read.
"""

import asyncio
import base64
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from books import exports, fulfilment, imports, notices, persons
from books.opening import Openers
from books.sealed import MasterKeys, Opened, Sealed, VaultError, open_all, open_bytes, seal_bytes
from events.payloads import Contact, normalised
from runtime.database import Pool, array
from runtime.rounds import Rounds

#: The customer id of a shop's own key, for bodies that nobody could parse and so nobody could minimise.
DEAD_LETTERS: Final = "dead-letters"

#: The customer id of the key under which a shop's addresses are hashed. It goes with the shop.
ADDRESSES: Final = "addresses"

#: The customer id of the key that the secrets of a shop's endpoints are made of. It goes with the shop.
NOTICES: Final = "notices"

#: The customer ids of the key that seals the token of a shop's Admin API, and of the one that its discounts' codes are
#: made of. They go with the shop.
TOKENS: Final = "fulfilment"
CODES: Final = "fulfilment-codes"

#: How long an unwrapped key is remembered for sealing (seconds), and how many are at most.
KEY_SECONDS: Final = 60.0
KEYS_REMEMBERED: Final = 20_000

#: So many customers' contacts are opened without leaving the event loop, and so many more by other processes.
_AT_ONCE: Final = 100
_APART: Final = 1000


#: Destroys customers' keys for ever, also those that were never made, and those of all who are the same person as the
#: rows have it now; parameters: shops, customer ids. Under persons.LOCK. In the order of their names, so that nobody
#: who makes or destroys several waits for another crosswise.
DESTROY: Final = f"""
WITH RECURSIVE same (shop, customer_id) AS (
    SELECT shop, customer_id FROM unnest(%s::text[], %s::text[]) AS asked (shop, customer_id)
    {persons.LEADING}
)
INSERT INTO customer_keys (shop, customer_id, wrapped, destroyed_at)
SELECT shop, customer_id, NULL::bytea, clock_timestamp() FROM same ORDER BY shop, customer_id
ON CONFLICT (shop, customer_id) DO UPDATE
SET wrapped = NULL, destroyed_at = coalesce(customer_keys.destroyed_at, excluded.destroyed_at)
RETURNING shop, customer_id
"""  # noqa: S608

#: Which of these customers are, by their rows, somebody whose key was destroyed, and still have theirs; parameters as
#: above.
LATECOMERS: Final = """
SELECT c.shop, c.customer_id
FROM unnest(%s::text[], %s::text[]) AS asked (shop, customer_id)
JOIN customers c USING (shop, customer_id)
JOIN customer_keys forgotten ON forgotten.shop = c.shop AND forgotten.customer_id = c.merged_into
LEFT JOIN customer_keys own ON own.shop = c.shop AND own.customer_id = c.customer_id
WHERE forgotten.wrapped IS NULL AND (own.customer_id IS NULL OR own.wrapped IS NOT NULL)
ORDER BY c.shop, c.customer_id
"""

#: Destroys every key that a shop had by then; parameters: shop, when that was asked (a replay asks it again).
DESTROY_SHOP = """
UPDATE customer_keys SET wrapped = NULL, destroyed_at = clock_timestamp()
WHERE shop = %s AND created_at <= %s AND wrapped IS NOT NULL
"""

#: Lets a shop's unparsed bodies go, by their key: one may hold anything about anybody; parameters as above.
FORGET_BODIES = """
DELETE FROM customer_keys WHERE shop = %s AND created_at <= %s AND customer_id = 'dead-letters'
"""

#: Let go what may hold anybody of a shop; parameters of each as above.
_WHATEVER: Final = (FORGET_BODIES, imports.FORGET, exports.FORGET)

#: Lets the keys of a shop's addresses, notices and discounts go: a shop that comes back makes others; parameters as
#: above.
FORGET_OWN = """
DELETE FROM customer_keys WHERE shop = %s AND created_at <= %s
    AND customer_id IN ('addresses', 'notices', 'fulfilment', 'fulfilment-codes')
"""

#: Stored keys, and those of whom there were none, made as they are given; parameters: shops, customer ids, wrapped keys
#: in base64. Of a key that somebody else has just made nothing is told: whoever asks again is told. One that is there
#: is not tried to be made: that would wait for whoever destroys it, a whole shop's say, and all who ask with it.
_FIND_OR_ADD = b"""
WITH asked AS (
    SELECT shop, customer_id, decode(given, 'base64') AS wrapped
    FROM unnest(%s::text[], %s::text[], %s::text[]) AS asked (shop, customer_id, given)
), added AS (
    INSERT INTO customer_keys (shop, customer_id, wrapped) SELECT * FROM asked WHERE NOT EXISTS (
        SELECT FROM customer_keys AS stored
        WHERE stored.shop = asked.shop AND stored.customer_id = asked.customer_id
    ) ON CONFLICT (shop, customer_id) DO NOTHING RETURNING shop, customer_id, wrapped
)
SELECT * FROM added
UNION ALL SELECT shop, customer_id, stored.wrapped FROM customer_keys AS stored JOIN asked USING (shop, customer_id)
"""

#: Whose key it is: shop and customer.
_Name = tuple[str, str]

#: By whatever name a caller has for what it asks.
K = TypeVar("K")


def address_id(key: bytes, email: str) -> str:
    """The id of a customer known by their address alone: `mail-` and 128 bits, which nobody finds without the key."""
    return f"mail-{hmac.digest(key, normalised(email).encode(), 'sha256')[:16].hex()}"


def _plain(contact: Contact) -> bytes:
    return orjson.dumps(tuple(contact))


# --- the store ---


class _Known(NamedTuple):
    """A key that is remembered until then (seconds of the vault's clock)."""

    until: float
    key: bytes
    cipher: AESGCM


class Sealer:
    """Seals for some customers of one shop, whose keys are at hand (Vault.sealer)."""

    def __init__(self, shop: str, keys: Mapping[str, _Known | None]) -> None:
        self._shop = shop
        self._keys = keys

    def seal(self, customer_id: str, contact: Contact) -> str | None:
        """As Vault.seal, for one of these customers."""
        known = self._keys[customer_id]
        return None if known is None else seal_bytes(known.cipher, self._shop, customer_id, _plain(contact))


class Vault:
    """Seals and opens with the keys of `customer_keys`. The pool's connections commit by themselves."""

    def __init__(
        self,
        masters: MasterKeys,
        pool: Pool,
        *,
        openers: Openers | None = None,
        remembered: int = KEYS_REMEMBERED,
        seconds: float = KEY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._masters = masters
        self._pool = pool
        self._openers = openers
        self._remembered = remembered
        self._seconds = seconds
        self._clock = clock
        self._keys: OrderedDict[_Name, _Known] = OrderedDict()
        self._rounds = Rounds(pool, self._read)

    async def seal(self, shop: str, customer_id: str, contact: Contact) -> str | None:
        """The contact sealed with the customer's key; None if that key has been destroyed.

        For up to KEY_SECONDS after another process destroyed the key this may still seal: with the destroyed
        key, so that nobody can read it.
        """
        return await self._seal(shop, customer_id, _plain(contact))

    async def address(self, shop: str, email: str) -> str | None:
        """The id of whoever is known by this address alone, under a key of the shop; None if that is destroyed."""
        known = await self._key(shop, ADDRESSES)
        return None if known is None else address_id(known.key, email)

    async def addresses(self, shop: str, emails: Mapping[K, str]) -> dict[K, str]:
        """As `address`, of many, by whatever name the caller has for each; none if that key is destroyed."""
        known = await self._key(shop, ADDRESSES) if emails else None
        return {} if known is None else {name: address_id(known.key, email) for name, email in emails.items()}

    async def notice_secret(self, shop: str, endpoint: UUID) -> bytes | None:
        """What messages to an endpoint are signed with: made of a key of the shop; None if that is destroyed."""
        known = await self._key(shop, NOTICES)
        return None if known is None else hmac.digest(known.key, endpoint.bytes, "sha256")

    async def sealer(self, shop: str, customer_ids: Collection[str]) -> Sealer:
        """What seals for many customers, as `seal` does: their keys are made where there are none, by a statement or
        two for all.
        """
        keys = {each: self._remembers((shop, each)) for each in customer_ids}
        found = await self._ask([(shop, each) for each, known in keys.items() if known is None])
        return Sealer(shop, keys | {customer_id: known for (_, customer_id), known in found.items()})

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """A connection of the pool's, for what is asked beside the keys."""
        return self._pool.connection()

    async def seal_body(self, shop: str, body: bytes) -> str | None:
        """A body that could not be parsed, sealed with the shop's own key; None if that is destroyed."""
        return await self._seal(shop, DEAD_LETTERS, body)

    async def open(self, shop: str, customer_id: str, sealed: str) -> Contact | None:
        """The contact; None once the key has been destroyed, or if it was not sealed for this customer."""
        async with self._pool.connection() as connection:
            [email], [consent] = await self.open_columns(connection, shop, [customer_id], [sealed], [None])
        return None if email is None and consent is None else Contact(email, consent)

    async def open_columns(
        self,
        connection: AsyncConnection[Any],
        shop: str,
        customer_ids: Sequence[str],
        contacts: Sequence[str | None],
        consents: Sequence[str | None],
    ) -> Opened:
        """What customers told, column by column, a customer at each place: of what was sealed as an address and as a
        consent of each (None: nothing) what is readable. One query on the caller's connection.
        """
        emails: list[str | None] = [None] * len(customer_ids)
        agreed: list[str | None] = [None] * len(customer_ids)
        places = {each: at for at, each in enumerate(customer_ids) if contacts[at] or consents[at]}
        wrapped = await self._wrapped(connection, shop, list(places)) if places else []
        if wrapped:
            known, keys = map(list, zip(*wrapped, strict=True))
            at = [places[each] for each in known]
            told = Sealed(known, keys, [contacts[place] for place in at], [consents[place] for place in at])
            for place, email, consent in zip(at, *await self._opened(shop, told), strict=True):
                emails[place], agreed[place] = email, consent
        return emails, agreed

    async def _opened(self, shop: str, asked: Sealed) -> Opened:
        number = len(asked.customer_ids)
        if number <= _AT_ONCE:
            return open_all(self._masters, shop, asked)
        # Some 10 µs each: others are served meanwhile.
        if self._openers is not None and number >= _APART:
            return await self._openers.open(shop, asked)
        return await asyncio.to_thread(open_all, self._masters, shop, asked)

    async def open_body(self, shop: str, sealed: str) -> bytes | None:
        """A dead letter's body; None once the key that it was sealed with has been destroyed."""
        return await self._open_own(shop, DEAD_LETTERS, sealed)

    async def seal_token(self, shop: str, token: str) -> str | None:
        """A token of the shop's Admin API, sealed; None if the shop's key is destroyed."""
        return await self._seal(shop, TOKENS, token.encode())

    async def open_token(self, shop: str, sealed: str) -> str | None:
        """A token that was sealed; None once its key has been destroyed."""
        token = await self._open_own(shop, TOKENS, sealed)
        return None if token is None else token.decode()

    async def code_digest(self, shop: str, customer_id: str, request_id: str) -> bytes | None:
        """What the code of a request's discount is made of: for ever the same; None if the shop's key is destroyed.

        Request ids are a customer's own: another's of the same name is another digest. (Neither id has a slash.)
        """
        known = await self._key(shop, CODES)
        return None if known is None else hmac.digest(known.key, f"{customer_id}/{request_id}".encode(), "sha256")

    async def _open_own(self, shop: str, name: str, sealed: str) -> bytes | None:
        async with self._pool.connection() as connection:
            wrapped = await self._wrapped(connection, shop, [name])
        ciphers = [AESGCM(self._masters.unwrap(shop, *each)) for each in wrapped]
        return open_bytes(ciphers[0], shop, name, sealed) if ciphers else None

    async def destroy(self, shop: str, customer_id: str, asked_at: datetime) -> None:
        """Destroys the keys of a customer and of all who are the same person for ever, and the shop's unparsed bodies
        of until then. Twice is harmless.

        The shop's files of until then are let go too: those that wait to be brought in, and those that were made.
        """
        async with self._pool.connection() as connection, connection.transaction():
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(persons.LOCK, ([shop], [True]))
            await cursor.execute(DESTROY.encode(), ([shop], [customer_id]))
            gone: list[_Name] = await cursor.fetchall()
            for statement in _WHATEVER:
                await cursor.execute(statement, (shop, asked_at))
        for name in (*gone, (shop, DEAD_LETTERS)):
            self._keys.pop(name, None)

    async def destroy_shop(self, shop: str, asked_at: datetime) -> None:
        """Destroys every key that a shop had by then, and its endpoints. Who comes to it later gets a key of theirs."""
        async with self._pool.connection() as connection, connection.transaction():
            for statement in (*_WHATEVER, FORGET_OWN, DESTROY_SHOP):
                await connection.execute(statement, (shop, asked_at))
            for forget in (notices.FORGET, fulfilment.FORGET):
                await connection.execute(forget, {"shop": shop, "asked": asked_at})
        for known in [key for key in self._keys if key[0] == shop]:
            del self._keys[known]

    async def _seal(self, shop: str, customer_id: str, plain: bytes) -> str | None:
        known = await self._key(shop, customer_id)
        return None if known is None else seal_bytes(known.cipher, shop, customer_id, plain)

    async def _key(self, shop: str, customer_id: str) -> _Known | None:
        """The key to seal or hash with, made on first use; None if it has been destroyed."""
        name = (shop, customer_id)
        return self._remembers(name) or (await self._ask([name]))[name]

    def _remembers(self, name: _Name) -> _Known | None:
        known = self._keys.get(name)
        return known if known is not None and known.until > self._clock() else None

    async def _ask(self, names: Sequence[_Name]) -> dict[_Name, _Known | None]:
        """Keys from the table; what is asked for while it is being read is read together, next."""
        answer = await self._rounds.ask(names)
        found: dict[_Name, _Known | None] = {}
        for name in names:
            known = answer[name]
            if isinstance(known, VaultError):
                raise known
            found[name] = known
        return found

    async def _read(
        self, connection: AsyncConnection[Any], names: Collection[_Name]
    ) -> dict[_Name, _Known | VaultError | None]:
        stored = await self._stored_or_made(connection, sorted(names))
        return {name: self._remember(name, stored[name]) for name in names}

    def _remember(self, name: _Name, wrapped: bytes | None) -> _Known | VaultError | None:
        if wrapped is None:
            self._keys.pop(name, None)
            return None
        try:
            key = self._masters.unwrap(*name, wrapped)
        except VaultError as error:  # told to those who asked for this one
            return error
        known = self._keys[name] = _Known(self._clock() + self._seconds, key, AESGCM(key))
        self._keys.move_to_end(name)
        if len(self._keys) > self._remembered:
            self._keys.popitem(last=False)
        return known

    async def _stored_or_made(self, connection: AsyncConnection[Any], names: list[_Name]) -> dict[_Name, bytes | None]:
        """Stored keys, made where there are none; of one that two make at once, what was stored.

        `names` are in order, so that no two processes wait for each other. A key is made for each, needed or not: that
        takes a tenth of the time of asking first who has one.
        """
        stored: dict[_Name, bytes | None] = {}
        cursor = connection.cursor(row_factory=tuple_row, binary=True)
        for _ in range(3):  # somebody else may make one meanwhile, or let it go with its shop's bodies
            missing = [name for name in names if name not in stored]
            if not missing:
                break
            made = [self._masters.wrap(*name, AESGCM.generate_key(256)) for name in missing]
            columns = (*zip(*missing, strict=True), [base64.b64encode(wrapped).decode() for wrapped in made])
            await cursor.execute(_FIND_OR_ADD, [array(column) for column in columns])
            stored |= {(shop, ident): wrapped for shop, ident, wrapped in await cursor.fetchall()}
        if len(stored) == len(names):
            return stored
        raise VaultError("a customer's key could not be made")

    async def _wrapped(
        self, connection: AsyncConnection[Any], shop: str, customer_ids: list[str]
    ) -> list[tuple[str, bytes]]:
        """The customers' wrapped keys, of those that are not destroyed."""
        cursor = connection.cursor(row_factory=tuple_row, binary=True)
        await cursor.execute(
            "SELECT customer_id, wrapped FROM customer_keys"
            " WHERE shop = %s AND customer_id = ANY(string_to_array(%s, ',')) AND wrapped IS NOT NULL",
            (shop, ",".join(customer_ids)),
        )
        return await cursor.fetchall()
