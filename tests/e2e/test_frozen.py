"""Servers that stand still without a word: Shopify is told in time, and readiness tells it too."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest

from runtime import kafka
from runtime.settings import Settings
from streams.publisher import KafkaPublisher
from tests.integration.api_world import World, opened

ROOT = Path(__file__).resolve().parents[2]
SERVERS = [sys.executable, str(ROOT / "scripts" / "servers.py")]

#: Shopify gives up after so long.
SHOPIFY = 5.0


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[tuple[str, int]]:
    """A real Kafka of this test's own, which it may freeze: (address, pid)."""
    with tempfile.TemporaryDirectory(prefix="loyalnest-servers-") as folder:
        environment = {**os.environ, "LOYALNEST_SERVERS": folder}
        subprocess.run([*SERVERS, "up", "kafka"], env=environment, check=True, timeout=110)
        try:
            lines = (Path(folder) / "env").read_text().splitlines()
            address = dict(line.split("=", 1) for line in lines)["LOYALNEST_TEST_KAFKA"]
            yield address, int((Path(folder) / "kafka" / "pid").read_text().split()[0])
        finally:
            subprocess.run([*SERVERS, "purge", "kafka"], env=environment, check=True, timeout=60)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process stands still, and then those that it has started."""
    stopped = list[psutil.Process]()

    def stop(process: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
            stopped.append(process)

    try:
        stop(psutil.Process(pid))
        time.sleep(0.5)  # what it was about to do or to answer is done
        for child in psutil.Process(pid).children():
            stop(child)
        yield
    finally:
        print(f"threads of {pid} that did not stand still at the end: {_running(pid)}")  # shown where the test fails
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _running(pid: int) -> dict[str, str]:
    """The threads of a process that do not stand still, with the state that Linux tells of each."""
    told = {task.name: (task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()}
    states = {name: line.rpartition(")")[2].split()[0] for name, line in told.items()}
    return {name: state for name, state in states.items() if state != "T"}


def timed(ask: Callable[[], Any]) -> tuple[int, float]:
    began = time.monotonic()
    status: int = ask().status_code
    return status, time.monotonic() - began


def until_ready(world: World, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while world.client.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_frozen_kafka(own_kafka: tuple[str, int], database: str) -> None:
    address, pid = own_kafka
    settings = Settings(kafka=address, partitions=2, topic_prefix=f"{uuid4().hex[:8]}-")
    kafka.create_topics(settings)
    with opened(database, KafkaPublisher(settings)) as world:
        order = {"X-Shopify-Webhook-Id": "frozen"}
        assert world.webhook("orders/paid", {"id": 1}).status_code == 200
        until_ready(world)
        with frozen(pid):
            # Also before anything was sent into the silence.
            status, seconds = timed(lambda: world.client.get("/readyz"))
            assert (status, seconds < SHOPIFY) == (503, True)
            status, seconds = timed(lambda: world.webhook("orders/paid", {"id": 2}, **order))
            assert (status, seconds < SHOPIFY) == (503, True)
            assert world.client.get("/readyz").json()["publisher"] is False
            assert world.client.get("/healthz").status_code == 200
        until_ready(world)
        assert world.webhook("orders/paid", {"id": 2}, **order).status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_frozen_database(database: str) -> None:
    with opened(database) as world:
        world.program()
        headers = world.key("read")
        assert world.get("/segments", headers).status_code == 200
        with psycopg.connect(world.url) as connection:
            backend = psutil.Process(connection.info.backend_pid)
            postmaster = backend.parent()
            assert postmaster is not None
        with frozen(postmaster.pid):
            # Orders need no database.
            assert world.webhook("orders/paid", {"id": 1}).status_code == 200
            status, seconds = timed(lambda: world.webhook("customers/update", {"id": 7, "email": "bob@example.com"}))
            assert (status, seconds < SHOPIFY) == (503, True)
            status, seconds = timed(lambda: world.get("/segments", headers))
            assert (status, seconds < SHOPIFY) == (503, True)
            ready = world.client.get("/readyz")
            assert (ready.status_code, ready.json()["database"]) == (503, False)
        until_ready(world)
        assert world.get("/segments", headers).status_code == 200
        assert world.webhook("customers/update", {"id": 7, "email": "bob@example.com"}).status_code == 200
