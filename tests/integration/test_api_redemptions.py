"""Redemptions over HTTP, decided by the real fold: one request, one decision, whoever asks again, wherever and how."""

import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg import AsyncConnection

from api.waiting import WAIT
from books import redemptions
from books.claims import Place
from books.redemptions import Redemption
from events import codec, instants, keys, plain, redeeming, topics
from events.messages import Message
from events.redeeming import Wanted
from tests.integration.api_world import OTHER, SHOP, World, opened
from tests.integration.deciding import Deciding, rewarding
from tests.sinks import wait

Json = dict[str, Any]
MAIL = "mail-" + "0" * 32


@pytest.fixture
def publisher(database: str) -> Deciding:
    return Deciding(database)


@pytest.fixture
def world(database: str, publisher: Deciding) -> Iterator[World]:
    with rewarding(database, publisher) as running:
        yield running


def give(world: World, points: int, customer: str = "7") -> None:
    headers = world.key("adjust") | {"Idempotency-Key": f"gift-{points}"}
    path = f"/v1/shops/{SHOP}/customers/{customer}/adjustments"
    assert world.client.post(path, headers=headers, json={"points": points}).status_code == 201


def ask(world: World, name: str, reward: str = "ten", customer: str = "7", scopes: str = "redeem", **said: Any) -> Any:
    headers = world.key(*scopes.split()) | {"Idempotency-Key": name}
    path = f"/v1/shops/{SHOP}/customers/{customer}/redemptions"
    return world.client.post(path, headers=headers, json={"reward_id": reward, **said})


def then(world: World, name: str, what: str, scope: str, customer: str = "7", body: Any = None) -> Any:
    path = f"/v1/shops/{SHOP}/customers/{customer}/redemptions/{name}/{what}"
    return world.client.post(path, headers=world.key(scope), json=body)


def cancel(world: World, name: str, customer: str = "7", **said: Any) -> Any:
    return then(world, name, "cancel", "redeem", customer, said or None)


def fulfil(world: World, name: str, customer: str = "7", **said: Any) -> Any:
    return then(world, name, "fulfilment", "fulfil", customer, said)


def read(world: World, path: str = "", customer: str = "7", **parameters: object) -> Any:
    return world.get(f"/customers/{customer}/redemptions{path}", world.key("read"), **parameters)


def requests(world: World) -> int:
    return sum(b'"topic":"account/redeem' in each.value for each in world.publisher.messages)


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].removeprefix("urn:loyalnest:problem:")


def decided(world: World) -> list[Json]:
    return world.sql("SELECT * FROM raw_events WHERE webhook_topic = 'account/decision'")


def test_a_reward_is_had_for_points(world: World) -> None:
    give(world, 25)
    answer = ask(world, "cart:1")
    told = answer.json()
    times = {name: datetime.fromisoformat(told.pop(name)) for name in ("requested_at", "decided_at")}
    assert times["requested_at"] <= times["decided_at"] <= datetime.now(UTC)
    assert (answer.status_code, told) == (
        201,
        {
            "request_id": "cart:1",
            "customer_id": "7",
            "reward_id": "ten",
            "cost": 10,
            "forced": False,
            "status": "reserved",
            "reason": None,
            "returned_reason": None,
            "balance": 25,
            "points": -10,
            "attempt": None,
            "code": None,
            "valid_until": None,
            "over": False,
        },
    )
    sent = world.publisher.messages[-1]
    assert (sent.topic, sent.key) == (topics.REQUESTS, keys.join(SHOP, "7"))
    assert plain.look(sent.value.decode(), topics.REQUESTS) is not None, "as we write envelopes"
    location = answer.headers["location"]
    assert world.client.get(location, headers=world.key("read")).json() == answer.json()
    assert world.sql("SELECT * FROM redemption_claims") == [], "it is decided"
    assert len(decided(world)) == 1, "nobody is told of what is not archived"


