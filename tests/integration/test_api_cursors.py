"""Each page of each list reads its own rows and no others, however far down it is: PostgreSQL is asked what it did."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from api import cursors
from api.context import Row, Statement
from tests.integration.api_world import SHOP, World, opened

ROWS = 20_000
LIMIT = 100

# Two stretches of 5,000 entries share one time each: ties must not be read again either.
_TIMES = """
SELECT n, '2024-01-01'::timestamptz
    + (CASE WHEN n BETWEEN 5000 AND 14999 THEN n / 5000 * 5000 ELSE n END) * '1h'::interval
FROM generate_series(1, %(rows)s) AS n
"""

_FILL = f"""
CREATE TEMPORARY TABLE entries (n, at) AS {_TIMES};
INSERT INTO points_transactions
    (posted_at, id, shop, customer_id, source, source_id, kind, points, revision, processed_at)
SELECT at, gen_random_uuid(), %(shop)s, '1', 'order', n::text, 'earned', 1, 'r', at FROM entries;
INSERT INTO rfm_score_history
    (at, id, shop, customer_id, frequency, monetary, segment_id, segment, cut_points_version, cause)
SELECT at, gen_random_uuid(), %(shop)s, '1', 0, 0, 'seg_000', 'Prospects', 'default', 'rescore' FROM entries;
INSERT INTO customers
    (shop, customer_id, now, currency, balance, recency_days, frequency, monetary, score,
     segment_id, segment, cut_points_version, deleted, redacted)
SELECT %(shop)s, n::text, now(), 'USD', n %% 7919, nullif(n %% 400, 0), n %% 30, n %% 9973,
       nullif(round((n %% 50) / 10.0, 1), 0), 'seg_333', 'Active', 'default', false, false FROM entries;
ANALYZE points_transactions, rfm_score_history, customers
"""


@pytest.fixture(
    scope="module", params=["module_database", pytest.param("real_module_database", marks=pytest.mark.server)]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Filled once: to fill it takes longer than all that is asked of it."""
    with opened(request.getfixturevalue(request.param)) as running:
        running.program()
        with psycopg.connect(running.url, cursor_factory=psycopg.ClientCursor) as connection:
            connection.execute(_FILL.encode(), {"shop": SHOP, "rows": ROWS})
        yield running


class Asked:
    """The queries that the API sends to the database, and what PostgreSQL reads to answer one."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self._world = world
        self.last: tuple[Statement, Row]
        rows = world.services.rows

        async def remembering(query: Statement, parameters: Row) -> list[Row]:
            self.last = query, parameters
            return await rows(query, parameters)

        monkeypatch.setattr(world.services, "rows", remembering)

    def rows_read(self) -> int:
        """Rows that the last query's scans touched, those they threw away included."""
        query, parameters = self.last
        with psycopg.connect(self._world.url) as connection:
            text = "EXPLAIN (ANALYZE, FORMAT JSON) " + query.as_string(connection)
            ((found,),) = connection.execute(text.encode(), parameters).fetchall()
        return _read(found[0]["Plan"])


def _read(plan: dict[str, Any]) -> int:
    if "Plans" in plan:  # the scans are the leaves; TimescaleDB's append is a scan by name only
        return sum(map(_read, plan["Plans"]))
    thrown = sum(plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
    return int((plan["Actual Rows"] + thrown) * plan["Actual Loops"])


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(world, monkeypatch)


def page(world: World, path: str, headers: dict[str, str], cursor: str | None, **asked: object) -> dict[str, Any]:
    following = {} if cursor is None else {"cursor": cursor}
    found: dict[str, Any] = world.get(path, headers, **asked, **following).json()
    return found


@pytest.mark.parametrize(
    ("path", "table", "at"), [("points", "points_transactions", "posted_at"), ("rfm", "rfm_score_history", "at")]
)
def test_a_page_of_a_customers_list_reads_no_other_rows(
    world: World, asked: Asked, path: str, table: str, at: str
) -> None:
    headers = world.key("read")
    order = f"SELECT {at} AS at, id FROM {table} ORDER BY {at} DESC, id DESC"
    everything = world.sql(order)
    for before in (None, 4_000, 9_999, 19_000):
        cursor = None if before is None else cursors.write(everything[before]["at"], str(everything[before]["id"]))
        answer = world.get(
            f"/customers/1/{path}", headers, limit=LIMIT, **({"cursor": cursor} if cursor else {})
        ).json()
        start = 0 if before is None else before + 1
        expected = [str(each["id"]) for each in everything[start : start + LIMIT]]
        assert [each["id"] for each in answer["items"]] == expected
        assert asked.rows_read() <= LIMIT + 1, before


def test_a_list_is_walked_from_end_to_end_without_gap_or_double(world: World) -> None:
    headers, cursor, seen = world.key("read"), None, list[str]()
    while True:
        found = page(world, "/customers/1/points", headers, cursor, limit=1000)
        seen += [each["id"] for each in found["items"]]
        if (cursor := found["next"]) is None:
            break
    assert len(seen) == len(set(seen)) == ROWS


SORTS = {
    "customer_id": "0",
    "recency_days": "coalesce(recency_days, 2147483647)",
    "frequency": "frequency",
    "monetary": "monetary",
    "points_balance": "balance",
    "score": "(coalesce(score, 0) * 10)::int",
}


@pytest.mark.parametrize(
    "sort", [f"{sign}{name}" for name in SORTS for sign in ("", "-") if sign + name != "-customer_id"]
)
def test_a_page_of_customers_reads_no_other_rows(world: World, asked: Asked, sort: str) -> None:
    headers, way = world.key("read"), "DESC" if sort.startswith("-") else "ASC"
    column = SORTS[sort.lstrip("-")]
    everything = world.sql(f"SELECT {column} AS value, customer_id FROM customers ORDER BY 1 {way}, 2 {way}")
    for before in (None, 9_999, 19_000):
        last = None if before is None else everything[before]
        cursor = None if last is None else cursors.write(sort, last["value"], last["customer_id"])
        answer = world.get(
            "/customers", headers, limit=LIMIT, sort=sort, **({"cursor": cursor} if cursor else {})
        ).json()
        start = 0 if before is None else before + 1
        expected = [each["customer_id"] for each in everything[start : start + LIMIT]]
        assert [each["customer_id"] for each in answer["items"]] == expected
        assert asked.rows_read() <= LIMIT + 1, before


def test_the_segments_are_read_from_their_counts(world: World, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from 20,000 customers: the counts are kept by whoever stores them."""
    world.count()
    told, rows = list[tuple[Statement, Row]](), world.services.rows

    async def telling(query: Statement, parameters: Row) -> list[Row]:
        told.append((query, parameters))
        return await rows(query, parameters)

    monkeypatch.setattr(world.services, "rows", telling)
    answer = world.get("/segments", world.key("read")).json()
    assert answer["customers"] == ROWS
    for asked.last in told:
        assert asked.rows_read() <= 10
