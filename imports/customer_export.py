"""The customers export of Shopify's admin: e-mail and consent by id. It names no time: it ranks below any webhook.

Older exports have no ids: who stands in them is known by the address alone, as whoever ordered without an account is.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from events.payloads import normalised
from imports import cells, text
from imports.cells import CellError
from imports.items import ADDRESS, CUSTOMER, Chunk, Item, Json, Notes, Problem

COLUMNS: Final = {
    "id": ("customer id", "id"),
    "email": ("email",),
    "marketing": ("accepts email marketing", "accepts marketing"),
}
#: One of these tells it from other lists of addresses.
_TELLING: Final = {"total spent", "total orders", "accepts email marketing", "accepts sms marketing", "tax exempt"}


def columns(header: list[str]) -> dict[str, int]:
    """Where our columns are; of two names for one the first of COLUMNS counts."""
    plain = [text.plain_name(name) for name in header]
    return {
        wanted: next(plain.index(name) for name in names if name in plain)
        for wanted, names in COLUMNS.items()
        if any(name in plain for name in names)
    }


def recognised(header: list[str]) -> bool:
    """Whether a CSV with this header is such an export."""
    plain = {text.plain_name(name) for name in header}
    return "email" in plain and bool(plain & _TELLING) and not plain & {"financial status", "created at"}


class CustomerExport:
    """One file. `since` is when what it holds was first brought in (microseconds): of two exports the later stands."""

    form = "customers CSV"

    def __init__(self, path: Path, since: int) -> None:
        self._path = path
        self._since = since
        self._columns = columns(text.header_of(path)[0])
        self.notes = Notes()

    def scan(self) -> int:
        """How many lines there are."""
        return max((row.line for row in text.rows(self._path, Notes())), default=1)

    def chunks(self) -> Iterator[Chunk | Problem]:
        """Each customer's row. Of two under one id the first stands."""
        self.notes.counts.clear()
        taken: dict[str, int] = {}
        for row in text.rows(self._path, self.notes):
            if isinstance(row, Problem):
                yield row
                continue
            cell = {name: row.cells[at].strip() for name, at in self._columns.items()}
            try:
                ident = cells.resource(cell.get("id", ""))
                if not text.is_clean(cell["email"]):
                    raise CellError("Email is not UTF-8: save the file as such")
                if ident is None and not cell["email"]:
                    raise CellError("no Customer ID and no Email: nothing tells who it is")
                if ident is None and not ADDRESS.fullmatch(cell["email"]):
                    raise CellError("no Customer ID, and Email is no address")
            except CellError as error:
                reason = str(error)
                yield Problem(row.line, reason if reason.startswith(("no ", "Email")) else f"Customer ID {reason}")
                continue
            who = normalised(cell["email"]) if ident is None else ident
            if (before := taken.setdefault(who, row.line)) != row.line:
                yield Problem(row.line, f"its customer stands in line {before} already")
                continue
            yield Chunk(row.line, (ident, cell))

    def item(self, chunk: Chunk) -> Item | Problem:
        """A row as customers/update tells it, below every webhook."""
        ident, cell = chunk.read
        name = f"line-{chunk.line}" if ident is None else ident
        return Item(chunk.line, CUSTOMER, 0, f"import-csv-{self._since:016d}-{name}", _payload(ident, cell))


def _payload(ident: str | None, cell: dict[str, str]) -> Json:
    payload: Json = {} if ident is None else {"id": ident}
    if cell["email"]:
        payload["email"] = cell["email"]
        if (told := cell.get("marketing", "").lower()) in ("yes", "true", "no", "false"):
            payload["accepts_marketing"] = told in ("yes", "true")
    return payload
