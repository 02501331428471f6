"""What ran out of a customer's points, by day of the shop's zone: what was told of it, and what has to be told.

The points of a day are a function of the facts and of `now` (tables/account.py: `running_out`). What was told of each
day is kept in an ordered tree. After each record two things are told: the days that have come about since, and of the
days told before those that are another number now. These are looked for from the earliest day on that something filed
may have changed, up to where what was told is right again: so a long history costs nothing.

A replay after a crash meets the records of the account log in the same order, but time, which other topics tell as
well, at another moment among them. Of a day that has come about it may therefore have told something before the crash
that it comes to nothing of now. So each day on which points end is told as it comes about, be it that none of them were
left; from then on its number follows from the account log alone, and every change of it is told again in a replay.
"""

from collections.abc import Iterator
from datetime import date
from heapq import merge
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from typing_extensions import TypedDict

from events import instants
from events.programs import local_midnight
from events.records import PointsExpired
from tables import account as accounts
from tables import contributions
from tables.account import Account
from tables.contributions import EARNED, PROCESSED, REVERSED, Entry, Node, Nodes
from tables.reference import ShopReference

#: A day: its number, date.toordinal(). Before all days is 0.
Day = int

_END: Final = 1 << 62


class Told(TypedDict):
    """What was told of a customer's days: whose days they are, up to which instant all are told, and the points of each
    under its number. Of a day that is not there 0 was told, or nothing."""

    zone: str
    until: int
    days: Node


class Moved(NamedTuple):
    """What was filed may have changed the days told from `first` on. At the end of `last` it had made what would have
    run out, less what was taken, `shift` points more."""

    first: Day
    last: Day
    shift: int


def listed(told: Told | None) -> list[Any] | None:
    """What was told, as it is kept."""
    return None if told is None else [told["zone"], told["until"], contributions.listed(told["days"])]


def of_list(kept: list[Any] | None) -> Told | None:
    """What was `listed`."""
    return None if kept is None else {"zone": kept[0], "until": kept[1], "days": contributions.of_list(kept[2])}


def moved(
    told: Told, shop: ShopReference, home: int, before: Entry | None, after: Entry, debit: bool, known: Moved | None
) -> Moved | None:
    """`known`, and what an entry at a home that is another than before moves of the days that were told."""
    points = _points(after) - _points(before)
    first = last = home if debit else shop.terms.runs_out(home)
    if shop.terms.by_inactivity:  # it may let live on what was there before, as long as its own life
        first, last = home, max(shop.terms.runs_out(home), shop.terms.spendable_from(home))
        if not points and contributions.acts(after) == (before is not None and contributions.acts(before)):
            return known
    elif not points:
        return known
    if first > told["until"]:
        return known
    day, last_day = _day(first, shop.zone), _day(min(last, told["until"]), shop.zone)
    shift = -points if debit else points
    if known is None:
        return Moved(day, last_day, shift)
    return Moved(min(known.first, day), max(known.last, last_day), known.shift + shift)


def told_now(
    nodes: Nodes,
    tree: Node,
    account: Account | None,
    told: Told | None,
    shop: ShopReference,
    now: int,
    expired: int,
    change: Moved | None,
) -> tuple[Told | None, dict[Day, int]]:
    """What is told of the days up to `now` from here on, and the points of those that have to be told.

    `told` is None where nothing ever was. `expired` is what has run out in all.
    """
    zone = shop.zone.key
    if told is not None and (told["zone"], told["until"]) == (zone, now) and change is None:
        return told, {}
    known = told or Told(zone=zone, until=-1, days=contributions.empty())
    walk = _Walk(nodes, tree, account, known, shop, now)
    # Days of another zone are other stretches of time: all are told anew.
    differ = walk.differing(expired, change) if known["zone"] == zone else None
    if differ is None:
        differ = {day: points for day, _, points, _ in _Walk(nodes, tree, account, known, shop, now).days(0, -1)}
    if told is None and not differ:
        return None, differ
    days = known["days"]
    for day, points in differ.items():
        if points or contributions.find(nodes, days, day, "") is not None:
            days = contributions.put(nodes, days, [day, "", "", 0, points, 0, 0, 1])
    return {"zone": zone, "until": now, "days": days}, differ