def test_one_name_is_one_redemption(world: World) -> None:
    give(world, 25)
    first = ask(world, "a")
    for said in ({}, {"cost": 10}, {"forced": False}):
        again = ask(world, "a", **said)
        assert (again.status_code, again.json(), again.headers["location"]) == (
            201,
            first.json(),
            first.headers["location"],
        )
    for other in ({"cost": 11}, {"reward": "rare"}):
        assert problem(ask(world, "a", **other)) == (422, "idempotency-key-reused")
    assert problem(ask(world, "a", scopes="redeem till", forced=True)) == (422, "idempotency-key-reused")
    assert requests(world) == 1, "what is decided is not asked again"
    give(world, 10, customer="8")
    assert ask(world, "a", customer="8").status_code == 201, "another customer's"


def test_what_is_refused_says_why_and_stays_refused(world: World) -> None:
    short = ask(world, "short")
    assert problem(short) == (409, "insufficient-points")
    assert {name: short.json()[name] for name in ("request_id", "balance", "needed")} == {
        "request_id": "short",
        "balance": 0,
        "needed": 10,
    }
    give(world, 25)
    assert (ask(world, "short").status_code, ask(world, "short").json()) == (409, short.json())
    assert ask(world, "rare-1", "rare").status_code == 201
    assert problem(ask(world, "rare-2", "rare")) == (409, "limit")
    assert problem(ask(world, "none", "none", cost=5)) == (409, "unknown-reward")
    assert problem(ask(world, "gone", "gone", cost=1)) == (409, "unknown-reward")
    dear = ask(world, "cheap", "cheap", cost=3)
    assert (problem(dear), dear.json()["cost"]) == ((409, "wrong-cost"), 4)
    found = read(world, "/short")
    assert (found.status_code, found.json()["status"], found.json()["reason"]) == (
        200,
        "refused",
        "insufficient-points",
    )
    assert found.json()["points"] == 0
    assert (cancel(world, "short").status_code, cancel(world, "short").json()["status"]) == (200, "refused")
    assert ask(world, "cheap-2", "cheap").json()["cost"] == 4, "what it costs now"
    assert world.sql("SELECT * FROM redemption_claims") == []


def test_a_reward_without_its_cost_must_be_one(world: World) -> None:
    for reward in ("none", "gone"):
        assert problem(ask(world, "a", reward)) == (404, "unknown-reward")
    assert world.publisher.messages == []
    assert world.sql("SELECT * FROM redemption_claims") == []
    assert problem(ask(world, "a", "none", cost=5)) == (409, "unknown-reward")
    assert problem(ask(world, "a", "none")) == (409, "unknown-reward"), "decided before"


def test_who_was_merged_or_deleted_has_nothing(world: World, publisher: Deciding) -> None:
    give(world, 25)
    at = "2026-11-21T09:30:00Z"
    head = {"shop": SHOP, "event_id": None, "api_version": None, "triggered_at": at, "received_at": at}
    gid = "gid://shopify/Customer/{}".format
    merge = {"admin_graphql_api_customer_kept_id": gid(9), "admin_graphql_api_customer_deleted_id": gid(7)}
    for key, topic, payload in (
        ("9", "customers/merge", merge | {"status": "completed"}),
        ("8", "customers/delete", {"id": 8}),
    ):
        envelope = {"topic": topic, "webhook_id": topic, **head, "payload": payload}
        publisher.decide([Message(topics.CUSTOMERS, keys.join(SHOP, key), codec.dumps(envelope))])
    merged = ask(world, "a")
    assert (problem(merged), merged.json()["merged_into"]) == ((409, "merged"), "9")
    assert problem(ask(world, "a", customer="8")) == (409, "closed")
    assert ask(world, "a", customer="9").status_code == 201


