"""A customer's contributions, kept in order of time in nodes of bounded size: an ordered tree.

What is taken from their points, and what was asked of their account, are kept in two trees more of the same make
(tables/account.py), and what was told of their points running out in another (tables/expired.py).

A customer with a few dozen orders is one value. When a node grows past LEAF entries it is cut in two, and the
customer's row keeps a directory of the nodes with their sums; past FAN nodes the directory is cut in turn. So no
value grows with history, and the sums of any span of time come from the directory and at most two nodes.

A node that changes is written under a new name, and so is every directory above it; the customer's row, written after
them, names the new tree, and the old nodes are removed after that. So wherever a crash cuts the writes of one step
off (they arrive in order), the row names one whole tree, the old or the new. A directory's sums are worked out from
its children, never changed by a difference.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, NotRequired, Protocol

from typing_extensions import TypedDict

from tables import packing

LEAF = 32
FAN = 32

#: One order at one of its homes: [processed_at, order_id, revision, net, earned, reversed, counted, parts].
#: Instants in microseconds, net in minor units, earned and reversed in points, counted 0 or 1: what it comes to.
#: An award stands there by its name (tables/account.py) and never counts; its net is the points that are not earned. Of
#: what a redemption took it is its reward's number. Among debits a
#: redemption counts, a deduction does not.
#: `parts` is tables/merging.py's; where there is nothing but the customer's own, 1 at the home where the order stands.
Entry = list[Any]
PROCESSED, ORDER, REVISION, NET, EARNED, REVERSED, COUNTED, PARTS = range(8)

_FOR_EVER = 1 << 62

#: A directory's line: [first processed_at, first order_id, last processed_at, number, *sums, whether any entry counts
#: or ever brought points]. What was kept before anybody could be inactive does not say the last.
_FIRST, _LAST, _NODE, _SUMS, _ACTS = 0, 2, 3, 4, 10


class Sums(NamedTuple):
    """Over a span of time: counted orders, those with net above 0, their net, points, the latest of them, and how many
    of the points were given, not earned."""

    counted: int
    active: int
    net: int
    points: int
    latest: int  # microseconds; 0 where there is none
    given: int


class Node(TypedDict):
    """A node of entries (`e`), or a directory of nodes (`c`) at a height above them (`h`)."""

    e: NotRequired[list[Entry]]
    c: NotRequired[list[list[Any]]]
    h: NotRequired[int]


class Reads(Protocol):
    """Where a customer's nodes can be read, by number."""

    def get(self, number: int) -> Node:
        """The node of this number. KeyError if there is none."""


class Nodes(Reads, Protocol):
    """Where a customer's nodes are kept. `put` gives the number that the changed node has from now on."""

    def put(self, number: int, node: Node) -> int:
        """A changed node in the place of this one; its number from now on."""

    def add(self, node: Node) -> int:
        """A new node; its number."""

    def drop(self, number: int) -> None:
        """A node that nothing names any more."""


def empty() -> Node:
    """A tree of nothing."""
    return {"e": []}


def listed(node: Node) -> list[Any]:
    """A node as it is kept: its height, 0 of entries, and what is in it."""
    return [0, node["e"]] if "e" in node else [node["h"], node["c"]]


def of_list(kept: list[Any]) -> Node:
    """The node that was `listed`."""
    height, items = kept
    return {"c": items, "h": height} if height else {"e": items}


def packed(node: Node) -> bytes:
    """A node below the root as the table keeps it."""
    return packing.pack(listed(node))


def unpacked(data: bytes) -> Node:
    """The node that `packed` made; BadEvent for what another version did."""
    return of_list(packing.unpack(data))


def _sum_lines(found: Sequence[Sequence[int]]) -> Sums:
    counted = active = net = points = latest = given = 0
    for each in found:
        counted += each[0]
        active += each[1]
        net += each[2]
        points += each[3]
        if each[4] > latest:
            latest = each[4]
        if len(each) > 5:  # (what was kept before there were awards has none)
            given += each[5]
    return Sums(counted, active, net, points, latest, given)


def _sum_entries(entries: list[Entry]) -> Sums:
    counted = active = net = points = latest = given = 0
    for processed_at, _, _, value, earned, taken_back, counts, _ in entries:
        points += earned - taken_back
        if counts:
            counted += 1
            if value > 0:
                active += 1
                net += value
                latest = processed_at  # entries are in order
        else:
            given += value
    return Sums(counted, active, net, points, latest, given)


