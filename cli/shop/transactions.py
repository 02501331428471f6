"""A file of transactions read as Shopify's orders: any CSV, or the classic CDNOW file. Pure but for the reading."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from cli.shop.deliveries import Outgoing, money_bag
from events import instants, money
from events.errors import BadEvent

#: Header names understood, in lower case without spaces, underscores and hyphens.
COLUMNS: Final = {
    "customer": ("customer", "customerid", "customernumber", "client", "clientid", "user", "userid"),
    "timestamp": ("timestamp", "time", "date", "datetime", "orderdate", "createdat", "processedat", "invoicedate"),
    "amount": ("amount", "total", "totalprice", "price", "value", "revenue", "spend", "monetary"),
    "currency": ("currency", "currencycode"),
    "order": ("order", "orderid", "ordernumber", "orderno", "invoice", "invoiceid", "invoiceno", "transactionid"),
}

_DATE = re.compile(r"(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})")
_NOON = time(12, tzinfo=UTC)
_OFFSET = re.compile(r"\s+([+-]\d{2}:?\d{2})$")
_SIGNS = re.compile(r"^[$€£¥]\s*|\s*[$€£¥]$")


class FileError(ValueError):
    """A file, or a row of it, that cannot be read as transactions; the message says which and why."""


class Transaction(NamedTuple):
    """An order: `row`, its first, counts from 1, the header not counted; `at` in microseconds; `amount` in minor units.

    `order` is its name in the file, "" without a column for it; then `copy` numbers rows that are alike in all else.
    """

    row: int
    customer: str
    at: int
    amount: int
    currency: str
    order: str = ""
    copy: int = 0


@dataclass
class Transactions:
    """A file's transactions, and how many were left out because they take money back."""

    found: list[Transaction]
    negative: int


def parse_time(text: str) -> int:
    """Microseconds. A date without a time means 12:00 UTC, a time without an offset is UTC; else ValueError."""
    text = _OFFSET.sub(r"\1", text.strip())
    if day := _DATE.fullmatch(text):
        when = datetime.combine(date(int(day[1]), int(day[2]), int(day[3])), _NOON)
    else:
        when = datetime.fromisoformat(text.replace("/", "-"))
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return instants.from_datetime(when)


def _amount(text: str, *, comma: bool) -> str:
    """A decimal amount without its currency sign and thousands separators.

    Of two kinds of separators the last is the decimal one. A lone comma is one too unless three digits follow, and
    with `comma` (columns parted by semicolons) even then: where amounts are written so, files are.
    """
    plain = _SIGNS.sub("", text.strip())
    if "," in plain and "." in plain:
        thousands = "." if plain.rindex(",") > plain.rindex(".") else ","
        return plain.replace(thousands, "").replace(",", ".")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+", plain) and not (comma and plain.count(",") == 1):
        return plain.replace(",", "")
    return plain.replace(",", ".")


def _transaction(
    row: int, customer: str, at: str, amount: str, currency: str, order: str = "", *, comma: bool = False
) -> Transaction:
    customer = customer.strip().removeprefix("'")  # with which Shopify guards its ids from spreadsheets
    if not customer:
        raise FileError(f"row {row} has no customer")
    try:
        when = parse_time(at)
    except (ValueError, BadEvent):
        raise FileError(f"row {row}: {at!r} is not a time such as 2026-01-31 or 2026-01-31T08:30:00Z") from None
    try:
        minor = money.minor(str(Decimal(_amount(amount, comma=comma))), currency)
    except (InvalidOperation, BadEvent) as error:
        why = f" ({error.detail})" if isinstance(error, BadEvent) else ""
        raise FileError(f"row {row}: {amount!r} is not an amount in {currency}{why}") from None
    return Transaction(row, customer, when, minor, currency, order.strip())


def _told(header: list[str]) -> str:
    """A header in a few words: an export may have a hundred columns."""
    named = ", ".join(name.strip()[:30] for name in header[:4])
    return f"{named}, and {len(header) - 4} more" if len(header) > 4 else named or "empty"


def _names(wanted: str) -> str:
    first, *others = COLUMNS[wanted][:3]
    return f"name it {first!r}, or {' or '.join(map(repr, others))}"


def _columns(header: list[str]) -> dict[str, int]:
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


