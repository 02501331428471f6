"""What every section is asked with, and what it gives."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.bench.report import Floor


class Options(NamedTuple):
    orders: int
    rounds: int
    history: int  # orders of the one customer
    webhooks: int
    seconds: float  # at RATE orders a second
    busy: float  # seconds at BUSY orders a second
    steady: float  # seconds at STEADY orders a second
    mixed: int  # webhooks of a store's topics
    past: int  # orders of the file that is brought in
    lake: int  # orders of the large shop
    exported: int  # customers of the CSV
    demo: int  # customers of the demo store
    calls: int  # how often each of the dashboard's is asked
    usual: int = 0  # orders that others work out as well; 0: not asked
    quix: bool = False  # and the others that are installed apart
    output: Path | None = None
    only: Sequence[str] = ()  # names of SECTIONS; none: all of them


class Section(NamedTuple):
    """What a section tells; `figures` are what others reckon with, by names of their own."""

    title: str
    text: str
    floors: list[Floor]
    figures: Mapping[str, float] = {}


def say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr, flush=True)
