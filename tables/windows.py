"""Windows: integer arithmetic, and the partial rows that one partition keeps of them.

A window is half-open, [start, start + size). Minutes and hours are UTC; a day is the shop's, so that it may have 23
or 25 hours. An order is filed under its processed_at. Rows are derived from the customers' entries and never kept
in a changelog: a crash cannot part them from what they sum.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from operator import add
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from events import instants, programs

Size = Literal["minute", "hour", "day"]
SIZES: tuple[Size, ...] = ("minute", "hour", "day")

#: How long after its end the stream still writes a window; later changes are the batch's.
RETENTION: dict[Size, int] = {
    "minute": instants.DAY,
    "hour": 35 * instants.DAY,
    "day": 400 * instants.DAY,
}
_FIXED = {"minute": instants.MINUTE, "hour": instants.HOUR}

ORDERS, NET, EARNED, REVERSED, CUSTOMERS, GUEST_ORDERS, GUEST_NET = range(7)
EMPTY = (0, 0, 0, 0, 0, 0, 0)


class Window(NamedTuple):
    """[start, end) in microseconds."""

    size: Size
    start: int
    end: int


def window(size: Size, at: int, zone: ZoneInfo) -> Window:
    """The window of a size that an instant falls into."""
    length = _FIXED.get(size)
    if length is not None:
        start = at - at % length
        return Window(size, start, start + length)
    day = instants.to_datetime(at).astimezone(zone).date()
    return Window(
        size,
        programs.local_midnight(day, zone),
        programs.local_midnight(day + timedelta(days=1), zone),
    )


@lru_cache(maxsize=1 << 14)
def _of_minute(minute: int, zone: ZoneInfo) -> tuple[Window, ...]:
    return tuple(window(size, minute * instants.MINUTE, zone) for size in SIZES)


def windows(at: int, zone: ZoneInfo) -> tuple[Window, ...]:
    """The windows of every size that an instant falls into. All of a minute's instants fall into the same."""
    return _of_minute(at // instants.MINUTE, zone)


def is_open(of: Window, stream_time: int) -> bool:
    """Whether the stream still writes the window at a stream time."""
    return of.end + RETENTION[of.size] > stream_time


class Partial:
    """One partition's part of every open window: (shop, size, start) -> its seven sums."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, Size, int], list[int]] = {}
        self._time: dict[str, int] = {}
        self._pruned: dict[str, int] = {}

    def advance(self, shop: str, now: int) -> None:
        """Stream time of a shop never goes back."""
        if now > self._time.get(shop, 0):
            self._time[shop] = now

    def time(self, shop: str) -> int:
        return self._time.get(shop, 0)

    def add(self, shop: str, of: Window, change: tuple[int, ...]) -> bool:
        """Adds to a window's sums; False, and nothing done, when the stream has let go of it."""
        if not is_open(of, self.time(shop)):
            return False
        key = shop, of.size, of.start
        self._rows[key] = list(map(add, self._rows.get(key, EMPTY), change))
        return True

    def row(self, shop: str, of: Window) -> tuple[int, ...]:
        return tuple(self._rows.get((shop, of.size, of.start), EMPTY))

    def prune(self, zone: Callable[[str], ZoneInfo]) -> None:
        """Forgets windows past their retention, once per shop and hour of stream time."""
        due = {shop for shop, now in self._time.items() if now - self._pruned.get(shop, 0) >= instants.HOUR}
        if not due:
            return
        for shop in due:
            self._pruned[shop] = self._time[shop]
        self._rows = {
            key: row
            for key, row in self._rows.items()
            if key[0] not in due or is_open(window(key[1], key[2], zone(key[0])), self._time[key[0]])
        }
