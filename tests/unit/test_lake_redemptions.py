"""What redemptions take, by the rows of the lake."""

from typing import Any

import polars as pl
import pytest

from events.programs import Program
from lake import accounts, redemptions
from lake.rows import TABLES

PROGRAM = Program(shop="a.myshopify.com", currency="USD")


def rows(name: str, *found: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(list(found), schema=TABLES[name], orient="row")


@pytest.mark.parametrize(
    ("outcomes", "taken"),
    [
        ([], [-30]),
        ([(1, True, 0, "A")], [-30]),
        ([(1, False, 0, "")], [0]),
        # The greatest attempt counts, whatever the lower one said; of one attempt the code before the failure.
        ([(0, True, 900, "A"), (1, False, 0, "")], [0]),
        ([(0, False, 0, ""), (1, True, 0, "A")], [-30]),
        ([(1, False, 0, ""), (1, True, 0, "A")], [-30]),
    ],
)
def test_the_greatest_attempt_counts(outcomes: list[tuple[Any, ...]], taken: list[int]) -> None:
    found = redemptions.taken(
        rows("decisions", ("7", "r", 100, True, "ten", 30, 100), ("7", "no", 100, False, "ten", 50, 100)),
        rows("cancels", ("8", "r", False, 100)),
        rows("outcomes", *(("7", "r", *each, 100) for each in outcomes)),
        rows("codes", ("9", "A", 100)),
        rows("owners", ("9", "8", 100)),
        lambda ids: ids.to_frame("order_id").with_columns(
            customer_id=pl.lit("8"), counted=pl.lit(value=True), void=pl.lit(value=False)
        ),
        PROGRAM,
    )
    assert found["points"].to_list() == taken


def _bought(*orders: str) -> list[int]:
    """What a redemption takes that was cancelled, when its code is borne by these orders, of which the last counts."""
    found = redemptions.taken(
        rows("decisions", ("7", "r", 100, True, "ten", 30, 100)),
        rows("cancels", ("7", "r", False, 100)),
        rows("outcomes", ("7", "r", 1, True, 0, "A", 100)),
        rows("codes", *((each, "A", 100) for each in orders)),
        rows("owners", *((each, "7", 100) for each in orders)),
        lambda ids: ids.to_frame("order_id").with_columns(
            customer_id=pl.lit("7"), counted=pl.col("order_id") == orders[-1], void=pl.lit(value=False)
        ),
        PROGRAM,
    )
    return found["points"].to_list()


def test_of_a_code_the_orders_of_the_greatest_ids_are_remembered() -> None:
    """As numbers, and an id may have twenty digits."""
    assert _bought("9", "10", "99999999999999999999") == [-30]
    assert _bought("99999999999999999999", "10", "9") == [0]


def test_a_deduction_that_was_granted_is_taken_until_it_is_cancelled() -> None:
    """Whatever else is said of it, by whom it may."""
    names = [("7", f"checked/{name}", 100, name != "no", None, 30, 100) for name in ("a", "gone", "no", "failed")]
    found = redemptions.taken(
        rows("decisions", *names),
        rows("cancels", ("7", "checked/gone", False, 100)),
        rows("outcomes", ("7", "checked/failed", 1, False, 0, "", 100)),
        rows("codes"),
        rows("owners"),
        lambda ids: ids.to_frame("order_id").with_columns(
            customer_id=pl.lit("7"), counted=pl.lit(value=True), void=pl.lit(value=False)
        ),
        PROGRAM,
    )
    assert sorted(found.filter(pl.col("points") < 0)["request_id"]) == ["checked/a", "checked/failed"]
    given = accounts.with_redemptions(accounts.NONE, found)
    assert given["kind"].unique().to_list() == ["deduction"]


@pytest.mark.parametrize(
    ("cancels", "void", "taken"),
    [
        ([True], None, [0]),
        ([True], False, [-30]),  # an order has used it all the same
        ([True], True, [-30]),  # its order came to nothing, and its reward keeps the points
        ([True, False], True, [0]),
        ([], True, [-30]),
    ],
)
def test_what_nobody_used_in_time_is_taken_if_an_order_did(
    cancels: list[bool], void: bool | None, taken: list[int]
) -> None:
    kept = {"reward_id": "kept", "cost": 30, "kind": "shipping", "name": "kept", "on_void": "keep"}
    found = redemptions.taken(
        rows("decisions", ("7", "r", 100, True, "kept", 30, 100)),
        rows("cancels", *(("7", "r", unused, 100) for unused in cancels)),
        rows("outcomes", ("7", "r", 1, True, 50, "A", 100)),
        rows("codes", *([] if void is None else [("9", "A", 100)])),
        rows("owners", ("9", "7", 100)),
        lambda ids: ids.to_frame("order_id").with_columns(
            customer_id=pl.lit("7"), counted=pl.lit(not void), void=pl.lit(bool(void))
        ),
        Program.model_validate({**PROGRAM.model_dump(), "rewards": [kept]}),
    )
    assert found["points"].to_list() == taken
