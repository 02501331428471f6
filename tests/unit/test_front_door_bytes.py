"""What the front door writes, byte for byte: whoever makes it quicker changes nothing of it."""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from api.webhooks.front_door import FrontDoor
from api.webhooks.signatures import Body
from events import instants, keys
from events.messages import Message
from events.payloads import Contact
from tests.support import DATA, WellPublisher

SHOP = "golden.myshopify.com"
RECEIVED = instants.parse("2026-11-21T09:30:00.25Z")
WRITTEN = [json.loads(line) for line in (DATA / "shopify" / "envelopes.jsonl").read_text(encoding="utf-8").splitlines()]


class _Openly:
    """A vault that seals so that everybody can read it."""

    async def addresses(self, shop: str, emails: Mapping[int, str]) -> dict[int, str]:
        return {at: f"mail of {shop}: {email}" for at, email in emails.items()}

    async def sealer(self, shop: str, customer_ids: Collection[str]) -> "_Openly":
        return self

    def seal(self, customer_id: str, contact: Contact) -> str:
        return f"{customer_id}: {contact.email} {contact.consent}"


class _Kept(WellPublisher):
    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.messages += messages


@pytest.mark.parametrize("written", WRITTEN, ids=lambda written: written["file"])
def test_a_webhook_is_written_as_ever(written: dict[str, str]) -> None:
    raw = (DATA / "shopify" / written["file"]).read_bytes()
    headers = {
        "x-shopify-topic": written["topic"],
        "x-shopify-shop-domain": SHOP,
        "x-shopify-webhook-id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
        "x-shopify-event-id": "98880550-7158-44d4-b7cd-2c97c8a091b5",
        "x-shopify-api-version": "2026-07",
        "x-shopify-triggered-at": "2026-11-21T04:29:59.5-05:00",
    }
    publisher, vault = _Kept(), _Openly()
    openly: Any = vault
    door = FrontDoor(publisher, openly, lambda: RECEIVED)
    assert asyncio.run(door.take(headers, Body(raw, len(raw), (b"mac",)))) == (written["topic"], "accepted")
    [message] = publisher.messages
    assert message == Message(written["stream"], keys.join(SHOP, written["key"]), written["value"].encode())
