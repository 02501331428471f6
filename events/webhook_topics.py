"""Every topic of what comes in, once: what it is, where it goes, what it is keyed by, what of it is kept.

A spec names the fields that go on, each with its type: whatever a leaf holds that is not of its type is never copied
in clear. `SHOPIFY` are Shopify's webhooks, `ASKED` what is asked of an account by our own API and commands; a topic
that is in neither we have no use for.
"""

import re
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, NamedTuple

from events import names, topics
from events.errors import UnusedTopic

Spec = dict[str, Any]


class Leaf(NamedTuple):
    """A field that is copied: text of a `form` that `matches`, an integer or a boolean where such may stand.

    A value of another type is a BadEvent of this `reason`; of a field that an order can do without (`spare`) it is left
    out instead, since nobody's order is worth losing for it. Decimal numbers become text.
    """

    form: str
    matches: Callable[[str], re.Match[str] | None]
    reason: str
    whole: bool = False
    boolean: bool = False
    decimal: bool = False
    spare: bool = False


class Spare(NamedTuple):
    """A list or an object that an order can do without: left out if it is none."""

    spec: Any


def _leaf(form: str, reason: str, **kinds: bool) -> Leaf:
    return Leaf(form, re.compile(form).fullmatch, reason, **kinds)


#: A Shopify id: a 64-bit integer, as a number or in digits.
ID: Final = _leaf(r"[0-9]{1,20}", "bad_id", whole=True)
GID: Final = _leaf(r"gid://shopify/[A-Za-z]{1,40}/[0-9]{1,20}", "bad_id")
#: RFC 3339; what instant it is, and whether it names its offset, whoever reads it finds out.
TIME: Final = _leaf(r"[0-9Tt:.Zz+ -]{1,40}", "bad_time")
#: A decimal amount, as text or as a number; what it is worth is `money`'s business.
AMOUNT: Final = _leaf(r"[0-9.eE+-]{1,40}", "bad_amount", whole=True, decimal=True)
COUNT: Final = _leaf(r"(?!)", "bad_quantity", whole=True)
FLAG: Final = _leaf(r"(?!)", "wrong_type", boolean=True)
#: A word of a short list of Shopify's: a status, a kind, a currency.
WORD: Final = _leaf(r"[A-Za-z][A-Za-z_]{0,39}", "wrong_type")
DOMAIN: Final = _leaf(r"[0-9A-Za-z.-]{1,100}", "other_shop")
#: How a sealed contact begins (books/vault.py); an address in clear, by another producer, is left out.
SEALED: Final = "v1."
_SEALED: Final = _leaf(re.escape(SEALED) + r"[0-9A-Za-z_=-]{1,4096}", "wrong_type", spare=True)
#: A customer known by their address alone (books/vault.py: address).
_ADDRESS: Final = _leaf(r"mail-[0-9a-f]{32}", "bad_id", spare=True)

# Kept because what the front door drops can never be replayed: taxes, adjustments and transactions, which say nothing
# where they cannot be read, and what no fold reads yet.
_ID: Final = ID._replace(spare=True)
_AMOUNT: Final = AMOUNT._replace(spare=True)
_FLAG: Final = FLAG._replace(spare=True)
_WORD: Final = WORD._replace(spare=True)
#: A merchant's own name for a thing (SKU, discount code, gateway, channel): one line, and never an address.
_NAME: Final = _leaf(r"[^@\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}", "wrong_type", spare=True)

#: What the front door puts into a payload: whatever else Shopify's has under these names is not ours.
OURS: Final[Spec] = {
    "address": _ADDRESS,
    "contact": _SEALED,
    "consent": _SEALED,
    "consent_at": TIME._replace(spare=True),
}

_MONEY: Spec = {"shop_money": {"amount": AMOUNT, "currency_code": WORD}}
_SPARE_MONEY: Spec = {"shop_money": Spare({"amount": _AMOUNT, "currency_code": _WORD})}

