"""One customer's orders as of an instant, with what each counts for and why."""

from typing import Any, Final, Literal, get_args

import polars as pl
from psycopg import Connection

from events import instants
from events.programs import Program
from lake import past, reading, valuing, versions
from lake.manifest import Lake

#: Whether an order counts for a customer's values and points, or why it does not. What comes first is what is told.
Reason = Literal["counts", "too_old", "not_yet", "nothing_left", "deleted", "cancelled", "test", "refunded", "not_paid"]

_COLUMNS: Final = (*versions.STATE, "customer")


def of_customer(connection: Connection[Any], lake: Lake, program: Program, customer_id: str, at: int) -> pl.DataFrame:
    """Every order that is the customer's in the end as of `at` (microseconds), the newest first.

    Columns: order_id, processed_at, status, net (minor units), points (what it deserves now), reason. An order counts
    for points however old it is: one that is `too_old` has them, and is outside the look-back of RFM alone.
    BehindError if the lake lacks too much of then.
    """
    with reading.told_until(connection, lake, program, at) as files:
        numbers = pl.scan_parquet(files.customers).filter(pl.col("customer_id") == customer_id)
        own = numbers.select("customer").collect()["customer"]
        owners = past.owners_of(files, at)
        theirs = owners.filter(pl.col("owner").is_in(own.implode()))["customer"]
        gone = owners.filter(pl.col("customer").is_in(own.implode())).height > 0
        whose = theirs if gone else pl.concat([own, theirs])
        wanted = pl.col("customer").is_in(whose.implode())
        states = list(versions.slices(files.layers, at, wanted, _COLUMNS))
    schema = {name: versions.SCHEMA[name] for name in _COLUMNS}
    return _told(pl.concat(states) if states else pl.DataFrame(schema=schema), program, at)


def _told(states: pl.DataFrame, program: Program, at: int) -> pl.DataFrame:
    valued = valuing.amounts(states, program, "customer").select("order_id", "net", "counted")
    frame = states.join(valued, on="order_id", how="inner")
    oldest = None if program.look_back_days is None else at - program.look_back_days * instants.DAY
    reason = (
        pl.when("deleted")
        .then(pl.lit("deleted"))
        .when("cancelled")
        .then(pl.lit("cancelled"))
        .when("test")
        .then(pl.lit("test"))
        .when(pl.col("status") == "refunded")
        .then(pl.lit("refunded"))
        .when(~pl.col("counted"))
        .then(pl.lit("not_paid"))
        .when(pl.col("net") <= 0)
        .then(pl.lit("nothing_left"))
        .when(pl.col("processed_at") > at)
        .then(pl.lit("not_yet"))
        .when(pl.lit(oldest is not None) & (pl.col("processed_at") <= (oldest or 0)))
        .then(pl.lit("too_old"))
        .otherwise(pl.lit("counts"))
    )
    points = valuing.points("net", program) * pl.col("counted")
    return (
        frame.with_columns(points=points, reason=reason.cast(pl.Enum(get_args(Reason))))
        .select("order_id", "processed_at", "status", "net", "points", "reason")
        .sort("processed_at", "order_id", descending=True)
    )
