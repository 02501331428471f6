"""Each customer of a shop once, and each link once: what tells as of any instant who was known, and who was whom.

`customers`: customer_id, `customer` (a number that stays theirs, by which orders' versions name them) and `known_from`
(null: never known by themselves). `ties`: customer_id, into (null: they were kept), rank and `told_at`, of all who are
in `customers`. Both are written anew as a whole whenever a shop is told more of; instants are microseconds, each the
first at which it was told.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from lake.rows import TABLES
from runtime import duck

CUSTOMERS: Final = {"customer_id": pl.String, "customer": pl.Int32, "known_from": pl.Int64}
TIES: Final = {"customer_id": pl.String, "into": pl.String, "rank": pl.String, "told_at": pl.Int64, "named": pl.Boolean}

#: The tables whose rows make them.
TELLING: Final = ("owners", "people", "links", "kept")

_CUSTOMERS: Final = """
COPY (
SELECT coalesce(b.customer_id, t.customer_id) AS customer_id,
       coalesce(b.customer, (SELECT coalesce(max(customer), -1) FROM customers_before) + row_number() OVER (
           PARTITION BY b.customer IS NULL ORDER BY t.customer_id))::INTEGER AS customer,
       least(b.known_from, t.known_from) AS known_from
FROM customers_before AS b FULL JOIN (
    SELECT customer_id, min(told_at) FILTER (known) AS known_from
    FROM (SELECT customer_id, told_at, true AS known FROM owners
          UNION ALL SELECT customer_id, told_at, known FROM people)
    GROUP BY customer_id
) AS t ON b.customer_id = t.customer_id
ORDER BY customer_id
) TO '{target}' (FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE 100000)
"""

# An address that was never anybody's own tells of nobody; it may become one's later, and so it stays.
_TIES: Final = """
COPY (
SELECT customer_id, "into", rank, min(told_at) AS told_at,
       customer_id IN (SELECT customer_id FROM read_parquet('{customers}')) AS named
FROM (
    SELECT customer_id, "into", rank, told_at FROM ties_before
    UNION ALL SELECT customer_id, "into", rank, told_at FROM links
    UNION ALL SELECT customer_id, NULL, rank, told_at FROM kept
) GROUP BY customer_id, "into", rank
ORDER BY customer_id, rank
) TO '{target}' (FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE 100000)
"""


def build(
    customers: Path, ties: Path, told: Mapping[str, Sequence[Path]], before: tuple[Path, Path] | None, memory: str
) -> None:
    """Writes both files, of `before` (customers, ties; None: there were none) and of what files of rows tell since."""
    with duck.connected(memory, customers.parent / ".spill") as connection:
        for name in TELLING:
            connection.execute(f"CREATE VIEW {name} AS {duck.select(told.get(name, ()), TABLES[name])}")
        for name, schema, at in (("customers", CUSTOMERS, 0), ("ties", TIES, 1)):
            files = () if before is None else (before[at],)
            connection.execute(f"CREATE VIEW {name}_before AS {duck.select(files, schema)}")
        connection.execute(_CUSTOMERS.replace("{target}", duck.quoted(customers)))
        of = _TIES.replace("{customers}", duck.quoted(customers))
        connection.execute(of.replace("{target}", duck.quoted(ties)))


def known(customers: Path, until: int) -> pl.LazyFrame:
    """Who was known as of an instant, by customer_id: customer_id and `customer`."""
    return pl.scan_parquet(customers).filter(pl.col("known_from") <= until).select("customer_id", "customer")


def told(ties: Path, until: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`links` and `kept` as of an instant, as identity.holding takes them, of whoever is somebody."""
    then = pl.scan_parquet(ties).filter(pl.col("named") & (pl.col("told_at") <= until))
    links = then.filter(pl.col("into").is_not_null()).select("customer_id", "into", "rank")
    kept = then.filter(pl.col("into").is_null()).group_by("customer_id").agg(pl.col("rank").max())
    found = pl.collect_all([links, kept])
    return found[0], found[1]
