"""CSV as RFC 4180 has it, and safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

#: A spreadsheet runs a text cell that begins like this as a formula; a line feed may hide one.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


#: The byte order mark, by which Excel knows UTF-8.
MARK: Final = b"\xef\xbb\xbf"


def text(digits: str) -> str:
    """Digits as a spreadsheet keeps them all: it rounds a number of more than 15."""
    return f"'{digits}"


def safe(text: str) -> str:
    """The text, with an apostrophe before it where a spreadsheet would run it as a formula.

    For text alone: a number below 0 begins with a minus and is no formula.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def lines(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as CSV in UTF-8: CRLF after each, None as an empty cell."""
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()
