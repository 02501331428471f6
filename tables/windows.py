"""Windows: integer arithmetic, and the partial rows that one partition keeps of them.

A window is half-open, [start, start + size). Minutes and hours are UTC; a day is the shop's, so that it may have 23
or 25 hours. A window names its zone: what a day under a zone sums to is a function of the entries and of that zone
alone. An order is filed under its processed_at, an award under its `at`, a redemption under when it was decided. Rows
are derived from the customers' entries and never kept in a changelog: a crash cannot part them from what they sum.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from operator import add
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from events import instants, programs
from events.records import WindowRow
from tables import account as accounts
from tables import contributions, packing

Size = Literal["minute", "hour", "day"]
SIZES: tuple[Size, ...] = ("minute", "hour", "day")

#: How long after its end the stream still writes a window; later changes are the batch's.
RETENTION: dict[Size, int] = {
    "minute": instants.DAY,
    "hour": 35 * instants.DAY,
    "day": 400 * instants.DAY,
}
_FIXED: Final[dict[Size, int]] = {"minute": instants.MINUTE, "hour": instants.HOUR}

#: Before a stream time less this no window is open. (The longest day of any zone has less than two days.)
LONGEST = max(RETENTION.values()) + 2 * instants.DAY

ORDERS, NET, EARNED, REVERSED, CUSTOMERS, GUEST_ORDERS, GUEST_NET, AWARDED, REDEEMED = range(9)
EMPTY = (0, 0, 0, 0, 0, 0, 0, 0, 0)


class Window(NamedTuple):
    """[start, end) in microseconds; a day's zone, UTC for the others."""

    size: Size
    start: int
    end: int
    zone: str


