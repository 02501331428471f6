"""Windows from history: what a minute, an hour or a local day of a shop sums to, and the rebuilding of closed ones.

The stream lets go of a window past its retention and only notes that it changed; the batch is the one writer of
closed windows. A rebuilt window is one row, partition -1, in place of the partial ones.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl
from psycopg import Connection

from events import instants
from events.programs import Program, local_midnight
from lake import accounts

MEASURES: Final = (
    "orders",
    "net",
    "points_earned",
    "points_reversed",
    "customers",
    "guest_orders",
    "guest_net",
    "points_awarded",
    "points_redeemed",
)
_LENGTHS: Final = {"minute": instants.MINUTE, "hour": instants.HOUR}
SIZES: Final = ("minute", "hour", "day")

#: The partition of a rebuilt window's only row.
CLOSED: Final = -1


class Late(NamedTuple):
    """A window that an order changed after the stream had let go of it; `start` in microseconds.

    `rows` are the stream's rows of it as they stood when the list was taken, in PostgreSQL's words.
    """

    size: str
    zone: str
    start: int
    noted_at: Any
    rows: str | None = None


def day_starts(first: int, last: int, zone: ZoneInfo) -> list[int]:
    """The shop's midnights from the one at or before `first` to the one at or before `last`, ascending.

    A day of 23 or 25 hours comes from the zone's own rules; one that a zone left out altogether is no day.
    """
    day = instants.to_datetime(first).astimezone(zone).date()
    end = instants.to_datetime(last).astimezone(zone).date()
    starts = set()
    while day <= end:
        starts.add(local_midnight(day, zone))
        day += timedelta(days=1)
    return sorted(starts)


def _starts(at: pl.Series, size: str, zone: ZoneInfo) -> pl.Series:
    """The start of the window of a size that each instant falls into."""
    length = _LENGTHS.get(size)
    if length is not None:
        return at - at % length
    first, last = at.min(), at.max()
    if not isinstance(first, int) or not isinstance(last, int):
        return at
    days = pl.Series(day_starts(first, last, zone), dtype=pl.Int64)
    return days.gather(days.search_sorted(at, side="right").cast(pl.Int64) - 1)


def sums(
    worth: pl.DataFrame, zone: str, sizes: Sequence[str] = SIZES, given: pl.DataFrame = accounts.NONE
) -> pl.DataFrame:
    """One row per window that anything is filed under: size, start (microseconds) and the MEASURES.

    `worth` is what orders.worth gives, `given` what was given and taken beside orders (lake/accounts.py: NONE). Orders
    are filed under processed_at, the rest under `at`, half-open: [start, start + size).
    """
    found = [
        _of_orders(worth, zone, size)
        .join(_beside_orders(given, zone, size), on="start", how="full", coalesce=True)
        .with_columns(pl.lit(size).alias("size"))
        .select("size", "start", pl.col(MEASURES).fill_null(0))
        for size in sizes
    ]
    return pl.concat(found)


def _beside_orders(given: pl.DataFrame, zone: str, size: str) -> pl.DataFrame:
    redeemed, points = pl.col("kind") == "redeem", pl.col("points")
    return (
        given.with_columns(_starts(given["at"], size, ZoneInfo(zone)).alias("start"))
        .group_by("start")
        .agg(points_awarded=points.filter(~redeemed).sum(), points_redeemed=-points.filter(redeemed).sum())
    )


def _of_orders(worth: pl.DataFrame, zone: str, size: str) -> pl.DataFrame:
    counted, guest = pl.col("counted"), pl.col("guest")
    start = _starts(worth["processed_at"], size, ZoneInfo(zone)).alias("start")
    return (
        worth.with_columns(start)
        .group_by("start")
        .agg(
            orders=counted.sum().cast(pl.Int64),
            net=pl.col("net").filter(counted).sum(),
            points_earned=pl.col("earned").sum(),
            points_reversed=pl.col("reversed").sum(),
            customers=pl.col("customer_id").filter(counted).n_unique().cast(pl.Int64),
            guest_orders=guest.sum().cast(pl.Int64),
            guest_net=pl.col("net").filter(guest).sum(),
        )
    )


# A window that is closed, and has a row of the stream's beside, is as good as noted: see the view.
_NOTE: Final = """
INSERT INTO late_windows (shop, size, zone, start)
SELECT shop, size, zone, start FROM windows_to_rebuild WHERE shop = %s ORDER BY shop, size, zone, start
ON CONFLICT DO NOTHING
"""

# The sink's order, of tables and of keys: two who lock in one order never wait for each other crosswise.
_LATE: Final = """
SELECT size, zone, start, noted_at, (
    SELECT string_agg(w::text, ' ' ORDER BY partition) FROM points_windows w
    WHERE (w.shop, w.size, w.zone, w.start) = (l.shop, l.size, l.zone, l.start) AND partition >= 0
)
FROM late_windows l WHERE shop = %s ORDER BY size, zone, start
"""

_REMOVE: Final = """
WITH gone AS (DELETE FROM points_windows WHERE (shop, size, zone, start) = (%s, %s, %s, %s) RETURNING *)
SELECT string_agg(gone::text, ' ' ORDER BY partition) FROM gone WHERE partition >= 0
"""

_CLOSE: Final = (
    f"INSERT INTO points_windows (shop, size, zone, start, partition, currency, {', '.join(MEASURES)})"  # noqa: S608
    f" VALUES ({', '.join(['%s'] * (6 + len(MEASURES)))})"
)


def late(connection: Connection[Any], shop: str) -> list[Late]:
    """The windows of a shop that wait to be rebuilt, under whatever zone; in the sink's order of keys."""
    connection.execute(_NOTE, (shop,))
    rows = connection.execute(_LATE, (shop,)).fetchall()
    return [Late(size, zone, instants.from_datetime(start), *rest) for size, zone, start, *rest in rows]


