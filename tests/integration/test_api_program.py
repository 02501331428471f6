"""A shop's program over HTTP: what may follow what, and that it is only published."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from events import topics
from events.programs import Program
from tests.integration.api_world import OTHER, PROGRAM, SHOP, World, opened


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        yield running


def put(world: World, **changes: object) -> Any:
    headers = world.key("admin")
    return world.client.put(f"/v1/shops/{SHOP}/program", headers=headers, json={**PROGRAM, **changes})


def rules(*later: timedelta) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        {"points_per_unit": "1"},
        *({"effective_from": (now + each).isoformat(), "points_per_unit": "2"} for each in later),
    ]


def test_the_first_program_is_published_and_read_back_from_the_history(world: World) -> None:
    headers = world.key("read")
    assert world.get("/program", headers).status_code == 404
    answer = put(world, look_back_days=None)
    assert answer.status_code == 202
    (message,) = world.publisher.messages
    assert (message.topic, message.key) == (topics.PROGRAMS, SHOP)
    assert Program.model_validate_json(message.value).look_back_days is None
    assert world.get("/program", headers).status_code == 404  # until the sink has stored it
    world.program(look_back_days=None)
    assert world.get("/program", headers).json() == answer.json()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"zone": "Europe/Berlin"}, 202),
        ({"rules": rules(timedelta(hours=3))}, 202),
        ({"rules": rules(timedelta(minutes=10))}, 409),
        ({"rules": rules(-timedelta(days=1))}, 409),
        ({"rules": [{"points_per_unit": "3"}]}, 409),
        ({"currency": "EUR"}, 409),
        ({"currency": "XXX"}, 422),
        ({"zone": "Mars/Olympus"}, 422),
        ({"rules": []}, 422),
        ({"rules": [{"points_per_unit": "-1"}]}, 422),
        ({"look_back_days": 0}, 422),
        ({"shop": OTHER}, 422),
        ({"surprise": 1}, 422),
    ],
)
def test_what_may_follow(world: World, changes: dict[str, Any], status: int) -> None:
    world.program()
    answer = put(world, **changes)
    assert answer.status_code == status, answer.text
    assert len(world.publisher.messages) == (status == 202)


def test_rules_published_a_moment_ago_are_not_lost(world: World) -> None:
    world.program()
    longer = rules(timedelta(hours=1))
    assert put(world, rules=longer).status_code == 202
    assert put(world, rules=rules(timedelta(hours=2))).status_code == 409
    assert put(world, rules=[*longer, *rules(timedelta(hours=2))[1:]]).status_code == 202


def test_what_is_not_durable_is_not_accepted(world: World) -> None:
    world.publisher.failing = True
    assert put(world).status_code == 503
    world.publisher.failing = False
    assert put(world, currency="EUR").status_code == 202
