"""Dead letters end after their time: sealed bodies first, letters later, and those by which something counts never."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from batch import schedule
from books import dead_letters
from runtime.settings import Settings

SHOP = "nest.myshopify.com"


def add(url: str, days: int, error: str = "wrong_shape", source: str = "webhook", *, replayed: bool = False) -> None:
    at = datetime.now(UTC) - timedelta(days=days)
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO dead_letters (at, id, shop, source, error, detail, value, sealed, replayed_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, '{}', %s, %s)",
            (
                at,
                uuid4(),
                SHOP,
                source,
                error,
                str(days),
                "v1.body" if source == "webhook" else None,
                at if replayed else None,
            ),
        )


def left(url: str) -> list[tuple[str, str, bool]]:
    """(error, age in days, whether the sealed body is there) of each, the newest first."""
    with psycopg.connect(url) as connection:
        query = "SELECT error, detail, sealed IS NOT NULL FROM dead_letters ORDER BY at DESC, error"
        return [(error, detail, sealed) for error, detail, sealed in connection.execute(query)]


def test_bodies_go_first_and_letters_later(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "SLICE", 2)
    for days in (0, 29, 31, 32, 33, 99, 101, 102, 103, 104, 105):
        add(database, days)
    settings = Settings(database=SecretStr(database), dead_body_days=30, dead_letter_days=100)
    schedule.forget(settings)
    expected = [(0, True), (29, True), (31, False), (32, False), (33, False), (99, False)]
    assert left(database) == [("wrong_shape", str(days), body) for days, body in expected]
    schedule.forget(settings)
    assert len(left(database)) == len(expected)


def test_what_counts_nowhere_because_of_a_letter_never_comes_to_count(database: str) -> None:
    for error in ("unexpected", "too_large", "unknown_shop"):
        add(database, 1000, error, "shopify.orders")
        add(database, 1001, error, "shopify.orders", replayed=True)
        add(database, 1002, error, "loyalnest.points")
    add(database, 1000, "other_currency", "shopify.orders")  # its own words say so, whenever it is read
    schedule.forget(Settings(database=SecretStr(database)))
    assert sorted(left(database)) == [(error, "1000", False) for error in ("too_large", "unexpected", "unknown_shop")]


def test_a_database_that_is_away_is_left_to_the_next_look(caplog: pytest.LogCaptureFixture) -> None:
    schedule.forget(Settings(database=SecretStr("postgresql://127.0.0.1:9/none")))
    assert "old dead letters could not be removed" in caplog.text
