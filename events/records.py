"""The records on LoyalNest's own topics, each a TypedDict with its description: the models of docs/topics.

Instants are RFC 3339 UTC, or microseconds where only our own worker reads them, amounts integer minor units of
`currency`, ids text. `read` checks a message against its model in one pass and gives back a plain dict.

Every value is bounded here, in length, in characters and in size: whatever is of its model can be stored, for it ends
in a column, an index or a key. events.fields has the bounds.
"""

import re
from functools import cache
from typing import Annotated, Any, Final, Literal, NotRequired, TypeVar

from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from events import account_records, codec, instants, plain
from events.envelopes import explain
from events.errors import BadEvent
from events.fields import (
    STRICT,
    Asker,
    Code,
    Count,
    Currency,
    CustomerId,
    Day,
    Instant,
    Int64,
    Name,
    Partition,
    Purpose,
    RequestId,
    Revision,
    Sealed,
    Shop,
    SourceId,
    Token,
    Uuid,
    Version,
    Zone,
    text,
)
from events.money import MAX_POINTS

Minor = Annotated[Int64, Field(description="minor units of `currency`")]
Fence = Annotated[
    Int64,
    Field(ge=0, description="the fencing token of the partition's owner: of two rows the one with the lower is stale"),
]
Digit = Annotated[int, Field(ge=1, le=5)]
Cause = Annotated[str, text(200), Field(examples=["order 4507894690", "rescore", "customers/create"])]

#: Of a dead letter's detail, so many signs are kept.
MAX_DETAIL = 1000


@with_config(STRICT)
class Redemption(TypedDict):
    """A redemption's absolute row: what was decided of the request, once, and what came of it. The highest revision
    holds.

    `refused`; `reserved`, as long as there is no code; `issued`, and so from the first if it is `forced`; `used` by an
    order; `returned`: its points were given back. Without a reward it is a deduction that was asked for, `taken` where
    it is neither refused nor returned: its name follows `checked/`, and `purpose` and `source` say what for and by whom
    it was asked for.
    """

    shop: Shop
    customer_id: CustomerId
    request_id: RequestId
    revision: Revision
    reward_id: Token | None
    cost: Annotated[int, Field(ge=1, le=MAX_POINTS, description="points")]
    forced: Annotated[bool, Field(description="it had happened already, and was only told of")]
    seq: Annotated[Count, Field(description="how many decisions the customer had with this one")]
    requested_at: Instant
    decided_at: Instant
    accepted: bool
    reason: Annotated[str | None, Field(max_length=64, description="why it was refused")]
    balance: Annotated[Int64, Field(description="points that could be spent before it")]
    status: Literal["refused", "reserved", "issued", "used", "returned", "taken"]
    points: Annotated[Int64, Field(le=0, description="what it takes from the account now: -cost, or 0")]
    returned_reason: Annotated[str | None, Field(max_length=64, description="why its points were given back")]
    attempt: Count | None
    code: Annotated[str | None, Field(max_length=64)]
    valid_until: Instant | None
    archived: Annotated[bool, Field(description="the decision was read from the history, and stands there")]
    purpose: NotRequired[Purpose]
    source: NotRequired[Asker]


@with_config(STRICT)
class PointsRecord(TypedDict):
    """What one source has posted in all to one customer's account. Never a delta: keep the highest revision.

    Its key is (shop, source, source_id, customer_id, via). An order's is `points.reversed` once something of what was
    earned has been taken back; an award is `points.adjusted`, a redemption `points.redeemed`: what they take is
    `reversed`. The balance counts earned - reversed, from `processed_at` on.
    """

    type: Literal["points.earned", "points.reversed", "points.adjusted", "points.redeemed"]
    shop: Shop
    customer_id: CustomerId
    source: Annotated[
        Literal["order", "award", "deduction", "redeem"],
        Field(description="what the points come from, or (an award below 0: a deduction) go for"),
    ]
    source_id: SourceId
    via: Annotated[CustomerId | None, Field(description="whose it was before they were merged; null: their own")]
    revision: Revision
    changed_at: Instant
    processed_at: Annotated[Instant, Field(description="the source's time: its points are filed under it")]
    earned: Annotated[int, Field(ge=0, le=MAX_POINTS)]
    reversed: Annotated[int, Field(ge=0, le=MAX_POINTS)]
    total: Annotated[int, Field(ge=-MAX_POINTS, le=MAX_POINTS, description="earned - reversed")]


