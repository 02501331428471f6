"""A run held against its gates before it publishes."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import polars as pl
from psycopg import Connection

from batch import frames, runs
from batch.gates import asking, judging, measuring
from batch.history import History
from books import quality
from events import instants
from events.programs import CutPoints, Program
from lake import past
from lake.reading import Files
from runtime import metrics


class GatesError(frames.BatchError):
    """A gate failed, and nothing was published; the message says which, and what was found."""


class Taken(NamedTuple):
    """What a run was made of: webhooks and the unreadable of them, the newest event's time (microseconds; 0: there was
    none), and every order as `orders_in` of measuring.py takes them."""

    webhooks: int
    unreadable: int
    newest: int
    orders: Iterable[pl.DataFrame]

    @classmethod
    def of_files(cls, files: Files, program: Program, at: int) -> "Taken":
        """As of `at`, from files of the lake for it; the orders are read from them anew, and once."""
        newest, found = past.newest_event(files, at), past.orders(files, program, at)
        return cls(files.webhooks, files.unreadable, newest, found)

    @classmethod
    def of_history(cls, history: History, worth: pl.DataFrame) -> "Taken":
        """From a history that was read as far as the run's time, and what its orders are worth."""
        times = [frame["now"].max() for frame in (history.events.frame(), history.people.frame())]
        newest = max((at for at in times if isinstance(at, int)), default=0)
        return cls(history.webhooks, history.unreadable, newest, [worth])


def hold(
    connection: Connection[Any],
    run_id: UUID,
    program: Program,
    as_of: datetime,
    taken: Taken,
    found: pl.DataFrame,
    cut_points: CutPoints,
    despite: bool,
) -> None:
    """Measures what the run took in and made, notes it with every verdict, and raises GatesError where one failed.

    `despite`: they are noted all the same, and it goes on.
    """
    measured = measure(connection, program, as_of, taken, found, cut_points)
    shares = measuring.shares(found)
    last = runs.last_published(connection, program.shop)
    before = None
    if last is not None and last.quality is not None:
        before = asking.Before(last.as_of, last.quality["measured"], last.quality["shares"])
    why = None if last is None else changed(connection, program, last.started_at)
    judged = judging.judge(asking.gates(measured, shares, as_of, program.bounds, before, why))
    found_quality = {
        "measured": measured,
        "shares": shares,
        "gates": [each.as_json() for each in judged],
        "despite": despite,
    }
    runs.note_quality(connection, run_id, found_quality)
    failed = [each.gate for each in judged if each.passed is False]
    for gate in failed:
        metrics.GATES_FAILED.labels(gate.name).inc()
    if failed and not despite:
        raise GatesError(f"nothing was published: {'; '.join(map(said, failed))}")


def said(gate: asking.Gate) -> str:
    """A gate that failed, in words."""
    value = "unknown" if gate.value is None else f"{gate.value:,.6g}"
    return f"{gate.name} is {value}, not {quality.wanted(gate._asdict())} ({gate.says})"


def measure(
    connection: Connection[Any],
    program: Program,
    as_of: datetime,
    taken: Taken,
    found: pl.DataFrame,
    cut_points: CutPoints,
) -> measuring.Measured:
    """Everything that a gate asks about."""
    at = instants.from_datetime(as_of)
    orders = measuring.orders_in(taken.orders, found, program, at)
    row = connection.execute(
        "SELECT count(*) FROM customers WHERE shop = %s AND currency <> %s", (program.shop, program.currency)
    ).fetchone()
    assert row is not None
    return {
        **orders.measured,
        **measuring.standings_out(found, orders, cut_points, program),
        "webhooks": taken.webhooks,
        "unreadable": taken.unreadable,
        "other_currency": row[0],
        "stale_hours": max(at - taken.newest, 0) / instants.HOUR if taken.newest else 0.0,
    }


def changed(connection: Connection[Any], program: Program, since: datetime) -> str | None:
    """Why the run before compares with nothing; None if it does."""
    if program.announced_at is not None and program.announced_at > since:
        return "the program was changed since the run before"
    # Since it moved, not until it is over: one that was broken off and left would keep the gates open for ever.
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM imports WHERE shop = %s AND updated_at > %s)", (program.shop, since)
    ).fetchone()
    return "a past came in since the run before" if row == (True,) else None
