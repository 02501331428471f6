"""Rows in, answers out: segments, movement, customers and why, the ledger, histories and windows."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from lake import reading
from tests.integration.api_world import NOW, OTHER, SHOP, World, customer_row, opened, prospect

DAY = timedelta(days=1)


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program(translations={"de": {"Champions": "Meister"}})
        yield running


@pytest.fixture
def headers(world: World) -> dict[str, str]:
    return world.key("read")


def champion(**changes: Any) -> dict[str, Any]:
    return {"segment": "Champions", "segment_id": "seg_555", "r": 5, "f": 5, "m": 5, "score": "5.0", **changes}


# --- segments ----------------------------------------------------------------------------------------------------


def test_segments_live(world: World, headers: dict[str, str]) -> None:
    world.customer("1", **champion(monetary=10_001, frequency=9, recency_days=2, balance=100))
    world.customer("2", **champion(monetary=20_000, frequency=10, recency_days=3, balance=-5))
    world.customer("3", **prospect())
    world.customer("4", shop=OTHER)
    answer = world.get("/segments", headers).json()
    assert (answer["shop"], answer["customers"], answer["run"]) == (SHOP, 3, None)
    assert answer["revenue"] == {"amount": "300.01", "currency": "USD"}
    assert answer["segments"] == [
        {
            "segment": "Champions",
            "names": {"de": "Meister"},
            "customers": 2,
            "share": 0.666667,
            "revenue": {"amount": "300.01", "currency": "USD"},
            "revenue_share": 1.0,
            "points_balance": 95,
            "mean_recency_days": 2.5,
            "mean_frequency": 9.5,
            "mean_monetary": {"amount": "150.00", "currency": "USD"},
        },
        {
            "segment": "Prospects",
            "names": {},
            "customers": 1,
            "share": 0.333333,
            "revenue": {"amount": "0.00", "currency": "USD"},
            "revenue_share": 0.0,
            "points_balance": 0,
            "mean_recency_days": None,
            "mean_frequency": 0.0,
            "mean_monetary": {"amount": "0.00", "currency": "USD"},
        },
    ]
    assert 0 <= answer["freshness"]["age_seconds"] < 60
    assert answer["cut_points"]["version"] == "default"
    assert answer["cut_points"]["as_of"] is None
    assert answer["cut_points"]["monetary"][3] == {"amount": "500.00", "currency": "USD"}


def test_segments_of_an_empty_shop(world: World, headers: dict[str, str]) -> None:
    answer = world.get("/segments", headers).json()
    assert (answer["customers"], answer["segments"]) == (0, [])
    assert answer["freshness"] == {"stored_at": None, "age_seconds": None}


def test_cut_points_in_use_are_the_newest_that_are_not_of_the_future(world: World, headers: dict[str, str]) -> None:
    now = datetime.now(UTC)
    for version, as_of in (("v1", now - 2 * DAY), ("v2", now - DAY), ("v3", now + DAY)):
        values = {"recency": [1, 2, 3, 4], "frequency": [1, 1, 2, 3], "monetary": [100, 200, 300, 400]}
        world.insert("cut_points", shop=SHOP, version=version, as_of=as_of, customers=60, **values)
    found = world.get("/segments", headers).json()["cut_points"]
    assert (found["version"], found["customers"], found["recency_days"]) == ("v2", 60, [1, 2, 3, 4])


def test_where_the_lake_cannot_tell_the_newest_run_not_after_it_does(
    world: World, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST", -1)
    runs = [world.batch(NOW - n * DAY, {"1": name}) for n, name in ((1, "Champions"), (2, "Loyal"))]
    world.batch(NOW - DAY, {"1": "Dormant"}, status="failed")
    for asked, run, name in ((NOW - DAY, runs[0], "Champions"), (NOW - DAY - DAY / 2, runs[1], "Loyal")):
        answer = world.get("/segments", headers, as_of=asked.isoformat()).json()
        assert UUID(answer["run"]["id"]) == run
        assert (answer["source"], answer["as_of"]) == ("run", answer["run"]["as_of"])
        assert [each["segment"] for each in answer["segments"]] == [name]
        assert answer["freshness"] is None


def test_movement_between_two_runs_and_from_one_until_now(
    world: World, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = world.get("/segments/movement", headers)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:loyalnest:problem:no-batch-run")
    monkeypatch.setattr(reading, "MOST", -1)
    world.batch(NOW - 2 * DAY, {"1": "Champions", "2": "Champions", "3": "Loyal", "4": "At risk"})
    world.batch(NOW - DAY, {"1": "Champions", "2": "Loyal", "3": "Loyal", "5": "New"})
    two = {"from": (NOW - 2 * DAY).isoformat(), "to": NOW.isoformat()}
    answer = world.get("/segments/movement", headers, **two).json()
    moves = {(each["previous"], each["current"]): each["customers"] for each in answer["moves"]}
    assert moves == {
        ("Champions", "Champions"): 1,
        ("Champions", "Loyal"): 1,
        ("Loyal", "Loyal"): 1,
        ("At risk", None): 1,
        (None, "New"): 1,
    }
    assert answer["moved"] == 1
    revenue = {(each["previous"], each["current"]): each["revenue_after"]["amount"] for each in answer["moves"]}
    assert (revenue["Champions", "Loyal"], revenue["At risk", None]) == ("129.90", "0.00")
    assert answer["segments"][0] == "Champions"
    assert answer["segments"][-1] == "Prospects"
    world.customer("1", segment="Dormant")
    live = world.get("/segments/movement", headers).json()
    assert (live["to_run"], live["to_source"]) == (None, "live")
    moves = {(each["previous"], each["current"]): each["customers"] for each in live["moves"]}
    assert moves == {("Champions", "Dormant"): 1, ("Loyal", None): 2, ("New", None): 1}


def test_the_people_behind_each_number_of_the_movement(
    world: World, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST", -1)
    names = ("Champions", "Loyal", "At risk")
    world.batch(NOW - DAY, {str(number): names[number % 3] for number in range(30)})
    for number in range(10, 40):
        world.insert("customers", **customer_row(str(number), segment=names[number % 4 % 3], monetary=number))
    matrix = world.get("/segments/movement", headers).json()
    assert sum(each["customers"] for each in matrix["moves"]) == 40
    everybody = pages(world, headers, "/segments/movement/customers", limit=7)
    assert [each["customer_id"] for each in everybody] == sorted(str(number) for number in range(40))
    for move in matrix["moves"]:
        cell = {side: move[side] or "" for side in ("previous", "current")}
        found = pages(world, headers, "/segments/movement/customers", limit=2, **cell)
        assert len(found) == move["customers"]
        assert {(each["previous"], each["current"]) for each in found} == {(move["previous"], move["current"])}
        worth = sum(Decimal(each["revenue_after"]["amount"]) for each in found)
        assert worth == Decimal(move["revenue_after"]["amount"])
        of_row = pages(world, headers, "/segments/movement/customers", previous=cell["previous"])
        in_row = [each["customers"] for each in matrix["moves"] if each["previous"] == move["previous"]]
        assert len(of_row) == sum(in_row)
    first = world.get("/segments/movement/customers", headers, limit=1).json()
    world.batch(NOW - DAY / 2, {"1": "Loyal"})
    beyond = world.get("/segments/movement/customers", headers, cursor=first["next"])
    assert (beyond.status_code, beyond.json()["type"]) == (400, "urn:loyalnest:problem:bad-cursor")


def test_a_shop_without_a_program(database: str) -> None:
    with opened(database) as world:
        answer = world.get("/segments", world.key("read"))
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:loyalnest:problem:no-program")


# --- customers ---------------------------------------------------------------------------------------------------


def pages(world: World, headers: dict[str, str], path: str, **parameters: object) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    items: list[dict[str, Any]] = []
    cursor: dict[str, object] = {}
    for _ in range(50):
        answer = world.get(path, headers, **parameters, **cursor).json()
        items += answer["items"]
        if answer["next"] is None:
            return items
        cursor = {"cursor": answer["next"]}
    raise AssertionError("a list without an end")


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("customer_id", ["1", "2", "3", "4", "5"]),
        ("-monetary", ["3", "2", "1", "5", "4"]),
        ("monetary", ["4", "5", "1", "2", "3"]),
        ("recency_days", ["3", "1", "2", "5", "4"]),
        ("-recency_days", ["4", "5", "2", "1", "3"]),
        ("-score", ["3", "5", "2", "1", "4"]),
        ("points_balance", ["4", "1", "2", "3", "5"]),
        ("-frequency", ["5", "3", "2", "1", "4"]),
    ],
)
def test_every_sort_goes_on_by_cursor(
    world: World, headers: dict[str, str], sort: str, expected: list[str], limit: int
) -> None:
    world.customer("1", monetary=500)
    world.customer("2", monetary=500)
    world.customer("3", monetary=2**53 + 1, recency_days=1, score="4.8")
    world.customer("4", **prospect(balance=-7))
    world.customer("5", monetary=1, recency_days=400, balance=1000, frequency=4)
    found = pages(world, headers, "/customers", sort=sort, limit=limit)
    assert [each["customer_id"] for each in found] == expected


def test_customers_by_segment(world: World, headers: dict[str, str]) -> None:
    points = {"pending": 40, "earned": 400, "spent": 200, "expired": 31, "expiring": 9}
    world.customer("820982911946154508", **points, expires_at=datetime(2026, 12, 24, 5, tzinfo=UTC))
    world.customer("2", **prospect())
    (found,) = pages(world, headers, "/customers", segment="Active")
    assert found == {
        "segment": "Active",
        "segment_id": "seg_533",
        "r": 5,
        "f": 3,
        "m": 3,
        "score": "3.8",
        "recency_days": 12,
        "frequency": 3,
        "monetary": {"amount": "129.90", "currency": "USD"},
        "cut_points_version": "default",
        "customer_id": "820982911946154508",
        "now": "2026-11-21T09:30:00Z",
        "points_balance": 129,
        "points_pending": 40,
        "points_earned": 400,
        "points_spent": 200,
        "points_expired": 31,
        "points_expiring": 9,
        "points_expire_at": "2026-12-24T05:00:00Z",
        "last_order_at": "2026-11-09T09:30:00Z",
        "deleted": False,
        "redacted": False,
        "merged_into": None,
        "stored_at": found["stored_at"],
    }
    assert pages(world, headers, "/customers", segment="No such") == []


def test_whose_customers_were_merged_into_whom(world: World, headers: dict[str, str]) -> None:
    world.customer("1")
    claimed = f"mail-{'a' * 32}"
    for name, into in (("2", "1"), ("3", "2"), (claimed, "1"), ("4", "9"), ("5", None)):
        world.customer(name, merged_into=into)
    world.customer("6", shop=OTHER, merged_into="1")
    found = {name: world.get(f"/customers/{name}", headers).json() for name in ("1", "2", "5")}
    assert {name: (each["merged_into"], each["merged_from"]) for name, each in found.items()} == {
        "1": (None, ["2", "3", claimed]),
        "2": ("1", ["3"]),
        "5": (None, []),
    }


def test_a_cursor_of_another_sort_is_refused(world: World, headers: dict[str, str]) -> None:
    for number in range(3):
        world.customer(str(number))
    cursor = world.get("/customers", headers, sort="monetary", limit=1).json()["next"]
    assert world.get("/customers", headers, sort="-monetary", cursor=cursor).status_code == 400


def test_why_by_the_default_cut_points(world: World, headers: dict[str, str]) -> None:
    world.customer("1")
    why = world.get("/customers/1", headers).json()["why"]
    assert why["summary"] == "R 5 and FM 3 (from F 3, M 3) are Active; score 0.4×5 + 0.3×3 + 0.3×3 = 3.8"
    assert [each["because"] for each in why["metrics"]] == [
        "12 days is above none of 30, 60, 90, 180: R = 5",
        "3 orders is above 2 of 1, 2, 4, 8: F = 3",
        "129.90 USD is above 2 of 50.00, 100.00, 250.00, 500.00: M = 3",
    ]
    assert why["cut_points"]["version"] == "default"


def test_why_by_the_version_they_were_scored_with(world: World, headers: dict[str, str]) -> None:
    values = {"recency": [12, 13, 14, 15], "frequency": [3, 4, 5, 6], "monetary": [1, 2, 3, 12989]}
    world.insert("cut_points", shop=SHOP, version="v7", as_of=NOW, customers=60, **values)
    world.customer("1", cut_points_version="v7", r=5, f=1, m=5)
    world.customer("2", cut_points_version="v8")
    world.customer("3", **prospect())
    metrics = world.get("/customers/1", headers).json()["why"]["metrics"]
    assert [each["because"][-5:] for each in metrics] == ["R = 5", "F = 1", "M = 5"]
    assert "above all of" in metrics[2]["because"]
    unknown = world.get("/customers/2", headers).json()["why"]
    assert (unknown["cut_points"], unknown["metrics"]) == (None, [])
    assert "Prospect" in world.get("/customers/3", headers).json()["why"]["summary"]
    assert world.get("/customers/4", headers).status_code == 404


@pytest.mark.parametrize(("currency", "text"), [("JPY", "12990"), ("KWD", "12.990")])
def test_money_has_its_currencys_decimals(world: World, headers: dict[str, str], currency: str, text: str) -> None:
    world.customer("1", currency=currency)
    assert world.get("/customers/1", headers).json()["monetary"] == {"amount": text, "currency": currency}


# --- ledger, history, windows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_ledger_is_newest_first_and_every_entry_comes_once(
    world: World, headers: dict[str, str], limit: int
) -> None:
    world.customer("1", balance=3)
    ids = sorted(uuid4() for _ in range(5))
    for number, (ident, at) in enumerate(zip(ids, [NOW, NOW, NOW, NOW - DAY, NOW + DAY / 7], strict=True)):
        world.insert(
            "points_transactions",
            posted_at=at,
            id=ident,
            shop=SHOP,
            customer_id="1",
            source="order",
            source_id=str(2**60 + number),
            kind="earned" if number else "reversed",
            points=number or -1,
            revision="r",
            processed_at=NOW,
        )
    found = pages(world, headers, "/customers/1/points", limit=limit)
    assert [UUID(each["id"]) for each in found] == [ids[4], ids[2], ids[1], ids[0], ids[3]]
    assert found[3]["points"] == -1
    assert (found[3]["source"], found[3]["source_id"]) == ("order", str(2**60))
    assert world.get("/customers/1/points", headers).json()["points_balance"] == 3
    assert world.get("/customers/2/points", headers).status_code == 404


def test_the_ledger_has_entries_of_every_source_and_sums_to_what_it_says(world: World, headers: dict[str, str]) -> None:
    world.customer("1", balance=-20, pending=100, spent=350, expired=70)
    told = [
        ("order", "450789469", "earned", 200),
        ("order", "450789469", "reversed", -50),
        ("award", "birthday-2026", "adjusted", 350),
        ("deduction", "mistake", "adjusted", -100),
        ("redeem", "r-1", "redeemed", -250),
        ("redeem", "r-2", "redeemed", -500),
        ("redeem", "r-2", "returned", 500),
    ]
    for number, (source, name, kind, points) in enumerate(told):
        entry = {"shop": SHOP, "customer_id": "1", "revision": "r", "processed_at": NOW, "id": uuid4()}
        at = NOW - number * DAY
        world.insert(
            "points_transactions", posted_at=at, source=source, source_id=name, kind=kind, points=points, **entry
        )
    days = [("2026-11-19", 30), ("2026-11-15", 40), ("2026-11-14", 0)]  # of the last something had run out at first
    for day, points in days:
        zone = {"shop": SHOP, "customer_id": "1", "zone": "America/New_York", "fence": 0}
        world.insert("points_expired", day=day, at=f"{day}T05:00:00Z", points=points, **zone)
    found = world.get("/customers/1/points", headers).json()
    told.insert(3, ("expiry", "2026-11-19", "expired", -30))
    told.insert(8, ("expiry", "2026-11-15", "expired", -40))
    items = found["items"]
    assert [(each["source"], each["source_id"], each["kind"], each["points"]) for each in items] == told
    assert (found["points_balance"], found["points_pending"], found["points_expired"]) == (-20, 100, 70)
    assert sum(each["points"] for each in items) == found["points_balance"] + found["points_pending"]
    for limit in (1, 4, 9):
        assert pages(world, headers, "/customers/1/points", limit=limit) == items
    assert world.get("/customers/1/account", headers).json()["ran_out"] == [
        {"day": "2026-11-19", "points": 30},
        {"day": "2026-11-15", "points": 40},
    ]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_rfm_history(world: World, headers: dict[str, str], limit: int) -> None:
    world.customer("1")
    ids = sorted(uuid4() for _ in range(3))
    for ident, at in zip(ids, [NOW, NOW, NOW + timedelta(microseconds=1)], strict=True):
        row = champion(recency_days=1, frequency=9, monetary=50_000, cut_points_version="default")
        world.insert("rfm_score_history", at=at, id=ident, shop=SHOP, customer_id="1", cause="order 7", **row)
    found = pages(world, headers, "/customers/1/rfm", limit=limit)
    assert [UUID(each["id"]) for each in found] == [ids[2], ids[1], ids[0]]
    assert found[0]["at"] == "2026-11-21T09:30:00.000001Z"
    assert (found[0]["cause"], found[0]["score"]) == ("order 7", "5.0")


def window(
    world: World, start: datetime, size: str, partition: int, orders: int, shop: str = SHOP, zone: str = "UTC"
) -> None:
    row = dict.fromkeys(("customers", "guest_orders", "guest_net", "points_earned", "points_reversed"), orders)
    world.insert(
        "points_windows",
        start=start,
        shop=shop,
        size=size,
        zone=zone,
        partition=partition,
        currency="USD",
        orders=orders,
        net=orders * 100,
        **row,
    )


def test_partial_windows_are_summed_and_a_closed_one_stands_for_them(world: World, headers: dict[str, str]) -> None:
    hour = timedelta(hours=1)
    start = NOW.replace(minute=0)
    for partition, orders in ((0, 1), (3, 2)):
        window(world, start, "hour", partition, orders)
        window(world, start - hour, "hour", partition, orders)
        window(world, start - 2 * hour, "hour", partition, orders)
    window(world, start - hour, "hour", -1, 10)
    window(world, start, "minute", 0, 50)
    window(world, start, "hour", 0, 70, shop=OTHER)
    between = {"from": (start - hour).isoformat(), "to": (start + hour).isoformat()}
    answer = world.get("/points/windows", headers, size="hour", **between).json()
    assert [(each["start"], each["orders"]) for each in answer["items"]] == [
        ("2026-11-21T08:00:00Z", 10),
        ("2026-11-21T09:00:00Z", 3),
    ]
    assert answer["items"][1]["end"] == "2026-11-21T10:00:00Z"
    assert answer["items"][1]["net"] == {"amount": "3.00", "currency": "USD"}


def test_days_are_the_shops_own(world: World, headers: dict[str, str]) -> None:
    new_york = "America/New_York"
    window(world, datetime(2026, 11, 1, 4, tzinfo=UTC), "day", 0, 1, zone=new_york)  # its clocks go back
    window(world, datetime(2026, 10, 31, 23, tzinfo=UTC), "day", 0, 70, zone="Europe/Berlin")  # its zone before
    between = {"from": "2026-10-01T00:00:00Z", "to": "2026-12-01T00:00:00Z"}
    answer = world.get("/points/windows", headers, size="day", **between).json()
    (found,) = answer["items"]
    assert (found["label"], found["start"], found["end"]) == (
        "2026-11-01",
        "2026-11-01T04:00:00Z",
        "2026-11-02T05:00:00Z",
    )
    assert answer["zone"] == "America/New_York"


@pytest.mark.parametrize("to", ["0.5", "1764410400", "-1", "20261121"])
def test_a_number_is_no_time(world: World, headers: dict[str, str], to: str) -> None:
    assert world.get("/points/windows", headers, to=to).status_code == 422


def test_too_many_windows_are_refused(world: World, headers: dict[str, str]) -> None:
    between = {"from": "2000-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    assert world.get("/points/windows", headers, size="minute", **between).status_code == 422
    backwards = {"from": "2026-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}
    assert world.get("/points/windows", headers, **backwards).json()["items"] == []
