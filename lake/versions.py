"""Each order's versions: what it was from one webhook's time to the next, so that any instant is a filter.

A version is what the rows of lake/rows.py with told_at <= T come to, joined: of the snapshots the newest, of refunds
and events the greatest, and a refund's goods taken off where the snapshot does not know of it yet. It holds for every T
from `valid_from` on, before `valid_to` (null: until now). Nothing in it depends on a program.

An order that is told more of is made anew as a whole: `versions` files stand in layers, and of an order the layer that
was written last counts.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import polars as pl

from lake import people
from lake.rows import TABLES
from runtime import duck

#: An order's state, whatever the instant. `left` and `tax` are what goods and their tax come to, less refunds that the
#: snapshot does not know of; `beyond` what refunds took beyond their goods, `money_beyond` the same by the money paid
#: back. Minor units; microseconds.
STATE: Final = (
    *("order_id", "customer_id", "processed_at", "status", "test", "cancelled", "deleted"),
    *("left", "tax", "gross", "gross_tax", "beyond", "money_beyond"),
)

#: A version's columns; `customer` is the owner's number (people.py), by which they are grouped.
SCHEMA: Final = {
    "order_id": pl.String,
    "valid_from": pl.Int64,
    "valid_to": pl.Int64,
    "customer_id": pl.String,
    "customer": pl.Int32,
    "processed_at": pl.Int64,
    "status": pl.String,
    **dict.fromkeys(("test", "cancelled", "deleted"), pl.Boolean),
    **dict.fromkeys(("left", "tax", "gross", "gross_tax", "beyond", "money_beyond"), pl.Int64),
}

#: Of a build: DuckDB spills beyond it.
MEMORY: Final = "2GB"

#: Versions looked at at a time, whatever the shop: it bounds the memory of an answer.
SLICE: Final = 2_000_000

#: The tables whose rows make an order's versions.
TELLING: Final = ("snapshots", "events", "refunds")

_BUILD: Final = """
COPY (
WITH s AS (
    SELECT *, row_number() OVER (
        PARTITION BY order_id ORDER BY updated_at, triggered_at, webhook_id, digest) AS rank
    FROM snapshots
), moments AS (
    SELECT order_id, told_at, max(rank) AS rank, coalesce(bool_or(cancelled), false) AS cancelled,
           coalesce(bool_or(deleted), false) AS deleted
    FROM (
        SELECT order_id, told_at, rank, NULL AS cancelled, NULL AS deleted FROM s
        UNION ALL SELECT order_id, told_at, NULL, cancelled, deleted FROM events
        UNION ALL SELECT order_id, told_at, NULL, NULL, NULL FROM refunds
    ) GROUP BY order_id, told_at
), states AS (
    SELECT order_id, told_at, max(rank) OVER past AS rank, bool_or(cancelled) OVER past AS cancelled,
           bool_or(deleted) OVER past AS deleted,
           lead(told_at) OVER (PARTITION BY order_id ORDER BY told_at) AS valid_to
    FROM moments WINDOW past AS (PARTITION BY order_id ORDER BY told_at)
), found AS (
    SELECT states.told_at, states.valid_to, states.cancelled, states.deleted, s.* EXCLUDE (told_at)
    FROM states JOIN s USING (order_id, rank)
), refunded AS (
    SELECT order_id, told_at, refund_id, max(r.created_at) AS created_at, max(r.goods) AS goods,
           max(r.goods_tax) AS goods_tax, max(r.beyond) AS beyond, max(r.paid) AS paid
    FROM (SELECT order_id, told_at FROM found) AS f
    JOIN (SELECT * RENAME (told_at AS refund_told_at) FROM refunds) AS r USING (order_id)
    WHERE refund_told_at <= told_at
    GROUP BY order_id, told_at, refund_id
), listed AS (
    -- A row for each id: to look for each refund in its order's list takes the square of an order's refunds.
    SELECT DISTINCT order_id, told_at, unnest(refund_ids) AS refund_id, true AS listed FROM found
), taken AS (
    SELECT order_id, told_at,
           sum(goods) FILTER (NOT known) AS unknown, sum(goods_tax) FILTER (NOT known) AS unknown_tax,
           sum(beyond) AS beyond, sum(CASE WHEN paid <> -1 THEN paid - goods ELSE beyond END) AS money_beyond
    FROM (
        SELECT refunded.*, CASE WHEN unlisted THEN created_at <= updated_at ELSE listed IS NOT NULL END AS known
        FROM refunded
        JOIN (SELECT order_id, told_at, updated_at, refund_ids IS NULL AS unlisted FROM found)
            USING (order_id, told_at)
        LEFT JOIN listed USING (order_id, told_at, refund_id)
    ) GROUP BY order_id, told_at
)
SELECT order_id, told_at AS valid_from, valid_to, customer_id, customer, processed_at, status, test, cancelled, deleted,
       (base - gift - coalesce(unknown, 0))::BIGINT AS "left", (tax - coalesce(unknown_tax, 0))::BIGINT AS tax,
       gross, gross_tax, coalesce(beyond, 0)::BIGINT AS beyond, coalesce(money_beyond, 0)::BIGINT AS money_beyond
FROM found LEFT JOIN taken USING (order_id, told_at) LEFT JOIN customers USING (customer_id)
ORDER BY customer, order_id, valid_from
) TO '{target}' (FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE 100000)
"""


def build(
    target: Path, rows: Mapping[str, Sequence[Path]], told: Mapping[str, Sequence[Path]] | None, customers: Path
) -> None:
    """Writes the versions of every order that `told` (files of rows, by table) tells of; None: of all.

    `rows` are all files of a shop, by table; those of `told` are among them. `customers` (people.py) knows all owners.
    """
    with ExitStack() as stack:
        if told is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loyalnest-")))
            rows = {name: _of_asked(rows[name], told, folder / f"{name}.parquet") for name in TELLING}
        connection = stack.enter_context(duck.connected(MEMORY, target.parent / ".spill"))
        for name in TELLING:
            connection.execute(f"CREATE VIEW {name} AS {duck.select(rows[name], TABLES[name])}")
        connection.execute(f"CREATE VIEW customers AS {duck.select([customers], people.CUSTOMERS)}")
        connection.execute(_BUILD.replace("{target}", duck.quoted(target)))


def _of_asked(files: Sequence[Path], told: Mapping[str, Sequence[Path]], target: Path) -> list[Path]:
    """Of these files the rows of orders that `told` tells of, as a file; none if there are no files."""
    if not files:
        return []
    asked = pl.concat(
        [
            pl.LazyFrame(schema={"order_id": pl.String}),
            *(scan(told[name]).select("order_id") for name in TELLING if told.get(name)),
        ]
    )
    theirs = scan(files).filter(of_orders(asked.unique().collect()["order_id"]))
    theirs.drop("now", strict=False).sink_parquet(target)  # an event's own time says nothing of its order
    return [target]


def scan(files: Sequence[Path]) -> pl.LazyFrame:
    """The rows of files of one table; there must be one at least."""
    return pl.scan_parquet(list(files), hive_partitioning=False)


def of_orders(ids: pl.Series) -> pl.Expr:
    """Whether a row is of one of these orders.

    Polars makes values of those rows' other columns alone, which costs less than DuckDB's semi join; and as ids ascend
    with time, whole groups of rows lie outside the range.
    """
    order = pl.col("order_id")
    return order.is_in(ids.implode()) & order.is_between(pl.lit(ids.min()), pl.lit(ids.max()))


def as_of(layers: Sequence[Path], until: int | None) -> pl.LazyFrame:
    """Each order that was there, in its state (STATE) as of an instant (None: now); the layers oldest first."""
    return _rows(layers).filter(holding(until)).select(STATE)


def slices(
    layers: Sequence[Path], until: int | None, wanted: pl.Expr, columns: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """As `as_of`, some columns of those orders that are `wanted`, in frames of SLICE versions or fewer."""
    yield from every(layers, holding(until) & wanted, columns)


def every(layers: Sequence[Path], wanted: pl.Expr, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Some columns of the versions that are `wanted`, of whatever instants, in frames of SLICE of them or fewer."""
    return (rows.collect() for rows in scans(layers, wanted, columns))


