"""What a run took in and made, as numbers: a pass over the columns, whatever the gates ask of them."""

from itertools import pairwise
from typing import Final

import polars as pl

from events import instants, money
from events.programs import DEFAULT, MIN_CUSTOMERS, PROSPECTS, CutPoints, Program

#: Where an order may stand: as far as every column of ours reaches (microseconds).
_EARLIEST: Final = 0
_LATEST: Final = instants.parse("9998-12-31T23:59:59Z")

#: A measurement's name -> its value; shares and changes are in percent.
Measured = dict[str, float]


def orders_in(orders: pl.DataFrame) -> Measured:
    """Of the orders as valuing.valued gives them."""
    amounts = pl.any_horizontal(
        (pl.col("counted") | pl.col("paid")) & ((pl.col(name) < 0) | (pl.col(name) > money.MAX_MINOR))
        for name in ("net", "gross")
    )
    found = orders.select(
        orders=pl.len(),
        orders_twice=pl.len() - pl.col("order_id").n_unique(),
        amounts_out_of_range=amounts.sum(),
        times_out_of_range=(~pl.col("processed_at").is_between(_EARLIEST, _LATEST)).sum(),
    )
    return _numbers(found)


def standings_out(found: pl.DataFrame, orders: pl.DataFrame, cut_points: CutPoints, program: Program) -> Measured:
    """Of everyone's standing as rfm.standings gives it, and whether it adds up to the orders it was made of."""
    names = [*dict.fromkeys(name for row in program.grid for name in row), PROSPECTS]
    prospect = pl.col("recency_days").is_null()
    digits = [pl.col(name) for name in ("r", "f", "m")]
    right = pl.all_horizontal(each.is_between(1, 5).fill_null(value=False) for each in digits)
    none = pl.all_horizontal(each.is_null() for each in digits)
    found_numbers = found.select(
        customers=pl.len(),
        customers_twice=pl.len() - pl.col("customer_id").n_unique(),
        digits_wrong=pl.when(prospect).then(~none).otherwise(~right).sum(),
        segments_unknown=(~pl.col("segment").is_in(names).fill_null(value=False)).sum(),
        prospects_elsewhere=((pl.col("segment") == PROSPECTS).fill_null(value=False) != prospect).sum(),
        revenue=pl.col("monetary").sum(),
        purchases=pl.col("frequency").sum(),
        scored=(~prospect).sum(),
    )
    measured = _numbers(found_numbers)
    inside = _inside(found, orders, program)
    ladder = (cut_points.recency, cut_points.frequency, cut_points.monetary)
    return measured | {
        "revenue_unaccounted": abs(measured["revenue"] - int(inside["net"].sum())),
        "purchases_unaccounted": abs(measured["purchases"] - inside.height),
        "scored_unaccounted": abs(measured["scored"] - cut_points.customers),
        "cut_points_descending": sum(low > high for steps in ladder for low, high in pairwise(steps)),
        "cut_points_of_few": int(cut_points.version != DEFAULT and cut_points.customers < MIN_CUSTOMERS),
    }


def _inside(found: pl.DataFrame, orders: pl.DataFrame, program: Program) -> pl.DataFrame:
    """The orders that make values: counted, with a net, in the look-back, of the customers who were found."""
    at = pl.col("processed_at")
    theirs = orders.join(found.select("customer_id", "now"), on="customer_id", how="inner")
    inside = theirs.filter(pl.col("counted") & (pl.col("net") > 0) & (at <= pl.col("now")))
    if program.look_back_days is None:
        return inside
    return inside.filter(at > pl.col("now") - program.look_back_days * instants.DAY)


def shares(found: pl.DataFrame) -> dict[str, float]:
    """Of all customers, in percent, by segment."""
    counts = found.group_by("segment").len()
    return {name: 100 * count / found.height for name, count in counts.iter_rows()}


def _numbers(frame: pl.DataFrame) -> Measured:
    return {name: value or 0 for name, value in frame.row(0, named=True).items()}
