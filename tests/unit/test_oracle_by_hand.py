"""Cases worked by hand, to catch a mistake in the oracle itself; and whether stores hold what they should."""

import json
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests import stores
from tests.oracle import Customer, Order, Shop, default_cut_points, find_cut_points, oracle, until

SHOP = "hand.myshopify.com"
DAY_1 = "2026-03-01T10:00:00Z"
DAY_2 = "2026-03-02T10:00:00Z"
DAY_3 = "2026-03-03T10:00:00Z"
T = datetime(2026, 3, 31, 10, tzinfo=UTC)  # thirty days after DAY_1


def program(**changes: Any) -> dict[str, Any]:
    return {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []} | changes


def sent(topic: str, payload: dict[str, Any], triggered_at: str = DAY_1, **changes: Any) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "topic": topic,
        "shop": SHOP,
        "webhook_id": "w",
        "event_id": "e",
        "api_version": "2026-07",
        "triggered_at": triggered_at,
        "received_at": triggered_at,
        "payload": payload,
    }
    return envelope | changes


def bag(amount: str) -> dict[str, Any]:
    presentment = {"amount": "999.99", "currency_code": "EUR"}
    return {"shop_money": {"amount": amount, "currency_code": "USD"}, "presentment_money": presentment}


def snapshot(**changes: Any) -> dict[str, Any]:
    """Order 1 of customer 7, paid, goods of 100.00, today's shape."""
    order: dict[str, Any] = {
        "id": 1,
        "created_at": DAY_1,
        "processed_at": DAY_1,
        "updated_at": DAY_1,
        "cancelled_at": None,
        "financial_status": "paid",
        "test": False,
        "currency": "USD",
        "customer": {"id": 7},
        "line_items": [],
        "refunds": [],
        "subtotal_price": "100.00",
        "subtotal_price_set": bag("100.00"),
        "current_subtotal_price": "100.00",
        "current_subtotal_price_set": bag("100.00"),
    }
    return order | changes


def old(**changes: Any) -> dict[str, Any]:
    """The same order as an old API version told it: no sets, no current amounts."""
    return {name: value for name, value in snapshot(**changes).items() if "_set" not in name and "current" not in name}


def refund(refund_id: int, amount: str, created_at: str = DAY_2, **line_item: Any) -> dict[str, Any]:
    row = {"quantity": 1, "subtotal": "0.01", "subtotal_set": bag(amount), "line_item": line_item}
    return {"id": refund_id, "order_id": 1, "created_at": created_at, "refund_line_items": [row]}


def paid(triggered_at: str = DAY_1, **changes: Any) -> dict[str, Any]:
    return sent("orders/paid", snapshot(**changes), triggered_at)


def updated(at: str, **changes: Any) -> dict[str, Any]:
    return sent("orders/updated", snapshot(updated_at=at, **changes), at)


def judge(*envelopes: Mapping[str, Any], t: datetime | None = T, cut_points: Any = (), **changes: Any) -> Shop:
    return oracle(envelopes, {SHOP: program(**changes)}, {SHOP: cut_points}, t)[SHOP]


def order_of(*envelopes: Mapping[str, Any], **changes: Any) -> Order:
    return judge(*envelopes, **changes).orders["1"]


def gift_card(price: str, quantity: int, current_quantity: int, *discounts: str) -> dict[str, Any]:
    line = {"gift_card": True, "price": "0.01", "price_set": bag(price), "quantity": quantity}
    allocations = [{"amount": "0.01", "amount_set": bag(discount)} for discount in discounts]
    return line | {"current_quantity": current_quantity, "discount_allocations": allocations}


# Net


def test_a_refund_that_the_snapshot_knows_is_taken_off_once() -> None:
    known = updated(
        DAY_2,
        refunds=[refund(5, "30.00")],
        current_subtotal_price_set=bag("70.00"),
        financial_status="partially_refunded",
    )
    delivery = sent("refunds/create", refund(5, "30.00"), DAY_2)
    assert order_of(paid(), delivery).net == 7000
    assert order_of(paid(), known).net == 7000
    assert order_of(delivery, known, paid()).net == 7000


