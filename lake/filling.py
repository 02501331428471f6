"""Filling the lake from the raw history, in the order of commits, each row of it once.

A transaction that began early may commit late, so the order of ids is not that of arrival: what is read is all that
stands below the oldest transaction still in flight, in the order (xid, id), and how far that was is swapped in with the
files that it made. Whoever is killed between two swaps has left files that nothing names; the next one begins where the
last swap ended.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
from psycopg import Connection

from lake import people, refusals, versions
from lake.errors import LakeError
from lake.manifest import START, Cursor, Lake, Part, Root, ShopFiles
from lake.refusals import Refused
from lake.rows import STREAMS, TABLES, Rows
from runtime import columns

#: Webhooks fetched and parsed at a time, and after how many the files are swapped in.
SLICE: Final = 20_000
SWAP: Final = 500_000

#: Files of a month below so many rows are merged once there are more than FEW of them.
SMALL: Final = 2_000_000
FEW: Final = 8

#: Layers of versions, at most: each is held against the older ones whenever they are read.
LAYERS: Final = 4

_BY_COMMIT: Final = """
SELECT xid::text::bigint, id, shop, stream, key, value FROM raw_events
WHERE (xid, id) > (%s::text::xid8, %s::bigint) AND xid < %s::text::xid8 AND stream = ANY(%s)
ORDER BY xid, id LIMIT %s"""
_OF_SHOP: Final = """
SELECT xid::text::bigint, id, shop, stream, key, value FROM raw_events
WHERE (xid, id) > (%s::text::xid8, %s::bigint) AND xid < %s::text::xid8 AND stream = ANY(%s) AND shop = %s
  AND (xid, id) <= (%s::text::xid8, %s::bigint)
