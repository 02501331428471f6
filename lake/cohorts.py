"""Cohorts: of those whose first order fell into a month, how many came back, month by month, as of any instant.

Orders are those that RFM counts (they count, and something of them is left), of whoever their owner is in the end.
Months are of the shop's zone, by `processed_at`.
"""

from datetime import date
from typing import Any, Final, NamedTuple

import polars as pl
from psycopg import Connection

from events.programs import Program
from lake import past, people, reading, valuing, versions
from lake.manifest import Lake
from lake.reading import Files

#: More than the months of ten thousand years.
_MONTHS: Final = 1 << 17


class Cohort(NamedTuple):
    """A month's new customers. `months` has of each month since, from 0 on, those who ordered in it, their orders and
    net (minor units), and how many of the cohort had ordered a second time by its end."""

    month: date
    customers: int
    months: list[dict[str, int]]


def cohorts(connection: Connection[Any], lake: Lake, program: Program, at: int) -> list[Cohort]:
    """The shop's cohorts as of `at` (microseconds), oldest first; BehindError if the lake lacks too much of then."""
    with reading.told_until(connection, lake, program, at) as files:
        return work_out(files, program, at)


def work_out(files: Files, program: Program, at: int) -> list[Cohort]:
    """The same of these files. Each ends with the month of `at`, in which it may still grow."""
    owners = past.owners_of(files, at)
    parts = [
        _monthly(past.owned(valuing.deserved(found, program), owners), program.zone)
        for found in versions.slices(
            files.layers, files.until(at), past.MINE & (pl.col("processed_at") <= at), past.needed(program)
        )
    ]
    if not parts:
        return []
    known = people.known(files.customers, at).select("customer").collect()
    monthly = _summed(pl.concat(parts)).join(known, on="customer", how="semi", maintain_order="left")
    cells = _cells(monthly)
    last = _month(pl.DataFrame({"processed_at": [at]}), program.zone)["month"][0]
    return [_cohort(rows, last) for rows in cells.partition_by("first", maintain_order=True)]


def _month(frame: pl.DataFrame, zone: str) -> pl.DataFrame:
    """With `month`, counted from the year 0."""
    local = pl.from_epoch("processed_at", time_unit="us").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return frame.with_columns(month=local.dt.year().cast(pl.Int32) * 12 + local.dt.month().cast(pl.Int32) - 1)


def _monthly(orders: pl.DataFrame, zone: str) -> pl.DataFrame:
    kept = _month(orders.filter(pl.col("net") > 0), zone)
    return _summed(kept.select("customer", "month", pl.lit(1, dtype=pl.Int64).alias("orders"), "net"))


def _summed(frame: pl.DataFrame) -> pl.DataFrame:
    """By customer and month, in this order. (One sorted number groups three times as fast as two columns.)"""
    numbered = frame.select(
        key=pl.col("customer").cast(pl.Int64) * _MONTHS + pl.col("month"), orders="orders", net="net"
    )
    sums = numbered.sort("key").group_by("key", maintain_order=True).agg(pl.col("orders", "net").sum())
    return sums.select(
        (pl.col("key") // _MONTHS).cast(pl.Int32).alias("customer"),
        (pl.col("key") % _MONTHS).cast(pl.Int32).alias("month"),
        "orders",
        "net",
    )


def _cells(monthly: pl.DataFrame) -> pl.DataFrame:
    """By `first` and `since`: customers, orders, net, and those whose second order came then (`again`).

    `monthly` is in the order of customers and months.
    """
    new = (pl.col("customer") != pl.col("customer").shift()).fill_null(value=True)
    second = new.shift().fill_null(value=False) & ~new & (pl.col("orders").shift() == 1)
    return (
        monthly.with_columns(
            first=pl.when(new).then("month").forward_fill(),
            # A second order falls into the first month if two do, else into the next in which there is any.
            again=((new & (pl.col("orders") > 1)) | second).cast(pl.Int64),
        )
        .with_columns(since=pl.col("month") - pl.col("first"))
        .group_by("first", "since")
        .agg(pl.len().cast(pl.Int64).alias("customers"), pl.col("orders", "net", "again").sum())
        .sort("first", "since")
    )


def _cohort(rows: pl.DataFrame, last: int) -> Cohort:
    first: int = rows["first"][0]
    cells = {row["since"]: row for row in rows.iter_rows(named=True)}
    months, repeated = [], 0
    for since in range(last - first + 1):
        cell = cells.get(since, {"customers": 0, "orders": 0, "net": 0, "again": 0})
        repeated += cell["again"]
        months.append({name: cell[name] for name in ("customers", "orders", "net")} | {"repeated": repeated})
    return Cohort(date(first // 12, first % 12 + 1, 1), cells[0]["customers"], months)
