"""Bulk operations: the shapes that GraphQL gives, those of clients who rewrite them, and files that are broken."""

import json
from pathlib import Path
from typing import Any

import pytest

from imports import files, items, judging
from imports.items import Item, Problem
from imports.judging import Judged

Json = dict[str, Any]
SHOP = "a.myshopify.com"


def bag(amount: Any, code: str = "USD") -> Json:
    return {
        "shopMoney": {"amount": amount, "currencyCode": code},
        "presentmentMoney": {"amount": "9", "currencyCode": "EUR"},
    }


def order(number: int = 1, **changes: Any) -> Json:
    found = {
        "id": f"gid://shopify/Order/{number}",
        "createdAt": "2026-11-10T14:00:00Z",
        "updatedAt": "2026-11-12T14:00:00Z",
        "processedAt": "2026-11-10T14:00:00Z",
        "cancelledAt": None,
        "displayFinancialStatus": "PARTIALLY_REFUNDED",
        "test": False,
        "currencyCode": "USD",
        "email": "ada@example.com",
        "customer": {"id": "gid://shopify/Customer/7", "defaultEmailAddress": {"emailAddress": "Ada@example.com"}},
        "currentSubtotalPriceSet": bag("30.0"),
        "subtotalPriceSet": bag("40.0"),
        "totalTaxSet": bag("4.0"),
        "taxesIncluded": False,
        "discountCodes": ["WELCOME"],
    }
    return found | changes


def child(kind: str, number: int, parent: str = "Order/1", /, **fields: Any) -> Json:
    return {"id": f"gid://shopify/{kind}/{number}", **fields, "__parentId": f"gid://shopify/{parent}"}


def read(tmp_path: Path, *lines: Json | bytes, end: bytes = b"\n") -> list[Item | Problem]:
    path = tmp_path / "bulk.jsonl"
    path.write_bytes(b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines) + end)
    reader = files.reader(path, SHOP, "USD", 0)
    assert reader.form == "bulk JSONL"
    reader.scan()
    return sorted(items.items(reader), key=lambda each: each.line)


def one(tmp_path: Path, *lines: Json | bytes) -> Json:
    (found,) = read(tmp_path, *lines)
    assert isinstance(found, Item), found
    return found.payload


REFUND: Json = {"createdAt": "2026-11-12T14:00:00Z", "totalRefundedSet": bag("12.0")}


def test_an_order_is_told_as_a_webhook_would(tmp_path: Path) -> None:
    (found,) = read(tmp_path, order(refunds=[]))
    assert isinstance(found, Item)
    assert (found.line, found.topic, found.triggered_at) == (1, "orders/updated", 1794319200000000)
    assert found.webhook_id.startswith("import-jsonl-")
    assert found.webhook_id.endswith("-1")
    seen = judging.judge(found, SHOP, "USD")
    assert isinstance(seen, Judged)
    assert seen.order
    assert (seen.order["customer"], seen.order["base"], seen.order["gross"]) == ("7", 3000, 4000)
    assert (seen.order["status"], seen.order["refund_ids"]) == ("partially_refunded", [])
    assert (seen.opened.told.email, seen.opened.told.consent) == ("ada@example.com", None)
    assert seen.opened.payload["discount_codes"] == [{"code": "WELCOME"}]
    assert (seen.opened.payload["total_tax"], seen.opened.payload["taxes_included"]) == ("4.0", False)
    assert "ada" not in str(seen.opened.payload)


def test_what_a_query_did_not_ask_for_is_not_said(tmp_path: Path) -> None:
    payload = one(tmp_path, {"id": "gid://shopify/Order/1", "createdAt": "2026-11-10T14:00:00Z"})
    assert payload == {"id": "1", "created_at": "2026-11-10T14:00:00Z"}


GOODS = child(
    "LineItem", 11, quantity=2, currentQuantity=1, isGiftCard=True, originalUnitPriceSet=bag("10.0"), sku="GIFT"
)
GOODS["discountAllocations"] = [{"allocatedAmountSet": bag("1.0")}]
LINE = child("RefundLineItem", 31, "Refund/21", quantity=1, subtotalSet=bag("10.0"), lineItem={"isGiftCard": False})
ADJUSTED = child("OrderAdjustment", 41, "Refund/21", reason="REFUND_DISCREPANCY", amountSet=bag("-2.0"))
PAID = child(
    "OrderTransaction", 51, "Refund/21", kind="REFUND", status="SUCCESS", gateway="bogus", amountSet=bag("12.0")
)

