"""A shop's dead letters over HTTP: why each is one, and sending it again."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from events import topics
from tests.integration.api_world import NOW, OTHER, SHOP, World, opened


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


def test_what_is_refused_is_told_and_sent_again(world: World) -> None:
    order = {"id": 1, "created_at": "2026-11-21T04:30:00-05:00", "currency": "USD", "customer": {"id": 7}}
    assert world.webhook("orders/paid", order | {"updated_at": "not a time"}).status_code == 200
    (letter,) = world.publisher.values(topics.DEAD_LETTERS)
    for minutes, shop in ((0, SHOP), (1, OTHER)):
        row = {name: letter[name] for name in ("source", "key", "error", "detail", "value")}
        world.insert("dead_letters", at=NOW + timedelta(minutes=minutes), id=uuid4(), shop=shop, **row)
    headers = world.key("admin")
    told = world.get("/dead-letters", headers).json()
    assert [(each["error"], each["replayed_at"]) for each in told["letters"]] == [(letter["error"], None)]
    ident = told["letters"][0]["id"]
    path = f"/v1/shops/{SHOP}/dead-letters/{ident}/replay"
    outcome = world.client.post(path, headers=headers).json()
    assert outcome["id"] == ident
    assert "still cannot be used" in outcome["problem"] or outcome["problem"].startswith("its body")
    (others,) = world.sql("SELECT id FROM dead_letters WHERE shop = %s", OTHER)
    assert world.client.post(path.replace(ident, str(others["id"])), headers=headers).status_code == 404
    assert world.get("/dead-letters", world.key("read")).status_code == 403


def test_a_record_of_a_topic_goes_back_to_it(world: World) -> None:
    row = {"source": topics.ACCOUNT_FACTS, "key": f"{SHOP}/7", "error": "unexpected", "detail": "once", "value": "{}"}
    ident = uuid4()
    world.insert("dead_letters", at=NOW, id=ident, shop=SHOP, **row)
    headers = world.key("admin")
    answer = world.client.post(f"/v1/shops/{SHOP}/dead-letters/{ident}/replay", headers=headers)
    assert answer.json() == {"id": str(ident), "problem": None}
    (message,) = world.publisher.messages
    assert (message.topic, message.key, message.value) == (topics.ACCOUNT_FACTS, f"{SHOP}/7", b"{}")
    assert world.get("/dead-letters", headers).json()["letters"][0]["replayed_at"] is not None
    assert world.get("/dead-letters", headers, unreplayed=True).json()["letters"] == []
