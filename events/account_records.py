"""The records of loyalnest.account-facts: facts of orders, ways between customers, what is asked of an account,
and what was decided. Models as those of events/records.py, whose `read` checks them.
"""

from typing import Annotated, Literal, NotRequired

from pydantic import Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from events import names
from events.fields import (
    MAX_HOPS,
    STRICT,
    Asker,
    Count,
    Currency,
    CustomerId,
    Int64,
    Micros,
    Purpose,
    Rank,
    RequestId,
    ResourceId,
    Revision,
    Sealed,
    Shop,
    Token,
    text,
)
from events.money import MAX_MINOR, MAX_POINTS


@with_config(STRICT)
class OrderContact(TypedDict):
    """An address that an order told of this customer, sealed with the customer's own key."""

    sealed: Sealed
    placed_at: Annotated[Micros, Field(description="when the order was placed")]
    updated_at: Annotated[Micros, Field(description="of the snapshot that told it")]


@with_config(STRICT)
class OrderConsent(TypedDict):
    """That the order's buyer agreed to marketing, sealed likewise."""

    sealed: Sealed
    placed_at: Annotated[Micros, Field(description="when the order was placed")]


@with_config(STRICT)
class OrderFact(TypedDict):
    """What one order now contributes to one customer: absolute. A higher revision replaces a lower one.

    Somebody the order was once attributed to, and no longer is, gets it with nothing counted. An order without a
    customer goes to one of the shop's guest keys (`guest-07`).
    """

    type: Literal["order.fact"]
    shop: Shop
    order_id: ResourceId
    customer_id: CustomerId
    revision: Annotated[Revision, Field(description="sorts by code point; a function of the order's state")]
    now: Annotated[Micros, Field(description="the greatest event time of the order's webhooks")]
    processed_at: Micros
    homes: Annotated[list[Micros], Field(description="every processed_at the order ever had")]
    currency: Currency
    counted: bool
    paid: Annotated[bool, Field(description="was paid once, so that it earned points, given back or not")]
    net: Annotated[int, Field(ge=0, le=MAX_MINOR, description="minor units of `currency`")]
    gross: Annotated[
        int, Field(ge=0, le=MAX_MINOR, description="minor units: net before refunds, cancellation or deletion")
    ]
    codes: NotRequired[
        Annotated[
            list[Annotated[str, text(64)]],
            Field(max_length=20, description="the discount codes on it; may change without the revision"),
        ]
    ]
    addresses: NotRequired[
        Annotated[
            list[CustomerId],
            Field(
                max_length=100,
                description="the addresses that the customer was seen with; may grow without the revision",
            ),
        ]
    ]
    contact: NotRequired[Annotated[OrderContact, Field(description="may grow without the revision")]]
    consent: NotRequired[Annotated[OrderConsent, Field(description="may grow without the revision")]]


@with_config(STRICT)
class CustomerLink(TypedDict):
    """`customer_id` is `into` from now on: by a merge, or because an address is theirs. The greatest rank holds."""

    type: Literal["customer.link"]
    shop: Shop
    customer_id: CustomerId
    into: CustomerId
    rank: Rank
    now: Annotated[Micros, Field(description="the event time of what said so; 0 for a claim")]


#: A step of a way from one customer to another: [the link's rank, whom it leads to ("": nobody any more)].
Hop = Annotated[list[Annotated[str, Field(pattern="^[0-9a-z~-]{0,40}$")]], Field(min_length=2, max_length=2)]


@with_config(STRICT)
class CustomerForward(TypedDict):
    """What a merged customer has of one order, or only their `now`, to whom they are now, `customer_id`.

    `origin` is whose it was at first, `hops` the way from there. A later way replaces an earlier one, on one way the
    higher revision holds; `gone` takes back what came by an earlier way.
    """

    type: Literal["customer.forward"]
    shop: Shop
    customer_id: CustomerId
    origin: CustomerId
    hops: Annotated[list[Hop], Field(min_length=1, max_length=MAX_HOPS)]
    gone: bool
    now: Micros
    filed: NotRequired[
        Annotated[Micros, Field(description="the greatest event time that their account log had told of by then")]
    ]
    order_id: Annotated[
        str | None,
        Field(
            pattern=f"^([0-9]{{1,20}}|(award|redeem):{names.ASKED})$",
            description="an order's id, or whose points they are: an award's, or what a redemption took",
        ),
    ]
    debit: NotRequired[Annotated[bool, Field(description="points that were taken, not given")]]
    revision: Revision | None
    entries: Annotated[
        list[Annotated[list[Int64], Field(min_length=6, max_length=6)]],
        Field(
            description="at each home: [processed_at in microseconds, net, earned, reversed, counted, whether the"
            " order stands there]"
        ),
    ]


