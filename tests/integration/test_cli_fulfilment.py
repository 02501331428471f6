"""`loyalnest fulfilment …`: which stores have discounts made, from the shell; a token is never shown."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import main as cli
from tests.integration.api_world import MASTER, OTHER, SHOP, World, opened

TOKEN = "shpat_0123456789"


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


def run(world: World, *words: str, **settings: str) -> Result:
    environment = {
        "LOYALNEST_DATABASE": world.url,
        "LOYALNEST_MASTER_KEY": base64.b64encode(MASTER).decode(),
        "LOYALNEST_DATA_DIR": str(world.services.settings.data),
        **settings,
    }
    result: Result = CliRunner().invoke(cli.command("fulfilment"), ["fulfilment", *words], env=environment)
    return result


def shown(world: World, *words: str) -> list[dict[str, Any]]:
    result = run(world, "show", *words, "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_store_from_its_first_setting_to_its_end(world: World, token: Path) -> None:
    assert "nothing is made in any store" in run(world, "show").stdout
    made = run(world, "set", SHOP, "--token-file", str(token))
    assert made.exit_code == 0, made.output
    assert f"https://{SHOP}/admin/api/2026-10/graphql.json" in made.stdout
    (row,) = world.sql("SELECT token FROM fulfilment_shops")
    assert world.run(world.services.vault.open_token(SHOP, row["token"])) == TOKEN
    (store,) = shown(world)
    assert (store["enabled"], store["waiting"], store["rests_until"]) == (True, 0, None)
    assert shown(world, OTHER) == []
    for said in (made.output, run(world, "show").output, run(world, "show", "--json").output, row["token"]):
        assert TOKEN not in said
    assert run(world, "off", SHOP).stdout == "Off.\n"
    assert shown(world)[0]["enabled"] is False
    assert world.sql("SELECT token FROM fulfilment_shops") == [{"token": None}]
    assert "(off)" in run(world, "show").stdout


def _redeem(world: World, name: str, status: str = "reserved", **work: object) -> None:
    zero = dict.fromkeys(("cost", "seq", "balance", "points"), 0)
    texts = {"customer_id": "7", "reward_id": "x", "revision": "a", "status": status}
    times = dict.fromkeys(("decided_at", "requested_at"), "2026-11-21T09:30:00Z")
    world.insert("redemptions", shop=SHOP, request_id=name, accepted=True, forced=False, **{**zero, **texts, **times})
    if work:
        world.insert("fulfilment_work", shop=SHOP, customer_id="7", request_id=name, **work)


def test_it_shows_how_many_wait_and_why_a_store_rests(world: World, token: Path) -> None:
    run(world, "set", SHOP, "--token-file", str(token))
    at = "2026-11-21T09:30:00Z"
    _redeem(world, "new")
    _redeem(world, "begun", attempts=1)
    _redeem(world, "again", attempts=2, failing_since=at)
    _redeem(world, "untold", attempts=1, outcome="issued")
    _redeem(world, "told, not filed yet", attempts=1, outcome="issued", finished_at=at)
    _redeem(world, "made", "issued", attempts=1, outcome="issued", finished_at=at)
    _redeem(world, "failed", "returned", attempts=1, outcome="failed", finished_at=at)
    _redeem(world, "cancelled", "returned")
    _redeem(world, "withdrawing", "returned", outcome="issued", withdrawal="due")
    _redeem(world, "withdrawn", "returned", outcome="issued", withdrawal="done", finished_at=at)
    world.sql(
        "UPDATE fulfilment_shops SET rests_until = now() + interval '1 hour', rests_why = 'refused',"
        " last_error = 'status 401', failures = 3"
    )
    (store,) = shown(world, "nest")
    wanted = {"waiting": 2, "retried": 1, "untold": 1, "issued": 4, "failed": 1, "withdrawing": 1, "failures": 3}
    assert {name: store[name] for name in wanted} == wanted
    text = run(world, "show").stdout
    assert "2 wait, 1 are tried again, 1 are to be told" in text
    assert "1 were cancelled, and their discounts are to be withdrawn" in text
    assert "set its token anew (status 401)" in " ".join(text.split())
    run(world, "set", SHOP, "--token-file", str(token))
    assert (shown(world)[0]["rests_until"], shown(world)[0]["failures"]) == (None, 0)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("set", "nobody", "--token-file", "TOKEN"), 1, "there is no shop nobody.myshopify.com"),
        (("set", SHOP, "--token-file", "TOKEN", "--endpoint", "http://example.com/"), 1, "no Admin API"),
        (("set", SHOP, "--token-file", "TOKEN", "--endpoint", "https://10.0.0.1/"), 1, "public address"),
        (("set", SHOP, "--token-file", "nowhere"), 1, "holds no token"),
        (("set", SHOP, "--token-file", "EMPTY"), 1, "holds no token"),
        (("set", SHOP, "--token-file", "TWO"), 1, "holds no token"),
        (("set", SHOP), 2, "--token-file"),
        (("off", SHOP), 1, f"nothing is made in {SHOP}"),
    ],
)
def test_what_cannot_be_done_is_said(
    world: World, token: Path, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two").write_text("one two\n")
    files = {"TOKEN": str(token), "EMPTY": str(tmp_path / "empty"), "TWO": str(tmp_path / "two")}
    result = run(world, *[files.get(word, word) for word in words])
    assert result.exit_code == code
    assert says in f"{result.exception} {result.output}"
    assert TOKEN not in f"{result.exception} {result.output}"
    assert world.sql("SELECT 1 FROM fulfilment_shops") == []
