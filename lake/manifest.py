"""What the lake holds, and how far it is: one small file that is swapped whole.

    lake/lake.json                                    how far, and of each shop the list that counts
    lake/lists/shop=S/00000007-5f3a90c1.json          its files, by table
    lake/snapshots/shop=S/month=2026-11/00000007-5f3a90c1.parquet

Files appear first, then lists, then `lake.json` by one rename: a reader finds the old state or the new one, and whoever
is killed leaves files that nothing names. A file that nothing names any more is removed once it is OLD.

In an object store the same names hold, and the folder keeps copies: no name is given twice (the number is the change's,
the rest its filling's), so a file that is there in its whole length is the store's. `lake.json` is always asked of the
store. `gone/` tells since when nothing names a file: an object has no other time than that of its writing.
"""

import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import polars as pl

from lake.objects import Objects
from lake.rows import TABLES
from runtime.settings import Settings

#: Of the files' shape: a lake of another is made anew.
VERSION: Final = 8

#: Seconds that a file stays after nothing names it any more: a reader may have begun before.
OLD: Final = 3600.0

#: The folder of what past.py keeps, which looks after it itself.
PAST: Final = "past"

#: Seconds that a copy of a store's file stays after it was last read.
UNREAD: Final = 86_400.0

_ROOT: Final = "lake.json"

#: In a store: what nothing names any more, a list for each filling, and when it was last looked through.
_GONE: Final = "gone"
_SWEPT: Final = f"{_GONE}/swept"

#: Files sent or fetched at a time.
_AT_ONCE: Final = 8
_MONTH: Final = re.compile(r"month=(\d{4}-\d{2})")


class Cursor(NamedTuple):
    """How far the raw history has been read, in the order of commits: everything up to this row of it."""

    xid: int = 0
    id: int = 0


START: Final = Cursor()


class Part(NamedTuple):
    """A Parquet file: its path below the lake, rows, the least and greatest `told_at` in it, and its bytes."""

    path: str
    rows: int
    first: int
    last: int
    size: int

    @property
    def month(self) -> str:
        """The month of its rows' `told_at`, in UTC, as 2026-11."""
        found = _MONTH.search(self.path)
        assert found is not None
        return found[1]


class Layer(NamedTuple):
    """A file made of rows (versions.py, people.py): its path below the lake, rows, and bytes."""

    path: str
    rows: int
    size: int


@dataclass
class ShopFiles:
    """A shop's files by table, the layers of its orders' versions, oldest first, its `customers` and its `ties`.

    `told` are files, by table, of which none of these knows yet: then they are not to be read. Beside them how
    many webhooks they came from, and in what currency and without which refusals.
    """

    currency: str
    refused: str
    webhooks: int = 0
    unreadable: int = 0
    tables: dict[str, list[Part]] = field(default_factory=lambda: {name: [] for name in TABLES})
    layers: list[Layer] = field(default_factory=list)
    customers: Layer | None = None
    ties: Layer | None = None
    told: dict[str, list[str]] = field(default_factory=dict)

    def every(self) -> Iterator[Part | Layer]:
        """Every file."""
        for parts in self.tables.values():
            yield from parts
        yield from (layer for layer in (*self.layers, self.customers, self.ties) if layer is not None)

    def paths(self) -> Iterator[str]:
        """Every file's path."""
        return (each.path for each in self.every())

    def parts(self, name: str, until: int | None = None) -> list[Part]:
        """A table's files that hold anything with told_at <= `until` (None: all)."""
        return [part for part in self.tables[name] if until is None or part.first <= until]

    def untold(self) -> dict[str, list[Part]]:
        """The files of `told`."""
        by_path = {part.path: part for parts in self.tables.values() for part in parts}
        return {name: [by_path[path] for path in paths] for name, paths in self.told.items()}

    def as_json(self) -> dict[str, Any]:
        """As a list of files stands in its file."""
        return asdict(self)

    @classmethod
    def of_json(cls, found: Mapping[str, Any]) -> "ShopFiles":
        """What `as_json` gave."""
        tables = {name: [Part(*part) for part in found["tables"][name]] for name in TABLES}
        layers = [Layer(*layer) for layer in found["layers"]]
        one = {name: found[name] and Layer(*found[name]) for name in ("customers", "ties")}
        return cls(**{**found, "tables": tables, "layers": layers, **one})