@with_config(STRICT)
class PointsExpired(TypedDict):
    """The points of a customer's that ran out on one day of the shop's zone. Absolute: keep the last told.

    Its key is (shop, customer_id, day). What becomes known later may change it, to 0 as well; where the shop changes
    its zone, every day is told anew. Up to a customer's `now` their days sum to the `expired` of their row.
    """

    type: Literal["points.expired"]
    shop: Shop
    customer_id: CustomerId
    day: Day
    zone: Annotated[Zone, Field(description="the IANA time zone whose day it is")]
    at: Annotated[Instant, Field(description="when that day begins")]
    points: Annotated[Int64, Field(ge=0)]
    fence: Fence


@with_config(STRICT)
class Standing(TypedDict):
    """Digits and segment under one version of cut points; no digits for a Prospect."""

    r: Digit | None
    f: Digit | None
    m: Digit | None
    score: Annotated[str | None, Field(pattern="^[1-5]\\.[0-9]$", examples=["4.3"])]
    segment_id: Annotated[str, Field(pattern="^seg_[0-5]{3}$")]
    segment: Name
    cut_points_version: Version


@with_config(STRICT)
class CustomerRow(TypedDict):
    """A customer's absolute row as of `now`. Compacted by customer. Each change of standing has a row of its own."""

    shop: Shop
    customer_id: CustomerId
    now: Instant
    currency: Currency
    balance: Annotated[Int64, Field(description="points that can be spent; below 0, points that are owed")]
    pending: Annotated[Int64, Field(description="points that cannot be spent yet")]
    earned: Annotated[Int64, Field(description="points that were ever earned, spent since or not")]
    spent: Annotated[Int64, Field(description="points that were taken: redeemed, or by an award below 0")]
    expired: Annotated[Int64, Field(description="points that have run out")]
    expiring: Annotated[Int64, Field(description="points that run out at `expires_at`, should nothing happen before")]
    expires_at: Annotated[Instant | None, Field(description="when the next points run out; null: none do")]
    recency_days: Count | None
    frequency: Count
    monetary: Minor
    last_order_at: Instant | None
    standing: Standing
    contact: Annotated[Sealed | None, Field(description="the e-mail, sealed with the customer's own key")]
    contact_at: Annotated[
        Instant | None, Field(description="when it was told, or, without one, when it was taken away")
    ]
    consent: Annotated[Sealed | None, Field(description="whether marketing may be sent to it, sealed likewise")]
    consent_at: Annotated[Instant | None, Field(description="how new the consent is; null where nobody knows")]
    consent_by_order: Annotated[bool, Field(description="it is what the buyer of an order agreed to")]
    deleted: bool
    redacted: bool
    merged_into: Annotated[
        CustomerId | None, Field(description="whom all that is theirs went to; such a row counts nowhere")
    ]
    fence: Fence
    cause: Annotated[Cause, Field(description="what brought this row about")]


@with_config(STRICT)
class RfmUpdated(TypedDict):
    """A customer's digits, segment or cut-point version changed at `at`, and what caused it.

    Told once the change happens. One that was told just before a crash may not come about again: the row holds.
    """

    type: Literal["rfm.updated"]
    id: Annotated[Uuid, Field(description="uuid5 of the change")]
    shop: Shop
    customer_id: CustomerId
    at: Instant
    currency: Currency
    recency_days: Count | None
    frequency: Count
    monetary: Minor
    previous: Standing | None
    current: Standing
    cause: Cause


