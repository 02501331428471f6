"""One set of rules of time zones: Python's. DuckDB's, Polars' and PostgreSQL's are of other years."""

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import pytest

from api import csv_cells
from batch.analytics import clocks
from events import instants
from events.programs import local_midnight
from lake import cohorts
from runtime import duck

ROOT = Path(__file__).parents[2]
NOW = instants.parse("2026-12-01T12:00:00Z")

#: Whose rules were changed late, or are odd: a zone that lost a day, clocks put at midnight, half an hour, Ramadan.
ZONES = (
    *("America/Vancouver", "America/Edmonton", "America/Havana", "Africa/Casablanca", "Africa/Cairo"),
    *("America/New_York", "Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe", "Pacific/Apia", "America/Asuncion"),
    *("America/Sao_Paulo", "Asia/Kolkata", "Asia/Gaza", "WET", "UTC"),
)


def times(zone: str) -> list[int]:
    """Around each change of its clocks, and every fifth day in between."""
    around = [
        at + step
        for at, _ in clocks.changes(zone, 2026)
        for step in (-instants.HOUR, -1, 0, 1, instants.HOUR)
        if at + step >= 0
    ]
    days = range(0, instants.parse("2075-12-31T00:00:00Z"), 5 * instants.DAY + 7 * instants.HOUR)
    return [*around, *days]


def by_python(zone: str, at: int) -> datetime:
    return instants.to_datetime(at).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@pytest.mark.parametrize("zone", ZONES)
def test_sql_has_the_rules_in_it(zone: str) -> None:
    at = times(zone)
    with duck.connected() as connection:
        connection.execute("CREATE TABLE t AS SELECT make_timestamptz(unnest($1::BIGINT[])) AS instant", [at])
        connection.execute("SET TimeZone = 'Asia/Tokyo'")  # whoever reads has a zone of their own
        found = connection.execute(f"SELECT {clocks.local('instant', zone, NOW)} FROM t").fetchall()
    assert [each for (each,) in found] == [by_python(zone, each) for each in at]


def test_the_clocks_of_nothing_are_nothing() -> None:
    with duck.connected() as connection:
        asked = f"SELECT {clocks.local('instant', 'Europe/Berlin', NOW)} FROM (SELECT NULL::TIMESTAMPTZ AS instant)"
        assert connection.execute(asked).fetchall() == [(None,)]


def test_no_zone_puts_its_clocks_twice_a_day() -> None:
    """What `changes` counts on, of each day's hours."""
    for zone in sorted(available_timezones())[::60]:
        clock = ZoneInfo(zone)
        for at, ahead in clocks.changes(zone, 2026):
            day = [instants.to_datetime(at) + timedelta(hours=hour) for hour in range(25)]
            offsets = {each.astimezone(clock).utcoffset() for each in day}
            assert offsets == {timedelta(microseconds=ahead)}, (zone, instants.text(at))


@pytest.mark.parametrize("zone", ZONES)
def test_a_cohorts_month_is_the_shops(zone: str) -> None:
    at = sorted(times(zone))
    found = cohorts.months(pl.Series(at, dtype=pl.Int64), zone).to_list()
    assert found == [12 * each.year + each.month - 1 for each in (by_python(zone, one) for one in at)]


@pytest.mark.parametrize("zone", ZONES)
def test_the_last_day_of_points_is_the_shops(zone: str) -> None:
    at = [local_midnight(date(2026, 1, 1) + timedelta(days=day), ZoneInfo(zone)) for day in range(0, 800, 3)]
    cells = pl.DataFrame({"at": [*at, None]}).select(csv_cells.day_before("at", zone))["at"].to_list()
    assert cells == [*(f"{by_python(zone, each - 1):%Y-%m-%d}" for each in at), None]


@pytest.mark.parametrize("zone", ZONES)
def test_the_day_of_the_last_order_is_the_shops(zone: str) -> None:
    at = sorted(times(zone))
    cells = pl.DataFrame({"at": [*at, None]}).select(csv_cells.day("at", zone))["at"].to_list()
    assert cells == [*(f"{by_python(zone, each):%Y-%m-%d}" for each in at), None]


def test_nobody_asks_another_database_of_time_zones() -> None:
    """In UTC each is right; `INTERVAL '0'` is UTC too."""
    others = re.compile(
        r"convert_time_zone\((?!\"UTC\")|\btimezone\((?!timedelta|kw)|AT TIME ZONE (?!'UTC'|INTERVAL '0')"
    )
    rooms = (
        "events",
        "tables",
        "runtime",
        "books",
        "imports",
        "lake",
        "streams",
        "batch",
        "api",
        "cli",
        "notices",
        "sql",
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for room in rooms
        for path in sorted((ROOT / room).rglob("*"))
        if path.suffix in (".py", ".sql")
        for line in path.read_text(encoding="utf-8").splitlines()
        if others.search(line) and not line.lstrip().startswith("#")
    ]
    assert found == []


def test_beyond_the_years_written_down_the_last_rule_holds() -> None:
    assert clocks.changes("Europe/Berlin", 2026)[-1][0] < instants.from_datetime(datetime(2076, 1, 1, tzinfo=UTC))
