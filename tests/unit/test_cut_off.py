"""A file that ends anywhere, be it within a sign, a cell or a line: read up to there, or refused in a sentence."""

from contextlib import suppress
from pathlib import Path

import pytest

from imports import files, items, transactions
from imports.items import FileError
from tests.unit.test_order_export import HEADER, row

SHOP = "nest.myshopify.com"

CONTENTS = {
    "orders": f"{HEADER}\n{row(Notes='Grüße')}\n{row(Name='#1002', Id='2')}\n",
    "customers": "Customer ID,Email,Accepts Email Marketing\n'1,ada@example.com,yes\n'2,zoë@example.com,no\n",
    "transactions": "customer,timestamp,amount\nzoë,2026-11-10T14:00:00Z,5.00\n2,2026-11-11T14:00:00Z,6.00\n",
}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_wherever_it_is_cut(tmp_path: Path, kind: str, encoding: str) -> None:
    content = CONTENTS[kind].encode(encoding)
    path = tmp_path / "cut.csv"
    said = set[str]()
    for end in range(1, len(content), 1 if kind == "customers" else 7):
        path.write_bytes(content[:end])
        try:
            reader = files.reader(path, SHOP, "USD", 0)
            assert reader.scan() >= 0
            list(items.items(reader))
        except FileError as error:
            said.add(str(error))
    assert all(said)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_rows_without_a_header(tmp_path: Path, encoding: str) -> None:
    content = "4 1 19970101 2 29.33\n4 1 19970118 2 29.73\n".encode(encoding)
    path = tmp_path / "cut.txt"
    for end in range(1, len(content)):
        path.write_bytes(content[:end])
        with suppress(FileError):
            transactions.read(path, "cdnow", "USD")
