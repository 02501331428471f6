"""What a Shopify order or refund says, in our terms: amounts in minor units, instants in microseconds."""

from typing import Any, Final, NamedTuple

from typing_extensions import TypedDict

from events import codec, instants, keys, money
from events.envelopes import Webhook
from events.errors import BadEvent

#: Statuses under which an order counts. `refunded` means net 0; the others have not been paid.
COUNTING = frozenset({"paid", "partially_paid", "partially_refunded"})
PAID_ONCE = COUNTING | {"refunded"}
KNOWN_STATUSES = PAID_ONCE | {"pending", "authorized", "voided", "expired"}


class Terms(TypedDict):
    """What one webhook says of one order.

    Amounts are minor units of the shop's currency, instants microseconds. `base` is the goods' value after the
    refunds that the snapshot itself knows of; `gift` what of it is gift cards, `tax` what tax; `gross` the goods' value
    before any refund, without gift cards, `gross_tax` the tax in that. Where prices hold no tax both are 0.
    """

    customer: str | None  # by id, else by address
    status: str
    test: bool
    cancelled: bool
    processed_at: int
    base: int
    gift: int
    tax: int
    gross: int
    gross_tax: int
    refund_ids: list[str] | None  # None: the payload had no such field


class Snapshot(Terms):
    """One order as one webhook described it, with its place among all that did."""

    key: list[Any]  # [updated_at, triggered_at, webhook_id, first 16 hex digits of the terms' digest]: a total order


class Line(NamedTuple):
    """A line of an order: ids as text, `price` of one piece and `discount` of all of them in minor units.

    `quantity` are the pieces ordered, `left` those of them that neither an edit nor a refund took away.
    """

    product_id: str | None
    variant_id: str | None
    sku: str | None
    gift_card: bool
    quantity: int
    left: int
    price: int
    discount: int


#: A refund: [created_at in microseconds; goods, their tax, what was given beyond the goods, money paid back], the last
#: four in minor units, none below 0, but for UNTOLD.
Refund = list[int]

#: The money of a refund of which nobody said, in the shop's currency, what was paid back.
UNTOLD: Final = -1

#: An adjustment that is goodwill (below 0) or a fee (above); newer API versions tell it by its reason alone.
_DISCREPANCY: Final = "refund_discrepancy"


def _amount(source: dict[str, Any], name: str, currency: str) -> int | None:
    """The shop-currency amount of a field: its `*_set` where present, else the plain field; None if neither."""
    bag = source.get(f"{name}_set")
    if bag is not None and (shop_money := bag.get("shop_money")) is not None:
        if shop_money.get("currency_code") not in (currency, None):
            raise BadEvent("other_currency", f"{name} is not in the shop's {currency}")
        return money.minor(shop_money.get("amount"), currency)
    plain = source.get(name)
    return None if plain is None else money.minor(plain, currency)


def _not_negative(value: int, name: str) -> int:
    if value < 0:
        raise BadEvent("negative_amount", f"{name} is below 0")
    if value > money.MAX_MINOR:
        raise BadEvent("bad_amount", f"{name} is out of range")
    return value


def _count(source: dict[str, Any], name: str, default: int) -> int:
    value = source.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10**6:
        raise BadEvent("bad_quantity", f"{name} is not a quantity")
    return value


def _flag(source: dict[str, Any], name: str) -> bool:
    value = source.get(name)
    if value is None or isinstance(value, bool):
        return bool(value)
    raise BadEvent("wrong_type", f"{name} is a {type(value).__name__}, not a boolean")


def _spare_amount(source: dict[str, Any], name: str, currency: str) -> int | None:
    """As `_amount`; None too for what cannot be read: an order can do without it."""
    try:
        return _amount(source, name, currency)
    except BadEvent:
        return None


def _refund_line(line: dict[str, Any], item: dict[str, Any], currency: str) -> int:
    amount = _amount(line, "subtotal", currency)
    if amount is None:  # before API version 2016: price and quantity are all there is
        price = _amount(item, "price", currency)
        if price is None:
            raise BadEvent("missing_amount", "a refund line without subtotal or price")
        quantity = _count(line, "quantity", 1)
        discount = _amount(item, "total_discount", currency) or 0
        amount = price * quantity - discount * quantity // max(_count(item, "quantity", quantity), 1)
    return _not_negative(amount, "a refund line")


