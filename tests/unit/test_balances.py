"""Balances of another programme: whose, how many, since when, and what each is called."""

from pathlib import Path

import pytest

from events import instants
from imports import files, items, judging
from imports.items import Item, Problem
from imports.judging import Judged

SHOP = "a.myshopify.com"
SINCE = instants.parse("2026-11-21T09:30:00Z")
DAY = "2026-03-01"
NOON = "2026-03-01T12:00:00Z"


def read(tmp_path: Path, header: str, *rows: str) -> list[Item | Problem]:
    path = tmp_path / "balances.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    reader = files.reader(path, SHOP, "USD", SINCE)
    assert reader.form == "balances CSV"
    assert reader.scan() == len(rows) + 1
    return list(items.items(reader))


def said(found: Item | Problem) -> dict[str, object]:
    assert isinstance(found, Item), found
    return found.payload


def test_a_row_is_an_award_of_the_import(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "Customer ID,Email,Points", "'71,ada@example.com,350")
    assert isinstance(found, Item)
    assert (found.line, found.topic, found.triggered_at) == (2, "account/award", SINCE)
    assert found.webhook_id.startswith("award/import-balance/")
    assert found.payload == {
        "customer_id": "71",
        "award_id": "import-balance",
        "at": instants.text(SINCE),
        "points": 350,
        "source": "import",
        "counts_as_earned": True,
    }
    seen = judging.judge(found, SHOP, "USD")
    assert isinstance(seen, Judged)
    assert (seen.opened.key, seen.opened.told.email, seen.order) == (f"{SHOP}/71", None, None)


def test_an_address_is_named_once_it_is_sealed_and_never_in_clear(tmp_path: Path) -> None:
    first, second = read(tmp_path, "email,loyalty points", "Ada@Example.com,50", "bob@example.com,50")
    assert isinstance(first, Item)
    assert isinstance(second, Item)
    seen = judging.judge(first, SHOP, "USD")
    assert isinstance(seen, Judged)
    assert (seen.opened.key, seen.opened.told.email) == (None, "ada@example.com")
    assert "example" not in str(seen.opened.payload) + first.webhook_id
    assert first.webhook_id != second.webhook_id


def test_when_and_what_it_is_called(tmp_path: Path) -> None:
    header = "customer_id;points;date;id"
    ids = ("", "a-1", "Grüße", "x" * 64)
    dates = (DAY, "2026-03-01T10:00:00-02:00", "2026-11-21", "")
    found = read(tmp_path, header, *(f"7;5;{date};{name}" for date, name in zip(dates, ids, strict=True)))
    told = [said(each) for each in found]
    now = instants.text(SINCE)
    assert [each["at"] for each in told] == [NOON, NOON, now, now], "of today: now"
    names = [str(each["award_id"]) for each in told]
    assert names[:2] == ["import-balance", "import:a-1"]
    assert [len(each) for each in names[2:]] == [39, 39]
    assert len(set(names)) == 4


def test_the_same_row_is_the_same_award_wherever_it_stands(tmp_path: Path) -> None:
    rows = [f"{customer},{DAY},{points}" for customer, points in ((7, 50), (8, 60))]
    forth, back = read(tmp_path, "customer,date,points", *rows), read(tmp_path, "customer,date,points", *rows[::-1])
    assert [said(each) for each in forth] == [said(each) for each in back[::-1]]


def test_what_cannot_be_a_balance_is_named(tmp_path: Path) -> None:
    header = "customer id,email,points,date,id"
    rows = {
        "7,,50,,": None,
        "7,,60,,": "its customer stands in line 2 already",
        "7,,60,,b": None,
        ",,50,,": "no customer's id and no e-mail: nothing tells who it is",
        ",Lovelace,50,,": "no customer's id, and the e-mail is no address",
        "7.2E+12,,50,,": "the customer's id was rounded by a spreadsheet: export anew, and do not save it from a"
        " spreadsheet",
        "8,,many,,": "the number of points is not an amount",
        "8,,1.5,,": "the points are no whole number",
        "8,,99999999999999,,": "the points are more than 10000000000000",
        "8,,5,2026-11-23,": "the date has yet to come",
        "8,,5,03/04/2026,": "the date is a date whose day and month cannot be told apart: write it as 2026-01-31",
        "8,,5,,ada@example.com": "the id is an address",
        '9,,"1,250",,': None,
        "10,,-20,,": None,
        "11,,12.0,,": None,
        "12,,0,,": None,
        "bob@example.com,,4,,": None,
    }
    found = read(tmp_path, header, *rows)
    problems = [Problem(line, why) for line, why in enumerate(rows.values(), start=2) if why]
    assert [each for each in found if isinstance(each, Problem)] == problems
    points = [(each.payload.get("customer_id"), each.payload["points"]) for each in found if isinstance(each, Item)]
    assert points == [("7", 50), ("7", 60), ("9", 1250), ("10", -20), ("11", 12), (None, 4)]


TWO_WAYS = "the number of points can be read in two ways, and the file's other amounts do not tell which"


@pytest.mark.parametrize(
    ("delimiter", "points", "read_as"),
    [
        (",", "1.000", TWO_WAYS),
        (",", "2.500", TWO_WAYS),
        (",", '"1,000"', 1000),
        (";", "1.000", TWO_WAYS),
        (";", "1,000", TWO_WAYS),
        ("\t", "1,000", 1000),
        (";", "1.000,00", 1000),
        (";", "1.000.000", 1_000_000),
        (",", "1000.000", 1000),
        (";", "-1000,0", -1000),
    ],
)
def test_a_thousand_is_never_read_as_one(tmp_path: Path, delimiter: str, points: str, read_as: int | str) -> None:
    (found,) = read(tmp_path, f"customer id{delimiter}points", f"7{delimiter}{points}")
    assert (found.reason if isinstance(found, Problem) else said(found)["points"]) == read_as


def test_who_has_no_points_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "balances.csv"
    path.write_text("customer,points\n7,0\n8,0.00\n9,5\n")
    reader = files.reader(path, SHOP, "USD", SINCE)
    for _ in range(2):
        assert len(list(items.items(reader))) == 1
        assert dict(reader.notes.counts) == {"no_points": 2}
    summary = judging.Summary()
    for each in items.items(reader):
        summary.add(each if isinstance(each, Problem) else judging.judge(each, SHOP, "USD"))
    assert (summary.balances, summary.points, summary.customers, summary.customers_told) == (1, 5, 1, 0)


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("customer,date,amount,points", "transactions"),
        ("Customer ID,First Name,Email,Accepts Email Marketing,Total Spent", "customers CSV"),
        ("Customer ID,Email,Accepts Email Marketing,Points", "balances CSV"),
        ("reference,E-Mail,Points Balance", "balances CSV"),
    ],
)
def test_a_file_is_told_by_its_header(tmp_path: Path, header: str, form: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"{header}\n")
    assert files.reader(path, SHOP, "USD", SINCE).form == form
