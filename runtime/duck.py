"""DuckDB in this process: what every connection of ours needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb


@contextmanager
def connected(
    memory: str | None = None, spill: Path | None = None, file: Path | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in `file` (None: in memory), for as long as the block lasts.

    Beyond so much `memory` (2GB) it spills into the folder `spill`. DuckDB would draw a bar on stdout for whatever
    takes longer than 2 s: our output is read by programs.
    """
    with duckdb.connect(":memory:" if file is None else str(file)) as connection:
        connection.execute("SET enable_progress_bar = false")
        if memory is not None:
            connection.execute(f"SET memory_limit = '{memory}'")
        if spill is not None:
            connection.execute(f"SET temp_directory = '{quoted(spill)}'")
        yield connection


@contextmanager
def locked(file: Path, memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in a file, to be read by whoever writes the SQL: nothing can be written, and no other file, no network
    and no setting can be reached from it. Instants show in UTC. duckdb.Error for a file that is none.
    """
    with duckdb.connect(str(file), read_only=True, config={"enable_external_access": False}) as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET memory_limit = '{memory}'")
        connection.execute("SET lock_configuration = true")
        yield connection


def quoted(path: Path) -> str:
    """A path as it stands between apostrophes in SQL."""
    return str(path).replace("'", "''")
