"""How somebody may be reached: sealed into payloads, and opened where somebody may see it.

Address and consent are sealed apart, for each is joined by itself, and whoever joins them cannot read them.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import tuple_row

from books.vault import Vault, VaultError
from events import keys
from events.envelopes import Opened
from events.payloads import Contact
from events.webhook_topics import TELLING, TOPICS, Kind


async def owner(vault: Vault, shop: str, topic: str, opened: Opened) -> str | None:
    """With whose key what a webhook told is sealed; None where it told nothing, or nobody is to have it.

    A customer's own is with theirs, an order's with its customer's, or without one with that of whoever is known by the
    address alone.
    """
    kind, told = TOPICS[topic].kind, opened.told
    if kind not in TELLING or (told.email is None and told.consent is None):
        return None
    if kind is not Kind.SNAPSHOT:
        return keys.split(opened.key)[1]
    customer_id = (opened.payload.get("customer") or {}).get("id")
    if customer_id is not None:
        return keys.resource_id(customer_id)
    return None if told.email is None else await vault.address(shop, told.email)


async def seal(vault: Vault, shop: str, topic: str, opened: Opened) -> None:
    """Puts into the payload what it told: `contact` and `consent`, sealed, and `address`, the keyed id of the e-mail.

    A `contact` of null says that there is no address any more.
    """
    if TOPICS[topic].kind not in TELLING:
        return
    told, payload = opened.told, opened.payload
    whose = await owner(vault, shop, topic, opened)
    if told.email is not None:
        payload["address"] = await vault.address(shop, told.email)
    if told.email is not None or told.removed:
        payload["contact"] = told.email and whose and await vault.seal(shop, whose, Contact(told.email, None))
    if told.consent is not None:
        payload["consent"] = whose and await vault.seal(shop, whose, Contact(None, told.consent))
        if told.consent_at is not None:
            payload["consent_at"] = told.consent_at


async def opened(
    vault: Vault,
    connection: AsyncConnection[Any],
    shop: str,
    sealed: Mapping[str, tuple[str | None, str | None]],
) -> dict[str, Contact]:
    """Address and consent of each customer from (contact, consent) as they are stored, read on the connection.

    A consent that was sealed with its address, as it once was, counts where no other was told.
    """
    several = {customer_id: [each for each in pair if each] for customer_id, pair in sealed.items()}
    found = await vault.open_many(connection, shop, {name: each for name, each in several.items() if each})
    joined = {}
    for customer_id, contacts in found.items():
        told = [each.consent for each in reversed(contacts) if each.consent is not None]
        email = next((each.email for each in contacts if each.email is not None), None)
        joined[customer_id] = Contact(email, told[0] if told else None)
    return joined


async def forget(vault: Vault, shop: str, customer_id: str, told: str | None, asked_at: datetime) -> None:
    """Destroys a customer's key, and that of whoever is known by their address alone, who is the same person.

    The address is the one that is told, and the one that is stored of the customer.
    """
    stored = await _stored(vault, shop, customer_id)
    await vault.destroy(shop, customer_id, asked_at)
    for email in filter(None, {told, stored}):
        address = await vault.address(shop, email)
        if address is not None:
            await vault.destroy(shop, address, asked_at)


async def _stored(vault: Vault, shop: str, customer_id: str) -> str | None:
    """The e-mail that is stored of a customer; None where nobody can read it: their key goes all the same."""
    async with vault.connection() as connection:
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute("SELECT contact FROM customers WHERE shop = %s AND customer_id = %s", (shop, customer_id))
        row = await cursor.fetchone()
        try:
            found = await opened(vault, connection, shop, {customer_id: (row[0] if row else None, None)})
        except VaultError:
            return None
    return found[customer_id].email if customer_id in found else None
