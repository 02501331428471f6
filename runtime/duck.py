"""DuckDB in this process: what every connection of ours needs.

It is loaded by the first connection: the API, which asks it for past instants alone, starts and ends sooner without.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

if TYPE_CHECKING:
    import duckdb

_TYPES: Final[dict[Any, str]] = {
    pl.String: "VARCHAR",
    pl.Int64: "BIGINT",
    pl.Int32: "INTEGER",
    pl.Boolean: "BOOLEAN",
}


@contextmanager
def connected(
    memory: str | None = None, spill: Path | None = None, file: Path | None = None
) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A database in `file` (None: in memory), for as long as the block lasts.

    Beyond so much `memory` (2GB) it spills into the folder `spill`. DuckDB would draw a bar on stdout for whatever
    takes longer than 2 s: our output is read by programs.
    """
    import duckdb

    with duckdb.connect(":memory:" if file is None else str(file)) as connection:
        connection.execute("SET enable_progress_bar = false")
        if memory is not None:
            connection.execute(f"SET memory_limit = '{memory}'")
        if spill is not None:
            connection.execute(f"SET temp_directory = '{quoted(spill)}'")
        yield connection


@contextmanager
def locked(file: Path, memory: str) -> Iterator["duckdb.DuckDBPyConnection"]:
    """A database in a file, to be read by whoever writes the SQL: nothing can be written, and no other file, no network
    and no setting can be reached from it. Instants show in UTC. duckdb.Error for a file that is none.
    """
    import duckdb

    with duckdb.connect(str(file), read_only=True, config={"enable_external_access": False}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET memory_limit = '{memory}'")
        connection.execute("SET lock_configuration = true")
        yield connection


def quoted(path: Path) -> str:
    """A path as it stands between apostrophes in SQL."""
    return str(path).replace("'", "''")


def select(files: Sequence[Path], schema: Mapping[str, Any], placed: bool = False) -> str:
    """SQL: the rows of these Parquet files, all of one shape; of none, an empty table of `schema` (Polars' types).

    If `placed`, with the place of each beside: file_index and file_row_number.
    """
    place = ["file_index", "file_row_number"] if placed else []
    if files:
        listed = ", ".join(f"'{quoted(path)}'" for path in files)
        columns = ", ".join(["*", *place])
        return f"SELECT {columns} FROM read_parquet([{listed}], hive_partitioning = false)"  # noqa: S608 - our own names
    columns = ", ".join(f'NULL::{_type(kind)} AS "{column}"' for column, kind in schema.items())
    return f"SELECT {', '.join([columns, *(f'NULL::BIGINT AS {column}' for column in place)])} WHERE false"


def _type(kind: Any) -> str:
    return f"{_TYPES[kind.inner]}[]" if isinstance(kind, pl.List) else _TYPES[kind]
