"""What the tests stand on: a database that one of them gives back is to the next as if it were new."""

import psycopg
import pytest

from tests.conftest import _Databases

EVENT = """
INSERT INTO raw_events (received_at, stream, key, shop, triggered_at, value)
VALUES (%s, 's', 'k', 'nest', '2026-03-01Z', '{}') RETURNING id
"""


@pytest.fixture(
    params=[
        "_databases",
        pytest.param("_real_databases", marks=pytest.mark.server),
        pytest.param("_real_plain_databases", marks=pytest.mark.server),
    ]
)
def databases(request: pytest.FixtureRequest) -> _Databases:
    found: _Databases = request.getfixturevalue(request.param)
    return found


def test_what_is_given_back_has_no_row_no_chunk_and_counts_from_one(databases: _Databases) -> None:
    with databases.one() as first, psycopg.connect(first, autocommit=True) as left_open:
        left_open.execute(EVENT, ["2026-03-01Z"])
        left_open.execute(EVENT, ["2026-06-01Z"])
        left_open.execute("DELETE FROM raw_events")  # a hypertable's chunks outlive their rows
        left_open.execute(EVENT, ["2026-06-01Z"])
        left_open.execute("INSERT INTO programs (shop, program, updated_at) VALUES ('nest', '{}', now())")
    with databases.one() as second, psycopg.connect(second) as connection:
        assert second == first
        for table in ("raw_events", "programs"):
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_inherits").fetchone() == (0,)
        assert connection.execute(EVENT, ["2026-03-01Z"]).fetchone() == (1,)


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE programs ADD COLUMN more text", "ANALYZE programs", "DELETE FROM schema_migrations"],
)
def test_what_differs_in_more_than_rows_is_nobody_elses(databases: _Databases, change: str) -> None:
    with databases.one() as first, psycopg.connect(first) as connection:
        connection.execute("INSERT INTO programs (shop, program, updated_at) VALUES ('nest', '{}', now())")
        connection.execute(change.encode())
    with databases.one() as second:
        assert second != first
