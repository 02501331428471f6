"""Parity: the stream's tables as the sink stored them, against a recomputation from the raw history (truth.py).

Every customer is held against the history as of their own row's `now`, with the cut points of that time. An empty
list of differences is parity; it is meaningful once the stream and the sink have caught up. Nothing is written.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import polars as pl
from psycopg import Connection

from batch import frames, standing, truth, windows
from batch.truth import Truth
from events import instants, topics
from events.programs import Program
from lake import accounts, manifest, valuing
from lake.manifest import Lake
from runtime.settings import Settings

#: Differences told of one kind; the rest is only counted.
TOLD: Final = 20

#: Orders that are compared at a time, about.
SLICE: Final = 2_000_000

#: Beyond every instant, with a day to spare (microseconds).
_FOREVER: Final = 1 << 62

#: The kinds of differences, as each line begins, and what most likely brought them about.
KINDS: Final = {
    "customers": "the worker or the sink is behind, or a partition was folded from a state that is gone:"
    " wait until nobody lags, then `loyalnest rebuild`",
    "points": "an entry is not stored yet, or the ledger was changed by hand: wait until the sink does not lag,"
    " then `loyalnest rebuild`",
    "run out": "a day is not stored yet, or days were changed by hand, or a shop changed its zone since the last batch:"
    " run a batch; then `loyalnest rebuild`",
    "windows": "a partition's rows are not stored yet, or a shop changed its zone this minute:"
    " the next batch makes closed ones anew",
    "segment counts": "rows were changed by hand: the sink keeps the sums by difference; `loyalnest rebuild`",
}

_TOTALS = {
    "source": pl.String,
    "customer_id": pl.String,
    "total": pl.Int64,
    "processed_at": pl.Int64,
    "ledger": pl.Int64,
}
_DAYS = {"customer_id": pl.String, "day": pl.String, "points": pl.Int64}
_DESERVED = ("source", "customer_id", "total")
_WINDOWS = {"size": pl.String, "start": pl.Int64, **dict.fromkeys(windows.MEASURES, pl.Int64)}
_STORED_WINDOWS: Final = f"""
SELECT size, (extract(epoch FROM start) * 1000000)::bigint, {", ".join(windows.MEASURES)} FROM shop_windows
WHERE shop = %s"""  # noqa: S608 - our own names
_LATE: Final = """
SELECT size, (extract(epoch FROM start) * 1000000)::bigint FROM windows_to_rebuild
WHERE shop = %s AND zone = CASE size WHEN 'day' THEN %s ELSE 'UTC' END"""
_SUMS = ("monetary", "balance", "frequency", "recency_days")
_COUNTS = dict.fromkeys(("segment", "customers", *_SUMS, "recent"), pl.Int64) | {"segment": pl.String}


def main(settings: Settings, shop: str) -> list[str]:
    """Every difference of a shop, a sentence each; empty when the stream's tables are what its history says.

    BatchError for a shop without a program, psycopg.Error when the database fails.
    """
    with frames.connect(settings) as connection:
        return compare(connection, shop, manifest.of(settings))


def compare(connection: Connection[Any], shop: str, lake: Lake | None = None) -> list[str]:
    """As `main`, over an autocommit connection; without a lake the whole raw history is read."""
    program = frames.program(connection, shop)
    with truth.of(connection, program, lake) as told:
        rows = standing.stored(connection, shop)
        return [
            *_few("customers", _customers(connection, told, rows, program)),
            *_few("points", _points(connection, told, rows, program)),
            *_few("run out", _ran_out(connection, told, rows, program)),
            *_few("windows", _windows(connection, told, program)),
            *_few("segment counts", _counts(connection, rows, program)),
        ]


def _few(kind: str, found: Iterator[str]) -> Iterator[str]:
    count = 0
    for count, line in enumerate(found, start=1):
        if count <= TOLD:
            yield f"{kind}: {line}"
    if count > TOLD:
        yield f"{kind}: {count - TOLD} more"


def _customers(connection: Connection[Any], told: Truth, rows: pl.DataFrame, program: Program) -> Iterator[str]:
    known = _known(connection, told, program.shop)
    for customer in known.join(rows, on="customer_id", how="anti")["customer_id"]:
        yield f"{customer} is known but has no row"
    for customer in rows.join(known, on="customer_id", how="anti")["customer_id"]:
        yield f"{customer} has a row, but nothing named them"
    times = rows.join(known, on="customer_id", how="inner", suffix="_should")
    for customer, now, should in (
        times.filter(pl.col("now") != pl.col("now_should")).select("customer_id", "now", "now_should").iter_rows()
    ):
        yield f"{customer} stands at {instants.text(now)}, not {instants.text(should)}"
    should_be = told.expected(rows, frames.published(connection, program.shop))
    for row in standing.differences(rows, should_be).iter_rows(named=True):
        differing = ", ".join(f"{name} {row[name]} not {row[f'{name}_should']}" for name in row["differs"])
        yield f"{row['customer_id']}: {differing}"


def _known(connection: Connection[Any], told: Truth, shop: str) -> pl.DataFrame:
    """The known customers with the `now` they should have: of their events, or of the newest run if later."""
    rows = connection.execute(
        "SELECT DISTINCT value::jsonb->>'as_of' FROM raw_events WHERE shop = %s AND stream = %s", (shop, topics.RESCORE)
    ).fetchall()
    as_of = max((instants.parse(found) for (found,) in rows), default=0)
    return told.known.with_columns(now=pl.max_horizontal("now", pl.lit(as_of, dtype=pl.Int64)))


def _points(connection: Connection[Any], told: Truth, rows: pl.DataFrame, program: Program) -> Iterator[str]:
    """What each order and award has posted, and the ledger of it, against what it deserves; then each customer's points
    against the ledger."""
    posted = _posted(connection, program.shop, told.folder)
    deserved = pl.concat(
        [
            told.worth.select("customer_id", "total", source="order " + pl.col("order_id"))
            .select(_DESERVED)
            .drop_nulls("customer_id"),
            _awarded(told.given),
        ]
    )
    number = told.orders // SLICE + 1
    for part in range(number):
        theirs = pl.col("source").hash() % number == part
        both = (
            posted.filter(theirs)
            .join(
                deserved.filter(theirs).rename({"total": "should"}),
                on=["source", "customer_id"],
                how="full",
                coalesce=True,
            )
            .with_columns(pl.col("total", "ledger", "should").fill_null(0))
            .filter((pl.col("total") != pl.col("should")) | (pl.col("ledger") != pl.col("should")))
        )
        wrong = both.select("source", "customer_id", "total", "ledger", "should").sort("source", "customer_id")
        for source, customer, total, ledger, should in wrong.collect().iter_rows():
            yield f"{source} of {customer}: posted {total}, in the ledger {ledger}, deserved {should}"
    held = pl.col("balance") + pl.col("pending") + pl.col("expired")
    balances = (
        posted.join(rows.lazy().select("customer_id", "now", held=held), on="customer_id", how="left")
        .filter(pl.col("processed_at") <= pl.col("now"))
        .group_by("customer_id", "held")
        .agg(pl.col("ledger").sum())
        .filter(pl.col("held") != pl.col("ledger"))
        .sort("customer_id")
    )
    for customer, points, ledger in balances.collect(engine="streaming").iter_rows():
        yield f"{customer}: {points} points with what is pending or has expired, but the ledger sums to {ledger}"


def _ran_out(connection: Connection[Any], told: Truth, rows: pl.DataFrame, program: Program) -> Iterator[str]:
    """What ran out on each day, up to each customer's own `now`, lot by lot."""
    stored = frames.fetch(
        connection,
        "SELECT customer_id, day::text, points FROM points_expired WHERE shop = %s AND points <> 0",
        (program.shop,),
        _DAYS,
    )
    lots = valuing.lots(told.worth)
    number = told.orders // SLICE + 1
    for part in range(number):
        theirs = pl.col("customer_id").hash() % number == part
        deserved = accounts.ran_out(
            rows.filter(theirs), told.given.filter(theirs), lots.filter(theirs).collect(), program
        )
        both = (
            stored.filter(theirs)
            .join(deserved, on=["customer_id", "day"], how="full", coalesce=True, suffix="_should")
            .with_columns(pl.col("points", "points_should").fill_null(0))
            .filter(pl.col("points") != pl.col("points_should"))
            .sort("customer_id", "day")
        )
        for customer, day, points, should in both.iter_rows():
            yield f"{customer} on {day}: {points} points, not {should}"


