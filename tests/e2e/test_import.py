"""`loyalnest import` at a running `up`, killed in the middle: nothing is lost, nothing counts twice."""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from batch import parity
from tests import bulk
from tests.e2e.up import COMMAND, Up, environment, up, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHOP = "nest.myshopify.com"
ORDERS, CUSTOMERS = 4_000, 500


def _file(folder: Path, first: int, last: int) -> Path:
    chance = random.Random(1)
    groups = []
    for number in range(first, last):
        customer = number % CUSTOMERS
        payload: dict[str, Any] = {
            "id": 5_000_000_000_000 + number,
            "created_at": f"2026-0{1 + number % 9}-01T10:00:00Z",
            "updated_at": "2026-10-02T10:00:00Z",
            "financial_status": "paid",
            "currency": "USD",
            "email": f"somebody{customer}@example.com",
            "customer": {"id": 7_000_000_000_000 + customer},
            "current_subtotal_price": "10.00",
            "subtotal_price": "10.00",
            "line_items": [{"quantity": 1, "price": "10.00"}],
            "refunds": [],
        }
        groups.append(bulk.order(payload, chance, apart=False))
    path = folder / f"past-{first}.jsonl"
    path.write_bytes(bulk.jsonl(groups))
    return path


@pytest.fixture
def folder() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


def _row(stack: Up) -> tuple[str, int]:
    with psycopg.connect(stack.announced["database"]) as connection:
        row = connection.execute("SELECT status, position FROM imports ORDER BY started_at DESC LIMIT 1").fetchone()
    return (row[0], row[1]) if row else ("none", 0)


def test_an_import_killed_in_the_middle_goes_on(folder: Path) -> None:
    with up(folder / "data") as stack:
        stack.run("shops", "add", SHOP)
        first, rest = _file(folder, 0, 3_000), _file(folder, 2_500, ORDERS)
        words = [*COMMAND, "import", str(first), "--shop", SHOP, "--data", str(stack.folder)]
        given, nowhere = environment({}), subprocess.DEVNULL
        # Ctrl-C goes to every process of the terminal.
        broken = subprocess.Popen(
            words, env=given, stdout=nowhere, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        wait(lambda: _row(stack)[1] > 0, what="some of it to be durable")
        os.killpg(broken.pid, signal.SIGINT)
        _, said = broken.communicate(timeout=30)
        assert (broken.returncode, said.splitlines()) == (
            130,
            ["Broken off: give the same command again, and it goes on where it stopped."],
        )
        before = _row(stack)[1]
        running = subprocess.Popen(words, env=given, stdout=nowhere, stderr=nowhere)
        wait(lambda: _row(stack)[1] > before, what="more of it to be durable")
        os.kill(running.pid, signal.SIGKILL)
        running.wait(20)
        status, position = _row(stack)
        assert status == "running"
        assert 0 < position < 3_000
        said = stack.run("import", str(first), str(rest), "--shop", SHOP, seconds=300)
        assert f"goes on after {position:,}" in said
        assert "500 customers scored" in said
        assert "nothing to do" in stack.run("import", str(first), "--shop", SHOP)
        listed = json.loads(stack.run("import", "list", "--shop", SHOP, "--json"))
        assert [(each["status"], each["orders"], each["rejected"]) for each in listed] == [
            ("done", 1_500, 0),
            ("done", 3_000, 0),
        ]
        settings = stack.settings()
        with psycopg.connect(settings.database_url()) as connection:
            sums = "SELECT count(*), sum(balance), sum(frequency), sum(monetary) FROM customers"
            assert connection.execute(sums).fetchone() == (CUSTOMERS, ORDERS * 10, ORDERS, ORDERS * 1000)
            for table in ("raw_events", "imports", "customers", "dead_letters"):
                text = f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%%example.com%%'"
                assert connection.execute(text.encode()).fetchone() == (0,)
        assert parity.main(settings, SHOP) == []
