"""What an order is worth by the batch: points past 64 bits, rules in any order, amounts beyond reason."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from batch import orders
from batch.history import History
from events import instants, topics
from events.programs import Program
from lake import valuing

SHOP = "worth.myshopify.com"
T = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def program(*rules: tuple[datetime | None, str], currency: str = "USD") -> Program:
    listed = [{"effective_from": start, "points_per_unit": rate} for start, rate in rules]
    return Program.model_validate({"shop": SHOP, "currency": currency, "rules": listed})


def points(amounts: list[int], at: list[datetime], found: Program) -> list[int]:
    times = [instants.from_datetime(each) for each in at]
    schema = {"amount": pl.Int64, "processed_at": pl.Int64}
    return pl.DataFrame([amounts, times], schema=schema).select(valuing.points("amount", found)).to_series().to_list()


def test_points_are_floors_of_exact_products() -> None:
    assert points([99, 100, 199, 299], [T] * 4, program((None, "1"))) == [0, 1, 1, 2]
    assert points([33, 34, 1000], [T] * 3, program((None, "3"))) == [0, 1, 30]
    assert points([1000, 1001], [T] * 2, program((None, "0.333"))) == [3, 3]
    assert points([7], [T], program((None, "1.5"), currency="JPY")) == [10]


def test_a_product_past_64_bits_is_still_exact() -> None:
    rate = program((None, "9999.999999"))
    amounts = [10**11, 10**11 - 1, 1]
    assert points(amounts, [T] * 3, rate) == [amount * 9_999_999_999 // 10**8 for amount in amounts]


def test_an_order_gives_no_more_points_than_their_sums_can_hold() -> None:
    assert points([10**13, 10**9, 1], [T] * 3, program((None, "10000"), currency="JPY")) == [10**13, 10**13, 10_000]
    assert points([10**15], [T], program((None, "10000"), currency="JPY")) == [10**13]  # as no order can be


def test_the_rule_of_the_order_holds_whatever_order_rules_stand_in() -> None:
    rules = program((None, "1"), (T + 2 * SECOND, "4"), (T, "2"), (T, "3"))
    at = [T - SECOND, T, T + SECOND, T + 2 * SECOND]
    assert points([100] * 4, at, rules) == [1, 3, 3, 4]


def test_no_orders_have_no_points() -> None:
    assert points([], [], program((None, "1"))) == []


def envelope(topic: str, payload: dict[str, Any], webhook_id: str = "w") -> bytes:
    return json.dumps(
        {
            "topic": topic,
            "shop": SHOP,
            "webhook_id": webhook_id,
            "event_id": None,
            "api_version": None,
            "triggered_at": "2026-03-01T12:00:00Z",
            "received_at": "2026-03-01T12:00:00Z",
            "payload": payload,
        }
    ).encode()


ORDER: dict[str, Any] = {
    "id": 1,
    "created_at": "2026-03-01T12:00:00Z",
    "updated_at": "2026-03-01T12:00:00Z",
    "financial_status": "paid",
    "currency": "USD",
    "customer": {"id": 5},
    "subtotal_price": "100.00",
    "current_subtotal_price": "100.00",
    "refunds": [],
}


def worth(*messages: bytes) -> dict[str, Any]:
    history = History(SHOP, "USD")
    history.absorb((topics.ORDERS, message) for message in messages)
    assert history.unreadable == 0
    (row,) = orders.worth(history, program((None, "1"))).to_dicts()
    return row


def refund(ident: int, amount: str, created_at: str = "2026-03-01T12:00:00Z") -> dict[str, Any]:
    return {"id": ident, "order_id": 1, "created_at": created_at, "refund_line_items": [{"subtotal": amount}]}


def test_a_refund_the_snapshot_lists_is_not_taken_off_twice() -> None:
    known = ORDER | {"refunds": [refund(9, "30")], "current_subtotal_price": "70.00"}
    row = worth(envelope("orders/updated", known), envelope("refunds/create", refund(9, "30")))
    assert (row["net"], row["total"], row["earned"], row["reversed"]) == (7000, 70, 100, 30)


def test_a_refund_the_snapshot_does_not_list_is_taken_off_once() -> None:
    copies = [envelope("refunds/create", refund(9, amount), amount) for amount in ("30", "40", "30")]
    row = worth(*copies, envelope("orders/paid", ORDER))
    assert (row["net"], row["total"], row["earned"], row["reversed"]) == (6000, 60, 100, 40)


@pytest.mark.parametrize(("created_at", "net"), [("2026-03-01T12:00:00Z", 10_000), ("2026-03-01T12:00:01Z", 7000)])
def test_without_a_refunds_field_only_later_refunds_are_taken_off(created_at: str, net: int) -> None:
    bare = {name: value for name, value in ORDER.items() if name != "refunds"}
    row = worth(envelope("orders/paid", bare), envelope("refunds/create", refund(9, "30", created_at)))
    assert row["net"] == net


def test_net_never_goes_below_nothing() -> None:
    row = worth(envelope("orders/paid", ORDER), envelope("refunds/create", refund(9, "99999999999.00")))
    assert (row["net"], row["total"], row["earned"]) == (0, 0, 100)


def test_amounts_beyond_every_order_are_no_amounts() -> None:
    """What sums beyond 64 bits is a dead letter to the agents, and nothing to the batch."""
    line = {"gift_card": True, "price": "99999999999.00", "quantity": 1_000_000}
    many = {**refund(9, "1.00"), "refund_line_items": [{"subtotal": "99999999999.00"}] * 10_000}
    history = History(SHOP, "USD")
    messages = [envelope("orders/paid", ORDER | {"line_items": [line]}), envelope("refunds/create", many)]
    history.absorb((topics.ORDERS, message) for message in messages)
    assert history.unreadable == 2


def test_equal_keys_with_other_payloads_are_ordered_by_their_digests() -> None:
    one, two = envelope("orders/paid", ORDER), envelope("orders/paid", ORDER | {"current_subtotal_price": "50.00"})
    assert worth(one, two)["net"] == worth(two, one)["net"]


def test_a_privacy_request_names_nobody_but_moves_their_now() -> None:
    def people(*topics_: str) -> list[tuple[str, int]]:
        history = History(SHOP, "USD")
        for topic in topics_:
            later = topic == "customers/redact"
            payload = {"shop_domain": SHOP, "customer": {"id": 5}} if later else {"id": 5}
            value = envelope(topic, payload).replace(b"T12:00", b"T13:00" if later else b"T12:00")
            history.absorb([(topics.CUSTOMERS, value)])
        assert history.unreadable == 0
        return [(ident, now) for ident, now in history.customers().select("customer_id", "now").iter_rows()]

    noon = instants.from_datetime(T)
    assert people("customers/redact") == []
    assert people("customers/update") == [("5", noon)]
    assert people("customers/redact", "customers/update") == [("5", noon + instants.HOUR)]


def test_a_webhook_on_another_familys_topic_counts_for_nothing() -> None:
    history = History(SHOP, "USD")
    history.absorb([(topics.CUSTOMERS, envelope("orders/paid", ORDER))])
    history.absorb([(topics.CUSTOMERS, envelope("customers/update", {"id": 5, "updated_at": "yesterday"}))])
    assert history.unreadable == 2
    assert history.customers().is_empty()


def test_a_refunded_order_is_worth_nothing_whatever_amounts_it_shows() -> None:
    refunded = ORDER | {"financial_status": "refunded", "current_subtotal_price": "120.00"}
    row = worth(envelope("orders/updated", refunded))
    assert (row["net"], row["earned"], row["reversed"]) == (0, 100, 100)


def test_an_order_without_a_customer_is_a_guests() -> None:
    row = worth(envelope("orders/paid", ORDER | {"customer": None}))
    assert (row["guest"], row["counted"], row["net"], row["earned"], row["total"]) == (True, False, 10_000, 0, 0)


def test_refunds_of_an_order_not_yet_seen_are_held() -> None:
    history = History(SHOP, "USD")
    history.absorb([(topics.ORDERS, envelope("refunds/create", refund(9, "30")))])
    assert orders.worth(history, program((None, "1"))).is_empty()
    history.absorb([(topics.ORDERS, envelope("orders/paid", ORDER))])
    assert orders.worth(history, program((None, "1")))["net"].to_list() == [7000]
    assert history.customers()["customer_id"].to_list() == ["5"]
