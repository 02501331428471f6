"""Files brought in: durable, once, from where they stopped, and without a byte of anybody's address."""

import asyncio
import json
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from api import imports as routes
from books import imports as book
from books.sealed import MasterKeys
from books.vault import Vault
from events import codec, topics
from events.messages import Message
from imports import files, importing, making, spool
from imports.importing import Bringing
from runtime import database as databases
from runtime.ports import PublishError
from runtime.settings import Settings
from streams.publisher import JournalPublisher
from tests import bulk, harness
from tests.harness import Stream
from tests.integration.api_world import MASTER, OTHER, SHOP, Remembering, World, opened

Json = dict[str, Any]
NOW = datetime(2026, 11, 21, tzinfo=UTC)
EMAIL = "ada{}@example.com"


def order(number: int, **changes: Any) -> Json:
    found: Json = {
        "id": 5000 + number,
        "created_at": "2026-10-01T10:00:00Z",
        "updated_at": "2026-10-02T10:00:00Z",
        "processed_at": None,
        "financial_status": "paid",
        "currency": "USD",
        "email": EMAIL.format(number % 7),
        "customer": {"id": 70 + number % 7, "email": EMAIL.format(number % 7)},
        "current_subtotal_price": "10.00",
        "subtotal_price": "10.00",
        "line_items": [{"quantity": 1, "price": "10.00"}],
        "refunds": [],
    }
    return found | changes


def file_of(folder: Path, count: int, name: str = "orders.jsonl", first: int = 0, tail: bytes = b"") -> Path:
    chance = random.Random(1)
    path = folder / name
    groups = [bulk.order(order(first + number), chance, apart=False) for number in range(count)]
    path.write_bytes(bulk.jsonl(groups) + tail)
    return path


class Failing(Remembering):
    """A publisher whose broker goes away after so many calls."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    async def publish(self, messages: Sequence[Message]) -> None:
        if self.left <= 0:
            raise PublishError("the broker is away")
        self.left -= 1
        await super().publish(messages)


def bring_in(
    url: str, path: Path, publisher: Any, *, again: bool = False, batch: int = 10, now: datetime = NOW
) -> book.Import:
    """As the command does it; the book's row afterwards."""

    async def bringing() -> book.Import:
        pool = databases.pool(url, "test", size=2)
        await pool.open(wait=True)
        connection = await databases.connect_async(url, "test", autocommit=True)
        try:
            async with connection:
                content = files.content(path)
                found = await book.begin_or_find(
                    connection, SHOP, path.name, content.sha256, content.size, now, again=again
                )
                if found.status != "done":
                    bringing = Bringing(
                        path=path,
                        shop=SHOP,
                        currency="USD",
                        vault=Vault(MasterKeys([MASTER]), pool),
                        publisher=publisher,
                        pace=None,
                        batch=batch,
                        batch_due=True,
                    )
                    async with book.held(connection, SHOP, content.sha256) as ours:
                        assert ours
                        with suppress(PublishError):
                            await bringing.run(connection, found)
                row = await book.find(connection, found.id)
                assert row is not None
                return row
        finally:
            await pool.close()
            await publisher.close()

    return asyncio.run(bringing())


def customers(messages: list[Json]) -> dict[str, tuple[int, int]]:
    """Balance and frequency by customer."""
    program: Json = {"currency": "USD", "zone": "UTC", "look_back_days": None, "rules": []}
    stream = Stream(harness.reference({SHOP: program}), random.Random(1))
    for each in messages:
        stream.send(each)
    stream.run()
    return {key[1]: (row["balance"], row["frequency"]) for key, row in stream.sink().rows.items()}


def test_a_file_goes_through_the_journal_and_tells_nobodys_address(database: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, 30, tail=b'{"id": "gid://shopify/Order/1"')
    found = bring_in(database, path, JournalPublisher(Settings(database=SecretStr(database))))
    # The last whole order may lack something: the file breaks off after it.
    assert (found.status, found.orders, found.rejected, found.format) == ("done", 29, 2, "bulk JSONL")
    assert found.problems[0] == [61, "the file breaks off in it, or in a line that belongs to it"]
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT webhook_topic, triggered_at, value FROM raw_events").fetchall()
        keys = connection.execute("SELECT count(*) FROM customer_keys WHERE customer_id ~ '^7[0-9]$'").fetchone()
        tables = ("raw_events", "imports", "customer_keys")
        everything = "".join(str(connection.execute(f"SELECT * FROM {name}").fetchall()) for name in tables)
    assert len(rows) == 29
    assert keys == (7,)
    assert {row[0] for row in rows} == {"orders/updated"}
    assert rows[0][1] == datetime(2026, 10, 1, 10, tzinfo=UTC)
    assert "example.com" not in everything
    payload = json.loads(rows[0][2])["payload"]
    assert payload["contact"].startswith("v1.")
    assert payload["address"].startswith("mail-")


