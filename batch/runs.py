"""The books of batch runs: batch_runs, and in batch_segments everyone's standing as one run worked it out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import polars as pl
from psycopg import Connection
from psycopg.types.json import Jsonb

from batch import frames
from books import notices


class RunReport(NamedTuple):
    """What a run found and did.

    `customers` are the known ones as of `as_of`, `scored` those of them who are not Prospects, `segments` how many
    customers each segment has, largest first. `rescored` counts requests, `unreadable` webhooks nobody can use;
    `differ` customers were not as the history says in the end, and `detail` says so.
    """

    run_id: UUID
    shop: str
    as_of: datetime
    version: str
    published: bool
    customers: int
    scored: int
    segments: dict[str, int]
    rescored: int
    rounds: int
    differ: int
    detail: str | None
    windows: int
    webhooks: int
    unreadable: int
    seconds: float


def lock(connection: Connection[Any], shop: str) -> None:
    """One run of a shop at a time, for as long as the connection lives; BatchError while another is at it."""
    row = connection.execute("SELECT pg_try_advisory_lock(hashtextextended('batch ' || %s, 0))", (shop,)).fetchone()
    if row is None or not row[0]:
        raise frames.BatchError(f"another batch of {shop} is running")


def unlock(connection: Connection[Any], shop: str) -> None:
    """Lets go of the shop's batch, which `lock` took on this connection."""
    connection.execute("SELECT pg_advisory_unlock(hashtextextended('batch ' || %s, 0))", (shop,))


def begin(connection: Connection[Any], shop: str, as_of: datetime, attempt: int = 1) -> UUID:
    """Notes that a run began, and the how many-th try it is. What still stands as running was interrupted: the lock is
    ours.
    """
    run_id = uuid4()
    with connection.transaction():
        connection.execute(
            "UPDATE batch_runs SET status = 'failed', detail = 'interrupted', finished_at = %s"
            " WHERE shop = %s AND status = 'running'",
            (datetime.now(UTC), shop),
        )
        connection.execute(
            "INSERT INTO batch_runs (id, shop, as_of, status, attempt, started_at)"
            " VALUES (%s, %s, %s, 'running', %s, %s)",
            (run_id, shop, as_of, attempt, datetime.now(UTC)),
        )
    return run_id


def store(
    connection: Connection[Any], run_id: UUID, shop: str, as_of: datetime, version: str, standings: pl.DataFrame
) -> None:
    """Keeps everyone's standing of a run whole, in one transaction."""
    rows = standings.select(
        pl.lit(str(run_id)).alias("run_id"),
        pl.lit(shop).alias("shop"),
        "customer_id",
        "balance",
        "recency_days",
        "frequency",
        "monetary",
        pl.from_epoch("last_order_at", time_unit="us").dt.replace_time_zone("UTC"),
        "r",
        "f",
        "m",
        "score",
        "segment_id",
        "segment",
    )
    with connection.transaction(), connection.cursor() as cursor:
        frames.load(cursor, "batch_segments", rows)
        frames.load(cursor, "segment_sizes", _sizes(rows, as_of))
        cursor.execute(
            "UPDATE batch_runs SET version = %s, customers = %s WHERE id = %s", (version, rows.height, run_id)
        )


def _sizes(rows: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """How large each segment is, and what it is worth: kept when the standings are forgotten."""
    sums = (pl.len().alias("customers"), pl.col("monetary", "balance").sum())
    return rows.group_by("shop", "run_id", "segment").agg(*sums).with_columns(as_of=pl.lit(as_of))


def note_quality(connection: Connection[Any], run_id: UUID, quality: Mapping[str, Any]) -> None:
    """What the run measured, and how its gates were judged."""
    connection.execute("UPDATE batch_runs SET quality = %s WHERE id = %s", (Jsonb(quality), run_id))


def last_begun(connection: Connection[Any]) -> dict[str, datetime]:
    """When each shop's newest published run began: a question that was answered since is no batch."""
    rows = connection.execute("SELECT shop, max(started_at) FROM batch_runs WHERE published GROUP BY shop")
    return dict(rows.fetchall())


class Published(NamedTuple):
    """A published run: its time, when it began, and what it measured (null: nothing)."""

    as_of: datetime
    started_at: datetime
    quality: dict[str, Any] | None


def last_published(connection: Connection[Any], shop: str) -> Published | None:
    """The shop's newest published run; None before the first."""
    row = connection.execute(
        "SELECT as_of, started_at, quality FROM batch_runs WHERE shop = %s AND published"
        " ORDER BY started_at DESC LIMIT 1",
        (shop,),
    ).fetchone()
    return None if row is None else Published(*row)


def note_published(connection: Connection[Any], run_id: UUID) -> None:
    """The run's cut points are on their topic."""
    connection.execute("UPDATE batch_runs SET published = true WHERE id = %s", (run_id,))


def finish(connection: Connection[Any], report: RunReport, expiring_days: Sequence[int] = ()) -> None:
    """The run is done; its `detail` is what was not as it should be, in words. Who listens is told, also of points that
    run out within `expiring_days`."""
    with connection.transaction():
        connection.execute(
            "UPDATE batch_runs SET status = 'done', rescored = %s, rounds = %s, detail = %s, scored = %s, differ = %s,"
            " webhooks = %s, seconds = %s, finished_at = %s WHERE id = %s",
            (
                *(report.rescored, report.rounds, report.detail, report.scored, report.differ, report.webhooks),
                *(report.seconds, datetime.now(UTC), report.run_id),
            ),
        )
        notices.batch_done(connection, report.run_id, expiring_days)


def forget(connection: Connection[Any], shop: str, keep: int) -> None:
    """Removes the shop's runs, with everyone's standing in them, beyond the last so many that are done."""
    connection.execute(
        "DELETE FROM batch_runs WHERE shop = %(shop)s AND started_at < ("
        " SELECT started_at FROM batch_runs WHERE shop = %(shop)s AND status = 'done'"
        " ORDER BY started_at DESC OFFSET %(keep)s - 1 LIMIT 1)",
        {"shop": shop, "keep": keep},
    )


def fail(connection: Connection[Any], run_id: UUID, error: BaseException) -> None:
    """The run is over without a result, for this error (its first 1,000 signs are kept)."""
    connection.execute(
        "UPDATE batch_runs SET status = 'failed', detail = %s, finished_at = %s WHERE id = %s",
        (f"{type(error).__name__}: {error}"[:1000], datetime.now(UTC), run_id),
    )
