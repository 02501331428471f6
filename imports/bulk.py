"""Bulk operations of Shopify's GraphQL Admin API: an object a line, its parts by `__parentId` on others.

Orders come with lines, refunds (as a list or as lines of their own), transactions; customers with their consent. What
a query did not ask for is not in the payload, so it says nothing.
"""

import mmap
import re
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from events import codec, instants
from events.errors import BadEvent
from imports.items import CUSTOMER, ORDER, Chunk, FileError, Item, Json, Notes, Problem

_NODE: Final = rb'gid:\\?/\\?/shopify\\?/([A-Za-z]+)\\?/([0-9]{1,20})(?:\\?[^"]*)?"'
#: Where Shopify writes them: its own id first, its parent's last. What stands elsewhere is found by parsing the line.
_OWN: Final = re.compile(rb'\s*\{\s*"id"\s*:\s*"' + _NODE)
_PARENT: Final = re.compile(rb'"__parentId"\s*:\s*"' + _NODE + rb"\s*\}\s*$")
_TAIL: Final = 160
_BOM: Final = b"\xef\xbb\xbf"
_ROOTS: Final = (b"Order", b"Customer")
_GID: Final = re.compile(r"gid://shopify/([A-Za-z]+)/([0-9]{1,20})(\?.*)?")

Loads = Callable[[bytes], Any]
#: A kind of GraphQL's and an id: of the line itself, and of what it belongs to.
Node = tuple[bytes, bytes]


class _BadError(ValueError):
    """An object that is not what GraphQL gives; the message says what of it."""


def recognised(head: bytes) -> bool:
    """Whether a file that begins so is one; FileError for JSON that is none."""
    start = head.removeprefix(_BOM).lstrip()
    if start.startswith(b"["):
        raise FileError("it is a JSON array: a bulk operation gives JSONL, an object a line")
    if not start.startswith(b"{"):
        return False
    first = start.partition(b"\n")[0]
    if b"gid:" not in first and b"__parentId" not in first:
        raise FileError("its first line is no object of a bulk operation: ask for `id` in the query")
    return True


