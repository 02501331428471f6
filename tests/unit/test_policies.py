"""What each policy makes of one order, by hand: the stream's fold, the batch and the oracle come to the same cents.

The order is 119.00 with 19% tax in it (100.00 without): two cups of 47.60 and a plate of 23.80.
"""

import json
from itertools import permutations
from typing import Any

import polars as pl
import pytest

from batch import orders as batch_orders
from batch.history import History
from events import envelopes, topics
from events.programs import Policies, Program
from lake import valuing
from tables import orders
from tests import oracle

Json = dict[str, Any]

SHOP = "policies.myshopify.com"
PAID, BACK = "2026-11-20T10:00:00Z", "2026-11-21T10:00:00Z"
EVER = ["goods", "goods_and_adjustments", "money"]


def line(price: str, quantity: int, tax: str, current: int | None = None) -> Json:
    left = quantity if current is None else current
    return {"price": price, "quantity": quantity, "current_quantity": left, "tax_lines": [{"price": tax}]}


CUPS, PLATE = line("47.60", 2, "15.20"), line("23.80", 1, "3.80")


def order(worth: str, at: str = PAID, **changes: Any) -> Json:
    found = {
        "id": 1,
        "created_at": PAID,
        "updated_at": at,
        "financial_status": "paid",
        "currency": "USD",
        "customer": {"id": 5},
        "subtotal_price": "119.00",
        "current_subtotal_price": worth,
        "taxes_included": True,
        "total_tax": "20.00",  # postage's among it
        "line_items": [CUPS, PLATE],
        "refunds": [],
    }
    return {name: value for name, value in (found | changes).items() if value is not ...}


def refund(lines: list[Json], *paid: str, goodwill: str | None = None, **changes: Any) -> Json:
    adjustments = [] if goodwill is None else [{"amount": goodwill, "reason": "Refund discrepancy"}]
    transactions = [{"kind": "refund", "status": "success", "amount": each, "currency": "USD"} for each in paid]
    found = {"id": 9, "order_id": 1, "created_at": BACK, "refund_line_items": lines}
    return found | {"order_adjustments": adjustments, "transactions": transactions} | changes


PLATE_BACK: Json = {"quantity": 1, "subtotal": "23.80", "total_tax": "3.80"}


def told(*payloads: Json) -> list[Json]:
    return [
        {
            "topic": "refunds/create" if "order_id" in payload else "orders/updated",
            "shop": SHOP,
            "webhook_id": f"w{number}",
            "event_id": None,
            "api_version": None,
            "triggered_at": BACK,
            "received_at": BACK,
            "payload": payload,
        }
        for number, payload in enumerate(payloads)
    ]


def worth(sent: list[Json], refunds: str, taxes: str) -> tuple[int, int]:
    """(net, gross) of the order; all three that know must agree, whatever came first."""
    policy = {"effective_from": None, "refunds": refunds, "taxes": taxes}
    plain = {"currency": "USD", "zone": "UTC", "look_back_days": None, "policies": [policy], "rules": []}
    rules = [{"effective_from": None, "points_per_unit": "1"}]
    program = Program.model_validate({**plain, "rules": rules, "shop": SHOP})
    found = set()
    for said in permutations(sent):
        state = orders.initial()
        for each in said:
            state = orders.apply(state, envelopes.read(json.dumps(each).encode(), topics.ORDERS), "USD")
        (fact,) = orders.facts(SHOP, "1", "USD", state, Policies(program))
        found.add((fact["net"], fact["gross"]))
    history = History(SHOP, "USD")
    history.absorb((topics.ORDERS, json.dumps(each).encode()) for each in sent)
    (row,) = batch_orders.worth(history, program).to_dicts()
    known = oracle.oracle(sent, {SHOP: plain})[SHOP].orders["1"]
    assert found == {(row["net"], row["gross"])} == {(known.net, known.gross)}
    if row["counted"]:  # the same of the columns that this policy needs
        told_of = (
            batch_orders.states(history).with_columns(customer=pl.lit(5)).select("customer", *valuing.needed(program))
        )
        (deserved,) = valuing.deserved(told_of, program).to_dicts()
        assert (deserved["net"], deserved["total"]) == (row["net"], row["total"])
    return found.pop()


