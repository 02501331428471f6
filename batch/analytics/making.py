"""Making the analysts' file of a shop: aside, and swapped in by one rename once it is whole.

Whoever has the old one open keeps it; whoever opens the file afterwards sees the new one. A process that is killed
leaves a folder beside the file, which the next one removes.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
from psycopg import Connection

from batch import frames
from batch.analytics import addresses, clocks, products, staging
from batch.analytics.products import LARGEST_BASKET, LEAST_PAIRS, MOST_PAIRS
from batch.analytics.tables import TABLES, VERSION
from batch.analytics.words import Table
from events import instants, money
from events.programs import Program
from lake import filling, manifest
from lake.errors import LakeError
from lake.manifest import Lake, ShopFiles, settle
from runtime import duck, patience
from runtime.settings import Settings

#: Of DuckDB, which spills beyond it.
MEMORY: Final = "2GB"

#: Whoever fills the lake now is waited for (seconds).
PATIENCE: Final = 600.0

#: And whoever makes the same shop's file.
HELD: Final = 10.0

#: Columns of texts that hardly any two rows share: to look for what they do takes three times what writing them does.
_HARDLY_TWICE: Final = frozenset({"order_id", "customer_id", "refund_id", "source_id"})

#: The macro of the making, in SQL that outlives it.
_LOCAL: Final = re.compile(r"\blocal\((\w+)\)")

#: What a stage is called, and how many of how many are done.
OnProgress = Callable[[str, int, int], None]


class Made(NamedTuple):
    """A shop's file: where it is, its bytes, rows by table, the instant (microseconds) that it holds for, seconds."""

    shop: str
    path: Path
    size: int
    rows: dict[str, int]
    made_at: int
    seconds: float


def main(
    settings: Settings,
    shop: str,
    out: Path | None = None,
    parquet: bool = False,
    on_progress: OnProgress = lambda *_: None,
    key: str | None = None,
) -> Made:
    """Makes a shop's file, at `out` or where `settings.analytics_file` has it; with `parquet` its tables beside it too.

    With an API `key` that allows it the file holds addresses, and must be one at `out`: it is nobody's by default.
    BatchError, LakeError and psycopg.Error say what went wrong: then the old file stands as it was.
    """
    with frames.connect(settings) as connection:
        target = settings.analytics_file(shop) if out is None else out
        now = instants.from_datetime(datetime.now(UTC))
        write = None if key is None else partial(addresses.write, settings, shop, key)
        return make(connection, manifest.of(settings), shop, target, now, parquet, on_progress, write)


def make(
    connection: Connection[Any],
    lake: Lake,
    shop: str,
    target: Path,
    made_at: int,
    parquet: bool = False,
    on_progress: OnProgress = lambda *_: None,
    write_addresses: Callable[[Path], None] | None = None,
) -> Made:
    """As `main`, over an autocommit connection, as of an instant (microseconds): what happens after it is not yet."""
    began = time.monotonic()
    program = frames.program(connection, shop)
    with _held(connection, shop):
        patience.retried(partial(filling.fill, connection, lake), LakeError, PATIENCE, every=1.0)
        files = lake.shop(filling.root_of(connection, lake), shop)
        if files is None or files.told:
            raise frames.BatchError(f"the lake lacks {shop}: try again, or run `loyalnest lake rebuild`")
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f".{target.name}.*"):
            shutil.rmtree(left)
        aside = target.parent / f".{target.name}.{os.getpid()}"
        aside.mkdir(mode=0o700)
        try:
            fresh = aside / "fresh.duckdb"
            tables: tuple[Table, ...] = TABLES
            if write_addresses is not None:
                write_addresses(aside / "addresses.csv")
                tables = (*TABLES, addresses.TABLE)
            with duck.connected(MEMORY, aside / "spill", fresh) as into:
                if write_addresses is not None:
                    staging.of_csv("addresses", aside / "addresses.csv", addresses.COLUMNS, into)
                _stage(connection, lake, files, program, made_at, into, aside)
                rows = _fill(into, program, made_at, on_progress, tables)
                if parquet:
                    _write_parquet(into, aside / "parquet", tables)
                products.store(connection, into, shop, aside)
            if write_addresses is not None:
                fresh.chmod(0o600)
            _swap(fresh, target)
            if parquet:
                _swap_folder(aside / "parquet", target.with_suffix(".parquet"), made_at)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return Made(shop, target, target.stat().st_size, rows, made_at, time.monotonic() - began)


@contextmanager
def _held(connection: Connection[Any], shop: str) -> Iterator[None]:
    """One file of a shop at a time. The server lets go for whoever was killed a little later."""
    name = ("loyalnest analytics " + shop,)

    def take() -> bool:
        row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", name).fetchone()
        return row == (True,)

    if not patience.until(take, HELD, every=0.2):
        raise frames.BatchError(f"another process is making the analysts' file of {shop}")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", name)


