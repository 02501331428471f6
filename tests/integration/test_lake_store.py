"""A lake in an object store: a real S3 server on loopback, what it holds, and what stands in the folder of copies."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg import Connection

from batch import frames
from batch.history import History
from lake import filling, manifest, reading
from lake.errors import BehindError, StoreError
from lake.manifest import Lake, ShopFiles
from lake.objects import Objects
from runtime.settings import Settings
from tests import killed, stores
from tests.integration.test_batch import add_program, add_raw
from tests.integration.test_lake import rows, same, versions_are_the_history

URL = "s3://nest/lakes/one"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    # Here, not above: every process of the tests would load it.
    from moto.server import ThreadedMotoServer

    made = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    made.start()
    host, port = made.get_host_and_port()
    yield f"http://{host}:{port}"
    made.stop()


@pytest.fixture(autouse=True)
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty bucket, and the variables by which any client of S3 finds it."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "nest",
        "AWS_SECRET_ACCESS_KEY": "nobody's secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"{server}/moto-api/reset").raise_for_status()
    httpx.put(f"{server}/nest").raise_for_status()


@pytest.fixture
def store(connection: Connection[Any]) -> list[dict[str, Any]]:
    """A shop with a past; the half of its webhooks that is still to come."""
    envelopes = [each for seed in range(3) for each in stores.store(seed, moments=12)]
    for at, each in enumerate(envelopes):
        each["webhook_id"] = f"{at}"
    add_program(connection, stores.SHOP)
    half = len(envelopes) // 2
    add_raw(connection, envelopes[:half])
    return envelopes[half:]


def lake_at(folder: Path) -> Lake:
    return manifest.of(Settings(lake_dir=folder, lake_url=URL, data_dir=folder))


def files_of(lake: Lake) -> ShopFiles:
    found = lake.shop(lake.root(), stores.SHOP)
    assert found is not None
    return found


def two_hours_pass() -> None:
    from moto.backends import get_backend
    from moto.core.models import DEFAULT_ACCOUNT_ID

    for key in get_backend("s3")[DEFAULT_ACCOUNT_ID]["global"].buckets["nest"].keys.values():
        key.last_modified -= timedelta(hours=2)


def objects() -> dict[str, int]:
    return {each.path: each.size for each in Objects(URL).listed() if not each.path.startswith("gone/")}


def test_one_machine_fills_it_and_another_reads_it(
    connection: Connection[Any], store: list[dict[str, Any]], tmp_path: Path
) -> None:
    here, there, plain = lake_at(tmp_path / "here"), lake_at(tmp_path / "there"), Lake(tmp_path / "plain")
    for more in ([], store):
        add_raw(connection, more)
        filling.fill(connection, here)
        filling.fill(connection, plain)
        assert rows(there) == rows(plain)
        versions_are_the_history(connection, there)
    same(connection, there)  # fills as well: from where the other has left off
    files = files_of(here)
    assert set(files.paths()) <= objects().keys()


def test_a_machine_whose_copies_are_lost_fills_on(
    connection: Connection[Any], store: list[dict[str, Any]], tmp_path: Path
) -> None:
    filling.fill(connection, lake_at(tmp_path / "first"))
    add_raw(connection, store)
    found = filling.fill(connection, lake_at(tmp_path / "second"))
    assert (found.webhooks, found.anew) == (len(store), 0)
    versions_are_the_history(connection, lake_at(tmp_path / "third"))


def test_a_copy_that_was_cut_off_is_fetched_again(
    connection: Connection[Any], store: list[dict[str, Any]], tmp_path: Path
) -> None:
    lake = lake_at(tmp_path)
    filling.fill(connection, lake)
    for path in tmp_path.rglob("*.parquet"):
        os.truncate(path, path.stat().st_size // 2)
    versions_are_the_history(connection, lake)


def test_an_object_that_is_gone_is_noticed_and_made_anew(
    connection: Connection[Any], store: list[dict[str, Any]], tmp_path: Path
) -> None:
    lake = lake_at(tmp_path)
    filling.fill(connection, lake)
    files = files_of(lake)
    Objects(URL).remove([files.layers[0].path])
    assert lake.shop(lake.root(), stores.SHOP) is None
    assert filling.fill(connection, lake).anew == 1
    versions_are_the_history(connection, lake_at(tmp_path / "another"))


def test_what_nothing_names_any_more_goes_after_an_hour(
    connection: Connection[Any], store: list[dict[str, Any]], tmp_path: Path
) -> None:
    lake = lake_at(tmp_path)
    filling.fill(connection, lake)
    before = objects()
    two_hours_pass()
    add_raw(connection, store)
    filling.fill(connection, lake)
    Objects(URL).write("snapshots/shop=killed/left.parquet", b"left by somebody who was killed")
    assert lake.sweep(lake.root()) == 0, "somebody may still read them"
    assert before.keys() <= objects().keys()
    files = files_of(lake)
    assert lake.sweep(lake.root(), old=-1) > 0
    assert objects().keys() == {"lake.json", *lake.root().lists.values(), *files.paths()}
    versions_are_the_history(connection, lake_at(tmp_path / "another"))


def test_without_its_store_a_batch_reads_the_history_and_fills_nothing(
    connection: Connection[Any], store: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling.fill(connection, lake_at(tmp_path))
    there, address = objects(), os.environ["AWS_ENDPOINT_URL"]
    add_raw(connection, store)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("lake.objects._PATIENCE", timedelta(seconds=1))
    away = lake_at(tmp_path)
    with pytest.raises(StoreError, match=r"s3://nest/lakes/one does not answer") as said:
        filling.fill(connection, away)
    assert "secret" not in str(said.value)
    program = frames.program(connection, stores.SHOP)
    with pytest.raises(BehindError, match="cannot be read"), reading.told_until(connection, away, program, 0):
        pass
    found, plain = History(stores.SHOP, "USD", away), History(stores.SHOP, "USD")
    assert found.read(connection) == plain.read(connection)
    assert found.order_states().sort("order_id").equals(plain.order_states().sort("order_id"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    assert objects() == there
    assert filling.fill(connection, lake_at(tmp_path)).webhooks == len(store)


@pytest.mark.slow
def test_killed_at_any_moment_another_machine_goes_on(
    connection: Connection[Any], database: str, store: list[dict[str, Any]], tmp_path: Path
) -> None:
    """kill -9 later and later, each time another folder of copies, until one comes to its end."""
    add_raw(connection, store)
    kills = 0
    for attempt in range(20):
        process = killed.begun(tmp_path, killed.fill, database, str(tmp_path / f"{attempt % 3}"), URL)
        time.sleep(0.2 * 1.6**attempt)
        if process.poll() is None:
            kills += 1
            process.kill()
        ended = process.wait(60) == 0
        if ended:
            break
    assert ended
    assert kills
    plain = Lake(tmp_path / "plain")
    filling.fill(connection, plain)
    assert rows(lake_at(tmp_path / "last")) == rows(plain)
    versions_are_the_history(connection, lake_at(tmp_path / "0"))
