"""The ledger's entries, rows in and rows out."""

from typing import Any

import pytest

from events.records import PointsRecord
from streams.sink.ledger import Key, Total, entry_id, post

SHOP = "demo.myshopify.com"


def points(total: int, revision: str, *, order: str = "1", customer: str = "7", **more: Any) -> PointsRecord:
    record: PointsRecord = {
        "type": "points.earned",
        "shop": SHOP,
        "customer_id": customer,
        "source": "order",
        "source_id": order,
        "via": None,
        "revision": revision,
        "changed_at": "2026-11-21T09:30:00Z",
        "processed_at": "2026-11-20T08:00:00Z",
        "earned": max(total, 0),
        "reversed": 0,
        "total": total,
    }
    return {**record, **more}  # type: ignore[typeddict-item]


KEY: Key = (SHOP, "order", "1", "7", "")


def test_a_first_total_is_earned_whole() -> None:
    entries, totals = post({}, [points(120, "a")])
    assert [(e.kind, e.points, e.revision, e.posted_at) for e in entries] == [
        ("earned", 120, "a", "2026-11-21T09:30:00Z")
    ]
    assert totals == {KEY: Total("a", 120, "2026-11-20T08:00:00Z")}


def test_the_entry_is_the_difference_from_the_stored_total() -> None:
    stored = {KEY: Total("a", 120, "2026-11-20T08:00:00Z")}
    entries, totals = post(stored, [points(45, "b")])
    assert [(e.kind, e.points) for e in entries] == [("reversed", -75)]
    assert totals[KEY].total == 45


@pytest.mark.parametrize(
    ("source", "totals", "kinds"),
    [
        ("order", [100, 40, 70], ["earned", "reversed", "earned"]),
        ("award", [50, 0], ["adjusted", "adjusted"]),
        ("deduction", [-50, 0], ["adjusted", "adjusted"]),
        ("redeem", [-200, 0, -200], ["redeemed", "returned", "redeemed"]),
    ],
)
def test_an_entry_says_what_became_of_its_source(source: str, totals: list[int], kinds: list[str]) -> None:
    entries, _ = post({}, [points(total, f"{at}", source=source) for at, total in enumerate(totals)])
    assert [(each.source, each.kind) for each in entries] == [(source, kind) for kind in kinds]


@pytest.mark.parametrize("revision", ["a", "Z", ""])
def test_a_revision_not_above_the_stored_one_is_ignored(revision: str) -> None:
    stored = {KEY: Total("a", 120, "2026-11-20T08:00:00Z")}
    assert post(stored, [points(5, revision)]) == ([], {})


def test_an_equal_total_moves_the_revision_and_posts_nothing() -> None:
    stored = {KEY: Total("a", 120, "2026-11-20T08:00:00Z")}
    entries, totals = post(stored, [points(120, "b")])
    assert entries == []
    assert totals[KEY].revision == "b"


def test_a_first_total_of_nothing_is_kept_and_posts_nothing() -> None:
    entries, totals = post({}, [points(0, "a")])
    assert entries == []
    assert totals[KEY].total == 0


def test_within_a_batch_each_record_meets_the_one_before() -> None:
    entries, totals = post({}, [points(10, "a"), points(4, "b"), points(10, "a"), points(9, "c")])
    assert [e.points for e in entries] == [10, -6, 5]
    assert totals[KEY].total == 9


def test_each_customer_of_an_order_has_an_account_of_its_own() -> None:
    records = [points(10, "a"), points(10, "b", customer="8"), points(0, "b")]
    entries, _ = post({}, records)
    assert [(e.customer_id, e.points) for e in entries] == [("7", 10), ("8", 10), ("7", -10)]


def test_revisions_compare_by_code_point() -> None:
    # A collation by language would put "é" before "z", and "a" before "B".
    entries, _ = post({}, [points(1, "B"), points(2, "a"), points(3, "z"), points(4, "é")])
    assert [e.points for e in entries] == [1, 1, 1, 1]


def test_an_id_is_a_function_of_the_change_alone_and_never_moves() -> None:
    assert entry_id(KEY, "earned", "a") == "c50346b1-7ac5-5751-8ced-bacfa3bb5649"
    assert entry_id(KEY, "earned", "a") != entry_id(KEY, "reversed", "a")
    one, other = (SHOP, "order", "1", "17", ""), (SHOP, "order", "11", "7", "")
    assert entry_id(one, "earned", "a") != entry_id(other, "earned", "a")
    assert entry_id((SHOP, "award", "1", "7", ""), "earned", "a") != entry_id(KEY, "earned", "a")
    assert entry_id((SHOP, "order", "1", "7", "8"), "earned", "a") != entry_id(KEY, "earned", "a")
