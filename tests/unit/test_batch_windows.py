"""The batch's windows: half-open, and days as long as the shop's zone makes them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from batch import windows
from events import instants
from lake import accounts

HOURS = 3600 * instants.SECOND


def us(text: str) -> int:
    return instants.parse(text)


def worth(*rows: dict[str, Any]) -> pl.DataFrame:
    base = {"customer_id": "1", "net": 100, "counted": True, "guest": False, "earned": 1, "reversed": 0}
    return pl.DataFrame([base | row | {"processed_at": us(row["processed_at"])} for row in rows])


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", "2026-03-29", 24),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Africa/Cairo", "2026-04-24", 23),  # its midnight does not exist: the day begins at 01:00
        ("America/Havana", "2024-11-03", 25),  # its midnight comes twice: the day begins with the first
    ],
)
def test_a_days_length(zone: str, day: str, hours: float) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    at = instants.from_datetime(noon)
    starts = windows.day_starts(at, at + 36 * HOURS, ZoneInfo(zone))
    begin = max(start for start in starts if start <= at)
    end = min(start for start in starts if start > at)
    assert end - begin == hours * HOURS


def test_a_day_that_a_zone_left_out_is_none() -> None:
    zone = ZoneInfo("Pacific/Apia")  # went from 29 to 31 December 2011
    starts = windows.day_starts(us("2011-12-29T20:00:00Z"), us("2012-01-01T20:00:00Z"), zone)
    assert len(starts) == len(set(starts))
    dates = [instants.to_datetime(start).astimezone(zone).date().isoformat() for start in starts]
    assert "2011-12-30" not in dates


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-11-01T03:59:59.999999Z", "2026-10-31T04:00:00Z"),
        ("2026-11-01T04:00:00Z", "2026-11-01T04:00:00Z"),
        ("2026-11-02T04:59:59.999999Z", "2026-11-01T04:00:00Z"),  # 25 hours
        ("2026-11-02T05:00:00Z", "2026-11-02T05:00:00Z"),
    ],
)
def test_a_local_day_is_half_open(at: str, day: str) -> None:
    found = windows.sums(worth({"processed_at": at}), "America/New_York", ["day"])
    assert found["start"].to_list() == [us(day)]


@pytest.mark.parametrize(("size", "start"), [("minute", "2026-03-01T12:34:00Z"), ("hour", "2026-03-01T12:00:00Z")])
def test_minutes_and_hours_are_utc(size: str, start: str) -> None:
    found = windows.sums(
        worth({"processed_at": "2026-03-01T12:34:00Z"}, {"processed_at": "2026-03-01T12:34:59.999999Z"}),
        "Asia/Kolkata",
        [size],
    )
    assert found.select("start", "orders").rows() == [(us(start), 2)]


def test_what_a_window_sums() -> None:
    at = {"processed_at": "2026-03-01T12:34:56Z"}
    (row,) = windows.sums(
        worth(
            at | {"earned": 3, "reversed": 1},
            at | {"net": 50},
            at | {"customer_id": "2", "counted": False, "earned": 5, "reversed": 5},
            at | {"customer_id": "3"},
            at | {"customer_id": None, "counted": False, "guest": True, "net": 7, "earned": 0},
            at | {"customer_id": None, "counted": False, "net": 9, "earned": 0},
        ),
        "UTC",
        ["day"],
    ).to_dicts()
    assert {name: row[name] for name in windows.MEASURES} == {
        "orders": 3,
        "net": 250,
        "points_earned": 10,
        "points_reversed": 6,
        "customers": 2,
        "guest_orders": 1,
        "guest_net": 7,
        "points_awarded": 0,
        "points_redeemed": 0,
    }


def test_what_was_given_and_taken_beside_orders_is_in_the_window_of_its_time() -> None:
    """With orders or without; what was deducted by hand below 0."""
    at = {"customer_id": "1", "award_id": "a", "counts_as_earned": False}
    told = [
        ("2026-03-01T12:34:56Z", 50, "award"),
        ("2026-03-01T12:59:00Z", -20, "deduction"),
        ("2026-03-01T12:00:00Z", -500, "redeem"),
        ("2026-03-01T13:00:00Z", -7, "redeem"),
    ]
    given = pl.DataFrame(
        [{**at, "at": instants.parse(when), "points": points, "kind": kind} for when, points, kind in told],
        schema=accounts.NONE.schema,
    )
    orders = worth({"processed_at": "2026-03-01T13:30:00Z"}, {"processed_at": "2026-03-01T15:00:00Z"})
    found = windows.sums(orders, "UTC", ["hour"], given).sort("start")
    rows = found.select("orders", "points_awarded", "points_redeemed").rows()
    assert rows == [(0, 30, 500), (1, 0, 7), (1, 0, 0)]
    assert windows.sums(orders, "UTC", ["day"], given).select("points_awarded", "points_redeemed").rows() == [(30, 507)]


def test_no_orders_have_no_windows() -> None:
    assert windows.sums(worth({"processed_at": "2026-03-01T12:34:56Z"}).clear(), "UTC").is_empty()


def test_every_instant_falls_into_its_local_date() -> None:
    zone = ZoneInfo("America/Sao_Paulo")  # had its clock changes at midnight
    first = datetime(2017, 10, 1, tzinfo=UTC)
    at = [first + timedelta(hours=hour, minutes=30) for hour in range(24 * 150)]
    rows = worth(*({"processed_at": instants.text(instants.from_datetime(each))} for each in at))
    starts = windows._starts(rows["processed_at"], "day", zone)
    for each, start in zip(at, starts, strict=True):
        assert instants.to_datetime(start).astimezone(zone).date() == each.astimezone(zone).date()
