"""Envelopes: a Shopify webhook as it stands on `shopify.*`, by our front door or by any other producer."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Struct
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from events import codec, instants, keys, payloads, plain, webhook_topics
from events.errors import BadEvent
from events.plain import Plain
from events.webhook_topics import Kind

Rfc3339 = Annotated[
    str,
    Field(
        description="RFC 3339, with its UTC offset",
        json_schema_extra={"format": "date-time", "examples": ["2026-11-21T09:30:00Z"]},
    ),
]


class Envelope(TypedDict):
    """One delivery of one Shopify webhook."""

    topic: Annotated[str, Field(pattern=r"^[!-~]{0,64}$", description="Shopify's topic", examples=["orders/paid"])]
    shop: Annotated[str, Field(description="the shop's *.myshopify.com domain, lowercase")]
    webhook_id: Annotated[str, Field(pattern=r"^[!-~]{1,128}$", description="X-Shopify-Webhook-Id: one delivery")]
    event_id: Annotated[str | None, Field(description="X-Shopify-Event-Id: one merchant action; never a key")]
    api_version: Annotated[str | None, Field(description="X-Shopify-API-Version")]
    triggered_at: Rfc3339
    received_at: Rfc3339
    payload: Annotated[dict[str, Any], Field(description="Shopify's payload; only the fields we use are read")]


_PLAIN_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")

ENVELOPE = TypeAdapter(Envelope)
FIELDS = tuple(Envelope.__annotations__)


class Webhook(Struct, frozen=True):
    """An envelope that has been read: instants in microseconds, the payload minimised."""

    topic: str
    shop: str
    webhook_id: str
    triggered_at: int
    received_at: int
    payload: dict[str, Any]

    @property
    def kind(self) -> Kind:
        """What it says."""
        return webhook_topics.TOPICS[self.topic].kind

    @property
    def event_time(self) -> int:
        """When it happened, as far as the sender's clock can be believed (microseconds)."""
        return instants.event_time(self.triggered_at, self.received_at)


def explain(error: ValidationError) -> str:
    """A validation error in one line, without the values: they may be personal."""
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
        for each in error.errors(include_input=False, include_url=False, include_context=False)[:3]
    )


class Opened(NamedTuple):
    """A webhook's body that has been read: minimised, its Kafka key, and what it told of a contact, in clear.

    Nothing stands in it yet under the names of webhook_topics.OURS: books/contacts.py puts it there. Of a customer
    known by the address alone it finds the key, too (None until then).
    """

    payload: dict[str, Any]
    key: str | None
    told: payloads.Told


class Personal(NamedTuple):
    """What a webhook told of somebody, and who that is.

    `key` as of Opened; `customer_id` is with whose key it is sealed: None of whoever is known by the address alone.
    """

    topic: str
    key: str | None
    customer_id: str | None
    told: payloads.Told


def personal(topic: str, found: Opened) -> Personal:
    """What is to be sealed of a webhook: a customer's own with their key, an order's with its customer's."""
    told, customer_id = found.told, None
    kind = webhook_topics.TOPICS[topic].kind
    if kind in webhook_topics.TELLING and (told.email is not None or told.consent is not None):
        if kind is not Kind.SNAPSHOT and found.key is not None:
            customer_id = keys.split(found.key)[1]
        elif (named := (found.payload.get("customer") or {}).get("id")) is not None:
            customer_id = keys.resource_id(named)
    return Personal(topic, found.key, customer_id, told)


def of_body(topic: str, shop: str, body: bytes, *, page: bool = True) -> Opened:
    """A body as Shopify sent it; `page` as in payloads.check. BadEvent, UnusedTopic as `envelope`."""
    try:
        payload = codec.loads(body)
    except BadEvent:
        payload = codec.loads_exact(body)  # it also takes half a surrogate pair, in a field that we drop
    small = checked(topic, shop, payload, lambda: codec.loads_exact(body), page=page)
    return opened(topic, shop, small, payload)


