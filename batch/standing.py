"""The customers' rows as the stream made and the sink stored them, beside what the history says they should be."""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl
from psycopg import Connection

from batch import frames, orders
from batch.history import History
from events.programs import CutPoints, Program
from lake import identity, past, people, reading, rfm
from lake.reading import Files

#: Everything of a row that is a number or a name of ours.
COMPARED: Final = (
    "balance",
    "pending",
    "earned",
    "spent",
    "expired",
    "expiring",
    "expires_at",
    "recency_days",
    "frequency",
    "monetary",
    "last_order_at",
    "r",
    "f",
    "m",
    "score",
    "segment_id",
    "segment",
    "cut_points_version",
    "merged_into",
)

_SCHEMA = {
    "customer_id": pl.String,
    "now": pl.Int64,
    "balance": pl.Int64,
    "pending": pl.Int64,
    "earned": pl.Int64,
    "spent": pl.Int64,
    "expired": pl.Int64,
    "expiring": pl.Int64,
    "expires_at": pl.Int64,
    "recency_days": pl.Int64,
    "frequency": pl.Int64,
    "monetary": pl.Int64,
    "last_order_at": pl.Int64,
    "r": pl.Int64,
    "f": pl.Int64,
    "m": pl.Int64,
    "score": pl.String,
    "segment_id": pl.String,
    "segment": pl.String,
    "cut_points_version": pl.String,
    "merged_into": pl.String,
}
_INSTANTS = ("now", "expires_at", "last_order_at")


def stored(connection: Connection[Any], shop: str) -> pl.DataFrame:
    """The shop's rows: customer_id, `now` and the compared columns; instants in microseconds."""
    columns = ", ".join(frames.microseconds(name) if name in _INSTANTS else name for name in _SCHEMA)
    return frames.fetch(
        connection,
        f"SELECT {columns} FROM customers WHERE shop = %s ORDER BY customer_id",  # noqa: S608 - our own names
        (shop,),
        _SCHEMA,
    )


def expected(
    customers: pl.DataFrame, worth: pl.DataFrame, history: History, published: Sequence[CutPoints], program: Program
) -> pl.DataFrame:
    """What the rows of `customers` (customer_id, now) should be, each as of its own `now`; `worth` is the history's."""
    found = rfm.values(_told(customers, history.merged()), worth, orders.given(history, program), program)
    return rfm.standings_at_now(found, published, program)


def expected_of(
    files: Files,
    customers: pl.DataFrame,
    published: Sequence[CutPoints],
    program: Program,
    same: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """As `expected`, from files of the lake that hold everything; `same`: see values_at_now of lake/past.py."""
    merged = identity.holding(*people.told(files.ties, reading.EVER))
    found = past.values_at_now(files, program, _told(customers, merged), same)
    return rfm.standings_at_now(found, published, program)


def _told(customers: pl.DataFrame, merged: pl.DataFrame) -> pl.DataFrame:
    told = customers.select("customer_id", "now").join(merged, on="customer_id", how="left", maintain_order="left")
    return told.rename({"into": "merged_into"})


def differences(rows: pl.DataFrame, should_be: pl.DataFrame) -> pl.DataFrame:
    """Those of `rows` that are not as they should be, with a column `differs`: the names of what differs.

    Both have customer_id and the compared columns; a customer who is on one side only is not compared.
    """
    both = rows.join(should_be.select("customer_id", *COMPARED), on="customer_id", how="inner", suffix="_should")
    names = [pl.when(pl.col(name).ne_missing(pl.col(f"{name}_should"))).then(pl.lit(name)) for name in COMPARED]
    return both.with_columns(differs=pl.concat_list(names).list.drop_nulls()).filter(pl.col("differs").list.len() > 0)