def test_two_processes_that_are_asked_at_once_say_the_same(world: World, database: str, publisher: Deciding) -> None:
    give(world, 55)
    with opened(database, publisher) as other, ThreadPoolExecutor(16) as threads:
        headers = [each.key("redeem") for each in (world, other)]
        for each in (world, other):  # FastAPI makes its routes with the first request
            assert read(each).status_code == 200

        def asked(name: str, reward: str, at: int) -> Any:
            named = headers[at % 2] | {"Idempotency-Key": name}
            path = f"/v1/shops/{SHOP}/customers/7/redemptions"
            return (world, other)[at % 2].client.post(path, headers=named, json={"reward_id": reward})

        for number in range(3):
            answers = [threads.submit(asked, f"n-{number}", ("ten", "cheap")[at // 4], at) for at in range(8)]
            told = [each.result() for each in answers]
            good = [each.json() for each in told if each.status_code == 201]
            assert {each.status_code for each in told} <= {201, 422}
            assert len(good) == 4, "those who asked for the same"
            assert all(each == good[0] for each in good)
        names = [f"m-{at}" for at in range(8)]
        told = [each.result() for each in [threads.submit(asked, name, "ten", at) for at, name in enumerate(names)]]
        spent = sum(each.json()["cost"] for each in told if each.status_code == 201)
        before = sum(-row["points"] for row in world.sql("SELECT points FROM redemptions WHERE request_id LIKE 'n-%%'"))
        assert 0 <= 55 - before - spent < 10, "as many as could be paid, and no more"
    assert len(decided(world)) == 11
    assert world.sql("SELECT * FROM redemption_claims") == []


def test_what_is_not_decided_in_time_is_durable(
    world: World, publisher: Deciding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.waiting.WAIT", 0.3)
    give(world, 25)
    publisher.held = []
    waiting = ask(world, "a")
    told = waiting.json()
    assert (waiting.status_code, told["status"], told["decided_at"], told["points"]) == (202, "pending", None, 0)
    assert world.client.get(waiting.headers["location"], headers=world.key("read")).json() == told
    assert problem(ask(world, "a", "rare")) == (422, "idempotency-key-reused")
    again = ask(world, "a")
    assert (again.status_code, again.json()) == (202, told)
    assert problem(fulfil(world, "a", attempt=1, state="issued")) == (409, "not-accepted")
    gone = cancel(world, "a", reason="too slow")
    assert (gone.status_code, gone.json(), gone.headers["location"]) == (202, told, waiting.headers["location"])
    publisher.decide(publisher.held)
    found = read(world, "/a").json()
    assert (found["status"], found["returned_reason"], found["points"]) == ("returned", "cancelled", 0)
    assert (ask(world, "a").status_code, ask(world, "a").json()) == (201, found), "accepted, whatever came of it"
    assert len(decided(world)) == 1


def test_one_that_could_not_be_made_durable_can_be_asked_for_again(world: World) -> None:
    give(world, 25)
    world.publisher.failing = True
    assert ask(world, "a").status_code == 503
    world.publisher.failing = False
    assert ask(world, "a").status_code == 201


def test_whoever_waits_is_told_at_once(world: World, publisher: Deciding) -> None:
    """Not at the end of the wait, nor by asking on and on."""
    give(world, 25)
    publisher.held = []
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, world, "a")
        arrived = threading.Event()
        while not publisher.held:
            arrived.wait(0.02)
        publisher.decide(publisher.held)
        began = datetime.now(UTC)
        assert waiting.result().status_code == 201
    assert datetime.now(UTC) - began < timedelta(seconds=WAIT - 1)


def test_of_all_who_wait_one_look_is_had(world: World, publisher: Deciding, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, the database's connections are left to others."""
    looks = []

    async def counted(connection: AsyncConnection[Any], places: Collection[Place]) -> dict[Place, Redemption]:
        looks.append(len(places))
        return await stored(connection, places)

    stored = redemptions.stored
    monkeypatch.setattr(redemptions, "stored", counted)
    give(world, 120)
    publisher.held = []
    with ThreadPoolExecutor(12) as threads:
        waiting = [threads.submit(ask, world, f"a{each}") for each in range(12)]
        wait(lambda: sum(looks) == 24)  # whether it is there already, and once more before they wait
        before = len(looks)
        publisher.decide(publisher.held)
        assert {each.result().status_code for each in waiting} == {201}
    assert looks[before:] == [12]
    assert world.sql("SELECT * FROM redemption_claims") == []


def test_what_the_log_had_first_stands_whatever_was_noted(world: World, publisher: Deciding) -> None:
    """By another way than ours, say, or a day after what was noted was let go."""
    give(world, 25)
    publisher.held = []
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, world, "a")
        arrived = threading.Event()
        while not publisher.held:
            arrived.wait(0.02)
        other = redeeming.redemption(SHOP, "7", "a", Wanted("rare", 2), instants.from_datetime(datetime.now(UTC)))
        publisher.decide([other, *publisher.held])
        assert problem(waiting.result()) == (422, "idempotency-key-reused")
    assert ask(world, "a", "rare").status_code == 201
    assert [each["reward_id"] for each in read(world).json()["items"]] == ["rare"]


def test_points_are_back_once_it_is_cancelled(world: World) -> None:
    give(world, 15)
    assert ask(world, "a").status_code == 201
    assert problem(ask(world, "b")) == (409, "insufficient-points")
    answer = cancel(world, "a", reason="other cart")
    assert (answer.status_code, answer.json()["status"]) == (200, "returned")
    assert (answer.json()["points"], answer.json()["returned_reason"]) == (0, "cancelled")
    sent = len(world.publisher.messages)
    assert cancel(world, "a").json() == answer.json() == read(world, "/a").json()
    assert len(world.publisher.messages) == sent, "it is cancelled"
    assert ask(world, "c").json()["balance"] == 15
    for name, customer in (("z", "7"), ("a", "8")):
        assert problem(cancel(world, name, customer)) == (404, "no-redemption")
        assert problem(read(world, f"/{name}", customer)) == (404, "no-redemption")


def order(publisher: Deciding, code: str) -> None:
    at = "2026-11-29T09:30:00Z"
    payload = {
        "id": 1,
        "created_at": at,
        "updated_at": at,
        "financial_status": "paid",
        "currency": "USD",
        "customer": {"id": 7},
        "current_subtotal_price": "1",
        "subtotal_price": "1",
        "discount_codes": [{"code": code}],
    }
    head = {"topic": "orders/paid", "shop": SHOP, "webhook_id": "o", "event_id": None, "api_version": None}
    envelope = {**head, "triggered_at": at, "received_at": at, "payload": payload}
    publisher.decide([Message(topics.ORDERS, keys.join(SHOP, "1"), codec.dumps(envelope))])


def test_a_code_is_handed_out_and_used(world: World, publisher: Deciding) -> None:
    give(world, 25)
    ask(world, "a")
    until = "2027-01-01T00:00:00+01:00"
    issued = fulfil(world, "a", attempt=1, state="issued", code="THANKS-7", valid_until=until)
    told = issued.json()
    assert (issued.status_code, told["status"], told["code"], told["attempt"], told["valid_until"]) == (
        200,
        "issued",
        "THANKS-7",
        1,
        "2026-12-31T23:00:00Z",
    )
    sent = len(world.publisher.messages)
    assert fulfil(world, "a", attempt=1, state="issued", code="THANKS-7", valid_until=until).json() == told
    for other in ({"code": "OTHER"}, {"code": "THANKS-7"}):
        answer = fulfil(world, "a", attempt=1, state="issued", **other)
        assert (problem(answer), answer.json()["attempt"]) == ((409, "attempt-told"), 1)
    assert len(world.publisher.messages) == sent
    assert ask(world, "a").json() == told
    order(publisher, "thanks-7")
    assert read(world, "/a").json()["status"] == "used"
    used = cancel(world, "a")
    assert (problem(used), used.json()["request_id"]) == ((409, "used"), "a")


def test_what_cannot_be_handed_out_is_given_back_until_it_can(world: World) -> None:
    give(world, 10)
    ask(world, "a")
    failed = fulfil(world, "a", attempt=1, state="failed", reason="out of stock").json()
    assert (failed["status"], failed["returned_reason"], failed["points"]) == ("returned", "failed", 0)
    assert fulfil(world, "a", attempt=1, state="failed", reason="out of stock").json() == failed
    assert problem(fulfil(world, "a", attempt=1, state="issued")) == (409, "attempt-told")
    assert fulfil(world, "a", attempt=2, state="issued").json()["status"] == "issued"
    assert problem(fulfil(world, "b", attempt=1, state="issued")) == (404, "no-redemption")
    ask(world, "b")
    assert problem(fulfil(world, "b", attempt=1, state="issued")) == (409, "not-accepted")


def test_what_was_given_already_is_never_refused(world: World) -> None:
    assert problem(ask(world, "a", forced=True)) == (403, "no-scope")
    assert ask(world, "a", scopes="till", forced=True).status_code == 403
    at = "2026-11-20T10:00:00+02:00"
    answer = ask(world, "a", scopes="redeem till", forced=True, at=at)
    told = answer.json()
    assert (answer.status_code, told["status"], told["forced"], told["balance"]) == (201, "issued", True, 0)
    assert told["requested_at"] == told["decided_at"] == "2026-11-20T08:00:00Z"
    assert ask(world, "a", scopes="redeem till", forced=True).json() == told
    assert ask(world, "a", scopes="redeem till", forced=True, at=at, cost=10).json() == told
    other = ask(world, "a", scopes="redeem till", forced=True, at="2026-11-20T10:00:01+02:00")
    assert problem(other) == (422, "idempotency-key-reused")
    then_cheap = ask(world, "b", "cheap", scopes="redeem till", forced=True, at="2026-09-01T00:00:00Z")
    assert then_cheap.json()["cost"] == 3, "what it cost then"
    assert ask(world, "c", "unheard-of", scopes="redeem till", forced=True, cost=7).status_code == 201
    assert ask(world, "d", scopes="redeem till", forced=True).json()["balance"] == -20
    assert requests(world) == 4


def test_lists_in_pages(world: World) -> None:
    assert read(world).json() == {"customer_id": "7", "items": [], "next": None}
    for customer in ("7", "8"):
        for number in range(3):
            for day in ("20", "19"):
                at = f"2026-11-{day}T08:00:00Z"
                answer = ask(world, f"{day}-{number}", "ten", customer, "redeem till", forced=True, at=at)
                assert answer.status_code == 201
    ask(world, "refused", customer="6")

    def paged(path: str, **parameters: object) -> list[tuple[str, str]]:
        found: list[Json] = []
        begin: Json = {}
        while True:
            page = world.get(path, world.key("read"), limit=2, **begin, **parameters).json()
            found += page["items"]
            if page["next"] is None:
                return [(each["customer_id"], each["request_id"]) for each in found]
            begin = {"cursor": page["next"]}

    names = ["20-2", "20-1", "20-0", "19-2", "19-1", "19-0"]
    assert paged("/customers/7/redemptions") == [("7", name) for name in names]
    both = [(customer, name) for day in (names[:3], names[3:]) for customer in "87" for name in day]
    assert paged("/redemptions") == [("6", "refused"), *both]
    assert paged("/redemptions", status="issued") == both
    assert paged("/redemptions", status="refused") == [("6", "refused")]
    assert paged("/redemptions", status="used") == []
    for path, cursor in (("/redemptions", "WzEsIngiXQ"), ("/customers/7/redemptions", "x")):
        assert world.get(path, world.key("read"), cursor=cursor).status_code == 400
    assert world.get("/redemptions", world.key("read"), status="pending").status_code == 422


def test_a_shops_are_found_and_counted(world: World, publisher: Deciding) -> None:
    give(world, 30)
    for name, reward, customer in (("a", "ten", "7"), ("b", "cheap", "7"), ("7", "ten", "8"), ("A", "ten", "7")):
        assert ask(world, name, reward, customer).status_code in (201, 409)
    assert fulfil(world, "a", attempt=1, state="issued", code="THANKS-a").status_code == 200
    cancel(world, "b")

    def listed(**asked: object) -> list[tuple[str, str]]:
        answer = world.get("/redemptions", world.key("read"), **asked)
        assert answer.status_code == 200, answer.text
        return [(each["customer_id"], each["request_id"]) for each in answer.json()["items"]]

    assert listed(reward="cheap") == [("7", "b")]
    assert listed(reward="none") == []
    assert listed(named="7") == [("7", "A"), ("8", "7"), ("7", "b"), ("7", "a")], "a customer's, and one's name"
    assert listed(named="a") == [("7", "a")]
    assert listed(named="thanks-A") == [("7", "a")], "a code in any case"
    assert listed(named="7", status="returned", reward="cheap") == [("7", "b")]
    assert listed(named="7", status="returned", reward="ten") == []
    assert listed(named="nobody") == []
    for wrong in ({"named": ""}, {"named": "x" * 65}, {"reward": "a b"}):
        assert world.get("/redemptions", world.key("read"), **wrong).status_code == 422
    first = world.get("/redemptions", world.key("read"), named="7", limit=3).json()
    assert listed(named="7", cursor=first["next"]) == [("7", "a")]

    def counted(**asked: object) -> list[tuple[str, int, int]]:
        items = world.get("/redemptions/totals", world.key("read"), **asked).json()["items"]
        return [(each["status"], each["redemptions"], each["cost"]) for each in items]

    everything = [("refused", 1, 10), ("reserved", 1, 10), ("issued", 1, 10), ("used", 0, 0), ("returned", 1, 4)]
    assert counted() == everything
    assert counted(reward="cheap") == [
        (status, *((1, 4) if status == "returned" else (0, 0))) for status, *_ in everything
    ]
    assert world.get("/redemptions/totals", world.key("redeem")).status_code == 403
    world.program(shop=OTHER)
    elsewhere = world.client.get(f"/v1/shops/{OTHER}/redemptions/totals", headers=world.key("read", shop=OTHER)).json()
    assert {each["redemptions"] for each in elsewhere["items"]} == {0}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"reward": ""}, "reward_id"),
        ({"reward": "a b"}, "reward_id"),
        ({"cost": 0}, "cost"),
        ({"cost": "10"}, "cost"),
        ({"cost": True}, "cost"),
        ({"cost": 10**13 + 1}, "cost"),
        ({"at": "2026-11-20T08:00:00Z"}, "alone"),
        ({"forced": "yes"}, "forced"),
        ({"forced": True, "at": "2199-01-01T00:00:00Z"}, "a time that has been"),
        ({"forced": True, "at": "2026-11-20"}, "at"),
        ({"csot": 5}, "csot"),
    ],
)
def test_what_cannot_be_asked_for(world: World, said: Json, told: str) -> None:
    answer = ask(world, "a", **{"scopes": "redeem till", **said})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert world.publisher.messages == []


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("cancel", {"reason": "to ada@example.com"}),
        ("cancel", {"why": "x"}),
        ("fulfilment", {"attempt": 0, "state": "issued"}),
        ("fulfilment", {"attempt": 1, "state": "made"}),
        ("fulfilment", {"attempt": 1, "state": "issued", "code": "a\nb"}),
        ("fulfilment", {"attempt": 1, "state": "issued", "code": "x" * 65}),
        ("fulfilment", {"attempt": 1}),
    ],
)
def test_what_cannot_be_said(world: World, what: str, said: Json) -> None:
    assert then(world, "a", what, {"cancel": "redeem", "fulfilment": "fulfil"}[what], body=said).status_code == 422


