"""Payloads in the shape of Shopify's API version 2026-07, for the generated shop. Pure.

Amounts are minor units inside, decimal strings in the payload; a refund line's `subtotal` is a JSON number, as
Shopify has it.
"""

from dataclasses import dataclass, field
from datetime import timedelta, timezone
from typing import Any, Final

from events import instants, money

#: The shop's own offset: payloads carry local times, and whoever reads them must convert.
_OFFSET: Final = timezone(timedelta(hours=-5))

#: Presentment amounts: what the customer saw, in cents of a dollar.
_EUR_RATE: Final = 92

#: The ids of the first product and of its one variant.
_PRODUCTS: Final = 8_200_000_000_000
_VARIANTS: Final = 44_100_000_000_000


@dataclass
class Person:
    """A customer: `number` tells namesakes apart."""

    ident: int
    first: str
    last: str
    domain: str
    consent: str
    created_at: int
    number: int

    @property
    def email(self) -> str:
        """Their address."""
        return f"{self.first}.{self.last}.{self.number}@{self.domain}"


@dataclass
class Line:
    """An order's line; `price` of one piece and `discount` of all of them in minor units, `product` its number."""

    ident: int
    product: int
    price: int
    quantity: int
    discount: int
    gift_card: bool

    def worth(self, quantity: int) -> int:
        """What so many pieces cost after their share of the discount."""
        return self.price * quantity - self.discount * quantity // self.quantity


@dataclass
class Refund:
    """Goods taken back: (line number, pieces)."""

    ident: int
    at: int
    parts: list[tuple[int, int]]


@dataclass
class Order:
    """An order with everything that will happen to it; a payload shows it as it stood at an instant."""

    ident: int
    number: int
    person: Person
    guest: bool
    named_at: int | None
    placed_at: int
    paid_at: int | None
    lines: list[Line]
    test: bool
    currency: str
    presentment: str
    cancelled_at: int | None = None
    refunds: list[Refund] = field(default_factory=list)

    def returned(self, at: int) -> dict[int, int]:
        """Pieces given back by then, by line number."""
        found: dict[int, int] = {}
        for each in self.refunds:
            if each.at <= at:
                for number, pieces in each.parts:
                    found[number] = found.get(number, 0) + pieces
        return found

    def subtotal(self) -> int:
        """What its lines are worth, in minor units."""
        return sum(line.worth(line.quantity) for line in self.lines)

    def taken_back(self, at: int) -> int:
        """What of that has come back by an instant (microseconds), in minor units."""
        return sum(self.lines[number].worth(pieces) for number, pieces in self.returned(at).items())

    def status(self, at: int) -> str:
        """Its financial_status at an instant (microseconds)."""
        if self.paid_at is None or at < self.paid_at:
            return "voided" if self.cancelled_at is not None and self.cancelled_at <= at else "pending"
        back = sum(self.returned(at).values())
        if back == 0:
            return "paid"
        return "refunded" if back == sum(line.quantity for line in self.lines) else "partially_refunded"


def time_text(us: int) -> str:
    """An instant as Shopify writes it: local, to the second, with its offset."""
    return instants.to_datetime(us).astimezone(_OFFSET).isoformat(timespec="seconds")


def _bag(amount: int, order: Order) -> dict[str, Any]:
    shown = amount if order.presentment == order.currency else amount * _EUR_RATE // 100
    return {
        "shop_money": {"amount": money.decimal_text(amount, order.currency), "currency_code": order.currency},
        "presentment_money": {
            "amount": money.decimal_text(shown, order.presentment),
            "currency_code": order.presentment,
        },
    }


def _priced(name: str, amount: int, order: Order) -> dict[str, Any]:
    return {name: money.decimal_text(amount, order.currency), f"{name}_set": _bag(amount, order)}


def customer(person: Person) -> dict[str, Any]:
    """customers/create."""
    at = time_text(person.created_at)
    return {
        "id": person.ident,
        "admin_graphql_api_id": f"gid://shopify/Customer/{person.ident}",
        "email": person.email,
        "first_name": person.first,
        "last_name": person.last,
        "created_at": at,
        "updated_at": at,
        "state": "disabled",
        "verified_email": True,
        "phone": None,
        "tags": "",
        "note": None,
        "tax_exempt": False,
        "email_marketing_consent": {
            "state": person.consent,
            "opt_in_level": "single_opt_in",
            "consent_updated_at": at,
        },
        "addresses": [],
    }


