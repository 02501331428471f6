"""What stands in a cell: times, amounts and ids as exports and spreadsheets write them.

Errors never tell what stood there: it may be somebody's address in a row that has slipped.
"""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import NamedTuple

from events import instants
from events.errors import BadEvent


class CellError(ValueError):
    """A cell that is not what its column should hold; the message goes on from the column's name."""


# --- times -------------------------------------------------------------------------------------------------------

_DATE = re.compile(r"(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})")
_NOON = time(12, tzinfo=UTC)
_OFFSET = re.compile(r"\s+((?:[+-]\d{2}:?\d{2})|Z|UTC)$")
_DAY_FIRST = re.compile(r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}\b.*")
_SERIAL = re.compile(r"\d{4,5}(\.\d+)?")


@lru_cache(maxsize=1 << 16)
def parse_time(text: str) -> tuple[int, bool]:
    """(microseconds, whether an offset was named). A date alone is 12:00 UTC, a time without an offset UTC."""
    plain = text.strip().removeprefix("'")
    try:
        if day := _DATE.fullmatch(plain):
            return instants.from_datetime(datetime.combine(date(int(day[1]), int(day[2]), int(day[3])), _NOON)), True
        if not _SERIAL.fullmatch(plain):
            plain = _OFFSET.sub(lambda found: "+00:00" if found[1] == "UTC" else found[1], plain)
            when = datetime.fromisoformat(plain.replace("/", "-"))
            named = when.tzinfo is not None
            return instants.parse((when if named else when.replace(tzinfo=UTC)).isoformat()), named
    except (ValueError, BadEvent):
        pass
    if _SERIAL.fullmatch(plain):
        raise CellError("is a spreadsheet's number of days: export anew, and do not save it from a spreadsheet")
    if _DAY_FIRST.fullmatch(plain):
        raise CellError("is a date whose day and month cannot be told apart: write it as 2026-01-31")
    raise CellError("is not a time such as 2026-01-31 or 2026-01-31T08:30:00Z")


# --- amounts -----------------------------------------------------------------------------------------------------

_SIGNS = re.compile(r"^[$€£¥]\s*|\s*[$€£¥]$")
_PLAIN = re.compile(r"[+-]?\d+(\.\d+)?")
_GROUPS = re.compile(r"[+-]?\d{1,3}([.,])\d{3}(\1\d{3})*")


class Marks(NamedTuple):
    """What a file's amounts say of their marks: which of them was seen as the decimal one; and whether columns are
    parted by semicolons, as they are where the comma is."""

    comma: bool = False
    dot: bool = False
    semicolons: bool = False


def marks(amounts: Iterable[str], delimiter: str) -> Marks:
    """From the amounts that can be read in one way only."""
    comma = dot = False
    for text in amounts:
        last = max(text.rfind(","), text.rfind("."))
        if last < 0:
            continue
        both = "," in text and "." in text
        if both or re.fullmatch(r"\d{1,2}\D*", text[last + 1 :]):
            comma, dot = comma or text[last] == ",", dot or text[last] == "."
        if comma and dot:
            break
    return Marks(comma, dot, delimiter == ";")


def amount(text: str, found: Marks, places: int) -> tuple[str, bool]:
    """(a decimal amount without currency sign and thousands' marks, whether the reading was a guess).

    Of two kinds of marks the last is the decimal one. A single one before three digits is read as the file's other
    amounts have it; where none tells, as its columns are parted, and not at all where nothing has a part (`places` are
    the currency's, and 0). CellError if it cannot be told.
    """
    plain = _SIGNS.sub("", text.strip().removeprefix("'")).replace("\u00a0", "").replace("\u202f", "")
    groups = _GROUPS.fullmatch(plain)
    guess = False
    if "," in plain and "." in plain:
        thousands = "." if plain.rindex(",") > plain.rindex(".") else ","
        plain = plain.replace(thousands, "").replace(",", ".")
    elif groups is not None:
        mark, many = groups[1], groups[2] is not None
        seen, other = (found.comma, found.dot) if mark == "," else (found.dot, found.comma)
        if many or (other and not seen):
            plain = plain.replace(mark, "")
        elif (seen and other) or (places == 0 and not seen and (mark == "." or found.semicolons)):
            raise CellError("can be read in two ways, and the file's other amounts do not tell which")
        elif seen or (mark == "," and found.semicolons) or (mark == "." and places == 3):
            plain = plain.replace(",", ".")
        elif mark == ".":
            if found.semicolons:
                raise CellError("can be read in two ways, and the file's other amounts do not tell which")
        else:
            plain, guess = plain.replace(",", ""), places != 0
    else:
        plain = plain.replace(",", ".")
    if not _PLAIN.fullmatch(plain):
        raise CellError("is not an amount")
    return plain, guess


# --- ids ---------------------------------------------------------------------------------------------------------

_ID = re.compile(r"[0-9]{1,20}")
_FLOAT = re.compile(r"([0-9]{1,15})\.0+")
_ROUNDED = re.compile(r"[0-9][.,]?[0-9]*[eE]\+?[0-9]+")


def resource(text: str) -> str | None:
    """A Shopify id without the apostrophe that guards it from spreadsheets; None for an empty cell."""
    plain = text.strip().removeprefix("'").strip()
    if _ID.fullmatch(plain):
        return plain
    if not plain:
        return None
    if found := _FLOAT.fullmatch(plain):
        return found[1]
    if _ROUNDED.fullmatch(plain):
        raise CellError("was rounded by a spreadsheet: export anew, and do not save it from a spreadsheet")
    raise CellError("is not an id")
