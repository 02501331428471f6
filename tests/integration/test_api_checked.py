"""Deductions that are asked for over HTTP: taken if so many points are there, all of them or none, decided once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from events import codec, keys, plain, topics
from events.messages import Message
from tests.integration.api_world import SHOP, World
from tests.integration.deciding import Deciding, rewarding
from tests.property.test_redemptions import envelope
from tests.property.webhooks import NOW
from tests.sinks import wait

Json = dict[str, Any]


@pytest.fixture
def publisher(database: str) -> Deciding:
    return Deciding(database)


@pytest.fixture
def world(database: str, publisher: Deciding) -> Iterator[World]:
    with rewarding(database, publisher) as running:
        yield running


def adjust(world: World, name: str, points: int, customer: str = "7", scope: str = "adjust", **said: Any) -> Any:
    headers = world.key(scope) | {"Idempotency-Key": name}
    path = f"/v1/shops/{SHOP}/customers/{customer}/adjustments"
    return world.client.post(path, headers=headers, json={"points": points, **said})


def take(world: World, name: str, points: int, customer: str = "7", **said: Any) -> Any:
    return adjust(world, name, -points, customer, check=True, **said)


def void(world: World, name: str, customer: str = "7") -> Any:
    path = f"/v1/shops/{SHOP}/customers/{customer}/adjustments/{name}"
    return world.client.delete(path, headers=world.key("adjust"))


def read(world: World, path: str = "") -> Any:
    return world.get(f"/customers/7{path}", world.key("read")).json()


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:loyalnest:problem:")


def balance(world: World) -> int:
    return int(world.sql("SELECT balance FROM customers WHERE customer_id = '7'")[0]["balance"])


def asked(world: World) -> int:
    return sum(b'"topic":"account/deduct"' in each.value for each in world.publisher.messages)


def ledger(world: World) -> list[tuple[str, str, str, int]]:
    rows = world.sql("SELECT source, source_id, kind, points FROM points_transactions ORDER BY posted_at, points DESC")
    return [(row["source"], row["source_id"], row["kind"], row["points"]) for row in rows]


def test_taken_or_refused_and_told_again_as_it_was_decided(world: World) -> None:
    assert adjust(world, "gift", 25).status_code == 201
    answer = take(world, "a", 20, reason="lost card", source="till")
    told = answer.json()
    assert answer.status_code == 201
    assert (told["points"], told["reason"], told["source"], told["check"]) == (-20, "lost card", "till", True)
    assert (told["balance"], told["refused"], told["voided_at"]) == (25, None, None)
    sent = world.publisher.messages[-1]
    assert (sent.topic, sent.key) == (topics.REQUESTS, keys.join(SHOP, "7"))
    assert plain.look(sent.value.decode(), topics.REQUESTS) is not None, "as we write envelopes"
    assert read(world, "/adjustments/a") == told
    assert answer.headers["location"].endswith("/customers/7/adjustments/a")

    refused = take(world, "b", 6)
    assert problem(refused) == (409, "insufficient-points")
    assert (refused.json()["balance"], refused.json()["needed"]) == (5, 6)
    assert adjust(world, "gift-2", 100).status_code == 201
    before = asked(world)
    assert take(world, "b", 6).json() == refused.json(), "once refused, for ever"
    again = take(world, "a", 20, reason="lost card", source="till")
    assert (again.status_code, again.json()) == (200, told)
    assert asked(world) == before
    assert read(world, "/adjustments/b")["refused"] == "insufficient-points"
    assert balance(world) == 105
    assert ("deduction", "checked/a", "adjusted", -20) in ledger(world)
    names = [each["award_id"] for each in read(world, "/adjustments")["items"]]
    assert sorted(names) == ["a", "b", "gift", "gift-2"]
    assert read(world, "/redemptions")["items"] == []
    assert world.get("/redemptions", world.key("read")).json()["items"] == []
    shown = read(world, "/points")["items"]
    assert ("deduction", "checked/a", -20) in [(each["source"], each["source_id"], each["points"]) for each in shown]
    assert len(world.sql("SELECT 1 FROM raw_events WHERE webhook_topic = 'account/decision'")) == 2
    assert world.sql("SELECT 1 FROM award_claims") == []


@pytest.mark.parametrize("checked", [True, False])
def test_one_name_is_one_adjustment_checked_or_not(world: World, checked: bool) -> None:
    adjust(world, "gift", 50)
    assert adjust(world, "a", -20, check=checked).status_code == 201
    for said in (
        {"points": -20, "check": not checked},
        {"points": -21, "check": checked},
        {"points": -20, "check": checked, "reason": "other"},
        {"points": -20, "check": checked, "source": "other"},
    ):
        assert problem(adjust(world, "a", **said)) == (422, "idempotency-key-reused")
    assert balance(world) == 30


def test_a_reward_may_have_the_same_name(world: World) -> None:
    adjust(world, "gift", 50)
    assert take(world, "a", 20).status_code == 201
    headers = world.key("redeem") | {"Idempotency-Key": "a"}
    path = f"/v1/shops/{SHOP}/customers/7/redemptions"
    assert world.client.post(path, headers=headers, json={"reward_id": "ten"}).status_code == 201
    assert balance(world) == 20
    assert [each["request_id"] for each in read(world, "/redemptions")["items"]] == ["a"]
    totals = world.get("/redemptions/totals", world.key("read")).json()["items"]
    assert sum(each["redemptions"] for each in totals) == 1


def test_taken_back_it_is_as_if_it_had_never_been(world: World) -> None:
    adjust(world, "gift", 25)
    take(world, "a", 20)
    take(world, "b", 20)
    gone = void(world, "a")
    assert (gone.status_code, gone.json()["voided_at"] is not None) == (200, True)
    assert void(world, "a").json() == gone.json()
    assert (void(world, "b").json()["refused"], void(world, "b").json()["voided_at"]) == ("insufficient-points", None)
    assert take(world, "a", 20).json()["voided_at"] == gone.json()["voided_at"]
    wait(lambda: balance(world) == 25)
    assert [each for each in ledger(world) if each[0] == "deduction"] == [
        ("deduction", "checked/a", "adjusted", -20),
        ("deduction", "checked/a", "adjusted", 20),
    ]


def test_what_is_not_decided_in_time_is_told_of_later(
    world: World, publisher: Deciding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.waiting.WAIT", 0.2)
    adjust(world, "gift", 25)
    publisher.held = []
    waiting = take(world, "a", 20)
    assert (waiting.status_code, waiting.json()["stored_at"], waiting.json()["balance"]) == (202, None, None)
    told = world.client.get(waiting.headers["location"], headers=world.key("read")).json()
    assert told == waiting.json()
    assert problem(adjust(world, "a", -20)) == (422, "idempotency-key-reused")
    publisher.decide(publisher.held)
    publisher.held = None
    again = take(world, "a", 20)
    assert (again.status_code, again.json()["balance"]) == (200, 25)


def test_of_many_who_ask_at_once_so_many_get_it_as_there_is_for(world: World) -> None:
    adjust(world, "gift", 25)
    with ThreadPoolExecutor(8) as pool:
        found = [each.status_code for each in pool.map(lambda number: take(world, f"a-{number % 4}", 10), range(8))]
    assert sorted(set(found)) in ([200, 201, 409], [201, 409])
    assert balance(world) == 5
    states = world.sql("SELECT status FROM redemptions ORDER BY status")
    assert [row["status"] for row in states] == ["refused", "refused", "taken", "taken"]


@pytest.mark.parametrize(
    "said",
    [
        {"points": 20},
        {"points": -20, "at": "2026-01-01T00:00:00Z"},
        {"points": -20, "counts_as_earned": True},
        {"points": -20, "check": "yes"},
    ],
)
def test_what_cannot_be_checked(world: World, said: Json) -> None:
    assert adjust(world, "a", **{"check": True, **said}).status_code == 422
    assert world.publisher.messages == []


def test_it_needs_the_scope_of_adjustments(world: World) -> None:
    assert adjust(world, "a", -20, scope="redeem", check=True).status_code == 403


def test_of_who_was_deleted_nothing_is_taken(world: World, publisher: Deciding) -> None:
    adjust(world, "gift", 25)
    gone = {**envelope("customers/delete", {"id": 7}, NOW, "gone"), "shop": SHOP}
    publisher.decide([Message(topics.CUSTOMERS, keys.join(SHOP, "7"), codec.dumps(gone))])
    assert problem(take(world, "a", 20)) == (409, "closed")
