"""A table's values, partition by partition, in memory, and the rule by which its changelog is read.

A partition has one owner at a time, but an owner that stood still while its partitions moved on does not know it yet,
and may go on writing. So whoever takes a partition over begins with a *claim*, a record in the partition's changelog;
the claim's offset is the owner's *fencing token*, and every record of theirs carries it. A record whose token is below
the newest claim before it in the log comes from somebody who had lost the partition: it counts nowhere.

    offset   10: claim   11: a, token 10   12: claim   13: b, token 12   14: a, token 10 (stray)   15: c, token 12

The log is compacted, and a stray record may be the last of its key: then the owner writes the key's value again
(`strays` says of which keys). Claims share one key, and compaction leaves the newest, which is the one that decides.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from struct import Struct
from typing import Any, Final

from events.errors import BadEvent
from tables import packing

#: A fold's changes to a table: the new value of each key, None for one that is gone, in the order to be kept.
Writes = dict[str, bytes | None]

#: The key of claims. No shop's key looks so.
CLAIM: Final = "~claim"

#: The header that carries the token of a record without a value.
FENCING: Final = "fencing"

_TOKEN: Final = Struct(">q")
_CLAIM: Final = CLAIM.encode()


class UnreadableChangelog(RuntimeError):
    """A changelog record that cannot be read: the table cannot be trusted, so the worker must stop."""


def token_bytes(token: int) -> bytes:
    """What a record of the owner with this token begins with: 8 bytes, then the value."""
    return _TOKEN.pack(token)


class Kept(Mapping[str, bytes]):
    """A partition's values by key, and on request a shop's keys: a batch asks for its customers alone."""

    @abstractmethod
    def of_shop(self, shop: str) -> list[str]:
        """The shop's own keys, without what is kept beside them under `key#...`."""

    @abstractmethod
    def __setitem__(self, key: str, value: bytes) -> None: ...

    @abstractmethod
    def remove(self, key: str) -> None:
        """Lets go of a key, if it is there."""


class Values(dict[str, bytes], Kept):
    """Values in memory.

    Where nobody asks (the orders, a standby), no index is kept. It is made in one go when first asked for, which takes
    0.14 s for 130,000 customers. Changed by setting and `remove` alone.
    """

    def __init__(self, known: Mapping[str, bytes] | None = None) -> None:
        super().__init__(known or {})
        self._shops: dict[str, dict[str, None]] | None = None

    def of_shop(self, shop: str) -> list[str]:
        """The shop's own keys, without what is kept beside them under `key#...`."""
        if self._shops is None:
            self._shops = {}
            for key in self:
                self._note(key)
        return list(self._shops.get(shop, ()))

    def _note(self, key: str) -> None:
        if self._shops is not None and "#" not in key:
            self._shops.setdefault(key.partition("/")[0], {})[key] = None

    def __setitem__(self, key: str, value: bytes) -> None:
        if self._shops is not None and key not in self:
            self._note(key)
        super().__setitem__(key, value)

    def remove(self, key: str) -> None:
        """Lets go of a key, if it is there."""
        self.pop(key, None)
        if self._shops is not None:
            self._shops.get(key.partition("/")[0], {}).pop(key, None)


class PartitionState:
    """One partition of a table.

    `offset` is the last offset of the changelog that `values` hold, `claim` the newest claim up to there, `token` our
    own claim while the partition is ours, `strays` the keys whose newest record in the log counts nowhere. `version` is
    another one after each change that no fold of ours made: what is derived from the values must then be made anew.
    """

    def __init__(self, values: Kept | None = None) -> None:
        self.values: Kept = Values() if values is None else values
        self.version = 0
        self.token: int | None = None
        self._begin()

    def forget(self) -> None:
        """Nothing is held: the changelog is read from its beginning."""
        self.values = Values()
        self._begin()

    def close(self) -> None:
        """The partition is not held any more."""

    def _begin(self) -> None:
        self.version += 1
        self.offset = -1
        self.claim = -1
        self.strays: set[str] = set()
        self.suspect = False

    def apply(self, writes: Writes) -> None:
        """A fold's writes become the partition's state."""
        for key, value in writes.items():
            if value is None:
                self.values.remove(key)
            else:
                self.values[key] = value

    def read(self, offset: int, key: bytes | None, value: bytes | None, headers: Any) -> None:
        """Takes in the record at an offset of the changelog; what is known already changes nothing.

        Raises UnreadableChangelog for what we never wrote.
        """
        if offset <= self.offset:
            return
        self.offset = offset
        if key == _CLAIM:
            self.claim = offset
            return
        name, token, known = _decoded(offset, key, value, headers)
        if token < self.claim:
            self.strays.add(name)
            return
        self.strays.discard(name)
        self.apply({name: known})
        self.version += 1

    def delivered(self, offsets: Iterable[int], _writes: Writes) -> list[range]:
        """Our own records are on the log at these offsets, ascending; the gaps before them are somebody else's.

        After a gap the state is suspect until somebody has looked at what stands there. The records are those of the
        writes, which were applied when they were folded.
        """
        gaps = []
        for offset in offsets:
            if offset > self.offset + 1:
                gaps.append(range(self.offset + 1, offset))
                self.suspect = True
            self.offset = max(self.offset, offset)
        return gaps


def foreign(token: int, key: bytes | None, value: bytes | None, headers: Any) -> str | None:
    """The key of a record that the owner with this token did not write; None for its own."""
    if key == _CLAIM:
        return CLAIM
    name, theirs, _ = _decoded(-1, key, value, headers)
    return None if theirs == token else name


def _decoded(offset: int, key: bytes | None, value: bytes | None, headers: Any) -> tuple[str, int, bytes | None]:
    """(key, token, value); what is not ours says so here, not years later in a fold."""
    try:
        if value is None:
            marks: Mapping[str, bytes] = dict(headers or ())
            return _text(key), _TOKEN.unpack(marks[FENCING])[0], None
        known = value[_TOKEN.size :]
        packing.check(known)
        return _text(key), _TOKEN.unpack_from(value)[0], known
    except (ValueError, KeyError, TypeError, AttributeError, BadEvent, OverflowError) as error:
        raise UnreadableChangelog(f"offset {offset}: {type(error).__name__}") from error
    except Exception as error:  # struct.error has no base but Exception
        raise UnreadableChangelog(f"offset {offset}: {error}") from error


def _text(key: bytes | None) -> str:
    if key is None:
        raise ValueError("no key")
    return key.decode()


class TableState:
    """A table: its partitions' states, each made by `make` when first asked for."""

    def __init__(self, make: Callable[[int], PartitionState] = lambda _: PartitionState()) -> None:
        self.partitions: dict[int, PartitionState] = {}
        self._make = make

    def partition(self, number: int) -> PartitionState:
        """The state of a partition, empty before anything was kept there."""
        state = self.partitions.get(number)
        if state is None:
            state = self.partitions[number] = self._make(number)
        return state

    def keep_only(self, numbers: Iterable[int]) -> None:
        """Lets go of every other partition."""
        for gone in set(self.partitions) - set(numbers):
            self.partitions.pop(gone).close()