class BulkFile:
    """One file."""

    form = "bulk JSONL"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._grouped: bool | None = None
        self._has_refunds = False
        self.notes = Notes()

    # --- lines into groups ---

    def scan(self) -> int:
        """How many lines there are; and whether each is near the order that it belongs to."""
        lines, grouped = 0, True
        current: Node | None = None
        parts: dict[bytes, Node] = {}  # of a refund that is a line of its own: whose it is
        with self._path.open("rb") as file:
            for line in file:
                lines += 1
                own, root = _nodes(line.removeprefix(_BOM))
                if root is None:
                    current = own or current
                    continue
                if own is not None and own[0] == b"Refund":
                    self._has_refunds = True
                    parts[own[1]] = root
                if root[0] == b"Refund":
                    root = parts.get(root[1], root)
                grouped = grouped and root == current
        self._grouped = grouped
        return lines

    def chunks(self) -> Iterator[Chunk | Problem]:
        """Each order or customer with all its lines. Of two under one id the first stands."""
        self.notes.counts.clear()
        if self._grouped is None:
            self.scan()
        seen: dict[int, int] = {}
        held: Chunk | None = None
        for group in self._adjacent() if self._grouped else self._sorted():
            if isinstance(group, Problem):
                yield group
                continue
            number, lines = group
            if not lines[-1].endswith(b"\n") and not _whole(lines[-1]):
                yield Problem(number, "the file breaks off in it, or in a line that belongs to it")
                if held is not None and len(lines) == 1:
                    yield Problem(held.line, "the file breaks off where more may belong to it")
                    held = None
                continue
            own, _ = _nodes(lines[0])
            if own is not None and own[0] in _ROOTS:
                before = seen.setdefault(2 * int(own[1]) + (own[0] == b"Customer"), number)
                if before != number:
                    yield Problem(number, f"its {own[0].decode().lower()} stands in line {before} already")
                    continue
            elif own is not None:
                continue  # a shop, a product: somebody asked for more
            if held is not None:
                yield held
            held = Chunk(number, lines)
        if held is not None:
            yield held

    def name_of(self, chunk: Chunk) -> str | None:
        """The object's GID; None where it tells none."""
        own, _ = _nodes(chunk.read[0])
        return None if own is None else f"gid://shopify/{own[0].decode()}/{own[1].decode()}"

    def item(self, chunk: Chunk) -> Item | Problem:
        """An object and its lines as a webhook's payload."""
        lines: list[bytes] = chunk.read
        try:
            root = _object(lines[0], orjson.loads)
            kind, ident = _gid(root.get("id"), "id")
            made = self._customer if kind == "Customer" else self._order
            payload = made(lines, orjson.loads)
            # Of two files that tell the same state of an order the one that tells more of it stands.
            name = f"import-jsonl-{len(payload):02d}{min(len(lines), 9999):04d}-{ident}"
            topic = CUSTOMER if kind == "Customer" else ORDER
            at = _instant(root, "createdAt")
            return Item(chunk.line, topic, at, name, payload, partial(made, lines, codec.loads_exact))
        except _BadError as error:
            return Problem(chunk.line, str(error))

    def _adjacent(self) -> Iterator[tuple[int, list[bytes]] | Problem]:
        """Each object with the lines that follow it and belong to it."""
        at, lines = 0, list[bytes]()
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(_BOM) if number == 1 else line
                if b'"__parentId"' in line and _nodes(line)[1] is not None:
                    if lines:
                        lines.append(line)
                    else:
                        yield Problem(number, "what it belongs to is not in the file")
                elif line.strip():
                    if lines:
                        yield at, lines
                    at, lines = number, [line]
        if lines:
            yield at, lines

    def _sorted(self) -> Iterator[tuple[int, list[bytes]] | Problem]:
        """The same of a file whose lines are anywhere: an index of where each object's lines begin, in their order."""
        roots, numbers, starts = array("q"), array("q"), array("q")
        order: dict[Node, int] = {}
        waiting: list[tuple[Node, int, int]] = []  # parents may come later
        refunds: dict[bytes, Node] = {}
        at = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                own, root = _nodes(line.removeprefix(_BOM))
                if root is not None:
                    if own is not None and own[0] == b"Refund":
                        refunds[own[1]] = root
                    waiting.append((root, number, at))
                elif line.strip():
                    if own is not None:
                        order.setdefault(own, number)  # a second one stands for itself, and is told
                    roots.append(number)
                    numbers.append(number)
                    starts.append(at)
                at += len(line)
            orphans = []
            for root, number, start in waiting:
                if root[0] == b"Refund" and root not in order:
                    root = refunds.get(root[1], root)
                place = order.get(root)
                if place is None:
                    orphans.append(number)
                    continue
                roots.append(place)
                numbers.append(number)
                starts.append(start)
        for number in orphans:
            yield Problem(number, "what it belongs to is not in the file")
        if not roots:
            return
        # The object itself first, wherever it stands; then its lines as they came.
        import polars as pl  # here: most commands that know of files read none

        index = pl.DataFrame({"root": roots, "number": numbers, "start": starts}).sort(
            "root", pl.col("number") != pl.col("root"), "number"
        )
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            current, lines = 0, list[bytes]()
            for root_at, _, start in index.iter_rows():
                end = view.find(b"\n", start)
                line = view[start : end + 1 if end >= 0 else len(view)]
                if root_at != current:
                    if lines:
                        yield current, lines
                    current, lines = root_at, []
                lines.append(line.removeprefix(_BOM))
            if lines:
                yield current, lines

    # --- a group into a payload ---

    def _order(self, lines: list[bytes], loads: Loads) -> Json:
        root = _object(lines[0], loads)
        goods, transactions, refunds = [], [], {}
        parts: dict[str, list[Json]] = {}
        for line in lines[1:]:
            child = _object(line, loads)
            kind = _kind(child)
            parent = _gid(child.get("__parentId"), "__parentId")
            if kind == "LineItem":
                goods.append(child)
            elif parent[0] == "Refund":
                parts.setdefault(parent[1], []).append({**child, "__kind": kind})
            elif kind == "Refund":
                refunds[_gid(child.get("id"), "a refund's id")[1]] = child
            elif kind == "OrderTransaction":
                transactions.append(child)
        given = _list(root.get("refunds"))
        for each in given:
            refunds.setdefault(_gid(each.get("id"), "a refund's id")[1], each)
        if "transactions" in root:
            transactions += _list(root["transactions"])
        payload = _head(root)
        if "lineItems" in root or goods:
            payload["line_items"] = [_line(each) for each in [*_list(root.get("lineItems")), *goods]]
        if "refunds" in root or refunds or self._has_refunds:
            payload["refunds"] = [_refund(each, parts.get(ident, [])) for ident, each in refunds.items()]
            if "transactions" in root or transactions:
                _pay_back(payload["refunds"], transactions)
        return payload

    def _customer(self, lines: list[bytes], loads: Loads) -> Json:
        root = _object(lines[0], loads)
        payload: Json = {"id": _gid(root.get("id"), "id")[1]}
        for ours, theirs in (("created_at", "createdAt"), ("updated_at", "updatedAt")):
            if theirs in root:
                payload[ours] = root[theirs]
        default = root.get("defaultEmailAddress") or {}
        email = root.get("email") or default.get("emailAddress")
        if "email" in root or "defaultEmailAddress" in root:
            payload["email"] = email or None  # none any more
        consent = root.get("emailMarketingConsent") or default
        if isinstance(state := consent.get("marketingState"), str):
            payload["email_marketing_consent"] = {
                "state": state.lower(),
                "opt_in_level": (consent.get("marketingOptInLevel") or "").lower() or None,
                "consent_updated_at": consent.get("consentUpdatedAt") or consent.get("marketingUpdatedAt"),
            }
        return payload