def _stage(
    connection: Connection[Any],
    lake: Lake,
    files: ShopFiles,
    program: Program,
    made_at: int,
    into: duckdb.DuckDBPyConnection,
    folder: Path,
) -> None:
    with ThreadPoolExecutor(1) as aside:  # one waits for the server while the other works
        copied = aside.submit(staging.copy_database, connection, program.shop, folder)
        staging.of_lake(lake, files, program, into, folder)
        copied.result()
    staging.of_database(into, folder)
    staging.of_program(program, into)
    staging.of_months(connection, lake, program, made_at, into, folder)
    places, unit = money.exponent(program.currency), _unit(program.currency)
    # No hash of an address leaves the house: who is known by one alone has another id in each file.
    salt = secrets.token_hex(16)
    for macro in (
        f"total(minor) AS (minor::DECIMAL(19, 0) * {unit})::DECIMAL(19, {places})",
        f"local(instant) AS {clocks.local('instant', program.zone, made_at)}",
        f"shown(id) AS CASE WHEN starts_with(id, 'mail-') THEN 'mail-' || left(md5('{salt}' || id), 16) ELSE id END",
    ):
        into.execute(f"CREATE TEMP MACRO {macro}")


def _fill(
    into: duckdb.DuckDBPyConnection,
    program: Program,
    made_at: int,
    on_progress: OnProgress,
    tables: Sequence[Table],
) -> dict[str, int]:
    into.execute("SET TimeZone = 'UTC'")
    into.execute("SET preserve_insertion_order = false")
    words = {
        "made_at": f"make_timestamptz({made_at})",
        "shop": _text(program.shop),
        "currency": _text(program.currency),
        "decimals": str(money.exponent(program.currency)),
        "unit": _unit(program.currency),
        "zone": _text(program.zone),
        "look_back_days": "NULL::INTEGER" if program.look_back_days is None else str(program.look_back_days),
        "look_back_from": (
            "'-infinity'::TIMESTAMPTZ"
            if program.look_back_days is None
            else f"make_timestamptz({made_at - program.look_back_days * instants.DAY})"
        ),
        "version": str(VERSION),
        "most": str(money.MAX_MINOR),
        "largest_basket": str(LARGEST_BASKET),
        "least_pairs": str(LEAST_PAIRS),
        "most_pairs": str(MOST_PAIRS),
    }
    rows = {}
    for done, table in enumerate(tables):
        on_progress(table.name, done, len(tables))
        _create(into, table, words, partial(clocks.local, zone=program.zone, now=made_at))
        if table.kind == "TEMP TABLE":
            continue
        into.execute(f"COMMENT ON {table.kind} {table.name} IS {_text(table.means)}")
        for column, means in table.columns.items():
            into.execute(f"COMMENT ON COLUMN {table.name}.{column} IS {_text(means)}")
        if table.kind == "TABLE":
            (rows[table.name],) = into.execute(f"SELECT count(*) FROM {table.name}").fetchone() or (0,)
    return rows


def _create(
    into: duckdb.DuckDBPyConnection, table: Table, words: Mapping[str, str], local: Callable[[str], str]
) -> None:
    """With its rows. `local` is the SQL of an instant by the clocks of the shop."""
    query = f"SELECT * FROM ({_said(table.query, words)}) AS found ({', '.join(table.stored)})"
    if table.kind != "TABLE":
        into.execute(f"CREATE {table.kind} {table.name} AS {query}")
        return
    types = {name: kind for name, kind, *_ in into.execute(f"DESCRIBE {query}").fetchall()}
    columns = [
        f"{name} GENERATED ALWAYS AS ({_LOCAL.sub(lambda found: local(found[1]), _said(table.derived[name], words))})"
        if name in table.derived
        else f"{name} {types[name]}{' USING COMPRESSION uncompressed' if name in _HARDLY_TWICE else ''}"
        for name in table.columns
    ]
    into.execute(f"CREATE TABLE {table.name} ({', '.join(columns)})")
    into.execute(f"INSERT INTO {table.name} {query}")


def _said(query: str, words: Mapping[str, str]) -> str:
    """The SQL with its words in their places."""
    for name, word in words.items():
        query = query.replace(f"{{{name}}}", word)
    return query


def _unit(currency: str) -> str:
    """A minor unit in major ones, as SQL has it."""
    places = money.exponent(currency)
    return f"0.{1:0{places}d}" if places else "1"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _write_parquet(into: duckdb.DuckDBPyConnection, folder: Path, tables: Sequence[Table]) -> None:
    folder.mkdir()
    for table in tables:
        if table.kind != "TABLE":
            continue
        target = duck.quoted(folder / f"{table.name}.parquet")
        into.execute(f"COPY {table.name} TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def _swap(fresh: Path, target: Path) -> None:
    """The file counts from now on; both its content and its name outlive the machine."""
    settle(fresh)
    fresh.replace(target)
    settle(target.parent)


def _swap_folder(fresh: Path, link: Path, made_at: int) -> None:
    """`link` leads to the new folder from now on. The one before stays until the next: somebody may read it."""
    folder = link.with_name(f"{link.name}.{made_at}")
    # By what the link says, and not by their numbers: the clock may have been put back.
    stay = {folder, *([link.parent / link.readlink()] if link.is_symlink() else [])}
    fresh.rename(folder)
    aside = link.with_name(f".{link.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)  # of somebody who was killed between the two
    aside.symlink_to(folder.name)
    aside.replace(link)
    settle(link.parent)
    for old in set(link.parent.glob(f"{link.name}.[0-9]*")) - stay:
        shutil.rmtree(old)