def _line(number: int, line: Line, order: Order, at: int) -> dict[str, Any]:
    allocation = {
        "amount": money.decimal_text(line.discount, order.currency),
        "amount_set": _bag(line.discount, order),
        "discount_application_index": 0,
    }
    return {
        "id": line.ident,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line.ident}",
        "quantity": line.quantity,
        "current_quantity": line.quantity - order.returned(at).get(number, 0),
        **_priced("price", line.price, order),
        "total_discount": "0.00" if money.exponent(order.currency) == 2 else "0",
        "discount_allocations": [allocation] if line.discount else [],
        "gift_card": line.gift_card,
        "product_id": None if line.gift_card else _PRODUCTS + line.product,
        "variant_id": None if line.gift_card else _VARIANTS + line.product,
        "sku": None if line.gift_card else f"NEST-{line.product:03d}",
        "name": "Gift card" if line.gift_card else f"Nesting box {line.product}",
        "requires_shipping": not line.gift_card,
        "taxable": not line.gift_card,
    }


def order(order: Order, at: int) -> dict[str, Any]:
    """orders/create, paid, updated or cancelled: the whole order, as it stood at `at`."""
    named = not order.guest or (order.named_at is not None and order.named_at <= at)
    person = order.person
    subtotal, back = order.subtotal(), order.taken_back(at)
    discounts = sum(line.discount for line in order.lines)
    cancelled = order.cancelled_at is not None and order.cancelled_at <= at
    email = person.email if named else None
    return {
        "id": order.ident,
        "admin_graphql_api_id": f"gid://shopify/Order/{order.ident}",
        "name": f"#{order.number}",
        "order_number": order.number,
        "created_at": time_text(order.placed_at),
        "processed_at": time_text(order.placed_at),
        "updated_at": time_text(at),
        "cancelled_at": time_text(order.cancelled_at) if cancelled and order.cancelled_at is not None else None,
        "cancel_reason": "customer" if cancelled else None,
        "closed_at": None,
        "financial_status": order.status(at),
        "fulfillment_status": None,
        "test": order.test,
        "currency": order.currency,
        "presentment_currency": order.presentment,
        "source_name": "pos" if order.guest else "web",
        "tags": "",
        "email": email,
        "contact_email": email,
        "phone": None,
        "browser_ip": f"192.0.2.{person.number % 250 + 1}",
        "customer": _embedded(person) if named else None,
        **_priced("subtotal_price", subtotal, order),
        **_priced("current_subtotal_price", subtotal - back, order),
        **_priced("total_price", subtotal, order),
        **_priced("current_total_price", subtotal - back, order),
        **_priced("total_discounts", discounts, order),
        **_priced("total_tax", 0, order),
        "discount_applications": [{"type": "discount_code", "value_type": "percentage"}] if discounts else [],
        "discount_codes": [],
        "line_items": [_line(number, line, order, at) for number, line in enumerate(order.lines)],
        "refunds": [refund(order, each) for each in order.refunds if each.at <= at],
        "fulfillments": [],
        "returns": [],
        "shipping_lines": [],
        "tax_lines": [],
    }


def _embedded(person: Person) -> dict[str, Any]:
    return {
        "id": person.ident,
        "admin_graphql_api_id": f"gid://shopify/Customer/{person.ident}",
        "email": person.email,
        "first_name": person.first,
        "last_name": person.last,
        "created_at": None,
        "updated_at": None,
        "state": "disabled",
    }


def refund(order: Order, refund: Refund) -> dict[str, Any]:
    """refunds/create: it names its order, and no customer."""
    amount = sum(order.lines[number].worth(pieces) for number, pieces in refund.parts)
    transaction = {
        "id": refund.ident + 2,
        "order_id": order.ident,
        "kind": "refund",
        "status": "success",
        "amount": money.decimal_text(amount, order.currency),
        "currency": order.currency,
        "gateway": "bogus",
        "parent_id": None,
        "created_at": time_text(refund.at),
        "processed_at": time_text(refund.at),
        "test": order.test,
    }
    return {
        "id": refund.ident,
        "admin_graphql_api_id": f"gid://shopify/Refund/{refund.ident}",
        "order_id": order.ident,
        "created_at": time_text(refund.at),
        "processed_at": time_text(refund.at),
        "note": None,
        "user_id": None,
        "restock": True,
        "duties": [],
        "order_adjustments": [],
        "refund_shipping_lines": [],
        "return": None,
        "total_duties_set": _bag(0, order),
        "refund_line_items": [_refund_line(order, refund, *part) for part in refund.parts],
        "transactions": [transaction],
    }


def _refund_line(order: Order, refund: Refund, number: int, pieces: int) -> dict[str, Any]:
    line = order.lines[number]
    amount = line.worth(pieces)
    return {
        "id": refund.ident + 10 + number,
        "line_item_id": line.ident,
        "location_id": None,
        "quantity": pieces,
        "restock_type": "return",
        "subtotal": float(money.decimal_text(amount, order.currency)),
        "subtotal_set": _bag(amount, order),
        "total_tax": 0.0,
        "total_tax_set": _bag(0, order),
        "line_item": {
            "id": line.ident,
            "quantity": line.quantity,
            "price": money.decimal_text(line.price, order.currency),
            "gift_card": line.gift_card,
        },
    }
