"""Customers who are one, in a real database: the batch, which knows no forwarding, finds what the stream made."""

import random
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

from batch import parity
from events import topics
from events.programs import Program
from lake.manifest import Lake
from tests import harness, stores
from tests.golden.test_cases import store
from tests.harness import Stream


def stored(url: str, connection: Connection[Any], seed: int) -> Stream:
    """A made store, with merges and shared addresses, folded in some order with a crash, and stored."""
    plain = stores.program(seed)
    stream = Stream(harness.reference({stores.SHOP: plain}), random.Random(seed), partitions=2)
    sent = stores.store(seed, customers=6, orders=30, moments=6)
    random.Random(seed).shuffle(sent)
    for each in sent:
        stream.send(each)
    stream.run(1)
    assert not stream.outputs(topics.DEAD_LETTERS)
    program: Program = stream.reference[stores.SHOP].program
    connection.execute(
        "INSERT INTO programs (shop, program, updated_at) VALUES (%s, %s, now())",
        (stores.SHOP, program.model_dump_json()),
    )
    store(url, stream)
    return stream


@pytest.mark.parametrize("seed", range(6))
def test_stream_and_batch_agree_on_who_is_whom(
    database: str, connection: Connection[Any], seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(database, connection, seed)
    assert parity.compare(connection, stores.SHOP) == []
    monkeypatch.setattr(parity, "SLICE", 7)
    assert parity.compare(connection, stores.SHOP, Lake(tmp_path / "lake")) == []


def test_merged_customers_are_kept_and_counted_nowhere(database: str, connection: Connection[Any]) -> None:
    seed = next(seed for seed in range(20) if any(row["merged_into"] for row in stored_rows(seed)))
    stored(database, connection, seed)
    everybody, merged = connection.execute("SELECT count(*), count(merged_into) FROM customers").fetchone() or (0, 0)
    counted = connection.execute("SELECT sum(customers)::int FROM rfm_segment_counts").fetchone()
    assert merged > 0
    assert counted == (everybody - merged,)
    values = "SELECT DISTINCT balance, frequency, monetary FROM customers WHERE merged_into IS NOT NULL"
    assert connection.execute(values).fetchall() == [(0, 0, 0)]
    connection.execute("UPDATE customers SET merged_into = NULL WHERE merged_into IS NOT NULL")
    assert any("merged_into None not" in line for line in parity.compare(connection, stores.SHOP))


def stored_rows(seed: int) -> list[Any]:
    stream = Stream(harness.reference({stores.SHOP: stores.program(seed)}), random.Random(seed), partitions=1)
    for each in stores.store(seed, customers=6, orders=30, moments=6):
        stream.send(each)
    stream.run()
    return list(stream.sink().rows.values())