_REFUND_LINE: Spec = {
    "quantity": COUNT,
    "subtotal": AMOUNT,
    "subtotal_set": _MONEY,
    "total_tax": _AMOUNT,
    "total_tax_set": Spare(_SPARE_MONEY),
    "line_item": {"gift_card": FLAG, "price": AMOUNT, "quantity": COUNT, "total_discount": AMOUNT},
}

REFUND: Spec = {
    "id": ID,
    "order_id": ID,
    "created_at": TIME,
    "refund_line_items": [_REFUND_LINE],
    "order_adjustments": Spare([{"kind": _WORD, "reason": _NAME, "amount": _AMOUNT, "tax_amount": _AMOUNT}]),
    "transactions": Spare([{"kind": _WORD, "status": _WORD, "amount": _AMOUNT, "currency": _WORD, "gateway": _NAME}]),
}

_LINE: Spec = {
    "product_id": _ID,
    "variant_id": _ID,
    "sku": _NAME,
    "gift_card": FLAG,
    "price": AMOUNT,
    "price_set": _MONEY,
    "quantity": COUNT,
    "current_quantity": COUNT,
    "total_discount": AMOUNT,
    "discount_allocations": [{"amount": AMOUNT, "amount_set": _MONEY}],
    "tax_lines": Spare([{"price": _AMOUNT}]),
}

ORDER: Spec = {
    "id": ID,
    "created_at": TIME,
    "updated_at": TIME,
    "processed_at": TIME,
    "cancelled_at": TIME,
    "financial_status": WORD,
    "test": FLAG,
    "currency": WORD,
    "customer": {"id": ID},
    "current_subtotal_price": AMOUNT,
    "current_subtotal_price_set": _MONEY,
    "subtotal_price": AMOUNT,
    "subtotal_price_set": _MONEY,
    "current_total_price": _AMOUNT,
    "total_tax": _AMOUNT,
    "taxes_included": _FLAG,
    "source_name": _NAME,
    "discount_codes": Spare([{"code": _NAME}]),
    "line_items": [_LINE],
    "refunds": [REFUND],
    **OURS,
}

_CUSTOMER: Spec = {"id": ID, "created_at": TIME, "updated_at": TIME, **OURS}
_PRIVACY: Spec = {"shop_id": ID, "shop_domain": DOMAIN, "customer": {"id": ID}, "address": _ADDRESS}


class Kind(Enum):
    """What a webhook says."""

    SNAPSHOT = "a whole order"
    REFUND = "a refund"
    EDIT = "an order was edited; the snapshot that follows has the outcome"
    ORDER_GONE = "an order was deleted"
    CUSTOMER = "a whole customer"
    CUSTOMER_GONE = "a customer was deleted"
    CONSENT = "whether a customer may be written to by e-mail"
    SMS_CONSENT = "whether a customer may be written to by SMS"
    MERGE = "two customers were made one"
    REDACT = "a customer is to be forgotten"
    DATA_REQUEST = "a customer asks what is kept"
    UNINSTALLED = "the shop has left"
    SHOP_REDACT = "a shop is to be forgotten"
    AWARD = "points are given or taken, or that is taken back"
    REDEEM = "a reward is asked for, or that points are taken if they are there"
    CANCEL = "a redemption, or a deduction that was asked for, is to be cancelled"
    FULFILMENT = "what became of making a redemption's code"
    DECISION = "what was decided of a request"


#: What makes a customer known, beside being named in an order.
NAMING: Final = frozenset({Kind.CUSTOMER, Kind.CUSTOMER_GONE, Kind.CONSENT})

#: What of customers is only archived: it tells nobody anything yet.
ARCHIVED: Final = frozenset({Kind.SMS_CONSENT})

#: What may tell of an address or a consent.
TELLING: Final = frozenset({Kind.SNAPSHOT, Kind.CUSTOMER, Kind.CONSENT})

