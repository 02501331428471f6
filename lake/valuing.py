"""What orders are worth: net, gross, whether they count, and their points, as Polars expressions over whole columns.

Written apart from the stream's folds on purpose: the two are compared customer by customer.
"""

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from typing import Final, TypeVar

import polars as pl

from events import instants, money
from events.orders import COUNTING, PAID_ONCE
from events.programs import Program
from lake import identity

_SINCE_EVER: Final = -(1 << 63)
_MOST: Final = (1 << 63) - 1

#: No amount comes near it: of an order that counts for nothing nobody looks at what it comes to.
_BEYOND_ANY: Final = 1000 * money.MAX_MINOR

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

#: Whether an order counts, if it has a customer: a guest's counts for nobody.
COUNTED: Final = pl.col("status").is_in(COUNTING) & ~(pl.col("test") | pl.col("cancelled") | pl.col("deleted"))


#: Whether an order with a customer ever counted, or would have.
PAID: Final = pl.col("status").is_in(PAID_ONCE) & ~pl.col("test")

#: What refunds take beyond their goods, by what is told to take it off.
_BEYOND: Final = {"goods_and_adjustments": "beyond", "money": "money_beyond"}

#: What an order's net without its tax is made of.
_TAXES: Final = ("tax", "gross", "gross_tax")


def valued(found: pl.DataFrame, merged: pl.DataFrame, program: Program) -> pl.DataFrame:
    """What orders in these states (versions.STATE) are worth under a program, one row per order: order_id, customer_id
    (null: a guest's), processed_at, net, gross, counted, guest, and points.

    The customer is whom the order's owner is in the end; `merged` (customer_id, into) is who is somebody else.

    `guest` is an order that would count but for its missing customer. Points: `earned` before anything was taken
    back, `total` what the order now deserves, `reversed` their difference. Amounts in minor units; net and gross say
    nothing of an order that neither counts nor was ever paid.
    """
    frame = identity.owned(amounts(found, program, "customer_id"), identity.resolved(merged))
    return _pointed(frame, program).with_columns(reversed=pl.col("earned") - pl.col("total"))


def amounts(found: pl.DataFrame, program: Program, owner: str) -> pl.DataFrame:
    """Of each order order_id, its owner in the column `owner` (null: a guest's), processed_at, net, gross, counted,
    guest and `paid`, whether it ever was: as `valued` has them, before anybody is somebody else."""
    owned = pl.col(owner).is_not_null()
    return _amounts(found, program).select(
        "order_id",
        owner,
        "processed_at",
        "net",
        gross=pl.max_horizontal("net", "gross"),
        counted=COUNTED & owned,
        guest=COUNTED & ~owned,
        paid=PAID & owned,
    )


def _pointed(frame: pl.DataFrame, program: Program) -> pl.DataFrame:
    """Orders as `amounts` gives them, with the points that each brought, and those that it deserves."""
    return frame.with_columns(
        earned=points("gross", program) * pl.col("paid"), total=points("net", program) * pl.col("counted")
    )


def lots(worth: Frame, owner: str = "customer_id") -> Frame:
    """Of orders as `valued` gives them: `owner`, `at`, the points that each deserves, and whether it is `active`: it
    counts, or ever brought points. Guests' are left out."""
    active = pl.col("counted") | (pl.col("earned") > 0)
    return worth.select(owner, at="processed_at", points="total", active=active).drop_nulls(owner)


def lots_of(found: pl.DataFrame, program: Program) -> pl.DataFrame:
    """As `lots`, of orders in these states, by `customer`."""
    return lots(_pointed(amounts(found, program, "customer"), program), "customer")


def needed(program: Program) -> list[str]:
    """What of an order's state (versions.STATE) `deserved` looks at under a program: most have no policies."""
    kinds, taxed = _kinds(program)
    beyond = [column for kind, column in _BEYOND.items() if kind in kinds]
    return ["processed_at", "left", *beyond, *(_TAXES if taxed else ())]


def deserved(found: Frame, program: Program) -> Frame:
    """Of orders that count (COUNTED) and have a customer: `customer`, processed_at, net and `total`, the points that
    each deserves now. As `valued` has them, and no more of it than RFM values need."""
    net = _priced(found, program).select("customer", "processed_at", net=_net(program))
    return net.with_columns(total=points("net", program))