def test_what_was_brought_in_is_not_brought_in_again_and_again_changes_nothing(database: str, tmp_path: Path) -> None:
    path, publisher = file_of(tmp_path, 30), Remembering()
    first = bring_in(database, path, publisher)
    once = publisher.values()
    assert bring_in(database, path, publisher).id == first.id
    assert publisher.values() == once
    later = NOW + timedelta(days=9)
    second = bring_in(database, path.rename(tmp_path / "other.name"), publisher, again=True, now=later)
    assert second.id != first.id
    assert second.first_at == first.first_at
    sealed = [{**each, "payload": {**each["payload"], "contact": None}} for each in publisher.values()]
    assert sealed[:30] == sealed[30:]  # but for the nonce of what is sealed
    assert customers(publisher.values()) == customers(once)


def test_in_parts_or_whole_is_the_same(database: str, tmp_path: Path) -> None:
    whole, parts = Remembering(), Remembering()
    bring_in(database, file_of(tmp_path, 40, "whole"), whole)
    bring_in(database, file_of(tmp_path, 25, "b", first=15), parts)
    bring_in(database, file_of(tmp_path, 15, "a"), parts)
    assert customers(parts.values()) == customers(whole.values())
    assert customers([*parts.values(), *whole.values()]) == customers(whole.values())


def test_what_was_broken_off_goes_on_where_it_stopped(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_NOTE", 0.0)
    path = file_of(tmp_path, 60)
    failing = Failing(3)
    broken = bring_in(database, path, failing)
    assert (broken.status, broken.position, broken.orders) == ("failed", 30, 30)
    assert broken.detail == "PublishError"
    rest = Remembering()
    done = bring_in(database, path, rest)
    assert (done.id, done.status, done.orders, done.from_line) == (broken.id, "done", 60, broken.line)
    assert len(rest.messages) == 30
    assert [each.key for each in (*failing.messages, *rest.messages)] == [f"{SHOP}/{5000 + at}" for at in range(60)]


def test_lines_that_cannot_be_read_are_not_read_again(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_NOTE", 0.0)
    path = file_of(tmp_path, 30)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], b"{}\n", b"{}\n", *lines[4:]]))
    failing, rest = Failing(1), Remembering()
    broken = bring_in(database, path, failing)
    assert (broken.position, broken.orders, broken.rejected) == (10, 8, 2)
    done = bring_in(database, path, rest)
    assert (done.status, done.orders, done.rejected, len(done.problems)) == ("done", 30, 2, 2)
    assert [each.key for each in (*failing.messages, *rest.messages)] == [f"{SHOP}/{5000 + at}" for at in range(30)]


def test_other_processes_make_the_same(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, elsewhere = Remembering(), Remembering()
    bring_in(database, file_of(tmp_path, 30), here)
    monkeypatch.setattr(making, "SMALL", 10)
    bring_in(database, file_of(tmp_path, 30), elsewhere, again=True)
    plain = [
        {**each, "payload": {**each["payload"], "contact": None}} for each in (*here.values(), *elsewhere.values())
    ]
    assert plain[:30] == plain[30:]


def test_only_one_brings_a_content_in_at_a_time(database: str) -> None:
    async def both() -> list[bool]:
        one, other = [await databases.connect_async(database, "test", autocommit=True) for _ in range(2)]
        async with one, other:
            async with book.held(one, SHOP, "abc") as first, book.held(other, SHOP, "abc") as second:
                pass
            async with book.held(other, SHOP, "abc") as third:
                return [first, second, third]

    assert asyncio.run(both()) == [True, False, True]


# --- by HTTP -----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(database: str, tmp_path: Path) -> Iterator[World]:
    with opened(database, data_dir=tmp_path) as running:
        running.program()
        yield running


def until_over(world: World, ident: str, headers: dict[str, str]) -> Json:
    for _ in range(200):
        found: Json = world.get(f"/imports/{ident}", headers).json()
        if found["status"] in ("done", "failed"):
            return found
        world.run(asyncio.sleep(0.05))
    raise AssertionError(found)


def post(world: World, headers: dict[str, str], path: Path, **parameters: str) -> httpx.Response:
    answer: httpx.Response = world.client.post(
        f"/v1/shops/{SHOP}/imports",
        headers=headers,
        content=path.read_bytes(),
        params={"file": path.name, **parameters},
    )
    return answer


def test_a_file_sent_is_brought_in_and_not_kept(world: World, tmp_path: Path) -> None:
    admin, path = world.key("admin"), file_of(tmp_path, 30, tail=b"{}\n")
    answer = post(world, admin, path)
    assert answer.status_code == 202
    found = until_over(world, answer.json()["id"], admin)
    assert (found["status"], found["orders"], found["rejected"], found["file"]) == ("done", 30, 1, "orders.jsonl")
    assert found["problems"] == [{"line": 61, "reason": "id is no gid://shopify/... of GraphQL's"}]
    assert world.get("/imports", admin).json()["imports"] == [found]
    assert len(world.publisher.values(topics.ORDERS)) == 30
    assert list((tmp_path / spool.FOLDER).iterdir()) == []
    again = post(world, admin, path)
    assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])
    assert world.sql("SELECT batch_due FROM imports") == [{"batch_due": True}]


