"""A writer of bulk operations: what GraphQL would give of orders and customers that webhooks told of, as JSONL."""

import json
import random
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def gid(kind: str, ident: Any) -> str:
    return f"gid://shopify/{kind}/{ident}"


def _bag(holder: Json, name: str) -> Json | None:
    """An amount of a payload as GraphQL's MoneyBag."""
    found = (holder.get(f"{name}_set") or {}).get("shop_money")
    if found is not None:
        return {"shopMoney": {"amount": found["amount"], "currencyCode": found.get("currency_code", "USD")}}
    plain = holder.get(name)
    return None if plain is None else {"shopMoney": {"amount": str(plain)}}


_AMOUNTS = (
    ("current_subtotal_price", "currentSubtotalPriceSet"),
    ("subtotal_price", "subtotalPriceSet"),
    ("total_tax", "totalTaxSet"),
)


def _line(line: Json) -> Json:
    found: Json = {"quantity": line.get("quantity"), "isGiftCard": line.get("gift_card", False)}
    if "current_quantity" in line:
        found["currentQuantity"] = line["current_quantity"]
    if (price := _bag(line, "price")) is not None:
        found["originalUnitPriceSet"] = price
    if line.get("discount_allocations") is not None:
        bags = [_bag(each, "amount") for each in line["discount_allocations"]]
        found["discountAllocations"] = [{"allocatedAmountSet": each} for each in bags]
    if line.get("tax_lines") is not None:
        found["taxLines"] = [{"priceSet": _bag(each, "price")} for each in line["tax_lines"]]
    if (discount := _bag(line, "total_discount")) is not None:
        found["totalDiscountSet"] = discount
    return found


def _refund_line(line: Json) -> Json:
    found: Json = {"quantity": line.get("quantity")}
    if (subtotal := _bag(line, "subtotal")) is not None:
        found["subtotalSet"] = subtotal
    if (tax := _bag(line, "total_tax")) is not None:
        found["totalTaxSet"] = tax
    if line.get("line_item") is not None:
        found["lineItem"] = _line(line["line_item"])
    return found


def _transaction(paid: Json) -> Json:
    found: Json = {name: paid[name].upper() for name in ("kind", "status") if isinstance(paid.get(name), str)}
    if paid.get("amount") is not None:
        money = {"amount": paid["amount"]}
        if paid.get("currency") is not None:
            money["currencyCode"] = paid["currency"]
        found["amountSet"] = {"shopMoney": money}
    if "gateway" in paid:
        found["gateway"] = paid["gateway"]
    return found


def _adjustment(kept: Json) -> Json:
    found: Json = {name: kept[name] for name in ("kind", "reason") if name in kept}
    for name, theirs in (("amount", "amountSet"), ("tax_amount", "taxAmountSet")):
        if (amount := _bag(kept, name)) is not None:
            found[theirs] = amount
    return found


def order(payload: Json, chance: random.Random, *, apart: bool) -> list[Json]:
    """An order's lines, itself first; `apart`: its refunds are lines of their own, else a list in it."""
    ident = payload["id"]
    names = {"created_at": "createdAt", "updated_at": "updatedAt", "processed_at": "processedAt"}
    names |= {"cancelled_at": "cancelledAt", "test": "test", "currency": "currencyCode", "email": "email"}
    names |= {"taxes_included": "taxesIncluded"}
    names |= {"buyer_accepts_marketing": "customerAcceptsMarketing"}
    found: Json = {"id": gid("Order", ident), "name": f"#{ident}"}
    found |= {theirs: payload[ours] for ours, theirs in names.items() if ours in payload}
    if payload.get("financial_status"):
        found["displayFinancialStatus"] = payload["financial_status"].upper()
    for name, theirs in _AMOUNTS:
        if (amount := _bag(payload, name)) is not None:
            found[theirs] = amount
    if "customer" in payload:
        customer = payload["customer"]
        found["customer"] = customer and {"id": gid("Customer", customer["id"])}
        if customer and customer.get("email"):
            found["customer"]["email"] = customer["email"]
    parts: list[Json] = []
    for number, line in enumerate(payload.get("line_items") or []):
        parts.append({"id": gid("LineItem", f"{ident}{number}"), **_line(line), "__parentId": found["id"]})
    if payload.get("refunds") is not None:
        refunds = []
        for each in payload["refunds"]:
            refund: Json = {"id": gid("Refund", each["id"]), "createdAt": each["created_at"]}
            if each.get("transactions") is not None:
                refund["transactions"] = [_transaction(paid) for paid in each["transactions"]]
            if each.get("order_adjustments") is not None:
                refund["orderAdjustments"] = {"nodes": [_adjustment(kept) for kept in each["order_adjustments"]]}
            lines = [_refund_line(line) for line in each["refund_line_items"]]
            if apart:
                parts.append({**refund, "__parentId": found["id"]})
                for at, line in enumerate(lines):
                    parts.append({"id": gid("RefundLineItem", f"{each['id']}{at}"), **line, "__parentId": refund["id"]})
            else:
                shape = chance.choice(["nodes", "edges"])
                inner: Any = lines if shape == "nodes" else [{"node": line} for line in lines]
                refund["refundLineItems"] = {shape: inner}
            refunds.append(refund)
        if not apart:
            found["refunds"] = refunds
    return [found, *parts]


def customer(payload: Json) -> Json:
    """A customer as a line."""
    found: Json = {"id": gid("Customer", payload["id"]), "email": payload.get("email")}
    found |= {"createdAt": payload["created_at"], "updatedAt": payload["updated_at"]}
    if (consent := payload.get("email_marketing_consent")) is not None:
        found["emailMarketingConsent"] = {
            "marketingState": consent["state"].upper(),
            "consentUpdatedAt": consent.get("consent_updated_at"),
        }
    return found


def jsonl(groups: Iterable[list[Json]], chance: random.Random | None = None) -> bytes:
    """The objects as a file; with `chance` the parts of all are mixed behind them."""
    found = list(groups)
    lines = [line for group in found for line in group]
    if chance is not None:
        parts = [part for group in found for part in group[1:]]
        chance.shuffle(parts)
        lines = [group[0] for group in found] + parts
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
