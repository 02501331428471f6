"""What the docs say of topics, settings, metrics and commands is what the code says."""

import re
import runpy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from events import codec, topics
from runtime.cli import app

ROOT = Path(__file__).resolve().parent.parent.parent
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


def commands_in(text: str) -> set[str]:
    return set(re.findall(r"(?:^|`|\s)loyalnest ((?:[a-z][a-z-]* ?){1,2})", text, re.MULTILINE))


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda page: page.name
)
def test_every_command_it_names_exists(page: Path) -> None:
    for words in commands_in(page.read_text(encoding="utf-8")):
        group = words.split()[:1]
        answer = CliRunner().invoke(app, [*group, "--help"])
        assert answer.exit_code == 0, f"{page.name} names `loyalnest {words}`"


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]), ids=lambda page: page.name
)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
