"""The Makefile's commands find what they import, as `make` starts them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTED = sorted(
    set(re.findall(r"\$\(\w+\)(?:/python)? (-m scripts[\w.]+|scripts/\w+\.py)", (ROOT / "Makefile").read_text()))
)


def test_the_makefile_starts_scripts() -> None:
    assert {"-m scripts.bench", "-m scripts.screenshots", "scripts/docs.py"} <= set(STARTED)


@pytest.mark.parametrize("words", STARTED)
def test_what_make_starts_finds_what_it_imports(words: str) -> None:
    if words.startswith("-m"):
        run = f"import importlib.util, runpy; spec = importlib.util.find_spec({words[3:]!r}); assert spec"
        run += f"; spec.submodule_search_locations or runpy.run_module({words[3:]!r}, run_name='imported')"
    else:  # Python then has the script's folder where it otherwise has the one it is started in
        folder = str(ROOT / words).rpartition("/")[0]
        run = f"import runpy, sys; sys.path[0] = {folder!r}; runpy.run_path({words!r}, run_name='imported')"
    done = subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
