"""The analysts' file of a large shop: what making it costs, in a process of its own.

`python -m scripts.bench.analytics FOLDER` makes it of the lake in the folder and the database whose URL comes on stdin,
and prints the cost as JSON.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg

from batch.analytics import making
from events import instants
from lake import filling
from lake.manifest import Cursor, Lake
from scripts.bench import data
from scripts.bench.lake import BEGIN, END, Cost, most_memory

#: Columns of the sink's rows of `number` orders and a tenth as many customers, as SQL makes them: the bench's lake has
#: their orders.
_ROWS: Final = (
    """
    INSERT INTO customers (shop, customer_id, now, currency, balance, recency_days, frequency, monetary, r, f, m, score,
                           segment_id, segment, cut_points_version, deleted, redacted)
    SELECT %(shop)s, (7100000000000 + n)::text, %(end)s, 'USD', n %% 5000, n %% 365, 1 + n %% 9, n %% 90000, 1 + n %% 5,
           1 + n %% 4, 1 + n %% 3, 2.5, 'seg_333', 'Loyal', 'default', false, false
    FROM generate_series(0, %(customers)s - 1) AS n
    """,
    """
    INSERT INTO rfm_score_history (at, id, shop, customer_id, recency_days, frequency, monetary, r, f, m, score,
                                   segment_id, segment, cut_points_version, cause)
    SELECT %(begin)s + (n %% 2000) * interval '1 day', gen_random_uuid(), %(shop)s,
           (7100000000000 + n %% %(customers)s)::text, n %% 365, 1 + n %% 9, n %% 90000, 1 + n %% 5, 1 + n %% 4,
           1 + n %% 3, 2.5, 'seg_333', CASE n %% 3 WHEN 0 THEN 'Loyal' WHEN 1 THEN 'Active' ELSE 'Dormant' END,
           'default', 'rescore'
    FROM generate_series(1, 3 * %(customers)s) AS n
    """,
    """
    INSERT INTO points_transactions (posted_at, id, shop, customer_id, source, source_id, kind, points, revision,
                                     processed_at)
    SELECT %(begin)s + n * interval '10 s', gen_random_uuid(), %(shop)s,
           (7100000000000 + n %% %(customers)s)::text, 'order', (5600000000000 + 7 * n)::text, 'earned', n %% 200, 'a',
           %(begin)s + n * interval '10 s'
    FROM generate_series(1, %(orders)s) AS n
    """,
)


class Made(NamedTuple):
    """What the file cost, its bytes, and its rows in all."""

    cost: Cost
    size: int
    rows: int


def measure(url: str, lake: Lake, number: int) -> Made:
    """The file of the shop that lake.make has made, beside rows in the (migrated, empty) database."""
    begin, end = map(instants.to_datetime, (BEGIN, END))
    words = {"shop": data.SHOP, "customers": number // 10, "orders": number, "begin": begin, "end": end}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO programs (shop, program, updated_at) VALUES (%s, %s, now())",
            (data.SHOP, data.program().model_dump_json()),
        )
        cursor = psycopg.ClientCursor(connection)
        for statement in _ROWS:
            cursor.execute(statement.encode(), words)
        root = lake.root()
        root.database, root.cursor = filling.database_of(connection), Cursor(1, 0)
        lake.swap(root)
    command = [sys.executable, "-m", "scripts.bench.analytics", str(lake.folder)]
    told: dict[str, Any] = json.loads(subprocess.check_output(command, input=url, text=True))
    return Made(Cost(*told["cost"]), told["size"], told["rows"])


def _make(url: str, folder: Path) -> making.Made:
    with psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
        return making.make(connection, Lake(folder), data.SHOP, folder.parent / "analytics.duckdb", END)


if __name__ == "__main__":
    began, before = time.monotonic(), time.process_time()
    made = _make(sys.stdin.read(), Path(sys.argv[1]))
    cost = Cost(time.monotonic() - began, time.process_time() - before, most_memory())
    print(json.dumps({"cost": cost, "size": made.size, "rows": sum(made.rows.values())}))
