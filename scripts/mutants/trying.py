"""Tries mutants: each in a copy of the tree of its own, as many at once as there are cores."""

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from scripts.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = (
    *("events", "tables", "runtime", "books", "imports", "lake"),
    *("streams", "batch", "notices", "fulfilment", "api", "cli"),
    *("sql", "docs", "tests", "pyproject.toml"),
)
#: pytest's exit code where there was no test to run.
NONE = 5

#: A mutant that hangs the tests is noticed too.
SECONDS = 150.0


class Stale(Exception):
    """A mutant that no longer fits the code."""


def copy_tree(to: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy(source, to / name)
    return to


def check_fit(mutants: list[Mutant]) -> None:
    """Stale unless each mutant's text stands exactly once in its file and makes Python of it."""
    for mutant in mutants:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        if (count := text.count(mutant.old)) != 1:
            raise Stale(f"stale mutant {mutant.name!r}: its text stands {count} times in {mutant.file}")
        compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")


def run_tests(tree: Path, tests: tuple[str, ...], seconds: float = SECONDS) -> tuple[int, str]:
    """pytest's exit code and the end of what it said; -1 when it took too long.

    Tests that want the servers of `make servers` are run where there are no others.
    """
    code, said = _pytest(tree, "not server", tests, seconds)
    return _pytest(tree, "server", tests, seconds) if code == NONE else (code, said)


def _pytest(tree: Path, marked: str, tests: tuple[str, ...], seconds: float) -> tuple[int, str]:
    # Plain assertions: which values differed is of no account here, and rewriting them is a fifth of a short run.
    arguments = ["-q", "-x", "-p", "no:cacheprovider", "--assert=plain", "-m", marked, "--hypothesis-seed=1", *tests]
    environment = {
        **os.environ,
        "LOYALNEST_TEST_SHRINK": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / ".hypothesis"),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"still running after {seconds:.0f} s"
    return done.returncode, "\n".join((done.stdout or done.stderr).strip().splitlines()[-12:])


def try_mutant(trees: "queue.Queue[Path]", mutant: Mutant) -> tuple[str, float]:
    """`noticed`, `survived`, or what went wrong; and the seconds it took."""
    started = time.monotonic()
    tree = trees.get()
    file = tree / mutant.file
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        code, said = run_tests(tree, mutant.tests)
    finally:
        file.write_text(text, encoding="utf-8")
        trees.put(tree)
    # 1: tests failed. Anything else (2: nothing could be collected) says nothing about the tests.
    verdict = {1: "noticed", -1: "noticed (hung)", 0: "survived"}.get(code, f"broken: {said}")
    return verdict, time.monotonic() - started


def run(mutants: list[Mutant], console: Console) -> dict[str, tuple[str, float]]:
    jobs = min(4, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="loyalnest-mutants-") as folder:
        trees: queue.Queue[Path] = queue.Queue()
        for number in range(jobs):
            (Path(folder) / str(number)).mkdir()
            trees.put(copy_tree(Path(folder) / str(number)))
        tree = trees.get()
        tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        console.print(f"{len(tests)} files of tests, or single ones, unbroken ...")
        code, said = run_tests(tree, tests, SECONDS * len(tests))
        trees.put(tree)
        if code != 0:
            raise Stale(f"the tests do not pass on the unbroken code:\n{said}")
        found: dict[str, tuple[str, float]] = {}
        with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(jobs) as pool:
            task = progress.add_task("mutants", total=len(mutants))

            def one(mutant: Mutant) -> None:
                found[mutant.name] = try_mutant(trees, mutant)
                progress.advance(task)

            list(pool.map(one, mutants))
    return found
