"""CSV cells: quoted as RFC 4180 has it, and nothing that a spreadsheet would run."""

import csv
import io

import pytest

from api import csv_cells


@pytest.mark.parametrize(
    "text", ["=1+1@x.com", "+49@x.com", "-a@x.com", "@x", "\tx", "\rx", "\nx", '=HYPERLINK("http://x")', "'=1", "="]
)
def test_a_formula_is_made_text(text: str) -> None:
    assert csv_cells.safe(text)[0] == "'"


@pytest.mark.parametrize("text", ["", "bob@x.com", "a=b@x.com", "Needs attention", "7up@x.com", "é@x.com"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert csv_cells.safe(text) == text


def test_lines_are_rfc_4180() -> None:
    written = csv_cells.lines([["a", None, -5, 'say "hi"'], ["b,c", "d\ne", "é", "-1.50"]])
    assert written == 'a,,-5,"say ""hi"""\r\n"b,c","d\ne",é,-1.50\r\n'.encode()
    again = list(csv.reader(io.StringIO(written.decode(), newline="")))
    assert again == [["a", "", "-5", 'say "hi"'], ["b,c", "d\ne", "é", "-1.50"]]