def window(size: Size, at: int, zone: ZoneInfo) -> Window:
    """The window of a size that an instant falls into."""
    length = _FIXED.get(size)
    if length is not None:
        start = at - at % length
        return Window(size, start, start + length, "UTC")
    return _day_of_hour(at // instants.HOUR, zone) or _day(instants.to_datetime(at).astimezone(zone).date(), zone)


@lru_cache(maxsize=1 << 15)
def _day_of_hour(hour: int, zone: ZoneInfo) -> Window | None:
    """The day that every instant of an hour (since the epoch, UTC) falls into; None where the date or the clock changes
    within it."""
    first, last = (
        instants.to_datetime(each).astimezone(zone)
        for each in (hour * instants.HOUR, hour * instants.HOUR + instants.HOUR - 1)
    )
    steady = first.utcoffset() == last.utcoffset() and first.date() == last.date()
    return _day(first.date(), zone) if steady else None


@lru_cache(maxsize=1 << 14)
def _day(day: date, zone: ZoneInfo) -> Window:
    return Window(
        "day",
        programs.local_midnight(day, zone),
        programs.local_midnight(day + timedelta(days=1), zone),
        zone.key,
    )


@lru_cache(maxsize=1 << 14)
def _of_minute(minute: int, zone: ZoneInfo) -> tuple[Window, ...]:
    return tuple(window(size, minute * instants.MINUTE, zone) for size in SIZES)


def windows(at: int, zone: ZoneInfo) -> tuple[Window, ...]:
    """The windows of every size that an instant falls into. All of a minute's instants fall into the same."""
    return _of_minute(at // instants.MINUTE, zone)


def open_at(at: int, zone: ZoneInfo, stream_time: int) -> list[Window]:
    """Of the windows that an instant falls into those that the stream still writes at a stream time.

    As a filter of `windows`, for instants of which each is met once: of most of these the day alone is open.
    """
    found = []
    for size, length in _FIXED.items():
        end = at - at % length + length
        if end + RETENTION[size] > stream_time:
            found.append(Window(size, end - length, end, "UTC"))
    day = window("day", at, zone)
    if is_open(day, stream_time):
        found.append(day)
    return found


def is_open(of: Window, stream_time: int) -> bool:
    """Whether the stream still writes the window at a stream time."""
    return of.end + RETENTION[of.size] > stream_time


def contribution(entry: contributions.Entry | None, guest: bool, debit: bool = False) -> tuple[int, ...]:
    """What an entry adds to a window's sums, distinct customers apart. What an award, or a deduction, has moved counts
    as awarded, above 0 or below; what a redemption has taken as redeemed."""
    if entry is None:
        return EMPTY
    counted, net = entry[contributions.COUNTED], entry[contributions.NET]
    if guest:
        return (0, 0, 0, 0, 0, counted, net, 0, 0)
    earned, taken_back = entry[contributions.EARNED], entry[contributions.REVERSED]
    if entry[contributions.ORDER].isdigit():
        return (counted, net, earned, taken_back, 0, 0, 0, 0, 0)
    points = earned - taken_back
    if accounts.source_of(entry[contributions.ORDER], debit)[0] == "redeem":
        return (0, 0, 0, 0, 0, 0, 0, 0, points)
    return (0, 0, 0, 0, 0, 0, 0, -points if debit else points, 0)


def row(shop: str, of: Window, partition: int, currency: str, values: Sequence[int] | None, fence: int) -> WindowRow:
    """A window's record; without values it says that the window is late."""
    sums = EMPTY if values is None else values
    return {
        "shop": shop,
        "size": of.size,
        "start": instants.text(of.start),
        "zone": of.zone,
        "partition": partition,
        "late": values is None,
        "currency": currency,
        "orders": sums[ORDERS],
        "net": sums[NET],
        "points_earned": sums[EARNED],
        "points_reversed": sums[REVERSED],
        "customers": sums[CUSTOMERS],
        "guest_orders": sums[GUEST_ORDERS],
        "guest_net": sums[GUEST_NET],
        "points_awarded": sums[AWARDED],
        "points_redeemed": sums[REDEEMED],
        "fence": fence,
    }


_ZONE = "#zone"
_zone = lru_cache(maxsize=None)(ZoneInfo)


def zone_key(shop: str) -> str:
    """The key in the customers' table of the zone under which the shop's days stand. No customer's key is like it."""
    return f"{shop}{_ZONE}"


def packed_zone(zone: ZoneInfo) -> bytes:
    """The zone as the table keeps it."""
    return packing.pack([zone.key])


def shop_of_zone_key(key: str) -> str | None:
    """The shop whose zone a key of the customers' table stands for; None for another key."""
    return key.removesuffix(_ZONE) if key.endswith(_ZONE) else None


def standing_zone(table: Mapping[str, bytes], shop: str) -> ZoneInfo | None:
    """The zone under which a shop's days stand in a partition's table; None while it has no entry."""
    kept = table.get(zone_key(shop))
    return None if kept is None else _zone(packing.unpack(kept)[0])


Sums = dict[Window, list[int]]


class _Shop:
    """One shop's windows in one partition, and its stream time (microseconds)."""

    __slots__ = ("pruned", "rows", "time")

    def __init__(self) -> None:
        self.rows: Sums = {}
        self.time = 0
        self.pruned = 0


class Partial:
    """One partition's part of every open window, by shop: its nine sums."""

    def __init__(self) -> None:
        self._shops: dict[str, _Shop] = {}

    def _shop(self, shop: str) -> _Shop:
        found = self._shops.get(shop)
        if found is None:
            found = self._shops[shop] = _Shop()
        return found

    def hear_of(self, shop: str) -> None:
        """The partition holds something of the shop, if only its zone."""
        self._shop(shop)

    def shops(self) -> list[str]:
        """Every shop that the partition has heard of."""
        return list(self._shops)

    def advance(self, shop: str, now: int) -> None:
        """Stream time of a shop never goes back; with each hour of it, windows past their retention are forgotten."""
        found = self._shop(shop)
        if now <= found.time:
            return
        found.time = now
        if now - found.pruned >= instants.HOUR:
            found.pruned = now
            found.rows = {of: sums for of, sums in found.rows.items() if is_open(of, now)}

    def time(self, shop: str) -> int:
        """The shop's stream time (microseconds): the greatest that any customer here has seen."""
        return self._shop(shop).time

    def is_open(self, shop: str, of: Window) -> bool:
        """Whether the stream still writes the shop's window here."""
        return is_open(of, self._shop(shop).time)

    def add(self, shop: str, of: Window, change: Sequence[int]) -> Sequence[int] | None:
        """Adds to a window's sums: what they are now; None, and nothing done, when the stream has let go of it."""
        found = self._shop(shop)
        return add_to(found.rows, of, change) if is_open(of, found.time) else None

    def values(self, shop: str, of: Window) -> tuple[int, ...]:
        """The sums of a window here, zeros where there are none."""
        return tuple(self._shop(shop).rows.get(of, EMPTY))

    def replace_days(self, shop: str, days: Sums) -> None:
        """Puts days, as a new zone has them, in the place of those that the shop had."""
        found = self._shop(shop)
        found.rows = {of: sums for of, sums in found.rows.items() if of.size != "day"} | days


def add_to(rows: Sums, of: Window, change: Sequence[int]) -> list[int]:
    """Adds to a window's sums in a mapping of windows: what they are now."""
    sums = rows[of] = list(map(add, rows.get(of, EMPTY), change))
    return sums