# --- pieces ------------------------------------------------------------------------------------------------------


def _nodes(line: bytes) -> tuple[Node | None, Node | None]:
    """Whose line it is, and what it belongs to; None for what it does not tell."""
    own, parent = _OWN.match(line), _PARENT.search(line[-_TAIL:])
    if own is None or (parent is None and b'"__parentId"' in line):
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            return own and (own[1], own[2]), None
        if not isinstance(found, dict):
            return None, None
        return _node(found.get("id")), _node(found.get("__parentId"))
    return (own[1], own[2]), parent and (parent[1], parent[2])


def _node(value: Any) -> Node | None:
    found = _GID.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else (found[1].encode(), found[2].encode())


def _whole(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _object(line: bytes, loads: Loads) -> Json:
    try:
        found = loads(line)
    except (orjson.JSONDecodeError, BadEvent):
        raise _BadError("it, or a line that belongs to it, is no JSON") from None
    if not isinstance(found, dict):
        raise _BadError("no JSON object")
    return found


def _gid(value: Any, what: str) -> tuple[str, str]:
    found = _GID.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _BadError(f"{what} is no gid://shopify/... of GraphQL's")
    return found[1], found[2]


def _kind(child: Json) -> str:
    """What a line is: by its id, else by its fields (a refund's lines need not have one)."""
    if isinstance(ident := child.get("id"), str) and (found := _GID.fullmatch(ident)):
        return found[1]
    if "lineItem" in child or "restockType" in child:
        return "RefundLineItem"
    if "kind" in child or "gateway" in child:
        return "OrderTransaction"
    return "OrderAdjustment" if "reason" in child else "unknown"


def _list(value: Any) -> list[Json]:
    """A list, a connection's nodes or its edges' nodes."""
    if isinstance(value, dict):
        value = value["nodes"] if "nodes" in value else [each.get("node") for each in value.get("edges") or []]
    return [each for each in value or [] if isinstance(each, dict)]


def _instant(root: Json, name: str) -> int:
    try:
        return instants.parse(root.get(name))
    except BadEvent:
        raise _BadError(f"{name} is no time: ask for it in the query") from None


def _money(value: Any) -> Json | None:
    """A MoneyBag, a MoneyV2 or a bare amount as a `*_set`'s shop_money."""
    if isinstance(value, dict):
        value = value.get("shopMoney", value)
        if isinstance(value, dict) and value.get("amount") is not None:
            found: Json = {"amount": value["amount"]}
            if value.get("currencyCode") is not None:
                found["currency_code"] = value["currencyCode"]
            return {"shop_money": found}
        return None
    return None if value is None else {"shop_money": {"amount": value}}


def _put(payload: Json, name: str, root: Json, *theirs: str) -> None:
    """An amount under `name_set`, if the query asked for it by one of these names."""
    for each in theirs:
        if (found := _money(root.get(each))) is not None:
            payload[f"{name}_set"] = found
            return


#: A field of the payload that is one of the order's own, as it stands.
_PLAIN: Final = (
    *(("created_at", "createdAt"), ("updated_at", "updatedAt"), ("processed_at", "processedAt")),
    *(("cancelled_at", "cancelledAt"), ("test", "test"), ("currency", "currencyCode"), ("source_name", "sourceName")),
    *(("taxes_included", "taxesIncluded"), ("buyer_accepts_marketing", "customerAcceptsMarketing"), ("email", "email")),
)


def _head(root: Json) -> Json:
    payload: Json = {"id": _gid(root["id"], "id")[1]}
    for ours, theirs in _PLAIN:
        if theirs in root:
            payload[ours] = root[theirs]
    for theirs in ("displayFinancialStatus", "financialStatus"):
        if isinstance(status := root.get(theirs), str):
            payload["financial_status"] = status.lower()
            break
    _put(payload, "current_subtotal_price", root, "currentSubtotalPriceSet", "currentSubtotalPrice")
    _put(payload, "subtotal_price", root, "subtotalPriceSet", "subtotalPrice")
    for name, theirs in (("current_total_price", "currentTotalPriceSet"), ("total_tax", "totalTaxSet")):
        if (found := _money(root.get(theirs))) is not None:
            payload[name] = found["shop_money"]["amount"]
    if isinstance(codes := root.get("discountCodes"), list):
        payload["discount_codes"] = [{"code": each} for each in codes if isinstance(each, str)]
    if "customer" in root:
        payload["customer"] = _buyer(root["customer"])
    return payload


def _buyer(customer: Any) -> Json | None:
    if not isinstance(customer, dict) or customer.get("id") is None:
        return None
    found: Json = {"id": _gid(customer["id"], "the customer's id")[1]}
    email = customer.get("email") or (customer.get("defaultEmailAddress") or {}).get("emailAddress")
    if email:
        found["email"] = email
    return found


def _line(line: Json) -> Json:
    found: Json = {}
    for ours, theirs in (("sku", "sku"), ("quantity", "quantity"), ("current_quantity", "currentQuantity")):
        if theirs in line:
            found[ours] = line[theirs]
    found["gift_card"] = line.get("isGiftCard", line.get("giftCard"))
    if (price := _money(line.get("originalUnitPriceSet", line.get("originalUnitPrice")))) is not None:
        found["price"] = price["shop_money"]["amount"]
        if found["gift_card"]:  # of any other line the price alone is kept
            found["price_set"] = price
    if line.get("discountAllocations"):
        amounts = [_money(each.get("allocatedAmountSet")) for each in _list(line["discountAllocations"])]
        found["discount_allocations"] = [{"amount_set": each} for each in amounts if each is not None]
    if (discount := _money(line.get("totalDiscountSet"))) is not None:
        found["total_discount"] = discount["shop_money"]["amount"]
    if line.get("taxLines") is not None:
        amounts = [_money(each.get("priceSet", each.get("price"))) for each in _list(line["taxLines"])]
        found["tax_lines"] = [{"price": each["shop_money"]["amount"]} for each in amounts if each is not None]
    for ours, theirs in (("product_id", "product"), ("variant_id", "variant")):
        owner = line.get(theirs)
        if isinstance(owner, dict) and isinstance(ident := owner.get("id"), str) and (gid := _GID.fullmatch(ident)):
            found[ours] = gid[2]
    return found


def _refund(refund: Json, parts: list[Json]) -> Json:
    found: Json = {"id": _gid(refund.get("id"), "a refund's id")[1], "created_at": refund.get("createdAt")}
    lines = [*_list(refund.get("refundLineItems")), *(each for each in parts if each["__kind"] == "RefundLineItem")]
    found["refund_line_items"] = [_refund_line(each) for each in lines]
    adjusted = [
        *_list(refund.get("orderAdjustments")),
        *(each for each in parts if each["__kind"] == "OrderAdjustment"),
    ]
    if adjusted or "orderAdjustments" in refund:
        found["order_adjustments"] = [_adjustment(each) for each in adjusted]
    paid = [*_list(refund.get("transactions")), *(each for each in parts if each["__kind"] == "OrderTransaction")]
    total = _money(refund.get("totalRefundedSet"))
    if paid or "transactions" in refund:
        found["transactions"] = [_transaction(each) for each in paid]
    elif total is not None:  # what was paid back in all, as if at once
        code = total["shop_money"].get("currency_code")
        found["transactions"] = [
            {"kind": "refund", "status": "success", "amount": total["shop_money"]["amount"], "currency": code}
        ]
    return found


def _refund_line(line: Json) -> Json:
    found: Json = {"quantity": line.get("quantity")}
    if (subtotal := _money(line.get("subtotalSet", line.get("subtotal")))) is not None:
        found["subtotal_set"] = subtotal
    if (tax := _money(line.get("totalTaxSet", line.get("totalTax")))) is not None:
        found["total_tax_set"] = tax
    if isinstance(item := line.get("lineItem"), dict):
        kept = _line(item)
        found["line_item"] = {
            name: kept[name] for name in ("gift_card", "price", "quantity", "total_discount") if name in kept
        }
    return found


def _adjustment(each: Json) -> Json:
    """GraphQL knows no shipping refund among them: all of them are differences between goods and money."""
    found: Json = {"kind": str(each.get("kind") or "refund_discrepancy").lower()}
    if isinstance(reason := each.get("reason"), str):
        found["reason"] = reason
    for ours, theirs in (("amount", "amountSet"), ("tax_amount", "taxAmountSet")):
        if (amount := _money(each.get(theirs))) is not None:
            found[ours] = amount["shop_money"]["amount"]
    return found


def _transaction(each: Json) -> Json:
    found: Json = {name: str(each[name]).lower() for name in ("kind", "status") if each.get(name) is not None}
    if (amount := _money(each.get("amountSet", each.get("amount")))) is not None:
        found["amount"] = amount["shop_money"]["amount"]
        found["currency"] = amount["shop_money"].get("currency_code")
    if isinstance(gateway := each.get("gateway"), str):
        found["gateway"] = gateway
    return found


def _pay_back(refunds: list[Json], transactions: list[Json]) -> None:
    """The order's refund transactions, if its one refund names none of its own."""
    if len(refunds) == 1 and "transactions" not in refunds[0]:
        paid = [_transaction(each) for each in transactions]
        refunds[0]["transactions"] = [each for each in paid if each.get("kind") == "refund"]
