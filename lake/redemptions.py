"""What redemptions, and deductions that were asked for, take from their customers' points as of an instant: each that
was accepted, unless it was returned.

Written apart from the stream's (tables/redemptions.py) on purpose.
"""

from collections.abc import Callable
from typing import Final

import polars as pl

from events.programs import Program, reward_at
from lake import valuing

#: The orders that are remembered of one customer's code: those of the greatest ids.
_REMEMBERED: Final = 2

#: An instant beyond all.
_NEVER: Final = 1 << 62

#: Of orders that may bear a code, by id and who had them: whether they count, and whether they did and do no longer.
States = Callable[[pl.Series], pl.DataFrame]


def taken(
    decisions: pl.DataFrame,
    cancels: pl.DataFrame,
    outcomes: pl.DataFrame,
    codes: pl.DataFrame,
    owners: pl.DataFrame,
    states: States,
    program: Program,
) -> pl.DataFrame:
    """customer_id, request_id, at, points (below 0; 0: it was returned) of what is taken, by the rows of lake/rows.py
    up to some instant.

    `states` gives of orders order_id, customer_id, `counted` and `void` (counted once) as of that instant.
    """
    accepted = decisions.filter("accepted").unique(["customer_id", "request_id"])
    whose, said = ["customer_id", "request_id"], pl.col("unused")
    made = (
        outcomes.sort("attempt", "issued", "valid_until", "code")
        .unique(whose, keep="last", maintain_order=True)
        .select(*whose, "issued", code=pl.col("code").str.to_uppercase())
    )
    found = (
        accepted.join(made, on=whose, how="left")
        .join(cancels.group_by(whose).agg(said.any(), cancelled=(~said).any()), on=whose, how="left")
        .join(_uses(made, codes, owners, states), on=["customer_id", "code"], how="left")
        .with_columns(
            pl.col("cancelled", "unused", "used", "void").fill_null(value=False),
            pl.col("issued").fill_null(value=True),
        )
    )
    keeps = [
        reward_id is not None and (reward := reward_at(program, reward_id, at)) is not None and reward.on_void == "keep"
        for reward_id, at in found.select("reward_id", "decided_at").iter_rows()
    ]
    of_order = pl.when("void").then(~pl.Series("keeps", keeps, dtype=pl.Boolean)).otherwise("unused")
    back = pl.col("cancelled") | ~pl.col("issued") | of_order
    of_reward, taken = pl.col("reward_id").is_not_null(), pl.col("used") | ~back
    by_hand = ~(pl.col("cancelled") | pl.col("unused"))
    stands = pl.when(of_reward).then(taken).otherwise(by_hand)
    return found.select(*whose, at="decided_at", points=pl.when(stands).then(-pl.col("cost")).otherwise(0))


def states(found: pl.DataFrame, program: Program) -> pl.DataFrame:
    """Of orders in these states (versions.STATE): order_id, customer_id, `counted` and `void`; of those from before the
    shop had any reward nothing."""
    begun = min((each.since for each in program.rewards), default=_NEVER)
    told = valuing.amounts(found, program, "customer_id").filter(pl.col("processed_at") >= begun)
    return told.select("order_id", "customer_id", "counted", void=pl.col("paid") & ~pl.col("counted"))


def _uses(made: pl.DataFrame, codes: pl.DataFrame, owners: pl.DataFrame, states: States) -> pl.DataFrame:
    """customer_id, code: whether an order of theirs that bears it counts (`used`), or did once (`void`)."""
    bear = (
        made.filter(pl.col("code") != "")
        .select("customer_id", "code")
        .unique()
        .join(codes.select("order_id", "code").unique(), on="code", how="inner")
        .join(owners.select("order_id", "customer_id").unique(), on=["order_id", "customer_id"], how="inner")
    )
    told = states(bear["order_id"].unique()).select("order_id", "customer_id", "counted", "void")
    return (
        bear.join(told, on="order_id", how="semi")
        .sort(pl.col("order_id").str.zfill(20), descending=True)
        .group_by("customer_id", "code", maintain_order=True)
        .head(_REMEMBERED)
        .join(told, on=["order_id", "customer_id"], how="left")
        .group_by("customer_id", "code")
        .agg(used=pl.col("counted").fill_null(value=False).any(), void=pl.col("void").fill_null(value=False).any())
    )
