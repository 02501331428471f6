"""Cohorts: of those whose first order fell into a month, how many came back, month by month, as of any instant.

Orders are those that RFM counts (they count, and something of them is left), of whoever their owner is in the end.
Months are of the shop's zone, by `processed_at`.
"""

from datetime import date
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl
from psycopg import Connection

from events import instants
from events.programs import Program, local_midnight
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
    last = months(pl.Series([at], dtype=pl.Int64), program.zone)[0]
    return [_cohort(rows, last) for rows in cells.partition_by("first", maintain_order=True)]


def months(at: pl.Series, zone: str) -> pl.Series:
    """The month of each instant (microseconds, from 1970 on) in a zone, counted from the year 0.

    Not by Polars' own rules of time zones: those by which the stream files an order under a day are others.
    """
    latest = at.max()
    if not isinstance(latest, int):
        return pl.Series(dtype=pl.Int32)
    clocks = ZoneInfo(zone)
    first, last = (_number(instants.to_datetime(each).astimezone(clocks)) for each in (0, latest))
    starts = [local_midnight(date(each // 12, each % 12 + 1, 1), clocks) for each in range(first + 1, last + 1)]
    return pl.Series(starts, dtype=pl.Int64).search_sorted(at, side="right").cast(pl.Int32) + first


def _number(day: date) -> int:
    return 12 * day.year + day.month - 1


def _monthly(orders: pl.DataFrame, zone: str) -> pl.DataFrame:
    kept = orders.filter(pl.col("net") > 0)
    kept = kept.with_columns(months(kept["processed_at"], zone).alias("month"))
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
