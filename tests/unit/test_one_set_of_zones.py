"""Days are the same on every machine, whatever rules of time zones its system has."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

#: What each process of ours imports something of.
ENTRIES = ["events.programs", "tables.windows", "batch.windows", "lake.cohorts", "api.app", "cli.main"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_systems_rules_are_not_asked(entry: str, tmp_path: Path) -> None:
    """A system whose Berlin lies in Tokyo, and which knows a zone that nobody else does."""
    there = tmp_path / "Europe"
    there.mkdir()
    for name in ("Berlin", "Nowhere"):
        (there / name).write_bytes(files("tzdata.zoneinfo.Asia").joinpath("Tokyo").read_bytes())
    code = (
        f"import {entry}\n"
        "from datetime import datetime\n"
        "from zoneinfo import ZoneInfo\n"
        "print(datetime(2026, 1, 1, tzinfo=ZoneInfo('Europe/Berlin')).utcoffset())\n"
        "try:\n"
        "    ZoneInfo('Europe/Nowhere')\n"
        "except KeyError:\n"
        "    print('refused')\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONTZPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.split() == ["1:00:00", "refused"]
