"""Fulfilment's pure parts: codes, what is asked of Shopify, and what its answers are taken for."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from graphql import parse, validate

from events.programs import Reward
from fulfilment import admin, codes, discounts
from fulfilment.discounts import Wanted
from tests.shopify_admin import SCHEMA

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def reward(kind: str = "amount", value: str | None = "10", **more: Any) -> Reward:
    return Reward.model_validate(
        {"reward_id": "it", "cost": 500, "kind": kind, "value": value, "name": "It", "min_order": None, **more}
    )


def wanted(of: Reward, off: str | None = None) -> Wanted:
    until = AT + timedelta(days=30)
    return Wanted("r-1", "7", "LN-X", of, AT, until, None if off is None else Decimal(off))


def asked(of: Reward, off: str | None = None) -> dict[str, Any]:
    discount: dict[str, Any] = discounts.creation(wanted(of, off)).variables["discount"]
    return discount


def test_a_code_is_of_letters_that_nobody_mistakes_and_for_ever_the_same() -> None:
    found = {codes.code(bytes([number]) * 32) for number in range(256)}
    assert len(found) == 256
    for each in found:
        assert each.startswith("LN-")
        assert len(each) == 15
        assert not set(each[3:]) & set("01ILOUV")
    assert codes.code(bytes(range(32))) == "LN-FF4ZQZC4SKMT"


def test_a_discount_is_for_one_customer_once_and_names_nobody() -> None:
    assert asked(reward(min_order="49.9"), "10") == {
        "title": "LoyalNest reward r-1",
        "code": "LN-X",
        "context": {"customers": {"add": ["gid://shopify/Customer/7"]}},
        "usageLimit": 1,
        "appliesOncePerCustomer": True,
        "startsAt": "2026-11-21T09:30:00Z",
        "endsAt": "2026-12-21T09:30:00Z",
        "minimumRequirement": {"subtotal": {"greaterThanOrEqualToSubtotal": "49.9"}},
        "customerGets": {
            "value": {"discountAmount": {"amount": "10", "appliesOnEachItem": False}},
            "items": {"all": True},
        },
    }


def test_each_kind_asks_for_its_own() -> None:
    assert asked(reward("percent", "12.5"))["customerGets"] == {"value": {"percentage": 0.125}, "items": {"all": True}}
    product = asked(reward("product", None, product_id="11"), "24.50")["customerGets"]
    assert product["items"] == {"products": {"productsToAdd": ["gid://shopify/Product/11"]}}
    assert product["value"] == {"discountAmount": {"amount": "24.50", "appliesOnEachItem": False}}
    shipping = asked(reward("shipping", None))
    assert shipping["destination"] == {"all": True}
    assert not {"customerGets", "maximumShippingPrice"} & set(shipping)
    assert asked(reward("shipping", "5.90"))["maximumShippingPrice"] == "5.9"


def test_amounts_are_written_without_an_exponent() -> None:
    assert asked(reward(), "1E+3")["customerGets"]["value"]["discountAmount"]["amount"] == "1000"


@pytest.mark.parametrize(
    "call",
    [
        discounts.creation(wanted(reward(), "10")),
        discounts.creation(wanted(reward("shipping", None))),
        discounts.look("LN-X"),
        discounts.withdrawal({"id": "gid://shopify/DiscountCodeNode/1"}),
        discounts.price("11"),
    ],
    ids=lambda call: call.field,
)
def test_every_document_is_one_of_the_schema(call: discounts.Call) -> None:
    assert validate(SCHEMA, parse(call.document)) == []


def node(title: str = "LoyalNest reward r-1", *customers: str) -> dict[str, Any]:
    context = {"customers": [{"id": discounts.customer(each)} for each in customers]}
    return {"codeDiscount": {"title": title, "endsAt": None, "context": context}}


def test_a_discount_is_ours_by_its_request_and_its_customer() -> None:
    assert discounts.is_ours(node("LoyalNest reward r-1", "7"), "7", "r-1")
    others: list[dict[str, Any]] = [
        node("LoyalNest reward r-2", "7"),
        node("LoyalNest reward r-1", "8"),
        node("LoyalNest reward r-1", "7", "8"),
        node("LoyalNest reward r-1"),
        {"codeDiscount": {}},
        {"codeDiscount": {"title": "LoyalNest reward r-1", "context": {}}},
    ]
    for other in others:
        assert not discounts.is_ours(other, "7", "r-1")


@pytest.mark.parametrize("amount", ["x", "-1", "NaN", None])
def test_what_is_no_price_is_none(amount: str | None) -> None:
    with pytest.raises(ValueError, match="no price"):
        discounts.dearest({"priceRangeV2": {"maxVariantPrice": {"amount": amount}}})


def cost(asked: object, left: object, rate: object) -> dict[str, Any]:
    status = {"maximumAvailable": 1000.0, "currentlyAvailable": left, "restoreRate": rate}
    return {"cost": {"requestedQueryCost": asked, "throttleStatus": status}}


def read(told: object) -> admin.Answer:
    return admin.read(json.dumps(told).encode())


@pytest.mark.parametrize(
    ("extensions", "seconds"),
    [
        (cost(10, 990, 50.0), 0),
        (cost(110, 10, 50.0), 2),
        (cost(10_000, 0, 0), 60),
        (cost("x", 0, 50), 0),
        (cost(10, None, 50), 0),
        ({}, 0),
        (None, 0),
    ],
)
def test_the_next_question_waits_for_the_points_it_needs(extensions: Any, seconds: float) -> None:
    answer = read({"data": {}, "extensions": extensions})
    assert answer.trouble is None
    assert answer.pause == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("THROTTLED", "busy"),
        ("ACCESS_DENIED", "denied"),
        ("INVALID_VARIABLE", "invalid"),
        ("INTERNAL_SERVER_ERROR", "failed"),
        ("undefinedField", "failed"),
        ("secret words: 'x'", "failed"),
        (None, "failed"),
    ],
)
def test_what_an_error_of_the_store_is_to_us(code: Any, kind: str) -> None:
    answer = read({"errors": [{"message": "some words"}, {"extensions": {"code": code}}], "data": None})
    assert answer.trouble is not None
    assert answer.trouble.kind == kind
    assert "words" not in answer.trouble.error


def test_a_busy_store_is_left_alone_for_as_long_as_its_points_take() -> None:
    errors = [{"extensions": {"code": "THROTTLED"}}]
    answer = read({"errors": errors, "extensions": cost(210, 10, 50.0)})
    assert answer.trouble == admin.Trouble("busy", "throttled", timedelta(seconds=4))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'{"data": null}', b'{"data": []}', b'{"errors": 7}'])
def test_what_cannot_be_read_may_pass(body: bytes) -> None:
    answer = admin.read(body)
    assert answer.trouble is not None
    assert answer.trouble.kind == "failed"