def _awarded(given: pl.DataFrame) -> pl.LazyFrame:
    source = pl.concat_str("kind", "award_id", separator=" ")
    told = given.lazy().group_by("customer_id", source=source).agg(total=pl.col("points").sum())
    return told.select(_DESERVED)


def _posted(connection: Connection[Any], shop: str, folder: Path) -> pl.LazyFrame:
    """By source and customer: the stored total, and the sum of the ledger's entries; as a file of the folder."""
    return frames.save(
        connection,
        "SELECT source || ' ' || source_id, customer_id, coalesce(t.total, 0)::bigint,"
        " (extract(epoch FROM coalesce(t.processed_at, l.processed_at)) * 1000000)::bigint,"
        " coalesce(l.points, 0)::bigint"
        " FROM (SELECT source, source_id, customer_id, sum(total) AS total, max(processed_at) AS processed_at"
        "  FROM points_totals WHERE shop = %s GROUP BY source, source_id, customer_id) AS t"
        " FULL JOIN (SELECT source, source_id, customer_id, sum(points) AS points, max(processed_at) AS processed_at"
        "  FROM points_transactions WHERE shop = %s GROUP BY source, source_id, customer_id) AS l"
        "  USING (source, source_id, customer_id)"
        " ORDER BY 1, customer_id",
        (shop, shop),
        _TOTALS,
        folder / "posted.parquet",
    )


