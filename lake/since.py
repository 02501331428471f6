"""Whose values, as they were worked out as of an instant, stand by all that has been told since.

What was worked out says nothing of an order that was told of later, or late, and nothing of who became somebody else:
whoever any of these concerns is left out, as they were then and as they are now.
"""

from typing import NamedTuple

import polars as pl

from lake import past, reading, versions
from lake.reading import Files


class Known(NamedTuple):
    """What was worked out as of `at` (microseconds), of files with this `edge` and what was `refused` then: everybody's
    values (customer_id, now, past.VALUES), and who was somebody else (customer_id, owner)."""

    at: int
    values: pl.DataFrame
    owners: pl.DataFrame
    edge: str
    refused: str


def known(files: Files, found: pl.DataFrame, at: int) -> Known:
    """Of `found`, which past.work_out made of these files as of `at`."""
    values = found.select("customer_id", pl.lit(at, dtype=pl.Int64).alias("now"), *past.VALUES)
    return Known(at, values, past.owner_ids(files, at), files.edge, files.refused)


def same(files: Files, before: Known, told: pl.Series | None) -> pl.DataFrame:
    """Those of the values that `files`, which hold everything, say too.

    `told` are the orders of which anything was committed since those others were read (reading.orders_told_since; None:
    of too many, and nobody is held to be untouched).
    """
    if told is None or files.refused != before.refused:
        return before.values.clear()
    then, now = before.owners, past.owner_ids(files, reading.EVER)
    moved = pl.concat([then.join(now, on=then.columns, how="anti"), now.join(then, on=then.columns, how="anti")])
    touched = pl.concat([moved["customer_id"], _named(files, pl.concat([told, _later(files, before.at)]))])
    ends = [owners.filter(pl.col("customer_id").is_in(touched.implode()))["owner"] for owners in (then, now)]
    return before.values.filter(~pl.col("customer_id").is_in(pl.concat([touched, *ends]).implode()))


def _later(files: Files, at: int) -> pl.Series:
    """The orders of which anything was told after `at`."""
    if files.until(at) is None:
        return pl.Series("order_id", dtype=pl.String)
    found = [
        versions.scan(files.rows[name]).filter(pl.col("told_at") > at).select("order_id")
        for name in versions.TELLING
        if files.rows[name]
    ]
    return pl.concat([pl.LazyFrame(schema={"order_id": pl.String}), *found]).collect()["order_id"]


def _named(files: Files, orders: pl.Series) -> pl.Series:
    """Everybody whom any of these orders was ever said to be of."""
    if orders.is_empty() or not files.rows["owners"]:
        return pl.Series(dtype=pl.String)
    found = versions.scan(files.rows["owners"]).filter(versions.of_orders(orders.unique())).select("customer_id")
    return found.collect()["customer_id"]
