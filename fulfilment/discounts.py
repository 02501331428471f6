"""What is asked of a store's Admin API (GraphQL, books.fulfilment.API_VERSION), and what it answers. Pure functions.

https://shopify.dev/docs/api/admin-graphql/latest/mutations/discountCodeBasicCreate
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from events import instants
from events.programs import Reward

_BASIC: Final = """
mutation RewardCode($discount: DiscountCodeBasicInput!) {
  discountCodeBasicCreate(basicCodeDiscount: $discount) {
    codeDiscountNode { id codeDiscount { ... on DiscountCodeBasic { endsAt } } }
    userErrors { field code message }
  }
}
"""
_SHIPPING: Final = """
mutation RewardCode($discount: DiscountCodeFreeShippingInput!) {
  discountCodeFreeShippingCreate(freeShippingCodeDiscount: $discount) {
    codeDiscountNode { id codeDiscount { ... on DiscountCodeFreeShipping { endsAt } } }
    userErrors { field code message }
  }
}
"""
_PRICE: Final = """
query PriceOfReward($id: ID!) { product(id: $id) { priceRangeV2 { maxVariantPrice { amount } } } }
"""
_LOOK: Final = """
query CodeOfReward($code: String!) {
  codeDiscountNodeByCode(code: $code) {
    id
    codeDiscount {
      ... on DiscountCodeBasic { title endsAt context { ... on DiscountCustomers { customers { id } } } }
      ... on DiscountCodeFreeShipping { title endsAt context { ... on DiscountCustomers { customers { id } } } }
    }
  }
}
"""
_WITHDRAWAL: Final = """
mutation WithdrawCode($id: ID!) {
  discountCodeDeactivate(id: $id) { codeDiscountNode { id } userErrors { field code message } }
}
"""

#: The kinds of rewards that can be made safely. A store's credit has no name of ours that could be looked up: tried
#: twice, it might be given twice.
SUPPORTED: Final = frozenset({"amount", "percent", "shipping", "product"})


class Wanted(NamedTuple):
    """A discount to be made: whose, under which code, of what, and for how long. `off` is an amount of money in the
    shop's currency, where the reward is one."""

    request_id: str
    customer_id: str
    code: str
    reward: Reward
    starts_at: datetime
    ends_at: datetime | None
    off: Decimal | None = None


class Call(NamedTuple):
    """A document with its variables, and the field of the answer that tells what came of it."""

    document: str
    variables: dict[str, Any]
    field: str


def title(request_id: str) -> str:
    """What a discount is called in the store's admin: by its request alone, nothing of the customer."""
    return f"LoyalNest reward {request_id}"


def customer(customer_id: str) -> str:
    """A customer as Shopify names them."""
    return f"gid://shopify/Customer/{customer_id}"


def product(product_id: str | None) -> str:
    """A product as Shopify names it."""
    return f"gid://shopify/Product/{product_id}"


def creation(wanted: Wanted) -> Call:
    """What makes it, of a kind that is SUPPORTED."""
    reward = wanted.reward
    discount = {
        "title": title(wanted.request_id),
        "code": wanted.code,
        "context": {"customers": {"add": [customer(wanted.customer_id)]}},
        "usageLimit": 1,
        "appliesOncePerCustomer": True,
        "startsAt": _text(wanted.starts_at),
        "endsAt": None if wanted.ends_at is None else _text(wanted.ends_at),
    }
    if reward.min_order:
        discount["minimumRequirement"] = {"subtotal": {"greaterThanOrEqualToSubtotal": f"{reward.min_order:f}"}}
    if reward.kind == "shipping":
        discount["destination"] = {"all": True}
        if reward.value:
            discount["maximumShippingPrice"] = f"{reward.value:f}"
        return Call(_SHIPPING, {"discount": discount}, "discountCodeFreeShippingCreate")
    discount["customerGets"] = _gets(reward, wanted.off)
    return Call(_BASIC, {"discount": discount}, "discountCodeBasicCreate")


def _gets(reward: Reward, off: Decimal | None) -> dict[str, Any]:
    items: dict[str, Any] = {"all": True}
    if reward.kind == "percent":
        return {"value": {"percentage": float((reward.value or 0) / 100)}, "items": items}
    if reward.kind == "product":
        items = {"products": {"productsToAdd": [product(reward.product_id)]}}
    return {"value": {"discountAmount": {"amount": f"{off or 0:f}", "appliesOnEachItem": False}}, "items": items}


def price(product_id: str | None) -> Call:
    """What asks what a product costs."""
    return Call(_PRICE, {"id": product(product_id)}, "product")


def dearest(found: Mapping[str, Any]) -> Decimal:
    """The price of the dearest variant of a product that was asked for; ValueError if it is none."""
    try:
        amount = Decimal(str(found["priceRangeV2"]["maxVariantPrice"]["amount"]))
    except InvalidOperation:
        raise ValueError("no price") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError("no price")
    return amount


def look(code: str) -> Call:
    """What asks which discount has a code."""
    return Call(_LOOK, {"code": code}, "codeDiscountNodeByCode")


def withdrawal(node: Mapping[str, Any]) -> Call:
    """What makes a discount of an answer useless; asked twice, it is the same."""
    return Call(_WITHDRAWAL, {"id": node["id"]}, "discountCodeDeactivate")


def ends_at(node: Mapping[str, Any]) -> datetime | None:
    """Until when a discount of an answer can be used, None for ever; BadEvent if that is no time."""
    said = node["codeDiscount"]["endsAt"]
    return None if said is None else instants.to_datetime(instants.parse(said))


def is_ours(node: Mapping[str, Any], customer_id: str, request_id: str) -> bool:
    """Whether a discount that was looked up is this request's, and this customer's alone."""
    found = node["codeDiscount"]
    # A discount of a kind that we do not make tells nothing, one that is not for customers has none.
    customers = [each["id"] for each in found.get("context", {}).get("customers", [])]
    return bool(found.get("title") == title(request_id) and customers == [customer(customer_id)])


def _text(when: datetime) -> str:
    return instants.text(instants.from_datetime(when))
