"""What the analysts' file is made of, as files aside: of the database by COPY, of the lake by Polars, never row by row.

Each becomes a relation of DuckDB's, `staged_...`, with amounts in minor units and instants as TIMESTAMPTZ; those of the
program, and the months' `as_of`, are in microseconds.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import duckdb
from psycopg import Connection

from batch import orders
from events import instants
from events.programs import PROSPECTS, Program, local_midnight
from lake import past
from lake.manifest import Lake, ShopFiles
from lake.rows import TABLES
from runtime import columns, duck


class _Source(NamedTuple):
    """A relation of the database's: its columns, each with DuckDB's type, and where they come from."""

    columns: str
    query: str

    @property
    def struct(self) -> str:
        """The columns as read_csv takes them."""
        named = (each.split(":") for each in self.columns.split())
        return "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in named) + "}"


_METRICS: Final = [(metric, k) for metric in ("recency", "frequency", "monetary") for k in (1, 2, 3, 4)]
_DIGITS: Final = "r:TINYINT f:TINYINT m:TINYINT segment:VARCHAR"

_SOURCES: Final = {
    "customers": _Source(
        "customer_id:VARCHAR now:TIMESTAMPTZ balance:BIGINT pending:BIGINT earned:BIGINT spent:BIGINT expired:BIGINT"
        " expiring:BIGINT expires_at:TIMESTAMPTZ recency_days:INTEGER frequency:INTEGER monetary:BIGINT"
        f" {_DIGITS} cut_points_version:VARCHAR merged_into:VARCHAR deleted:BOOLEAN redacted:BOOLEAN",
        "SELECT customer_id, now, balance, pending, earned, spent, expired, expiring, expires_at, recency_days,"
        " frequency, monetary, r, f, m, segment, cut_points_version, merged_into, deleted, redacted"
        " FROM customers WHERE shop = %s",
    ),
    "changes": _Source(
        "id:UUID changed:TIMESTAMPTZ customer_id:VARCHAR recency_days:INTEGER frequency:INTEGER monetary:BIGINT"
        f" {_DIGITS} cut_points_version:VARCHAR cause:VARCHAR",
        "SELECT id, at, customer_id, recency_days, frequency, monetary, r, f, m, segment, cut_points_version, cause"
        " FROM rfm_score_history WHERE shop = %s",
    ),
    "ledger": _Source(
        "id:UUID customer_id:VARCHAR posted_at:TIMESTAMPTZ kind:VARCHAR points:BIGINT source:VARCHAR"
        " source_id:VARCHAR processed_at:TIMESTAMPTZ via:VARCHAR",
        "SELECT id, customer_id, posted_at, kind, points, source, source_id, processed_at, via"
        " FROM points_transactions WHERE shop = %s",
    ),
    "expired": _Source(
        "customer_id:VARCHAR day:DATE ended:TIMESTAMPTZ points:BIGINT",
        "SELECT customer_id, day, at, points FROM points_expired WHERE shop = %s AND points > 0",
    ),
    "windows": _Source(
        "size:VARCHAR start:TIMESTAMPTZ closed:BOOLEAN orders:BIGINT net:BIGINT points_earned:BIGINT"
        " points_reversed:BIGINT customers:BIGINT guest_orders:BIGINT guest_net:BIGINT"
        " points_awarded:BIGINT points_redeemed:BIGINT",
        "SELECT size, start, closed_windows.shop IS NOT NULL, orders, net, points_earned, points_reversed,"
        " customers, guest_orders, guest_net, points_awarded, points_redeemed"
        " FROM shop_windows LEFT JOIN closed_windows USING (shop, size, zone, start)"
        " WHERE shop_windows.shop = %s",
    ),
    "cut_points": _Source(
        "version:VARCHAR as_of:TIMESTAMPTZ customers:INTEGER "
        + " ".join(f"{metric}_{k}:BIGINT" for metric, k in _METRICS),
        f"SELECT version, as_of, customers, {', '.join(f'{metric}[{k}]' for metric, k in _METRICS)}"
        " FROM cut_points WHERE shop = %s",
    ),
    "runs": _Source(
        "id:VARCHAR as_of:TIMESTAMPTZ version:VARCHAR published:BOOLEAN status:VARCHAR customers:INTEGER"
        " rescored:INTEGER started_at:TIMESTAMPTZ finished_at:TIMESTAMPTZ",
        "SELECT id, as_of, version, published, status, customers, rescored, started_at, finished_at"
        " FROM batch_runs WHERE shop = %s",
    ),
}


def copy_database(connection: Connection[Any], shop: str, folder: Path) -> None:
    """The shop's rows of the database, all of one instant, as files: over a connection that is in no transaction."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        connection.execute("SET LOCAL datestyle = 'ISO'")
        for name, source in _SOURCES.items():
            with (folder / f"{name}.csv").open("wb") as file:
                columns.copy(connection, source.query, (shop,), file)