def scans(layers: Sequence[Path], wanted: pl.Expr, columns: Sequence[str]) -> Iterator[pl.LazyFrame]:
    """As `every`, to be read: what is made of them part by part is never held as a whole."""
    for at, layer in enumerate(layers):
        newer = _orders(layers[at + 1 :])
        for first in range(0, pl.scan_parquet(layer).select(pl.len()).collect().item(), SLICE):
            rows = pl.scan_parquet(layer).slice(first, SLICE).filter(wanted)
            if newer is None:
                yield rows.select(columns)
            else:
                # A set made once for all these rows: half of what an anti join of Polars' costs.
                found = rows.select({"order_id", *columns}).collect()
                yield found.filter(~found["order_id"].is_in(newer)).select(columns).lazy()


def _orders(layers: Sequence[Path]) -> pl.Series | None:
    if not layers:
        return None
    found = pl.concat([pl.scan_parquet(layer).select("order_id") for layer in layers]).unique().collect()
    return found["order_id"].implode()


def holding(until: int | None) -> pl.Expr:
    """Whether a version holds as of an instant (None: now)."""
    if until is None:
        return pl.col("valid_to").is_null()
    return (pl.col("valid_from") <= until) & (pl.col("valid_to").is_null() | (pl.col("valid_to") > until))


def merge(layers: Sequence[Path], target: Path) -> None:
    """Writes several layers, oldest first, as one."""
    _rows(layers).sort("customer", "order_id", "valid_from").sink_parquet(
        target, compression="lz4", row_group_size=100_000
    )


def _rows(layers: Sequence[Path]) -> pl.LazyFrame:
    """All versions. Of an order the newest layer counts, with all that it has of it."""
    found = []
    for at, layer in enumerate(layers):
        rows = pl.scan_parquet(layer)
        for later in layers[at + 1 :]:
            rows = rows.join(pl.scan_parquet(later).select("order_id").unique(), on="order_id", how="anti")
        found.append(rows)
    return pl.concat(found) if found else pl.LazyFrame(schema=SCHEMA)
