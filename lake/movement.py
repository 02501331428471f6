"""Who went from which segment to which between two instants, of everybody as they stood at either."""

from typing import Final

import polars as pl

#: What is looked at of somebody: `monetary` in minor units.
STANDING: Final = {"customer_id": pl.String, "segment": pl.String, "monetary": pl.Int64}


def joined(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Everybody of either (STANDING), with `segment_after` and `monetary_after`; null: not known to the shop then."""
    return before.join(after, on="customer_id", how="full", suffix="_after", coalesce=True)


def moves(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """`previous`, `current` (null: not known to the shop), `customers`, and what they were worth, `revenue_before` and
    `revenue_after`; a row for each pair of segments that has anybody, those who stayed too."""
    sums = {"revenue_before": pl.col("monetary").sum(), "revenue_after": pl.col("monetary_after").sum()}
    both = joined(before, after).group_by(previous="segment", current="segment_after")
    return both.agg(customers=pl.len(), **sums)
