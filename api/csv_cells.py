"""CSV as RFC 4180 has it, and safe to open in a spreadsheet: cells of whole columns, as Polars' expressions.

Each makes text that stands in the file as it is, under the column's own name; null is an empty cell.
"""

import re
from collections.abc import Iterable
from io import BytesIO
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl

from events import instants, money

#: A spreadsheet runs a text cell that begins like this as a formula; a line feed may hide one.
_FORMULA: Final = r"^[=+\-@\t\r\n]"

#: What makes a cell need quotes.
_QUOTED: Final = r'[",\r\n]'

#: The byte order mark, by which Excel knows UTF-8.
MARK: Final = b"\xef\xbb\xbf"


def runs(told: str) -> bool:
    """Whether a spreadsheet would run this text as a formula."""
    return re.match(_FORMULA, told) is not None


def digits(column: str) -> pl.Expr:
    """Digits as a spreadsheet keeps them all: it rounds a number of more than 15."""
    return pl.concat_str(pl.lit("'"), column).alias(column)


def text(column: str) -> pl.Expr:
    """Text, quoted where it must be, with an apostrophe before it where a spreadsheet would run it as a formula.

    For text alone: a number below 0 begins with a minus and is no formula.
    """
    told = pl.col(column)
    safe = pl.when(told.str.contains(_FORMULA)).then(pl.concat_str(pl.lit("'"), told)).otherwise(told)
    quoted = pl.concat_str(pl.lit('"'), safe.str.replace_all('"', '""', literal=True), pl.lit('"'))
    return pl.when(safe.str.contains(_QUOTED)).then(quoted).otherwise(safe).alias(column)


def time(column: str) -> pl.Expr:
    """An instant (microseconds since the epoch) as RFC 3339 in UTC, with a fraction only where there is one."""
    at = pl.col(column).cast(pl.Datetime("us"))
    whole, exact = at.dt.strftime("%Y-%m-%dT%H:%M:%SZ"), at.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return pl.when(at.dt.microsecond() == 0).then(whole).otherwise(exact).alias(column)


def day(column: str, zone: str, before: int = 0) -> pl.Expr:
    """The date of an instant in a zone, as 2026-11-21; or of so many microseconds before it."""
    clocks = ZoneInfo(zone)

    def days(at: pl.Series) -> pl.Series:
        # Each is looked up once, by the rules that Python has of a zone: those that made the rows, and the pages too.
        known = at.drop_nulls().unique().to_list()
        told = [instants.to_datetime(each - before).astimezone(clocks).date().isoformat() for each in known]
        return at.replace_strict(known, told, default=None, return_dtype=pl.String)

    return pl.col(column).map_batches(days, return_dtype=pl.String).alias(column)


def day_before(column: str, zone: str) -> pl.Expr:
    """The last date, in a zone, of which a moment comes before an instant: of a midnight there the day that ends."""
    return day(column, zone, before=1)


def amount(column: str, currency: str, currencies: Iterable[str]) -> pl.Expr:
    """Minor units in major ones with all their decimals; `currencies` are all that the column `currency` holds."""
    minor = pl.col(column)
    size, sign = minor.abs(), pl.when(minor < 0).then(pl.lit("-")).otherwise(pl.lit(""))
    found = minor.cast(pl.String)
    for each in currencies:
        if places := money.exponent(each):
            whole, part = (size // 10**places).cast(pl.String), (size % 10**places).cast(pl.String)
            decimal = pl.concat_str(sign, whole, pl.lit("."), part.str.zfill(places))
            found = pl.when(pl.col(currency) == each).then(decimal).otherwise(found)
    return found.alias(column)


def lines(cells: pl.DataFrame) -> bytes:
    """Rows of such cells, and of numbers, in UTF-8: CRLF after each."""
    out = BytesIO()
    cells.write_csv(out, include_header=False, line_terminator="\r\n", quote_style="never")
    return out.getvalue()
