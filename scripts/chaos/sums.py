"""What a customer's points must come to, lot by lot.

Nothing of the project is imported here, midnights neither: what it has wrong must not be wrong here too.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

ZONE: Final = "Europe/Berlin"
HOLD: Final = timedelta(days=1)
LIFE: Final = timedelta(days=4)


class Purse(NamedTuple):
    """Points, as a row of customers has them."""

    balance: int
    pending: int
    expired: int
    earned: int
    spent: int


class Points(NamedTuple):
    """So many, at a time."""

    at: datetime
    points: int


def purse(orders: list[Points], given: list[Points], taken: list[Points], at: datetime) -> Purse:
    """By first in, first out, with what is owed paid before all; of what had happened by then."""
    lots = sorted(each for each in (*orders, *given) if each.at <= at and each.points)
    taken = sorted(each for each in taken if each.at <= at)
    # When, what and of which: at one instant a lot runs out, then one can be spent, then points are taken.
    happens = [(midnight_after(lot.at + HOLD + LIFE), 0, number) for number, lot in enumerate(lots)]
    happens += [(lot.at + HOLD, 1, number) for number, lot in enumerate(lots)]
    happens += [(each.at, 2, number) for number, each in enumerate(taken)]
    left, owed, expired = dict[int, int](), 0, 0
    for when, what, number in sorted(happens):
        if when > at:
            break
        if what == 0:
            expired += left.pop(number)
        elif what == 1:
            left[number] = lots[number].points
        else:
            owed += taken[number].points
        for lot in sorted(left):
            paid = min(left[lot], owed)
            left[lot], owed = left[lot] - paid, owed - paid
    pending = sum(lot.points for lot in lots if lot.at + HOLD > at)
    return Purse(sum(left.values()) - owed, pending, expired, summed(orders, at), summed(taken, at))


def summed(found: Iterable[Points], at: datetime) -> int:
    return sum(each.points for each in found if each.at <= at)


def midnight_after(at: datetime) -> datetime:
    """The first local midnight after an instant."""
    local = at.astimezone(ZoneInfo(ZONE))
    return datetime.combine(local.date() + timedelta(days=1), datetime.min.time(), local.tzinfo).astimezone(at.tzinfo)
