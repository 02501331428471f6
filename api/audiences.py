"""Who can be reached by a list of people: each address once, by the newest consent that anybody who has it has told.

Two customers may share an address, be they one person or not: whoever of them withdrew a consent last has withdrawn it
from the address. So everybody of the shop is asked first, whoever the list is of.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

import polars as pl

from api import csv_cells
from api.presets import Preset
from books.contacts import Persons
from books.sealed import Opened as ByPlace
from events.contacts import Account, joined

#: What everybody's accounts told, a row each: 8 bytes stand for an address, a running number for a person.
_SCHEMA: Final = {
    "address": pl.UInt64,
    "person": pl.UInt32,
    "consent": pl.String,
    "consent_at": pl.Int64,
    "by_order": pl.Boolean,
}


class Audience:
    """The addresses of one list. First `hear` everybody, then `conclude`, then `reached` by the rows in turn.

    `past`: the list may hold several rows of who is one person today.
    """

    def __init__(self, preset: Preset, past: bool) -> None:
        self._compared: Callable[[str], str] = preset.compared
        self._clear = preset.clear
        self._past = past
        self._persons = 0
        self._heard: list[pl.DataFrame] = []
        self._shared: dict[int, list[Account]] = {}
        self._written: set[int] = set()

    def hear(self, told: Persons, times: Sequence[int], by_order: Sequence[bool]) -> None:
        """What was told of some persons, each of whom is heard once. By place `times` (microseconds, 0: nobody knows)
        and `by_order` are of the consents of those whose row tells all."""
        found = []
        for email, *consent in zip(told.emails, told.consents, times, by_order, strict=True):
            if email is not None:
                self._persons += 1
                found.append((self._address(email), self._persons, *consent))
        for accounts in told.several.values():
            email = joined(*accounts).email
            if email is not None:
                self._persons += 1
                address = self._address(email)
                found += [(address, self._persons, each.consent, each.consent_at, each.by_order) for each in accounts]
        columns = zip(*found, strict=True) if found else ((),) * len(_SCHEMA)
        self._heard.append(pl.DataFrame(dict(zip(_SCHEMA, columns, strict=True)), schema=_SCHEMA))

    def conclude(self) -> None:
        """Everybody has been heard: what is kept is what was told of the addresses that several have."""
        heard = pl.concat(self._heard) if self._heard else pl.DataFrame(schema=_SCHEMA)
        self._heard = []
        shared = heard.group_by("address").agg(pl.col("person").n_unique()).filter(pl.col("person") > 1)
        for address, _, consent, at, by_order in heard.join(shared, on="address", how="semi").iter_rows():
            told = Account(consent=consent, consent_at=at, by_order=by_order)
            self._shared.setdefault(address, []).append(told)

    def reached(self, emails: Sequence[str | None], consents: Sequence[str | None]) -> ByPlace:
        """By place the addresses that were not written before, of those that these persons have, each with its consent.

        An address that a spreadsheet would run is left out where it cannot stand as it is: changed it is another.
        """
        found: ByPlace = ([None] * len(emails), [None] * len(emails))
        for at, (email, consent) in enumerate(zip(emails, consents, strict=True)):
            if email is None or (self._clear and csv_cells.runs(email)):
                continue
            address = self._address(email)
            others = self._shared.get(address)
            if address in self._written:
                continue
            if self._past or others is not None:
                self._written.add(address)
            found[0][at] = email
            found[1][at] = consent if others is None else joined(Account(), *others).consent
        return found

    def _address(self, email: str) -> int:
        return int.from_bytes(blake2b(self._compared(email).encode(), digest_size=8).digest(), "little")
