"""A file of transactions read as Shopify's orders: any CSV, or the classic CDNOW file. Pure but for the reading."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from events import instants, money
from events.errors import BadEvent
from imports import cells, text
from imports.cells import CellError
from imports.items import ORDER, Chunk, FileError, Item, Json, Notes, Problem

#: Header names understood, in lower case without spaces, underscores and hyphens.
COLUMNS: Final = {
    "customer": ("customer", "customerid", "customernumber", "client", "clientid", "user", "userid"),
    "timestamp": ("timestamp", "time", "date", "datetime", "orderdate", "createdat", "processedat", "invoicedate"),
    "amount": ("amount", "total", "totalprice", "price", "value", "revenue", "spend", "monetary"),
    "currency": ("currency", "currencycode"),
    "order": ("order", "orderid", "ordernumber", "orderno", "invoice", "invoiceid", "invoiceno", "transactionid"),
}


class Transaction(NamedTuple):
    """An order: `line`, its first, counts from 1, the header's; `at` in microseconds; `amount` in minor units.

    `order` is its name in the file, "" without a column for it; then `copy` numbers rows that are alike in all else.
    """

    line: int
    customer: str
    at: int
    amount: int
    currency: str
    order: str = ""
    copy: int = 0


@dataclass
class Transactions:
    """A file's transactions; how many were left out because they take money back; and lines that cannot be read."""

    found: list[Transaction]
    negative: int
    problems: list[Problem]
    notes: Notes


def _transaction(
    line: int, customer: str, at: str, amount: str, currency: str, order: str, found: cells.Marks, notes: Notes
) -> Transaction:
    customer = customer.strip().removeprefix("'")  # with which Shopify guards its ids from spreadsheets
    if not customer:
        raise CellError("no customer")
    if not text.is_clean(customer):
        raise CellError("the customer is not UTF-8: save the file as such")
    try:
        when, named = cells.parse_time(at)
    except CellError as error:
        raise CellError(f"the timestamp {error}") from None
    try:
        plain, guess = cells.amount(amount, found, money.exponent(currency))
        minor = money.minor(plain, currency)
    except CellError as error:
        raise CellError(f"the amount {error}") from None
    except BadEvent as error:
        raise CellError(f"the amount is not one in {currency[:8]} ({error.detail})") from None
    if guess:
        notes("thousands")
    if not named:
        notes("no_offset")
    return Transaction(line, customer, when, minor, currency, order.strip())


def _told(header: list[str]) -> str:
    """A header in a few words: an export may have a hundred columns."""
    named = ", ".join(name.strip()[:30] for name in header[:4])
    return f"{named}, and {len(header) - 4} more" if len(header) > 4 else named or "empty"


def _names(wanted: str) -> str:
    first, *others = COLUMNS[wanted][:3]
    return f"name it {first!r}, or {' or '.join(map(repr, others))}"


def columns(header: list[str]) -> dict[str, int]:
    """Where the columns are that a transaction is made of; FileError names the one that is missing."""
    plain = [re.sub(r"[\s_-]", "", name.strip().lower()) for name in header]
    found = {
        wanted: next(at for at, name in enumerate(plain) if name in names)
        for wanted, names in COLUMNS.items()
        if any(name in names for name in plain)
    }
    for wanted in ("customer", "timestamp", "amount"):
        if wanted not in found:
            raise FileError(f"no column for the {wanted} in the header ({_told(header)}): {_names(wanted)}")
    return found


def _csv_rows(path: Path, currency: str, notes: Notes) -> Iterator[Transaction | Problem]:
    header, delimiter = text.header_of(path)
    places = columns(header)
    read: list[text.Row | Problem] = list(text.rows(path, notes))
    amounts = (row.cells[places["amount"]] for row in read if isinstance(row, text.Row))
    found = cells.marks(amounts, delimiter)
    for row in read:
        if isinstance(row, Problem):
            yield row
            continue
        cell = {name: row.cells[at] for name, at in places.items()}
        code = cell.get("currency", "").strip().upper() or currency
        known = cell["customer"], cell["timestamp"], cell["amount"], code, cell.get("order", "")
        try:
            yield _transaction(row.line, *known, found, notes)
        except (CellError, BadEvent) as error:
            yield Problem(row.line, str(error) if isinstance(error, CellError) else error.detail)


def _cdnow_rows(path: Path, currency: str, notes: Notes) -> Iterator[Transaction | Problem]:
    """Customer, [its number in the sample,] date, CDs, dollars. The customer is the one of the full data set."""
    number = 0
    with text.opened(path, text.head_of(path)) as file:
        while True:
            number += 1
            try:
                line = next(file, None)
            except UnicodeError:
                yield Problem(number, text.BREAKS_OFF)
                return
            if line is None:
                return
            fields = line.split()
            if not fields:
                continue
            if len(fields) not in (4, 5) or not fields[0].isdecimal():
                yield Problem(number, "not a CDNOW row (customer, [sample's number,] date, CDs, dollars)")
                continue
            customer = str(int(fields[0]))
            try:
                yield _transaction(number, customer, fields[-3], fields[-1], currency, "", cells.Marks(), notes)
            except CellError as error:
                yield Problem(number, str(error))