def opened(topic: str, shop: str, small: dict[str, Any], payload: dict[str, Any]) -> Opened:
    """What a payload comes to, `small` being its minimised form; BadEvent where nothing says whose it is."""
    for name in webhook_topics.OURS:
        small.pop(name, None)
    told = payloads.told_of(topic, payload)
    unnamed = (
        webhook_topics.TOPICS[topic].kind in webhook_topics.BY_ADDRESS and payloads.resource_of(topic, small) is None
    )
    return Opened(small, None if unnamed and told.email is not None else payloads.key_of(topic, shop, small), told)


def checked(
    topic: str, shop: str | None, payload: Any, exact: Callable[[], Any], *, page: bool = True
) -> dict[str, Any]:
    """The payload minimised, if it has its topic's shape and is of the shop; `exact` reads it anew, decimals and all.

    Raises UnusedTopic for a topic that we have no use for, BadEvent for what cannot be used.
    """
    try:
        small = payloads.minimise(topic, payload)
    except payloads.InexactNumber:
        small = payloads.minimise(topic, exact())
    payloads.check(topic, shop, payload, page=page)
    return small


def envelope(data: bytes | None, stream: str, timestamp: int | None = None) -> Envelope:
    """The envelope in a message of the Kafka topic `stream`, its payload minimised: whoever reads one reads it here.

    `timestamp` is the record's (milliseconds), beyond which no `received_at` is believed; None for what stands in the
    raw history, where the sink has seen to it. Raises UnusedTopic for a topic that we have no use for, BadEvent for
    what is not an envelope that belongs there.
    """
    found = _envelope(data, stream)
    if timestamp is not None:
        said = instants.parse(found["received_at"])
        if (believed := instants.believed(said, timestamp)) != said:
            found["received_at"] = instants.text(believed)
    return found


def _envelope(data: bytes | None, stream: str) -> Envelope:
    if data is not None and (text := _text(data)) is not None and plain.match(text, stream):
        found: Envelope = codec.loads(data)
        return found
    return _with_care(data, stream)


def kept(data: bytes | None, stream: str, timestamp: int) -> tuple[Plain, str]:
    """As `envelope`, as the raw history keeps it: what it says beside its payload, and its text.

    Our own envelopes are kept as they came; a third party's may hold what must not be stored. Instants stand beside the
    text in UTC with `Z`, whatever the envelope has: PostgreSQL reads that as Python does.
    """
    if data is not None and (text := _text(data)) is not None and (said := plain.look(text, stream)) is not None:
        at = instants.parse(said.received_at)
        if instants.believed(at, timestamp) == at:
            return said, text
    found = envelope(data, stream, timestamp)
    times = _instant(found["triggered_at"]), _instant(found["received_at"])
    said = Plain(found["topic"], found["shop"], found["webhook_id"], *times, found["payload"].get("financial_status"))
    return said, codec.dumps(found).decode()


def _instant(text: str) -> str:
    us = instants.parse(text)
    return text if _PLAIN_INSTANT.fullmatch(text) else instants.text(us)


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _with_care(data: bytes | None, stream: str) -> Envelope:
    """An envelope by whoever wrote it, minimised."""
    if data is None:
        raise BadEvent("empty", "a message without a value")
    try:
        found = ENVELOPE.validate_json(data)
    except ValidationError as error:
        raise BadEvent("bad_envelope", explain(error)) from None
    if webhook_topics.stream_of(found["topic"]) != stream:
        raise BadEvent("wrong_topic", f"{found['topic']} does not belong on {stream}")
    found["shop"] = shop = keys.shop_domain(found["shop"])
    found["payload"] = checked(found["topic"], shop, found["payload"], lambda: codec.loads_exact(data)["payload"])
    return found


def read(data: bytes | None, stream: str, timestamp: int | None = None) -> Webhook:
    """As `envelope`, with its instants read."""
    found = _envelope(data, stream)
    received_at = instants.parse(found["received_at"])
    if timestamp is not None:
        received_at = instants.believed(received_at, timestamp)
    triggered_at = instants.parse(found["triggered_at"])
    return Webhook(found["topic"], found["shop"], found["webhook_id"], triggered_at, received_at, found["payload"])
