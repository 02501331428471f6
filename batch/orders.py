"""What each order is worth: net, gross, whether it counts, and its points, as Polars expressions over the history.

Written apart from the stream's folds on purpose: the two are compared customer by customer.
"""

from fractions import Fraction

import polars as pl

from batch.history import History
from events import instants, money
from events.orders import COUNTING, PAID_ONCE
from events.programs import Program

_SINCE_EVER = -(1 << 63)
_MOST = (1 << 63) - 1


def worth(history: History, program: Program) -> pl.DataFrame:
    """One row per order: order_id, customer_id (null: a guest's), processed_at, net, gross, counted, guest, and points.

    `guest` is an order that would count but for its missing customer. Points: `earned` before anything was taken
    back, `total` what the order now deserves, `reversed` their difference. Amounts in minor units; net and gross say
    nothing of an order that neither counts nor was ever paid.
    """
    unknown = _refunds_unknown_to_snapshot(history)
    paid = pl.col("status").is_in(COUNTING)
    alive = ~(pl.col("test") | pl.col("cancelled") | pl.col("deleted"))
    owned = pl.col("customer_id").is_not_null()
    net = (pl.col("base") - pl.col("unknown").fill_null(0) - pl.col("gift")).clip(lower_bound=0)
    frame = (
        history.order_states()
        .join(unknown, on="order_id", how="left")
        # A refunded order has none, whatever amounts it shows.
        .with_columns(net=pl.when(pl.col("status") == "refunded").then(0).otherwise(net))
        .select(
            "order_id",
            "customer_id",
            "processed_at",
            "net",
            gross=pl.max_horizontal("net", "gross"),
            counted=alive & paid & owned,
            guest=alive & paid & ~owned,
            paid=pl.col("status").is_in(PAID_ONCE) & ~pl.col("test") & owned,
        )
    )
    at = frame["processed_at"]
    return frame.with_columns(
        earned=points(frame["gross"], at, program) * frame["paid"],
        total=points(frame["net"], at, program) * frame["counted"],
    ).with_columns(reversed=pl.col("earned") - pl.col("total"))


def _refunds_unknown_to_snapshot(history: History) -> pl.DataFrame:
    """By order, the refunds that its newest snapshot has not taken off yet."""
    snapshots = history.snapshots.frame().select("order_id", "updated_at", "refund_ids")
    listed = pl.col("refund_id").is_in(pl.col("refund_ids"))
    earlier = pl.col("created_at") <= pl.col("updated_at")
    return (
        history.refunds.frame()
        .join(snapshots, on="order_id", how="inner")
        .filter(~pl.when(pl.col("refund_ids").is_null()).then(earlier).otherwise(listed))
        .group_by("order_id")
        .agg(unknown=pl.col("amount").sum())
    )


def points(amounts: pl.Series, at: pl.Series, program: Program) -> pl.Series:
    """floor(amount x rate) by the rule with the latest effective_from not after each instant; amounts >= 0.

    Of two rules of one instant the later in the list holds. An order has MAX_POINTS at most.
    """
    starts, rates = _rules(program)
    rule = pl.Series(starts, dtype=pl.Int64).search_sorted(at, side="right").cast(pl.Int64) - 1
    frame = pl.DataFrame({"amount": amounts, "rule": rule}).with_row_index("row")
    done = [pl.DataFrame(schema={"row": pl.UInt32, "points": pl.Int64})]
    for part in frame.partition_by("rule"):
        given = _floor(part["amount"], rates[part["rule"][0]])
        done.append(part.select("row", given.alias("points")))
    return pl.concat(done).sort("row")["points"]


def _rules(program: Program) -> tuple[list[int], list[Fraction]]:
    """The rules' starts, ascending, and points per minor unit under each."""
    unit = 10 ** money.exponent(program.currency)
    rules = sorted(
        (
            (
                _SINCE_EVER if rule.effective_from is None else instants.from_datetime(rule.effective_from),
                Fraction(rule.points_per_unit) / unit,
            )
            for rule in program.rules
        ),
        key=lambda rule: rule[0],
    )
    return [start for start, _ in rules], [rate for _, rate in rules]


def _floor(amounts: pl.Series, rate: Fraction) -> pl.Series:
    most = amounts.max() or 0
    assert isinstance(most, int)
    if most * rate.numerator <= _MOST:
        return (amounts * rate.numerator // rate.denominator).clip(upper_bound=money.MAX_POINTS)
    exact = [min(amount * rate.numerator // rate.denominator, money.MAX_POINTS) for amount in amounts.to_list()]
    return pl.Series(exact, dtype=pl.Int64)
