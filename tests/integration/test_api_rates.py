"""Rate limits of the API: 429 by key and by address, told in the fields of the IETF's draft, and where none count."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api.context import COOKIE
from books import sessions
from tests.integration.api_world import OTHER, PROGRAM, SHOP, World, opened


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database, api_key_rate=3, api_address_rate=8) as running:
        running.program()
        yield running


def ask(world: World, headers: dict[str, str], address: str = "203.0.113.1", path: str = "/segments") -> Any:
    """A question from an address, as a proxy on this machine tells it."""
    return world.get(path, {**headers, "X-Forwarded-For": address})


def asked_of(world: World, policy: str) -> float:
    told = world.client.get("/metrics").text
    found = re.search(rf'loyalnest_rate_limited_total{{quota="{policy}"}} (\S+)', told)
    return float(found[1]) if found else 0.0


def test_a_key_that_asks_too_often_is_told_when_to_come_back(world: World) -> None:
    key = world.key("read")
    before = asked_of(world, "key")
    for left in (2, 1, 0):
        answer = ask(world, key)
        assert answer.status_code == 200
        assert f'"key";r={left};t=' in answer.headers["RateLimit"]
        assert answer.headers["RateLimit-Policy"] == '"address";q=8;w=60, "key";q=3;w=60'
    refused = ask(world, key, address="198.51.100.7")
    assert refused.status_code == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:loyalnest:problem:too-many-requests"
    seconds = int(refused.headers["Retry-After"])
    assert 1 <= seconds <= 20
    assert f'"key";r=0;t={seconds}' in refused.headers["RateLimit"]
    assert asked_of(world, "key") == before + 1
    assert ask(world, world.key("read")).status_code == 200, "another key of the same shop has its own quota"


def test_an_address_that_asks_too_often_is_refused_before_its_key_is_looked_at(world: World) -> None:
    wrong = {"Authorization": "Bearer ln_0123_wrong"}
    answers = [ask(world, wrong) for _ in range(9)]
    assert [each.status_code for each in answers] == [401] * 8 + [429]
    assert answers[0].headers["RateLimit"].startswith('"address";r=7;t=')
    assert answers[-1].json()["status"] == 429
    assert answers[-1].headers["x-content-type-options"] == "nosniff"
    assert answers[-1].headers["RateLimit-Policy"] == '"address";q=8;w=60'
    assert ask(world, world.key("read")).status_code == 429, "the address alone counts"
    assert ask(world, world.key("read"), address="198.51.100.7").status_code == 200


def test_a_session_counts_by_itself(world: World) -> None:
    async def begun() -> str:
        async with world.services.pool.connection() as connection:
            return await sessions.begin(connection, [SHOP], ["read"], "link", datetime.now(UTC))

    def visit(cookie: str) -> Any:
        with httpx.Client(base_url=world.client.base_url, cookies={COOKIE: cookie}, trust_env=False) as browser:
            return browser.get(f"/v1/shops/{SHOP}/segments")

    one, two = world.run(begun()), world.run(begun())
    assert [visit(one).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert visit(two).status_code == 200


def test_a_page_says_so_as_a_page(world: World) -> None:
    for _ in range(8):
        ask(world, {})
    refused = world.client.get("/sign-in", headers={"X-Forwarded-For": "203.0.113.1"})
    assert (refused.status_code, refused.headers["content-type"]) == (429, "text/html; charset=utf-8")
    assert refused.headers["Retry-After"]
    assert "Too many requests" in refused.text


def test_of_two_shops_that_share_an_address_each_key_counts_for_itself(database: str) -> None:
    with opened(database, api_key_rate=2, api_address_rate=0) as world:
        world.program()
        world.program(**{**PROGRAM, "shop": OTHER})
        mine, theirs = world.key("read"), world.key("read", shop=OTHER)
        assert [ask(world, mine).status_code for _ in range(3)] == [200, 200, 429]
        answer = world.client.get(f"/v1/shops/{OTHER}/segments", headers=theirs)
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Policy"] == '"key";q=2;w=60', "without a quota of addresses none is told"


def test_webhooks_health_metrics_and_what_pages_load_count_nowhere(world: World) -> None:
    here = {"X-Forwarded-For": "203.0.113.1"}
    for _ in range(10):
        for path in ("/healthz", "/readyz", "/metrics", "/static/dashboard.css"):
            answer = world.client.get(path, headers=here)
            assert (answer.status_code, "RateLimit" in answer.headers) == (200, False), path
        assert world.webhook("orders/paid", {"id": 1}, X_Forwarded_For="203.0.113.1").status_code == 200
    assert ask(world, world.key("read")).status_code == 200


def test_without_limits_nothing_is_said(database: str) -> None:
    with opened(database, api_key_rate=0, api_address_rate=0) as world:
        world.program()
        key = world.key("read")
        answers = [ask(world, key) for _ in range(20)]
        assert {each.status_code for each in answers} == {200}
        assert "RateLimit" not in answers[0].headers


def test_the_document_tells_of_it(world: World) -> None:
    answer = world.app.openapi()["paths"]["/v1/shops/{shop}/segments"]["get"]["responses"]["429"]
    assert set(answer["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert "application/problem+json" in answer["content"]