#: What of customers an address alone may name, where there is no id.
BY_ADDRESS: Final = frozenset({Kind.CUSTOMER, Kind.CONSENT, Kind.REDACT})


#: What changes a customer's account, and nothing else.
ACCOUNT: Final = frozenset({Kind.AWARD, Kind.REDEEM, Kind.CANCEL, Kind.FULFILMENT, Kind.DECISION})


class WebhookTopic(NamedTuple):
    """A topic: of Shopify's, or of what is asked of an account.

    `key` is the way to the id that the webhook is keyed by; none for a shop's own. `resource` is what its payload is,
    by Shopify's GIDs. `needs` must be there; `only`, if any, are the only fields that may hold anything.
    """

    stream: str
    kind: Kind
    fields: Spec
    key: tuple[str, ...] = ("id",)
    resource: str | None = None
    needs: tuple[str, ...] = ()
    only: frozenset[str] | None = None


_SNAPSHOT: Final = WebhookTopic(topics.ORDERS, Kind.SNAPSHOT, ORDER, resource="Order")
_WHOLE: Final = WebhookTopic(topics.CUSTOMERS, Kind.CUSTOMER, _CUSTOMER, resource="Customer")

SHOPIFY: Final[dict[str, WebhookTopic]] = {
    "orders/create": _SNAPSHOT,
    "orders/paid": _SNAPSHOT,
    "orders/updated": _SNAPSHOT,
    "orders/fulfilled": _SNAPSHOT,
    "orders/partially_fulfilled": _SNAPSHOT,
    "orders/cancelled": _SNAPSHOT._replace(needs=("cancelled_at",)),
    "orders/edited": WebhookTopic(
        topics.ORDERS,
        Kind.EDIT,
        {"order_edit": {"id": ID, "order_id": ID, "created_at": TIME}},
        key=("order_edit", "order_id"),
    ),
    "orders/delete": WebhookTopic(
        topics.ORDERS,
        Kind.ORDER_GONE,
        {"id": ID},
        resource="Order",
        only=frozenset({"id", "admin_graphql_api_id"}),
    ),
    "refunds/create": WebhookTopic(topics.ORDERS, Kind.REFUND, REFUND, key=("order_id",), resource="Refund"),
    "customers/create": _WHOLE,
    "customers/update": _WHOLE,
    "customers/delete": WebhookTopic(
        topics.CUSTOMERS,
        Kind.CUSTOMER_GONE,
        {"id": ID},
        resource="Customer",
        only=frozenset(
            {"id", "admin_graphql_api_id", "phone", "addresses", "tax_exemptions"}
            | {"email_marketing_consent", "sms_marketing_consent"}
        ),
    ),
    "customers_email_marketing_consent/update": WebhookTopic(
        topics.CUSTOMERS, Kind.CONSENT, {"customer_id": ID, **OURS}, key=("customer_id",)
    ),
    "customers_sms_marketing_consent/update": WebhookTopic(
        topics.CUSTOMERS, Kind.SMS_CONSENT, {"customer_id": ID}, key=("customer_id",)
    ),
    "customers/merge": WebhookTopic(
        topics.CUSTOMERS,
        Kind.MERGE,
        {
            "admin_graphql_api_customer_kept_id": GID,
            "admin_graphql_api_customer_deleted_id": GID,
            "admin_graphql_api_job_id": GID,
            "status": WORD,
        },
        key=("admin_graphql_api_customer_kept_id",),
    ),
    "customers/redact": WebhookTopic(
        topics.CUSTOMERS,
        Kind.REDACT,
        _PRIVACY,
        key=("customer", "id"),
        needs=("shop_domain",),
        only=frozenset({"shop_id", "shop_domain", "customer", "address", "orders_to_redact"}),
    ),
    "customers/data_request": WebhookTopic(
        topics.CUSTOMERS,
        Kind.DATA_REQUEST,
        {**_PRIVACY, "data_request": {"id": ID}},
        key=("customer", "id"),
        needs=("shop_domain",),
    ),
    "app/uninstalled": WebhookTopic(topics.SHOPS, Kind.UNINSTALLED, {"id": ID}, key=(), resource="Shop"),
    "shop/redact": WebhookTopic(
        topics.SHOPS,
        Kind.SHOP_REDACT,
        {"shop_id": ID, "shop_domain": DOMAIN},
        key=(),
        needs=("shop_id", "shop_domain"),
        only=frozenset({"shop_id", "shop_domain"}),
    ),
}

