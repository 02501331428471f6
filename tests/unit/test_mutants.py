"""The mutants of `make mutants` fit the code as it stands; whether the tests notice them takes minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.mutants import MUTANTS
from scripts.mutants.mutant import Mutant
from scripts.mutants.trying import ROOT, Stale, check_fit


def test_every_mutant_fits_the_code() -> None:
    check_fit(MUTANTS)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_no_mutant_asks_for_a_name_that_is_not_there(tmp_path: Path) -> None:
    """Any test would notice that, whatever it is about."""
    for number, mutant in enumerate(MUTANTS):
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        (tmp_path / f"{number}.py").write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    select = ["--isolated", "--no-cache", "--select", "F821,F822,F823", "--output-format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *select, str(tmp_path)], capture_output=True, text=True, check=False
    )
    found = [(MUTANTS[int(Path(each["filename"]).stem)].name, each["message"]) for each in json.loads(done.stdout)]
    assert found == []


def test_every_mutant_names_tests_that_are_there() -> None:
    for mutant in MUTANTS:
        assert mutant.tests
        for test in mutant.tests:
            file, _, name = test.partition("::")
            assert Path(ROOT / file).is_file()
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8") if name else True


def test_a_mutant_that_no_longer_fits_is_told() -> None:
    with pytest.raises(Stale, match=r"stale mutant 'gone'.* 0 times"):
        check_fit([Mutant("gone", "events/money.py", "text that nobody wrote", "", ())])