def refund(payload: dict[str, Any], currency: str) -> tuple[str, Refund]:
    """(id, refund), with all that any policy asks for. Gift cards are in no net: giving one back takes nothing off."""
    goods = tax = gift = 0
    for line in payload.get("refund_line_items") or []:
        if not line:
            continue
        item = line.get("line_item") or {}
        if _flag(item, "gift_card"):
            gift += max(_spare_amount(line, "subtotal", currency) or 0, 0)
        else:
            goods += _refund_line(line, item, currency)
            tax += max(_spare_amount(line, "total_tax", currency) or 0, 0)
    _not_negative(goods, "a refund")
    paid = _paid_back(payload, currency)
    given = [goods, _within(tax), _goodwill(payload, currency), UNTOLD if paid is None else _within(paid - gift)]
    return keys.resource_id(payload.get("id")), [instants.parse(payload.get("created_at")), *given]


def _within(value: int) -> int:
    return min(max(value, 0), money.MAX_MINOR)


def _goodwill(payload: dict[str, Any], currency: str) -> int:
    """What was given back beyond the goods; a fee that was kept of them buys none, and postage is no goods."""
    adjustments = [each for each in payload.get("order_adjustments") or [] if each and _is_discrepancy(each)]
    return _within(-sum(_spare_amount(each, "amount", currency) or 0 for each in adjustments))


def _is_discrepancy(adjustment: dict[str, Any]) -> bool:
    said = adjustment.get("kind") or adjustment.get("reason")
    return isinstance(said, str) and said.lower().replace(" ", "_") == _DISCREPANCY


def _paid_back(payload: dict[str, Any], currency: str) -> int | None:
    """The sum of the refund's successful transactions; None if untold, or not all of it in the shop's currency."""
    transactions = payload.get("transactions")
    if transactions is None:
        return None
    total = 0
    for each in transactions:
        if not each or _word(each, "kind") != "refund" or _word(each, "status") != "success":
            continue
        amount = _spare_amount(each, "amount", currency)
        if amount is None or _word(each, "currency") not in ("", currency.lower()):
            return None
        total += amount
    return total


def _word(source: dict[str, Any], name: str) -> str:
    value = source.get(name)
    return value.lower() if isinstance(value, str) else ""


def _gift_lines(payload: dict[str, Any], currency: str) -> tuple[int, int]:
    """What gift cards weigh in the order: (as it stands, as it was placed), less their discounts."""
    now = first = 0
    for line in payload.get("line_items") or []:
        if not _flag(line, "gift_card"):
            continue
        price = _not_negative(_amount(line, "price", currency) or 0, "a line's price")
        allocations = line.get("discount_allocations")
        if allocations:
            discount = sum(_amount(each, "amount", currency) or 0 for each in allocations if each)
        else:
            discount = _amount(line, "total_discount", currency) or 0
        quantity = _count(line, "quantity", 1)
        now += max(price * _count(line, "current_quantity", quantity) - discount, 0)
        first += max(price * quantity - discount, 0)
    return _not_negative(now, "gift cards"), _not_negative(first, "gift cards")


def share(amount: int, part: int, whole: int) -> int:
    """amount x part / whole, half of a minor unit rounded up; 0 of nothing. None of the three is below 0."""
    return (2 * amount * part + whole) // (2 * whole) if whole else 0


def lines(payload: dict[str, Any], currency: str) -> list[Line]:
    """An order's lines as a snapshot tells them. No order is lost for a line: what cannot be read is 0 or null."""
    return [_line(line, currency) for line in payload.get("line_items") or [] if line]


def _line(line: dict[str, Any], currency: str) -> Line:
    allocations = line.get("discount_allocations")
    if allocations:
        discount = sum(_spare_amount(each, "amount", currency) or 0 for each in allocations if each)
    else:
        discount = _spare_amount(line, "total_discount", currency) or 0
    quantity = _spare_count(line, "quantity", 1)
    return Line(
        _spare_id(line.get("product_id")),
        _spare_id(line.get("variant_id")),
        line.get("sku"),
        line.get("gift_card") is True,
        quantity,
        min(_spare_count(line, "current_quantity", quantity), quantity),
        _within(_spare_amount(line, "price", currency) or 0),
        _within(discount),
    )


def _spare_count(line: dict[str, Any], name: str, default: int) -> int:
    try:
        return _count(line, name, default)
    except BadEvent:
        return default


def _spare_id(value: Any) -> str | None:
    try:
        return keys.resource_id(value)
    except BadEvent:
        return None


