"""What a run took in and made, as numbers: a pass over the columns, whatever the gates ask of them."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NamedTuple

import polars as pl

from events import instants, money
from events.programs import DEFAULT, MIN_CUSTOMERS, PROSPECTS, CutPoints, Program

#: Where an order may stand: as far as every column of ours reaches (microseconds).
_EARLIEST: Final = 0
_LATEST: Final = instants.parse("9998-12-31T23:59:59Z")

#: A measurement's name -> its value; shares and changes are in percent.
Measured = dict[str, float]


class OrdersIn(NamedTuple):
    """What is measured of orders, and what those come to that make values: their revenue (minor units) and number."""

    measured: Measured
    revenue: int
    purchases: int


def orders_in(orders: Iterable[pl.DataFrame], found: pl.DataFrame, program: Program, at: int) -> OrdersIn:
    """Of all orders as of `at`, in frames as `amounts` of lake/valuing.py gives them, with who is whom in the end.

    `found` is everyone's standing, who are known by `customer`, where it has that column, as the orders have, else by
    customer_id. What makes values is summed order by order here: no customer's sum is in it.
    """
    who = "customer" if "customer" in found.columns else "customer_id"
    known = found.select(who)
    inside = pl.col("counted") & (pl.col("net") > 0) & (pl.col("processed_at") <= at)
    if program.look_back_days is not None:
        inside &= pl.col("processed_at") > at - program.look_back_days * instants.DAY
    amounts = pl.any_horizontal(
        (pl.col("counted") | pl.col("paid")) & ((pl.col(name) < 0) | (pl.col(name) > money.MAX_MINOR))
        for name in ("net", "gross")
    )
    ids, rows, revenue, purchases = [pl.Series(dtype=pl.String)], [], 0, 0
    for frame in orders:
        ids.append(frame["order_id"])
        rows.append(
            frame.select(
                orders=pl.len(),
                amounts_out_of_range=amounts.sum(),
                times_out_of_range=(~pl.col("processed_at").is_between(_EARLIEST, _LATEST)).sum(),
            )
        )
        net = frame.filter(inside).join(known, on=who, how="semi")["net"]
        revenue, purchases = revenue + int(net.sum()), purchases + net.len()
    schema = dict.fromkeys(("orders", "amounts_out_of_range", "times_out_of_range"), pl.UInt32)
    measured = _numbers(pl.concat(rows).sum() if rows else pl.DataFrame([(0, 0, 0)], schema=schema, orient="row"))
    return OrdersIn(measured | {"orders_twice": _twice(pl.concat(ids))}, revenue, purchases)


def _twice(ids: pl.Series) -> int:
    """How many of the ids stood there before. Two of one hash may be two: they are looked at where there are any."""
    hashes = ids.hash()
    return 0 if hashes.n_unique() == ids.len() else ids.len() - ids.n_unique()


def standings_out(found: pl.DataFrame, orders: OrdersIn, cut_points: CutPoints, program: Program) -> Measured:
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
    ladder = (cut_points.recency, cut_points.frequency, cut_points.monetary)
    return measured | {
        "revenue_unaccounted": abs(measured["revenue"] - orders.revenue),
        "purchases_unaccounted": abs(measured["purchases"] - orders.purchases),
        "scored_unaccounted": abs(measured["scored"] - cut_points.customers),
        "cut_points_descending": sum(low > high for steps in ladder for low, high in pairwise(steps)),
        "cut_points_of_few": int(cut_points.version != DEFAULT and cut_points.customers < MIN_CUSTOMERS),
    }


def shares(found: pl.DataFrame) -> dict[str, float]:
    """Of all customers, in percent, by segment."""
    counts = found.group_by("segment").len()
    return {name: 100 * count / found.height for name, count in counts.iter_rows()}


def _numbers(frame: pl.DataFrame) -> Measured:
    return {name: value or 0 for name, value in frame.row(0, named=True).items()}
