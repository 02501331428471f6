"""The records on LoyalNest's own topics, each a TypedDict with its description: the models of docs/topics.

Instants are RFC 3339 UTC, amounts integer minor units of `currency`, ids text. `read` checks a message against its
model in one pass and gives back a plain dict.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from events.envelopes import Rfc3339, explain
from events.errors import BadEvent

Minor = Annotated[int, Field(description="minor units of `currency`")]
Digit = Annotated[int, Field(ge=1, le=5)]
_STRICT = ConfigDict(extra="forbid")


@with_config(_STRICT)
class OrderFact(TypedDict):
    """What one order now contributes to one customer: absolute. A higher revision replaces a lower one.

    Somebody the order was once attributed to, and no longer is, gets it with nothing counted. An order without a
    customer goes to one of the shop's guest keys (`guest-07`).
    """

    shop: str
    order_id: str
    customer_id: str
    revision: Annotated[str, Field(description="sorts by code point; a function of the order's state")]
    now: Annotated[Rfc3339, Field(description="the greatest event time of the order's webhooks")]
    changed_at: Annotated[Rfc3339, Field(description="when the state came about; a function of the revision")]
    processed_at: Rfc3339
    homes: Annotated[list[Rfc3339], Field(description="every processed_at the order ever had")]
    currency: str
    counted: bool
    paid: Annotated[bool, Field(description="was paid once, so that it earned points, given back or not")]
    net: Minor
    gross: Annotated[int, Field(description="minor units: net before refunds, cancellation or deletion")]


@with_config(_STRICT)
class PointsRecord(TypedDict):
    """What one order has posted in all to one customer's account. Never a delta: keep the highest revision.

    `points.reversed` once something of what was earned has been taken back; the balance counts earned - reversed,
    from the order's `processed_at` on.
    """

    type: Literal["points.earned", "points.reversed"]
    shop: str
    customer_id: str
    order_id: str
    revision: str
    changed_at: Rfc3339
    processed_at: Rfc3339
    earned: Annotated[int, Field(ge=0)]
    reversed: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(description="earned - reversed")]


@with_config(_STRICT)
class Standing(TypedDict):
    """Digits and segment under one version of cut points; no digits for a Prospect."""

    r: Digit | None
    f: Digit | None
    m: Digit | None
    score: Annotated[str | None, Field(examples=["4.3"])]
    segment_id: Annotated[str, Field(pattern="^seg_[0-5]{3}$")]
    segment: str
    cut_points_version: str


@with_config(_STRICT)
class CustomerRow(TypedDict):
    """A customer's absolute row as of `now`. Compacted by customer."""

    shop: str
    customer_id: str
    now: Rfc3339
    currency: str
    balance: Annotated[int, Field(description="points")]
    recency_days: int | None
    frequency: int
    monetary: Minor
    last_order_at: Rfc3339 | None
    standing: Standing
    contact: Annotated[str | None, Field(description="e-mail and consent, sealed with the customer's own key")]
    deleted: bool
    redacted: bool


@with_config(_STRICT)
class RfmUpdated(TypedDict):
    """A customer's digits, segment or cut-point version changed at `at`, and what caused it."""

    type: Literal["rfm.updated"]
    id: Annotated[str, Field(description="uuid5 of the change")]
    shop: str
    customer_id: str
    at: Rfc3339
    currency: str
    recency_days: int | None
    frequency: int
    monetary: Minor
    previous: Standing | None
    current: Standing
    cause: Annotated[str, Field(examples=["order 4507894690", "rescore", "customers/create"])]


@with_config(_STRICT)
class WindowRow(TypedDict):
    """A window's partial row of one partition: absolute. The window's row is the sum over partitions.

    `late` rows carry no numbers: the window was closed when an order changed it, and the batch rebuilds it.
    """

    shop: str
    size: Literal["minute", "hour", "day"]
    start: Rfc3339
    partition: int
    late: bool
    currency: str
    orders: int
    net: Minor
    points_earned: int
    points_reversed: int
    customers: int
    guest_orders: int
    guest_net: Minor


@with_config(_STRICT)
class Rescore(TypedDict):
    """The batch asks a customer to score themselves as of `as_of` with cut points `version`."""

    shop: str
    customer_id: str
    as_of: Rfc3339
    version: str


@with_config(_STRICT)
class DeadLetter(TypedDict):
    """A message that could not be used, why, and where it came from.

    `value` is the message as text (an envelope is minimised first). Bytes that could hold anybody's data unseen
    are in `sealed` instead, under the shop's own key.
    """

    id: str
    at: Rfc3339
    shop: str | None
    source: Annotated[str, Field(description="a Kafka topic, or `webhook` for the front door")]
    partition: int | None
    offset: int | None
    key: str | None
    error: Annotated[str, Field(description="a stable code", examples=["unknown_currency"])]
    detail: str
    value: str | None
    sealed: str | None


ORDER_FACT = TypeAdapter(OrderFact)
POINTS_RECORD = TypeAdapter(PointsRecord)
CUSTOMER_ROW = TypeAdapter(CustomerRow)
RFM_UPDATED = TypeAdapter(RfmUpdated)
WINDOW_ROW = TypeAdapter(WindowRow)
RESCORE = TypeAdapter(Rescore)
DEAD_LETTER = TypeAdapter(DeadLetter)

T = TypeVar("T")


def read(adapter: TypeAdapter[T], data: bytes | None) -> T:
    """The record in a message's value; BadEvent if it is not of the model."""
    if data is None:
        raise BadEvent("empty", "a message without a value")
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        raise BadEvent("bad_record", explain(error)) from None


def schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a record."""
    return adapter.json_schema()
