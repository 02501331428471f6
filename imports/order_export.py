"""The orders export of Shopify's admin: a row a line item, the order's own cells in its first row only.

What the file does not tell (ids of customers, when money was given back, and for what) has its reading in
docs/meaning.md.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from events import instants, money
from events.errors import BadEvent
from imports import cells, text
from imports.cells import CellError
from imports.items import ORDER, Chunk, FileError, Item, Json, Notes, Problem
from imports.transactions import number

#: Our name of a column and its names in the export, lower case.
COLUMNS: Final = {
    "name": ("name",),
    "email": ("email",),
    "status": ("financial status",),
    "paid": ("paid at",),
    "fulfilled": ("fulfilled at",),
    "marketing": ("accepts marketing",),
    "currency": ("currency",),
    "subtotal": ("subtotal",),
    "shipping": ("shipping",),
    "taxes": ("taxes",),
    "total": ("total",),
    "code": ("discount code",),
    "created": ("created at",),
    "quantity": ("lineitem quantity",),
    "price": ("lineitem price",),
    "sku": ("lineitem sku",),
    "discount": ("lineitem discount",),
    "cancelled": ("cancelled at", "canceled at"),
    "payment": ("payment method",),
    "refunded": ("refunded amount",),
    "id": ("id",),
    "source": ("source",),
}
NEEDED: Final = ("name", "status", "created", "subtotal")

#: The cells that only an order's first row has: two rows that have the same are of one order.
_OWN: Final = (
    *("id", "email", "status", "paid", "fulfilled", "marketing", "currency", "subtotal", "shipping", "taxes"),
    *("total", "code", "created", "cancelled", "payment", "refunded", "source"),
)
_EXACT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,3})?")
_BOGUS = re.compile(r"\bbogus\b|\(for testing\)", re.IGNORECASE)


def columns(header: list[str]) -> dict[str, int]:
    """Where our columns are; the first of a name counts."""
    plain = [text.plain_name(name) for name in header]
    return {
        wanted: next(at for at, name in enumerate(plain) if name in names)
        for wanted, names in COLUMNS.items()
        if any(name in names for name in plain)
    }


def recognised(header: list[str]) -> bool:
    """Whether a CSV with this header is such an export; FileError for one that lacks what an order needs."""
    found = columns(header)
    lacking = [COLUMNS[name][0].capitalize() for name in NEEDED if name not in found]
    # Nobody else's files have these.
    if lacking and {"status", "quantity", "price"} & found.keys() and "name" in found:
        raise FileError(
            f"an orders export without {' and without '.join(lacking)}: have Shopify's admin export it anew, and leave"
            " all of its columns there"
        )
    return not lacking


class _Order(NamedTuple):
    line: int
    cell: dict[str, str]
    items: list[dict[str, str]]


class OrderExport:
    """One file. Where rows have no Currency it is `currency`, the shop's."""

    form = "orders CSV"

    def __init__(self, path: Path, shop: str, currency: str) -> None:
        self._path, self._shop, self._currency = path, shop, currency
        self._header, self._delimiter = text.header_of(path)
        self.columns = columns(self._header)
        self._marks = cells.Marks(comma=self._delimiter == ";", semicolons=self._delimiter == ";")
        self._newest = 0
        self.notes = Notes()

    def scan(self) -> int:
        """How many lines there are; and the newest instant that any cell names: which of two exports is the later."""
        lines = 1
        times = [self.columns[name] for name in ("created", "paid", "fulfilled", "cancelled") if name in self.columns]
        subtotal = self.columns["subtotal"]
        for row in text.rows(self._path, Notes()):
            lines = row.line
            if isinstance(row, Problem) or not row.cells[subtotal].strip():
                continue
            for at in times:
                if cell := row.cells[at]:
                    with suppress(CellError):  # named when the row is read
                        self._newest = max(self._newest, cells.parse_time(cell)[0])
        return lines

    def chunks(self) -> Iterator[Chunk | Problem]:
        """Each order with its rows, in the file's order, and lines that cannot be read."""
        self.notes.counts.clear()
        for found in self._orders():
            yield found if isinstance(found, Problem) else Chunk(found.line, found)

    def name_of(self, chunk: Chunk) -> str | None:
        """The order's Name, such as #1001."""
        name: str = chunk.read.cell["name"]
        return name

    def item(self, chunk: Chunk) -> Item | Problem:
        """An order's cells as orders/updated tells them."""
        try:
            return self._item(chunk.read)
        except CellError as error:
            return Problem(chunk.line, str(error))

    # --- rows into orders ---

    def _orders(self) -> Iterator[_Order | Problem]:
        """An order with its rows. Of two first rows under one id the first stands, unless they are alike."""
        current: _Order | None = None
        taken: dict[str, tuple[int, int]] = {}  # by id, else name: the line, and what its cells hash to
        known: set[int] = set()
        strays: list[tuple[int, int]] = []
        places = self.columns.items()
        for row in text.rows(self._path, self.notes):
            if isinstance(row, Problem):
                yield row
                continue
            cell = {name: row.cells[at] for name, at in places}
            name = cell["name"].strip()
            if not (cell["subtotal"].strip() or cell["status"].strip()):
                if current is not None and name in ("", current.cell["name"].strip()):
                    current.items.append(cell)
                else:  # sorted by somebody: nothing of an order is lost with a line of it
                    strays.append((row.line, hash(name)))
                continue
            if name == "Name" and cell["subtotal"].strip() == "Subtotal":
                continue  # a second header: files that were joined
            key = cell.get("id", "").strip().removeprefix("'") or f"name {name}"
            alike = hash(tuple(cell.get(each, "") for each in _OWN))
            before = taken.get(key)
            if before is None:
                if current is not None:
                    yield current
                current = _Order(row.line, cell, [cell])
                taken[key] = row.line, alike
                known.add(hash(name))
            elif before[1] != alike:
                yield Problem(row.line, f"its order stands in line {before[0]} with other values")
            elif current is not None and current.line == before[0]:
                current.items.append(cell)
            else:
                self.notes("repeated")
        if current is not None:
            yield current
        for line, name_hash in strays:
            if name_hash not in known:
                yield Problem(line, "the first row of its order is not in the file")

    # --- an order's cells ---

    def _item(self, found: _Order) -> Item:
        cell = found.cell
        name = cell["name"].strip()
        ident = _told("Id", cells.resource, cell.get("id", ""))
        if ident is None:
            if not name:
                raise CellError("neither Name nor Id")
            self.notes("no_id")
            ident = str(number(self._shop, "name", name))
        email = cell.get("email", "").strip()
        if not text.is_clean(email):
            raise CellError("Email is not UTF-8: save the file as such")
        currency = cell.get("currency", "").strip().upper() or self._currency
        status = "_".join(cell["status"].lower().split())
        if not status:
            raise CellError("Financial Status is empty")
        created = self._time(cell, "created", "Created at")
        if created is None:
            raise CellError("Created at is empty")
        cancelled = self._time(cell, "cancelled", "Cancelled at")
        others = (self._time(cell, "paid", "Paid at"), self._time(cell, "fulfilled", "Fulfilled at"), cancelled)
        at = instants.text(created)
        payload: Json = {
            "id": ident,
            "created_at": at,
            "processed_at": at,
            "updated_at": instants.text(max([created, *(each for each in others if each is not None)])),
            "cancelled_at": None if cancelled is None else instants.text(cancelled),
            "financial_status": status,
            "test": bool(_BOGUS.search(cell.get("payment", ""))),
            "currency": currency,
            **self._money(cell, currency, status),
            "source_name": cell.get("source", "").strip() or None,
            "line_items": [line for each in found.items if (line := self._line(each, currency)) is not None],
        }
        if payload["test"]:
            self.notes("test")
        if code := cell.get("code", "").strip():
            payload["discount_codes"] = [{"code": code}]
        if email:
            payload["email"] = email
            if (marketing := cell.get("marketing", "").strip().lower()) in ("yes", "true", "no", "false"):
                payload["buyer_accepts_marketing"] = marketing in ("yes", "true")
        return Item(found.line, ORDER, created, f"import-csv-{self._newest:016d}-{ident}", payload)

    def _money(self, cell: dict[str, str], currency: str, status: str) -> Json:
        subtotal = self._amount(cell, "subtotal", "Subtotal", currency)
        if subtotal is None:
            raise CellError("Subtotal is empty")
        refunded = self._amount(cell, "refunded", "Refunded Amount", currency) or 0
        if "refunded" not in self.columns and status == "partially_refunded":
            self.notes("no_refunds")
        found: Json = {
            "subtotal_price": money.decimal_text(subtotal, currency),
            "current_subtotal_price": money.decimal_text(max(subtotal - refunded, 0), currency),
        }
        taxes = self._amount(cell, "taxes", "Taxes", currency)
        if taxes is not None:
            found["total_tax"] = money.decimal_text(taxes, currency)
            shipping = self._amount(cell, "shipping", "Shipping", currency)
            total = self._amount(cell, "total", "Total", currency)
            if taxes and shipping is not None and total is not None:
                if total == subtotal + shipping:
                    found["taxes_included"] = True
                elif total == subtotal + shipping + taxes:
                    found["taxes_included"] = False
        return found

    def _line(self, cell: dict[str, str], currency: str) -> Json | None:
        """A line item, for whoever may want it one day: nothing counts by it, so nothing is refused for it."""
        try:
            quantity = cell.get("quantity", "").strip()
            price = self._amount(cell, "price", "Lineitem price", currency)
            discount = self._amount(cell, "discount", "Lineitem discount", currency)
        except CellError:
            return None
        if price is None or price < 0 or not re.fullmatch(r"[0-9]{1,6}", quantity):
            return None
        line: Json = {"quantity": int(quantity), "price": money.decimal_text(price, currency)}
        if sku := cell.get("sku", "").strip():
            line["sku"] = sku
        if discount:
            line["total_discount"] = money.decimal_text(discount, currency)
        return line

    def _time(self, cell: dict[str, str], name: str, column: str) -> int | None:
        found = cell.get(name, "")
        if not found or not found.strip():
            return None
        at, named = _told(column, cells.parse_time, found)
        if not named:
            self.notes("no_offset")
        return int(at)

    def _amount(self, cell: dict[str, str], name: str, column: str, currency: str) -> int | None:
        found = cell.get(name, "").strip()
        if not found:
            return None
        try:
            if not _EXACT.fullmatch(found):
                found, guess = cells.amount(found, self._marks, money.exponent(currency))
                if guess:
                    self.notes("thousands")
            return money.minor(found, currency)
        except CellError as error:
            raise CellError(f"{column} {error}") from None
        except BadEvent as error:
            why = "Currency is none in use" if error.reason == "unknown_currency" else f"{column}: {error.detail}"
            raise CellError(why) from None


def _told(column: str, parse: Any, cell: str) -> Any:
    try:
        return parse(cell)
    except CellError as error:
        raise CellError(f"{column} {error}") from None
