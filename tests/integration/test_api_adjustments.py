"""Adjustments and the account over HTTP: what is asked for once stands, whoever asks again, wherever and with what."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from api.waiting import WAIT
from books import persons
from events import awards, instants, keys, plain, topics
from events.messages import Message
from streams.sink import store as sink_store
from streams.sink.rows import Rows
from tables.chunks import Received
from tests.integration.api_world import NOW, OTHER, SHOP, Remembering, World, opened

Json = dict[str, Any]
MAIL = "mail-" + "0" * 32


class Stored(Remembering):
    """A publisher whose messages the sink stores a moment later; while `held`, once they are let go."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self.held: list[Message] | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        await super().publish(messages)
        if self.held is None:
            asyncio.get_running_loop().run_in_executor(None, self.store, list(messages))
        else:
            self.held.extend(messages)

    def store(self, messages: Sequence[Message]) -> None:
        rows = Rows(journal=False)
        for message in messages:
            at = int(datetime.now(UTC).timestamp() * 1000)
            rows.add(Received(message.topic, 0, 0, at, message.key.encode(), message.value))
        assert not rows.dead_letters
        with psycopg.connect(self._url) as connection:
            sink_store.prepare(connection)
            with connection.transaction(), connection.cursor() as cursor:
                sink_store.write(cursor, rows)


@pytest.fixture
def publisher(database: str) -> Stored:
    return Stored(database)


@pytest.fixture
def world(database: str, publisher: Stored) -> Iterator[World]:
    with opened(database, publisher) as running:
        running.publisher = publisher
        running.program()
        yield running


def ask(world: World, name: str, customer: str = "7", scope: str = "adjust", **said: Any) -> Any:
    headers = world.key(scope) | {"Idempotency-Key": name}
    return world.client.post(f"/v1/shops/{SHOP}/customers/{customer}/adjustments", headers=headers, json=said)


def take_back(world: World, name: str, customer: str = "7") -> Any:
    path = f"/v1/shops/{SHOP}/customers/{customer}/adjustments/{name}"
    return world.client.delete(path, headers=world.key("adjust"))


def read(world: World, path: str = "", customer: str = "7", **parameters: object) -> Any:
    return world.get(f"/customers/{customer}/adjustments{path}", world.key("read"), **parameters)


def test_an_adjustment_is_told_of_once_it_is_stored(world: World) -> None:
    answer = ask(world, "birthday-7", points=50, reason="Grüße", source="klaviyo", at="2026-11-20T10:00:00+02:00")
    told = answer.json()
    stored_at = told.pop("stored_at")
    assert (answer.status_code, told) == (
        201,
        {
            "award_id": "birthday-7",
            "customer_id": "7",
            "at": "2026-11-20T08:00:00Z",
            "points": 50,
            "reason": "Grüße",
            "source": "klaviyo",
            "counts_as_earned": False,
            "voided_at": None,
            "check": False,
            "refused": None,
            "balance": None,
        },
    )
    (sent,) = world.publisher.messages
    assert (sent.topic, sent.key) == (topics.REQUESTS, keys.join(SHOP, "7"))
    found = plain.look(sent.value.decode(), topics.REQUESTS)
    assert found is not None, "as we write envelopes"
    assert found.webhook_id.startswith("award/birthday-7/")
    location = answer.headers["location"]
    assert world.client.get(location, headers=world.key("read")).json() == {**told, "stored_at": stored_at}
    assert world.sql("SELECT * FROM award_claims") == [], "it is stored"


def test_one_name_is_one_adjustment(world: World) -> None:
    first = ask(world, "a", points=50).json()
    again = ask(world, "a", points=50, counts_as_earned=False, reason=None)
    assert (again.status_code, again.json()) == (200, first)
    assert ask(world, "a", points=50, at=first["at"]).status_code == 200
    later = (datetime.fromisoformat(first["at"]) - timedelta(microseconds=1)).isoformat()
    others: list[Json] = [{"points": 51}, {"points": -50}, {"reason": "x"}, {"counts_as_earned": True}, {"at": later}]
    for other in others:
        answer = ask(world, "a", **{"points": 50, **other})
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:loyalnest:problem:idempotency-key-reused")
    assert len(world.publisher.messages) == 1
    assert ask(world, "a", customer="8", points=51).status_code == 201, "another customer's"


