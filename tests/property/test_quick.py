"""The quick dry run says what the careful one says, of files plain and odd."""

import random
from pathlib import Path
from typing import Any

import pytest

from imports import files, quick
from imports.judging import Summary
from tests import bulk, stores

Json = dict[str, Any]
SHOP = stores.SHOP

HEADER = (
    "Name,Email,Financial Status,Paid at,Currency,Subtotal,Shipping,Taxes,Total,Created at,Lineitem quantity,"
    "Lineitem price,Cancelled at,Payment Method,Refunded Amount,Notes,Id"
)
GOOD = (
    "#{n},a{c}@example.com,paid,2026-11-10 09:00:05 -0500,USD,40.00,5.00,4.00,49.00,2026-11-10 09:00:00 -0500,"
    "1,5.00,,,0.00,,{n}"
)
LINE = "#{n},a{c}@example.com,,,,,,,,2026-11-10 09:00:00 -0500,2,5.00,,,,,"

#: What becomes of an order's first row, each in the hand of somebody else.
ODD = [
    ("paid,", "PAID,"),
    ("paid,", "partially_refunded,"),
    ("paid,", "refunded,"),
    ("paid,", "pending,"),
    ("paid,", "mystified,"),
    (",0.00,,", ",30.00,,"),
    (",0.00,,", ",300.00,,"),
    (",0.00,,", ",,,"),
    ("USD", "EUR"),
    ("USD", ""),
    ("40.00", "40"),
    ("40.00", "40.001"),
    ("40.00", '"1,240.00"'),
    ("40.00", "forty"),
    ("40.00", "-4.00"),
    (",a{c}@example.com", ","),
    (",a{c}@example.com", ", A{c}@Example.com "),
    ("2026-11-10 09:00:00 -0500", "2026-11-10T09:00:00Z"),
    ("2026-11-10 09:00:00 -0500", "2026-11-10 09:00:00"),
    ("2026-11-10 09:00:00 -0500", "2026-02-30 09:00:00 -0500"),
    ("2026-11-10 09:00:00 -0500", "11/10/2026"),
    (",,0.00", ",(for testing) Bogus Gateway,0.00"),
    (",,,0.00", ",2026-11-11 09:00:00 -0500,,0.00"),
    (",0.00,,", ',0.00,"two\nlines, and a comma",'),
    ("#{n}", "#1"),
    (",{n}", ",1"),
    (",{n}", ",'{n}"),
    (",{n}", ",5.0E+12"),
    (",{n}", ","),
]
#: With one of these DuckDB cannot read the file as a whole.
BROKEN = [(",{n}", ",{n},more"), (",,{n}", ',"never closed,{n}')]


def _csv(chance: random.Random, orders: int, odd: list[tuple[str, str]]) -> str:
    rows = [HEADER]
    for number in range(2, orders):
        row = GOOD
        while chance.random() < 0.3:
            row = row.replace(*chance.choice(odd))
        names = {"n": number, "c": number % 5}
        rows.append(row.format(**names))
        if chance.random() < 0.5:
            rows.append(LINE.format(**names))
        if chance.random() < 0.03:
            rows.append(LINE.format(n=chance.choice([2, 9999]), c=1))
    return "\n".join(rows) + "\n"


def _jsonl(chance: random.Random, seed: int) -> bytes:
    newest: dict[Any, Json] = {}
    for each in stores.store(seed, orders=40):
        if each["topic"].startswith("orders/") and "created_at" in each["payload"]:
            newest[each["payload"]["id"]] = each["payload"]
    plain = [
        {
            "id": 10**12 + number,
            "created_at": f"2026-10-{1 + number % 28:02d}T10:00:00Z",
            "updated_at": "2026-10-02T10:00:00Z",
            "processed_at": chance.choice([None, "2026-10-02T10:00:00-05:00"]),
            "financial_status": chance.choice(["paid", "pending", "partially_paid", "refunded"]),
            "currency": "USD",
            "email": chance.choice([None, "A@example.com ", "b@example.com"]),
            "customer": chance.choice([None, {"id": 7}, {"id": 8, "email": "b@example.com"}]),
            "current_subtotal_price": chance.choice(["10.00", "10.5", "10", "10.505", "x"]),
            "subtotal_price": "12.00",
            "line_items": [{"quantity": 1, "price": "10.00", "gift_card": chance.random() < 0.1}],
            "refunds": [],
        }
        for number in range(60)
    ]
    chosen = [*newest.values(), *plain]
    groups = [bulk.order(each, chance, apart=False) for each in chosen]
    groups += chance.sample(groups, 2)  # two orders under one id
    data = bulk.jsonl(groups, chance if seed % 2 else None)
    broken = [
        b'{"no": "id"}\n',
        b"{broken\n",
        b'{"id": "gid://shopify/LineItem/1", "__parentId": "gid://shopify/Order/3"}\n',
    ]
    return data + b"".join(chance.sample(broken, chance.randint(0, 3)))


def _both(path: Path, monkeypatch: pytest.MonkeyPatch, *, quickly: bool = True) -> tuple[Summary, Summary]:
    found = []
    taken: list[bool] = []
    real = quick._quick

    def watched(*arguments: Any) -> Any:
        answer = real(*arguments)
        taken.append(answer is not None)
        return answer

    monkeypatch.setattr(quick, "_quick", watched)
    for small in (0, 10**12):
        monkeypatch.setattr(quick, "SMALL", small)
        made = quick.summary(files.reader(path, SHOP, "USD", 0), path, SHOP, "USD")[1]
        made.problems.sort()
        found.append(made)
    assert taken == [quickly]
    return found[0], found[1]


@pytest.mark.parametrize("seed", range(12))
def test_an_orders_export(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(_csv(random.Random(seed), 10 if seed < 6 else 120, ODD), encoding="utf-8")
    fast, careful = _both(path, monkeypatch)
    assert fast == careful
    assert careful.orders


def test_a_file_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(_csv(random.Random(1), 60, BROKEN), encoding="utf-8")
    fast, careful = _both(path, monkeypatch, quickly=False)
    assert fast == careful


@pytest.mark.parametrize("seed", range(8))
def test_a_bulk_operation(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bulk.jsonl"
    path.write_bytes(_jsonl(random.Random(seed), seed))
    fast, careful = _both(path, monkeypatch)
    assert fast == careful
    assert careful.orders > 30