def _orders(rows: Iterable[Transaction | Problem], problems: list[Problem]) -> list[Transaction]:
    """Rows of one order as one, of their sum; rows without an order's name, and alike, told apart by a number."""
    found: dict[tuple[Any, ...], Transaction] = {}
    for row in rows:
        if isinstance(row, Problem):
            problems.append(row)
        elif row.order:
            first = found.setdefault(("order", row.order), row._replace(amount=0))
            if (row.customer, row.currency) != (first.customer, first.currency):
                problems.append(Problem(row.line, f"its order has another customer or currency in line {first.line}"))
                continue
            found["order", row.order] = first._replace(amount=first.amount + row.amount)
        else:
            alike = row[1:-1]
            copy = next(number for number in count() if (alike, number) not in found)
            found[alike, copy] = row._replace(copy=copy)
    return list(found.values())


FORMATS: Final[dict[str, Callable[[Path, str, Notes], Iterator[Transaction | Problem]]]] = {
    "csv": _csv_rows,
    "cdnow": _cdnow_rows,
}


def read(path: Path, form: str, currency: str) -> Transactions:
    """All transactions of a file, amounts without a currency column in `currency`. FileError if it holds none."""
    problems: list[Problem] = []
    notes = Notes()
    rows = _orders(FORMATS[form](path, currency, notes), problems)
    found = [row for row in rows if row.amount >= 0]
    if not found:
        why = f" (line {problems[0].line}: {problems[0].reason})" if problems else ""
        raise FileError(f"it holds no transaction that can be read{why}")
    notes("negative", len(rows) - len(found))
    return Transactions(found, len(rows) - len(found), problems, notes)


# --- as orders ---------------------------------------------------------------------------------------------------


def number(*parts: object) -> int:
    """A number of 18 digits from some words: the same for the same, on every machine."""
    digest = sha256("\x1f".join(map(str, parts)).encode()).digest()
    return 10**17 + int.from_bytes(digest[:8], "big") % (9 * 10**17)


def customer_id(shop: str, customer: str) -> int:
    """A file's customer as a Shopify id: a number stays what it is, a name becomes one."""
    return int(customer) if re.fullmatch(r"\d{1,18}", customer) else number(shop, "customer", customer)


def order(shop: str, transaction: Transaction) -> Json:
    """It as a paid order; read again, wherever in whatever file it then stands, it has the same ids."""
    _, *known, name, copy = transaction
    ident = number(shop, "order", name) if name else number(shop, "order", *known, copy)
    at = instants.text(transaction.at)
    amount = money.decimal_text(transaction.amount, transaction.currency)
    bag = {"shop_money": {"amount": amount, "currency_code": transaction.currency}}
    if "@" in transaction.customer:  # known by their address, as an order of Shopify's may be
        who: Json = {"email": transaction.customer}
    else:
        customer = customer_id(shop, transaction.customer)
        who = {"customer": {"id": customer, "admin_graphql_api_id": f"gid://shopify/Customer/{customer}"}}
    return {
        "id": ident,
        "admin_graphql_api_id": f"gid://shopify/Order/{ident}",
        "name": f"#{name or ident}",
        "created_at": at,
        "processed_at": at,
        "updated_at": at,
        "cancelled_at": None,
        "financial_status": "paid",
        "test": False,
        "currency": transaction.currency,
        "presentment_currency": transaction.currency,
        "source_name": "play",
        **who,
        **{
            name: value
            for price in ("subtotal_price", "current_subtotal_price", "total_price", "current_total_price")
            for name, value in ((price, amount), (f"{price}_set", bag))
        },
        "line_items": [
            {
                "id": ident + 1,
                "quantity": 1,
                "current_quantity": 1,
                "price": amount,
                "price_set": bag,
                "gift_card": False,
            }
        ],
        "refunds": [],
    }


def delivery(shop: str, transaction: Transaction) -> str:
    """A name of what it says: an order of the same name may be told again, changed."""
    _, *known, name, copy = transaction
    if not name:
        return str(number(shop, "order", *known, copy))
    return str(number(number(shop, "order", name), *known))


class PlainFile:
    """The file as items: `play`'s own CSV, brought in rather than posted."""

    form = "transactions"

    def __init__(self, path: Path, shop: str, currency: str) -> None:
        self._path, self._shop, self._currency = path, shop, currency
        self._read: Transactions | None = None
        self.notes = Notes()

    def scan(self) -> int:
        """How many lines there are; the file is read whole."""
        self._read = read(self._path, "csv", self._currency)
        self.notes = self._read.notes
        lines = [each.line for each in self._read.found]
        return max(lines + [each.line for each in self._read.problems])

    def chunks(self) -> Iterator[Chunk | Problem]:
        """Lines that cannot be read, then each transaction."""
        if self._read is None:
            self.scan()
        assert self._read is not None
        yield from self._read.problems
        for each in self._read.found:
            yield Chunk(each.line, each)

    def item(self, chunk: Chunk) -> Item | Problem:
        """A transaction as a paid order."""
        name = f"import-{delivery(self._shop, chunk.read)}"
        return Item(chunk.line, ORDER, chunk.read.at, name, order(self._shop, chunk.read))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_read": None}  # for another process: it makes items alone
