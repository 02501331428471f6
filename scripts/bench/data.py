"""A store's orders as they stand on `shopify.orders`: seeded, in order of time, one program."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from random import Random
from typing import Any, Final, NamedTuple

from events import codec, instants, keys, payloads
from events.programs import Program

SHOP: Final = "bench.myshopify.com"
CURRENCY: Final = "USD"

#: How a store's day is spread over its hours, from midnight on.
_HOURS: Final = (2, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6, 7, 6, 6, 5, 5, 6, 7, 8, 9, 8, 5, 3)
_DAY: Final = instants.parse("2026-11-20T00:00:00Z")


class Order(NamedTuple):
    """One paid order of so many cents. `points` is what it earns at 1 point per 1.00; `value` the message."""

    order_id: str
    customer_id: str
    points: int
    cents: int
    value: bytes


def program() -> Program:
    return Program(shop=SHOP, currency=CURRENCY, zone="America/New_York")


def orders(number: int, customers: int, seed: int = 1) -> Iterator[Order]:
    """`number` orders of one day by up to `customers` customers, each as our front door would write it."""
    random = Random(seed)
    for at, moment in enumerate(_moments(number)):
        cents = round(random.lognormvariate(3.8, 0.7) * 100) + 100
        # Squared: some customers buy far more often than others.
        yield order(at, 1 + int(random.random() ** 2 * customers), cents, moment)


def order(number: int, customer: int, cents: int, moment: int) -> Order:
    """The `number`-th order, placed by the `customer`-th customer at an instant (microseconds)."""
    payload = _payload(5_600_000_000_000 + 7919 * number, 7_100_000_000_000 + 104_729 * customer, cents, moment)
    envelope = {
        "topic": "orders/paid",
        "shop": SHOP,
        "webhook_id": f"b54557e4-bdd9-4b37-8a5f-{number:012d}",
        "event_id": f"98880550-7158-44d4-b7cd-{number:012d}",
        "api_version": "2026-07",
        "triggered_at": instants.text(moment + 7 * instants.SECOND),
        "received_at": instants.text(moment + 7_400_000),
        "payload": payloads.minimise("orders/paid", payload),
    }
    return Order(str(payload["id"]), str(payload["customer"]["id"]), cents // 100, cents, codec.dumps(envelope))


def by_order(found: Iterable[Order]) -> Iterator[tuple[str, bytes]]:
    """Messages as they stand on `shopify.orders`."""
    return ((keys.join(SHOP, each.order_id), each.value) for each in found)


def by_customer(found: Iterable[Order]) -> Iterator[tuple[str, bytes]]:
    """The same messages under the key that a plain table of customers wants."""
    return ((keys.join(SHOP, each.customer_id), each.value) for each in found)


def _moments(number: int) -> Iterator[int]:
    """Instants of one day, ascending, as dense as its hours are busy."""
    ends = list(accumulate(_HOURS))
    hour = 0
    for at in range(number):
        share = at * ends[-1] / number
        while share >= ends[hour]:
            hour += 1
        part = 1 - (ends[hour] - share) / _HOURS[hour]
        # Whole seconds, as Shopify has them.
        yield _DAY + (hour * instants.HOUR + int(part * instants.HOUR)) // instants.SECOND * instants.SECOND


def _payload(order_id: int, customer_id: int, cents: int, moment: int) -> dict[str, Any]:
    amount = f"{cents // 100}.{cents % 100:02d}"
    bag = {"shop_money": {"amount": amount, "currency_code": CURRENCY}}
    placed = _local(moment)
    return {
        "id": order_id,
        "created_at": placed,
        "updated_at": _local(moment + 6 * instants.SECOND),
        "processed_at": placed,
        "cancelled_at": None,
        "financial_status": "paid",
        "test": False,
        "currency": CURRENCY,
        "source_name": "web",
        "taxes_included": False,
        "total_tax": "0.00",
        "discount_codes": [],
        "customer": {"id": customer_id},
        "current_subtotal_price": amount,
        "current_subtotal_price_set": bag,
        "subtotal_price": amount,
        "subtotal_price_set": bag,
        "line_items": [_line(amount)],
        "refunds": [],
        # As long as what the vault makes of an e-mail; nobody opens it here.
        "address": f"mail-{customer_id:032x}",
        "contact": f"v1.{customer_id:096d}",
    }


def _line(amount: str) -> dict[str, Any]:
    return {
        "product_id": 632_910_392,
        "variant_id": 808_950_810,
        "sku": "IPOD2008PINK",
        "quantity": 1,
        "current_quantity": 1,
        "price": amount,
        "total_discount": "0.00",
        "gift_card": False,
        "discount_allocations": [],
    }


def _local(moment: int) -> str:
    """In the shop's offset, as Shopify writes it."""
    return instants.text(moment - 5 * instants.HOUR).replace("Z", "-05:00")