GOODS_BACK = told(order("119.00"), refund([PLATE_BACK], "23.80"))
GOODWILL = told(order("119.00"), refund([], "40.00", goodwill="-40.00"))
BOTH = told(order("119.00"), refund([PLATE_BACK], "33.80", goodwill="-10.00"))
POSTAGE = told(order("119.00"), refund([], "9.00"))
FEE_KEPT = told(order("119.00"), refund([PLATE_BACK], "20.00", goodwill="3.80"))
PENDING = told(
    order("119.00"), refund([PLATE_BACK], transactions=[{"kind": "refund", "status": "pending", "amount": "1"}])
)
UNTOLD = told(order("119.00"), refund([PLATE_BACK], goodwill="-10.00", transactions=None))
OTHERS_MONEY = told(
    order("119.00"),
    refund([PLATE_BACK], transactions=[{"kind": "refund", "status": "success", "amount": "9", "currency": "EUR"}]),
)
TOO_MUCH = told(order("119.00"), refund([], "500.00", goodwill="-500.00"))
CARD_BACK = told(
    order("119.00"), refund([{"quantity": 1, "subtotal": "20.00", "line_item": {"gift_card": True}}], "30.00")
)
OLD_KIND = told(
    order("119.00"),
    refund(
        [],
        "49.00",
        order_adjustments=[
            {"kind": "refund_discrepancy", "reason": "Refund discrepancy", "amount": "-40.00"},
            {"kind": "shipping_refund", "reason": "Shipping refund", "amount": "-9.00"},
        ],
    ),
)


@pytest.mark.parametrize(
    ("sent", "as_priced", "excluded"),
    [
        (told(order("119.00")), (119_00, 119_00, 119_00), (100_00, 100_00, 100_00)),
        (GOODS_BACK, (95_20, 95_20, 95_20), (80_00, 80_00, 80_00)),
        # Of money that came back without goods the tax goes off in proportion: 79.00 / 1.19 = 66.39.
        (GOODWILL, (119_00, 79_00, 79_00), (100_00, 66_39, 66_39)),
        (BOTH, (95_20, 85_20, 85_20), (80_00, 71_60, 71_60)),
        (POSTAGE, (119_00, 119_00, 110_00), (100_00, 100_00, 92_44)),
        (FEE_KEPT, (95_20, 95_20, 99_00), (80_00, 80_00, 83_19)),
        (PENDING, (95_20, 95_20, 119_00), (80_00, 80_00, 100_00)),
        (UNTOLD, (95_20, 85_20, 85_20), (80_00, 71_60, 71_60)),
        (OTHERS_MONEY, (95_20, 95_20, 95_20), (80_00, 80_00, 80_00)),
        (TOO_MUCH, (119_00, 0, 0), (100_00, 0, 0)),
        (CARD_BACK, (119_00, 119_00, 109_00), (100_00, 100_00, 91_60)),
        (OLD_KIND, (119_00, 79_00, 70_00), (100_00, 66_39, 58_82)),
    ],
)
def test_each_policy_by_hand(sent: list[Json], as_priced: tuple[int, ...], excluded: tuple[int, ...]) -> None:
    assert tuple(worth(sent, each, "as_priced") for each in EVER) == tuple((net, 119_00) for net in as_priced)
    assert tuple(worth(sent, each, "excluded") for each in EVER) == tuple((net, 100_00) for net in excluded)


@pytest.mark.parametrize("refunds", EVER)
def test_a_refund_that_the_snapshot_knows_is_taken_once(refunds: str) -> None:
    back = refund([PLATE_BACK], "33.80", goodwill="-10.00")
    left = [CUPS, {**PLATE, "current_quantity": 0}]
    known = order("95.20", BACK, financial_status="partially_refunded", refunds=[back], line_items=left)
    for sent in (told(known), told(known, back), told(order("119.00"), known, back)):
        assert worth(sent, refunds, "as_priced") == (95_20 if refunds == "goods" else 85_20, 119_00)
        assert worth(sent, refunds, "excluded") == (80_00 if refunds == "goods" else 71_60, 100_00)


def test_a_copy_that_says_less_takes_nothing_back() -> None:
    back = refund([PLATE_BACK], "33.80", goodwill="-10.00")
    bare = {name: back[name] for name in ("id", "order_id", "created_at", "refund_line_items")}
    known = order("95.20", BACK, refunds=[bare], line_items=[CUPS, {**PLATE, "current_quantity": 0}])
    for refunds in ("goods_and_adjustments", "money"):
        assert worth(told(known, back), refunds, "as_priced") == (85_20, 119_00)


