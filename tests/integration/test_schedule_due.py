"""The batch that is due once a past has come in, over a real book of imports."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from batch.frames import BatchError
from batch.schedule import Schedule
from books import imports
from runtime import patience
from runtime.settings import Settings
from tests import stores

ENDED = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def ended(connection: psycopg.Connection[Any], at: datetime) -> None:
    connection.execute(
        "INSERT INTO imports (id, shop, file, sha256, bytes, status, first_at, started_at, updated_at, finished_at,"
        " batch_due) VALUES (gen_random_uuid(), %s, 'past.csv', 'x', 1, 'done', %s, %s, %s, %s, true)",
        [stores.SHOP, *[at] * 4],
    )


class Process:
    """A schedule's, in which a run lasts until it is let go."""

    def __init__(self, url: str) -> None:
        self.runs = 0
        self.begun, self.over = threading.Semaphore(0), threading.Semaphore(0)
        self.error: Exception | None = None
        self.schedule = self._started(url)

    def _started(self, url: str) -> Schedule:
        made = Schedule(Settings(database=SecretStr(url)), self.run)
        made.start()
        return made

    def restart(self, url: str) -> None:
        self.schedule.close()
        self.schedule = self._started(url)

    def run(self, _shop: str, _as_of: datetime, _attempt: int) -> Any:
        self.runs += 1
        self.begun.release()
        assert self.over.acquire(timeout=20)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(detail=None, customers=1, version="v", rounds=0, seconds=0.1)


@pytest.fixture
def process(database: str) -> Iterator[Process]:
    found = Process(database)
    yield found
    found.over.release()
    found.schedule.close()


def left(connection: psycopg.Connection[Any], count: int) -> bool:
    def looked() -> bool:
        return connection.execute("SELECT count(*) FROM imports WHERE batch_due").fetchone() == (count,)

    return patience.until(looked, 20, every=0.05)


def test_it_is_due_until_it_is_done(connection: psycopg.Connection[Any], process: Process) -> None:
    ended(connection, ENDED)
    process.schedule.run_due()
    assert process.begun.acquire(timeout=20)
    process.schedule.run_due()  # the next look: it runs already
    assert imports.batches_due(connection) == {stores.SHOP: ENDED}, "whoever is killed now has not run it"
    ended(connection, ENDED + timedelta(minutes=1))
    process.over.release()
    assert left(connection, 1)
    assert imports.batches_due(connection) == {stores.SHOP: ENDED + timedelta(minutes=1)}
    process.schedule.run_due()  # what came in meanwhile
    assert process.begun.acquire(timeout=20)
    process.over.release()
    assert left(connection, 0)
    process.schedule.run_due()
    assert process.runs == 2


def test_one_that_fails_is_due_for_whoever_starts_next_and_not_at_each_look(
    connection: psycopg.Connection[Any], process: Process, database: str
) -> None:
    ended(connection, ENDED)
    process.error = BatchError("the sink does not move")
    process.over.release()
    process.schedule.run_due()
    assert process.begun.acquire(timeout=20)
    process.schedule.run_due()
    process.restart(database)
    assert process.runs == 1
    process.error = None
    process.over.release()
    process.schedule.run_due()
    assert process.begun.acquire(timeout=20)
    assert left(connection, 0)
