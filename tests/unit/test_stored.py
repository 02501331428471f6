"""A table in files: what a killed worker finds again is what had come to stand on the changelog, and no more."""

import random
import shutil
from pathlib import Path

import pytest

from runtime import patience
from streams.worker.stored import Store, StoredState, StoreError
from tables.state import CLAIM, FENCING, PartitionState, Writes, token_bytes

Record = tuple[bytes, bytes | None, list[tuple[str, bytes]] | None]
LOG = "a topic's id"


def record(key: str, value: bytes | None, token: int) -> Record:
    mark = token_bytes(token)
    return (key.encode(), mark + value, None) if value is not None else (key.encode(), None, [(FENCING, mark)])


def held(state: PartitionState) -> dict[str, bytes]:
    return {key: state.values[key] for key in state.values}


class Partition:
    """A changelog, its owner in files, and what a reader in memory makes of the whole of it."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.log: list[Record] = []
        self.folder = folder
        self.lives = 0
        self.state = self.begin()

    def begin(self) -> StoredState:
        """A new owner: it claims, and reads what it does not know up to its claim."""
        self.lives += 1
        state = Store(self.folder / str(self.lives), 16).state("customers", 3, LOG)
        self.log.append((CLAIM.encode(), b"somebody", None))
        claim = len(self.log) - 1
        self.read_from = state.offset + 1
        for offset in range(state.offset + 1, len(self.log)):
            state.read(offset, *self.log[offset])
        state.token = claim
        self.undelivered: list[Writes] = []
        return state

    def fold(self) -> None:
        keys = [
            f"shop{number}/{customer}{node}" for number in (1, 2) for customer in (7, 8) for node in ("", "#0", "#1")
        ]
        some = self.chance.sample(keys, self.chance.randint(1, 4))
        writes: Writes = {
            key: None if "#" in key and self.chance.random() < 0.3 else f"\x01{self.chance.random()}".encode()
            for key in some
        }
        self.state.apply(writes)
        self.undelivered.append(writes)

    def deliver(self) -> None:
        if self.undelivered:
            writes = self.undelivered.pop(0)
            assert self.state.token is not None
            offsets = []
            for key, value in writes.items():
                offsets.append(len(self.log))
                self.log.append(record(key, value, self.state.token))
            assert self.state.delivered(offsets, writes) == []

    def die(self) -> None:
        """As by kill -9: the files as they are at this moment."""
        # RocksDB puts files together beside us: a copy from which one is taken away meanwhile is of no moment.
        patience.retried(self._copy, shutil.Error, seconds=30, every=0.1)
        self.state.close()
        self.state = self.begin()

    def end(self) -> None:
        """Well: everything is delivered first."""
        while self.undelivered:
            self.deliver()
        self.state.close()
        self._copy()
        self.state = self.begin()

    def _copy(self) -> None:
        following = self.folder / str(self.lives + 1)
        shutil.rmtree(following, ignore_errors=True)
        shutil.copytree(self.folder / str(self.lives), following)

    def known(self) -> PartitionState:
        """By a reader in memory, with what is folded and not delivered."""
        state = PartitionState()
        for offset, each in enumerate(self.log):
            state.read(offset, *each)
        for writes in self.undelivered:
            state.apply(writes)
        return state


@pytest.mark.parametrize("seed", range(12))
def test_files_hold_what_the_changelog_does(seed: int, tmp_path: Path) -> None:
    partition = Partition(tmp_path, random.Random(seed))
    for _ in range(120):
        act = partition.chance.choices(["fold", "deliver", "die", "end"], [10, 9, 0.5, 0.5])[0]
        getattr(partition, act)()
        known = partition.known()
        assert held(partition.state) == held(known)
        assert {shop: sorted(partition.state.values.of_shop(shop)) for shop in ("shop1", "shop2", "shop")} == {
            shop: sorted(known.values.of_shop(shop)) for shop in ("shop1", "shop2", "shop")
        }


def test_after_a_good_end_only_what_is_new_is_read(tmp_path: Path) -> None:
    partition = Partition(tmp_path, random.Random(1))
    for _ in range(30):
        partition.fold()
        partition.deliver()
    partition.end()
    assert partition.read_from == len(partition.log) - 1


def test_another_topic_of_that_name_is_read_from_its_beginning(tmp_path: Path) -> None:
    store = Store(tmp_path, 16)
    state = store.state("orders", 0, LOG)
    state.read(0, CLAIM.encode(), b"", None)
    state.read(1, *record("shop/1", b"\x011", 0))
    state.close()
    again = store.state("orders", 0, LOG)
    assert (again.offset, again.claim, held(again)) == (1, 0, {"shop/1": b"\x011"})
    again.close()
    other = store.state("orders", 0, "another")
    assert (other.offset, held(other)) == (-1, {})
    other.close()


def test_strays_are_known_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, 16)
    state = store.state("orders", 0, LOG)
    for offset, each in enumerate(
        [(CLAIM.encode(), b"", None), (CLAIM.encode(), b"", None), record("shop/1", b"\x011", 0)]
    ):
        state.read(offset, *each)
    state.close()
    again = store.state("orders", 0, LOG)
    assert (again.strays, again.claim, held(again)) == ({"shop/1"}, 1, {})
    again.close()


def test_behind_a_gap_everything_is_read_again(tmp_path: Path) -> None:
    """What stands in the gap has not been looked at: whoever comes next must."""
    store = Store(tmp_path, 16)
    state = store.state("orders", 0, LOG)
    state.read(0, CLAIM.encode(), b"", None)
    state.token = 0
    state.apply({"shop/1": b"\x011"})
    assert state.delivered([1], {"shop/1": b"\x011"}) == []
    state.apply({"shop/2": b"\x012"})
    assert state.delivered([4], {"shop/2": b"\x012"}) == [range(2, 4)]
    state.close()
    again = store.state("orders", 0, LOG)
    assert (again.offset, held(again)) == (1, {"shop/1": b"\x011", "shop/2": b"\x012"})
    again.close()


def test_two_workers_cannot_have_the_same_files(tmp_path: Path) -> None:
    state = Store(tmp_path, 16).state("orders", 0, LOG)
    with pytest.raises(StoreError, match="LOYALNEST_WORKER_ID"):
        Store(tmp_path, 16).state("orders", 0, LOG)
    state.close()