def test_whose_and_by_what_name(world: World) -> None:
    path = f"/v1/shops/{SHOP}/customers/7/redemptions"
    unnamed = world.client.post(path, headers=world.key("redeem"), json={"reward_id": "ten"})
    assert (unnamed.status_code, "Idempotency-Key" in unnamed.json()["detail"]) == (422, True)
    assert ask(world, "a b").status_code == 422
    assert ask(world, "x" * 65).status_code == 422
    assert ask(world, "a", customer="guest-07").status_code == 422
    give(world, 10, MAIL)
    assert ask(world, "a", customer=MAIL).status_code == 201
    for scope in ("read", "export", "pii", "adjust", "till", "fulfil", "admin"):
        assert ask(world, "b", scopes=scope).status_code == 403
        assert then(world, "a", "cancel", scope, MAIL).status_code == 403
        if scope != "fulfil":
            assert then(world, "a", "fulfilment", scope, MAIL, {"attempt": 1, "state": "issued"}).status_code == 403
    assert world.client.post(f"{path}/a/cancel").status_code == 401
    assert world.client.post(f"{path}/a/cancel", headers=world.key("redeem", shop=OTHER)).status_code == 404


def test_a_shop_without_a_program_has_no_rewards(database: str, publisher: Deciding) -> None:
    with opened(database, publisher) as world:
        assert problem(ask(world, "a")) == (404, "no-program")
        assert publisher.messages == []
