"""A program changed by options: what is appended takes what it does not name from what holds at its time."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import main as cli

RUN = CliRunner()
FIRST = {"effective_from": None, "refunds": "goods_and_adjustments", "taxes": "as_priced"}


@pytest.fixture
def run(database: str, tmp_path: Path) -> Any:
    def run(*words: str, code: int = 0) -> str:
        result = RUN.invoke(cli.command(), [*words, "--database", database, "--data", str(tmp_path)])
        assert result.exit_code == code, result.output
        return result.output

    return run


def policies(run: Any) -> Any:
    return json.loads(run("programs", "get", "nest"))["policies"]


def test_a_new_shop_and_what_is_appended(run: Any) -> None:
    run("shops", "add", "nest")
    assert policies(run) == [FIRST]
    run("programs", "set", "nest", "--taxes", "excluded", "--from", "2098-01-01T00:00:00Z")
    run("programs", "set", "nest", "--refunds", "money", "--from", "2099-01-01T00:00:00Z")
    later = {"effective_from": "2098-01-01T00:00:00Z", "refunds": "goods_and_adjustments", "taxes": "excluded"}
    last = {"effective_from": "2099-01-01T00:00:00Z", "refunds": "money", "taxes": "excluded"}
    assert policies(run) == [FIRST, later, last]
    run("programs", "set", "nest", "--zone", "Europe/Berlin")
    assert policies(run) == [FIRST, later, last]


def test_what_cannot_be_appended(run: Any) -> None:
    run("shops", "add", "nest", "--refunds", "goods", "--taxes", "excluded")
    assert policies(run) == [{"effective_from": None, "refunds": "goods", "taxes": "excluded"}]
    for words in (
        ("--refunds", "money"),
        ("--from", "2099-01-01T00:00:00Z"),
        ("--refunds", "all", "--from", "2099-01-01"),
    ):
        run("programs", "set", "nest", *words, code=2)
    run("programs", "set", "nest", "--refunds", "money", "--from", "now", code=1)


def test_a_file_that_says_nothing_of_policies_keeps_them(run: Any, tmp_path: Path) -> None:
    run("shops", "add", "nest")
    program = json.loads(run("programs", "get", "nest"))
    file = tmp_path / "program.json"
    file.write_text(json.dumps({name: value for name, value in program.items() if name != "policies"}))
    run("programs", "set", "nest", str(file), "--batch-at", "02:00")
    assert policies(run) == [FIRST]


def entries(run: Any, field: str) -> Any:
    return json.loads(run("programs", "get", "nest"))[field]


SOON, LATER, LAST = "2098-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


def test_a_hold_and_a_life_of_points_are_appended(run: Any) -> None:
    run("shops", "add", "nest", "--hold-days", "7", "--life-days", "365")
    run("programs", "hold", "nest", "--days", "14", "--from", SOON)
    run("programs", "expiry", "nest", "--days", "0", "--from", SOON)
    run("programs", "expiry", "nest", "--days", "90", "--calendar", "year", "--from", LATER)
    assert entries(run, "holds") == [
        {"effective_from": None, "hold_days": 7},
        {"effective_from": SOON, "hold_days": 14},
    ]
    assert entries(run, "expiry") == [
        {"effective_from": None, "life_days": 365, "calendar": "day"},
        {"effective_from": SOON, "life_days": None, "calendar": "day"},
        {"effective_from": LATER, "life_days": 90, "calendar": "year"},
    ]
    run("programs", "set", "nest", "--zone", "Europe/Berlin")
    assert len(entries(run, "expiry")) == 3


def test_how_long_a_customer_may_be_inactive_is_appended_in_place_of_a_life(run: Any) -> None:
    run("shops", "add", "nest", "--inactive-days", "365")
    run("programs", "expiry", "nest", "--inactive-days", "180", "--from", SOON)
    run("programs", "expiry", "nest", "--days", "0", "--from", LATER)
    assert entries(run, "expiry") == [
        {"effective_from": None, "inactive_days": 365},
        {"effective_from": SOON, "inactive_days": 180},
        {"effective_from": LATER, "life_days": None, "calendar": "day"},
    ]
    run("programs", "expiry", "nest", "--days", "90", code=1)
    run("programs", "expiry", "nest", code=1)
    run("programs", "expiry", "nest", "--days", "90", "--inactive-days", "90", code=1)
    run("programs", "expiry", "nest", "--inactive-days", "90", "--calendar", "year", code=1)
    run("shops", "add", "other", "--life-days", "90", "--inactive-days", "90", code=1)
    assert len(entries(run, "expiry")) == 3


@pytest.mark.parametrize(
    ("words", "least", "most"),
    [
        (("hold", "nest", "--days", "3"), timedelta(minutes=15), timedelta(minutes=17)),
        (("expiry", "nest", "--days", "3"), timedelta(days=30), timedelta(days=30, minutes=2)),
    ],
)
def test_without_a_time_it_takes_effect_as_soon_as_it_may(
    run: Any, words: tuple[str, ...], least: timedelta, most: timedelta
) -> None:
    run("shops", "add", "nest")
    before = datetime.now(UTC)
    run("programs", *words)
    after = datetime.now(UTC)
    (found,) = entries(run, {"hold": "holds"}.get(words[0], words[0]))
    assert before + least <= datetime.fromisoformat(found["effective_from"]) <= after + most


def test_a_reward_is_added_changed_and_ended(run: Any) -> None:
    run("shops", "add", "nest")
    said = ("--cost", "500", "--kind", "amount", "--value", "10", "--name", "10 off", "--name-in", "de=10 weniger")
    more = ("--min-order", "50", "--limit", "1/30", "--valid-days", "90", "--unused", "return", "--on-void", "keep")
    run("programs", "reward", "nest", "ten-off", *said, *more, "--from", SOON)
    run("programs", "reward", "nest", "ten-off", "--cost", "600", "--name-in", "fr=10 de moins", "--from", LATER)
    run("programs", "end-reward", "nest", "ten-off", "--at", LAST)
    first, dearer, ended = entries(run, "rewards")
    assert first == {
        "reward_id": "ten-off",
        "effective_from": SOON,
        "until": None,
        "cost": 500,
        "kind": "amount",
        "value": "10",
        "product_id": None,
        "min_order": "50",
        "limit": {"count": 1, "days": 30},
        "valid_days": 90,
        "unused": "return",
        "on_void": "keep",
        "name": "10 off",
        "names": {"de": "10 weniger"},
    }
    names = {"de": "10 weniger", "fr": "10 de moins"}
    assert dearer == first | {"effective_from": LATER, "cost": 600, "names": names}
    assert ended == dearer | {"effective_from": LAST, "until": LAST}
    listed = json.loads(run("programs", "rewards", "nest", "--json"))
    assert listed == [first, dearer | {"until": LAST}], "both are to come"
    assert "ten-off" in run("programs", "rewards", "nest")


def test_a_reward_of_another_kind_is_not_worth_what_it_was(run: Any) -> None:
    run("shops", "add", "nest")
    said = ("--cost", "500", "--kind", "amount", "--value", "10", "--name", "Off")
    run("programs", "reward", "nest", "off", *said, "--from", SOON)
    run("programs", "reward", "nest", "off", "--kind", "shipping", "--from", LATER)
    assert [(each["kind"], each["value"]) for each in entries(run, "rewards")] == [("amount", "10"), ("shipping", None)]


def test_what_of_a_reward_is_refused(run: Any) -> None:
    run("shops", "add", "nest")
    assert run("programs", "rewards", "nest").startswith("No rewards yet")
    run("programs", "reward", "nest", "ten-off", "--cost", "500", code=1)
    run("programs", "end-reward", "nest", "ten-off", code=1)
    said = ("--cost", "500", "--kind", "amount", "--value", "10", "--name", "10 off")
    run("programs", "reward", "nest", "ten-off", *said, "--from", "now", code=1)
    run("programs", "reward", "nest", "ten-off", *said, "--limit", "1", code=2)
    run("programs", "reward", "nest", "ten-off", *said, "--name-in", "de", code=2)
    run("programs", "expiry", "nest", "--days", "1", "--from", "now", code=1)
    run("programs", "hold", "other", "--days", "1", code=1)
    assert entries(run, "rewards") == []
