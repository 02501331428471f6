"""The admin's orders export: what each oddity of its files becomes, and that none of them stops another order."""

from pathlib import Path
from typing import Any

import pytest

from imports import files, items, judging
from imports.items import FileError, Item, Problem
from imports.judging import Judged

SHOP = "a.myshopify.com"
HEADER = (
    "Name,Email,Financial Status,Paid at,Fulfilled at,Accepts Marketing,Currency,Subtotal,Shipping,Taxes,Total,"
    "Discount Code,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku,Cancelled at,Payment Method,"
    "Refunded Amount,Id,Notes,Source,Lineitem discount"
)
NAMES = HEADER.split(",")
FIRST = {
    "Name": "#1001",
    "Email": "ada@example.com",
    "Financial Status": "paid",
    "Paid at": "2026-11-10 09:00:05 -0500",
    "Accepts Marketing": "yes",
    "Currency": "USD",
    "Subtotal": "40.00",
    "Shipping": "5.00",
    "Taxes": "4.00",
    "Total": "49.00",
    "Created at": "2026-11-10 09:00:00 -0500",
    "Lineitem quantity": "1",
    "Lineitem name": "Tea",
    "Lineitem price": "25.00",
    "Lineitem sku": "TEA",
    "Refunded Amount": "0.00",
    "Id": "5000000000101",
    "Source": "web",
}


def row(separator: str = ",", names: list[str] | str = NAMES, **changes: str) -> str:
    found = FIRST | {name.replace("_", " "): value for name, value in changes.items()}
    cells = (found.get(name, "") for name in names)
    quoted = (f'"{cell}"' if separator in cell or "\n" in cell else cell for cell in cells)
    return separator.join(quoted)


def line(name: str, **changes: str) -> str:
    """A row of an order that is not its first."""
    empty = dict.fromkeys((each.replace(" ", "_") for each in FIRST), "")
    return row(**(empty | {"Name": name, "Lineitem_quantity": "1", "Lineitem_price": "15.00"} | changes))


def read(tmp_path: Path, *rows: str, header: str = HEADER, end: str = "\n", encoding: str = "utf-8") -> list[Any]:
    path = tmp_path / "orders.csv"
    path.write_bytes(("\n".join((header, *rows)) + end).encode(encoding))
    reader = files.reader(path, SHOP, "USD", 0)
    assert reader.form == "orders CSV"
    reader.scan()
    read.notes = reader.notes.counts  # type: ignore[attr-defined]
    return sorted(items.items(reader), key=lambda each: each.line)


def notes() -> dict[str, int]:
    return dict(read.notes)  # type: ignore[attr-defined]


def order(found: Any) -> dict[str, Any]:
    assert isinstance(found, Item), found
    return found.payload


def judged(found: Any) -> Judged:
    assert isinstance(found, Item), found
    seen = judging.judge(found, SHOP, "USD")
    assert isinstance(seen, Judged), seen
    return seen


def test_an_order_is_told_as_a_webhook_would(tmp_path: Path) -> None:
    (found,) = read(tmp_path, row(), line("#1001"))
    assert found == Item(
        2,
        "orders/updated",
        1794319200000000,
        "import-csv-1794319205000000-5000000000101",
        {
            "id": "5000000000101",
            "created_at": "2026-11-10T14:00:00Z",
            "processed_at": "2026-11-10T14:00:00Z",
            "updated_at": "2026-11-10T14:00:05Z",
            "cancelled_at": None,
            "financial_status": "paid",
            "test": False,
            "currency": "USD",
            "subtotal_price": "40.00",
            "current_subtotal_price": "40.00",
            "total_tax": "4.00",
            "taxes_included": False,
            "source_name": "web",
            "line_items": [
                {"quantity": 1, "price": "25.00", "sku": "TEA"},
                {"quantity": 1, "price": "15.00"},
            ],
            "email": "ada@example.com",
            "buyer_accepts_marketing": True,
        },
    )
    seen = judged(found)
    assert seen.order
    assert seen.order["base"] == 4000
    assert (seen.opened.told.email, seen.opened.told.consent) == ("ada@example.com", "subscribed")
    assert "ada" not in str(seen.opened.payload)


@pytest.mark.parametrize(
    ("refunded", "status", "current"),
    [("30.00", "partially_refunded", "10.00"), ("49.00", "refunded", "0.00"), ("", "paid", "40.00")],
)
def test_what_was_paid_back_is_taken_off_the_goods_and_never_below_nothing(
    tmp_path: Path, refunded: str, status: str, current: str
) -> None:
    (found,) = read(tmp_path, row(Refunded_Amount=refunded, Financial_Status=status))
    assert order(found)["current_subtotal_price"] == current
    assert "refunds" not in order(found)