def _line(node: Node, number: int) -> list[Any]:
    """A directory's line about a node, worked out from the node."""
    if "e" in node:
        entries = node["e"]
        brought = any(map(acts, entries))
        return [*entries[0][:2], entries[-1][PROCESSED], number, *_sum_entries(entries), brought]
    lines = node["c"]
    brought = any(_may_act(each, counting=False) for each in lines)
    return [*lines[0][:2], lines[-1][_LAST], number, *_sum_lines([line[_SUMS:] for line in lines]), brought]


def acts(entry: Entry, counting: bool = False) -> bool:
    """Whether an entry counts or, unless these alone are meant, ever brought points, taken back or not."""
    return bool(entry[COUNTED]) or (not counting and entry[EARNED] > 0)


def _may_act(line: list[Any], counting: bool) -> bool:
    """Whether an entry of a directory's node does."""
    return line[_SUMS] > 0 or (not counting and (len(line) <= _ACTS or line[_ACTS]))


def _key(item: list[Any]) -> list[Any]:
    return item[:2]


def _halves(node: Node) -> list[Node]:
    """The node itself, or the two it is cut into."""
    if "e" in node:
        entries, limit = node["e"], LEAF
        middle = len(entries) // 2
        if len(entries) <= limit:
            return [node]
        return [{"e": entries[:middle]}, {"e": entries[middle:]}]
    lines = node["c"]
    if len(lines) <= FAN:
        return [node]
    middle = len(lines) // 2
    return [{"c": lines[:middle], "h": node["h"]}, {"c": lines[middle:], "h": node["h"]}]


def _place(nodes: Nodes, node: Node, entry: Entry) -> list[Node]:
    """Puts the entry below the node; gives the node, or the two it has become."""
    if "e" in node:
        entries = node["e"]
        at = bisect_left(entries, entry[:2])
        same = at < len(entries) and entries[at][:2] == entry[:2]
        entries[at : at + same] = [entry]
        return _halves(node)
    lines = node["c"]
    at = max(bisect_right(lines, entry[:2], key=_key) - 1, 0)
    number = lines[at][_NODE]
    child = nodes.get(number)
    parts = _place(nodes, child, entry)
    if len(parts) == 1:
        lines[at] = _line(child, nodes.put(number, child))
    else:
        nodes.drop(number)
        lines[at : at + 1] = [_line(part, nodes.add(part)) for part in parts]
    return _halves(node)


def put(nodes: Nodes, root: Node, entry: Entry) -> Node:
    """The root with the entry in place of the one of the same order and home, if any."""
    parts = _place(nodes, root, entry)
    if len(parts) == 1:
        return root
    return {"c": [_line(part, nodes.add(part)) for part in parts], "h": 1 + root.get("h", 0)}


def find(nodes: Reads, node: Node, processed_at: int, order_id: str) -> Entry | None:
    """The entry of an order at a home."""
    key = [processed_at, order_id]
    while "e" not in node:
        lines = node["c"]
        node = nodes.get(lines[max(bisect_right(lines, key, key=_key) - 1, 0)][_NODE])
    entries = node["e"]
    at = bisect_left(entries, key)
    return entries[at] if at < len(entries) and entries[at][:2] == key else None


def neighbours(node: Node, entry: Entry) -> tuple[int, int] | None:
    """When the counted orders next to an entry's were processed: the one before it and the one after, -1 and beyond all
    time where there is none. None where the entries are not in one node."""
    if "e" not in node:
        return None
    entries = node["e"]
    at = bisect_left(entries, entry[:2])
    before, after = at - 1, at + 1
    while before >= 0 and not entries[before][COUNTED]:
        before -= 1
    while after < len(entries) and not entries[after][COUNTED]:
        after += 1
    return (
        entries[before][PROCESSED] if before >= 0 else -1,
        entries[after][PROCESSED] if after < len(entries) else _FOR_EVER,
    )


def sums(nodes: Reads, node: Node, start: int, end: int) -> Sums:
    """The sums over start <= processed_at < end (microseconds)."""
    if "e" in node:
        kept = node["e"]
        if kept and start <= kept[0][PROCESSED] and kept[-1][PROCESSED] < end:
            return _sum_entries(kept)
        first = bisect_left(kept, [start])
        return _sum_entries(kept[first : bisect_left(kept, [end], first)])
    found: list[Sequence[int]] = []
    for line in node["c"]:
        if line[_LAST] < start or line[_FIRST] >= end:
            continue
        inside = start <= line[_FIRST] and line[_LAST] < end
        found.append(line[_SUMS:] if inside else sums(nodes, nodes.get(line[_NODE]), start, end))
    return _sum_lines(found)