WANTED_LINE = {
    "sku": "GIFT",
    "quantity": 2,
    "current_quantity": 1,
    "gift_card": True,
    "price": "10.0",
    "price_set": {"shop_money": {"amount": "10.0", "currency_code": "USD"}},
    "discount_allocations": [{"amount_set": {"shop_money": {"amount": "1.0", "currency_code": "USD"}}}],
}
WANTED_REFUND = {
    "id": "21",
    "created_at": "2026-11-12T14:00:00Z",
    "refund_line_items": [
        {
            "quantity": 1,
            "subtotal_set": {"shop_money": {"amount": "10.0", "currency_code": "USD"}},
            "line_item": {"gift_card": False},
        }
    ],
    "order_adjustments": [{"kind": "refund_discrepancy", "reason": "REFUND_DISCREPANCY", "amount": "-2.0"}],
    "transactions": [{"kind": "refund", "status": "success", "amount": "12.0", "currency": "USD", "gateway": "bogus"}],
}


@pytest.mark.parametrize("shape", ["near", "apart", "backwards", "inline"])
def test_parts_are_found_wherever_they_stand(tmp_path: Path, shape: str) -> None:
    refund = child("Refund", 21, **REFUND)
    parts = [GOODS, refund, LINE, ADJUSTED, PAID]
    other = order(2, refunds=[])
    if shape == "near":
        lines = [order(), *parts, other]
    elif shape == "apart":
        lines = [order(), other, child("LineItem", 12, "Order/2", quantity=1), *parts]
    elif shape == "backwards":
        lines = [other, *reversed(parts), order()]
    else:
        inside = {"id": refund["id"], **REFUND, "refundLineItems": {"edges": [{"node": LINE}]}}
        inside |= {"orderAdjustments": {"nodes": [ADJUSTED]}, "transactions": [PAID]}
        lines = [order(refunds=[inside], lineItems={"nodes": [GOODS]}), other]
    found = [each for each in read(tmp_path, *lines) if isinstance(each, Item)]
    assert len(found) == 2
    payload = next(each.payload for each in found if each.payload["id"] == "1")
    assert payload["line_items"] == [WANTED_LINE]
    assert payload["refunds"] == [WANTED_REFUND]
    assert next(each.payload for each in found if each.payload["id"] == "2")["refunds"] == []


def test_parts_without_an_id_are_known_by_their_fields(tmp_path: Path) -> None:
    parts = [{name: value for name, value in each.items() if name != "id"} for each in (LINE, ADJUSTED, PAID)]
    payload = one(tmp_path, order(), child("Refund", 21, **REFUND), *parts)
    assert payload["refunds"] == [WANTED_REFUND]


def test_a_refund_whose_transactions_nobody_asked_for_paid_its_total_back(tmp_path: Path) -> None:
    payload = one(tmp_path, order(refunds=[{"id": "gid://shopify/Refund/21", **REFUND}]))
    paid = {"kind": "refund", "status": "success", "amount": "12.0", "currency": "USD"}
    assert payload["refunds"][0]["transactions"] == [paid]
    bare = {"id": "gid://shopify/Refund/21", "createdAt": "2026-11-12T14:00:00Z"}
    payload = one(tmp_path, order(refunds=[bare], transactions=[PAID, {**PAID, "kind": "SALE"}]))
    assert payload["refunds"][0]["transactions"] == WANTED_REFUND["transactions"]


def test_ids_may_stand_anywhere_in_a_line(tmp_path: Path) -> None:
    first = {"customer": {"id": "gid://shopify/Customer/7"}, "__parentId_": 1, **order(refunds=[])}
    moved = {"__parentId": GOODS["__parentId"], "product": {"id": "gid://shopify/Product/1"}, **GOODS}
    moved["sku"] = moved.pop("sku")
    for lines in ([first, moved], [moved, first]):
        payload = one(tmp_path, *lines)
        assert payload["id"] == "1"
        assert [each["sku"] for each in payload["line_items"]] == ["GIFT"]