def test_columns_may_stand_in_any_order_and_be_fewer(tmp_path: Path) -> None:
    names = ["Id", "Subtotal", "Created at", "Something new", "Financial Status", "Name"]
    (found,) = read(tmp_path, row(names=names), header=",".join(names))
    assert order(found)["id"] == "5000000000101"
    assert order(found)["currency"] == "USD"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_of_spreadsheets_are_read(tmp_path: Path, encoding: str) -> None:
    (found,) = read(tmp_path, row(Notes="Grüße"), encoding=encoding)
    assert order(found)["id"] == "5000000000101"


def test_windows_1252_costs_only_what_is_in_it(tmp_path: Path) -> None:
    found = read(tmp_path, row(Notes="caf\xe9"), row(Name="#2", Id="2", Email="ren\xe9@example.com"), encoding="cp1252")
    assert order(found[0])["id"] == "5000000000101"
    assert found[1] == Problem(3, "Email is not UTF-8: save the file as such")
    assert notes() == {"not_utf8": 2}


def test_semicolons_bring_decimal_commas(tmp_path: Path) -> None:
    changes = {"Subtotal": "1.234,50", "Taxes": "0,00", "Refunded_Amount": "0,00", "Total": "1.239,50"}
    text = row(";", **changes, Shipping="5,00")
    (found,) = read(tmp_path, text, header=HEADER.replace(",", ";"))
    assert order(found)["subtotal_price"] == "1234.50"


def test_excels_first_line_is_no_header(tmp_path: Path) -> None:
    (found,) = read(tmp_path, HEADER.replace(",", ";"), row(";"), header="sep=;")
    assert order(found)["id"] == "5000000000101"
    assert found.line == 3


def test_cells_may_hold_any_kind_of_lines_end(tmp_path: Path) -> None:
    found = read(tmp_path, row(Notes="two\nlines, \u2028and \x0b more"), row(Name="#1002", Id="2", Subtotal="x"))
    assert order(found[0])["id"] == "5000000000101"
    assert found[1] == Problem(4, "Subtotal is not an amount")


def test_an_apostrophe_guards_ids(tmp_path: Path) -> None:
    (found,) = read(tmp_path, row(Id="'5000000000101"))
    assert order(found)["id"] == "5000000000101"


def test_without_an_id_one_is_made_of_shop_and_name(tmp_path: Path) -> None:
    first, second = (read(tmp_path, row(Id="", **more))[0] for more in ({}, {"Subtotal": "1.00"}))
    assert order(first)["id"] == order(second)["id"]
    assert len(order(first)["id"]) == 18
    assert notes() == {"no_id": 1}
    assert read(tmp_path, row(Id="", Name="")) == [Problem(2, "neither Name nor Id")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Id": "5.00001E+12"}, "Id was rounded by a spreadsheet: export anew, and do not save it from a spreadsheet"),
        ({"Created_at": "11/10/2026 9:00"}, "Created at is a date whose day and month cannot be told apart"),
        ({"Created_at": "45384.34789"}, "Created at is a spreadsheet's number of days"),
        ({"Created_at": ""}, "Created at is empty"),
        ({"Subtotal": "free"}, "Subtotal is not an amount"),
        ({"Subtotal": "1.234"}, "Subtotal: more decimals than the currency's 2"),
        ({"Subtotal": ""}, "Subtotal is empty"),
        ({"Financial_Status": ""}, "Financial Status is empty"),
        ({"Currency": "XXX"}, "Currency is none in use"),
    ],
)
def test_an_order_that_cannot_be_read_is_named_and_stops_none(
    tmp_path: Path, changes: dict[str, str], reason: str
) -> None:
    found = read(tmp_path, row(Name="#1", Id="1"), row(**changes), row(Name="#3", Id="3"))
    assert [order(found[0])["id"], order(found[2])["id"]] == ["1", "3"]
    assert isinstance(found[1], Problem)
    assert found[1].line == 3
    assert found[1].reason.startswith(reason)


def test_another_currency_than_the_shops_is_named(tmp_path: Path) -> None:
    (found,) = read(tmp_path, row(Currency="EUR"))
    assert judging.judge(found, SHOP, "USD") == Problem(2, "an order not in the shop's USD")


def test_of_two_orders_under_one_id_the_first_stands(tmp_path: Path) -> None:
    found = read(tmp_path, row(), row(Name="#1002"), row(Name="#1003", Id="3"), row(Subtotal="1.00"))
    assert [order(each)["id"] for each in found if isinstance(each, Item)] == ["5000000000101", "3"]
    assert [each for each in found if isinstance(each, Problem)] == [
        Problem(5, "its order stands in line 2 with other values")
    ]
    # Line 3 says the same of it as line 2, but for the name: it is a line of that order, told by its id.
    assert len(order(found[0])["line_items"]) == 2


