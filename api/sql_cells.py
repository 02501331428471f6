"""The cells of api/csv_cells.py as PostgreSQL writes them: expressions of SQL, to the byte alike.

A row comes as one text then, where its values and their columns took half of an export's time.
"""

from collections.abc import Iterable
from typing import Final

from events import money

#: How a text begins that a spreadsheet would run as a formula, and what needs quotes.
_FORMULA: Final = "=+-@\t\r\n"
_QUOTED: Final = '",\r\n'


def row(cells: Iterable[str]) -> str:
    """Cells that stand beside each other, none of them null, as one text.

    concat_ws leaves null out, its comma too; concat with commas between takes twice as long.
    """
    return f"concat_ws(',', {', '.join(cells)})"


def plain(value: str) -> str:
    """A number, or text that needs nothing; of null an empty cell."""
    return f"coalesce({value}::text, '')"


def text(told: str) -> str:
    """As csv_cells.text."""
    formula = f"ascii({told}) IN ({', '.join(str(ord(each)) for each in _FORMULA)})"
    safe = f"CASE WHEN {formula} THEN concat('''', {told}) ELSE {told} END"
    plain = " AND ".join(f"strpos({told}, chr({ord(each)})) = 0" for each in _QUOTED)
    return f"""CASE WHEN {plain} THEN {safe} ELSE concat('"', replace({safe}, '"', '""'), '"') END"""


def time(at: str) -> str:
    """As csv_cells.time, of a timestamp in UTC. DateStyle is to be ISO: to_char takes far longer."""
    whole, exact = f"replace({at}::text, ' ', 'T') || 'Z'", f"""to_char({at}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    return f"CASE WHEN {at} = {at}::timestamp(0) THEN {whole} ELSE coalesce({exact}, '') END"


def amount(minor: str, currency: str) -> str:
    """As csv_cells.amount, of whatever currency."""
    cases = []
    for places in (2, 3):
        known = ",".join(money.currencies(places))
        cases.append(f"WHEN {currency} = ANY('{{{known}}}') THEN {_decimal(minor, places)}")
    return f"CASE {' '.join(cases)} ELSE {minor}::text END"


def _decimal(minor: str, places: int) -> str:
    size = f"abs({minor})"
    digits = ", ".join(f"mod({size} / {10**place}, 10)" for place in reversed(range(places)))
    return f"concat(CASE WHEN {minor} < 0 THEN '-' END, {size} / {10**places}, '.', {digits})"