def _windows(connection: Connection[Any], told: Truth, program: Program) -> Iterator[str]:
    """Windows that wait to be rebuilt are left out; one that sums to nothing is as good as none."""
    late = frames.fetch(connection, _LATE, (program.shop, program.zone), {"size": pl.String, "start": pl.Int64})
    stored, should_be = (
        found.join(late, on=["size", "start"], how="anti")
        for found in (
            frames.fetch(connection, _STORED_WINDOWS, (program.shop,), _WINDOWS),
            _sums(told, program.zone),
        )
    )
    both = stored.join(should_be, on=["size", "start"], how="full", coalesce=True, suffix="_should").fill_null(0)
    for row in both.sort("size", "start").iter_rows(named=True):
        differing = [
            f"{name} {row[name]} not {row[f'{name}_should']}"
            for name in windows.MEASURES
            if row[name] != row[f"{name}_should"]
        ]
        if differing:
            yield f"{row['size']} of {instants.text(row['start'])}: {', '.join(differing)}"


def _sums(told: Truth, zone: str) -> pl.DataFrame:
    """Every window's sums, made of some years' or days' orders at a time."""
    number, at = told.orders // SLICE + 1, pl.col("processed_at")
    cuts = told.worth.select(at.quantile(part / number, "lower").alias(str(part)) for part in range(number)).collect()
    starts = sorted({int(start) for start in cuts.row(0) if start is not None})
    found = []
    for first, end in pairwise([-_FOREVER, *starts[1:], _FOREVER]):
        # Whoever begins there has all its orders before its own end; a shop's day may have 25 hours.
        theirs = told.worth.filter((at >= first) & (at < end + 26 * instants.HOUR)).collect()
        beside = told.given.filter(pl.col("at").is_between(first, end + 26 * instants.HOUR, closed="left"))
        summed = windows.sums(theirs, zone, given=beside)
        found.append(summed.filter(pl.col("start").is_between(first, end, closed="left")))
    return pl.concat(found)


def _counts(connection: Connection[Any], rows: pl.DataFrame, program: Program) -> Iterator[str]:
    """The counts by segment, which the sink keeps beside the rows, against the rows."""
    stored = frames.fetch(
        connection,
        f"SELECT {', '.join(_COUNTS)} FROM rfm_segment_counts WHERE shop = %s ORDER BY segment",  # noqa: S608
        (program.shop,),
        _COUNTS,
    )
    counted = (
        rows.filter(pl.col("merged_into").is_null())
        .group_by("segment")
        .agg(
            *(pl.col(name).cast(pl.Int64).sum() for name in _SUMS),
            customers=pl.len().cast(pl.Int64),
            recent=pl.col("recency_days").count().cast(pl.Int64),
        )
    )
    both = stored.join(counted, on="segment", how="full", coalesce=True, suffix="_should").fill_null(0)
    for row in both.sort("segment").iter_rows(named=True):
        told = [
            f"{name} {row[name]} not {row[f'{name}_should']}"
            for name in _COUNTS
            if name != "segment" and row[name] != row[f"{name}_should"]
        ]
        if told:
            yield f"{row['segment']}: {', '.join(told)}"
