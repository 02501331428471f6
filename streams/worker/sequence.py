"""What must come next: for each partition of ours, the offset to fetch and the offset to fold.

A position moves over folded records alone. Between the log and the fold a record can get lost in more places than one
would like to count (a fetch that is cancelled while partitions move, a queue that is cleared, an agent that stumbles):
so each piece of a log says where it begins, and the fold takes only the one that begins where the last one ended. On
a gap the fetch goes back to there.

A *run* is a stretch of fetching without going back. Pieces of an earlier run are stale, whatever they hold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from faust.types import TP


class Piece(NamedTuple):
    """Consecutive records of one partition: everything from `begins` up to `ends` (exclusive) that the log holds."""

    records: list[Any]
    begins: int
    ends: int
    run: int


@dataclass
class _Place:
    run: int
    fetch: int
    fold: int


class Sequence:
    """The places of the partitions that are ours now; empty while partitions move. For the event loop's thread."""

    def __init__(self) -> None:
        self._places: dict[TP, _Place] = {}
        self._stood: dict[TP, int] = {}
        self._runs = count(1)
        #: How often a piece was missing, and the fetch went back.
        self.gaps = 0

    def begin(self, positions: Mapping[TP, int]) -> None:
        """Tables are recovered: from here on these partitions are fetched and folded, each from its offset."""
        self._places = {tp: _Place(next(self._runs), at, at) for tp, at in positions.items()}

    def clear(self) -> None:
        """Partitions are being given up: nothing is fetched or folded until `begin`."""
        self._places = {}

    def numbers(self) -> set[int]:
        """The partitions that are ours now, of whatever topic."""
        return {tp.partition for tp in self._places}

    def wanted(self, among: Iterable[TP], ahead: int) -> dict[TP, tuple[int, int]]:
        """(run, offset) of the next fetch, for those `among` these of which less than `ahead` records are waiting."""
        found = {}
        for tp in among:
            place = self._places.get(tp)
            if place is not None and place.fetch - place.fold < ahead:
                found[tp] = place.run, place.fetch
        return found

    def fetched(self, tp: TP, asked: tuple[int, int], records: list[Any]) -> Piece | None:
        """The records as the partition's next piece; None where they are no longer what is to come.

        `asked` is the run and the offset that they were asked for; what the log does not hold in between (compacted,
        control records) belongs to the piece.
        """
        place = self._places.get(tp)
        if place is None or (place.run, place.fetch) != asked:
            return None
        begins, place.fetch = place.fetch, records[-1].offset + 1
        return Piece(records, begins, place.fetch, place.run)

    def is_next(self, tp: TP, piece: Piece) -> bool:
        """Whether the fold may take the piece. A gap before it sends the fetch back to where the fold stands."""
        place = self._places.get(tp)
        if place is None or piece.run != place.run:
            return False
        if piece.begins == place.fold:
            return True
        self.gaps += 1
        place.run, place.fetch = next(self._runs), place.fold
        return False

    def folded(self, tp: TP, piece: Piece) -> None:
        """The piece was folded and submitted."""
        self._places[tp].fold = piece.ends

    def go_back_where_nothing_moves(self) -> list[TP]:
        """Fetches again what was fetched before the last call and has not been folded since; the partitions concerned.

        A piece that got lost and has none behind it would be waited for until the next record comes. One that is only
        slow is folded when it has come again: nothing but the time is lost.
        """
        waiting = {tp: place.fold for tp, place in self._places.items() if place.fetch > place.fold}
        stuck = [tp for tp, fold in waiting.items() if self._stood.get(tp) == fold]
        for tp in stuck:
            place = self._places[tp]
            place.run, place.fetch = next(self._runs), place.fold
        self._stood = {tp: fold for tp, fold in waiting.items() if tp not in stuck}
        return stuck
