"""The front door: a signed Shopify webhook becomes one durable message, or one durable dead letter.

Nothing personal goes on in clear. Of a payload only the fields we use are kept; e-mail and consent are sealed with
the customer's own key; a body that cannot be minimised is sealed with the shop's key, or, if it is too large, only
described. What the numbers, times and statuses in it are worth is the agents' business.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from uuid import uuid4

from api.signatures import Body
from events import codec, instants, keys, payloads, topics
from events.errors import BadEvent
from runtime.ports import Message, Publisher
from runtime.vault import Vault

log = logging.getLogger(__name__)

#: How many deliveries are remembered as done. Shopify retries for hours; what is forgotten the agents notice.
DELIVERIES_REMEMBERED: Final = 100_000

#: Base64 makes a sealed body a third longer, and it must fit in a message of 12 MB (bytes).
SEALED_LIMIT: Final = 8 * 1024 * 1024

_PLAIN = re.compile(r"[!-~]{1,128}")
_PRIVACY = frozenset({"customers/redact", "customers/data_request", "shop/redact"})


class Delivery(NamedTuple):
    """What Shopify's headers say of one delivery. They are not signed: only the body is."""

    topic: str
    shop: str | None
    webhook_id: str
    event_id: str | None
    api_version: str | None
    triggered_at: str | None
    received_at: int

    @property
    def name(self) -> tuple[str | None, str, str]:
        """What makes two deliveries the same one. Never the event id: one action can send two updates."""
        return self.shop, self.topic, self.webhook_id

    def envelope(self, payload: Any) -> dict[str, Any]:
        return {
            "topic": self.topic,
            "shop": self.shop,
            "webhook_id": self.webhook_id,
            "event_id": self.event_id,
            "api_version": self.api_version,
            "triggered_at": self.triggered_at,
            "received_at": instants.text(self.received_at),
            "payload": payload,
        }


def _plain(text: str | None) -> str | None:
    return text if text is not None and _PLAIN.fullmatch(text) else None


def delivery(headers: Mapping[str, str], body: Body, received_at: int) -> Delivery:
    """The delivery that these headers (case-insensitive) tell of; what they leave out is made up for."""
    try:
        shop = keys.shop_domain(headers.get("x-shopify-shop-domain"))
    except BadEvent:
        shop = None
    return Delivery(
        _plain(headers.get("x-shopify-topic")) or "",
        shop,
        _plain(headers.get("x-shopify-webhook-id")) or body.sha256,
        _plain(headers.get("x-shopify-event-id")),
        _plain(headers.get("x-shopify-api-version")),
        (headers.get("x-shopify-triggered-at") or "")[:64] or None,
        received_at,
    )