@with_config(STRICT)
class WindowRow(TypedDict):
    """A window's partial row of one partition: absolute. The window's row is the sum over partitions.

    A shop that changes its time zone gets its days anew under the new one: only those of the zone in force count.
    `late` rows carry no numbers: the window was closed when something changed it, and the batch rebuilds it.
    """

    shop: Shop
    size: Literal["minute", "hour", "day"]
    start: Instant
    zone: Annotated[Zone, Field(description="the IANA time zone whose day it is; UTC for minutes and hours")]
    partition: Partition
    late: bool
    currency: Currency
    orders: Int64
    net: Minor
    points_earned: Int64
    points_reversed: Int64
    customers: Int64
    guest_orders: Int64
    guest_net: Minor
    points_awarded: Annotated[Int64, Field(description="given by hand less deducted by hand")]
    points_redeemed: Annotated[Int64, Field(description="that redemptions took and that were not returned")]
    fence: Fence


@with_config(STRICT)
class Rescore(TypedDict):
    """What a batch run asks of a slice of a shop's customers, in the partition where it stands: score yourselves.

    Each one's `now` moves on to `as_of` at least; whoever is named later begins there too. `slice` (from 0) of
    `slices`: crc32 of the customer's key, modulo `slices`.
    """

    shop: Shop
    as_of: Instant
    version: Version
    slice: Annotated[int, Field(ge=0)]
    slices: Annotated[int, Field(ge=1)]


#: A dead letter carries the message up to this size; a longer one stays in its topic alone.
MAX_LETTER: Final = 1 << 20


@with_config(STRICT)
class DeadLetter(TypedDict):
    """A message that could not be used, why, and where it came from.

    `value` is the message as text (an envelope is minimised first). Bytes that could hold anybody's data unseen
    are in `sealed` instead, under the shop's own key.
    """

    id: Uuid
    at: Instant
    shop: Annotated[str | None, Field(max_length=255)]
    source: Annotated[str, text(255), Field(description="a Kafka topic, or `webhook` for the front door")]
    partition: Partition | None
    offset: Int64 | None
    key: Annotated[str | None, Field(max_length=1024)]
    error: Annotated[Code, Field(description="a stable code", examples=["unknown_currency"])]
    detail: Annotated[str, Field(max_length=MAX_DETAIL)]
    value: str | None
    sealed: Sealed | None


REDEMPTION = TypeAdapter(Redemption)
#: What stands on loyalnest.points.
PointsTold = PointsRecord | PointsExpired
POINTS_RECORD: TypeAdapter[PointsTold] = TypeAdapter(Annotated[PointsTold, Field(discriminator="type")])
POSTED_RECORD = TypeAdapter(PointsRecord)
CUSTOMER_ROW = TypeAdapter(CustomerRow)
RFM_UPDATED = TypeAdapter(RfmUpdated)
WINDOW_ROW = TypeAdapter(WindowRow)
RESCORE = TypeAdapter(Rescore)
DEAD_LETTER = TypeAdapter(DeadLetter)

T = TypeVar("T")


@cache
def _forms() -> dict[TypeAdapter[Any], re.Pattern[str]]:
    """The plain forms (events/plain.py) of the records that there are most of, by the adapter that reads them."""
    models: dict[TypeAdapter[Any], TypeAdapter[Any]]
    models = {
        account_records.ACCOUNT_RECORD: account_records.ORDER_FACT,
        POINTS_RECORD: POSTED_RECORD,
        CUSTOMER_ROW: CUSTOMER_ROW,
    }
    return {adapter: plain.of_schema(schema(model)) for adapter, model in models.items()}


def _matches(form: re.Pattern[str], data: bytes) -> bool:
    try:
        return form.fullmatch(data.decode()) is not None
    except UnicodeDecodeError:
        return False


def read(adapter: TypeAdapter[T], data: bytes | None) -> T:
    """The record in a message's value; BadEvent if it is not of the model."""
    if data is None:
        raise BadEvent("empty", "a message without a value")
    form = _forms().get(adapter)
    if form is not None and _matches(form, data):
        found: T = codec.loads(data)
        return found
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        raise BadEvent("bad_record", explain(error)) from None


def read_rescore(data: bytes | None, timestamp: int) -> Rescore:
    """As `read`. An `as_of` after the record's own timestamp (milliseconds) would move a customer's `now` for ever."""
    request = read(RESCORE, data)
    if instants.parse(request["as_of"]) > instants.of_kafka(timestamp) + instants.CLOCK_SKEW:
        raise BadEvent("future_time", "a rescore as of a time that has yet to come")
    return request


def schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a record."""
    return adapter.json_schema()