def test_what_another_holds_is_looked_at_again(
    world: World, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was cut off holds it a moment longer than they live: it must not be forgotten meanwhile."""
    monkeypatch.setattr(routes, "AGAIN", 0.1)
    admin, path = world.key("admin"), file_of(tmp_path, 5)
    held = "SELECT pg_advisory_lock(hashtextextended('loyalnest import ' || %s || ' ' || %s, 0))"
    with psycopg.connect(database, autocommit=True) as elsewhere:
        elsewhere.execute(held, (SHOP, files.content(path).sha256))
        ident = post(world, admin, path).json()["id"]
        world.run(asyncio.sleep(0.3))
        assert world.get(f"/imports/{ident}", admin).json()["status"] == "waiting"
    assert until_over(world, ident, admin)["status"] == "done"


def test_a_form_may_hold_the_file(world: World, tmp_path: Path) -> None:
    admin, path = world.key("admin"), file_of(tmp_path, 5)
    form = {"note": (None, b"no file"), "file": ("past.jsonl", path.read_bytes())}
    answer = world.client.post(f"/v1/shops/{SHOP}/imports", headers=admin, files=form)
    assert answer.status_code == 202, answer.text
    found = until_over(world, answer.json()["id"], admin)
    assert (found["status"], found["orders"], found["file"]) == ("done", 5, "past.jsonl")
    empty = world.client.post(f"/v1/shops/{SHOP}/imports", headers=admin, files={"note": (None, b"no file")})
    assert empty.status_code == 422


def test_what_is_no_file_fails_in_a_word(world: World, tmp_path: Path) -> None:
    admin, path = world.key("admin"), tmp_path / "list.csv"
    path.write_text("who,what\n1,2\n")
    found = until_over(world, post(world, admin, path).json()["id"], admin)
    assert found["status"] == "failed"
    assert found["detail"].startswith("no column for the customer in the header (who, what)")
    path.write_bytes(b"\x89PNG\0\n")
    found = until_over(world, post(world, admin, path).json()["id"], admin)
    assert (found["status"], "(\\udc89PNG\\x00)" in found["detail"]) == ("failed", True)
    path.write_text("")
    assert post(world, admin, path).status_code == 422
    assert list((tmp_path / spool.FOLDER).iterdir()) == []


def test_it_is_for_whoever_may_administer_the_shop(world: World, tmp_path: Path) -> None:
    path = file_of(tmp_path, 1)
    assert post(world, world.key("read", "export", "pii"), path).status_code == 403
    assert post(world, world.key("admin", shop=OTHER), path).status_code == 404
    admin = world.key("admin")
    assert world.get("/imports/1e8dd9c4-0e5b-4f7a-9b53-6f6f6f6f6f6f", admin).status_code == 404


def test_a_file_has_a_greatest_size(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "IMPORT_BYTES", 100)
    assert post(world, world.key("admin"), file_of(tmp_path, 1)).status_code == 413
    assert list((tmp_path / spool.FOLDER).iterdir()) == []


def test_what_a_crash_left_goes_on_at_the_next_start(database: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, 30)
    broken = bring_in(database, path, Failing(0))
    folder = tmp_path / spool.FOLDER
    folder.mkdir()
    path.rename(spool.path(folder, broken.id))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE imports SET spooled_at = started_at")
    (folder / "half.part").write_bytes(b"what was being sent")
    os.utime(folder / "half.part", (0, 0))
    (folder / "other.part").write_bytes(b"what another process is being sent just now")
    with opened(database) as before:
        before.program()
    with opened(database, data_dir=tmp_path) as world:
        admin = world.key("admin")
        for _ in range(200):
            found = world.get(f"/imports/{broken.id}", admin).json()
            if found["status"] == "done":
                break
            world.run(asyncio.sleep(0.05))
        assert (found["status"], found["orders"]) == ("done", 30)
        assert [each.name for each in folder.iterdir()] == ["other.part"]


def test_who_is_redacted_is_sealed_no_more(database: str, tmp_path: Path) -> None:
    publisher = Remembering()
    with opened(database, data_dir=tmp_path) as world:
        payload = {"shop_domain": SHOP, "customer": {"id": 71, "email": EMAIL.format(1)}}
        assert world.webhook("customers/redact", payload).status_code == 200
    bring_in(database, file_of(tmp_path, 14), publisher)
    contacts = {each["payload"]["customer"]["id"]: each["payload"]["contact"] for each in publisher.values()}
    assert contacts["71"] is None
    assert all(contact for customer, contact in contacts.items() if customer != "71")
    assert "example.com" not in codec.dumps(publisher.values()).decode()
