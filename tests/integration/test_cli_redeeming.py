"""`loyalnest points redeem, cancel, redemptions`: from the shell, into the journal as any other input."""

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from cli import main as cli
from events import awards, instants
from events.awards import Body
from events.messages import Message
from tests.integration.api_world import NOW, SHOP, World, opened
from tests.integration.deciding import PROGRAM, Deciding


class Shop:
    """A world in which nothing runs until it is told to."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._stream = Deciding(world.url)
        self._read = 0

    def run(self, *words: str) -> Result:
        environment = {
            "LOYALNEST_DATABASE": self.world.url,
            "LOYALNEST_DATA_DIR": str(self.world.services.settings.data),
        }
        result: Result = CliRunner().invoke(cli.command("points"), ["points", *words], env=environment)
        return result

    def give(self, points: int) -> None:
        at = instants.from_datetime(NOW)
        self._stream.decide([awards.message(SHOP, "7", "gift", Body(at, points, "", "test", False), at)])

    def journal(self) -> list[Message]:
        found = self.world.sql(
            "SELECT stream, key, value FROM raw_events WHERE webhook_id NOT LIKE 'decision/%%' ORDER BY xid, id"
        )
        return [Message(row["stream"], row["key"], row["value"].encode()) for row in found]

    def decide(self) -> None:
        """What is in the journal since is folded and stored."""
        found = self.journal()
        self._stream.decide(found[self._read :])
        self._read = len(self.journal())


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    with opened(database) as running:
        running.program(**PROGRAM)
        yield Shop(running)


def test_redeemed_and_cancelled(shop: Shop) -> None:
    shop.give(15)
    asked = shop.run("redeem", "nest", "7", "ten", "--id", "a")
    assert (asked.exit_code, asked.stdout) == (0, "ten for 10 points of 7, called a: pending.\n"), asked.output
    assert "It takes effect when `loyalnest up` starts" in asked.stderr
    other = shop.run("redeem", "nest", "7", "rare", "--id", "a")
    assert (other.exit_code, "another --id" in str(other.exception)) == (1, True), "it is on its way"
    shop.decide()
    again = shop.run("redeem", "nest", "7", "ten", "--id", "a")
    assert (again.exit_code, again.stdout) == (0, "ten for 10 points of 7, called a: reserved.\n"), again.output
    sent = len(shop.journal())
    assert shop.run("redeem", "nest", "7", "ten", "--id", "b").exit_code == 0
    assert len(shop.journal()) == sent + 1
    shop.decide()
    refused = shop.run("redeem", "nest", "7", "ten", "--id", "b")
    assert (refused.exit_code, str(refused.exception)) == (
        1,
        "refused: it costs 10 points, and 5 could be spent; it is called b",
    )
    gone = shop.run("cancel", "nest", "7", "a", "--reason", "other cart")
    assert (gone.exit_code, gone.stdout) == (0, "a is to be cancelled.\n"), gone.output
    shop.decide()
    assert shop.run("cancel", "nest", "7", "a").stdout == "a is returned (cancelled): it takes no points of 7.\n"
    assert shop.run("cancel", "nest", "7", "b").stdout == "b is refused: it takes no points of 7.\n"


def test_points_that_are_there_are_taken_and_taken_back(shop: Shop) -> None:
    shop.give(15)
    waits = shop.run("adjust", "nest", "7", "-10", "--id", "a", "--check")
    assert (waits.exit_code, waits.stdout) == (0, "To take 10 points from 7, called a.\n"), waits.output
    shop.decide()
    known = shop.run("adjust", "nest", "7", "-10", "--id", "a", "--check").stdout
    assert known == "Nothing to do, it is there already: 10 points from 7, called a.\n"
    other = shop.run("adjust", "nest", "7", "-10", "--id", "a")
    assert (other.exit_code, "another adjustment" in str(other.exception)) == (1, True)
    shop.run("adjust", "nest", "7", "-10", "--id", "b", "--check")
    shop.decide()
    refused = shop.run("adjust", "nest", "7", "-10", "--id", "b", "--check")
    told = "refused: 10 points were to be taken, and 5 could be spent; it is called b"
    assert (refused.exit_code, str(refused.exception)) == (1, told)
    assert shop.run("void", "nest", "7", "b").stdout == "Nothing to do: b was refused.\n"
    shop.run("void", "nest", "7", "a")
    shop.decide()
    assert "a was taken back" in shop.run("void", "nest", "7", "a").stdout
    assert shop.world.sql("SELECT balance FROM customers") == [{"balance": 15}]
    assert shop.run("adjust", "nest", "7", "10", "--check").exit_code == 2
    assert shop.run("redemptions", "nest").stdout == "There are none.\n"


def test_they_are_shown(shop: Shop) -> None:
    assert shop.run("redemptions", "nest").stdout == "There are none.\n"
    shop.give(15)
    for name in ("a", "b"):
        shop.run("redeem", "nest", "7", "ten", "--id", name)
    shop.decide()
    said = shop.run("redemptions", "nest", "7").stdout.splitlines()
    assert [line.split()[2:] for line in said[-3:-1]] == [
        ["7", "b", "ten", "10", "refused", "insufficient-points"],
        ["7", "a", "ten", "10", "reserved"],
    ]
    for words in (("nest", "--status", "reserved"), ("nest", "7", "--status", "reserved")):
        (found,) = json.loads(shop.run("redemptions", *words, "--json").stdout)
        assert (found["request_id"], found["points"]) == ("a", -10)
    assert shop.run("redemptions", "nest", "8").stdout == "There are none.\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("redeem", "nest", "guest-07", "ten"), 2, "no customer's id"),
        (("redeem", "nest", "7", "a b"), 2, "an id is"),
        (("redeem", "nest", "7", "ten", "--id", "a b"), 2, "an id is"),
        (("redeem", "nest", "7", "ten", "--cost", "0"), 2, "--cost"),
        (("redeem", "nest", "7", "none"), 1, "has no reward none"),
        (("redeem", "elsewhere", "7", "ten"), 1, "there is no shop"),
        (("cancel", "nest", "7", "a"), 1, "no redemption called a"),
        (("cancel", "nest", "7", "a", "--reason", "a@b"), 2, "a reason is"),
        (("redemptions", "nest", "--status", "pending"), 2, "--status"),
    ],
)
def test_what_cannot_be_asked_for(shop: Shop, words: tuple[str, ...], code: int, told: str) -> None:
    result = shop.run(*words)
    assert result.exit_code == code, result.output
    assert told in f"{result.output} {result.exception}"
    assert shop.journal() == []
