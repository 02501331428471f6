"""A file of transactions read as Shopify's orders: any CSV, or the classic CDNOW file. Pure but for the reading."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from events import instants, money
from events.errors import BadEvent
from runtime.deliveries import Outgoing, money_bag

#: Header names understood, in lower case without spaces, underscores and hyphens.
COLUMNS: Final = {
    "customer": ("customer", "customerid", "customernumber", "client", "clientid", "user", "userid"),
    "timestamp": ("timestamp", "time", "date", "datetime", "orderdate", "createdat", "processedat", "invoicedate"),
    "amount": ("amount", "total", "totalprice", "price", "value", "revenue", "spend", "monetary"),
    "currency": ("currency", "currencycode"),
}

_DATE = re.compile(r"(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})")
_NOON = time(12, tzinfo=UTC)
_SIGNS = re.compile(r"^[$€£¥]\s*|\s*[$€£¥]$")


class FileError(ValueError):
    """A file, or a row of it, that cannot be read as transactions; the message says which and why."""


class Transaction(NamedTuple):
    """One row: `row` counts from 1, the header not counted; `at` in microseconds; `amount` in minor units."""

    row: int
    customer: str
    at: int
    amount: int
    currency: str


@dataclass
class Transactions:
    """A file's transactions, and how many rows were left out because they take money back."""

    found: list[Transaction]
    negative: int


def parse_time(text: str) -> int:
    """Microseconds. A date without a time means 12:00 UTC, a time without an offset is UTC; else ValueError."""
    text = text.strip()
    if day := _DATE.fullmatch(text):
        when = datetime.combine(date(int(day[1]), int(day[2]), int(day[3])), _NOON)
    else:
        when = datetime.fromisoformat(text.replace("/", "-"))
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return instants.from_datetime(when)


def _amount(text: str) -> str:
    """A decimal amount without its currency sign and thousands separators."""
    plain = _SIGNS.sub("", text.strip())
    return plain.replace(",", "") if "." in plain or re.fullmatch(r"-?\d{1,3}(,\d{3})+", plain) else plain


def _transaction(row: int, customer: str, at: str, amount: str, currency: str) -> Transaction:
    if not customer.strip():
        raise FileError(f"row {row} has no customer")
    try:
        when = parse_time(at)
    except (ValueError, BadEvent):
        raise FileError(f"row {row}: {at!r} is not a time") from None
    try:
        minor = money.minor(str(Decimal(_amount(amount))), currency)
    except (InvalidOperation, BadEvent) as error:
        why = f" ({error.detail})" if isinstance(error, BadEvent) else ""
        raise FileError(f"row {row}: {amount!r} is not an amount in {currency}{why}") from None
    return Transaction(row, customer.strip(), when, minor, currency)


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


def _csv_rows(lines: list[str], currency: str) -> Iterator[Transaction]:
    try:
        dialect: Any = csv.Sniffer().sniff(lines[0] if lines else "", delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    rows = csv.reader(lines, dialect)
    columns = _columns(next(rows, []))
    for number, row in enumerate((row for row in rows if row), start=1):
        if len(row) <= max(columns.values()):
            raise FileError(f"row {number} has {len(row)} columns, the header more")
        code = row[columns["currency"]].strip().upper() if "currency" in columns else ""
        yield _transaction(
            number, row[columns["customer"]], row[columns["timestamp"]], row[columns["amount"]], code or currency
        )


def _cdnow_rows(lines: list[str], currency: str) -> Iterator[Transaction]:
    """Customer, [its number in the sample,] date, CDs, dollars. The customer is the one of the full data set."""
    for number, fields in enumerate((line.split() for line in lines if line.strip()), start=1):
        if len(fields) not in (4, 5) or not fields[0].isdigit():
            raise FileError(f"row {number} is not a CDNOW row (customer, [sample's number,] date, CDs, dollars)")
        yield _transaction(number, str(int(fields[0])), fields[-3], fields[-1], currency)


FORMATS: Final[dict[str, Callable[[list[str], str], Iterator[Transaction]]]] = {
    "csv": _csv_rows,
    "cdnow": _cdnow_rows,
}


def read(path: Path, form: str, currency: str) -> Transactions:
    """All transactions of a file, amounts without a currency column in `currency`. FileError if it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise FileError(f"{path} cannot be read: {reason}") from None
    rows = list(FORMATS[form](lines, currency))
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
    """The row as orders/paid of an order of its own; playing the row again gives the same ids."""
    ident = _number(shop, "order", *transaction)
    at = instants.text(transaction.at)
    amount = money.decimal_text(transaction.amount, transaction.currency)
    bag = money_bag(amount, transaction.currency)
    customer = customer_id(shop, transaction.customer)
    payload = {
        "id": ident,
        "admin_graphql_api_id": f"gid://shopify/Order/{ident}",
        "name": f"#{transaction.row}",
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
    return Outgoing("orders/paid", transaction.at, f"play-{ident}", f"play-{ident}", payload)


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
