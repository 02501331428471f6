"""Envelopes: a Shopify webhook as it stands on `shopify.*`, by our front door or by any other producer."""

from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from events import codec, instants, keys, payloads
from events.errors import BadEvent

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


ENVELOPE = TypeAdapter(Envelope)
FIELDS = tuple(Envelope.__annotations__)


class Webhook(NamedTuple):
    """An envelope that has been read: instants in microseconds, the payload minimised."""

    topic: str
    shop: str
    webhook_id: str
    triggered_at: int
    received_at: int
    payload: dict[str, Any]

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


def read(data: bytes | None, timestamp: int | None = None) -> Webhook:
    """The webhook in a message's value; BadEvent if it is not an envelope of a topic we take.

    `timestamp` is the record's (milliseconds), beyond which no `received_at` is believed; None for what stands in the
    raw history, where the sink has seen to it.
    """
    if data is None:
        raise BadEvent("empty", "a message without a value")
    try:
        envelope = ENVELOPE.validate_json(data)
    except ValidationError as error:
        raise BadEvent("bad_envelope", explain(error)) from None
    topic = envelope["topic"]
    try:
        payload = payloads.minimise(topic, envelope["payload"])
    except payloads.InexactNumber:
        payload = payloads.minimise(topic, codec.loads_exact(data)["payload"])
    received_at = instants.parse(envelope["received_at"])
    return Webhook(
        topic,
        keys.shop_domain(envelope["shop"]),
        envelope["webhook_id"],
        instants.parse(envelope["triggered_at"]),
        received_at if timestamp is None else instants.believed(received_at, timestamp),
        payload,
    )