ORDER BY xid, id LIMIT %s"""
_COLUMNS: Final = {
    "xid": pl.Int64,
    "id": pl.Int64,
    "shop": pl.String,
    "stream": pl.String,
    "key": pl.String,
    "value": pl.String,
}

_LOCK: Final = "SELECT pg_try_advisory_lock(hashtextextended('loyalnest lake', 0))"
_UNLOCK: Final = "SELECT pg_advisory_unlock(hashtextextended('loyalnest lake', 0))"


@dataclass
class Filled:
    """What a filling did: webhooks taken in, shops made anew, and how far the lake is."""

    webhooks: int = 0
    anew: int = 0
    cursor: Cursor = START


def fill(connection: Connection[Any], lake: Lake, on_progress: Callable[[int], None] = lambda _: None) -> Filled:
    """Takes in everything that has been committed, over an autocommit connection; `on_progress` is told how much.

    A shop that has a program since, another currency, or other refusals than when its files were made, is made anew.
    LakeError while another process fills it.
    """
    with _held(connection):
        return _Filling(connection, lake, on_progress).run()


def rebuild(connection: Connection[Any], lake: Lake, on_progress: Callable[[int], None] = lambda _: None) -> Filled:
    """As `fill`, of the whole history anew: the old files count until the new ones are whole."""
    with _held(connection):
        return _Filling(connection, lake, on_progress).run(anew=True)


@contextmanager
def _held(connection: Connection[Any]) -> Iterator[None]:
    row = connection.execute(_LOCK).fetchone()
    if row is None or not row[0]:
        raise LakeError("another process is filling the lake")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(_UNLOCK)


class _Filling:
    """One filling. `files` are those of the shops that it has touched, `rows` what waits to be written."""

    def __init__(self, connection: Connection[Any], lake: Lake, on_progress: Callable[[int], None]) -> None:
        self._connection = connection
        self._lake = lake
        self._on_progress = on_progress
        self._root: Root = root_of(connection, lake)
        self._files: dict[str, ShopFiles] = {}
        self._rows: dict[str, Rows] = {}
        self._waiting = 0
        self._gone: list[str] = []
        self._filled = Filled(cursor=self._root.cursor)

    def run(self, anew: bool = False) -> Filled:
        edge = oldest_in_flight(self._connection)
        currencies = dict(self._connection.execute("SELECT shop, program->>'currency' FROM programs").fetchall())
        refused = {shop: refusals.of_shop(self._connection, shop) for shop in currencies}
        for shop, currency in sorted(currencies.items()):
            known = self._lake.shop(self._root, shop)
            fingerprint = refused[shop].fingerprint
            if anew or known is None or (known.currency, known.refused) != (currency, fingerprint):
                if known is not None:
                    self._gone += known.paths()
                self._lake.forget_past(shop)
                self._anew(shop, currency, refused[shop], edge)
            elif known.told:  # somebody was killed before its versions were made
                self._files[shop] = known
        for shop in set(self._root.lists) - set(currencies):
            del self._root.lists[shop]
        at = self._root.cursor
        while (found := self._fetch(_BY_COMMIT, (*_texts(at), edge, list(STREAMS), SLICE))).height:
            for (shop,), rows in found.partition_by("shop", as_dict=True).items():
                if shop in currencies:
                    self._take(str(shop), rows, refused[str(shop)])
            at = Cursor(int(found["xid"][-1]), int(found["id"][-1]))
            if self._waiting >= SWAP:
                self._write()
                self._swap(at)
        self._write()
        self._finish()
        self._swap(at)
        self._lake.let_go(self._gone)
        self._lake.sweep(self._root)
        return self._filled

    def _anew(self, shop: str, currency: str, refused: Refused, edge: str) -> None:
        """A shop's files from its first webhook up to where the lake is; they count once the next swap is done."""
        self._files[shop] = ShopFiles(currency, refused.fingerprint)
        self._filled.anew += 1
        at, end = START, self._root.cursor
        while at != end:
            asked = (*_texts(at), edge, list(STREAMS), shop, *_texts(end), SLICE)
            found = self._fetch(_OF_SHOP, asked)
            if not found.height:
                return
            self._take(shop, found, refused)
            at = Cursor(int(found["xid"][-1]), int(found["id"][-1]))
            if self._waiting >= SWAP:
                self._write()

    def _take(self, shop: str, found: pl.DataFrame, refused: Refused) -> None:
        rows = self._rows.get(shop)
        if rows is None:
            rows = self._rows[shop] = Rows(self._of(shop).currency)
        rows.take(
            (stream, value.encode())
            for stream, key, value in found.select("stream", "key", "value").iter_rows()
            if (stream, key, value) not in refused
        )
        self._waiting += found.height
        self._filled.webhooks += found.height
        self._on_progress(self._filled.webhooks)

    def _of(self, shop: str) -> ShopFiles:
        if shop not in self._files:
            known = self._lake.shop(self._root, shop)
            assert known is not None
            self._files[shop] = known
        return self._files[shop]

    # --- writing ---

    def _write(self) -> None:
        """What waits becomes files, which nothing names yet."""
        if not self._rows:
            return
        self._root.change += 1
        for shop, rows in self._rows.items():
            files = self._of(shop)
            files.webhooks += rows.webhooks
            files.unreadable += rows.unreadable
            for name in TABLES:
                parts = list(self._lake.write(name, shop, self._root.change, rows.frame(name)))
                files.tables[name] += parts
                files.told.setdefault(name, []).extend(part.path for part in parts)
        self._rows, self._waiting = {}, 0

    def _swap(self, to: Cursor) -> None:
        """Files and cursor count from now on, together."""
        if not self._files and to == self._root.cursor:
            return
        self._root.change += 1
        for shop, files in self._files.items():
            if (before := self._root.lists.get(shop)) is not None:
                self._gone.append(before)
            self._root.lists[shop] = self._lake.write_list(shop, self._root.change, files)
        self._root.cursor = self._filled.cursor = to
        self._lake.swap(self._root)
        self._files = {shop: files for shop, files in self._files.items() if files.told}

    def _finish(self) -> None:
        """Customers and versions of whatever was told, and few files of each kind: once, when all has been read."""
        self._root.change += 1
        for shop, files in self._files.items():
            self._derive(shop, files)
            self._merge_small(shop, files)

    def _derive(self, shop: str, files: ShopFiles) -> None:
        rows = {name: self._lake.paths(parts) for name, parts in files.tables.items()}
        told = {name: self._lake.paths(parts) for name, parts in files.untold().items()} if files.layers else None
        whom, ties = (self._lake.place(kind, shop, self._root.change) for kind in ("customers", "ties"))
        before = None
        if files.customers is not None and files.ties is not None:
            known, tied = self._lake.paths([files.customers, files.ties])
            before = known, tied
            self._gone += [files.customers.path, files.ties.path]
        people.build(whom, ties, rows if told is None else told, before, versions.MEMORY)
        files.customers, files.ties = self._lake.layer(whom), self._lake.layer(ties)
        target = self._lake.place("versions", shop, self._root.change)
        versions.build(target, rows, told, whom)
        files.layers.append(self._lake.layer(target))
        files.told = {}
        newer = sum(layer.rows for layer in files.layers[1:])
        if len(files.layers) > LAYERS or newer > files.layers[0].rows // 2:
            merged, self._root.change = files.layers, self._root.change + 1
            target = self._lake.place("versions", shop, self._root.change)
            versions.merge(self._lake.paths(merged), target)
            files.layers = [self._lake.layer(target)]
            self._gone += [layer.path for layer in merged]

    def _merge_small(self, shop: str, files: ShopFiles) -> None:
        for name, parts in files.tables.items():
            months: dict[str, list[Part]] = {}
            for part in parts:
                if part.rows < SMALL:
                    months.setdefault(part.month, []).append(part)
            for month, small in months.items():
                if len(small) > FEW:
                    rows = self._lake.scan(small, name).collect()
                    merged = self._lake.write_month(name, shop, month, self._root.change, rows)
                    files.tables[name] = [part for part in files.tables[name] if part not in small] + [merged]
                    self._gone += [part.path for part in small]

    def _fetch(self, statement: str, parameters: tuple[Any, ...]) -> pl.DataFrame:
        return columns.fetch(self._connection, statement, parameters, _COLUMNS)


def _texts(at: Cursor) -> tuple[str, int]:
    return str(at.xid), at.id


def root_of(connection: Connection[Any], lake: Lake) -> Root:
    """The lake as it stands, if it is of this database and not ahead of it; else an empty one, to be filled anew.

    A data folder may outlive its database, or be given another: the same shop there is not the same history.
    """
    root, database = lake.root(), database_of(connection)
    if root.database == database and root.cursor.xid < int(oldest_in_flight(connection)):
        return root
    return Root(change=root.change, database=database)


def database_of(connection: Connection[Any]) -> str:
    """What tells this database from others: when it was first migrated."""
    found = connection.execute(
        "SELECT (extract(epoch FROM min(applied_at)) * 1000000)::bigint::text FROM schema_migrations"
    ).fetchone()
    return str(found[0] if found is not None else None)


def oldest_in_flight(connection: Connection[Any]) -> str:
    """The oldest transaction that may still add rows: everything below it is there, or never will be."""
    found = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
    assert found is not None
    xid: str = found[0]
    return xid
