"""A program changed by options: what is appended takes what it does not name from what holds at its time."""

import json
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
