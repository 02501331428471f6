"""The gates of a run: what each asks, as a range that a number must be in, or why it is not asked this time."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from batch.gates.measuring import Measured
from events.programs import MIN_CUSTOMERS, Bounds

#: Measurements of which there must be none, and what that means.
_NONE: Final = {
    "orders_twice": "no order id stands twice",
    "customers_twice": "no customer id stands twice",
    "amounts_out_of_range": "every amount is 0 to 10^13 minor units",
    "times_out_of_range": "every order's time is of 1970 to 9998",
    "other_currency": "no customer's row is in another currency than the shop's",
    "digits_wrong": "digits are 1 to 5, and Prospects have none",
    "segments_unknown": "every segment is one of the program's, or Prospects",
    "prospects_elsewhere": "who has no order in the look-back is a Prospect, and nobody else",
    "revenue_unaccounted": "the customers' revenue is that of the orders (minor units)",
    "purchases_unaccounted": "the customers' purchases are the orders that count",
    "scored_unaccounted": "the cut points are of all customers who are scored",
    "cut_points_descending": "cut points ascend",
    "cut_points_of_few": "no cut points are made of fewer than 50 customers",
}

#: After so many days without a published run there is no day before to compare with.
_OLD_DAYS: Final = 7.0


class Gate(NamedTuple):
    """What must hold: the value lies within [low, high]; null is no bound. `why` it is not asked, if it is not."""

    name: str
    says: str
    value: float | None
    low: float | None
    high: float | None
    why: str | None = None


class Before(NamedTuple):
    """The newest published run before: its time, and what it measured."""

    as_of: datetime
    measured: Measured
    shares: Mapping[str, float]


def gates(
    measured: Measured,
    shares: Mapping[str, float],
    as_of: datetime,
    bounds: Bounds,
    before: Before | None,
    changed: str | None,
) -> list[Gate]:
    """Every gate of a run. `shares` of the segments in percent; `changed`: why the run before compares with nothing.

    Bounds of drift are for a day: after several without a run they are as many times as wide.
    """
    found = [Gate(name, says, measured[name], 0, 0) for name, says in _NONE.items()]
    unread = 100 * measured["unreadable"] / max(measured["webhooks"], 1)
    found.append(
        Gate("unreadable", "webhooks that cannot be read, in percent of all", unread, 0, bounds.unreadable_percent)
    )
    stale = Gate("stale", "hours from the newest event to the run's time", measured["stale_hours"], None, None)
    if bounds.stale_hours is None:
        found.append(stale._replace(why="the shop sets no bound"))
    else:
        found.append(stale._replace(high=bounds.stale_hours))
    return [*found, *_drifts(measured, shares, as_of, bounds, before, changed)]


def _drifts(
    measured: Measured,
    shares: Mapping[str, float],
    as_of: datetime,
    bounds: Bounds,
    before: Before | None,
    changed: str | None,
) -> Iterator[Gate]:
    names = {
        "sizes": ("the most that a segment's share of all customers moved, in percent points", bounds.sizes_percent),
        "revenue": ("the change of revenue in the look-back, in percent", bounds.revenue_percent),
        "volume": ("the change of the number of orders, in percent", bounds.volume_percent),
    }
    days = 1.0 if before is None else max((as_of - before.as_of).total_seconds() / 86_400, 1.0)
    why = changed
    if before is None:
        why = "no run was published before"
    elif days > _OLD_DAYS:
        why = f"the run before is {days:.0f} days old"
    elif before.measured["customers"] < MIN_CUSTOMERS:
        # So few move by a single order: their drift says nothing.
        why = f"the run before had fewer than {MIN_CUSTOMERS} customers"
    for name, (says, bound) in names.items():
        if before is None or why is not None:
            yield Gate(name, says, None, None, None, why)
        elif name == "sizes":
            both = {*shares, *before.shares}
            moved = [abs(shares.get(each, 0) - before.shares.get(each, 0)) for each in both]
            yield Gate(name, says, max(moved, default=0), 0, bound * days)
        else:
            of = "revenue" if name == "revenue" else "orders"
            then = before.measured[of]
            yield Gate(name, says, 100 * (measured[of] - then) / max(then, 1), -bound * days, bound * days)
