"""A rebuild on real servers: the worker's state and the derived tables made again, the raw history untouched."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from batch import parity
from books import schema
from runtime.settings import Settings
from tests.e2e.up import Up, loyalnest, wait

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    yield parent / "data"
    shutil.rmtree(parent, ignore_errors=True)


def _balances(settings: Settings) -> list[Any]:
    with psycopg.connect(settings.database_url()) as connection:
        return connection.execute(
            "SELECT customer_id, balance, segment, now FROM customers ORDER BY customer_id"
        ).fetchall()


def _count(settings: Settings, table: str) -> Any:
    with psycopg.connect(settings.database_url()) as connection:
        return (connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() or [0])[0]


def test_a_rebuild_restores_what_was_destroyed(real: Settings, folder: Path) -> None:
    file = folder.parent / "orders.csv"
    rows = [f"{n % 90},2026-0{n % 9 + 1}-1{n % 8},{n % 70}.50" for n in range(900)]
    file.write_text("customer,date,amount\n" + "\n".join(rows) + "\n")
    shop = "rebuilt.myshopify.com"
    servers = ("--kafka", real.kafka_servers(), "--database", real.database_url())
    stack = Up(folder, *servers, prefix=real.topic_prefix, partitions=real.partitions)
    stack.start()
    try:
        stack.run("play", str(file), "--shop", shop)
        stack.run("points", "adjust", shop, "7", "500", "--at", "2026-01-05", *servers)
        wait(lambda: _count(real, "raw_events") >= 902, what="the raw history")
        wait(lambda: not parity.main(real, shop), what="parity")
        before, archived = _balances(real), _count(real, "raw_events")

        ended = stack.run_anyway("rebuild", "--yes", *servers)
        assert (ended.returncode, "still read in the group" in ended.stderr) == (1, True), ended.stderr
    finally:
        stack.stop()

    with psycopg.connect(real.database_url()) as connection:
        for table in schema.DERIVED:
            connection.execute(f"DELETE FROM {table} WHERE random() < 0.5".encode())
    assert parity.main(real, shop)
    said = stack.run("rebuild", "--yes", *servers)
    assert "Made again from 901 messages" in said
    assert not parity.main(real, shop)
    assert _balances(real) == before
    assert _count(real, "awards") == 1
    assert _count(real, "raw_events") == archived

    stack.start()
    try:
        stack.run("play", str(file), "--shop", shop)
        wait(lambda: _count(real, "raw_events") == archived + 900, what="the same webhooks once more")
        wait(lambda: not parity.main(real, shop), what="parity")
    finally:
        stack.stop()


def test_nothing_is_written_past_a_real_kafka(real: Settings, folder: Path) -> None:
    with psycopg.connect(real.database_url()) as connection:
        connection.execute("INSERT INTO sink_positions VALUES ('kafka', 'shopify.orders', 0, 0)")
    words = ("shops", "add", "nest", "--database", real.database_url(), "--data", str(folder))
    ended = loyalnest(*words, check=False)
    assert (ended.returncode, "give --kafka too" in ended.stderr) == (1, True), ended.stderr
    assert _count(real, "raw_events") == 0
