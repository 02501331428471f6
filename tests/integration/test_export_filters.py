"""Who stands in an export, and which columns: of now, of a past run, and of the lake alike."""

import csv
import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from books import contacts
from events import instants
from lake import reading
from tests import stores
from tests.integration.api_world import NOW, OTHER, SHOP, World, opened, prospect
from tests.integration.test_batch import add_raw

PATH = f"/v1/shops/{SHOP}/exports/segments.csv"


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


def ask(world: World, *scopes: str, **parameters: Any) -> httpx.Response:
    answer: httpx.Response = world.get("/exports/segments.csv", world.key("export", *scopes), **parameters)
    return answer


def rows(world: World, *scopes: str, **parameters: Any) -> list[dict[str, str]]:
    answer = ask(world, *scopes, **parameters)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))


def ids(world: World, **parameters: Any) -> str:
    return "".join(row["customer_id"] for row in rows(world, **parameters))


def changed(world: World, customer_id: str, at: object, shop: str = SHOP) -> None:
    world.insert(
        "rfm_segment_deltas",
        at=at,
        id=uuid4(),
        shop=shop,
        customer_id=customer_id,
        previous_segment="New",
        segment="Active",
        cause="rescore",
    )


#: Of customers 1 to 4: what they are asked by. 4 is a Prospect.
ASKED: list[tuple[dict[str, Any], str]] = [
    ({}, "1234"),
    ({"segment": ["Loyal", "Prospects"]}, "24"),
    ({"segment": "Loyal"}, "2"),
    ({"segment": "At risk"}, "3"),
    ({"segment": "Champions"}, ""),
    ({"r": "4-5"}, "12"),
    ({"r": "1"}, "3"),
    ({"f": "2-3"}, "23"),
    ({"m": "5"}, "1"),
    ({"r": "1-5"}, "123"),
    ({"r": "4-5", "f": "1-2"}, "2"),
    ({"points_from": 100}, "12"),
    ({"points_to": 0}, "34"),
    ({"points_from": -5, "points_to": 99}, "34"),
    ({"points_expire_before": (NOW + timedelta(days=30)).isoformat()}, "1"),
    ({"points_expire_before": (NOW + timedelta(days=31)).isoformat(), "points_to": 200}, "2"),
    ({"last_order_after": (NOW - timedelta(days=20)).isoformat()}, "12"),
    ({"last_order_before": (NOW - timedelta(days=20)).isoformat()}, "3"),
    ({"last_order_after": NOW.isoformat()}, ""),
    ({"last_order_after": (NOW - timedelta(days=20)).isoformat(), "segment": "Active"}, "1"),
]


def four(world: World) -> dict[str, dict[str, Any]]:
    ordered = {"1": 0, "2": 20, "3": 200}
    found: dict[str, dict[str, Any]] = {
        "1": {"r": 5, "f": 4, "m": 5, "balance": 300, "segment": "Active"},
        "2": {"r": 4, "f": 2, "m": 3, "balance": 100, "segment": "Loyal"},
        "3": {"r": 1, "f": 3, "m": 1, "balance": -5, "segment": "At risk"},
        "4": prospect(),
    }
    for customer_id, days in (("1", 29), ("2", 30)):
        found[customer_id] |= {"expiring": 1, "expires_at": NOW + timedelta(days=days)}
    for customer_id, days in ordered.items():
        found[customer_id]["last_order_at"] = NOW - timedelta(days=days, microseconds=1 if days == 0 else 0)
    return found


@pytest.mark.parametrize(("asked", "found"), ASKED, ids=[str(asked) for asked, _ in ASKED])
def test_who_is_asked_for_now_and_as_a_run_had_it(
    world: World, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], found: str
) -> None:
    monkeypatch.setattr(reading, "MOST", -1)  # the lake cannot tell: a run does
    run = world.batch(NOW - timedelta(hours=1), dict.fromkeys("1234", "Active"))
    for customer_id, changes in four(world).items():
        world.customer(customer_id, **changes)
        changes = {name: value for name, value in changes.items() if name not in ("expiring", "expires_at")}
        names = ", ".join(f"{name} = %s" for name in changes)
        query = f"UPDATE batch_segments SET {names} WHERE run_id = %s AND customer_id = %s"
        world.sql(query, *changes.values(), run, customer_id)
    world.customer("9", shop=OTHER, **four(world)["1"])
    assert ids(world, **asked) == found
    if "points_expire_before" in asked:  # of points a run keeps the balance alone
        answer = ask(world, **asked, as_of=NOW.isoformat())
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:loyalnest:problem:lake-behind")
    else:
        assert ids(world, **asked, as_of=NOW.isoformat()) == found


def test_the_lake_is_asked_alike(world: World) -> None:
    world.sql("DELETE FROM programs")
    world.program(expiry=[{"life_days": 365}])
    with psycopg.connect(world.url, autocommit=True) as connection:
        add_raw(connection, stores.store(1, shop=SHOP))
    as_of = stores.NOW.isoformat()
    everybody = rows(world, as_of=as_of)
    most = max(int(row["points_balance"]) for row in everybody)
    soon = sorted(row["points_expire_at"] for row in everybody if row["points_expire_at"])[-1]
    late = sorted(row["last_order_at"] for row in everybody if row["last_order_at"])[1]
    some = [row["customer_id"] for row in everybody[1:3]]
    when = instants.to_datetime(instants.parse(late))
    for customer_id in some:
        changed(world, customer_id, when)
    changed(world, everybody[0]["customer_id"], stores.NOW + timedelta(seconds=1))
    segments = [everybody[0]["segment"], "Champions"]
    asked: list[tuple[dict[str, Any], Any]] = [
        ({"segment": segments}, lambda row: row["segment"] in segments),
        ({"r": "3-5"}, lambda row: row["r"] in ("3", "4", "5")),
        ({"m": "1"}, lambda row: row["m"] == "1"),
        ({"points_from": most}, lambda row: int(row["points_balance"]) == most),
        ({"points_to": most - 1}, lambda row: int(row["points_balance"]) < most),
        ({"points_expire_before": soon}, lambda row: "" < row["points_expire_at"] < soon),
        ({"last_order_after": late}, lambda row: row["last_order_at"] >= late),
        ({"last_order_before": late}, lambda row: "" < row["last_order_at"] < late),
        ({"changed_since": late}, lambda row: row["customer_id"] in some),
        ({"changed_since": stores.NOW.isoformat()}, lambda row: False),
    ]
    for question, is_asked in asked:
        found = rows(world, as_of=as_of, **question)
        assert found == [row for row in everybody if is_asked(row)], question
        assert len(found) < len(everybody), question


