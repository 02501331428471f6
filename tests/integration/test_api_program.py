"""A shop's program over HTTP: what may follow what, and that no process knows more of it than another."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from events import topics
from events.programs import Program
from streams.sink import store as sink_store
from streams.sink.rows import Rows
from tables.chunks import Received
from tests.integration.api_world import OTHER, PROGRAM, SHOP, World, opened

PATH = f"/v1/shops/{SHOP}/program"


@pytest.fixture
def worlds(database: str) -> Iterator[tuple[World, World]]:
    """Two servers over one database, as two processes are: they share nothing else."""
    with opened(database) as one, opened(database) as other:
        yield one, other


def get(world: World) -> Any:
    return world.client.get(PATH, headers=world.key("read"))


def etag(world: World) -> dict[str, str]:
    answer = get(world)
    return {"If-Match": answer.headers["ETag"]} if answer.status_code == 200 else {}


def put(world: World, headers: dict[str, str] | None = None, **changes: object) -> Any:
    """A PUT with `headers` beside the key; without any, as one who has just looked."""
    more = etag(world) if headers is None else headers
    return world.client.put(PATH, headers=world.key("admin") | more, json={**PROGRAM, **changes})


def rules(*later: timedelta) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        {"points_per_unit": "1"},
        *({"effective_from": (now + each).isoformat(), "points_per_unit": "2"} for each in later),
    ]


def policies(*starts: timedelta | None, taxes: str = "as_priced") -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    words = ["money", "goods"]
    return [
        {"effective_from": start and (now + start).isoformat(), "refunds": refunds, "taxes": taxes}
        for start, refunds in zip(starts, words, strict=False)
    ]


HOUR = timedelta(hours=1)


def sink(world: World, *worlds: World) -> Rows:
    """The history sink takes in what was published."""
    rows = Rows(journal=False)
    for message in [message for each in (world, *worlds) for message in each.publisher.messages]:
        at = int(datetime.now(UTC).timestamp() * 1000)
        rows.add(Received(message.topic, 0, 0, at, message.key.encode(), message.value))
    with psycopg.connect(world.url) as connection:
        sink_store.prepare(connection)
        with connection.transaction(), connection.cursor() as cursor:
            sink_store.write(cursor, rows)
    return rows


def test_the_first_program_is_published_and_shown_at_once(worlds: tuple[World, World]) -> None:
    world, other = worlds
    assert get(world).status_code == 404
    answer = put(world, look_back_days=None)
    assert answer.status_code == 202
    (message,) = world.publisher.messages
    assert (message.topic, message.key) == (topics.PROGRAMS, SHOP)
    published = Program.model_validate_json(message.value)
    assert published.look_back_days is None
    assert published.announced_at is not None
    assert published.id is not None
    for shown in (get(world), get(other)):
        assert shown.json() == answer.json()
        assert shown.headers["ETag"] == answer.headers["ETag"]
    assert sink(world).dead_letters == []
    assert get(other).json() == answer.json()
    assert get(other).headers["ETag"] == answer.headers["ETag"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"zone": "Europe/Berlin"}, 202),
        ({"rules": rules(timedelta(hours=3))}, 202),
        ({"rules": rules(timedelta(minutes=10))}, 409),
        ({"rules": rules(-timedelta(days=1))}, 409),
        ({"rules": [{"points_per_unit": "3"}]}, 409),
        ({"policies": policies(timedelta(hours=3))}, 202),
        ({"policies": policies(timedelta(minutes=10))}, 409),
        ({"policies": policies(None)}, 409),
        ({"policies": [{"effective_from": None, "refunds": "goods"}]}, 422),
        ({"policies": policies(None, None, taxes="excluded")}, 422),
        ({"policies": policies(None, taxes="mine")}, 422),
        ({"currency": "EUR"}, 409),
        ({"currency": "XXX"}, 422),
        ({"zone": "Mars/Olympus"}, 422),
        ({"rules": []}, 422),
        ({"rules": [{"points_per_unit": "-1"}]}, 422),
        ({"look_back_days": 0}, 422),
        ({"shop": OTHER}, 422),
        ({"surprise": 1}, 422),
        ({"announced_at": "9998-01-01T00:00:00Z"}, 202),  # made by the server, whatever is sent
    ],
)
def test_what_may_follow(world: World, changes: dict[str, Any], status: int) -> None:
    world.program()
    answer = put(world, **changes)
    assert answer.status_code == status, answer.text
    assert len(world.publisher.messages) == (status == 202)
    if status == 202:
        assert abs(datetime.now(UTC) - datetime.fromisoformat(answer.json()["announced_at"])) < timedelta(minutes=1)


def test_policies_stay_where_a_put_says_nothing_of_them(world: World) -> None:
    first = put(world).json()["policies"]
    assert first == [{"effective_from": None, "refunds": "goods_and_adjustments", "taxes": "as_priced"}]
    sink(world)
    assert put(world, zone="Europe/Berlin").json()["policies"] == first
    sink(world)
    more = [*first, *policies(timedelta(hours=3))]
    assert [each["refunds"] for each in put(world, policies=more).json()["policies"]] == [
        "goods_and_adjustments",
        "money",
    ]
    sink(world)
    assert put(world, policies=first).status_code == 409
    assert put(world, policies=[]).status_code == 409


WRONG = ("a\\u0000b", "\\ud800", "x" * 101, "", "a\\nb", "a\\u0085b")
_REST = ', ["a", "a", "a", "a", "a"]' * 4
PLACES = (
    f'"grid": [["%s", "a", "a", "a", "a"]{_REST}]',
    '"translations": {"de": {"Loyal": "%s"}}',
    '"translations": {"de": {"%s": "Treu"}}',
    '"translations": {"%s": {}}',
    '"zone": "%s"',
    '"batch_at": "%s"',
    '"%s": 1',
    '"id": "%s"',
    '"rules": [{"points_per_unit": "%s"}]',
)


def test_what_cannot_be_stored_is_told_at_once(world: World) -> None:
    """422 and nothing published, wherever in a program it stands."""
    headers = world.key("admin") | {"Content-Type": "application/json"}
    for place in PLACES:
        for wrong in WRONG:
            body = f'{{"shop": "{SHOP}", "currency": "USD", {place % wrong}}}'.encode()
            answer = world.client.put(PATH, headers=headers, content=body)
            assert answer.status_code == 422, (place, wrong, answer.text)
            assert answer.json()["type"] == "urn:loyalnest:problem:invalid"
    assert world.publisher.messages == []


def test_a_program_is_not_larger_than_the_way_carries(world: World) -> None:
    languages = {f"x{chr(97 + number)}": {"Loyal": "Treu"} for number in range(21)}
    assert put(world, translations=languages).status_code == 422
    name = "\N{GRINNING FACE}" * 98
    names = {f"{name}{number:02}": name for number in range(26)}
    most = dict.fromkeys(list(languages)[:20], names)
    assert put(world, translations=most, grid=[[name] * 5] * 5).status_code == 202
    (message,) = world.publisher.messages
    assert len(message.value) < 1_000_000


# Made from an older program


def test_two_processes_lose_no_rule(worlds: tuple[World, World]) -> None:
    one, other = worlds
    assert put(one).status_code == 202
    seen = etag(other)
    assert put(one, seen, rules=rules(HOUR)).status_code == 202
    late = put(other, seen, rules=rules(2 * HOUR))
    assert late.status_code == 412
    assert late.json()["type"] == "urn:loyalnest:problem:changed-since"
    again = get(other).json()["rules"]
    assert put(other, rules=[*again, *rules(2 * HOUR)[1:]]).status_code == 202
    assert len(get(one).json()["rules"]) == 3
    assert sink(one, other).dead_letters == []
    assert len(get(one).json()["rules"]) == 3


def test_of_many_at_once_from_one_program_one_is_taken(worlds: tuple[World, World]) -> None:
    assert put(worlds[0]).status_code == 202
    seen = etag(worlds[0])
    with ThreadPoolExecutor(8) as several:
        answers = list(
            several.map(lambda n: put(worlds[n % 2], seen, rules=rules(HOUR + n * timedelta(minutes=1))), range(8))
        )
    taken = [answer for answer in answers if answer.status_code == 202]
    assert sorted(answer.status_code for answer in answers) == [202, *[412] * 7]
    assert get(worlds[1]).json() == taken[0].json()


def test_every_rule_that_was_acknowledged_is_there_in_the_end(worlds: tuple[World, World]) -> None:
    """Four callers of two processes append rules, each trying again when somebody else was faster."""
    assert put(worlds[0]).status_code == 202

    def append(caller: int) -> list[str]:
        told = []
        for number in range(3):
            at = (datetime.now(UTC) + HOUR + timedelta(minutes=caller, seconds=number)).isoformat()
            status = 412
            while status == 412:
                before = get(worlds[caller % 2])
                wanted = [*before.json()["rules"], {"effective_from": at, "points_per_unit": "2"}]
                status = put(worlds[caller % 2], {"If-Match": before.headers["ETag"]}, rules=wanted).status_code
            assert status == 202
            told.append(at)
        return told

    with ThreadPoolExecutor(4) as several:
        told = [datetime.fromisoformat(at) for each in several.map(append, range(4)) for at in each]
    for world in worlds:
        found = [rule["effective_from"] for rule in get(world).json()["rules"]]
        assert [datetime.fromisoformat(at) for at in found if at is not None] == sorted(told)
    assert sum(len(world.publisher.messages) for world in worlds) == 13


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 428),
        ({"If-None-Match": '"another"'}, 428),
        ({"If-None-Match": "*"}, 412),
        ({"If-Match": "*"}, 202),
        ({"If-Match": '"another"'}, 412),
        ({"If-Match": "nonsense"}, 412),
        ({"If-Match": ""}, 412),
    ],
)
def test_a_change_names_what_it_was_made_from(world: World, headers: dict[str, str], status: int) -> None:
    assert put(world, {"If-Match": "*"}).status_code == 412, "there is nothing yet"
    assert put(world, {"If-None-Match": "*"}).status_code == 202
    assert put(world, headers, zone="Europe/Berlin").status_code == status
    assert get(world).json()["zone"] == ("Europe/Berlin" if status == 202 else PROGRAM["zone"])


def test_one_of_several_tags_is_enough_and_a_weak_one_is_not(world: World) -> None:
    assert put(world, {}).status_code == 202
    tag = etag(world)["If-Match"]
    assert put(world, {"If-Match": f"W/{tag}"}).status_code == 412
    assert put(world, {"If-Match": f'"another", {tag}'}).status_code == 202


def test_rules_published_a_moment_ago_are_not_lost(world: World) -> None:
    world.program()
    longer = rules(HOUR)
    assert put(world, rules=longer).status_code == 202
    assert put(world, rules=rules(2 * HOUR)).status_code == 409
    assert put(world, rules=[*longer, *rules(2 * HOUR)[1:]]).status_code == 202


def test_what_is_not_durable_is_not_accepted(world: World) -> None:
    world.publisher.failing = True
    assert put(world, {}).status_code == 503
    world.publisher.failing = False
    assert get(world).status_code == 404
    assert put(world, {}, currency="EUR").status_code == 202


# What the history makes of it


def test_what_the_history_has_judged_is_noted_no_longer(world: World) -> None:
    assert put(world, {}).status_code == 202
    assert put(world, zone="Europe/Berlin").status_code == 202
    assert world.sql("SELECT count(*) FROM announcements") == [{"count": 2}]
    sink(world)
    before = get(world).json()
    assert before["zone"] == "Europe/Berlin"
    assert put(world, zone="Asia/Tokyo").status_code == 202
    assert world.sql("SELECT count(*) FROM announcements") == [{"count": 1}]
    sink(world)  # once more from the beginning
    assert get(world).json()["zone"] == "Asia/Tokyo"


def test_a_get_shows_what_the_stream_goes_by(world: World) -> None:
    """Somebody's own record came before ours: what the history refuses of ours is shown no longer."""
    assert put(world, {}, zone="Europe/Berlin").status_code == 202
    theirs = Program(shop=SHOP, currency="JPY").model_dump_json().encode()
    ours = world.publisher.messages.pop()
    world.publisher.messages += [replace(ours, value=theirs), ours]
    (letter,) = sink(world).dead_letters
    assert "other_currency" in letter
    assert (get(world).json()["currency"], get(world).json()["zone"]) == ("JPY", "UTC")
    assert put(world).status_code == 409


def test_what_the_program_was_can_be_read(world: World) -> None:
    put(world)
    put(world, look_back_days=90)
    put(world, look_back_days=30, rules=rules(timedelta(hours=1)))
    sink(world)
    sink(world)  # a replay finds each as it is
    told = world.client.get(f"{PATH}/versions", headers=world.key("read")).json()["versions"]
    assert [each["program"]["look_back_days"] for each in told] == [30, 90, 365]
    assert [len(each["program"]["rules"]) for each in told] == [2, 1, 1]
    assert told[0]["announced_at"] > told[1]["announced_at"] > told[2]["announced_at"]