def test_refunds_are_a_union_by_id_never_below_zero_and_the_greater_copy_counts() -> None:
    first, second = (sent("refunds/create", refund(n, "30.00"), DAY_2) for n in (5, 6))
    assert order_of(paid(), first, second, second).net == 4000
    assert order_of(paid(), first, sent("refunds/create", refund(5, "45.00"))).net == 5500
    assert order_of(paid(), first, sent("refunds/create", refund(6, "80.00"))).net == 0


def test_a_refund_only_a_stale_snapshot_tells_of_still_counts() -> None:
    stale = sent("orders/updated", snapshot(updated_at=DAY_1, refunds=[refund(5, "30.00")]), DAY_1)
    assert order_of(stale, updated(DAY_2)).net == 7000


def test_an_old_snapshot_is_told_before_its_own_refunds() -> None:
    known = sent("orders/updated", old(updated_at=DAY_2, refunds=[refund(5, "30.00")]), DAY_2)
    assert order_of(known).net == 7000
    assert order_of(known, sent("refunds/create", refund(6, "20.00"))).net == 5000


@pytest.mark.parametrize(("created_at", "net"), [(DAY_1, 10000), (DAY_2, 10000), (DAY_3, 7000)])
def test_without_refunds_a_snapshot_knows_those_made_before_it(created_at: str, net: int) -> None:
    silent = sent("orders/updated", old(updated_at=DAY_2), DAY_2)
    del silent["payload"]["refunds"]
    assert order_of(silent, sent("refunds/create", refund(5, "30.00", created_at))).net == net


def test_a_refund_line_by_set_then_subtotal_then_price() -> None:
    row: dict[str, Any] = {
        "quantity": 2,
        "line_item": {"price": "10.00", "quantity": 3, "total_discount": "1.00"},
    }
    payload = {"id": 5, "order_id": 1, "created_at": DAY_2, "refund_line_items": [row]}
    assert order_of(sent("refunds/create", payload)).refunds == {"5": 2000 - 66}
    row["subtotal"] = "12.34"
    assert order_of(sent("refunds/create", payload)).refunds == {"5": 1234}
    row["subtotal_set"] = bag("11.11")
    assert order_of(sent("refunds/create", payload)).refunds == {"5": 1111}
    with pytest.raises(TypeError):
        order_of(sent("refunds/create", payload | {"refund_line_items": [{"quantity": 1, "subtotal": 1.5}]}))


def test_gift_cards_are_no_part_of_net_nor_of_gross_and_their_refund_takes_nothing_off() -> None:
    # 100.00 of goods less nothing; of it two cards of 25.00 less 5.00, one since given back.
    card = gift_card("25.00", 2, 1, "2.00", "3.00")
    order = order_of(paid(line_items=[card], current_subtotal_price_set=bag("75.00")))
    assert (order.net, order.gross) == (7500 - (2500 - 500), 10000 - (5000 - 500))
    card_back = sent("refunds/create", refund(5, "25.00", gift_card=True))
    assert order_of(paid(line_items=[gift_card("25.00", 2, 2)]), card_back).net == 5000
    # A card given back, its discount left standing, adds nothing.
    assert order_of(paid(line_items=[gift_card("25.00", 1, 0, "5.00")])).net == 10000


# Which orders count


@pytest.mark.parametrize(
    ("changes", "counts", "net"),
    [
        ({}, True, 10000),
        ({"financial_status": "partially_paid"}, True, 10000),
        ({"financial_status": "partially_refunded"}, True, 10000),
        ({"financial_status": "refunded"}, False, 0),
        ({"financial_status": "pending"}, False, 10000),
        ({"financial_status": "mystified"}, False, 10000),
        ({"test": True}, False, 10000),
        ({"customer": None}, False, 10000),
        ({"cancelled_at": DAY_1}, False, 10000),
    ],
)
def test_what_counts(changes: dict[str, Any], counts: bool, net: int) -> None:
    order = order_of(paid(**changes))
    assert (order.counts, order.net, order.points) == (counts, net, 100 * counts)
    assert order.guest == ("customer" in changes)