def rebuild_late(
    connection: Connection[Any],
    told: Callable[[Sequence[Late]], tuple[pl.DataFrame, pl.DataFrame]],
    program: Program,
    settled: timedelta = timedelta(0),
) -> int:
    """Rebuilds every late window of a shop; how many. `told` gives the orders of such windows, as orders.worth does,
    and what was given and taken beside orders.

    The list is taken before the history is read on, so that whatever changed a window that we rebuild has been read.
    A note younger than `settled` stays on the list for the next batch: a sink that reads its topics at different
    speeds may store it before the webhook that caused it.
    """
    waiting = late(connection, program.shop)
    if not waiting:
        return 0
    worth, given = told(waiting)
    return rebuild(connection, worth, program, waiting, settled, given)


def rebuild(
    connection: Connection[Any],
    worth: pl.DataFrame,
    program: Program,
    windows: Sequence[Late],
    settled: timedelta = timedelta(0),
    given: pl.DataFrame = accounts.NONE,
) -> int:
    """Replaces the rows of the windows by one row each, in one transaction; how many.

    A window stays on the list when something newer than our reading may have changed it: when it was noted again since
    its `noted_at`, or when the stream's rows are no longer those that stood there then.
    """
    rows = _sums_of(worth, given, windows)
    nothing = (0,) * len(MEASURES)
    places = [(program.shop, each.size, each.zone, instants.to_datetime(each.start)) for each in windows]
    changed: set[Late] = set()
    with connection.transaction(), connection.cursor() as cursor:
        for place, each in zip(places, windows, strict=True):
            if cursor.execute(_REMOVE, place).fetchone() != (each.rows,):
                changed.add(each)
            cursor.execute(_CLOSE, (*place, CLOSED, program.currency, *rows.get(each[:3], nothing)))
        cursor.executemany(
            "DELETE FROM late_windows WHERE (shop, size, zone, start, noted_at) = (%s, %s, %s, %s, %s)"
            " AND noted_at <= clock_timestamp() - %s::interval",
            [
                (*place, each.noted_at, settled)
                for place, each in zip(places, windows, strict=True)
                if each not in changed
            ],
        )
    return len(windows)


def _sums_of(
    worth: pl.DataFrame, given: pl.DataFrame, windows: Sequence[Late]
) -> dict[tuple[str, str, int], tuple[int, ...]]:
    """What each of the windows that holds anything sums to, by size, zone and start."""
    found = {}
    for size, zone in {(window.size, window.zone) for window in windows}:
        for row in sums(worth, zone, [size], given).iter_rows():
            found[size, zone, row[1]] = row[2:]
    return found
