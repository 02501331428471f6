"""`loyalnest points …`: given, taken and taken back from the shell, into the journal as any other input."""

import json
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from typer.testing import CliRunner, Result

from cli import main as cli
from events import plain
from streams.sink import store as sink_store
from streams.sink.rows import Rows
from tables.chunks import Received
from tests.integration.api_world import NOW, SHOP, World, opened


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


def run(world: World, *words: str) -> Result:
    environment = {"LOYALNEST_DATABASE": world.url, "LOYALNEST_DATA_DIR": str(world.services.settings.data)}
    result: Result = CliRunner().invoke(cli.command("points"), ["points", *words], env=environment)
    return result


def journal(world: World) -> list[str]:
    return [row["value"] for row in world.sql("SELECT value FROM raw_events ORDER BY xid, id")]


def sink(world: World) -> None:
    """The sink takes in what is in the journal."""
    rows = Rows(journal=True)
    for row in world.sql("SELECT stream, key, value FROM raw_events ORDER BY xid, id"):
        at = 4_000_000_000_000
        rows.add(Received(row["stream"], 0, 0, at, row["key"].encode(), row["value"].encode()))
    assert not rows.dead_letters
    with psycopg.connect(world.url) as connection:
        sink_store.prepare(connection)
        with connection.transaction(), connection.cursor() as cursor:
            sink_store.write(cursor, rows)


def test_points_given_taken_and_taken_back(world: World) -> None:
    words = ("nest", "7", "50", "--id", "a", "--reason", "birthday", "--at", "2026-11-20", "--earned")
    given = run(world, "adjust", *words)
    assert (given.exit_code, given.stdout) == (0, "Gave 50 points to 7, called a.\n"), given.output
    assert "It takes effect when `loyalnest up` starts" in given.stderr
    (value,) = journal(world)
    assert plain.look(value, "loyalnest.requests") is not None
    assert json.loads(value)["payload"] == {
        "customer_id": "7",
        "award_id": "a",
        "at": "2026-11-20T00:00:00Z",
        "points": 50,
        "reason": "birthday",
        "source": "manual",
        "counts_as_earned": True,
    }
    other = run(world, "adjust", *words[:2], "51", *words[3:])
    assert (other.exit_code, "another --id" in str(other.exception)) == (1, True), "it is on its way"
    sink(world)
    again = run(world, "adjust", *words)
    assert (again.exit_code, "it is there already" in again.stdout) == (0, True), again.output
    taken = run(world, "adjust", "nest", "7", "-30")
    assert (taken.exit_code, taken.stdout[:25]) == (0, "Took 30 points from 7, ca"), taken.output
    assert len(journal(world)) == 2
    assert run(world, "void", "nest", "7", "a").stdout == "Took a back: 50 points of 7.\n"
    sink(world)
    assert "was taken back" in run(world, "void", "nest", "7", "a").stdout
    again = run(world, "adjust", *words)
    assert (again.exit_code, "was taken back" in again.stdout) == (0, True), "and gives nothing any more"
    assert len(journal(world)) == 3
    stands = world.sql("SELECT points, voided_at IS NULL AS stands FROM awards ORDER BY points")
    assert stands == [{"points": -30, "stands": True}, {"points": 50, "stands": False}]
    assert world.sql("SELECT * FROM award_claims WHERE award_id = 'a'") == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("adjust", "nest", "guest-07", "5"), 2, "no customer's id"),
        (("adjust", "nest", "7", "0"), 2, "other than 0"),
        (("adjust", "nest", "7", "five"), 2, "Usage"),
        (("adjust", "nest", "7", "5", "--id", "a b"), 2, "an id is"),
        (("adjust", "nest", "7", "5", "--reason", "a@b"), 2, "a reason is"),
        (("adjust", "nest", "7", "5", "--at", "2199-01-01"), 2, "has been"),
        (("adjust", "nest", "7", "5", "--reasn", "x"), 2, "unexpected"),
        (("adjust", "elsewhere", "7", "5"), 1, "there is no shop"),
        (("adjust", "nest", "8", "5"), 1, "they are 9 now"),
        (("void", "nest", "7", "a"), 1, "no adjustment called a"),
        (("show", "nest", "7"), 1, "has no customer 7"),
    ],
)
def test_what_cannot_be_asked_for(world: World, words: tuple[str, ...], code: int, told: str) -> None:
    world.customer("8", merged_into="9")
    result = run(world, *words)
    assert result.exit_code == code, result.output
    assert told in f"{result.output} {result.exception}"
    assert journal(world) == []


def test_an_account_is_shown(world: World) -> None:
    world.customer("7", balance=-1200, earned=500, spent=1700, expired=0, expires_at=NOW + timedelta(days=9))
    for number, points in enumerate((100, -1700)):
        world.insert(
            "points_transactions",
            posted_at=NOW + timedelta(minutes=number),
            id=f"5f0d4c1e-0000-4000-8000-{number:012d}",
            shop=SHOP,
            customer_id="7",
            source="award" if points > 0 else "deduction",
            source_id=f"a-{number}",
            kind="adjusted",
            points=points,
            revision="a",
            processed_at=NOW,
            via="",
        )
    told = {"shop": SHOP, "customer_id": "7", "zone": "UTC", "points": 5, "fence": 0}
    world.insert("points_expired", day="2100-01-01", at="2100-01-01T00:00:00Z", **told)
    said = run(world, "show", "nest", "7").stdout
    assert "1,200 points are owed" in said
    assert [line.split()[2:] for line in said.splitlines()[-4:-1]] == [
        ["-5", "expired", "expiry", "2100-01-01"],
        ["-1,700", "adjusted", "deduction", "a-1"],
        ["+100", "adjusted", "award", "a-0"],
    ]
    found = json.loads(run(world, "show", "nest", "7", "--json").stdout)
    assert (found["balance"], [each["points"] for each in found["ledger"]]) == (-1200, [-5, -1700, 100])
