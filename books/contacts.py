"""What a webhook told of how somebody may be reached, put into its payload so that nobody can read it there."""

from books.vault import Vault
from events import keys
from events.envelopes import Opened
from events.webhook_topics import TOPICS, Kind


async def seal(vault: Vault, shop: str, topic: str, opened: Opened) -> None:
    """Adds to the payload the sealed `contact`, and `address`, the keyed id of the e-mail.

    A customer's is sealed with their own key; so is an order's with its customer's, or without one with that of
    whoever is known by the address alone.
    """
    kind, told = TOPICS[topic].kind, opened.contact
    if kind not in (Kind.SNAPSHOT, Kind.CUSTOMER):
        return
    payload = opened.payload
    if told is None or told.email is None:
        if kind is Kind.CUSTOMER:
            payload["contact"] = None
        return
    payload["address"] = await vault.address(shop, told.email)
    owner: str | None = keys.split(opened.key)[1]
    if kind is Kind.SNAPSHOT:
        customer_id = (payload.get("customer") or {}).get("id")
        owner = payload["address"] if customer_id is None else keys.resource_id(customer_id)
    payload["contact"] = owner and await vault.seal(shop, owner, told)
