"""Migrations, run for real: once, in order, checked, and with TimescaleDB in whichever form there is."""

import shutil
import threading
from pathlib import Path

import psycopg
import pytest

from books import migrate as module
from books import schema
from books.migrate import MigrationError, migrate

TABLES = {table.name for table in schema.TABLES if table.hypertable}

#: What nothing brings back: a rebuild must leave it alone.
KEPT = {
    *("raw_events", "programs", "program_versions", "announcements", "cut_points", "dead_letters"),
    *("batch_runs", "batch_segments", "segment_sizes", "product_rfm"),
    *(
        "api_keys",
        "customer_keys",
        "sink_positions",
        "stream_lag",
        "imports",
        "exports",
        "dashboard_sessions",
        "sign_in_links",
        "award_claims",
        "redemption_claims",
    ),
    *("notice_endpoints", "notices", "notice_marks"),
    *("fulfilment_shops", "fulfilment_work"),
}


def _tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {name for (name,) in rows}


def _copy(folder: Path) -> Path:
    shutil.copytree(module.FOLDER, folder / "sql")
    return folder / "sql"


def test_a_fresh_database_gets_everything_once(empty_database: str) -> None:
    first = migrate(empty_database)
    assert first.form == "absent"
    assert first.hypertables == ()
    assert list(first.applied) == [each.version for each in module.read()]
    assert _tables(empty_database) >= TABLES | {"customers", "sink_positions", "schema_migrations"}
    assert migrate(empty_database).applied == ()


def test_every_table_is_in_the_one_list_of_them(database: str) -> None:
    """One that is forgotten there would be doubled by a rebuild, or be missing from what a customer is told of them."""
    tables = _tables(database)
    with psycopg.connect(database) as connection:
        found: dict[str, set[str]] = {}
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        for table, column in connection.execute(query):
            if table in tables:  # views keep nothing
                found.setdefault(table, set()).add(column)
        defaults = (
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            " AND (column_default IS NOT NULL OR is_identity = 'YES')"
        )
        # These are the sink's to give; rows from before have none.
        later = {"fence", "via", "pending", "earned", "spent", "expired", "expiring"}
        later |= {"points_awarded", "points_redeemed"}
        given = {(table, column) for table, column in connection.execute(defaults) if column not in later}
    found.pop("schema_migrations")
    assert {table.name: {*table.columns, *table.defaults} for table in schema.TABLES} == found
    for table in schema.TABLES:
        assert all((table.name, column) not in given for column in table.columns if table.sink), table.name
        # What has a customer's id, or a message, is personal; what is the sink's and no input comes again.
        about = "customer" if "customer_id" in table.columns else "inside" if "value" in table.columns else None
        assert table.personal == about, table.name
        assert table.derived == (table.name not in KEPT), table.name


def test_an_edited_file_that_was_applied_is_an_error(empty_database: str, tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    migrate(empty_database, folder)
    path = folder / "0001_history.sql"
    path.write_text(path.read_text(encoding="utf-8") + "-- an afterthought\n", encoding="utf-8")
    with pytest.raises(MigrationError, match="was edited after it was applied"):
        migrate(empty_database, folder)


def test_a_failing_file_leaves_nothing_behind(empty_database: str, tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    count = len(module.read(folder))
    bad = folder / f"{count + 1:04d}_bad.sql"
    bad.write_text("CREATE TABLE half (x int); SELECT 1 / 0;", encoding="utf-8")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(empty_database, folder)
    assert "half" not in _tables(empty_database)
    bad.write_text("CREATE TABLE half (x int);", encoding="utf-8")
    assert migrate(empty_database, folder).applied == (f"{count + 1:04d}",)


def test_a_database_newer_than_the_code_is_an_error(empty_database: str, tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    later = folder / f"{len(module.read(folder)) + 1:04d}_later.sql"
    later.write_text("SELECT 1;", encoding="utf-8")
    migrate(empty_database, folder)
    later.unlink()
    with pytest.raises(MigrationError, match="does not know"):
        migrate(empty_database, folder)


@pytest.mark.parametrize("name", ["2_short.sql", "0003_gap.sql", "0002_Upper.sql"])
def test_a_misnamed_file_is_an_error(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "sql"
    folder.mkdir()
    (folder / "0001_first.sql").write_text("SELECT 1;", encoding="utf-8")
    (folder / name).write_text("SELECT 1;", encoding="utf-8")
    with pytest.raises(MigrationError):
        module.read(folder)


def test_two_at_once_do_not_collide(empty_database: str) -> None:
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(migrate(empty_database))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(bool(report.applied) for report in reports) == [False, False, True]


@pytest.mark.server
def test_timescaledb_makes_hypertables(real_empty_database: str) -> None:
    report = migrate(real_empty_database)
    assert report.form in ("apache", "community")
    assert set(report.hypertables) == TABLES
    again = migrate(real_empty_database)
    assert again.applied == ()
    assert set(again.hypertables) == TABLES
    with psycopg.connect(real_empty_database) as connection:
        names = connection.execute("SELECT hypertable_name FROM timescaledb_information.hypertables")
        assert {name for (name,) in names} == TABLES


@pytest.mark.server
def test_timescaledb_takes_over_plain_tables_with_their_rows(
    real_empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_timescale", lambda url, connection: "absent")
        assert migrate(real_empty_database).hypertables == ()
    with psycopg.connect(real_empty_database) as connection:
        connection.execute(
            "INSERT INTO rfm_segment_deltas (at, id, shop, customer_id, segment, cause)"
            " SELECT '1997-01-01Z'::timestamptz + g * interval '1 day', gen_random_uuid(), 's', g::text, 'Active', 'x'"
            " FROM generate_series(1, 500) g"
        )
    assert set(migrate(real_empty_database).hypertables) == TABLES
    with psycopg.connect(real_empty_database) as connection:
        row = connection.execute("SELECT count(*) FROM rfm_segment_deltas").fetchone()
        assert row == (500,)
        chunks = connection.execute("SELECT count(*) FROM show_chunks('rfm_segment_deltas')").fetchone()
        assert chunks is not None
        assert chunks[0] <= 7  # years of history must not become hundreds of chunks


@pytest.mark.server
def test_a_server_that_refuses_timescaledb_gets_plain_tables(real_plain_empty_database: str) -> None:
    report = migrate(real_plain_empty_database)
    assert (report.form, report.hypertables) == ("absent", ())
    assert _tables(real_plain_empty_database) >= TABLES