def test_slashes_may_be_escaped_and_amounts_be_numbers(tmp_path: Path) -> None:
    text = json.dumps(order(currentSubtotalPriceSet=bag(30.25))).replace("/", "\\/").encode()
    (found,) = read(tmp_path, text)
    assert isinstance(found, Item)
    seen = judging.judge(found, SHOP, "USD")
    assert isinstance(seen, Judged)
    assert seen.order
    assert seen.order["base"] == 3025


def test_line_separators_inside_a_text_end_no_line(tmp_path: Path) -> None:
    text = json.dumps(order(name="a\u2028b\x0b\x85c"), ensure_ascii=False).encode()
    assert one(tmp_path, b"\xef\xbb\xbf" + text)["id"] == "1"


def test_a_customer_tells_of_consent(tmp_path: Path) -> None:
    told = {"createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-02-01T00:00:00Z"}
    consent = {"marketingState": "SUBSCRIBED", "marketingOptInLevel": "SINGLE_OPT_IN"}
    old = {"email": "a@example.com", "emailMarketingConsent": consent | {"consentUpdatedAt": "2026-01-02T00:00:00Z"}}
    new = {
        "defaultEmailAddress": consent | {"emailAddress": "a@example.com", "marketingUpdatedAt": "2026-01-02T00:00:00Z"}
    }
    for shape in (old, new):
        (found,) = read(tmp_path, {"id": "gid://shopify/Customer/7", **told, **shape})
        assert isinstance(found, Item)
        assert (found.topic, found.triggered_at) == ("customers/update", 1767225600000000)
        assert found.payload == {
            "id": "7",
            "created_at": "2026-01-01T00:00:00Z",
            "updated_at": "2026-02-01T00:00:00Z",
            "email": "a@example.com",
            "email_marketing_consent": {
                "state": "subscribed",
                "opt_in_level": "single_opt_in",
                "consent_updated_at": "2026-01-02T00:00:00Z",
            },
        }


@pytest.mark.parametrize("grouped", [True, False])
def test_what_is_broken_is_named_and_stops_nothing(tmp_path: Path, grouped: bool) -> None:
    parts = [child("LineItem", 11, "Order/3", quantity=1), child("LineItem", 12, "Order/99", quantity=1)]
    lines: list[Json | bytes] = [order(), b"{not json}", order(1), order(3), *parts, {"id": "gid://shopify/Product/1"}]
    if not grouped:
        lines.append(child("LineItem", 13, "Order/1", quantity=1))
    found = read(tmp_path, *lines, {**order(4), "id": "4"}, order(5, createdAt="yesterday"))
    assert [each.payload["id"] for each in found if isinstance(each, Item)] == ["1", "3"]
    last = len(lines)
    assert [each for each in found if isinstance(each, Problem)] == [
        Problem(2, "it, or a line that belongs to it, is no JSON"),
        Problem(3, "its order stands in line 1 already"),
        Problem(6, "what it belongs to is not in the file"),
        Problem(last + 1, "id is no gid://shopify/... of GraphQL's"),
        Problem(last + 2, "createdAt is no time: ask for it in the query"),
    ]


def test_a_last_line_cut_short_leaves_the_order_before_it_in_doubt(tmp_path: Path) -> None:
    """What belonged to it may be what is missing."""
    found = read(tmp_path, order(1), order(2), json.dumps(GOODS).encode()[:40], end=b"")
    assert [each.payload["id"] for each in found if isinstance(each, Item)] == ["1"]
    assert found[1:] == [
        Problem(2, "the file breaks off where more may belong to it"),
        Problem(3, "the file breaks off in it, or in a line that belongs to it"),
    ]
    whole = read(tmp_path, order(1), order(2), end=b"")
    assert len([each for each in whole if isinstance(each, Item)]) == 2


def test_another_currency_is_named(tmp_path: Path) -> None:
    (found,) = read(tmp_path, order(currencyCode="EUR", currentSubtotalPriceSet=bag("1", "EUR")))
    assert isinstance(found, Item)
    assert judging.judge(found, SHOP, "USD") == Problem(1, "an order not in the shop's USD")


def test_of_two_files_of_one_state_the_richer_stands(tmp_path: Path) -> None:
    poor, rich = (read(tmp_path, *lines)[0] for lines in ([order()], [order(refunds=[]), GOODS]))
    assert isinstance(poor, Item)
    assert isinstance(rich, Item)
    assert poor.webhook_id < rich.webhook_id