def test_cancelled_and_deleted_are_for_ever() -> None:
    assert not order_of(sent("orders/cancelled", snapshot()), updated(DAY_3)).counts
    assert not order_of(paid(cancelled_at=DAY_1), updated(DAY_3)).counts
    assert not order_of(sent("orders/delete", {"id": 1}), updated(DAY_3)).counts
    assert order_of(sent("orders/edited", {"order_edit": {"id": 9, "order_id": 1}}), updated(DAY_3)).counts


def test_the_newest_snapshot_by_update_then_trigger_then_webhook() -> None:
    def told(amount: str, updated_at: str | None, triggered_at: str, webhook_id: str) -> dict[str, Any]:
        payload = snapshot(updated_at=updated_at, current_subtotal_price_set=bag(amount))
        return sent("orders/updated", payload, triggered_at, webhook_id=webhook_id)

    rising = [
        told("1.00", None, DAY_3, "z"),  # created_at, DAY_1, stands in
        told("2.00", "2026-03-02T05:00:00-05:00", DAY_1, "z"),  # DAY_2, whatever its text
        told("3.00", DAY_2, DAY_2, "Z"),
        told("4.00", DAY_2, DAY_2, "a"),  # by code point, capitals come first
        told("5.00", "2026-03-02T10:00:01Z", DAY_1, "A"),
    ]
    for newest in range(len(rising)):
        known = rising[: newest + 1]
        random.Random(newest).shuffle(known)
        assert order_of(*known).net == 100 * (newest + 1)


# Points


@pytest.mark.parametrize(
    ("rules", "points"),
    [
        ([], 99),
        ([(DAY_1, "2")], 199),  # from that instant on
        ([("2026-03-01T10:00:01Z", "2")], 99),
        ([(None, "0.5")], 49),
        ([(None, "0.5"), ("2026-02-01T00:00:00Z", "3"), ("2026-01-01T00:00:00Z", "4")], 299),
        ([(DAY_1, "3"), (DAY_1, "2")], 299),  # of two from one instant on, the higher
        ([(None, "0.333")], 33),  # 33.2967
        ([(None, "0")], 0),
    ],
)
def test_the_rule_of_the_award(rules: list[tuple[str | None, str]], points: int) -> None:
    rows = [{"effective_from": start, "points_per_unit": rate} for start, rate in rules]
    shop = judge(paid(current_subtotal_price_set=bag("99.99")), rules=rows)
    assert shop.orders["1"].points == shop.customers["7"].balance == points


def test_each_order_is_floored_alone_and_the_future_waits() -> None:
    half: dict[str, Any] = {"current_subtotal_price_set": bag("0.50")}
    orders = [paid(id=number, **half) for number in (1, 2, 3)]
    assert judge(*orders).customers["7"].balance == 0
    assert judge(paid(), paid(id=2, processed_at="2026-03-31T10:00:01Z")).customers["7"].balance == 100
    assert judge(paid(), paid(id=2, processed_at="2026-03-31T10:00:00Z")).customers["7"].balance == 200


@pytest.mark.parametrize(
    ("currency", "amount", "net", "points"), [("JPY", "1050", 1050, 1050), ("KWD", "1.999", 1999, 1)]
)
def test_minor_units(currency: str, amount: str, net: int, points: int) -> None:
    amounts = {"current_subtotal_price": amount, "subtotal_price": amount}
    yen = sent("orders/paid", old(currency=currency) | amounts)
    order = order_of(yen, currency=currency)
    assert (order.net, order.points) == (net, points)
    with pytest.raises(ValueError, match="finer"):
        order_of(sent("orders/paid", old(currency="JPY", subtotal_price="1.50")), currency="JPY")


# Customers


