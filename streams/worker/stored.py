"""A partition's values in RocksDB: state beyond memory, and files from which a worker goes on after a restart.

The changelog stays the truth. Only what has come to stand on it is put into the files; what a fold has just made waits
in memory until it has been delivered. Otherwise a worker that is killed would find a state that knows more than what
has left, and a replay would see nothing new. Beside the values stands up to which offset of which log they go, in one
write with them: a restart reads the changelog's rest. RocksDB's own log is not written: what it had not flushed yet
comes from the changelog as well.

A partition whose changelog is suspect (tables/state.py) keeps the offset that it had before: its records are read
again.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from tables.state import Kept, PartitionState, Writes

#: Where a partition's place is kept. No key of a table looks so.
_PLACE: Final = b"~place"

#: Keys that a recovery has read and that wait in memory before they are put into the files.
_AT_ONCE: Final = 5_000

_MIB: Final = 1 << 20


class StoreError(RuntimeError):
    """The files cannot be opened; the message says why and what to do."""


class Store:
    """Opens a worker's files, one database a partition of a table; all of them share one cache of `cache_mib`."""

    def __init__(self, folder: Path, cache_mib: int) -> None:
        import rocksdict

        self._folder = folder
        cache = rocksdict.Cache(cache_mib * _MIB)
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_block_cache(cache)
        blocks.set_bloom_filter(10, block_based=False)
        blocks.set_cache_index_and_filter_blocks(True)
        self._options = rocksdict.Options(raw_mode=True)
        self._options.create_if_missing(True)
        self._options.set_block_based_table_factory(blocks)
        self._options.set_write_buffer_manager(
            rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(cache_mib * _MIB // 2, False, cache)
        )
        self._options.set_max_open_files(64)
        unlogged: Any = rocksdict.WriteOptions()
        unlogged.disable_wal = True
        self._unlogged = unlogged

    def state(self, table: str, partition: int, log: str) -> "StoredState":
        """A partition's state as its files have it; `log` names the changelog that there is now, for ever.

        Raises StoreError where another process has them open.
        """
        return StoredState(self, self._folder / table / str(partition), log)

    def open(self, path: Path) -> Any:
        """The database in a folder, made if there is none."""
        import rocksdict

        path.mkdir(parents=True, exist_ok=True)
        try:
            database = rocksdict.Rdict(str(path), self._options)
        except Exception as error:  # rocksdict has no class of its own for what RocksDB says
            raise StoreError(
                f"the files of a table cannot be opened: {error}. Does another worker use them? Each needs a"
                " LOYALNEST_WORKER_ID, or a LOYALNEST_DATA_DIR, of its own"
            ) from error
        database.set_write_options(self._unlogged)
        return database

    @staticmethod
    def batch() -> Any:
        """Changes that are made together."""
        import rocksdict

        return rocksdict.WriteBatch(raw_mode=True)


class StoredValues(Kept):
    """A partition's values: those that wait for their delivery in memory, all others in the files.

    Whatever is set waits, once for each time that it was set, until `settle` has been told of it as often.
    """

    def __init__(self, database: Any) -> None:
        self._database = database
        self._waiting: dict[str, tuple[bytes | None, int]] = {}  # the newest value, and how many wait
        self._read: Writes = {}

    def __getitem__(self, key: str) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key; `default` if there is none."""
        if key in self._waiting:
            value, _ = self._waiting[key]
        elif key in self._read:
            value = self._read[key]
        else:
            value = self._at(key.encode())
        return default if value is None else value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return self._keys("")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def of_shop(self, shop: str) -> list[str]:
        """The shop's own keys, without what is kept beside them under `key#...`."""
        return [key for key in self._keys(f"{shop}/") if "#" not in key]

    def _keys(self, prefix: str) -> Iterator[str]:
        """Those in the files, in order, then those that are not there yet."""
        memory = {key: None for key in (*self._waiting, *self._read) if key.startswith(prefix)}
        beginning = prefix.encode()
        for raw in self._database.keys(from_key=beginning or None):
            if not raw.startswith(beginning):
                break
            key = raw.decode()
            if raw != _PLACE and key not in memory:
                yield key
        yield from (key for key in memory if self.get(key) is not None)

    def __setitem__(self, key: str, value: bytes) -> None:
        self._set(key, value)

    def remove(self, key: str) -> None:
        """Lets go of a key, if it is there."""
        self._set(key, None)

    def _set(self, key: str, value: bytes | None) -> None:
        _, waiting = self._waiting.get(key, (None, 0))
        self._waiting[key] = value, waiting + 1

    def read(self, writes: Writes) -> int:
        """Takes in what stands on the changelog already; how many keys wait to be put into the files now."""
        self._read.update(writes)
        return len(self._read)

    def settle(self, writes: Writes, place: bytes) -> None:
        """Puts what was read, and what has been delivered now, into the files, with the place up to which they go."""
        batch = Store.batch()
        for key, value in (*self._read.items(), *writes.items()):
            if value is None:
                batch.delete(key.encode())
            else:
                batch.put(key.encode(), value)
        batch.put(_PLACE, place)
        self._database.write(batch)
        self._read = {}
        for key in writes:
            newest, waiting = self._waiting.pop(key, (None, 0))
            if waiting > 1:
                self._waiting[key] = newest, waiting - 1

    def place(self) -> bytes | None:
        """Up to where the files go; None for new ones."""
        return self._at(_PLACE)

    def close(self) -> None:
        """What waits is forgotten."""
        self._database.close()

    def _at(self, raw: bytes) -> bytes | None:
        found: bytes | None = self._database.get(raw)
        return found


class StoredState(PartitionState):
    """A PartitionState whose values outlive the process. `log` names the changelog that there is now, for ever."""

    def __init__(self, store: Store, path: Path, log: str) -> None:
        self._store = store
        self._path = path
        self._log = log
        self._files = StoredValues(store.open(path))
        super().__init__(self._files)
        self._place = b""
        known = self._files.place()
        if known is not None:
            of, offset, claim, strays = json.loads(known)
            if of == log:
                self.offset, self.claim, self.strays, self._place = offset, claim, set(strays), known
            else:
                self.forget()

    def forget(self) -> None:
        """Nothing is held, in files either: the changelog is read from its beginning."""
        self._files.close()
        shutil.rmtree(self._path)
        self._files = self.values = StoredValues(self._store.open(self._path))
        self._place = b""
        self._begin()

    def apply(self, writes: Writes) -> None:
        """As PartitionState. What was folded waits for `delivered`; what was read does so for some thousand others."""
        if self.token is not None:
            super().apply(writes)
        elif self._files.read(writes) >= _AT_ONCE:
            self._settle({})

    def delivered(self, offsets: Iterable[int], writes: Writes) -> list[range]:
        """As PartitionState; the writes are put into the files."""
        gaps = super().delivered(offsets, writes)
        self._settle(writes)
        return gaps

    def close(self) -> None:
        """What has been delivered stays in the files, for when the partition comes back."""
        self._settle({})
        self._files.close()

    def _settle(self, writes: Writes) -> None:
        if not self.suspect:
            self._place = json.dumps([self._log, self.offset, self.claim, sorted(self.strays)]).encode()
        self._files.settle(writes, self._place)
