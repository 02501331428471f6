"""Somebody is redacted while a file waits to be brought in, or is being: no byte of it stays, however that came."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from api import imports as routes
from books import dead_letters
from books import imports as book
from books.sealed import MasterKeys
from books.vault import Vault
from cli import main as cli
from events import codec, instants, letters, topics
from events.errors import BadEvent
from events.messages import Message
from imports import files, spool
from imports.importing import Bringing, ForgottenError
from runtime import database as databases
from runtime.settings import Settings
from streams.publisher import JournalPublisher
from streams.sink import store as sink_store
from streams.sink.rows import Rows
from tables.chunks import Received
from tests.integration.api_world import MASTER, OTHER, SHOP, Remembering, World, opened
from tests.integration.test_imports import EMAIL, file_of, post, until_over

#: Brings a file in, by a publisher, at a pace.
Bring = Callable[[Remembering, Any], Coroutine[Any, Any, None]]

#: Within so many seconds nothing may be left.
BOUND = 5.0

CUSTOMER = {"shop_domain": SHOP, "customer": {"id": 71, "email": EMAIL.format(1)}}
WHOLE_SHOP = {"shop_id": 1, "shop_domain": SHOP}


def envelope(topic: str, payload: dict[str, Any], at: datetime) -> bytes:
    told = instants.text(instants.from_datetime(at))
    found = {"topic": topic, "shop": SHOP, "webhook_id": str(uuid4()), "event_id": None, "api_version": None}
    return codec.dumps({**found, "triggered_at": told, "received_at": told, "payload": payload})


def by_kafka(url: str, topic: str, payload: dict[str, Any], asked: datetime, arrived: datetime) -> None:
    """As the sink takes a redaction that somebody produced."""
    rows = Rows(journal=False)
    stream, key = (topics.CUSTOMERS, f"{SHOP}/71") if topic == "customers/redact" else (topics.SHOPS, SHOP)
    at = int(arrived.timestamp() * 1000)
    rows.add(Received(stream, 0, 0, at, key.encode(), envelope(topic, payload, asked)))
    with psycopg.connect(url, options="-c timezone=UTC") as connection:
        sink_store.prepare(connection)
        with connection.transaction(), connection.cursor() as cursor:
            sink_store.write(cursor, rows)


def webhook(world: World, _: Any) -> None:
    assert world.webhook("customers/redact", CUSTOMER).status_code == 200


def shop_webhook(world: World, _: Any) -> None:
    assert world.webhook("shop/redact", WHOLE_SHOP).status_code == 200


def kafka(world: World, _: Any) -> None:
    now = datetime.now(UTC)
    by_kafka(world.url, "customers/redact", {"shop_domain": SHOP, "customer": {"id": 71}}, now, now)


def shop_kafka(world: World, _: Any) -> None:
    now = datetime.now(UTC)
    by_kafka(world.url, "shop/redact", WHOLE_SHOP, now, now)


def late_kafka(world: World, _: Any) -> None:
    """A dead letter of long ago, replayed just now."""
    now = datetime.now(UTC)
    by_kafka(world.url, "customers/redact", {"shop_domain": SHOP, "customer": {"id": 71}}, now - timedelta(9), now)


def command(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOYALNEST_MASTER_KEY", base64.b64encode(MASTER).decode())
    monkeypatch.setenv("LOYALNEST_JOURNAL", "true")
    # Another machine's folder: it cannot reach ours.
    words = ["privacy", "redact", SHOP, "71", "--database", world.url, "--data", "/nonexistent"]
    ended = CliRunner().invoke(cli.command(), words)
    assert ended.exit_code == 0, ended.output


def replay(world: World, _: Any) -> None:
    """Embedded: what the journal says again in each life must not let go what is sent anew."""
    long_ago = datetime.now(UTC) - timedelta(9)
    value = envelope("customers/redact", {"shop_domain": SHOP, "customer": {"id": 71}}, long_ago)
    received = (topics.CUSTOMERS, 0, 1, int(long_ago.timestamp() * 1000), f"{SHOP}/71".encode(), value)
    letter = letters.of_message(*received, BadEvent("unknown_shop", "not ours yet"))
    names = ("at", "id", "shop", "source", "partition", "offset", "key", "error", "detail", "value", "sealed")
    world.insert("dead_letters", **{name: letter[name] for name in names})  # type: ignore[literal-required]

    async def replaying() -> None:
        pool = databases.pool(world.url, "test", size=2)
        await pool.open(wait=True)
        publisher = JournalPublisher(Settings(database=SecretStr(world.url)))
        chosen = await dead_letters.listing(pool)
        done = await dead_letters.replay(pool, None, publisher, chosen, datetime.now(UTC) + timedelta(seconds=1))
        assert [each.problem for each in done] == [None]
        await publisher.close()
        await pool.close()

    asyncio.run(replaying())


WAYS: list[Callable[[World, Any], None]] = [webhook, shop_webhook, kafka, shop_kafka, late_kafka, command, replay]


@contextmanager
def held(url: str, path: Path) -> Iterator[None]:
    """Somebody else has the file's content: it waits."""
    query = "SELECT pg_advisory_lock(hashtextextended('loyalnest import ' || %s || ' ' || %s, 0))"
    with psycopg.connect(url, autocommit=True) as elsewhere:
        elsewhere.execute(query, (SHOP, files.content(path).sha256))
        yield


