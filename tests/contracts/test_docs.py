"""What the docs say of topics, settings, metrics and commands is what the code says."""

import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer

from cli.main import command
from events import codec, topics

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND: Any = typer.main.get_command(command())
MADE: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "docs.py"))


@pytest.mark.parametrize(("path", "text"), MADE["wanted"]().items(), ids=lambda value: getattr(value, "name", ""))
def test_it_is_current(path: Path, text: str) -> None:
    assert path.exists(), f"{path.name} is missing: run `make docs`"
    assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run `make docs`"


def test_every_topic_has_a_schema_that_is_one() -> None:
    assert set(MADE["MODELS"]) == set(topics.BY_NAME)
    for text in MADE["schemas"]().values():
        jsonschema.Draft202012Validator.check_schema(codec.loads(text.encode()))


def test_no_schema_is_left_over() -> None:
    assert set((ROOT / "docs" / "schemas").glob("*.json")) == set(MADE["schemas"]())


PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
ROOMS = ("events", "tables", "runtime", "books", "imports", "lake", "streams", "batch", "notices", "fulfilment", "api")
SOURCES = sorted(each for room in ROOMS for each in (ROOT / room).rglob("*.py"))

#: Whatever typer says of a wrong command line. (It brings a click of its own.)
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

#: A command as it stands in a sentence or message (between backticks) or on a line of its own (in a fence).
_COMMAND = re.compile(r"`(?:\S*/)?(loyalnest [^`]+)`|^(?:\$ )?(?:\S*/)?(loyalnest .+)$", re.MULTILINE)


def commands_in(text: str) -> list[str]:
    return [" ".join((inline or line).split()) for inline, line in _COMMAND.findall(text)]


def check_command(line: str) -> None:
    """UsageError unless the command line would be taken. Bare of arguments, it may stand for the command."""
    # What stands for a word is one; a file must be there.
    words = shlex.split(line.split(" #")[0].replace("FILE", str(ROOT / "README.md")))[1:]
    command = COMMAND
    words = [word for word in words if word != "--help"]
    while words and hasattr(command, "commands"):
        context = typer.Context(command)
        _, inner, words = command.resolve_command(context, words)
        command = inner
    if words:
        command.make_context(command.name, words)


@pytest.mark.parametrize("page", [*PAGES, *SOURCES], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_it_names_would_be_taken(page: Path) -> None:
    for line in commands_in(page.read_text(encoding="utf-8")):
        try:
            check_command(line)
        except UsageError as error:
            pytest.fail(f"{page.name} names `{line}`: {error}")


@pytest.mark.parametrize(
    "line",
    [
        "loyalnest forget",
        "loyalnest shops forget",
        "loyalnest batch parity --chop nest",
        "loyalnest shops add nest --look-back-days never",
        "loyalnest play FILE",
        "loyalnest keys create nest read",
        "loyalnest demo --once=maybe",
    ],
)
def test_a_command_line_that_would_be_refused_is_noticed(line: str) -> None:
    assert commands_in(f"Type `{line}` now.") == commands_in(f"```\n{line}\n```") == [line]
    with pytest.raises(UsageError):
        check_command(line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_it_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"(?:`|^|&& )make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
