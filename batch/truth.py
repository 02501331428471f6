"""What a shop's history says of everybody and of every order, for parity: from the lake, else joined in memory."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import polars as pl
from psycopg import Connection

from batch import orders, standing
from batch.history import History
from events.programs import CutPoints, Program
from lake import filling, identity, past, reading, versions
from lake.errors import BehindError, LakeError
from lake.manifest import Lake
from lake.reading import Files
from lake.rows import TABLES
from runtime import duck

# Who was named, and the greatest time of what was about them by themselves or by an order of theirs.
_EVERYONE: Final = """
COPY (
SELECT customer_id, max(now) AS now, bool_or(known) AS known
FROM (SELECT customer_id, now, known FROM people
      UNION ALL SELECT customer_id, now, true FROM owners
      LEFT JOIN (SELECT order_id, max(now) AS now FROM events GROUP BY order_id) USING (order_id))
GROUP BY customer_id ORDER BY customer_id
) TO '{target}' (FORMAT parquet)
"""


class Truth(NamedTuple):
    """Everybody who is known (customer_id, now: of what was about them), what rows (customer_id, now) should be each as
    of its `now`, what each order is worth (`valued` of lake/valuing.py), with how many they are, and the awards that
    stand (lake/accounts.py).

    `folder` is for files of whoever compares.
    """

    known: pl.DataFrame
    expected: Callable[[pl.DataFrame, Sequence[CutPoints]], pl.DataFrame]
    worth: pl.LazyFrame
    orders: int
    given: pl.DataFrame
    folder: Path


@contextmanager
def of(connection: Connection[object], program: Program, lake: Lake | None) -> Iterator[Truth]:
    """By all that was told, for as long as the block lasts; over an autocommit connection.

    From the lake, memory grows with customers, not with orders; where there is none, or one that is behind while
    another process fills it, the whole history is joined in memory.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loyalnest-")))
        files = None
        if lake is not None:
            with suppress(LakeError):  # another process fills it
                filling.fill(connection, lake)
            with suppress(BehindError):
                files = stack.enter_context(reading.told_until(connection, lake, program, reading.EVER))
        yield _of_history(connection, program, lake, folder) if files is None else _of_files(files, program, folder)


def _of_history(connection: Connection[object], program: Program, lake: Lake | None, folder: Path) -> Truth:
    history = History(program.shop, program.currency, lake)
    history.read(connection)
    worth = orders.worth(history, program)

    def expected(rows: pl.DataFrame, published: Sequence[CutPoints]) -> pl.DataFrame:
        return standing.expected(rows, worth, history, published, program)

    known = history.customers().select("customer_id", "now")
    return Truth(known, expected, worth.lazy(), worth.height, orders.given(history, program), folder)


def _of_files(files: Files, program: Program, folder: Path) -> Truth:
    parts, count = [], 0
    for at, found in enumerate(orders.all_of(files.layers, files.ties, program)):
        parts.append(folder / f"worth-{at}.parquet")
        found.write_parquet(parts[-1])
        count += found.height

    def expected(rows: pl.DataFrame, published: Sequence[CutPoints]) -> pl.DataFrame:
        return standing.expected_of(files, rows, published, program)

    return Truth(
        _known(files, folder), expected, versions.scan(parts), count, past.given(files, program, reading.EVER), folder
    )


def _known(files: Files, folder: Path) -> pl.DataFrame:
    """As `customers` of batch/history.py."""
    target = folder / "everyone.parquet"
    with duck.connected(versions.MEMORY, folder / "spill") as connection:
        for name in ("people", "owners", "events"):
            connection.execute(f"CREATE VIEW {name} AS {duck.select(files.rows[name], TABLES[name])}")
        connection.execute(_EVERYONE.replace("{target}", duck.quoted(target)))
    everyone = pl.read_parquet(target)
    links = pl.DataFrame(schema=TABLES["links"])
    if files.rows["links"]:
        links = versions.scan(files.rows["links"]).collect()
    told = identity.told(everyone, links.unique(["customer_id", "into"]))
    return everyone.filter("known").select("customer_id").join(told, on="customer_id", how="left").sort("customer_id")
