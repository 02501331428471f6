"""The history of standings out of the customers' rows: a pure function of what is stored and of the rows that come.

A row is absolute; an rfm.updated record is a change, and one that left just before a crash may never come about again,
when topics interleave otherwise in the replay. So the history is made of rows: whatever a replay repeats or tells
otherwise, its last change leads to the standing that the row holds, and each change begins where the one before ended.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from events import instants
from events.records import Standing
from tables.ids import change_id

#: (shop, customer_id)
Key = tuple[str, str]

#: Closer than this to the stored `now` (microseconds), a row may meet changes that were moved on: see `follow`.
NEAR: Final = 1000


class Told(Struct, frozen=True):
    """What a row says of a customer as of `now` (microseconds): standing and values, and what brought it about."""

    fence: int
    now: int
    standing: Standing
    recency_days: int | None
    frequency: int
    monetary: int
    cause: str


class Change(NamedTuple):
    """A change of standing at an instant (microseconds). `told` is None for one that is stored already."""

    at: int
    id: str
    previous: Standing | None
    standing: Standing
    told: Told | None = None


class Path(NamedTuple):
    """Where a customer's history has come to: fence and `now` of their stored row, and the changes to go on from."""

    fence: int
    now: int
    changes: Sequence[Change]


def at_rest(fence: int, now: int, standing: Standing) -> Path:
    """The path of a customer of whose stored changes nothing need be read."""
    return Path(fence, now, [Change(0, "", None, standing)])


def read_from(path: Path, rows: Iterable[Told]) -> int | None:
    """The instant from which on the stored changes must be read, with the one before; None: from none.

    Such a row says something else of the stored row's own instant, or a new owner of the partition begins before it.
    """
    standing = path.changes[-1].standing
    taken = [row for row in rows if (row.fence, row.now) >= (path.fence, path.now)]
    if any(row.now < path.now or (row.now < path.now + NEAR and row.standing != standing) for row in taken):
        return min(path.now, *(row.now for row in taken))
    return None


def follow(key: Key, path: Path | None, rows: Iterable[Told]) -> tuple[list[Change], list[Change]]:
    """(changes to add, stored changes to remove) when these rows follow, in their order. Path None: nobody yet.

    A row of a former owner, or of a replay from before the stored `now`, says nothing. A new owner's row from before it
    takes back what the former one told of later. A row that goes back, within one `now`, to where the customer stood
    already takes back what lies between: a replay walks the same steps again and ends where it ended before. Changes
    of one `now` are put a microsecond apart, so that their time alone orders them.
    """
    fence, now, steps = (-1, -1, []) if path is None else (path.fence, path.now, list(path.changes))
    added: list[Change] = []
    removed: list[Change] = []

    def keep(count: int) -> None:
        nonlocal added
        undone = steps[count:]
        del steps[count:]
        removed.extend(step for step in undone if step.told is None)
        added = [step for step in added if step not in undone]

    for row in rows:
        if (row.fence, row.now) < (fence, now):
            continue
        if row.now < now:
            keep(bisect_right(steps, row.now, key=_at))
        fence, now = row.fence, row.now
        back = _standing_so(steps, row)
        if back is not None and back + 1 < len(steps):
            keep(back + 1)
        elif back is None:
            change = _change(key, steps[-1] if steps else None, row)
            steps.append(change)
            added.append(change)
    return added, removed


def _standing_so(steps: Sequence[Change], row: Told) -> int | None:
    """Which step has led to where the row stands, of those from its `now` on and the last one before."""
    if not steps or steps[-1].at < row.now:  # as nearly always
        return len(steps) - 1 if steps and steps[-1].standing == row.standing else None
    first = max(bisect_left(steps, row.now, key=_at) - 1, 0)
    return next((at for at in range(first, len(steps)) if steps[at].standing == row.standing), None)


def _at(change: Change) -> int:
    return change.at


def _change(key: Key, last: Change | None, row: Told) -> Change:
    at, previous = row.now, None
    if last is not None:
        at, previous = max(at, last.at + 1), last.standing
    return Change(at, change_id(*key, instants.text(at), previous, row.standing), previous, row.standing, row)
