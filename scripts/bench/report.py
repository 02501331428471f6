"""The figures as Markdown: each beside its floor, and whether it holds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

TRIED = Path(__file__).resolve().parent / "tried.md"


_PREFACE = (
    "`make bench` writes this file. Each section is of one run, on the day beneath its title, and all of it ran on one"
    " machine: clients, Kafka, PostgreSQL and whatever else the machine was doing. Compare the figures of a section"
    " with one another, rather than with those of other days or machines."
)


class Floor(NamedTuple):
    """A figure that has a floor, or a ceiling."""

    what: str
    figure: float
    floor: float
    unit: str
    ceiling: bool = False
    digits: int = 0

    @property
    def held(self) -> bool:
        return self.figure < self.floor if self.ceiling else self.figure >= self.floor

    def cells(self) -> tuple[str, str, str, str]:
        bound = "below" if self.ceiling else "at least"
        figure = f"{self.figure:,.{self.digits}f} {self.unit}"
        return self.what, figure, f"{bound} {self.floor:,.{self.digits}f}", "held" if self.held else "**not held**"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|'}{'---:|' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def number(value: float) -> str:
    """Three significant digits: nobody's next run will have the fourth."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def seconds(value: float) -> str:
    return f"{value * 1000:,.0f} ms"


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 95th and 99th percentile."""
    parts = quantiles(values, n=100)
    return median(values), parts[94], parts[98]


class Measured(NamedTuple):
    """A section as it was measured on a day; a floor is its line's cells. `figures`: what others reckon with."""

    title: str
    day: str
    text: str
    floors: Sequence[Sequence[str]]
    figures: Mapping[str, float] = {}


def document(facts: Sequence[tuple[str, str]], sections: Sequence[Measured]) -> str:
    """The whole of docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        _PREFACE,
        table(("", ""), facts).replace("---:", "---"),
        "## Floors",
        table(("what", "figure", "floor", ""), [cells for each in sections for cells in each.floors]),
    ]
    for each in sections:
        parts += [f"## {each.title}", f"*{each.day}*", each.text]
    return "\n\n".join(parts) + "\n"


def read(path: Path) -> dict[str, Measured]:
    """The sections that a file holds, by name; none if it is not there."""
    if not path.exists():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    return {name: Measured(*each) for name, each in kept.items()}


def write(path: Path, sections: Mapping[str, Measured]) -> None:
    """Keeps the sections, for a run that measures some of them anew."""
    path.write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
