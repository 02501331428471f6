"""A run held against its gates before it publishes."""

from datetime import datetime
from typing import Any
from uuid import UUID

import polars as pl
from psycopg import Connection

from batch import frames, runs
from batch.gates import asking, judging, measuring
from batch.history import History
from books import quality
from events import instants
from events.programs import CutPoints, Program
from runtime import metrics


class GatesError(frames.BatchError):
    """A gate failed, and nothing was published; the message says which, and what was found."""


def hold(
    connection: Connection[Any],
    run_id: UUID,
    program: Program,
    as_of: datetime,
    history: History,
    orders: pl.DataFrame,
    found: pl.DataFrame,
    cut_points: CutPoints,
    despite: bool,
) -> None:
    """Measures what the run took in and made, notes it with every verdict, and raises GatesError where one failed.

    `despite`: they are noted all the same, and it goes on.
    """
    measured = measure(connection, program, as_of, history, orders, found, cut_points)
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
    history: History,
    orders: pl.DataFrame,
    found: pl.DataFrame,
    cut_points: CutPoints,
) -> measuring.Measured:
    """Everything that a gate asks about."""
    times = [frame["now"].max() for frame in (history.events.frame(), history.people.frame())]
    newest = max((at for at in times if isinstance(at, int)), default=0)
    row = connection.execute(
        "SELECT count(*) FROM customers WHERE shop = %s AND currency <> %s", (program.shop, program.currency)
    ).fetchone()
    assert row is not None
    return {
        **measuring.orders_in(orders),
        **measuring.standings_out(found, orders, cut_points, program),
        "webhooks": history.webhooks,
        "unreadable": history.unreadable,
        "other_currency": row[0],
        "stale_hours": max(instants.from_datetime(as_of) - newest, 0) / (3600 * 1_000_000) if newest else 0.0,
    }


def changed(connection: Connection[Any], program: Program, since: datetime) -> str | None:
    """Why the run before compares with nothing; None if it does."""
    if program.announced_at is not None and program.announced_at > since:
        return "the program was changed since the run before"
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM imports WHERE shop = %s AND (finished_at IS NULL OR finished_at > %s))",
        (program.shop, since),
    ).fetchone()
    return "a past came in since the run before" if row == (True,) else None
