"""CSV cells: quoted as RFC 4180 has it, and nothing that a spreadsheet would run."""

import csv
import io

import polars as pl
import pytest

from api import csv_cells


def written(cell: pl.Expr, *values: object) -> list[str]:
    """What a reader of CSV makes of a column `a` with these values."""
    lines = csv_cells.lines(pl.DataFrame({"a": values}).select(cell, b=pl.lit("b")))
    return [row[0] for row in csv.reader(io.StringIO(lines.decode(), newline=""), strict=True)]


@pytest.mark.parametrize(
    "text", ["=1+1@x.com", "+49@x.com", "-a@x.com", "@x", "\tx", "\rx", "\nx", '=HYPERLINK("http://x")', "="]
)
def test_a_formula_is_made_text(text: str) -> None:
    assert written(csv_cells.text("a"), text) == [f"'{text}"]


@pytest.mark.parametrize(
    "text", ["", "bob@x.com", "a=b@x.com", "Needs attention", "7up@x.com", "é@x.com", "'=1", "a\n=1"]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert written(csv_cells.text("a"), text) == [text]


def test_lines_are_rfc_4180() -> None:
    frame = pl.DataFrame({"a": ["a", "b,c", None], "b": [None, "d\ne", 'say "hi"'], "c": [-5, None, 7]})
    lines = csv_cells.lines(frame.select(csv_cells.text("a"), csv_cells.text("b"), "c"))
    assert lines == b'a,,-5\r\n"b,c","d\ne",\r\n,"say ""hi""",7\r\n'


def test_amounts_have_the_decimals_of_their_currency() -> None:
    frame = pl.DataFrame(
        {"m": [0, -5, 1234, -1234, 1234, 7, 10**13], "c": ["USD", "USD", "JPY", "USD", "KWD", "KWD", "EUR"]}
    )
    found = frame.select(csv_cells.amount("m", "c", frame["c"].unique())).to_series().to_list()
    assert found == ["0.00", "-0.05", "1234", "-12.34", "1.234", "0.007", "100000000000.00"]


def test_times_have_a_fraction_where_there_is_one() -> None:
    frame = pl.DataFrame({"at": [0, 1_500_000, 1, None, 253_370_764_799_999_999]})
    found = frame.select(csv_cells.time("at")).to_series().to_list()
    assert found[:4] == ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01.500000Z", "1970-01-01T00:00:00.000001Z", None]
    assert found[4] == "9998-12-31T23:59:59.999999Z"