def reaching(nodes: Reads, node: Node, points: int) -> int:
    """When the entry was processed with which the running sum of points first exceeds `points`; beyond all time where
    none does. (No entry has less than 0.)"""
    left = points
    while "e" not in node:
        for line in node["c"]:
            if line[_SUMS + 3] > left:
                break
            left -= line[_SUMS + 3]
        else:
            return _FOR_EVER
        node = nodes.get(line[_NODE])
    for entry in node["e"]:
        left -= entry[EARNED] - entry[REVERSED]
        if left < 0:
            return int(entry[PROCESSED])
    return _FOR_EVER


def greatest(nodes: Reads, node: Node, of: Callable[[int], int], until: int, before: int = 0, least: int = 0) -> int:
    """The greatest of(processed_at) less the points of all entries before, over the entries up to `until`; `least`
    where none is above it. `of` never falls, so what a node comes to at most is known without looking into it."""
    if "e" in node:
        for entry in node["e"]:
            if entry[PROCESSED] > until:
                break
            least = max(least, of(entry[PROCESSED]) - before)
            before += entry[EARNED] - entry[REVERSED]
        return least
    bounds = []
    for line in node["c"]:
        if line[_FIRST] > until:
            break
        bounds.append((of(min(line[_LAST], until)) - before, before, line[_NODE]))
        before += line[_SUMS + 3]
    for most, below, number in sorted(bounds, reverse=True):
        if most <= least:
            break
        least = greatest(nodes, nodes.get(number), of, until, below, least)
    return least


def before_exceeding(
    nodes: Reads, node: Node, of: Callable[[int], int], than: int, after: int, until: int, before: int = 0
) -> int | None:
    """The points of all entries before the first one later than `after`, and up to `until`, of which of(processed_at)
    less these points is above `than`; None where there is none. `of` never falls, as in `greatest`."""
    if "e" in node:
        for entry in node["e"]:
            if entry[PROCESSED] > until:
                break
            if entry[PROCESSED] > after and of(entry[PROCESSED]) - before > than:
                return before
            before += entry[EARNED] - entry[REVERSED]
        return None
    for line in node["c"]:
        if line[_FIRST] > until:
            break
        if line[_LAST] > after and of(min(line[_LAST], until)) - before > than:
            found = before_exceeding(nodes, nodes.get(line[_NODE]), of, than, after, until, before)
            if found is not None:
                return found
        before += line[_SUMS + 3]
    return None


def first_from(nodes: Reads, node: Node, start: int, counting: bool) -> int:
    """When the first entry at or after `start` was processed that counts or, unless these alone are meant, ever brought
    points; beyond all time where there is none."""
    if "e" in node:
        kept = node["e"]
        for entry in islice(kept, bisect_left(kept, [start]), None):
            if acts(entry, counting):
                return int(entry[PROCESSED])
        return _FOR_EVER
    for line in node["c"]:
        if line[_LAST] >= start and _may_act(line, counting):
            found = first_from(nodes, nodes.get(line[_NODE]), start, counting)
            if found < _FOR_EVER:
                return found
    return _FOR_EVER


def last_before(nodes: Reads, node: Node, end: int, counting: bool) -> int:
    """As `first_from`, the last one before `end`; -1 where there is none."""
    if "e" in node:
        kept = node["e"]
        for at in range(bisect_left(kept, [end]) - 1, -1, -1):
            if acts(kept[at], counting):
                return int(kept[at][PROCESSED])
        return -1
    for line in reversed(node["c"]):
        if line[_FIRST] < end and _may_act(line, counting):
            found = last_before(nodes, nodes.get(line[_NODE]), end, counting)
            if found >= 0:
                return found
    return -1


def oldest(node: Node) -> int:
    """The first processed_at (microseconds); beyond all time where there is no entry."""
    if "e" in node:
        return int(node["e"][0][PROCESSED]) if node["e"] else _FOR_EVER
    return int(node["c"][0][_FIRST])


def first(nodes: Reads, node: Node, start: int) -> int | None:
    """The first processed_at that is not before `start` (microseconds); None where there is no such entry."""
    return next((int(entry[PROCESSED]) for entry in entries(nodes, node, start)), None)


def entries(nodes: Reads, node: Node, start: int = 0) -> Iterator[Entry]:
    """Every entry with processed_at >= start, in order."""
    if "e" in node:
        for entry in node["e"]:
            if entry[PROCESSED] >= start:
                yield entry
        return
    for line in node["c"]:
        if line[_LAST] >= start:
            yield from entries(nodes, nodes.get(line[_NODE]), start)
