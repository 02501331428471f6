"""How somebody may be reached: sealed into payloads, and opened where somebody may see it.

Address and consent are sealed apart, for each is joined by itself, and whoever joins them cannot read them.
"""

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection

from books.vault import Vault
from events import keys
from events.envelopes import Opened
from events.payloads import Contact
from events.webhook_topics import TELLING, TOPICS, Kind


async def seal(vault: Vault, shop: str, topic: str, opened: Opened) -> None:
    """Puts into the payload what it told: `contact` and `consent`, sealed, and `address`, the keyed id of the e-mail.

    A customer's are sealed with their own key; so are an order's with its customer's, or without one with that of
    whoever is known by the address alone. A `contact` of null says that there is no address any more.
    """
    kind, told, payload = TOPICS[topic].kind, opened.told, opened.payload
    if kind not in TELLING:
        return
    if told.email is not None:
        payload["address"] = await vault.address(shop, told.email)
    owner: str | None = keys.split(opened.key)[1]
    if kind is Kind.SNAPSHOT:
        customer_id = (payload.get("customer") or {}).get("id")
        owner = payload.get("address") if customer_id is None else keys.resource_id(customer_id)
    if told.email is not None or told.removed:
        payload["contact"] = told.email and owner and await vault.seal(shop, owner, Contact(told.email, None))
    if told.consent is not None:
        payload["consent"] = owner and await vault.seal(shop, owner, Contact(None, told.consent))
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
