"""Minimising Shopify's payloads: of each topic only the fields we use go on.

Names, addresses, phones and IPs are never copied. E-mail and consent come back apart from the payload, so that the
front door can seal them; anybody else lets them fall. Minimising twice changes nothing.
"""

from decimal import Decimal
from typing import Any, Final, NamedTuple

from events.errors import BadEvent

LEAF: Final = None
Spec = dict[str, Any]

_MONEY: Spec = {"shop_money": {"amount": LEAF, "currency_code": LEAF}}

_REFUND_LINE: Spec = {
    "quantity": LEAF,
    "subtotal": LEAF,
    "subtotal_set": _MONEY,
    "line_item": {"gift_card": LEAF, "price": LEAF, "quantity": LEAF, "total_discount": LEAF},
}

REFUND: Spec = {"id": LEAF, "order_id": LEAF, "created_at": LEAF, "refund_line_items": [_REFUND_LINE]}

_LINE: Spec = {
    "gift_card": LEAF,
    "price": LEAF,
    "price_set": _MONEY,
    "quantity": LEAF,
    "current_quantity": LEAF,
    "total_discount": LEAF,
    "discount_allocations": [{"amount": LEAF, "amount_set": _MONEY}],
}

ORDER: Spec = {
    "id": LEAF,
    "created_at": LEAF,
    "updated_at": LEAF,
    "processed_at": LEAF,
    "cancelled_at": LEAF,
    "financial_status": LEAF,
    "test": LEAF,
    "currency": LEAF,
    "customer": {"id": LEAF},
    "current_subtotal_price": LEAF,
    "current_subtotal_price_set": _MONEY,
    "subtotal_price": LEAF,
    "subtotal_price_set": _MONEY,
    "line_items": [_LINE],
    "refunds": [REFUND],
}

_CUSTOMER: Spec = {"id": LEAF, "created_at": LEAF, "updated_at": LEAF, "contact": LEAF}
_PRIVACY: Spec = {"customer": {"id": LEAF}, "data_request": {"id": LEAF}}

#: Every webhook topic we take, with the fields that go on and the family that handles it.
SPECS: dict[str, Spec] = {
    **dict.fromkeys(("orders/create", "orders/paid", "orders/updated", "orders/cancelled"), ORDER),
    "orders/edited": {"order_edit": {"id": LEAF, "order_id": LEAF, "created_at": LEAF}},
    "orders/delete": {"id": LEAF},
    "refunds/create": REFUND,
    "customers/create": _CUSTOMER,
    "customers/update": _CUSTOMER,
    "customers/delete": {"id": LEAF},
    "customers/merge": {
        "admin_graphql_api_customer_kept_id": LEAF,
        "admin_graphql_api_customer_deleted_id": LEAF,
        "admin_graphql_api_job_id": LEAF,
        "status": LEAF,
    },
    "customers/redact": _PRIVACY,
    "customers/data_request": _PRIVACY,
    "app/uninstalled": {"id": LEAF},
    "shop/redact": {"shop_id": LEAF},
}

#: How a sealed contact begins (runtime/vault.py).
SEALED = "v1."

#: No field we keep is longer; a longer one is not what its name says.
_MAX_LEAF = 4096


class InexactNumber(BadEvent):
    """A decimal number was read as a float: read the bytes again with `codec.loads_exact`."""

    def __init__(self, path: str) -> None:
        super().__init__("inexact_number", f"{path} is a float")


class Contact(NamedTuple):
    """A customer's e-mail, trimmed and lowercased, and whether marketing may be sent to it."""

    email: str | None
    consent: str


def _pick(spec: Any, value: Any, path: str) -> Any:
    if value is None:
        return None
    if spec is LEAF:
        if isinstance(value, Decimal):
            return str(value)
        if isinstance(value, float):
            raise InexactNumber(path)
        if isinstance(value, str) and len(value) <= _MAX_LEAF:
            return value
        if isinstance(value, int) and abs(value) < 1 << 63:
            return value
        raise BadEvent("wrong_type", f"{path} is a {type(value).__name__}")
    if isinstance(spec, list):
        if not isinstance(value, list):
            raise BadEvent("wrong_type", f"{path} is a {type(value).__name__}, not a list")
        return [_pick(spec[0], each, path) for each in value]
    if not isinstance(value, dict):
        raise BadEvent("wrong_type", f"{path} is a {type(value).__name__}, not an object")
    small = {}
    for name, inner in spec.items():
        if name in value:
            found = value[name]
            kind = found.__class__
            if inner is LEAF and (kind is bool or (kind is str and len(found) <= _MAX_LEAF)):
                small[name] = found
            else:
                small[name] = _pick(inner, found, f"{path}.{name}")
    return small


def minimise(topic: str, payload: Any) -> dict[str, Any]:
    """The payload with only the fields of its topic that we use, decimals as text.

    Raises BadEvent for an unknown topic or a payload not of its topic's structure, InexactNumber where a float
    stands for a decimal.
    """
    spec = SPECS.get(topic)
    if spec is None:
        raise BadEvent("unknown_topic", f"{topic[:64]!r} is not a topic we take")
    if not isinstance(payload, dict):
        raise BadEvent("wrong_type", f"the payload is a {type(payload).__name__}, not an object")
    small: dict[str, Any] = _pick(spec, payload, topic)
    contact = small.get("contact")
    if contact is not None and not str(contact).startswith(SEALED):
        del small["contact"]  # an address in clear, by another producer than our front door
    lines = small.get("line_items")
    if lines:
        small["line_items"] = [line for line in lines if line and line.get("gift_card")]
    return small


def contact_of(topic: str, payload: dict[str, Any]) -> Contact | None:
    """E-mail and consent as customers/create and customers/update tell them; None where there is no e-mail.

    Consent is `subscribed`, `pending`, `unsubscribed`, `not_subscribed` (or another of Shopify's states), from
    `email_marketing_consent`, or from `accepts_marketing` in older versions.
    """
    if topic not in ("customers/create", "customers/update"):
        return None
    email = payload.get("email")
    if not isinstance(email, str) or not email.strip() or len(email) > 320:
        return None
    state: Any = None
    marketing = payload.get("email_marketing_consent")
    if isinstance(marketing, dict):
        state = marketing.get("state")
    if not isinstance(state, str) or len(state) > 32:
        state = "subscribed" if payload.get("accepts_marketing") is True else "not_subscribed"
    return Contact(email.strip().lower(), state)


def resource_of(topic: str, payload: dict[str, Any]) -> Any:
    """The id a webhook is keyed by: the order's, or the customer's; None for a shop's own topics."""
    family = topic.partition("/")[0]
    if topic == "refunds/create":
        return payload.get("order_id")
    if topic == "orders/edited":
        return (payload.get("order_edit") or {}).get("order_id")
    if topic in ("customers/redact", "customers/data_request"):
        return (payload.get("customer") or {}).get("id")
    if topic == "customers/merge":
        gid = payload.get("admin_graphql_api_customer_kept_id")
        return gid.rpartition("/")[2] if isinstance(gid, str) else None
    return payload.get("id") if family in ("orders", "customers") else None
