"""RFM: a customer's values as of t, and the digits, score and segment they make under cut points."""

from bisect import bisect_left
from functools import lru_cache

from msgspec import Struct

from events import instants
from events.programs import PROSPECTS, CutPoints, Program
from events.records import Standing


class Values(Struct, frozen=True):
    """A customer's values as of t over the look-back; recency None for a Prospect.

    Recency in whole days, frequency in orders, monetary in minor units.
    """

    recency: int | None
    frequency: int
    monetary: int


def recency_days(t: int, latest: int) -> int:
    """Whole days of 86,400 UTC seconds between an order's second and t's (instants in microseconds)."""
    return (t - latest) // instants.DAY


def digits(values: Values, cut_points: CutPoints) -> tuple[int, int, int]:
    """(R, F, M), 5 best. The number of thresholds strictly below a value decides, so equals get equal digits."""
    assert values.recency is not None
    return (
        5 - bisect_left(cut_points.recency, values.recency),
        1 + bisect_left(cut_points.frequency, values.frequency),
        1 + bisect_left(cut_points.monetary, values.monetary),
    )


def score(r: int, f: int, m: int) -> str:
    """0.4 R + 0.3 F + 0.3 M: with whole digits always exact to one decimal."""
    tenths = 4 * r + 3 * f + 3 * m
    return f"{tenths // 10}.{tenths % 10}"


def segment(r: int, f: int, m: int, program: Program) -> str:
    """The segment's name in the program's grid, by R and FM = (F + M) / 2 rounded half up."""
    return program.grid[5 - r][5 - (f + m + 1) // 2]


@lru_cache(maxsize=5**3)
def _told(r: int, f: int, m: int) -> tuple[str, str]:
    """The score of digits, and the segment's id."""
    return score(r, f, m), f"seg_{r}{f}{m}"


def standing(values: Values, cut_points: CutPoints, program: Program) -> Standing:
    """Digits, score and segment of the values; without digits for a Prospect."""
    if values.recency is None:
        return {
            "r": None,
            "f": None,
            "m": None,
            "score": None,
            "segment_id": "seg_000",
            "segment": PROSPECTS,
            "cut_points_version": cut_points.version,
        }
    r, f, m = digits(values, cut_points)
    scored, segment_id = _told(r, f, m)
    return {
        "r": r,
        "f": f,
        "m": m,
        "score": scored,
        "segment_id": segment_id,
        "segment": segment(r, f, m, program),
        "cut_points_version": cut_points.version,
    }
