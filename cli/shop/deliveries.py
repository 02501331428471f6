"""Webhooks as Shopify sends them: a payload, and the signed headers around it. Pure."""

import base64
import hmac
import json
from hashlib import sha256
from typing import Any, Final, NamedTuple

from events import instants

API_VERSION: Final = "2026-07"


class Outgoing(NamedTuple):
    """One delivery of one webhook. `triggered_at` in microseconds."""

    topic: str
    triggered_at: int
    webhook_id: str
    event_id: str
    payload: dict[str, Any]

    def body(self) -> bytes:
        """The payload as Shopify would send it: JSON in UTF-8, over which it is signed."""
        return json.dumps(self.payload, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secret: str, body: bytes) -> str:
    """X-Shopify-Hmac-Sha256: base64 of the HMAC-SHA256 of the raw body."""
    return base64.b64encode(hmac.digest(secret.encode(), body, sha256)).decode("ascii")


def headers(outgoing: Outgoing, shop: str, secret: str, body: bytes) -> dict[str, str]:
    """Shopify's headers, by the names and forms of its 2026-07 reference."""
    return {
        "Content-Type": "application/json",
        "X-Shopify-Topic": outgoing.topic,
        "X-Shopify-Hmac-Sha256": signature(secret, body),
        "X-Shopify-Shop-Domain": shop,
        "X-Shopify-API-Version": API_VERSION,
        "X-Shopify-Webhook-Id": outgoing.webhook_id,
        "X-Shopify-Event-Id": outgoing.event_id,
        "X-Shopify-Triggered-At": instants.text(outgoing.triggered_at),
    }


def money_bag(amount: str, currency: str) -> dict[str, Any]:
    """A `*_set`: the amount in the shop's currency, shown to the customer in the same."""
    money = {"amount": amount, "currency_code": currency}
    return {"shop_money": money, "presentment_money": dict(money)}