def test_an_order_that_moves_leaves_a_known_prospect() -> None:
    shop = judge(paid(), updated(DAY_2, customer={"id": 8}))
    assert shop.orders["1"].ever == {"7", "8"}
    left, has = shop.customers["7"], shop.customers["8"]
    assert (left.balance, left.segment_id, left.segment, left.score) == (0, "seg_000", "Prospects", "")
    assert (left.recency, left.frequency, left.digits) == (None, 0, None)
    assert (has.balance, has.recency, has.frequency, has.monetary) == (100, 30, 1, 10000)
    assert left.now == has.now == datetime(2026, 3, 2, 10, tzinfo=UTC)


def test_who_is_known() -> None:
    shop = judge(
        paid(customer={"id": 1}, test=True),
        updated(DAY_2, customer=None),
        sent("customers/create", {"id": 2}),
        sent("customers/delete", {"id": 3}),
        sent("customers/merge", {"admin_graphql_api_customer_kept_id": "gid://shopify/Customer/4"}),
        sent("customers/create", {"id": 5}, shop="other.myshopify.com"),
    )
    assert set(shop.customers) == {"1", "2", "3"}


def test_now_is_the_latest_believable_time_of_all_their_orders_envelopes() -> None:
    ahead = sent("orders/delete", {"id": 1}, "2099-01-01T00:00:00Z", received_at=DAY_3)
    believed = datetime(2026, 3, 3, 10, 5, tzinfo=UTC)
    shop = judge(paid(), updated(DAY_2, customer={"id": 8}), ahead, t=None)
    assert {customer_id: customer.now for customer_id, customer in shop.customers.items()} == {
        "7": believed,
        "8": believed,
    }
    late = sent("customers/update", {"id": 7}, DAY_2, received_at="2099-01-01T00:00:00Z")
    assert judge(paid(), late, t=None).customers["7"].now == datetime(2026, 3, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("processed_at", "recency"),
    [
        ("2025-03-31T10:00:00Z", None),  # exactly 365 days: out
        ("2025-03-31T10:00:01Z", 364),
        ("2026-03-30T10:00:01Z", 0),  # a second short of a day
        ("2026-03-30T10:00:00Z", 1),
        ("2026-03-31T10:00:00Z", 0),
        ("2026-03-31T10:00:01Z", None),  # not yet
        ("2026-03-31T15:30:00+05:30", 0),  # 10:00 UTC
        (None, 30),  # created_at
    ],
)
def test_the_look_back_to_the_second(processed_at: str | None, recency: int | None) -> None:
    assert judge(paid(processed_at=processed_at)).customers["7"].recency == recency


def test_look_back_for_a_lifetime_and_worthless_orders() -> None:
    assert judge(paid(processed_at="1999-01-01T00:00:00Z"), look_back_days=None).customers["7"].frequency == 1
    shop = judge(paid(), paid(id=2, processed_at=DAY_3, current_subtotal_price_set=bag("0.00")))
    assert (shop.customers["7"].recency, shop.customers["7"].frequency) == (30, 1)  # net 0 makes no frequency


# Cut points and segments


@pytest.mark.parametrize(
    ("digits", "score", "name"),
    [
        ((5, 5, 5), "5.0", "Champions"),
        ((5, 4, 3), "4.1", "Champions"),  # FM 3.5 goes up to 4
        ((5, 3, 2), "3.5", "Active"),
        ((5, 1, 1), "2.6", "New"),
        ((4, 5, 4), "4.3", "Loyal"),
        ((4, 1, 1), "2.2", "Promising"),
        ((3, 5, 3), "3.6", "Loyal"),
        ((3, 3, 3), "3.0", "Needs attention"),
        ((3, 1, 2), "2.1", "Almost lost"),
        ((2, 5, 5), "3.8", "Previously loyal"),
        ((2, 3, 4), "2.9", "At risk"),
        ((1, 3, 3), "2.2", "At risk"),
        ((1, 2, 1), "1.3", "Dormant"),
    ],
)
def test_digits_score_and_name(digits: tuple[int, int, int], score: str, name: str) -> None:
    # One order thirty days old, of 100.00; cut points so that it gets the digits wanted. Equal is not above.
    def cuts(value: int, below: int) -> list[int]:
        return [value - 1] * below + [value] * (4 - below)

    r, f, m = digits
    version = {"version": "v", "as_of": DAY_1, "recency": cuts(30, 5 - r)}
    version |= {"frequency": cuts(1, f - 1), "monetary": cuts(10000, m - 1)}
    customer = judge(paid(), cut_points=[version]).customers["7"]
    assert (customer.digits, customer.score, customer.segment, customer.version) == (digits, score, name, "v")
    assert customer.segment_id == "seg_" + "".join(map(str, digits))