def until_empty(folder: Path) -> None:
    deadline = time.monotonic() + BOUND
    while left := list(folder.iterdir()):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_file_that_waits_is_left(
    database: str, tmp_path: Path, way: Callable[[World, Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = file_of(tmp_path, 30), tmp_path / spool.FOLDER
    # Two processes share the folder, and neither is told by the other.
    with opened(database, data_dir=tmp_path) as world, opened(database, data_dir=tmp_path), held(database, path):
        world.program()
        admin = world.key("admin")
        ident = post(world, admin, path).json()["id"]
        assert [each.name for each in folder.iterdir()] == [f"{ident}.spool"]
        way(world, monkeypatch)
        until_empty(folder)
        found = world.get(f"/imports/{ident}", admin).json()
        assert (found["status"], found["detail"]) == ("failed", book.REDACTED)
        # Sent again it waits again, also while what was asked long ago is heard of once more.
        assert post(world, admin, path).json()["status"] == "waiting"
        by_kafka(database, "shop/redact", WHOLE_SHOP, *[datetime.now(UTC) - timedelta(hours=1)] * 2)
        time.sleep(1.5 * routes.SWEEP)
        assert [each.name for each in folder.iterdir()] == [f"{ident}.spool"]


def test_another_shops_file_stays(database: str, tmp_path: Path) -> None:
    path, folder = file_of(tmp_path, 30), tmp_path / spool.FOLDER
    with opened(database, data_dir=tmp_path) as world, held(database, path):
        world.program()
        post(world, world.key("admin"), path)
        redacted = {"shop_domain": OTHER, "customer": {"id": 71}}
        answer = world.webhook("customers/redact", redacted, X_Shopify_Shop_Domain=OTHER)
        assert answer.status_code == 200
        time.sleep(1.5 * routes.SWEEP)
        assert len(list(folder.iterdir())) == 1


class Gated(Remembering):
    """A publisher that stands still from the second call on, until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.second = threading.Event()
        self.gate = threading.Event()
        self.calls = 0

    async def publish(self, messages: Sequence[Message]) -> None:
        self.calls += 1
        if self.calls == 2:
            self.second.set()
            await asyncio.to_thread(self.gate.wait, 20)
        await super().publish(messages)


def test_who_brings_it_in_stops_and_holds_nothing(database: str, tmp_path: Path) -> None:
    path, folder, publisher = file_of(tmp_path, 3000), tmp_path / spool.FOLDER, Gated()
    with opened(database, publisher, data_dir=tmp_path) as world:
        world.program()
        admin = world.key("admin")
        ident = post(world, admin, path).json()["id"]
        assert publisher.second.wait(20)
        kafka(world, None)
        publisher.gate.set()
        assert until_over(world, ident, admin)["detail"] == book.REDACTED
        until_empty(folder)
        deadline = time.monotonic() + BOUND
        while open_files := [each for each in _open() if ".spool" in each]:
            assert time.monotonic() < deadline, open_files
            time.sleep(0.05)
        assert 0 < len(publisher.messages) < 3000
        # It goes on where it stopped once it is sent again.
        assert post(world, admin, path).status_code == 202
        assert until_over(world, ident, admin)["status"] == "done"
        assert len({json.loads(each.value)["webhook_id"] for each in publisher.messages}) == 3000


def _open() -> list[str]:
    """What this process has open or mapped."""
    links = []
    for each in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(each.readlink()))
        except FileNotFoundError:
            continue
    return [*links, *Path("/proc/self/maps").read_text().splitlines()]


class Nobody:
    """A pace at which nobody works anything off."""

    size = 10

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def wait(self) -> bool:
        self.asked.set()
        await asyncio.sleep(0.05)
        return False

    def sent(self, messages: Sequence[Message]) -> None:
        raise AssertionError


class Redacting(Remembering):
    """A publisher that hears, when it has taken the first messages, that somebody is to be forgotten."""

    def __init__(self, vault: Vault) -> None:
        super().__init__()
        self._vault = vault

    async def publish(self, messages: Sequence[Message]) -> None:
        heard = not self.messages
        await super().publish(messages)
        if heard:
            await self._vault.destroy(SHOP, "71", datetime.now(UTC) + timedelta(seconds=1))


def test_who_waits_for_a_worker_stops_too(database: str, tmp_path: Path) -> None:
    pace = Nobody()

    async def test(vault: Vault, bring: Bring) -> None:
        task = asyncio.create_task(bring(Remembering(), pace))
        await asyncio.wait_for(pace.asked.wait(), BOUND)
        await vault.destroy(SHOP, "71", datetime.now(UTC) + timedelta(seconds=1))
        with pytest.raises(ForgottenError):
            await asyncio.wait_for(task, BOUND)

    bringing_in(database, file_of(tmp_path, 30), test)


def test_nothing_more_is_sent_after_the_batch_that_is_just_being(database: str, tmp_path: Path) -> None:
    async def test(vault: Vault, bring: Bring) -> None:
        publisher = Redacting(vault)
        with pytest.raises(ForgottenError):
            await bring(publisher, None)
        assert len(publisher.messages) == 10

    bringing_in(database, file_of(tmp_path, 30), test)


def bringing_in(database: str, path: Path, test: Callable[[Vault, Bring], Coroutine[Any, Any, None]]) -> None:
    """A file that was sent, brought in ten orders at a time while the test does something; it ends as redacted."""

    async def main() -> None:
        pool = databases.pool(database, "test", size=2)
        await pool.open(wait=True)
        vault = Vault(MasterKeys([MASTER]), pool)
        content = files.content(path)
        async with await databases.connect_async(database, "test", autocommit=True) as connection:
            now = datetime.now(UTC)
            found = await book.begin_or_find(
                connection, SHOP, path.name, content.sha256, content.size, now, again=False, spooled=True
            )

            async def bring(publisher: Remembering, pace: Any) -> None:
                bringing = Bringing(
                    path=path,
                    shop=SHOP,
                    currency="USD",
                    vault=vault,
                    publisher=publisher,
                    pace=pace,
                    batch=10,
                    batch_due=True,
                )
                await bringing.run(connection, found)

            await test(vault, bring)
            row = await book.find(connection, found.id)
            assert row is not None
            assert (row.status, row.detail, row.spooled_at) == ("failed", book.REDACTED, None)
        await pool.close()

    asyncio.run(main())