class _Asked(TypedDict):
    shop: Shop
    customer_id: CustomerId
    now: Annotated[Micros, Field(description="the event time of what asked for it")]


@with_config(STRICT)
class AccountAward(_Asked):
    """Points given (above 0) or taken (below 0) by somebody, or that this is taken back, for ever.

    Of two that bear one name the greater by (at, points, reason, source) stands, so that their order cannot matter.
    """

    type: Literal["account.award"]
    award_id: Token
    at: Annotated[Micros, Field(description="when they are given: they are filed under it")]
    points: Annotated[int, Field(ge=-MAX_POINTS, le=MAX_POINTS)]
    reason: Annotated[str, Field(max_length=64)]
    source: Annotated[str, Field(max_length=64)]
    counts_as_earned: bool
    voided_at: Annotated[Micros, Field(description="when it was taken back; 0: it was not")]


@with_config(STRICT)
class AccountRedeem(_Asked):
    """A reward is asked for; `forced`: it was given already, and is only told of. Without a reward, that points are
    taken if they are there."""

    type: Literal["account.redeem"]
    request_id: RequestId
    reward_id: Token | None
    cost: Annotated[int, Field(ge=1, le=MAX_POINTS, description="points")]
    forced: bool
    program: Annotated[
        Micros, Field(description="when the program was announced under which it was offered: whoever decides knows it")
    ]
    purpose: NotRequired[Purpose]
    source: NotRequired[Asker]


@with_config(STRICT)
class AccountClosed(_Asked):
    """The customer was deleted or is to be forgotten: nothing is given to them any more."""

    type: Literal["account.closed"]


@with_config(STRICT)
class AccountKept(_Asked):
    """The customer was kept by a merge of this rank: what they were merged into before it holds no longer."""

    type: Literal["account.kept"]
    rank: Rank


@with_config(STRICT)
class AccountCancel(_Asked):
    """A redemption, or a deduction that was asked for, is to be cancelled."""

    type: Literal["account.cancel"]
    request_id: RequestId
    reason: Annotated[str, Field(max_length=64)]


@with_config(STRICT)
class AccountFulfilment(_Asked):
    """What became of making a redemption's code. Of several the one of the greatest attempt holds."""

    type: Literal["account.fulfilment"]
    request_id: Token
    attempt: Annotated[int, Field(ge=0, le=2**31 - 1)]
    state: Literal["issued", "failed"]
    code: Annotated[str | None, Field(max_length=64)]
    valid_until: Micros | None
    reason: Annotated[str, Field(max_length=64)]


@with_config(STRICT)
class AccountDecision(_Asked):
    """What was decided of a request: kept for ever, and never decided anew."""

    type: Literal["account.decision"]
    request_id: RequestId
    reward_id: Token | None
    cost: Annotated[int, Field(ge=1, le=MAX_POINTS, description="points")]
    forced: bool
    seq: Annotated[Count, Field(description="how many decisions the customer had with this one")]
    decided_at: Micros
    requested_at: Micros
    accepted: bool
    reason: Annotated[str | None, Field(max_length=64, description="why not")]
    balance: Annotated[Int64, Field(description="points that could be spent before it")]
    purpose: NotRequired[Purpose]
    source: NotRequired[Asker]


@with_config(STRICT)
class AccountMode(TypedDict):
    """To a whole partition: from here on history is told, and nothing is decided (`replay`); or it was (`live`)."""

    type: Literal["account.mode"]
    mode: Literal["replay", "live"]


ORDER_FACT = TypeAdapter(OrderFact)
CUSTOMER_LINK = TypeAdapter(CustomerLink)
CUSTOMER_FORWARD = TypeAdapter(CustomerForward)
#: What is asked of an account: facts, requests, and what was decided of these.
Asked = AccountAward | AccountRedeem | AccountCancel | AccountFulfilment | AccountDecision
#: What stands on loyalnest.account-facts.
AccountRecord = OrderFact | CustomerLink | CustomerForward | AccountClosed | AccountKept | AccountMode | Asked
ACCOUNT_RECORD: TypeAdapter[AccountRecord] = TypeAdapter(Annotated[AccountRecord, Field(discriminator="type")])
ASKED: TypeAdapter[Asked] = TypeAdapter(Annotated[Asked, Field(discriminator="type")])
