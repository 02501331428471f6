"""Every command explains itself, and every error is one sentence with a non-zero exit code."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli import main as cli
from cli.commands import common, shops
from runtime import kafka
from runtime.settings import Settings

RUN = CliRunner()


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


ALL = dict(_commands(typer.main.get_command(cli.command())))

#: What the command line promises.
PROMISED = {
    *("up", "demo", "play", "worker", "sink", "api", "migrate", "rebuild"),
    *("batch segments", "batch schedule", "batch parity", "topics create", "topics list"),
    *("shops add", "shops list", "programs get", "programs set"),
    *("keys create", "keys list", "keys revoke", "dead-letters list", "dead-letters replay", "privacy export"),
}


def test_the_promised_commands_are_there() -> None:
    assert {" ".join(path) for path in ALL} >= PROMISED


def test_the_first_word_alone_loads_the_same() -> None:
    for word in (path[0] for path in ALL if len(path) == 1):
        found = dict(_commands(typer.main.get_command(cli.command(word))))
        assert {path for path in found if path[:1] == (word,)} == {path for path in ALL if path[:1] == (word,)}


def test_a_process_of_up_does_not_load_what_it_has_no_use_for() -> None:
    code = "import sys; from cli import main; main.command('sink'); print(*sys.modules)"
    code += "; import api.server; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, of_the_api = (line.split() for line in done.stdout.splitlines())
    assert "cli.commands.processes" in loaded
    assert not {"cli.commands.demo", "imports", "batch", "streams", "api"} & {*loaded}
    assert "api.past" in of_the_api
    assert "duckdb" not in of_the_api


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_for_a_new_user(path: tuple[str, ...]) -> None:
    result = RUN.invoke(cli.command(*path[:1]), [*path, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert not [line for line in result.output.splitlines() if len(line) > 80 or "…" in line]
    command = ALL[path]
    assert len(command.help or "") > 12
    assert (command.help or "").strip().split("\n")[0].rstrip().endswith((".", ":"))
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


def _loyalnest(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LOYALNEST_")}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        env={**clean, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("worker",), "needs --kafka"),
        (("sink", "--kafka", "127.0.0.1:9"), "needs --database"),
        (("topics", "create"), "which Kafka?"),
        (("topics", "create", "--kafka", "127.0.0.1:9"), "Kafka cannot be reached"),
        (("shops", "list", "--database", "postgresql://127.0.0.1:9/none"), "the database cannot be reached"),
        (("play", "pyproject.toml", "--shop", "nest"), "no column for the customer"),
        (("rebuild", "--kafka", "127.0.0.1:9"), "which database?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_error_is_one_sentence_and_exit_code_1(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    ended = _loyalnest(*words, LOYALNEST_DATA_DIR=str(tmp_path))
    assert ended.returncode == 1, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1, ended.stderr
    assert ended.stdout == ""


def test_a_kafka_that_is_not_there_is_waited_for_as_long_as_the_caller_likes() -> None:
    with pytest.raises(kafka.TopicError, match="Kafka cannot be reached"):
        kafka.create_topics(Settings(kafka="127.0.0.1:9"), 0.1)


def test_a_wrong_setting_is_named_and_its_value_is_not(tmp_path: Path) -> None:
    ended = _loyalnest("shops", "list", LOYALNEST_DATA_DIR=str(tmp_path), LOYALNEST_PARTITIONS="sesame")
    assert ended.returncode == 1
    assert "LOYALNEST_PARTITIONS" in ended.stderr
    assert "sesame" not in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-command",),
        ("shops", "add"),
        ("play", "no-such-file", "--shop", "nest"),
        ("batch", "segments", "--shop", "nest", "--as-of", "yesterday"),
        ("shops", "add", "not a shop"),
        ("dead-letters", "replay"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(words: tuple[str, ...]) -> None:
    result = RUN.invoke(cli.command(), [*words])
    assert result.exit_code == 2, result.output


def test_debugging_shows_the_traceback(tmp_path: Path) -> None:
    ended = _loyalnest("--debug", "worker", LOYALNEST_DATA_DIR=str(tmp_path))
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_a_shop_has_a_short_name() -> None:
    assert common.shop_name("Nest") == "nest.myshopify.com"
    assert common.shop_name("nest.myshopify.com") == "nest.myshopify.com"


@pytest.mark.parametrize(
    ("text", "means"),
    [("2026-01-31", "2026-01-31T00:00:00+00:00"), ("2026-01-31T01:00:00+01:00", "2026-01-31T00:00:00+00:00")],
)
def test_an_instant_is_a_date_or_has_an_offset(text: str, means: str) -> None:
    assert common.instant(text).isoformat() == means


@pytest.mark.parametrize(
    ("schedule", "shown"),
    [
        ({"batch_at": None}, "never"),
        ({"batch_at": "01:00"}, "01:00"),
        ({"batch_at": "01:00", "batch_weekday": "monday"}, "monday 01:00"),
        ({"batch_at": "00:15", "batch_every": 60}, "every 60 min from 00:15"),
    ],
)
def test_a_shops_list_says_when_its_batch_runs(schedule: dict[str, Any], shown: str) -> None:
    row = {"batch_weekday": None, "batch_every": None, **schedule}
    assert shops._when(row) == shown