def test_where_prices_hold_no_tax_nothing_is_taken() -> None:
    for said in (False, None, ...):
        assert worth(told(order("119.00", taxes_included=said)), "goods", "excluded") == (119_00, 119_00)


@pytest.mark.parametrize(
    ("changes", "net", "gross"),
    [
        # No line tells its tax: the order's, in proportion. 20.00 x 95.20 / 119.00 = 16.00.
        ({"line_items": [{"price": "47.60", "quantity": 2}]}, 79_20, 99_00),
        ({"line_items": []}, 79_20, 99_00),
        ({"line_items": ..., "total_tax": ...}, 95_20, 119_00),
        # Lines that do not tell what is left of them: less the refunds' tax.
        ({"line_items": [{**CUPS, "current_quantity": None}, PLATE]}, 80_00, 100_00),
        # One cup edited away: half of its line's tax, a third of one rounded half up.
        ({"line_items": [{**CUPS, "current_quantity": 1}, PLATE]}, 95_20 - 7_60 - 3_80, 100_00),
        ({"line_items": [{**CUPS, "quantity": 3, "current_quantity": 2}, PLATE]}, 95_20 - 10_13 - 3_80, 100_00),
        ({"line_items": [line("47.60", 2, "0.05", 1), PLATE]}, 95_20 - 3 - 3_80, 119_00 - 5 - 3_80),
        # A tax that cannot be read is none.
        (
            {"line_items": [{**CUPS, "tax_lines": [{"price": "0.001"}]}, {**PLATE, "current_quantity": 0}]},
            95_20,
            115_20,
        ),
    ],
)
def test_what_is_read_where_taxes_are_told_otherwise(changes: Json, net: int, gross: int) -> None:
    known = order("95.20", BACK, refunds=[refund([PLATE_BACK], "23.80")], **changes)
    assert worth(told(known), "goods", "excluded") == (net, gross)


def test_money_kept_of_goods_that_all_came_back_holds_tax_as_the_order_did() -> None:
    gone = [{**each, "current_quantity": 0} for each in (CUPS, PLATE)]
    lines = [PLATE_BACK, {"quantity": 2, "subtotal": "95.20", "total_tax": "15.20"}]
    known = order("0.00", BACK, refunds=[refund(lines, "100.00")], line_items=gone)
    assert worth(told(known), "money", "excluded") == (15_97, 100_00)
    assert worth(told(known), "goods", "excluded") == (0, 100_00)


def test_a_refunded_order_is_worth_nothing_under_any_policy() -> None:
    for refunds in EVER:
        for taxes in ("as_priced", "excluded"):
            gross = 119_00 if taxes == "as_priced" else 100_00
            assert worth(told(order("119.00", financial_status="refunded")), refunds, taxes) == (0, gross)


def test_the_policy_is_that_of_the_orders_time() -> None:
    before, at = {"effective_from": None, "refunds": "goods"}, {"effective_from": PAID, "refunds": "money"}
    program = Program.model_validate(
        {"shop": SHOP, "currency": "USD", "policies": [{**each, "taxes": "as_priced"} for each in (before, at)]}
    )
    for processed_at, net in ((PAID, 79_00), ("2026-11-20T09:59:59.999999Z", 119_00)):
        state, history = orders.initial(), History(SHOP, "USD")
        for each in told(order("119.00", processed_at=processed_at), refund([], "40.00")):
            state = orders.apply(state, envelopes.read(json.dumps(each).encode(), topics.ORDERS), "USD")
            history.absorb([(topics.ORDERS, json.dumps(each).encode())])
        assert [each["net"] for each in orders.facts(SHOP, "1", "USD", state, Policies(program))] == [net]
        assert batch_orders.worth(history, program)["net"].to_list() == [net]


def test_sums_stay_within_bounds() -> None:
    """Amounts beyond reason are cut, and no product of theirs overflows in the batch."""
    most = "99999999999.00"
    huge = order(most, subtotal_price=most, total_tax=most, line_items=[])
    assert worth(told(huge, refund([], most, "1.00")), "money", "excluded") == (0, 0)
    half = order(most, subtotal_price=most, total_tax="33333333333.00", line_items=[])
    assert worth(told(half, refund([], "49999999999.50")), "money", "excluded") == (3333333333300, 6666666666600)
    back = refund([{"quantity": 1, "subtotal": most}], transactions=[])
    known = order(most, subtotal_price=most, taxes_included=False, refunds=[back])
    assert worth(told(known), "money", "as_priced") == (10**13, 10**13)