def of_database(into: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """What `copy_database` has copied."""
    for name, source in _SOURCES.items():
        of_csv(name, folder / f"{name}.csv", source.struct, into)


def of_csv(name: str, path: Path, struct: str, into: duckdb.DuckDBPyConnection) -> None:
    """A file of comma-separated values, without a header, as a relation; `struct` names its columns and their types."""
    into.execute(
        f"CREATE TEMP VIEW staged_{name} AS SELECT * FROM read_csv('{duck.quoted(path)}', header = false,"
        f" auto_detect = false, delim = ',', quote = '\"', escape = '\"', nullstr = '',"
        f" allow_quoted_nulls = false, columns = {struct})"
    )


def of_program(program: Program, into: duckdb.DuckDBPyConnection) -> None:
    """The program's rules, policies and grid."""
    names = list(dict.fromkeys([*(name for row in program.grid for name in row), PROSPECTS]))
    grid = [
        (5 - row, 5 - column, name, names.index(name) + 1)
        for row, found in enumerate(program.grid)
        for column, name in enumerate(found)
    ]
    rules = [(_since(each.effective_from, each.since), str(each.points_per_unit)) for each in program.rules]
    policies = [(_since(each.effective_from, each.since), each.refunds, each.taxes) for each in program.policies]
    for name, kinds, rows in (
        ("grid", "r TINYINT, fm TINYINT, segment VARCHAR, rank INTEGER", [*grid, (None, None, PROSPECTS, len(names))]),
        ("rules", "effective_from BIGINT, points_per_unit VARCHAR", rules),
        ("policies", "effective_from BIGINT, refunds VARCHAR, taxes VARCHAR", policies),
    ):
        into.execute(f"CREATE TEMP TABLE staged_{name} ({kinds})")
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            into.executemany(f"INSERT INTO staged_{name} VALUES ({marks})", rows)


def _since(effective_from: Any, since: int) -> int | None:
    return None if effective_from is None else since


def of_lake(lake: Lake, files: ShopFiles, program: Program, into: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """The shop's orders as they are now, whose versions are whole, their refunds, and what was in them."""
    assert files.ties is not None
    ties, *layers = lake.paths([files.ties, *files.layers])
    for at, worth in enumerate(orders.all_of(layers, ties, program, ("status", "test", "cancelled", "deleted"))):
        worth.write_parquet(folder / f"orders-{at:06d}.parquet", compression="lz4")
    into.execute(
        "CREATE TEMP VIEW staged_orders AS SELECT * EXCLUDE (processed_at),"
        f" make_timestamptz(processed_at) AS processed FROM read_parquet('{duck.quoted(folder)}/orders-*.parquet')"
    )
    into.execute(
        # A lake's newest version of an order knows the refunds it knows; what is told of one twice counts once.
        "CREATE TEMP VIEW staged_refunds AS SELECT order_id, refund_id, make_timestamptz(max(created_at)) AS refunded,"
        f" max(goods) AS goods, max(beyond) AS beyond, max(paid) AS paid FROM ({_rows(lake, files, 'refunds')})"
        " SEMI JOIN staged_orders USING (order_id) GROUP BY order_id, refund_id"
    )
    into.execute(f"CREATE TEMP VIEW staged_snapshots AS {_rows(lake, files, 'lines')}")
    # Most orders are told of once: the others' rows alone, and a few of an equal hash, are put in order, and without
    # what is in them.
    into.execute(
        "CREATE TEMP TABLE staged_superseded AS SELECT file_index, file_row_number FROM staged_snapshots"
        " SEMI JOIN (SELECT hash(order_id) AS twice FROM staged_snapshots GROUP BY twice HAVING count(*) > 1)"
        " ON hash(order_id) = twice"
        " QUALIFY row_number() OVER (PARTITION BY order_id"
        " ORDER BY updated_at DESC, triggered_at DESC, webhook_id DESC, digest DESC) > 1"
    )
    into.execute(
        "CREATE TEMP VIEW staged_lines AS SELECT * FROM staged_snapshots"
        " ANTI JOIN staged_superseded USING (file_index, file_row_number)"
    )


def _rows(lake: Lake, files: ShopFiles, name: str) -> str:
    return duck.select(lake.paths(files.parts(name)), TABLES[name], placed=True)


#: Beginnings of months at which everybody is worked out: this month's, and those of the year before.
MONTHS: Final = 13


def month_starts(made_at: int, zone: ZoneInfo) -> list[int]:
    """The first instants of the last MONTHS months by a zone's clocks, ascending, that of `made_at` the last."""
    day = instants.to_datetime(made_at).astimezone(zone).date().replace(day=1)
    found: list[int] = []
    while len(found) < MONTHS:
        found.insert(0, local_midnight(day, zone))
        day = (day - timedelta(days=1)).replace(day=1)
    return found


def of_months(
    connection: Connection[Any],
    lake: Lake,
    program: Program,
    made_at: int,
    into: duckdb.DuckDBPyConnection,
    folder: Path,
) -> None:
    """Everybody's standing as of each of `month_starts`; the lake keeps those of months that have gone by."""
    for found in past.standings_of(connection, lake, program, month_starts(made_at, ZoneInfo(program.zone))):
        (folder / f"month-{found.at}.parquet").write_bytes(found.content)
    into.execute(
        "CREATE TEMP VIEW staged_months AS SELECT *, regexp_extract(filename, 'month-(-?[0-9]+)', 1)::BIGINT AS as_of"
        f" FROM read_parquet('{duck.quoted(folder)}/month-*.parquet', filename = true)"
    )
