"""Draws what steady.py saw: rate, lag, memory over time. Run by the Python that has matplotlib; imports nothing else.

python draw_steady.py FILE.svg < looks.json
"""

# mypy: disable-error-code="import-not-found"
import json
import sys
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure


def main() -> None:
    looks: list[dict[str, Any]] = json.load(sys.stdin)
    mpl.rcParams["svg.hashsalt"] = "steady"
    figure = Figure(figsize=(9, 7), layout="constrained")
    rate, lag, memory = figure.subplots(3, sharex=True)
    minutes = [look["at"] / 60 for look in looks]
    pairs = list(pairwise(looks))
    rate.plot(minutes[1:], [(b["stored"] - a["stored"]) / (b["at"] - a["at"]) for a, b in pairs], linewidth=0.8)
    rate.set_ylabel("records stored a second")
    lag.plot(minutes, [look["behind"] for look in looks], linewidth=0.8)
    lag.set_ylabel("records not yet stored")
    for name in looks[0]["memory"]:
        memory.plot(minutes, [look["memory"][name] / 2**20 for look in looks], label=name)
    memory.set_ylabel("memory, MiB")
    memory.legend(loc="upper left", ncols=5, frameon=False)
    memory.set_xlabel("minutes")
    for each in (rate, lag, memory):
        each.set_ylim(bottom=0)
        each.grid(alpha=0.3)
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