#: A customer: Shopify's id, or that of somebody known by an address alone.
_CUSTOMER_ID: Final = _leaf(r"[0-9]{1,20}|mail-[0-9a-f]{32}", "bad_id", whole=True)
#: A name that a client gives what it asks for, so that asking twice is asking once.
_TOKEN: Final = _leaf(names.NAME, "bad_id")
#: The name of a deduction that is asked for, and that of whatever was.
_CHECKED: Final = _leaf(names.CHECKED + names.NAME, "bad_id")
_REQUEST: Final = _leaf(names.ASKED, "bad_id")


def _asked(kind: Kind, fields: Spec, *needs: str) -> WebhookTopic:
    fields = {"customer_id": _CUSTOMER_ID, **fields}
    return WebhookTopic(topics.REQUESTS, kind, fields, key=("customer_id",), needs=("customer_id", *needs))


_REDEEM: Final[Spec] = {"request_id": _TOKEN, "reward_id": _TOKEN, "cost": COUNT, "program_at": TIME}

ASKED: Final[dict[str, WebhookTopic]] = {
    "account/award": _asked(
        Kind.AWARD,
        {
            "award_id": _TOKEN,
            "at": TIME,
            "points": COUNT,
            "reason": _NAME,
            "source": _NAME,
            "counts_as_earned": FLAG,
            "voided": FLAG,
        },
        *("award_id", "at", "points"),
    ),
    "account/redeem": _asked(Kind.REDEEM, _REDEEM, "request_id", "reward_id", "cost"),
    "account/redeem_forced": _asked(Kind.REDEEM, _REDEEM, "request_id", "reward_id", "cost"),
    "account/deduct": _asked(
        Kind.REDEEM,
        {"request_id": _CHECKED, "cost": COUNT, "purpose": _NAME, "source": _NAME},
        *("request_id", "cost", "source"),
    ),
    "account/cancel": _asked(Kind.CANCEL, {"request_id": _REQUEST, "reason": _NAME}, "request_id"),
    "account/fulfilment": _asked(
        Kind.FULFILMENT,
        {
            "request_id": _TOKEN,
            "attempt": COUNT,
            "state": WORD,
            "code": _NAME,
            "valid_until": TIME,
            "reason": _NAME,
        },
        *("request_id", "attempt", "state"),
    ),
    "account/decision": _asked(
        Kind.DECISION,
        {
            "request_id": _REQUEST,
            "seq": COUNT,
            "decided_at": TIME,
            "requested_at": TIME,
            "accepted": FLAG,
            "forced": FLAG,
            "reason": _NAME,
            "reward_id": _TOKEN,
            "cost": COUNT,
            "balance": COUNT,
            "purpose": _NAME,
            "source": _NAME,
        },
        *("request_id", "seq", "decided_at", "requested_at", "accepted", "cost", "balance"),
    ),
}

TOPICS: Final[dict[str, WebhookTopic]] = {**SHOPIFY, **ASKED}


def stream_of(topic: str) -> str:
    """The Kafka topic of a webhook topic (`orders/paid` -> `shopify.orders`); UnusedTopic for one we do not take."""
    found = TOPICS.get(topic)
    if found is None:
        raise UnusedTopic
    return found.stream
