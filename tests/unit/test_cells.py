"""What stands in a cell: amounts, with whatever marks they have."""

import pytest

from imports.cells import CellError, Marks, amount, marks

NOTHING, COMMA, DOT = Marks(), Marks(comma=True), Marks(dot=True)


@pytest.mark.parametrize(
    ("text", "found", "places", "read"),
    [
        ("1,234.50", NOTHING, 2, "1234.50"),
        ("1.234,50", NOTHING, 2, "1234.50"),
        ("1.234.567,5", NOTHING, 2, "1234567.5"),
        ("1,234,567", NOTHING, 2, "1234567"),  # more than once: it parts thousands
        ("1.234.567", NOTHING, 2, "1234567"),
        ("12,5", NOTHING, 2, "12.5"),
        ("12,500", COMMA, 2, "12.500"),
        ("12,500", DOT, 2, "12500"),
        ("12.500", COMMA, 2, "12500"),
        ("12,500", Marks(semicolons=True), 2, "12.500"),
        ("12.500", NOTHING, 3, "12.500"),
        ("12,500", NOTHING, 0, "12500"),  # a currency without decimals
    ],
)
def test_an_amount_that_can_be_read_in_one_way(text: str, found: Marks, places: int, read: str) -> None:
    assert amount(text, found, places) == (read, False)


def test_where_nothing_tells_it_is_thousands_and_a_guess() -> None:
    assert amount("12,500", NOTHING, 2) == ("12500", True)


@pytest.mark.parametrize(
    ("text", "found", "places"),
    [
        ("12,500", Marks(comma=True, dot=True), 2),
        ("12.500", Marks(semicolons=True), 2),
        ("12.000", NOTHING, 0),  # of what has no decimals
        ("12,000", Marks(semicolons=True), 0),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text: str, found: Marks, places: int) -> None:
    with pytest.raises(CellError, match="two ways"):
        amount(text, found, places)


@pytest.mark.parametrize(
    ("amounts", "delimiter", "found"),
    [
        (["12,500", "7"], ",", NOTHING),
        (["12,500", "7,50"], ",", COMMA),
        (["1,234.50"], ",", DOT),
        (["1.5", "2,5"], ",", Marks(comma=True, dot=True)),
        (["12,500"], ";", Marks(semicolons=True)),
    ],
)
def test_a_files_amounts_tell_of_its_marks(amounts: list[str], delimiter: str, found: Marks) -> None:
    assert marks(amounts, delimiter) == found