def test_an_order_told_in_full_on_each_of_its_rows_is_one(tmp_path: Path) -> None:
    found = read(tmp_path, row(), row(Lineitem_price="15.00"), row(Name="#1002", Id="2"), row())
    assert [len(order(each)["line_items"]) for each in found] == [2, 1]
    assert notes() == {"repeated": 1}


def test_rows_sorted_by_somebody_lose_no_order(tmp_path: Path) -> None:
    found = read(tmp_path, line("#1002"), row(), row(Name="#1002", Id="2"), line("#1001"), line("#9"))
    assert [order(each)["id"] for each in found[:2]] == ["5000000000101", "2"]
    assert found[2:] == [Problem(6, "the first row of its order is not in the file")]


def test_files_that_were_joined_have_a_header_in_the_middle(tmp_path: Path) -> None:
    found = read(tmp_path, row(), HEADER, row(Name="#2", Id="2"))
    assert [order(each)["id"] for each in found] == ["5000000000101", "2"]


@pytest.mark.parametrize("cut", [1, 20, 60, 100])
def test_a_last_line_cut_short_is_named(tmp_path: Path, cut: int) -> None:
    found = read(tmp_path, row(), row(Name="#2", Id="2", Source="")[:cut], end="")
    assert order(found[0])["id"] == "5000000000101"
    assert found[1:] == [Problem(3, "the file breaks off in it")]


def test_a_quote_that_is_never_closed_costs_its_own_row(tmp_path: Path) -> None:
    broken = row(Name="#2", Id="2").replace("Tea", '"Tea')
    found = read(tmp_path, row(), broken, row(Name="#3", Id="3"), row(Name="#4", Id="4", Notes="a\nb"))
    assert [order(each)["id"] for each in found if isinstance(each, Item)] == ["5000000000101", "3", "4"]
    assert [each.line for each in found if isinstance(each, Problem)] == [3]


def test_a_row_that_has_slipped_is_named(tmp_path: Path) -> None:
    (found,) = read(tmp_path, row() + ",more")
    assert found == Problem(2, f"it has {len(NAMES) + 1} columns, the header {len(NAMES)}")
    (kept,) = read(tmp_path, row() + ",,")
    assert isinstance(kept, Item)
    (short,) = read(tmp_path, row().rstrip(","))  # spreadsheets leave empty cells out
    assert isinstance(short, Item)


def test_no_reason_tells_what_stood_there(tmp_path: Path) -> None:
    cells = "ada@example.com"
    for name in ("Id", "Created_at", "Subtotal", "Currency", "Refunded_Amount", "Paid_at", "Taxes"):
        found = read(tmp_path, row(**{name: cells}))
        seen = [judging.judge(each, SHOP, "USD") if isinstance(each, Item) else each for each in found]
        assert all(isinstance(each, Problem) for each in seen), name
        assert "ada" not in str(seen)


def test_orders_of_the_bogus_gateway_are_tests(tmp_path: Path) -> None:
    (found,) = read(tmp_path, row(Payment_Method="(for testing) Bogus Gateway"))
    assert order(found)["test"] is True


def test_times_without_an_offset_are_utc_and_said(tmp_path: Path) -> None:
    (found,) = read(tmp_path, row(Created_at="2026-11-10 09:00:00", Paid_at=""))
    assert order(found)["created_at"] == "2026-11-10T09:00:00Z"
    assert notes() == {"no_offset": 1}


def test_a_later_export_of_an_order_sorts_above_an_earlier_one(tmp_path: Path) -> None:
    (before,) = read(tmp_path, row())
    after = read(tmp_path, row(Name="#9", Id="9", Created_at="2026-12-10 09:00:00 -0500"), row())[1]
    assert before.webhook_id < after.webhook_id
    assert before[2] == after[2]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\x03\x04", "ZIP or an Excel workbook"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"  \n", "empty"),
        (b"[1]", "JSON array"),
        (b'{"a": 1}\n', "no object of a bulk operation"),
        (b"who,what\n1,2\n", "no column for the customer"),
        (b"Name,Financial Status,Subtotal\n#1,paid,1.00\n", "an orders export without Created at: "),
        (
            b"Name,Email,Lineitem quantity,Created at\n",
            "an orders export without Financial status and without Subtotal",
        ),
    ],
)
def test_what_is_no_file_of_ours_is_said_at_once(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(FileError, match=says):
        files.reader(path, SHOP, "USD", 0)