def _taxes(payload: dict[str, Any], currency: str, base: int, subtotal: int, refunds: list[Refund]) -> tuple[int, int]:
    """The tax that the goods' prices hold: (in what they are worth now, in what they were as placed).

    Each line's by its pieces that are left, or less the refunds' where lines do not tell of those. Where no line tells
    its tax it is the order's, postage's share and all, in proportion.
    """
    if payload.get("taxes_included") is not True:
        return 0, 0
    lines = [line for line in payload.get("line_items") or [] if line and not _flag(line, "gift_card")]
    if all(line.get("tax_lines") is None for line in lines):
        first = _within(_spare_amount(payload, "total_tax", currency) or 0)
        return share(first, max(base, 0), subtotal), first
    now = first = 0
    for line in lines:
        taxes = [_spare_amount(each, "price", currency) or 0 for each in line.get("tax_lines") or [] if each]
        tax = _within(sum(taxes))
        quantity = _count(line, "quantity", 1)
        first += tax
        now += share(tax, _count(line, "current_quantity", quantity), quantity)
    if any(line.get("current_quantity") is None for line in lines):
        now = first - sum(tax for _, _, tax, *_ in refunds)
    return _within(now), _within(first)


def owner(payload: dict[str, Any]) -> str | None:
    """Whose an order is: the customer's id, else the keyed hash of the address it names; None for a guest's."""
    customer, address = payload.get("customer"), payload.get("address")
    if customer and customer.get("id") is not None:
        return keys.resource_id(customer["id"])
    return address if keys.is_by_address(address) else None


def claim(customer: str | None, payload: dict[str, Any]) -> tuple[str, str] | None:
    """(customer, address) where the payload of a customer's order tells that the two are one."""
    address = str(payload.get("address"))
    if customer is None or not keys.is_by_address(address) or keys.is_by_address(customer):
        return None
    return customer, address


def snapshot(webhook: Webhook, currency: str) -> tuple[Snapshot, dict[str, Refund]]:
    """The order's snapshot and the refunds it carries; BadEvent for what cannot be an order of this shop."""
    found, refunds, updated_at = _read(webhook.topic, webhook.payload, currency)
    key = [updated_at, webhook.triggered_at, webhook.webhook_id, codec.digest(list(found.values()))[:16]]
    return {**found, "key": key}, refunds


def terms(topic: str, payload: dict[str, Any], currency: str) -> tuple[Terms, dict[str, Refund]]:
    """What an order's webhook says, and the refunds it carries; BadEvent for what cannot be an order of this shop."""
    found, refunds, _ = _read(topic, payload, currency)
    return found, refunds


def _read(topic: str, payload: dict[str, Any], currency: str) -> tuple[Terms, dict[str, Refund], int]:
    """(terms, refunds, when the order was updated)."""
    if (payload.get("currency") or currency) != currency:
        raise BadEvent("other_currency", f"an order not in the shop's {currency}")
    created = payload.get("created_at")
    created_at = updated_at = instants.parse(created)
    processed, updated, cancelled_at = (
        payload.get("processed_at"),
        payload.get("updated_at"),
        payload.get("cancelled_at"),
    )
    if cancelled_at is not None:
        instants.parse(cancelled_at)
    status = payload.get("financial_status")
    if status is not None and not isinstance(status, str):
        raise BadEvent("wrong_type", "financial_status is not text")
    status = status and status.lower()  # who reads GraphQL writes PAID
    listed = payload.get("refunds")
    refunds = dict(refund(each, currency) for each in listed or [] if each)
    current = _amount(payload, "current_subtotal_price", currency)
    subtotal = _amount(payload, "subtotal_price", currency)
    if current is None and subtotal is None:
        raise BadEvent("missing_amount", "neither current_subtotal_price nor subtotal_price")
    if subtotal is None:
        subtotal = current or 0
    base = subtotal - sum(goods for _, goods, *_ in refunds.values()) if current is None else current
    gift_now, gift_first = _gift_lines(payload, currency)
    if current is not None:
        _not_negative(current, "current_subtotal_price")
    _not_negative(subtotal, "subtotal_price")
    tax, gross_tax = _taxes(payload, currency, base, subtotal, list(refunds.values()))
    if updated is not None:
        updated_at = instants.parse(updated)
    terms: Terms = {
        "customer": owner(payload),
        "status": (status or "unknown").lower(),
        "test": _flag(payload, "test"),
        "cancelled": topic == "orders/cancelled" or cancelled_at is not None,
        "processed_at": created_at if processed in (None, created) else instants.parse(processed),
        "base": base,
        "gift": gift_now,
        "tax": tax,
        "gross": subtotal - gift_first,
        "gross_tax": gross_tax,
        "refund_ids": None if listed is None else sorted(refunds),
    }
    return terms, refunds, updated_at
