"""The admin's customers export: ids with their apostrophe, e-mail, consent."""

from pathlib import Path

from imports import files, items, judging
from imports.items import Item, Problem
from imports.judging import Judged

SHOP = "a.myshopify.com"
HEADER = "Customer ID,First Name,Last Name,Email,Accepts Email Marketing,Phone,Total Spent,Total Orders,Note,Tags"


def read(tmp_path: Path, *rows: str, header: str = HEADER, since: int = 5) -> list[Item | Problem]:
    path = tmp_path / "customers.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    reader = files.reader(path, SHOP, "USD", since)
    assert reader.form == "customers CSV"
    assert reader.scan() == len(rows) + 1
    return list(items.items(reader))


def test_a_customer_ranks_below_every_webhook(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "'7210448301122,Ada,L,Ada@Example.com,yes,'+1202555,40.00,2,\"a, b\",vip")
    payload = {"id": "7210448301122", "email": "Ada@Example.com", "accepts_marketing": True}
    assert found == Item(2, "customers/update", 0, "import-csv-0000000000000005-7210448301122", payload)
    seen = judging.judge(found, SHOP, "USD")
    assert isinstance(seen, Judged)
    assert (seen.opened.told.email, seen.opened.told.consent) == ("ada@example.com", "subscribed")
    assert seen.opened.payload == {"id": "7210448301122"}


def test_of_two_exports_the_one_asked_for_later_stands(tmp_path: Path) -> None:
    row = "'1,Ada,L,a@example.com,no,,,,,"
    (before,), (after,) = (read(tmp_path, row, since=since) for since in (5, 1794319200000000))
    assert isinstance(before, Item)
    assert isinstance(after, Item)
    assert before.webhook_id < after.webhook_id


def test_older_exports_call_it_accepts_marketing(tmp_path: Path) -> None:
    header = "Id,First Name,Email,Accepts Marketing,Total Spent"
    (found,) = read(tmp_path, "7,Ada,a@example.com,no,1.00", header=header)
    assert isinstance(found, Item)
    assert found.payload["accepts_marketing"] is False


def test_what_cannot_be_a_customer_is_named(tmp_path: Path) -> None:
    tail = ",Ada,L,a@example.com,yes,,,,,"
    found = read(tmp_path, f"1{tail}", f"7.2E+12{tail}", tail, f"'1{tail}", "2,Bo,L,,no,,,,,", f"a@example.com{tail}")
    assert [each.payload for each in found[4:5] if isinstance(each, Item)] == [{"id": "2"}]
    assert [each for each in found if isinstance(each, Problem)] == [
        Problem(3, "Customer ID was rounded by a spreadsheet: export anew, and do not save it from a spreadsheet"),
        Problem(5, "its customer stands in line 2 already"),
        Problem(7, "Customer ID is not an id"),
    ]


def test_an_older_export_tells_of_who_is_known_by_the_address_alone(tmp_path: Path) -> None:
    header = "First Name,Last Name,Email,Accepts Marketing,Total Spent,Total Orders"
    rows = ["Ada,L,Ada@Example.com,no,1.00,2", "Ada,L, ada@example.com ,yes,,", "Bo,L,,yes,,", "Cy,L,Lovelace,yes,,"]
    found = read(tmp_path, *rows, f"Di,L,{'d' * 65}@example.com,yes,,", header=header)
    assert found == [
        Item(
            *(2, "customers/update", 0, "import-csv-0000000000000005-line-2"),
            {"email": "Ada@Example.com", "accepts_marketing": False},
        ),
        Problem(3, "its customer stands in line 2 already"),
        Problem(4, "no Customer ID and no Email: nothing tells who it is"),
        Problem(5, "no Customer ID, and Email is no address"),
        Problem(6, "no Customer ID, and Email is no address"),
    ]
    summary = judging.Summary()
    for each in found:
        summary.add(each if isinstance(each, Problem) else judging.judge(each, SHOP, "USD"))
    assert (summary.customers_told, summary.customers, len(summary.problems)) == (1, 1, 4)
    assert isinstance(found[0], Item)
    seen = judging.judge(found[0], SHOP, "USD")
    assert isinstance(seen, Judged)
    assert (seen.opened.key, seen.opened.payload) == (None, {})
    assert (seen.opened.told.email, seen.opened.told.consent) == ("ada@example.com", "not_subscribed")
