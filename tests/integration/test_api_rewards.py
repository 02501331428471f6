"""Holds, expiry and rewards over HTTP: what may follow what in a program, and the catalogue in force."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from events.programs import Program
from tests.integration.api_world import PROGRAM, SHOP, World
from tests.integration.test_api_program import HOUR, PATH, etag, get, put, sink

Json = dict[str, Any]
DAY = timedelta(days=1)


def since(ahead: timedelta | None) -> str | None:
    return None if ahead is None else (datetime.now(UTC) + ahead).isoformat()


def hold(ahead: timedelta | None, days: int = 14) -> Json:
    return {"effective_from": since(ahead), "hold_days": days}


def life(ahead: timedelta | None, days: int | None = 365) -> Json:
    return {"effective_from": since(ahead), "life_days": days}


def inactivity(ahead: timedelta | None, days: int = 180) -> Json:
    return {"effective_from": since(ahead), "inactive_days": days}


def reward(ahead: timedelta | None, **changes: Any) -> Json:
    said = {"reward_id": "ten-off", "cost": 500, "kind": "amount", "value": "10", "name": "10 off"}
    return {"effective_from": since(ahead), **said, **changes}


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"holds": [hold(HOUR)]}, 202, ""),
        ({"holds": [hold(timedelta(minutes=10))]}, 409, "a hold is announced at least 15 minutes"),
        ({"holds": [hold(None)]}, 409, "holds are append-only"),
        ({"holds": [{"hold_days": 366}]}, 422, "holds.0.hold_days"),
        ({"expiry": [life(31 * DAY)]}, 202, ""),
        ({"expiry": [life(31 * DAY, None)]}, 202, ""),
        ({"expiry": [life(29 * DAY)]}, 409, "at least 30 days"),
        ({"expiry": [life(29 * DAY, None)]}, 409, "at least 30 days"),
        ({"expiry": [life(None)]}, 409, "append-only"),
        ({"expiry": [{"calendar": "day"}]}, 422, "expiry.0.life.life_days"),
        ({"expiry": [inactivity(31 * DAY)]}, 202, ""),
        ({"expiry": [inactivity(31 * DAY), life(32 * DAY, None)]}, 202, ""),
        ({"expiry": [inactivity(29 * DAY)]}, 409, "at least 30 days"),
        ({"expiry": [inactivity(31 * DAY), life(32 * DAY)]}, 422, "by life_days or by inactive_days"),
        ({"expiry": [inactivity(31 * DAY) | {"calendar": "day"}]}, 422, "expiry.0.inactivity.calendar"),
        ({"rewards": [reward(HOUR)]}, 202, ""),
        ({"rewards": [reward(timedelta(minutes=10))]}, 409, "a reward is announced at least 15 minutes"),
        ({"rewards": [reward(None)]}, 409, "rewards are append-only"),
        ({"rewards": [reward(HOUR, cost=0)]}, 422, "rewards.0.cost"),
        ({"rewards": [reward(HOUR, value="0.001")]}, 422, "value of ten-off"),
        ({"rewards": [reward(HOUR, kind="product", value=None)]}, 422, "product_id"),
    ],
)
def test_what_may_follow(world: World, changes: Json, status: int, told: str) -> None:
    world.program()
    answer = put(world, **changes)
    assert answer.status_code == status, answer.text
    assert told in answer.json().get("detail", "")
    assert len(world.publisher.messages) == (status == 202)


def test_a_first_program_may_say_anything_and_it_stays_unless_something_is_appended(world: World) -> None:
    first: Json = {"holds": [hold(None)], "expiry": [life(None)], "rewards": [reward(None)]}
    assert put(world, **first).status_code == 202
    assert sink(world).dead_letters == []
    said = get(world).json()
    assert put(world, zone="Europe/Berlin").status_code == 202, "says nothing of them"
    kept = get(world).json()
    for field, entries in first.items():
        assert said[field] == kept[field]
        assert len(kept[field]) == len(entries)
        nothing: Json = {field: []}
        assert put(world, **nothing).status_code == 409
    ended = reward(HOUR)
    ended["until"] = ended["effective_from"]
    assert put(world, rewards=[*kept["rewards"], ended]).status_code == 202
    assert sink(world).dead_letters == []
    assert [each["until"] is None for each in get(world).json()["rewards"]] == [True, False]


def test_a_program_with_a_hold_can_be_previewed(world: World) -> None:
    world.program()
    said = get(world).json() | {"holds": [hold(HOUR)], "expiry": [life(31 * DAY)], "rewards": [reward(HOUR)]}
    answer = world.client.post(f"{PATH}/preview", headers=world.key("admin"), json=said)
    assert answer.status_code == 200, answer.text


def catalogue(world: World, **asked: str) -> Any:
    answer = world.get("/rewards", world.key("read"), **asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_catalogue_is_what_holds_now(world: World) -> None:
    told = [
        reward(-2 * DAY, names={"de": "10 weniger"}, min_order="50", limit={"count": 1, "days": 30}, valid_days=90),
        reward(-DAY, reward_id="gone", until=since(-HOUR)),
        reward(HOUR, reward_id="later"),
        reward(-2 * DAY, reward_id="share", kind="percent", value="12.5", cost=100),
        reward(-DAY, reward_id="mug", kind="product", value=None, product_id="632910392", cost=50),
        reward(HOUR, reward_id="mug", kind="product", value=None, product_id="632910392", until=since(HOUR + DAY)),
        reward(-DAY, reward_id="share", kind="percent", value="15", cost=600, until=since(DAY)),
    ]
    world.program(rewards=told)
    found = catalogue(world)
    assert [each["reward_id"] for each in found["rewards"]] == ["mug", "ten-off", "share"]
    mug, ten, share = found["rewards"]
    assert (mug["product_id"], mug["value"], mug["percent"], mug["until"]) == ("632910392", None, None, None)
    assert ten["value"] == {"amount": "10.00", "currency": "USD"}
    assert ten["min_order"] == {"amount": "50.00", "currency": "USD"}
    assert (ten["limit"], ten["valid_days"]) == ({"count": 1, "days": 30}, 90)
    assert (ten["unused"], ten["on_void"], ten["until"]) == ("forfeit", "return", None)
    assert (share["percent"], share["value"], share["cost"]) == ("15", None, 600)
    assert datetime.fromisoformat(ten["since"]) == datetime.fromisoformat(told[0]["effective_from"])
    assert datetime.fromisoformat(share["until"]) == datetime.fromisoformat(told[-1]["until"])


def test_names_are_in_the_language_asked_for_or_the_shops(world: World) -> None:
    world.program(locale="de-CH", rewards=[reward(None, names={"de": "10 weniger", "fr": "10 de moins"})])
    for asked, name in (({}, "10 weniger"), ({"locale": "fr-CA"}, "10 de moins"), ({"locale": "it"}, "10 off")):
        found = catalogue(world, **asked)
        assert found["rewards"][0]["name"] == name
        assert found["locale"] == asked.get("locale", "de-CH")
    for wrong in ("d", "x" * 36, "de_DE"):
        assert world.get("/rewards", world.key("read"), locale=wrong).status_code == 422


def test_a_shop_without_rewards_has_an_empty_catalogue(world: World) -> None:
    assert world.get("/rewards", world.key("read")).status_code == 404
    world.program()
    assert catalogue(world)["rewards"] == []


def test_two_who_add_a_reward_at_once_lose_none(world: World) -> None:
    assert put(world).status_code == 202
    seen = etag(world)
    one, other = reward(HOUR), reward(HOUR, reward_id="mug")
    assert put(world, seen, rewards=[one]).status_code == 202
    assert put(world, seen, rewards=[other]).status_code == 412
    assert put(world, rewards=[*get(world).json()["rewards"], other]).status_code == 202
    published = [Program.model_validate_json(each.value) for each in world.publisher.messages]
    assert {each.reward_id for each in published[-1].rewards} == {"mug", "ten-off"}
    assert published[-1].shop == SHOP


def test_a_first_program_that_is_too_large_is_a_dead_letter_and_the_next_is_taken(world: World) -> None:
    names = {f"x{letter}": "\N{GRINNING FACE}" * 100 for letter in "abcdefghijklmnopqrst"}
    large = [reward(HOUR + number * DAY, names=names) for number in range(115)]
    answer = put(world, {}, rewards=large)
    assert answer.status_code == 409
    assert "900,000 bytes" in answer.json()["detail"]
    assert put(world, {}).status_code == 202
    ours = world.publisher.messages.pop()
    theirs = Program.model_validate(PROGRAM | {"rewards": large}).model_dump_json().encode()
    world.publisher.messages += [replace(ours, value=theirs), ours]
    (letter,) = sink(world).dead_letters
    assert "too_large" in letter
    assert get(world).status_code == 200
