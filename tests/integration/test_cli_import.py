"""`loyalnest import` as it is typed: what it says for people, and what for programs."""

import base64
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from cli.main import command
from tests import stores
from tests.integration.api_world import MASTER
from tests.integration.test_batch import add_program

#: An export of orders: without ids and offsets, which is said of it, and with a line that cannot be read.
HEADER = "Name,Email,Financial Status,Currency,Subtotal,Created at\n"
DOUBTFUL = "#1,a@example.com,paid,USD,10.00,2026-01-05 10:00:00\n"
WRONG = "#2,a@example.com,paid,USD,many,2026-01-05 10:00:00\n"
NOTES = {"no_id": 2, "no_offset": 2}


@pytest.fixture
def typed(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LOYALNEST_MASTER_KEY", base64.b64encode(MASTER).decode())
    with psycopg.connect(database, autocommit=True) as connection:
        add_program(connection, stores.SHOP, currency="USD")

    def type_(*words: str) -> Result:
        where = ("--shop", stores.SHOP, "--database", database, "--data", str(tmp_path / "data"))
        found = CliRunner().invoke(command("import"), ["import", *words, *where])
        assert found.exit_code == 0, found.exception
        return found

    return type_


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(HEADER + DOUBTFUL + WRONG)
    return path


def test_what_is_doubtful_is_said_of_a_small_file_too(typed: Any, file: Path) -> None:
    tried, done, listed = (typed(*words).stdout for words in ((str(file), "--dry-run"), (str(file),), ("list",)))
    for said in (tried, done, listed):
        told = " ".join(said.split())
        assert "2 orders have no Id" in told
        assert "2 times have no UTC offset" in told
    assert json.loads(typed("list", "--json").stdout)[0]["notes"] == NOTES


def test_json_is_all_that_stands_on_stdout(typed: Any, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(HEADER + DOUBTFUL.replace("#1", "#3"))
    typed(str(other))
    done = typed(str(file), "--json")
    [found] = json.loads(done.stdout)
    assert (found["file"], found["status"], found["orders"], found["rejected"]) == ("orders.csv", "done", 1, 1)
    assert found["notes"] == NOTES
    assert "1 line could not be read" in done.stderr
    again = json.loads(typed(str(file), str(other), "--json").stdout)
    assert {each["file"] for each in again} == {"orders.csv", "other.csv"}


def test_what_could_not_be_read_last_time_is_not_told_of_this_time(typed: Any, file: Path) -> None:
    rejected = file.with_name("orders.csv.rejected.csv")
    for words in ((), ("--dry-run",)):
        file.write_text(HEADER + WRONG + "\n" * len(words))
        typed(str(file), *words)
        assert rejected.exists()
        file.write_text(HEADER + DOUBTFUL + "\n" * len(words))
        typed(str(file), *words)
        assert not rejected.exists()


def test_an_empty_lake_says_what_to_do(tmp_path: Path) -> None:
    found = CliRunner().invoke(command("lake"), ["lake", "status", "--data", str(tmp_path)])
    assert found.exit_code == 0, found.exception
    assert "`loyalnest lake fill`" in found.output