def _csv_rows(text: str, currency: str) -> Iterator[Transaction]:
    header = text.partition("\n")[0]
    try:
        dialect: Any = csv.Sniffer().sniff(header, delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    # Not by lines of our own: a note in quotes may hold any kind of line's end.
    rows = csv.reader(io.StringIO(text, newline=""), dialect)
    columns = _columns(next(rows, []))
    for number, row in enumerate((row for row in rows if row), start=1):
        if len(row) <= max(columns.values()):
            raise FileError(f"row {number} has {len(row)} columns, the header more")
        cells = {name: row[at] for name, at in columns.items()}
        code = cells.get("currency", "").strip().upper() or currency
        known = cells["customer"], cells["timestamp"], cells["amount"], code, cells.get("order", "")
        yield _transaction(number, *known, comma=dialect.delimiter == ";")


def _cdnow_rows(text: str, currency: str) -> Iterator[Transaction]:
    """Customer, [its number in the sample,] date, CDs, dollars. The customer is the one of the full data set."""
    for number, fields in enumerate((line.split() for line in text.splitlines() if line.strip()), start=1):
        if len(fields) not in (4, 5) or not fields[0].isdigit():
            raise FileError(f"row {number} is not a CDNOW row (customer, [sample's number,] date, CDs, dollars)")
        yield _transaction(number, str(int(fields[0])), fields[-3], fields[-1], currency)


def _orders(rows: Iterable[Transaction]) -> list[Transaction]:
    """Rows of one order as one, of their sum; rows without an order's name, and alike, told apart by a number."""
    found: dict[tuple[Any, ...], Transaction] = {}
    for row in rows:
        if row.order:
            first = found.setdefault(("order", row.order), row._replace(amount=0))
            if (row.customer, row.currency) != (first.customer, first.currency):
                raise FileError(f"row {row.row}: order {row.order!r} has two customers or currencies")
            found["order", row.order] = first._replace(amount=first.amount + row.amount)
        else:
            alike = row[1:-1]
            copy = next(number for number in count() if (alike, number) not in found)
            found[alike, copy] = row._replace(copy=copy)
    return list(found.values())


FORMATS: Final[dict[str, Callable[[str, str], Iterator[Transaction]]]] = {
    "csv": _csv_rows,
    "cdnow": _cdnow_rows,
}


def read(path: Path, form: str, currency: str) -> Transactions:
    """All transactions of a file, amounts without a currency column in `currency`. FileError if it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8: save it as such"
        raise FileError(f"{path} cannot be read: {reason}") from None
    rows = _orders(FORMATS[form](text, currency))
    found = [row for row in rows if row.amount >= 0]
    if not found:
        raise FileError(f"{path} holds no transaction")
    return Transactions(found, len(rows) - len(found))


# --- as webhooks -------------------------------------------------------------------------------------------------


def _number(*parts: object) -> int:
    """A number of 18 digits from some words: the same for the same, on every machine."""
    digest = sha256("\x1f".join(map(str, parts)).encode()).digest()
    return 10**17 + int.from_bytes(digest[:8], "big") % (9 * 10**17)


def customer_id(shop: str, customer: str) -> int:
    """A file's customer as a Shopify id: a number stays what it is, a name becomes one."""
    return int(customer) if re.fullmatch(r"\d{1,18}", customer) else _number(shop, "customer", customer)


def order_paid(shop: str, transaction: Transaction) -> Outgoing:
    """It as orders/paid; playing it again gives the same ids, wherever in whatever file it then stands."""
    _, *known, name, copy = transaction
    ident = _number(shop, "order", name) if name else _number(shop, "order", *known, copy)
    at = instants.text(transaction.at)
    amount = money.decimal_text(transaction.amount, transaction.currency)
    bag = money_bag(amount, transaction.currency)
    customer = customer_id(shop, transaction.customer)
    payload = {
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
        "customer": {"id": customer, "admin_graphql_api_id": f"gid://shopify/Customer/{customer}"},
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
    delivery = f"play-{_number(ident, *known)}" if name else f"play-{ident}"  # an order may be told again, changed
    return Outgoing("orders/paid", transaction.at, delivery, delivery, payload)


def arrange(
    rows: Iterable[Transaction], shuffle: int | None = None, duplicate_percent: float = 0.0
) -> list[Transaction]:
    """The rows in the order in which they are posted: shuffled by a seed, so many of a hundred posted twice."""
    random = Random(shuffle or 0)  # noqa: S311 - the same seed must give the same order
    ordered = list(rows)
    if shuffle is not None:
        random.shuffle(ordered)
    again = random.sample(range(len(ordered)), round(len(ordered) * duplicate_percent / 100))
    places = [(float(at), row) for at, row in enumerate(ordered)]
    places += [(at + random.uniform(0.5, 200), ordered[at]) for at in again]
    return [row for _, row in sorted(places, key=lambda place: place[0])]
