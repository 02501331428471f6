"""Segments from the lake beside the ways that analysts usually take, over the same files."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from scripts.bench import lake, peers

OURS: Final = "from the lake"
PANDAS: Final = "pandas, a function a value"
PYMC: Final = "pymc-marketing"


class Way(NamedTuple):
    """Seconds and CPU seconds of one way, files read and all."""

    seconds: float
    cpu: float


def measure(folder: Path, orders: int, rounds: int) -> dict[str, Way]:
    """The median of each, in turns, each in a process of its own."""
    lake.make(folder, orders)
    python, script = str(peers.python_with("usual")), str(Path(__file__).with_name("usual_way.py"))
    words = {
        OURS: [sys.executable, "-m", "scripts.bench.lake", lake.NOW, str(folder)],
        PANDAS: [python, script, "pandas", str(folder)],
        PYMC: [python, script, "pymc", str(folder)],
    }
    found: dict[str, list[Way]] = {name: [] for name in words}
    for _ in range(rounds):
        for name, command in words.items():
            told = json.loads(subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()[-1])
            found[name].append(Way(told["seconds"], told["cpu"]))
    return {name: Way(*(median(each) for each in zip(*ways, strict=True))) for name, ways in found.items()}
