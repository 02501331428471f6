"""Each order's state over a history that was read, and what it is worth (lake/valuing.py)."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import polars as pl

from batch.history import History
from events import instants
from events.orders import UNTOLD
from events.programs import Program
from lake import identity, people, reading, valuing, versions
from lake.reading import Files
from lake.versions import SCHEMA, STATE


def worth(history: History, program: Program) -> pl.DataFrame:
    """What each order is worth by all that was read, with all merges: see `valued` of lake/valuing.py."""
    return valuing.valued(states(history), history.merged(), program)


def given(history: History, program: Program) -> pl.DataFrame:
    """What was given and taken beside orders (lake/accounts.py: NONE), by all that was read."""
    return history.given(program, states(history))


def worth_of(files: Files, program: Program, starts: Sequence[int]) -> pl.DataFrame:
    """As `worth`, from files of the lake that hold everything, of the orders of windows that begin at `starts`
    (microseconds), and of some beside."""
    days = {start // instants.DAY + more for start in starts for more in range(3)}  # a shop's day may have 25 hours
    theirs = (pl.col("processed_at") // instants.DAY).is_in(sorted(days))
    return pl.concat(_worths(files.layers, files.ties, program, theirs))


def all_of(layers: Sequence[Path], ties: Path, program: Program, beside: Sequence[str] = ()) -> Iterator[pl.DataFrame]:
    """As `worth`, from files of the lake that hold everything, in frames of versions.SLICE orders or fewer; one at
    least. Each with the columns `beside` of an order's state (versions.STATE)."""
    return _worths(layers, ties, program, pl.lit(value=True), beside)


def _worths(
    layers: Sequence[Path], ties: Path, program: Program, wanted: pl.Expr, beside: Sequence[str] = ()
) -> Iterator[pl.DataFrame]:
    merged = identity.holding(*people.told(ties, reading.EVER))
    nobodys = pl.DataFrame(schema={name: SCHEMA[name] for name in STATE})
    for found in chain([nobodys], versions.slices(layers, None, wanted, STATE)):
        yield valuing.valued(found, merged, program).with_columns(found.select(beside))


def states(history: History) -> pl.DataFrame:
    """Each order as the history says it is, whatever the program: what lake/versions.py keeps of each instant."""
    found = history.order_states()
    left = pl.col("base") - pl.col("gift") - pl.col("unknown").fill_null(0)
    return (
        found.join(_refunds(history, found), on="order_id", how="left")
        .with_columns(
            pl.col("beyond", "money_beyond").fill_null(0),
            left=left,
            tax=pl.col("tax") - pl.col("unknown_tax").fill_null(0),
        )
        .select(STATE)
    )


def _refunds(history: History, found: pl.DataFrame) -> pl.DataFrame:
    """By order: the goods (`unknown`, `unknown_tax`) that its newest snapshot has not taken off yet, and what all its
    refunds take `beyond` their goods, or, where the money is what counts, `money_beyond`; both may be below 0.
    """
    # A row for each id: looking for each refund in its order's list takes the square of an order's refunds.
    listed = (
        found.select("order_id", refund_id="refund_ids")
        .explode("refund_id")
        .drop_nulls("refund_id")
        .unique()
        .with_columns(listed=pl.lit(value=True))
    )
    earlier = pl.col("created_at") <= pl.col("updated_at")
    named = pl.col("listed").fill_null(value=False)
    known = pl.when(pl.col("refund_ids").is_null()).then(earlier).otherwise(named)
    in_money = pl.when(pl.col("paid") != UNTOLD).then(pl.col("paid") - pl.col("goods")).otherwise("beyond")
    return (
        history.refunds.frame()
        .join(found.select("order_id", "updated_at", "refund_ids"), on="order_id", how="inner")
        .join(listed, on=["order_id", "refund_id"], how="left")
        .with_columns(known=known, money_beyond=in_money)
        .group_by("order_id")
        .agg(
            unknown=pl.col("goods").filter(~pl.col("known")).sum(),
            unknown_tax=pl.col("goods_tax").filter(~pl.col("known")).sum(),
            beyond=pl.col("beyond").sum(),
            money_beyond=pl.col("money_beyond").sum(),
        )
    )
