"""Balances of another programme: how many points somebody has, as one award each. Any CSV that names people and points.

The award is called by what the row is, not by the file, so that a file twice, or a later one, gives nobody points
twice: of two balances of one customer the one of the later date stands.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from events import awards, instants, names
from events.awards import Body
from events.money import MAX_POINTS
from events.payloads import normalised
from imports import cells, text, transactions
from imports.cells import CellError
from imports.items import ADDRESS, Chunk, Item, Json, Notes, Problem

#: Header names understood, as text.plain_name has them.
COLUMNS: Final = {
    "customer": ("customer id", "customerid", "shopify customer id", "shopify id", "customer"),
    "email": ("email", "e-mail", "email address", "customer email"),
    "points": ("points", "points balance", "point balance", "loyalty points", "current points", "available points"),
    "date": ("date", "at", "given at", "earned at"),
    "id": ("id", "award id", "reference"),
}

_SOURCE: Final = "import"


class Balance(NamedTuple):
    """A row: of whom (a Shopify id, or else an address, normalised), what it is called, and what it says."""

    customer: str | None
    email: str
    name: str
    body: Body


def columns(header: list[str]) -> dict[str, int]:
    """Where our columns are; of two names for one the first of COLUMNS counts."""
    plain = [text.plain_name(name) for name in header]
    return {
        wanted: next(plain.index(name) for name in names if name in plain)
        for wanted, names in COLUMNS.items()
        if any(name in plain for name in names)
    }


def recognised(header: list[str]) -> bool:
    """Whether a CSV with this header tells of balances: people and points, and no money."""
    found = columns(header)
    money = {text.plain_name(name).replace(" ", "") for name in header} & {
        *transactions.COLUMNS["amount"],
        "financialstatus",
    }
    return "points" in found and ("customer" in found or "email" in found) and not money


class BalanceFile:
    """One file. `since` is when what it holds was first brought in (microseconds): a row without a date is of then."""

    form = "balances CSV"

    def __init__(self, path: Path, since: int) -> None:
        self._path = path
        self._since = since
        header, delimiter = text.header_of(path)
        self._columns = columns(header)
        self._marks = cells.Marks(semicolons=delimiter == ";")
        self.notes = Notes()

    def scan(self) -> int:
        """How many lines there are."""
        return max((row.line for row in text.rows(self._path, Notes())), default=1)

    def chunks(self) -> Iterator[Chunk | Problem]:
        """Each balance. Of two of one customer under one id the first stands; who has no points is left out."""
        self.notes.counts.clear()
        taken: dict[tuple[str, str], int] = {}
        for row in text.rows(self._path, self.notes):
            if isinstance(row, Problem):
                yield row
                continue
            try:
                found = self._balance({name: row.cells[at].strip() for name, at in self._columns.items()})
            except CellError as error:
                yield Problem(row.line, str(error))
                continue
            before = taken.setdefault((found.customer or found.email, found.name), row.line)
            if before != row.line:
                yield Problem(row.line, f"its customer stands in line {before} already")
            elif found.body.points:
                yield Chunk(row.line, found)
            else:
                self.notes("no_points")

    def item(self, chunk: Chunk) -> Item | Problem:
        """A balance as the award that gives it. The address of whoever has no id is in it in clear."""
        found: Balance = chunk.read
        said: Json = awards.payload(found.customer, found.name, found.body)
        # The line, since nothing that is made of an address may stand there.
        name = f"{awards.delivery(found.name, said)}-{chunk.line}"
        return Item(
            chunk.line, awards.TOPIC, self._since, name, said if found.customer else {**said, "email": found.email}
        )

    def _balance(self, cell: dict[str, str]) -> Balance:
        customer, email = _who(cell)
        body = Body(self._at(cell.get("date", "")), self._points(cell["points"]), "", _SOURCE, counts_as_earned=True)
        return Balance(customer, email, _name(cell.get("id", "")), body)

    def _at(self, said: str) -> int:
        """Of today is now, whatever hour a date alone stands for."""
        if not said:
            return self._since
        try:
            at, named = cells.parse_time(said)
        except CellError as error:
            raise CellError(f"the date {error}") from None
        if at > self._since + instants.DAY:
            raise CellError("the date has yet to come")
        if not named:
            self.notes("no_offset")
        return min(at, self._since)

    def _points(self, said: str) -> int:
        try:
            found = Decimal(cells.amount(said, self._marks, 0)[0])
        except CellError as error:
            raise CellError(f"the number of points {error}") from None
        if found != int(found):
            raise CellError("the points are no whole number")
        if abs(found) > MAX_POINTS:
            raise CellError(f"the points are more than {MAX_POINTS}")
        return int(found)


def _who(cell: dict[str, str]) -> tuple[str | None, str]:
    named, email = cell.get("customer", ""), cell.get("email", "")
    if "@" in named:
        named, email = "", named
    try:
        customer = cells.resource(named)
    except CellError as error:
        raise CellError(f"the customer's id {error}") from None
    if customer is None:
        if not email:
            raise CellError("no customer's id and no e-mail: nothing tells who it is")
        if not text.is_clean(email) or not ADDRESS.fullmatch(email):
            raise CellError("no customer's id, and the e-mail is no address")
    return customer, normalised(email)


def _name(said: str) -> str:
    """What the award of a row is called: by its id, or by a digest of one that is no name of ours."""
    if not said:
        return awards.BALANCE
    if "@" in said:  # it would be known by its digest for ever
        raise CellError("the id is an address")
    name = awards.BALANCE_OF + said
    if re.fullmatch(names.NAME_ALONE, name):
        return name
    return awards.BALANCE_OF + sha256(said.encode(errors="surrogateescape")).hexdigest()[:32]