def test_the_version_in_use_and_the_defaults() -> None:
    def version(name: str, as_of: str) -> dict[str, Any]:
        return default_cut_points("USD") | {"version": name, "as_of": as_of}

    published = [version("future", "2026-03-31T10:00:01Z"), version("at", "2026-03-31T10:00:00Z")]
    published.append(version("before", DAY_3))
    assert judge(paid(), cut_points=published).customers["7"].version == "at"
    customer = judge(paid()).customers["7"]  # 30 days, once, 100.00: not below their cut points
    assert (customer.version, customer.digits, customer.score) == ("default", (5, 1, 2), "2.9")
    assert default_cut_points("JPY")["monetary"] == [50, 100, 250, 500]


def test_cut_points_of_fifty_by_position() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    fifty = [Customer(now=at, recency=n, frequency=1, monetary=100 * n) for n in range(1, 51)]
    prospects = [Customer(now=at)] * 9
    random.Random(1).shuffle(fifty)
    assert find_cut_points(fifty + prospects, "USD") == {
        "version": None,
        "recency": [10, 20, 30, 40],
        "frequency": [1, 1, 1, 1],
        "monetary": [1000, 2000, 3000, 4000],
    }
    one_more = [
        *fifty,
        Customer(now=at, recency=51, frequency=1, monetary=5100),
    ]  # positions 10.2, 20.4, 30.6, 40.8
    assert find_cut_points(one_more, "USD")["recency"] == [11, 21, 31, 41]
    assert find_cut_points(fifty[1:] + prospects, "USD") == default_cut_points("USD")


# Windows


def test_windows_are_filed_under_processed_at_and_sum_what_orders_deserve() -> None:
    start = datetime(2026, 3, 1, 10, tzinfo=UTC)
    shop = judge(
        paid(),
        sent("refunds/create", refund(5, "30.50")),
        paid(id=2, processed_at="2026-03-01T10:00:59.999999Z"),
        paid(id=3, processed_at="2026-03-01T10:01:00Z", customer=None),
        paid(id=4, processed_at="2026-03-01T10:59:59Z", customer={"id": 8}, cancelled_at=DAY_2),
        paid(id=5, processed_at="2026-03-01T11:00:00Z", customer={"id": 8}, financial_status="refunded"),
        paid(id=6, processed_at="2026-03-01T11:00:00Z", test=True),
        paid(id=7, processed_at="2026-03-01T11:00:00Z", financial_status="pending"),
    )
    minute = {"orders": 2, "net": 16950, "points_earned": 200, "points_reversed": 31, "customers": 1}
    hour = minute | {"points_earned": 300, "points_reversed": 131, "guest_orders": 1, "guest_net": 10000}
    assert shop.windows["minute", start] == minute
    assert shop.windows["minute", start + timedelta(minutes=1)] == {"guest_orders": 1, "guest_net": 10000}
    assert shop.windows["hour", start] == hour
    eleven = {"points_earned": 100, "points_reversed": 100}
    assert shop.windows["hour", start + timedelta(hours=1)] == eleven
    day = hour | {"points_earned": 400, "points_reversed": 231}
    assert shop.windows["day", start.replace(hour=0)] == day
    assert sum(window["orders"] for (size, _), window in shop.windows.items() if size == "hour") == 2


def test_an_order_edited_up_earns_on_what_it_became() -> None:
    order = order_of(paid(current_subtotal_price_set=bag("150.00")))
    assert (order.gross, order.earned, order.reversed) == (15000, 150, 0)


