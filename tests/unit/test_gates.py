"""Quality gates: each catches the one thing that it is for, and a good run passes them all."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from batch.gates import asking, judging, measuring
from batch.gates.asking import Before, Gate
from events import instants
from events.programs import Bounds, CutPoints, Program
from lake import accounts, rfm

SHOP = "good.myshopify.com"
AS_OF = datetime(2026, 11, 20, 1, tzinfo=UTC)
NOW = instants.from_datetime(AS_OF)
DAY = timedelta(days=1)
PROGRAM = Program.model_validate({"shop": SHOP, "currency": "USD"})


class Run:
    """What a run took in and made: sixty customers, two of them without an order in the look-back."""

    def __init__(self) -> None:
        count = 60
        self.orders = pl.DataFrame(
            {
                "order_id": [str(1000 + at) for at in range(2 * count)],
                "customer_id": [str(at % count) for at in range(2 * count)],
                "processed_at": [NOW - (1 + at) * 2 * instants.DAY for at in range(2 * count)],
                "net": [1000 + 10 * at for at in range(2 * count)],
                "gross": [1000 + 10 * at for at in range(2 * count)],
                "total": [10] * 2 * count,
                "counted": [at % count > 1 for at in range(2 * count)],
                "paid": [at % count > 1 for at in range(2 * count)],
            }
        )
        everyone = pl.DataFrame({"customer_id": [str(at) for at in range(count)], "now": [NOW] * count})
        values = rfm.values(everyone, self.orders, accounts.NONE, PROGRAM)
        self.cut_points: CutPoints = rfm.find_cut_points(values, PROGRAM, AS_OF)
        self.found = rfm.standings(values, self.cut_points, PROGRAM)
        self.rest: measuring.Measured = {"webhooks": 200, "unreadable": 0, "other_currency": 0, "stale_hours": 3.0}
        self.bounds = Bounds()
        self.before: Before | None = None
        self.changed: str | None = None

    def gates(self) -> list[Gate]:
        return asking.gates(
            self.measured(), measuring.shares(self.found), AS_OF, self.bounds, self.before, self.changed
        )

    def measured(self) -> measuring.Measured:
        # In two frames, as a large shop's orders come.
        halves = [self.orders.head(self.orders.height // 2), self.orders.tail(-(self.orders.height // 2))]
        orders = measuring.orders_in(halves, self.found, PROGRAM, NOW)
        return {
            **orders.measured,
            **measuring.standings_out(self.found, orders, self.cut_points, PROGRAM),
            **self.rest,
        }

    def a_day_before(self, since: timedelta = DAY, **changes: Any) -> Before:
        self.before = Before(AS_OF - since, self.measured() | changes, measuring.shares(self.found))
        return self.before

    def set(self, column: str, value: Any, who: str = "5") -> None:
        wrong = pl.when(pl.col("customer_id") == who).then(pl.lit(value)).otherwise(column)
        self.found = self.found.with_columns(wrong.cast(self.found.schema[column]).alias(column))


def twice(run: Run) -> None:
    run.orders = pl.concat([run.orders, run.orders.filter(~pl.col("counted")).head(1)])


def customer_twice(run: Run) -> None:
    run.found = pl.concat([run.found, run.found.filter(pl.col("segment") == "Prospects").head(1)])


def below_zero(run: Run) -> None:
    wrong = pl.col("paid") & (pl.col("order_id") == "1007")
    run.orders = run.orders.with_columns(gross=pl.when(wrong).then(-1).otherwise("gross"))


def of_1969(run: Run) -> None:
    run.orders = run.orders.with_columns(processed_at=pl.when(~pl.col("counted")).then(-1).otherwise("processed_at"))


def other_currency(run: Run) -> None:
    run.rest["other_currency"] = 1


def unreadable(run: Run) -> None:
    run.rest["unreadable"] = 11


def stale(run: Run) -> None:
    run.bounds = Bounds(stale_hours=2)


def a_segment_gone(run: Run) -> None:
    before = run.a_day_before()
    run.before = before._replace(shares={**before.shares, "Whales": 40.0})


def half_the_revenue(run: Run) -> None:
    run.a_day_before(revenue=3 * run.measured()["revenue"])


def twice_the_orders(run: Run) -> None:
    run.a_day_before(orders=70)


def descending(run: Run) -> None:
    run.cut_points = run.cut_points.model_copy(update={"monetary": (4, 3, 4, 5)})


def of_few(run: Run) -> None:
    run.found = run.found.head(40)
    theirs = run.found["customer_id"].implode()
    run.orders = run.orders.filter(pl.col("customer_id").is_in(theirs))
    run.cut_points = run.cut_points.model_copy(update={"customers": 38})


def of_others(run: Run) -> None:
    run.cut_points = run.cut_points.model_copy(update={"customers": 59})


#: What each gate is for, and nothing else.
POISON: dict[str, Callable[[Run], None]] = {
    "orders_twice": twice,
    "customers_twice": customer_twice,
    "amounts_out_of_range": below_zero,
    "times_out_of_range": of_1969,
    "other_currency": other_currency,
    "digits_wrong": lambda run: run.set("r", 6),
    "segments_unknown": lambda run: run.set("segment", "Whales"),
    "prospects_elsewhere": lambda run: run.set("segment", "Prospects"),
    "revenue_unaccounted": lambda run: run.set("monetary", 1),
    "purchases_unaccounted": lambda run: run.set("frequency", 1),
    "scored_unaccounted": of_others,
    "cut_points_descending": descending,
    "cut_points_of_few": of_few,
    "unreadable": unreadable,
    "stale": stale,
    "sizes": a_segment_gone,
    "revenue": half_the_revenue,
    "volume": twice_the_orders,
}


def poisoned(gate: str) -> Run:
    run = Run()
    POISON[gate](run)
    return run


def test_every_gate_has_its_poison() -> None:
    assert {gate.name for gate in Run().gates()} == POISON.keys()


@pytest.mark.slow
def test_each_gate_catches_its_poison_and_a_good_run_passes_all() -> None:
    """In one validation: Great Expectations takes longer to begin than to judge."""
    good, compared = Run(), Run()
    compared.a_day_before()
    runs = {"good": good, "compared": compared, **{name: poisoned(name) for name in POISON}}
    asked = [gate._replace(name=f"{name}/{gate.name}") for name, run in runs.items() for gate in run.gates()]
    judged = judging.judge(asked)
    assert [each.gate for each in judged] == asked
    failed = {each.gate.name for each in judged if each.passed is False}
    assert failed == {f"{name}/{name}" for name in POISON}
    skipped = {each.gate.name for each in judged if each.passed is None}
    assert {"good/stale", "good/sizes", "good/revenue", "good/volume", "compared/stale"} <= skipped
    assert not {name for name in skipped if name.startswith("compared/")} - {"compared/stale"}
    unknown = [Gate("a", "", None, 0, 1), Gate("b", "", float("nan"), None, 1), Gate("c", "", 3, None, 3)]
    assert [each.passed for each in judging.judge(unknown)] == [False, False, True]


@pytest.mark.parametrize(
    ("days", "few", "changed", "why"),
    [
        (1, False, None, None),
        (30, False, None, "the run before is 30 days old"),
        (1, True, None, "the run before had fewer than 50 customers"),
        (1, False, "a past came in since the run before", "a past came in since the run before"),
    ],
)
def test_drift_is_asked_where_there_is_something_to_compare(
    days: int, few: bool, changed: str | None, why: str | None
) -> None:
    run = Run()
    run.a_day_before(days * DAY, **({"customers": 49} if few else {}))
    run.changed = changed
    assert {gate.why for gate in run.gates() if gate.name in ("sizes", "revenue", "volume")} == {why}


def test_bounds_are_of_a_day_and_widen_with_the_days_between() -> None:
    def bounds(since: timedelta) -> dict[str, Any]:
        run = Run()
        run.a_day_before(since)
        return {gate.name: (gate.low, gate.high) for gate in run.gates()}

    found = bounds(3 * DAY)
    assert found["sizes"] == (0, 60)
    assert found["revenue"] == found["volume"] == (-150, 150)
    assert bounds(timedelta(hours=1))["sizes"] == (0, 20)  # an hourly batch has a day's
