"""Server-sent events: a snapshot at once, another on a change, one reading for all, and a clean end."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from api.live.hub import DEBOUNCE
from books import api_keys
from tests.integration.api_world import NOW, OTHER, SHOP, World, opened


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        counts(running, "Champions", 2)
        yield running


def counts(world: World, segment: str, customers: int) -> None:
    """As the sink does: rows and notification in one transaction."""
    world.sql(
        "WITH stored AS (INSERT INTO rfm_segment_counts VALUES (%s, %s, %s, 12990)"
        " ON CONFLICT (shop, segment) DO UPDATE SET customers = excluded.customers RETURNING shop)"
        " SELECT pg_notify('loyalnest_live', json_build_object('shop', shop, 'at', now())::text) FROM stored",
        *(SHOP, segment, customers),
    )


class Stream:
    """A client's events, gathered in a thread."""

    def __init__(self, world: World, headers: dict[str, str]) -> None:
        self.lines: list[str] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(world, headers), daemon=True)
        self._thread.start()

    def _read(self, world: World, headers: dict[str, str]) -> None:
        with world.client.stream("GET", f"/v1/shops/{SHOP}/live", headers=headers, timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                self.lines.append(line)
        self.ended.set()

    def snapshots(self) -> list[dict[str, Any]]:
        return [json.loads(line.removeprefix("data: ")) for line in self.lines if line.startswith("data: ")]

    def wait(self, number: int) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while len(self.snapshots()) < number:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)
        return self.snapshots()[number - 1]


def listening(world: World) -> None:
    deadline = time.monotonic() + 10
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'loyalnest-live' AND query LIKE 'LISTEN%%'"
    while not world.sql(query):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_snapshot_at_once_and_after_a_change(world: World) -> None:
    listening(world)
    this = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    row = dict.fromkeys(("points_reversed", "guest_orders", "guest_net"), 0)
    numbers = {"orders": 4, "net": 1000, "points_earned": 10, "customers": 3, **row}
    for hour in (this, this + timedelta(hours=1)):  # it may turn before the snapshot is read
        place = {"start": hour, "shop": SHOP, "size": "hour", "zone": "UTC", "partition": 0}
        world.insert("points_windows", **place, currency="USD", **numbers)
    stream = Stream(world, world.key("read"))
    first = stream.wait(1)
    (champions,) = first["segments"]
    told = {name: champions[name] for name in ("segment", "customers", "share", "revenue", "points_balance")}
    assert told == {
        "segment": "Champions",
        "customers": 2,
        "share": 1.0,
        "revenue": {"amount": "129.90", "currency": "USD"},
        "points_balance": 0,
    }
    assert first["segments"] == world.get("/segments", world.key("read")).json()["segments"]
    assert (first["customers"], first["hour"]["orders"]) == (2, 4)
    counts(world, "Loyal", 5)
    assert stream.wait(2)["customers"] == 7


def test_a_burst_is_told_as_one_change_and_other_shops_not_at_all(world: World) -> None:
    listening(world)
    stream = Stream(world, world.key("read"))
    stream.wait(1)
    watched = world.services.live._shops[SHOP]
    before, began = watched.changes, time.monotonic()
    with psycopg.connect(world.url, autocommit=True) as connection:
        for _ in range(200):
            connection.execute("SELECT pg_notify('loyalnest_live', json_build_object('shop', %s::text)::text)", [SHOP])
    counts(world, "Loyal", 99)
    until(lambda: stream.snapshots()[-1]["customers"] == 101)
    assert watched.changes == before + 201
    # One at once, then one each time that changes were gathered.
    assert len(stream.snapshots()) <= 2 + (time.monotonic() - began) / DEBOUNCE
    world.sql("SELECT pg_notify('loyalnest_live', 'not ours'), pg_notify('loyalnest_live', '[]')")
    world.sql("SELECT pg_notify('loyalnest_live', json_build_object('shop', %s::text)::text)", OTHER)
    counts(world, "Loyal", 100)  # heard after those
    until(lambda: stream.snapshots()[-1]["customers"] == 102)
    assert watched.changes == before + 202


def test_a_quiet_shop_hears_heartbeats(world: World) -> None:
    listening(world)
    world.services.live._heartbeat = 0.1
    stream = Stream(world, world.key("read"))
    stream.wait(1)
    until(lambda: stream.lines.count(": heartbeat") >= 2)
    assert len(stream.snapshots()) == 1


def test_a_revoked_key_ends_its_stream(world: World) -> None:
    listening(world)
    headers = world.key("read")
    stream = Stream(world, headers)
    stream.wait(1)

    async def revoked() -> None:
        async with world.services.pool.connection() as connection:
            await api_keys.revoke(connection, headers["Authorization"].removeprefix("Bearer "), NOW)

    world.run(revoked())
    counts(world, "Loyal", 9)
    assert stream.ended.wait(10)
    assert len(stream.snapshots()) == 1


def test_a_lost_database_connection_is_made_anew(world: World) -> None:
    listening(world)
    world.services.live._retry = 0.1
    stream = Stream(world, world.key("read"))
    stream.wait(1)
    world.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loyalnest-live'")
    time.sleep(0.5)
    listening(world)
    before = len(stream.snapshots())
    counts(world, "Loyal", 40)
    assert stream.wait(before + 1)["customers"] == 42


def test_shutting_down_ends_every_stream_and_forgets_the_shop(world: World) -> None:
    listening(world)
    streams = [Stream(world, world.key("read")) for _ in range(3)]
    for each in streams:
        each.wait(1)
    began = time.monotonic()
    world.server.should_exit = True
    assert all(each.ended.wait(5) for each in streams)
    assert time.monotonic() - began < 3
    assert world.services.live._shops == {}
