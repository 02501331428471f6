"""A shop's files as they tell of an instant: those of the lake, and what was told since they were filled."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
from psycopg import Connection

from events import instants
from events.programs import Program
from lake import filling, people, refusals, versions
from lake.errors import BehindError, StoreError
from lake.manifest import START, Cursor, Lake, ShopFiles
from lake.refusals import Refused
from lake.rows import STREAMS, TABLES, Rows

#: Webhooks that a reader takes in beside the lake: beyond them it is to be filled.
MOST: Final = 20_000

#: An `until` that leaves out nothing.
EVER: Final = instants.parse("9998-12-31T23:59:59.999999Z")

_NEWER: Final = """
SELECT stream, key, value FROM raw_events
WHERE shop = %s AND stream = ANY(%s) AND xid >= %s::text::xid8 AND (xid, id) > (%s::text::xid8, %s::bigint)
  AND triggered_at <= %s::timestamptz
LIMIT %s"""


class Files(NamedTuple):
    """Files that hold all that was told of a shop up to an instant, be there more in them: versions in layers, oldest
    first, customers and ties (people.py), and the rows by table that they are made of.

    Of the raw history everything below the transaction `edge` is in them, but what is `refused` (a fingerprint). No row
    has a later `told_at` (microseconds) than `newest`.
    """

    layers: list[Path]
    customers: Path
    ties: Path
    rows: Mapping[str, Sequence[Path]]
    webhooks: int
    unreadable: int
    edge: str
    refused: str
    newest: int

    def until(self, at: int) -> int | None:
        """`at`, or None where nothing in the files was told after it: what holds then is what holds now, and that costs
        less to look up."""
        return None if at >= self.newest else at


@contextmanager
def told_until(connection: Connection[Any], lake: Lake, program: Program, until: int) -> Iterator[Files]:
    """The shop's files for `until` (microseconds), for as long as the block lasts; over an autocommit connection.

    Nothing is written to the lake. BehindError if too much is missing there, or if its store does not answer.
    """
    with ExitStack() as stack:
        try:
            found = stack.enter_context(_told_until(connection, lake, program, until))
        except StoreError as error:
            raise BehindError(f"the lake cannot be read: {error}") from error
        yield found


@contextmanager
def _told_until(connection: Connection[Any], lake: Lake, program: Program, until: int) -> Iterator[Files]:
    shop = program.shop
    root = filling.root_of(connection, lake)
    refused = refusals.of_shop(connection, shop)
    files, cursor = lake.shop(root, shop), root.cursor
    if files is None or (files.currency, files.refused) != (program.currency, refused.fingerprint):
        files, cursor = ShopFiles(program.currency, refused.fingerprint), START
    edge = filling.oldest_in_flight(connection)  # before the rows: whatever commits in between may be read twice
    newer = _newer(connection, shop, cursor, until)
    if len(newer) + _untold(files) > MOST:
        raise BehindError(
            f"the lake lacks more than {MOST:,} of the webhooks that {shop} was told of by then: the next batch takes"
            " them in, or `loyalnest lake fill` now"
        )
    if newer or files.told or files.customers is None or files.ties is None:
        with tempfile.TemporaryDirectory(prefix="loyalnest-") as folder:
            yield _with(lake, files, Path(folder), newer, refused, edge)
        return
    whom, ties, *layers = lake.paths([files.customers, files.ties, *files.layers])
    rows = {name: lake.paths(parts) for name, parts in files.tables.items()}
    yield Files(layers, whom, ties, rows, files.webhooks, files.unreadable, edge, refused.fingerprint, newest(files))


def newest(files: ShopFiles) -> int:
    """The greatest `told_at` (microseconds) in any of a shop's files; 0: they have none."""
    return max((part.last for parts in files.tables.values() for part in parts), default=0)


def _untold(files: ShopFiles) -> int:
    """Webhooks in files that versions do not tell of yet: somebody fills them, or was killed (one leaves a row or so in
    the table with the most)."""
    return max((sum(part.rows for part in parts) for parts in files.untold().values()), default=0)


def is_still_all(connection: Connection[Any], shop: str, until: int, edge: str, refused: str) -> bool:
    """Whether what was read of a shop when `edge` and `refused` stood so is still all that was told up to `until`."""
    if int(edge) > int(filling.oldest_in_flight(connection)):
        return False  # the database is a backup's
    if refusals.of_shop(connection, shop).fingerprint != refused:
        return False
    return not _newer(connection, shop, Cursor(int(edge), -1), until, 1)


def orders_told_since(connection: Connection[Any], program: Program, edge: str) -> pl.Series | None:
    """The orders of which anything was committed since the history was read up to `edge`, be it refused or not; None
    beyond MOST webhooks."""
    newer = _newer(connection, program.shop, Cursor(int(edge), -1), EVER)
    if len(newer) > MOST:
        return None
    rows = Rows(program.currency)
    rows.take((stream, value.encode()) for stream, _, value in newer)
    return pl.concat([rows.frame(name)["order_id"] for name in versions.TELLING])


def _newer(
    connection: Connection[Any], shop: str, cursor: Cursor, until: int, most: int = MOST + 1
) -> list[tuple[str, str, str]]:
    """(stream, key, value) of what was committed beyond the cursor and triggered up to `until`."""
    at = str(cursor.xid)
    asked = (shop, list(STREAMS), at, at, cursor.id, instants.text(until), most)
    return connection.execute(_NEWER, asked).fetchall()


def _with(
    lake: Lake, files: ShopFiles, folder: Path, newer: list[tuple[str, str, str]], refused: Refused, edge: str
) -> Files:
    """The lake's files and those that `newer` makes in a folder: as the next filling will, but there."""
    rows = Rows(files.currency)
    rows.take((stream, value.encode()) for stream, key, value in newer if (stream, key, value) not in refused)
    told = {name: lake.paths(parts) for name, parts in files.untold().items()}
    everything = {name: lake.paths(parts) for name, parts in files.tables.items()}
    last = newest(files)
    for name in TABLES:
        frame = rows.frame(name)
        if frame.height:
            last = max(last, frame.select(pl.col("told_at").max()).item())
            path = folder / f"{name}.parquet"
            frame.write_parquet(path)
            told.setdefault(name, []).append(path)
            everything[name].append(path)
    before = None
    if files.customers is not None and files.ties is not None:
        known, tied = lake.paths([files.customers, files.ties])
        before = known, tied
    whom, ties, target = folder / "whom.parquet", folder / "ties.parquet", folder / "versions.parquet"
    people.build(whom, ties, told, before, versions.MEMORY)
    versions.build(target, everything, told, whom)
    layers = [*lake.paths(files.layers), target]
    counts = files.webhooks + rows.webhooks, files.unreadable + rows.unreadable
    return Files(layers, whom, ties, everything, *counts, edge, refused.fingerprint, last)