def test_a_day_is_the_shops_own_through_a_change_of_clocks() -> None:
    edges = {
        "2026-11-01T03:59:59Z": datetime(2026, 10, 31, 4, tzinfo=UTC),
        "2026-11-01T04:00:00Z": datetime(2026, 11, 1, 4, tzinfo=UTC),
        "2026-11-02T04:59:59Z": datetime(2026, 11, 1, 4, tzinfo=UTC),  # the 25th hour
        "2026-11-02T05:00:00Z": datetime(2026, 11, 2, 5, tzinfo=UTC),
    }
    for processed_at, start in edges.items():
        shop = judge(paid(processed_at=processed_at), zone="America/New_York")
        assert [at for size, at in shop.windows if size == "day"] == [start]


def test_the_past_is_what_was_triggered_by_then() -> None:
    known = [paid(), sent("refunds/create", refund(5, "30.00"), DAY_3)]
    assert order_of(*until(known, datetime(2026, 3, 3, 9, 59, 59, tzinfo=UTC))).net == 10000
    assert order_of(*until(known, datetime(2026, 3, 3, 10, tzinfo=UTC))).net == 7000


def test_a_naive_time_is_an_error() -> None:
    with pytest.raises(ValueError, match="offset"):
        judge(paid(processed_at="2026-03-01T10:00:00"))


# The stores


def test_a_store_is_its_seed_and_the_oracle_does_not_mind_order_or_copies() -> None:
    for seed in range(20):
        envelopes = stores.store(seed)
        assert envelopes == stores.store(seed) == json.loads(json.dumps(envelopes))
        programs = {stores.SHOP: stores.program(seed)}
        chance = random.Random(seed)
        shuffled = envelopes + chance.sample(envelopes, 20)
        chance.shuffle(shuffled)
        assert oracle(envelopes, programs, t=stores.NOW) == oracle(shuffled, programs, t=stores.NOW)


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD"])
def test_the_stores_hold_every_adversity(currency: str) -> None:
    topics: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for seed in range(20):
        envelopes = stores.store(seed, currency=currency)
        topics.update(envelope["topic"] for envelope in envelopes)
        assert len({envelope["triggered_at"] for envelope in envelopes}) <= 3
        shop = oracle(envelopes, {stores.SHOP: stores.program(seed, currency)}, t=stores.NOW)[stores.SHOP]
        orders = shop.orders.values()
        seen["without a snapshot"] += sum(order.processed_at is None for order in orders)
        seen["counts"] += sum(order.counts and order.net > 0 for order in orders)
        seen["refunded, and counts"] += sum(order.counts and 0 < order.net < order.gross for order in orders)
        seen["nothing left"] += sum(order.counts and order.net == 0 < order.gross for order in orders)
        seen["guests"] += sum(order.guest for order in orders)
        seen["moved"] += sum(len(order.ever) > 1 for order in orders)
        seen["tests"] += sum(order.test for order in orders)
        seen["cancelled"] += sum(order.cancelled for order in orders)
        seen["deleted"] += sum(order.deleted for order in orders)
        seen["to come"] += sum(bool(order.processed_at and order.processed_at > stores.NOW) for order in orders)
        seen["prospects"] += sum(customer.digits is None for customer in shop.customers.values())
        seen["scored"] += sum(customer.digits is not None for customer in shop.customers.values())
        deliveries = Counter((envelope["topic"], envelope["webhook_id"]) for envelope in envelopes)
        seen["duplicates"] += sum(count > 1 for count in deliveries.values())
        snapshots = [e["payload"] for e in envelopes if "financial_status" in e["payload"]]
        seen["with sets"] += sum("subtotal_price_set" in each for each in snapshots)
        seen["without current"] += sum("current_subtotal_price" not in each for each in snapshots)
        seen["without refunds"] += sum("refunds" not in each for each in snapshots)
        seen["processed_at null"] += sum(each["processed_at"] is None for each in snapshots)
    orders_and_refunds = {"create", "paid", "updated", "edited", "cancelled", "delete"}
    assert {f"orders/{verb}" for verb in orders_and_refunds} < set(topics)
    assert set(topics) >= {"refunds/create"} | {f"customers/{v}" for v in ("create", "update", "delete", "merge")}
    assert min(seen.values()) >= 10, seen
