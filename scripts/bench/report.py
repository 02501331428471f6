"""The figures as Markdown: each beside its floor, and whether it holds."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

TRIED = Path(__file__).resolve().parent / "tried.md"


_PREFACE = (
    "Every figure here is from one run of `make bench`, which writes this file. All of it ran on one machine: clients,"
    " Kafka, PostgreSQL and whatever else the machine was doing. Compare the figures with one another rather than with"
    " those of other machines."
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


def document(facts: Sequence[tuple[str, str]], floors: Sequence[Floor], sections: Sequence[tuple[str, str]]) -> str:
    """The whole of docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        _PREFACE,
        table(("", ""), facts).replace("---:", "---"),
        "## Floors",
        table(("what", "figure", "floor", ""), [floor.cells() for floor in floors]),
    ]
    for title, text in sections:
        parts += [f"## {title}", text]
    return "\n\n".join(parts) + "\n"