def _read(topic: str, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """(payload, the same minimised). Exactly, where a number has decimals; the quick way where none has."""
    try:
        payload = codec.loads(body)
        return payload, payloads.minimise(topic, payload)
    except payloads.InexactNumber:
        pass
    except BadEvent as error:
        if error.reason != "bad_json":
            raise
    payload = codec.loads_exact(body)  # also takes half a surrogate pair, in a field that we drop
    return payload, payloads.minimise(topic, payload)


def _check_shop(sent: Delivery, payload: dict[str, Any]) -> None:
    """Headers are not signed, but a privacy body names its shop: nobody may have another shop erased with it."""
    named = payload.get("shop_domain")
    if sent.topic in _PRIVACY and isinstance(named, str) and named.strip().lower() != sent.shop:
        raise BadEvent("other_shop", "the body names another shop than the header")


def _key(sent: Delivery, small: dict[str, Any]) -> str:
    if sent.shop is None:
        raise BadEvent("bad_shop", "X-Shopify-Shop-Domain is not a *.myshopify.com domain")
    if topics.for_webhook(sent.topic) == topics.SHOPS:
        return sent.shop
    return keys.join(sent.shop, keys.resource_id(payloads.resource_of(sent.topic, small)))


def _written(envelope: dict[str, Any]) -> bytes:
    try:
        return codec.dumps(envelope)
    except TypeError:  # an integer beyond 64 bits, or half a surrogate pair
        raise BadEvent("bad_json", "a value that JSON cannot carry exactly") from None


class FrontDoor:
    """Takes deliveries whose signature is right. `clock` gives microseconds since the epoch."""

    def __init__(
        self,
        publisher: Publisher,
        vault: Vault,
        clock: Callable[[], int],
        remembered: int = DELIVERIES_REMEMBERED,
    ) -> None:
        self._publisher = publisher
        self._vault = vault
        self._clock = clock
        self._remembered = remembered
        self._done: OrderedDict[tuple[str | None, str, str], None] = OrderedDict()

    async def take(self, headers: Mapping[str, str], body: Body) -> tuple[str, str]:
        """Makes the delivery durable; (its topic, or `other`; accepted, duplicate or dead_letter).

        Raises PublishError, or the database's error, when it could not: Shopify must try again.
        """
        sent = delivery(headers, body, self._clock())
        label = sent.topic if sent.topic in payloads.SPECS else "other"
        if sent.name in self._done:
            self._done.move_to_end(sent.name)
            return label, "duplicate"
        message, outcome = await self._message(sent, body)
        await self._publisher.publish((message,))
        self._done[sent.name] = None
        if len(self._done) > self._remembered:
            self._done.popitem(last=False)
        return label, outcome

    async def _message(self, sent: Delivery, body: Body) -> tuple[Message, str]:
        if body.raw is None:
            found = BadEvent("too_large", f"{body.size} bytes, sha256 {body.sha256}")
            return await self._dead_letter(sent, found, None, None), "dead_letter"
        envelope = None
        try:
            payload, small = _read(sent.topic, body.raw)
            _written(envelope := sent.envelope(small))
            _check_shop(sent, payload)
            key = _key(sent, small)
            at = instants.parse(sent.triggered_at) if sent.triggered_at is not None else sent.received_at
            envelope["triggered_at"] = instants.text(at)
            await self._privacy(sent, key, payload, small)
            return Message(topics.for_webhook(sent.topic), key, _written(envelope)), "accepted"
        except BadEvent as error:
            return await self._dead_letter(sent, error, envelope, body.raw), "dead_letter"

    async def _privacy(self, sent: Delivery, key: str, payload: dict[str, Any], small: dict[str, Any]) -> None:
        """Seals what is personal; destroys the key of whom Shopify asks us to forget.

        The sink destroys it too, for webhooks that came by Kafka. Here it happens first, so that nothing is readable
        while the sink is behind.
        """
        shop, customer_id = keys.split(key)
        if sent.topic in ("customers/create", "customers/update"):
            contact = payloads.contact_of(sent.topic, payload)
            # Whatever the payload itself had under this name, it is not ours.
            small["contact"] = None if contact is None else await self._vault.seal(shop, customer_id, contact)
        elif sent.topic == "customers/redact":
            await self._vault.destroy(shop, customer_id, instants.to_datetime(sent.received_at))
        elif sent.topic == "shop/redact":
            await self._vault.destroy_shop(shop, instants.to_datetime(sent.received_at))

    async def _dead_letter(
        self, sent: Delivery, error: BadEvent, envelope: dict[str, Any] | None, raw: bytes | None
    ) -> Message:
        value, sealed, detail = None, None, error.detail
        # Who puts something else where an id belongs may have put an address there: not in clear.
        if envelope is not None and error.reason not in ("bad_json", "bad_id"):
            envelope["payload"].pop("contact", None)
            value = _written(envelope).decode()
        elif raw is not None and sent.shop is not None and len(raw) <= SEALED_LIMIT:
            sealed = await self._vault.seal_body(sent.shop, raw)
        elif raw is not None:
            detail = f"{detail}; {len(raw)} bytes, not kept"
        log.warning("dead letter from %s, %s: %s: %s", sent.shop, sent.topic, error.reason, detail)
        letter = {
            "id": str(uuid4()),
            "at": instants.text(sent.received_at),
            "shop": sent.shop,
            "source": "webhook",
            "partition": None,
            "offset": None,
            "key": sent.shop,
            "error": error.reason,
            "detail": detail,
            "value": value,
            "sealed": sealed,
        }
        return Message(topics.DEAD_LETTERS, sent.shop or "", codec.dumps(letter))