class _Walk:
    """The days as they were told and as they are, side by side."""

    def __init__(
        self, nodes: Nodes, tree: Node, account: Account | None, told: Told, shop: ShopReference, now: int
    ) -> None:
        self._nodes, self._tree, self._account, self._told = nodes, tree, account, told
        self._shop, self._now = shop, now
        self._shifted = 0  # how much more has run out than was told, up to the day that was looked at last

    def differing(self, expired: int, change: Moved | None) -> dict[Day, int] | None:
        """The points of the days that have to be told; None where what was told before is not to be relied on."""
        differ: dict[Day, int] = {}
        until = self._told["until"]
        newest, total = _day(until, self._shop.zone), self._told_before(_END)
        if change is not None:
            self._restate(change, newest, differ)
        if total + self._shifted != expired or next(self._ending(until), None) is not None:
            for day, was, points, came in self.days(newest, until):
                if came or points != was:
                    differ[day] = points
                    self._shifted += points - was
        # A program that was heard of late may have moved any day; nothing else does.
        return differ if total + self._shifted == expired else None

    def _restate(self, change: Moved, newest: Day, differ: dict[Day, int]) -> None:
        """The days before the newest that a change has changed."""
        for day, was, points, _ in self.days(change.first, self._now):
            if day >= newest:
                return
            if points != was:
                differ[day] = points
                self._shifted += points - was
            # As much more has run out as could: what is left is what it was, and so is all that comes of it.
            if day >= change.last and self._shifted == change.shift:
                return

    def days(self, first: Day, after: int) -> Iterator[tuple[Day, int, int, bool]]:
        """Each day from `first` on, in order, that was told with points, that has any, or on which after an instant
        some end: its number, what was told, what is, and whether it is one of the last."""
        begins = local_midnight(date.fromordinal(first), self._shop.zone) if first else 0
        before = self._told_before(first) + self._shifted
        kept = contributions.entries(self._nodes, self._told["days"], first)
        told = ((entry[PROCESSED], 0, _points(entry)) for entry in kept)
        came = ((_day(at, self._shop.zone), 2, 1) for at in self._ending(after))
        for day, several in groupby(merge(told, self._true(begins - 1, before), came), key=itemgetter(0)):
            points = [0, 0, 0]
            for _, which, of in several:
                points[which] += of
            if any(points):
                yield day, points[0], points[1], points[2] > 0

    def _true(self, after: int, before: int) -> Iterator[tuple[Day, int, int]]:
        terms = self._shop.terms
        for at, by_then in accounts.running_out(
            self._nodes, self._tree, self._account, terms, after, before, self._now
        ):
            yield _day(at, self._shop.zone), 1, by_then - before
            before = by_then

    def _ending(self, after: int) -> Iterator[int]:
        return accounts.ending(self._nodes, self._tree, self._account, self._shop.terms, after, self._now)

    def _told_before(self, day: Day) -> int:
        return contributions.sums(self._nodes, self._told["days"], 0, day).points


def records(shop: str, customer_id: str, zone: ZoneInfo, differ: dict[Day, int], fence: int) -> Iterator[PointsExpired]:
    """The days as they are told."""
    for day, points in sorted(differ.items()):
        named = date.fromordinal(day)
        yield {
            "type": "points.expired",
            "shop": shop,
            "customer_id": customer_id,
            "day": named.isoformat(),
            "zone": zone.key,
            "at": instants.text(local_midnight(named, zone)),
            "points": points,
            "fence": fence,
        }


def _points(entry: Entry | None) -> int:
    return 0 if entry is None else int(entry[EARNED]) - int(entry[REVERSED])


def _day(at: int, zone: ZoneInfo) -> Day:
    return instants.to_datetime(at).astimezone(zone).date().toordinal()