def _amounts(found: pl.DataFrame, program: Program) -> pl.DataFrame:
    """With `net`, and `gross` as the orders' tax leaves it."""
    _, taxed = _kinds(program)
    return _priced(found, program).with_columns(
        # A refunded order has none, whatever amounts it shows.
        net=pl.when(pl.col("status") == "refunded").then(0).otherwise(_net(program)),
        gross=pl.col("gross") - pl.col("gross_tax") * pl.col("excluded") if taxed else pl.col("gross"),
    )


def _priced(found: Frame, program: Program) -> Frame:
    """With what the goods are worth after refunds, and the policies in force where there are any."""
    kinds, _ = _kinds(program)
    beyond: pl.Expr = pl.lit(0)
    for kind, column in _BEYOND.items():
        if kind in kinds:
            beyond = pl.when(pl.col("refunds") == kind).then(column).otherwise(beyond)
    states = found.with_columns(**_policies(program)) if program.policies else found
    return states.with_columns(priced=(pl.col("left") - beyond).clip(0, money.MAX_MINOR))


def _net(program: Program) -> pl.Expr:
    """Of an order that is not refunded as a whole."""
    _, taxed = _kinds(program)
    return pl.col("priced") - _tax_in("priced") if taxed else pl.col("priced")


def _kinds(program: Program) -> tuple[set[str], bool]:
    """What refunds may take off under some policy of a program's, and whether taxes may be excluded."""
    policies = program.policies
    return {policy.refunds for policy in policies}, any(policy.taxes == "excluded" for policy in policies)


def _policies(program: Program) -> dict[str, pl.Expr]:
    """For each order `refunds`, what one takes off, and whether tax is `excluded`."""
    # Of two of one instant the last holds, as the program lists them.
    starts = [_start(policy.effective_from) for policy in program.policies]
    refunds = [(start, pl.lit(policy.refunds)) for start, policy in zip(starts, program.policies, strict=True)]
    taxes = [
        (start, pl.lit(policy.taxes == "excluded")) for start, policy in zip(starts, program.policies, strict=True)
    ]
    return {
        "refunds": _in_force(pl.lit("goods"), refunds),
        "excluded": _in_force(pl.lit(value=False), taxes),
    }


def _in_force(first: pl.Expr, later: Sequence[tuple[int, pl.Expr]]) -> pl.Expr:
    """What holds at an order's processed_at: the last that has begun, in the order in which they begin."""
    found = first
    for start, each in later:
        found = pl.when(pl.col("processed_at") >= start).then(each).otherwise(found)
    return found


def _tax_in(amount: str) -> pl.Expr:
    """The tax in an amount at the order's prices, where it is excluded: the goods' share, as they are left or were."""
    none_left = pl.col("left") <= 0
    whole = pl.when(none_left).then(pl.col("gross").clip(lower_bound=0)).otherwise(pl.col("left"))
    tax = pl.when(none_left).then("gross_tax").otherwise(pl.col("tax").clip(lower_bound=0))
    # Products of two amounts leave 64 bits.
    tax, part = pl.min_horizontal(tax, whole).cast(pl.Int128), pl.col(amount).cast(pl.Int128)
    share = (2 * tax * part + whole) // (2 * whole)
    return pl.when(pl.col("excluded") & (whole > 0)).then(share).otherwise(0).cast(pl.Int64)


def points(amount: str, program: Program) -> pl.Expr:
    """floor(amount x rate) by the rule with the latest effective_from not after processed_at; amounts >= 0.

    Of two rules of one instant the later in the list holds. An order has MAX_POINTS at most.
    """
    (_, first), *later = [(start, _floor(pl.col(amount), rate)) for start, rate in _rules(program)]
    return _in_force(first, later).alias("points")


def _rules(program: Program) -> list[tuple[int, Fraction]]:
    """The rules' starts, ascending, and points per minor unit under each."""
    unit = 10 ** money.exponent(program.currency)
    rules = ((_start(rule.effective_from), Fraction(rule.points_per_unit) / unit) for rule in program.rules)
    return sorted(rules, key=lambda rule: rule[0])


def _start(effective_from: datetime | None) -> int:
    return _SINCE_EVER if effective_from is None else instants.from_datetime(effective_from)


def _floor(amounts: pl.Expr, rate: Fraction) -> pl.Expr:
    # Products that may leave 64 bits are made in 128, which take longer.
    exact = amounts if _BEYOND_ANY * rate.numerator <= _MOST else amounts.cast(pl.Int128)
    return (exact * rate.numerator // rate.denominator).clip(upper_bound=money.MAX_POINTS).cast(pl.Int64)