@dataclass
class Root:
    """The whole: of which database, how far it is, the number of the next change, and each shop's list of files."""

    cursor: Cursor = START
    change: int = 0
    lists: dict[str, str] = field(default_factory=dict)
    database: str = ""


class Lake:
    """A lake in a folder, or in an object store with copies in that folder. One process fills it at a time (filling.py
    holds the lock); anybody reads. With a store every method may raise StoreError.
    """

    def __init__(self, folder: Path, objects: Objects | None = None) -> None:
        self.folder = folder
        self._objects = objects
        self._unsent: set[str] = set()
        self._filling = uuid4().hex[:8]
        self._tidied = -math.inf

    @property
    def where(self) -> str:
        """Where it is, for people."""
        return str(self.folder) if self._objects is None else self._objects.url

    # --- reading ---

    def root(self) -> Root:
        """As it stands; an empty one where there is none that can be read, or one of another shape."""
        found = self._read(_ROOT)
        if found is None or found["version"] != VERSION:
            return Root()
        return Root(Cursor(*found["cursor"]), found["change"], found["lists"], found["database"])

    def shop(self, root: Root, shop: str) -> ShopFiles | None:
        """A shop's files; None for one that the lake does not know, or of which a file is gone, or was cut off."""
        path = root.lists.get(shop)
        found = None if path is None else self._read(path)
        if found is None:
            return None
        files = ShopFiles.of_json(found)
        sizes = self._sizes(files)
        return files if all(sizes.get(each.path) == each.size for each in files.every()) else None

    def _read(self, path: str) -> dict[str, Any] | None:
        """What stands in a file of JSON; None where it is gone, or cannot be read."""
        try:
            if self._objects is None:
                content = (self.folder / path).read_bytes()
            elif (kept := self._objects.read(path)) is not None:
                content = kept
            else:
                return None
            found: dict[str, Any] = json.loads(content)
        except (FileNotFoundError, ValueError):
            return None
        return found

    def _sizes(self, files: ShopFiles) -> dict[str, int]:
        """Of those files that are there, the bytes of each."""
        if self._objects is None:
            return {path: size for path in files.paths() if (size := self._size(path)) is not None}
        folders = {"/".join(path.split("/")[:2]) for path in files.paths()}
        return {each.path: each.size for folder in sorted(folders) for each in self._objects.listed(folder)}

    def _size(self, path: str) -> int | None:
        try:
            return (self.folder / path).stat().st_size
        except FileNotFoundError:
            return None

    def paths(self, files: Iterable[Part | Layer]) -> list[Path]:
        """Where these files can be read: in the folder, brought there where the store alone has them."""
        asked = list(files)
        if self._objects is not None:
            lacking = [each for each in asked if self._size(each.path) != each.size]
            with ThreadPoolExecutor(_AT_ONCE, "lake") as threads:
                list(threads.map(self._fetch, lacking))
            for each in asked:
                self._touch(each.path)
            self._tidy()
        return [self.folder / each.path for each in asked]

    def _fetch(self, file: Part | Layer) -> None:
        assert self._objects is not None
        self._objects.fetch(file.path, self.folder / file.path)

    def _touch(self, path: str) -> None:
        with suppress(FileNotFoundError):
            os.utime(self.folder / path)

    def _tidy(self) -> None:
        """Removes copies that nobody has read for a day; looks for them once an hour."""
        if time.monotonic() - self._tidied < OLD:
            return
        self._tidied = time.monotonic()
        self._remove_older(UNREAD, set())

    def scan(self, parts: Iterable[Part], name: str) -> pl.LazyFrame:
        """The rows of these files of a table."""
        paths = self.paths(parts)
        return pl.scan_parquet(paths, hive_partitioning=False) if paths else pl.LazyFrame(schema=TABLES[name])

    # --- writing ---

    def _numbered(self, change: int) -> str:
        return f"{change:08d}-{self._filling}"

    def write(self, name: str, shop: str, change: int, frame: pl.DataFrame) -> Iterator[Part]:
        """Rows as files of this change, one a month."""
        if frame.is_empty():
            return
        dated = frame.with_columns(month=pl.from_epoch("told_at", time_unit="us").dt.strftime("%Y-%m"))
        for (month,), rows in dated.partition_by("month", as_dict=True, include_key=False).items():
            yield self.write_month(name, shop, str(month), change, rows)

    def write_month(self, name: str, shop: str, month: str, change: int, rows: pl.DataFrame) -> Part:
        """Rows of one month as one file, sorted by what its readers look for."""
        path = f"{name}/shop={shop}/month={month}/{self._numbered(change)}.parquet"
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        rows = rows.sort(list(TABLES[name])[:2])
        rows.write_parquet(target, compression="zstd", row_group_size=100_000)
        settle(target)
        self._unsent.add(path)
        times = rows["told_at"]
        return Part(path, rows.height, _number(times.min()), _number(times.max()), target.stat().st_size)

    def place(self, kind: str, shop: str, change: int) -> Path:
        """Where a file of this kind of this change goes; its folder is there."""
        target = self.folder / f"{kind}/shop={shop}/{self._numbered(change)}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def layer(self, target: Path) -> Layer:
        """The file that was written there."""
        settle(target)
        rows = pl.scan_parquet(target).select(pl.len()).collect().item()
        path = str(target.relative_to(self.folder))
        self._unsent.add(path)
        return Layer(path, rows, target.stat().st_size)

    def write_list(self, shop: str, change: int, files: ShopFiles) -> str:
        """The list of a shop's files, as this change leaves it; its path. A store has those files then, too."""
        path = f"lists/shop={shop}/{self._numbered(change)}.json"
        if self._objects is not None:
            with ThreadPoolExecutor(_AT_ONCE, "lake") as threads:
                list(threads.map(self._send, self._unsent.intersection(files.paths())))
        self._replace(path, files.as_json())
        return path

    def _send(self, path: str) -> None:
        assert self._objects is not None
        self._objects.send(path, self.folder / path)
        self._unsent.discard(path)

    def swap(self, root: Root) -> None:
        """From now on this is the lake."""
        self._replace(_ROOT, {"version": VERSION, **asdict(root)})

    def _replace(self, path: str, content: Any) -> None:
        text = json.dumps(content, separators=(",", ":"))
        if self._objects is not None:
            self._objects.write(path, text.encode())
            return
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        aside.write_text(text, encoding="utf-8")
        settle(aside)
        aside.replace(target)
        settle(target.parent)

    def let_go(self, parts: Iterable[str]) -> None:
        """Nothing names these files any more: from now on they grow old."""
        paths = list(parts)
        if self._objects is None:
            for path in paths:
                self._touch(path)
        elif paths:
            self._objects.write(f"{_GONE}/{uuid4().hex}.json", json.dumps(paths).encode())

    def forget_past(self, shop: str) -> None:
        """Nothing is kept of a shop's past instants from now on: what they were worked out from was wrong."""
        shutil.rmtree(self.folder / PAST / f"shop={shop}", ignore_errors=True)

    def sweep(self, root: Root, old: float = OLD) -> int:
        """Removes files that nothing names and that are older than `old` seconds; how many. A store is looked through
        once in that time."""
        if self._objects is None:
            return self._remove_older(old, self._named(root))
        there = {each.path: each for each in self._objects.listed()}
        before = time.time() - old
        swept = there.get(_SWEPT)
        if swept is not None and swept.written >= before:
            return 0
        lists = [each for path, each in there.items() if path.startswith(f"{_GONE}/") and path != _SWEPT]
        # What a filling has let go of stays as long as its list is young.
        staying = {path for each in lists if each.written >= before for path in self._gone(each.path)}
        staying |= self._named(root) | {_SWEPT}
        over = [path for path, each in there.items() if each.written < before and path not in staying]
        self._objects.remove(over)
        self._objects.write(_SWEPT, b"")
        return sum(not path.startswith(f"{_GONE}/") for path in over)

    def _gone(self, path: str) -> list[str]:
        assert self._objects is not None
        found: list[str] = json.loads(self._objects.read(path) or b"[]")
        return found

    def _named(self, root: Root) -> set[str]:
        named = {_ROOT, *root.lists.values()}
        for path in root.lists.values():
            if (found := self._read(path)) is not None:
                named |= set(ShopFiles.of_json(found).paths())
        return named

    def _remove_older(self, old: float, named: set[str]) -> int:
        before, removed = time.time() - old, 0
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder)
            if name.parts[0] == PAST or not path.is_file():
                continue
            with suppress(FileNotFoundError):  # another process was quicker
                if str(name) not in named and path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed


def of(settings: Settings) -> Lake:
    """The lake that is set."""
    return Lake(settings.lake, None if settings.lake_url is None else Objects(settings.lake_url))


def settle(path: Path) -> None:
    """What was written to a file, or which names a folder holds, outlives the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _number(value: Any) -> int:
    assert isinstance(value, int)
    return value
