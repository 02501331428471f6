"""The batch's RFM over columns: edges to the second, ties, cut points, digits, scores and segments."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from events import instants
from events.programs import GRID, CutPoints, Program
from lake import accounts, rfm

SHOP = "edges.myshopify.com"
T = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
PROGRAM = Program(shop=SHOP, currency="USD")
ORDER = {"customer_id": "1", "net": 1000, "counted": True, "total": 10}


def orders(*changes: dict[str, Any]) -> pl.DataFrame:
    rows = [ORDER | change | {"processed_at": instants.from_datetime(change["processed_at"])} for change in changes]
    return pl.DataFrame(rows)


def values(*changes: dict[str, Any], look_back: int | None = 365, t: datetime = T) -> dict[str, Any]:
    customers = pl.DataFrame({"customer_id": ["1"], "now": [instants.from_datetime(t)]})
    (row,) = rfm.values(
        customers, orders(*changes), accounts.NONE, PROGRAM.model_copy(update={"look_back_days": look_back})
    ).to_dicts()
    return row


def scored(recency: list[int], frequency: list[int] | None = None, monetary: list[int] | None = None) -> pl.DataFrame:
    count = len(recency)
    return pl.DataFrame(
        {
            "customer_id": [str(number) for number in range(count)],
            "recency_days": pl.Series(recency, dtype=pl.Int64),
            "frequency": frequency or [1] * count,
            "monetary": monetary or [100] * count,
        }
    )


@pytest.mark.parametrize(
    ("processed_at", "frequency"),
    [
        (T, 1),  # t itself counts
        (T + SECOND, 0),
        (T - 365 * DAY, 0),  # the far edge does not
        (T - 365 * DAY + SECOND, 1),
        (T - 365 * DAY + timedelta(microseconds=1), 1),
    ],
)
def test_the_look_back_is_open_at_its_far_edge(processed_at: datetime, frequency: int) -> None:
    row = values({"processed_at": processed_at})
    assert row["frequency"] == frequency
    assert (row["recency_days"] is None) == (frequency == 0)


def test_a_life_has_no_far_edge() -> None:
    assert values({"processed_at": T - 9000 * DAY}, look_back=None)["recency_days"] == 9000


@pytest.mark.parametrize(("ago", "days"), [(DAY, 1), (DAY - SECOND, 0), (DAY + SECOND, 1), (2 * DAY - SECOND, 1)])
def test_recency_is_whole_days_of_seconds(ago: timedelta, days: int) -> None:
    assert values({"processed_at": T - ago})["recency_days"] == days


def test_the_balance_takes_orders_of_any_age_but_none_to_come() -> None:
    row = values({"processed_at": T - 4000 * DAY}, {"processed_at": T}, {"processed_at": T + SECOND})
    assert (row["balance"], row["frequency"]) == (20, 1)


def test_an_order_worth_nothing_makes_nobody_active() -> None:
    row = values({"processed_at": T, "net": 0, "total": 0}, {"processed_at": T - DAY, "counted": False})
    assert (row["recency_days"], row["frequency"], row["monetary"], row["last_order_at"]) == (None, 0, 0, None)


def test_somebody_without_orders_is_a_prospect() -> None:
    customers = pl.DataFrame({"customer_id": ["2"], "now": [instants.from_datetime(T)]})
    found = rfm.values(customers, orders({"processed_at": T}), accounts.NONE, PROGRAM)
    (row,) = rfm.standings(found, rfm.find_cut_points(found, PROGRAM, T), PROGRAM).to_dicts()
    assert (row["r"], row["f"], row["m"], row["score"]) == (None, None, None, None)
    assert (row["segment_id"], row["segment"], row["balance"]) == ("seg_000", "Prospects", 0)


def test_cut_points_stand_at_ceiling_positions() -> None:
    for count in (50, 51, 52, 53, 54):
        found = rfm.find_cut_points(scored(list(range(1, count + 1))[::-1]), PROGRAM, T)
        # Of the values 1..n the k-th threshold is its own position, ceil(k n / 5).
        assert found.recency == tuple(-(-k * count // 5) for k in (1, 2, 3, 4))
        assert found.customers == count


def test_fewer_than_fifty_take_the_default() -> None:
    few = rfm.find_cut_points(scored([1] * 49), PROGRAM, T)
    assert (few.version, few.customers) == ("default", 49)
    assert (few.recency, few.frequency) == ((30, 60, 90, 180), (1, 2, 4, 8))
    assert few.monetary == (5000, 10_000, 25_000, 50_000)
    yen = rfm.find_cut_points(scored([1]), Program(shop=SHOP, currency="JPY"), T)
    assert yen.monetary == (50, 100, 250, 500)
    assert rfm.find_cut_points(scored([1] * 50), PROGRAM, T).version != "default"


def test_prospects_are_left_out_of_cut_points() -> None:
    everyone = scored([1] * 50).with_columns(
        recency_days=pl.when(pl.col("customer_id") == "7").then(None).otherwise(pl.col("recency_days"))
    )
    assert rfm.find_cut_points(everyone, PROGRAM, T).customers == 49


def test_ties_get_equal_digits() -> None:
    found = scored([5] * 60, [2] * 60, [700] * 60)
    rows = rfm.standings(found, rfm.find_cut_points(found, PROGRAM, T), PROGRAM)
    assert rows.select("r", "f", "m").unique().rows() == [(5, 1, 1)]


def cut_points(**changes: Any) -> CutPoints:
    made = {
        "shop": SHOP,
        "version": "v",
        "as_of": T,
        "customers": 50,
        "recency": (10, 20, 30, 40),
        "frequency": (1, 1, 3, 4),
        "monetary": (100, 200, 300, 400),
    }
    return CutPoints.model_validate(made | changes)


@pytest.mark.parametrize(
    ("recency", "frequency", "monetary", "digits"),
    [
        (0, 1, 100, (5, 1, 1)),
        (10, 1, 101, (5, 1, 2)),  # equal to a threshold is not above it
        (11, 2, 200, (4, 3, 2)),  # past two equal thresholds at once
        (40, 4, 400, (2, 4, 4)),
        (41, 5, 401, (1, 5, 5)),
    ],
)
def test_digits(recency: int, frequency: int, monetary: int, digits: tuple[int, int, int]) -> None:
    (row,) = rfm.standings(scored([recency], [frequency], [monetary]), cut_points(), PROGRAM).to_dicts()
    assert (row["r"], row["f"], row["m"]) == digits
    assert row["segment_id"] == "seg_{}{}{}".format(*digits)


def test_every_score_and_segment() -> None:
    """All 125: the score against plain decimals, the name against the grid with F and M rounded half up."""
    digits = [(r, f, m) for r in range(1, 6) for f in range(1, 6) for m in range(1, 6)]
    found = scored([50 - 10 * r for r, _, _ in digits], [f for _, f, _ in digits], [100 * m for _, _, m in digits])
    even = cut_points(frequency=(1, 2, 3, 4), recency=(4, 14, 24, 34))
    for (r, f, m), row in zip(digits, rfm.standings(found, even, PROGRAM).to_dicts(), strict=True):
        assert (row["r"], row["f"], row["m"]) == (r, f, m)
        assert row["score"] == f"{0.4 * r + 0.3 * f + 0.3 * m:.1f}"
        fm = {2: 1, 3: 2, 4: 2, 5: 3, 6: 3, 7: 4, 8: 4, 9: 5, 10: 5}[f + m]
        assert row["segment"] == GRID[5 - r][5 - fm]


def test_names_come_from_the_shops_own_grid() -> None:
    grid = [[f"{r}{fm}" for fm in (5, 4, 3, 2, 1)] for r in (5, 4, 3, 2, 1)]
    program = Program.model_validate({"shop": SHOP, "currency": "USD", "grid": grid})
    (row,) = rfm.standings(scored([11], [2], [200]), cut_points(), program).to_dicts()
    assert (row["segment_id"], row["segment"]) == ("seg_432", "43")


def test_the_version_at_now_is_the_newest_not_after_it() -> None:
    later = cut_points(version="w", as_of=T + DAY)
    again = cut_points(version="x", as_of=T + DAY)
    at = [T - SECOND, T, T + DAY - SECOND, T + DAY]
    found = scored([1, 1, 1, 1]).with_columns(now=pl.Series([instants.from_datetime(each) for each in at]))
    rows = rfm.standings_at_now(found, [later, cut_points(), again], PROGRAM).sort("customer_id")
    assert rows["cut_points_version"].to_list() == ["default", "v", "v", "x"]


def test_versions_are_named_by_their_values() -> None:
    one = rfm.find_cut_points(scored([1] * 50), PROGRAM, T)
    same = rfm.find_cut_points(scored([1] * 50), PROGRAM, T)
    other = rfm.find_cut_points(scored([2] * 50), PROGRAM, T)
    assert one.version == same.version
    assert one.version != other.version
    assert one.version.startswith("20260301T120000Z-")
