"""`loyalnest batch movement` and `cohorts`: what the API says, from the shell, without a server."""

import json
from collections.abc import Mapping
from typing import Any

from psycopg import Connection
from typer.testing import CliRunner

from cli import main as cli
from lake import filling
from lake.manifest import Lake
from tests import stores
from tests.integration.api_world import World
from tests.integration.test_api_past import PROGRAM, get, text, told
from tests.integration.test_batch import add_program, add_raw


def run(world: World, *words: str) -> str:
    environment: Mapping[str, str] = {
        "LOYALNEST_DATABASE": world.url,
        "LOYALNEST_DATA_DIR": str(world.services.settings.data),
    }
    ended = CliRunner().invoke(
        cli.command("batch"), ["batch", words[0], "--shop", stores.SHOP, *words[1:]], env=environment
    )
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def test_they_are_the_apis(world: World, connection: Connection[Any]) -> None:
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, told(7))
    filling.fill(connection, Lake(world.services.settings.lake))
    headers = world.key("read", shop=stores.SHOP)
    first, second = text(stores.NOW - 10 * stores.DAY), text(stores.NOW)
    answer = get(world, "/segments/movement", headers, from_=first, to=second).json()
    words = ("movement", "--from", first, "--to", second)
    moves = [
        {name: each[name]["amount"] if "revenue" in name else each[name] for name in each} for each in answer["moves"]
    ]
    assert json.loads(run(world, *words, "--json")) == moves
    shown = _lines(run(world, *words))
    assert shown[0].split() == ["previous", "current", "customers", "revenue_before", "revenue_after"]
    assert len(shown) == len(moves) + 2
    assert any(line.split()[0] == "-" for line in shown)

    answer = get(world, "/cohorts", headers, as_of=second).json()
    cells = [
        {"month": each["month"], "size": each["customers"], **cell, "net": cell["net"]["amount"]}
        for each in answer["cohorts"]
        for cell in each["months"]
    ]
    assert cells
    assert json.loads(run(world, "cohorts", "--as-of", second, "--json")) == cells
    assert len(_lines(run(world, "cohorts", "--as-of", second))) == len(cells) + 2


def _lines(shown: str) -> list[str]:
    return [line for line in shown.splitlines() if line.strip()]
