"""The front door: a signed Shopify webhook becomes one durable message, or one durable dead letter.

Nothing personal goes on in clear. Of a payload only the fields we use are kept; e-mail and consent are sealed with
the customer's own key; a body that cannot be used is sealed with the shop's key, or, if it is too large, only
described. What the numbers, times and statuses in it are worth is the agents' business.

Shopify signs the body and no header. So a body must have the shape of the topic that the header names, and name no
other shop than the header (events/payloads.py: check). A topic that we have no use for is passed; so is a body that
is no JSON object, which Shopify never sends: the app's secret signs session tokens too. Neither is kept.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from uuid import uuid4

from api.webhooks.signatures import Body
from books import contacts
from books.vault import Vault
from events import codec, envelopes, instants, keys, letters, topics
from events.errors import BadEvent
from events.messages import Message
from events.webhook_topics import SHOPIFY, TOPICS, Kind
from runtime.logs import Sparing
from runtime.ports import Publisher

log = logging.getLogger(__name__)

#: How many deliveries are remembered as done. Shopify retries for hours; what is forgotten the agents notice.
DELIVERIES_REMEMBERED: Final = 100_000

#: Base64 makes a sealed body a third longer, and it must fit in a message of 12 MB (bytes).
SEALED_LIMIT: Final = 8 * 1024 * 1024

#: What Shopify's ids, topics and versions are made of. (A header could name a person, too.)
_PLAIN: Final = re.compile(r"[0-9A-Za-z._:/+=-]{1,128}")
_SPACES: Final = b" \t\r\n"


class Delivery(NamedTuple):
    """What Shopify's headers say of one delivery. They are not signed: only the body is."""

    topic: str
    shop: str | None
    webhook_id: str
    event_id: str | None
    api_version: str | None
    triggered_at: str | None
    received_at: int

    def envelope(self, payload: Any) -> dict[str, Any]:
        """The envelope of this payload, minimised and sealed or None, as it goes on the topic."""
        return {
            "topic": self.topic,
            "shop": self.shop,
            "webhook_id": self.webhook_id,
            "event_id": self.event_id,
            "api_version": self.api_version,
            "triggered_at": None,  # until it has been read
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
        headers.get("x-shopify-triggered-at") or None,
        received_at,
    )


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
        self._done: OrderedDict[tuple[str | None, str, str, bytes | str], None] = OrderedDict()
        self._log = Sparing(log)

    async def take(self, headers: Mapping[str, str], body: Body) -> tuple[str, str]:
        """Makes the delivery durable; (its topic, or `other`; accepted, duplicate, ignored, unusable or dead_letter).

        Raises PublishError, or the database's error, when it could not: Shopify must try again.
        """
        sent = delivery(headers, body, self._clock())
        if sent.topic not in SHOPIFY:
            self._log.warning("unused", "a webhook of a topic that we have no use for, from %s", sent.shop)
            return "other", "ignored"
        if body.raw is not None and not body.raw.lstrip(_SPACES).startswith(b"{"):
            self._log.warning("unusable", "a signed body that is no JSON object, as %s of %s", sent.topic, sent.shop)
            return sent.topic, "unusable"
        # By the body too: it alone is signed. Never by the event id: one action can send two updates.
        name = (sent.shop, sent.topic, sent.webhook_id, body.name)
        if name in self._done:
            self._done.move_to_end(name)
            return sent.topic, "duplicate"
        message, outcome = await self._message(sent, body)
        await self._publisher.publish((message,))
        self._done[name] = None
        if len(self._done) > self._remembered:
            self._done.popitem(last=False)
        return sent.topic, outcome

    async def _message(self, sent: Delivery, body: Body) -> tuple[Message, str]:
        clear: dict[str, Any] | None = None  # the envelope, once nothing in it is anybody's
        try:
            if body.raw is None:
                raise BadEvent("too_large", f"{body.size} bytes, sha256 {body.sha256}")
            opened = envelopes.of_body(sent.topic, sent.shop or "", body.raw)
            clear = sent.envelope(opened.payload)
            if sent.shop is None:
                raise BadEvent("bad_shop", "X-Shopify-Shop-Domain is not a *.myshopify.com domain")
            at = instants.parse(sent.triggered_at) if sent.triggered_at is not None else sent.received_at
            clear["triggered_at"] = instants.text(at)
            key = await self._privacy(sent, sent.shop, opened, body)
            return Message(TOPICS[sent.topic].stream, key, codec.dumps(clear)), "accepted"
        except BadEvent as error:
            return await self._dead_letter(sent, error, clear, body.raw), "dead_letter"

    async def _privacy(self, sent: Delivery, shop: str, opened: envelopes.Opened, body: Body) -> str:
        """Seals what is personal; destroys the keys of whom Shopify asks us to forget, and writes that down. The key.

        The sink destroys it too, for webhooks that came by Kafka. Here it happens first, so that nothing is readable
        while the sink is behind.
        """
        at = instants.to_datetime(sent.received_at)
        key = await contacts.take(self._vault, shop, sent.topic, opened, at)
        if TOPICS[sent.topic].kind in (Kind.REDACT, Kind.SHOP_REDACT):
            told = (sent.topic, shop, sent.webhook_id, body.sha256)
            log.warning("%s of %s destroyed keys: webhook %s, body's sha256 %s", *told)
        return key

    async def _dead_letter(
        self, sent: Delivery, error: BadEvent, clear: dict[str, Any] | None, raw: bytes | None
    ) -> Message:
        """What may be read is kept in clear; else the body is sealed, and only what the headers said is."""
        sealed = None
        if clear is None:
            if raw is not None and sent.shop is not None and len(raw) <= SEALED_LIMIT:
                sealed = await self._vault.seal_body(sent.shop, raw)
            elif raw is not None:
                error = BadEvent(error.reason, f"{error.detail}; {len(raw)} bytes, not kept")
            clear = sent.envelope(None)
        self._log.warning(error.reason, "dead letter from %s, %s: %s", sent.shop, sent.topic, error)
        key, value = sent.shop or "", codec.dumps(clear).decode()
        found = letters.letter(
            str(uuid4()), sent.received_at, letters.WEBHOOK, error, key=key, value=value, sealed=sealed
        )
        return Message(topics.DEAD_LETTERS, key, codec.dumps(found))
