"""What an order comes to for a customer when several were made one: the parts of an entry, and what of them counts.

A customer who is somebody else from a link on *forwards*: everything they have, now and later, goes to whom the link of
the greatest rank leads to, order by order. So an entry may have several parts: the customer's own, and one for each
customer (its origin) from whom it came. Shopify may move the same order too, so only parts of the highest
revision count, and an order is never counted twice.

A part of an origin is a join: the latest way (`hops`, the ranks from the origin on, compared one after the other),
on one way the highest revision. What a customer had sent by a way that holds no longer they take back by the way's
beginning and the rank that changed it, which is later than all that was sent by the old way. A link never goes away,
and whoever was ever led to hears of everything, if only that it is not theirs: so it does not matter in which
order links and orders come, nor what a crash makes come again.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from msgspec import Struct

from events import links
from tables import contributions, orders
from tables.contributions import PARTS, PROCESSED, REVISION, Entry

#: The key of a customer's own part.
OWN = ""

#: [revision, net, earned, reversed, counted, whether the order stands at this home], of one that came [hops, alive].
Part = list[Any]
_REVISION, _VALUES, _STANDS, _HOPS, _ALIVE = 0, slice(1, 5), 5, 6, 7

#: [rank, whom it leads to]
Hop = list[str]

#: Links that a customer keeps: those of the greatest ranks.
MOST_LINKS = 64


class Link(NamedTuple):
    """Where a customer stands: the rank of the word that holds, and whom it leads to ("": they are themselves)."""

    rank: str
    into: str

    @property
    def hop(self) -> Hop:
        """As it stands in what is forwarded: rank, and whom it leads to."""
        return [self.rank, self.into]


def decided(known: dict[str, str], kept: str) -> Link | None:
    """What holds of a customer's links (rank by whom they lead to); None for somebody who never had one.

    `kept` is the greatest rank of a merge that kept the customer: a link that is not above it holds no longer.
    """
    if not known:
        return None
    rank, into = max((rank, into) for into, rank in known.items())
    return Link(rank, into) if rank > kept else Link(links.standing_alone(kept), "")


def added(known: dict[str, str], into: str, rank: str) -> dict[str, str]:
    """The links with one more, at its greatest rank."""
    newer = {**known, into: max(rank, known.get(into, ""))}
    return dict(sorted(newer.items(), key=lambda link: (link[1], link[0]))[-MOST_LINKS:])


def parts(entry: Entry | None) -> dict[str, Part]:
    """An entry's parts by origin."""
    if entry is None:
        return {}
    kept = entry[PARTS]
    return kept if isinstance(kept, dict) else {OWN: entry[REVISION:]}


def own_revision(entry: Entry | None) -> str:
    """The revision of the customer's own part; below all others where there is none."""
    if entry is not None and not isinstance(entry[PARTS], dict):
        return str(entry[REVISION])
    own = parts(entry).get(OWN)
    return "" if own is None else str(own[_REVISION])


def composed(home: int, order_id: str, of: dict[str, Part], link: Link | None) -> Entry:
    """The entry that the parts come to. Of a customer who forwards nothing counts."""
    if link is None and len(of) == 1 and OWN in of:
        return [home, order_id, *of[OWN]]
    revision = max(part[_REVISION] for part in of.values())
    sums = [0, 0, 0, 0]
    if link is None or not link.into:
        for part in of.values():
            if _counts(part, revision, order_id):
                sums = [a + b for a, b in zip(sums, part[_VALUES], strict=True)]
    return [home, order_id, revision, *sums[:3], min(sums[3], 1), of]


def _counts(part: Part, revision: str, name: str) -> bool:
    """Of one order the parts of the highest revision; awards that two customers have by one name are two."""
    return (part[_REVISION] == revision or not name.isdigit()) and (len(part) <= _ALIVE or part[_ALIVE])


def taken(entry: Entry, net: int) -> int:
    """How many of an entry's parts of this net stand: what is theirs, and was not taken back."""
    return sum(
        values[0] == net and values[1] > values[2]
        for part in parts(entry).values()
        if len(part) <= _ALIVE or part[_ALIVE]
        for values in [part[_VALUES]]
    )