def test_whose_segment_changed_since(world: World) -> None:
    for customer_id in "123":
        world.customer(customer_id)
    changed(world, "1", NOW - timedelta(days=2))
    changed(world, "2", NOW - timedelta(days=1))
    changed(world, "2", NOW - timedelta(hours=1))
    changed(world, "3", NOW, shop=OTHER)
    assert ids(world, changed_since=(NOW - timedelta(days=2)).isoformat()) == "12"
    assert ids(world, changed_since=(NOW - timedelta(days=1)).isoformat()) == "2"
    assert ids(world, changed_since=NOW.isoformat()) == ""


def test_consent_is_the_one_that_the_column_shows(world: World) -> None:
    for customer_id, consent in (("1", "subscribed"), ("2", "unsubscribed"), ("3", None)):
        world.customer(customer_id, contact=world.contact(customer_id, f"{customer_id}@x.com", consent))  # type: ignore[arg-type]
    world.customer("4")
    assert ids(world, consent="subscribed") == "1"
    assert ids(world, consent="not_subscribed") == "3"
    assert ids(world, consent="pending") == ""
    assert ids(world, consent="any") == ids(world) == "1234"


def test_columns_are_picked_and_ordered(world: World) -> None:
    world.customer("7210448301122334", contact=world.contact("7210448301122334", "bob@example.com"), segment="Loyal")
    answer = ask(world, columns="segment,customer_id")
    assert answer.content == b"segment,customer_id\r\nLoyal,7210448301122334\r\n"
    again = ask(world, columns=["segment", "customer_id"])
    assert again.content == answer.content
    answer = ask(world, columns="customer_id,r", excel=True)
    assert answer.content == b"\xef\xbb\xbfcustomer_id,r\r\n'7210448301122334,5\r\n"
    (row,) = rows(world, "pii", columns="email,email_sha256,monetary,currency")
    assert list(row) == ["email", "email_sha256", "monetary", "currency"]
    assert row["email"] == "bob@example.com"
    # The digest is asked for by name, whatever the key may see.
    assert rows(world, "pii", columns="email_sha256") == rows(world, columns="email_sha256")


def test_what_nobody_asks_for_is_not_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_contacts, asked = contacts.opened, list[str]()

    async def counted(*given: Any) -> Any:
        asked.append("opened")
        return await opened_contacts(*given)

    monkeypatch.setattr(contacts, "opened", counted)
    world.customer("1", contact=world.contact("1", "1@x.com"))
    assert ask(world, columns="customer_id,segment").content.endswith(b"\r\n1,Active\r\n")
    assert asked == []
    for question in (
        {"columns": "email_consent"},
        {"columns": "email_sha256"},
        {"columns": "r", "consent": "subscribed"},
    ):
        asked.clear()
        assert ask(world, **question).content.count(b"\r\n") == 2
        assert asked == ["opened"]


def test_an_address_by_name_needs_the_scope(world: World) -> None:
    answer = ask(world, columns="email")
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:loyalnest:problem:no-scope")
    assert "pii" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"columns": "customer_id,colour"}, "'points_balance'"),  # those known are named
        ({"columns": "r,r"}, "once"),
        ({"consent": "yes"}, "'not_subscribed'"),
        ({"r": "6"}, "pattern"),
        ({"r": "5-4"}, "the lower one first"),
        ({"points_from": "many"}, "integer"),
        ({"points_from": 5, "points_to": 4}, "above"),
        ({"last_order_after": "2026-01-02T00:00:00Z", "last_order_before": "2026-01-02T00:00:00Z"}, "not before"),
        ({"changed_since": "yesterday"}, "a time such as"),
        ({"colour": "red"}, "known: as_of, changed_since, columns, consent, excel"),
        ({"segment": ["Loyal", "Loyall"]}, "At risk, Champions"),
    ],
    ids=lambda asked: str(asked)[:40],
)
def test_what_is_not_known_is_said_with_what_is(world: World, asked: dict[str, Any], says: str) -> None:
    answer = ask(world, **asked)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


def test_a_segment_of_before_a_new_grid_is_known_as_long_as_it_holds_somebody(world: World) -> None:
    world.customer("1", segment="Stammgäste")
    assert ids(world, segment="Stammgäste") == "1"
    world.sql("DELETE FROM customers")
    world.count()
    assert ask(world, segment="Stammgäste").status_code == 422


def test_the_same_question_has_the_same_bytes(world: World) -> None:
    for number in range(30):
        world.customer(str(number), balance=number, contact=world.contact(str(number), f"{number}@x.com"))
    asked = {"points_from": 3, "consent": "subscribed", "columns": "customer_id,points_balance,email_sha256"}
    first, second = ask(world, **asked), ask(world, **asked)
    assert first.content == second.content
    assert first.content.count(b"\r\n") == 28
