"""Slow clients, and servers that do not answer: everybody is told in time, and nobody waits for them."""

import asyncio
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from api import limits
from books import api_keys
from runtime import metrics
from tests.integration.api_world import OTHER, PROGRAM, SHOP, World, opened


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


def half_sent(world: World, head: str) -> bytes:
    """What is answered to a request whose body never comes to its end."""
    where = urlsplit(str(world.client.base_url))
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=20) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{{".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_a_body_that_does_not_come_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.5)
    for head in ("POST /webhooks/shopify HTTP/1.1", f"PUT /v1/shops/{SHOP}/program HTTP/1.1"):
        answer = half_sent(world, head)
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b"urn:loyalnest:problem" in answer


def test_a_body_that_is_too_large_is_not_read(world: World) -> None:
    body = b" " * (limits.BODY_BYTES + 1)
    headers = {**world.key(*api_keys.SCOPES), "Content-Type": "application/json"}
    answer = world.client.put(f"/v1/shops/{SHOP}/program", content=body, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


def test_a_webhook_that_cannot_be_made_durable_in_time_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def frozen(_messages: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("api.webhooks.routes.WEBHOOK_SECONDS", 0.5)
    publish = world.publisher.publish
    monkeypatch.setattr(world.publisher, "publish", frozen)
    began = time.monotonic()
    answer = world.webhook("orders/paid", {"id": 1}, **{"X-Shopify-Webhook-Id": "one"})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:loyalnest:problem:no-answer")
    assert time.monotonic() - began < 5
    # Sent again, it is not taken for a delivery that was done.
    monkeypatch.setattr(world.publisher, "publish", publish)
    assert world.webhook("orders/paid", {"id": 1}, **{"X-Shopify-Webhook-Id": "one"}).status_code == 200
    assert len(world.publisher.messages) == 1


def test_a_question_that_the_database_does_not_answer_in_time_is_a_503(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.reading.READ_SECONDS", 0.5)
    headers = world.key("read")
    with psycopg.connect(world.url) as locking:
        locking.execute("LOCK TABLE programs")
        began = time.monotonic()
        assert world.get("/segments", headers).status_code == 503
        assert time.monotonic() - began < 5
    assert world.get("/segments", headers).status_code == 200


def test_a_program_that_cannot_be_announced_in_time_is_a_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.program.READ_SECONDS", 0.5)
    headers = world.key("admin") | {"If-Match": "*"}
    address = f"/v1/shops/{SHOP}/program"
    with psycopg.connect(world.url) as locking:
        locking.execute("LOCK TABLE programs")
        began = time.monotonic()
        assert world.client.put(address, json=PROGRAM, headers=headers).status_code == 503
        assert time.monotonic() - began < 5
    assert world.publisher.messages == []
    monkeypatch.undo()
    assert world.client.put(address, json=PROGRAM, headers=headers).status_code == 202


def test_whoever_is_left_behind_tidies_up_by_itself() -> None:
    tidied = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            tidied.set()

    async def whole() -> None:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await limits.within(0.05, stubborn())
        assert time.monotonic() - began < 0.2
        await asyncio.wait_for(tidied.wait(), 10)
        assert await limits.within(5, asyncio.sleep(0, "done")) == "done"

    asyncio.run(whole())


def test_answers_are_not_guessed_at_nor_kept(world: World) -> None:
    headers = world.key("read", "export")
    for path in ("/segments", "/customers", "/customers/7", "/exports/segments.csv"):
        answer = world.get(path, headers)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_options_and_405_name_every_method_of_a_path(world: World) -> None:
    for method in ("OPTIONS", "DELETE"):
        answer = world.client.request(method, f"/v1/shops/{SHOP}/program")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")
    assert world.client.delete(f"/v1/shops/{SHOP}/segments").headers["allow"] == "GET"
    assert world.client.get("/webhooks/shopify").headers["allow"] == "POST"
    # Where an id might stand too, the path's own.
    assert world.client.delete(f"/v1/shops/{SHOP}/customers/find").headers["allow"] == "POST"
    wrong = world.get("/customers/find", world.key("read"))
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert world.client.delete(f"/v1/shops/{SHOP}/customers/7").headers["allow"] == "GET"


def test_a_broken_body_is_answered_as_the_document_says(world: World) -> None:
    headers = {**world.key("admin"), "Content-Type": "application/json"}
    named = world.client.get("/openapi.json").json()["paths"]["/v1/shops/{shop}/program"]["put"]["responses"]
    for body in (b"{", b"\xff", b"", b"[]", b'"\\ud800"'):
        answer = world.client.put(f"/v1/shops/{SHOP}/program", content=body, headers=headers)
        assert str(answer.status_code) in named, body
        assert answer.headers["content-type"] == "application/problem+json"


def test_answers_are_counted_by_route_and_not_by_who_is_asked_for(world: World) -> None:
    assert world.client.get(f"/v1/shops/{OTHER}/customers/123").status_code == 401
    labels = {"method": "GET", "route": "/v1/shops/{shop}/customers/{customer_id}", "status": "4xx"}
    assert metrics.HTTP_SECONDS.labels(**labels)._sum.get() > 0
    assert OTHER not in world.client.get("/metrics").text


def test_what_nobody_foresaw_is_counted_and_answered_as_safely(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stumbling(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.services.front_door, "take", stumbling)
    counted = metrics.HTTP_SECONDS.labels("POST", "/webhooks/shopify", "5xx")
    before = counted._sum.get()
    answer = world.webhook("orders/paid", {"id": 1})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:loyalnest:problem:unexpected")
    assert counted._sum.get() > before
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_docs_and_metrics_are_shown_as_the_settings_say(database: str) -> None:
    with opened(database, api_docs=False, api_metrics=False) as world:
        for path in ("/docs", "/openapi.json", "/metrics"):
            assert world.client.get(path).status_code == 404, path
        assert world.client.get("/healthz").status_code == 200


def test_the_live_hub_listens_on_after_any_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = world.services.live
    heard: list[str] = []

    def stumbling(payload: str) -> None:
        heard.append(payload)
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(hub, "_heard", stumbling)
    monkeypatch.setattr(hub, "_retry", 0.05)
    deadline = time.monotonic() + 20
    while len(heard) < 2:
        assert time.monotonic() < deadline
        world.sql("SELECT pg_notify('loyalnest_live', '{}')")
        time.sleep(0.1)
    assert hub._task is not None
    assert not hub._task.done()


def test_the_api_ends_when_nothing_can_be_published_any_more(world: World) -> None:
    """Whoever watches the process starts it again; until then every webhook would get 503."""
    world.publisher.broken = "the producer cannot go on: fenced"
    world._thread.join(20)
    assert not world._thread.is_alive()