def with_own(entry: Entry | None, own: Part) -> dict[str, Part]:
    """The parts with a newer own one."""
    return {**parts(entry), OWN: own}


def with_part(entry: Entry | None, origin: str, part: Part) -> dict[str, Part] | None:
    """The parts with what came from an origin; None where the same stands, a later way or a higher revision."""
    known = parts(entry)
    have = known.get(origin)
    if have is not None and _key(part) <= _key(have):
        return None
    return {**known, origin: part}


def _key(part: Part) -> tuple[Any, ...]:
    return part[_HOPS], part[_ALIVE], part[_REVISION]


class Posting(Struct, frozen=True):
    """What of an order's points one origin has posted: `revision` sorts as it grows, `changed_at` follows from it."""

    origin: str
    home: int
    revision: str
    changed_at: int
    earned: int
    reversed: int


def postings(found: list[Entry], link: Link | None, origins: set[str]) -> Iterator[Posting]:
    """What an order's entries, at all its homes, post for each of these origins that has a part in them.

    The revision is the part's, then the way by which it came, and what holds of the customer's own links. A part that
    another overtakes is posted anew once it has that revision itself: whoever ever had an order hears of each.
    """
    if link is None and len(found) == 1 and origins == {OWN} and not isinstance(found[0][PARTS], dict):
        # Nobody else's, at one home: nearly every order.
        home, _, revision, _, earned, taken_back, *_ = found[0]
        yield Posting(OWN, home, revision, orders.changed_at_of(revision), earned, taken_back)
        return
    for origin in sorted(origins):
        mine = [(entry, part) for entry in found if (part := parts(entry).get(origin)) is not None]
        if not mine:
            continue
        revision, hops, alive = _way(mine)
        home = max((part[_STANDS], entry[PROCESSED]) for entry, part in mine)[1]
        earned = taken_back = 0
        if link is None or not link.into:
            for entry, part in mine:
                if _counts(part, entry[REVISION], entry[contributions.ORDER]):
                    earned, taken_back = earned + part[2], taken_back + part[3]
        ranks = [rank for rank, _ in hops]
        # A way ends with a word below every rank: a longer one that begins as it does is later, whatever link follows.
        words = [*ranks, "!" if alive else ""] if ranks else []
        if link is not None:
            words = [*words, link.rank]
        times = [links.time_of(rank) for rank in (*ranks, *([] if link is None else [link.rank]))]
        changed_at = max([orders.changed_at_of(revision), *times])
        yield Posting(origin, home, " ".join([revision, *words]), changed_at, earned, taken_back)


def _way(mine: list[tuple[Entry, Part]]) -> tuple[str, list[Hop], bool]:
    """(revision, hops, alive) of an origin's parts at an order's homes: they came together."""
    newest: Part = max((part for _, part in mine), key=lambda part: (*part[_HOPS:], part[_REVISION]))
    hops, alive = newest[_HOPS:] or ([], True)
    return newest[_REVISION], hops, alive


class Forwarded(NamedTuple):
    """What goes to one customer of one order, or of none: as in events.account_records.CustomerForward."""

    into: str
    origin: str
    hops: list[Hop]
    gone: bool
    order_id: str | None
    revision: str | None
    entries: list[list[int]]


def forwarded(customer_id: str, found: list[Entry], to: set[str], link: Link, origins: set[str]) -> Iterator[Forwarded]:
    """What a customer with links sends of an order, of its parts of these origins: to whom they are now what there
    is, to everybody else of `to` that it is not theirs."""
    for origin in sorted(origins):
        mine = [(entry, part) for entry in found if (part := parts(entry).get(origin)) is not None]
        if not mine:
            continue
        revision, hops, alive = _way(mine)
        source = origin or customer_id
        way = [*hops, link.hop] if alive else hops
        named = {source, *(into for _, into in hops)}
        entries = [[entry[PROCESSED], *part[_REVISION + 1 : _HOPS]] for entry, part in mine]
        order_id = found[0][contributions.ORDER]
        for into in sorted(to):
            if into not in named:  # whoever it came through knows it already
                gone = into != link.into or not alive
                yield Forwarded(into, source, way, gone, order_id, revision, entries)