def test_two_processes_that_are_asked_at_once_say_the_same(world: World, database: str, publisher: Stored) -> None:
    with opened(database, publisher) as other, ThreadPoolExecutor(16) as threads:
        headers = [each.key("adjust") for each in (world, other)]
        for each in (world, other):  # FastAPI makes its routes with the first request: two apps at once in one process
            assert read(each).status_code == 200  # would trip over each other

        def asked(name: str, points: int, at: int) -> Any:
            process = (world, other)[at % 2]
            path = f"/v1/shops/{SHOP}/customers/7/adjustments"
            named = headers[at % 2] | {"Idempotency-Key": name}
            return process.client.post(path, headers=named, json={"points": points})

        for number in range(5):
            answers = [threads.submit(asked, f"n-{number}", 10 + at // 4, at) for at in range(8)]
            told = [(each.result().status_code, each.result().json()) for each in answers]
            good = [said for status, said in told if status in (200, 201)]
            assert {status for status, _ in told} <= {200, 201, 422}
            assert 0 < len(good) <= 4, "those who asked for the same"
            (stands,) = world.sql("SELECT points, at FROM awards WHERE award_id = %s", f"n-{number}")
            assert {(said["points"], said["at"]) for said in good} == {
                (stands["points"], good[0]["at"]),
            }
            assert datetime.fromisoformat(good[0]["at"]) == stands["at"]
    assert world.sql("SELECT * FROM award_claims") == []


def test_what_another_claims_and_sees_stored_meanwhile_stands(
    world: World, publisher: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for what is stored and the claim: that of the other is gone again by then."""
    look, at = persons.merged_into, instants.from_datetime(datetime.now(UTC))
    theirs = awards.message(SHOP, "7", "a", awards.Body(at, 50, "", "api", False), at)

    async def meanwhile(connection: psycopg.AsyncConnection[Any], shop: str, customer_id: str) -> str | None:
        await asyncio.to_thread(publisher.store, [theirs])
        return await look(connection, shop, customer_id)

    monkeypatch.setattr(persons, "merged_into", meanwhile)
    answer = ask(world, "a", points=51)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:loyalnest:problem:idempotency-key-reused")
    assert publisher.messages == []
    assert world.sql("SELECT points FROM awards") == [{"points": 50}]
    assert world.sql("SELECT * FROM award_claims") == []


def test_what_is_not_stored_in_time_is_durable_and_refused_to_others_all_the_same(
    world: World, publisher: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.waiting.WAIT", 0.3)
    publisher.held = []
    waiting = ask(world, "a", points=50)
    assert (waiting.status_code, waiting.json()["stored_at"]) == (202, None)
    assert world.client.get(waiting.headers["location"], headers=world.key("read")).json() == waiting.json()
    assert ask(world, "a", points=51).status_code == 422
    again = ask(world, "a", points=50)
    assert (again.status_code, again.json()) == (202, waiting.json()), "at the first one's time"
    gone = take_back(world, "a")
    assert (gone.status_code, gone.json()["voided_at"]) == (202, None)
    publisher.store(publisher.held)
    found = read(world, "/a").json()
    assert (found["at"], found["points"]) == (waiting.json()["at"], 50)
    assert found["voided_at"] is not None


def test_one_that_could_not_be_made_durable_can_be_asked_for_again(world: World) -> None:
    world.publisher.failing = True
    assert ask(world, "a", points=50).status_code == 503
    world.publisher.failing = False
    assert ask(world, "a", points=50).status_code == 201


def test_it_is_taken_back_once_and_for_all(world: World) -> None:
    ask(world, "a", points=50)
    answer = take_back(world, "a")
    assert answer.status_code == 200
    assert answer.json()["voided_at"] is not None
    assert (
        take_back(world, "a").json() == answer.json() == read(world, "/a").json() == ask(world, "a", points=50).json()
    )
    first, second = world.publisher.messages
    assert first.value != second.value
    for name, customer in (("b", "7"), ("a", "8")):
        assert take_back(world, name, customer).status_code == 404
        assert read(world, f"/{name}", customer).status_code == 404


def test_a_list_in_pages(world: World, publisher: Stored) -> None:
    assert read(world).json() == {"customer_id": "7", "items": [], "next": None}
    for number in (1, 2, 3):
        for day in ("2026-11-20T08:00:00Z", "2026-11-19T08:00:00Z"):
            assert ask(world, f"{day[8:10]}-{number}", points=number, at=day).status_code == 201
    whole = [each["award_id"] for each in read(world).json()["items"]]
    assert whole == ["20-3", "20-2", "20-1", "19-3", "19-2", "19-1"]
    paged: list[str] = []
    begin: Json = {}
    for _ in range(3):
        page = read(world, limit=2, **begin).json()
        paged += [each["award_id"] for each in page["items"]]
        begin = {"cursor": page["next"]}
    assert (paged, begin) == (whole, {"cursor": None})
    assert read(world, cursor="x").status_code == 400


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({}, "points"),
        ({"points": 0}, "points other than 0"),
        ({"points": "5"}, "points"),
        ({"points": 5.0}, "points"),
        ({"points": True}, "points"),
        ({"points": 10**13 + 1}, "points"),
        ({"points": 5, "reason": "to ada@example.com"}, "reason"),
        ({"points": 5, "reason": "a\nb"}, "reason"),
        ({"points": 5, "reason": "x" * 65}, "reason"),
        ({"points": 5, "source": ""}, "source"),
        ({"points": 5, "at": "2026-11-20"}, "at"),
        ({"points": 5, "at": "2199-01-01T00:00:00Z"}, "a time that has been"),
        ({"points": 5, "at": "1970-01-01T00:00:00+14:00"}, "a time that has been"),
        ({"points": 5, "pionts": 5}, "pionts"),
    ],
)
def test_what_cannot_be_asked_for(world: World, said: Json, told: str) -> None:
    answer = ask(world, "a", **said)
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert world.publisher.messages == []


def test_whose_and_by_what_name(world: World) -> None:
    path = f"/v1/shops/{SHOP}/customers/7/adjustments"
    unnamed = world.client.post(path, headers=world.key("adjust"), json={"points": 5})
    assert (unnamed.status_code, "Idempotency-Key" in unnamed.json()["detail"]) == (422, True)
    assert ask(world, "a b", points=5).status_code == 422
    assert ask(world, "x" * 65, points=5).status_code == 422
    assert ask(world, "a", customer="guest-07", points=5).status_code == 422
    assert ask(world, "a", customer=MAIL, points=-5).status_code == 201
    assert read(world, "/a", MAIL).json()["points"] == -5
    for scope in ("read", "export", "pii", "admin"):
        assert ask(world, "a", scope=scope, points=5).status_code == 403
        answer = world.client.delete(f"{path}/a", headers=world.key(scope))
        assert answer.status_code == 403
    assert world.client.delete(f"{path}/a").status_code == 401
    assert world.client.delete(f"{path}/a", headers=world.key("adjust", shop=OTHER)).status_code == 404


def test_a_shop_without_a_program_has_no_accounts(database: str, publisher: Stored) -> None:
    with opened(database, publisher) as world:
        assert ask(world, "a", points=5).status_code == 404
        assert publisher.messages == []


def test_who_was_merged_is_somebody_else(world: World) -> None:
    assert ask(world, "before", points=5).status_code == 201
    for customer, into in (("7", "8"), ("8", "9"), ("9", None)):
        world.customer(customer, merged_into=into)
    answer = ask(world, "a", points=5)
    assert (answer.status_code, answer.json()["merged_into"]) == (409, "9")
    assert answer.json()["type"] == "urn:loyalnest:problem:merged"
    assert ask(world, "before", points=5).status_code == 200, "it was theirs then"
    assert take_back(world, "before").json()["voided_at"] is not None
    assert ask(world, "a", customer="9", points=5).status_code == 201


def test_whoever_waits_is_told_at_once(world: World, publisher: Stored) -> None:
    """Not at the end of the wait, nor by asking on and on."""
    publisher.held = []
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, world, "a", points=5)
        arrived = threading.Event()
        while not publisher.held:
            arrived.wait(0.02)
        publisher.store(publisher.held)
        began = datetime.now(UTC)
        assert waiting.result().status_code == 201
    assert datetime.now(UTC) - began < timedelta(seconds=WAIT - 1)


ACCOUNT = {"pending": 40, "earned": 500, "spent": 30, "expired": 20}


@pytest.mark.parametrize(("balance", "spendable", "owed"), [(129, 129, 0), (0, 0, 0), (-5, 0, 5)])
def test_an_account(world: World, balance: int, spendable: int, owed: int) -> None:
    runs_out = NOW + timedelta(days=9)
    world.customer("7", balance=balance, expiring=12, expires_at=runs_out, **ACCOUNT)
    world.customer("8", merged_into="7")
    assert world.get("/customers/7/account", world.key("read")).json() == {
        "customer_id": "7",
        "as_of": "2026-11-21T09:30:00Z",
        "balance": balance,
        "spendable": spendable,
        "owed": owed,
        **ACCOUNT,
        "ran_out": [],
        "expiring": {"points": 12, "at": "2026-11-30T09:30:00Z"},
        "merged_into": None,
    }
    other = world.get("/customers/8/account", world.key("read")).json()
    assert (other["merged_into"], other["expiring"]) == ("7", None)
    assert world.get("/customers/9/account", world.key("read")).status_code == 404
