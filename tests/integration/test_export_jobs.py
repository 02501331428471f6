"""Exports made aside: the same bytes, through restarts; and the list of who exported what."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from api import export_jobs, export_rows, export_streams
from books import exports as book
from lake import reading
from tests.integration.api_world import NOW, OTHER, SHOP, World, opened, prospect
from tests.integration.test_api_exports import fill
from tests.integration.test_import_redactions import WAYS, replay, webhook
from tests.integration.test_imports import EMAIL

BOUND = 20.0


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        for number in range(1, 10):
            contact = running.contact(str(number), f"{number}@x.com", "subscribed" if number % 2 else "unsubscribed")
            running.customer(str(number), segment="Loyal" if number < 5 else "Active", balance=number, contact=contact)
        running.customer("99", **prospect())
        yield running


def ask(world: World, headers: dict[str, str], **question: Any) -> dict[str, Any]:
    answer = world.client.post(f"/v1/shops/{SHOP}/exports", headers=headers, json=question)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def until(world: World, ident: str, headers: dict[str, str], *wanted: str) -> dict[str, Any]:
    deadline = time.monotonic() + BOUND
    while True:
        answer = world.get(f"/exports/{ident}", headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        if found["status"] in wanted:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def until_true(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def files(world: World) -> list[Path]:
    return sorted(world.services.exporter.folder.glob("*"))


def file(world: World, ident: str, headers: dict[str, str]) -> httpx.Response:
    answer: httpx.Response = world.get(f"/exports/{ident}/file", headers)
    return answer


@contextmanager
def held_up(world: World) -> Iterator[None]:
    """No address can be opened meanwhile, so no export ends."""
    with psycopg.connect(world.url) as locking:
        locking.execute("LOCK TABLE customer_keys")
        yield


QUESTIONS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, ()),
    ({}, ("pii",)),
    ({"segment": ["Loyal"], "r": "4-5", "points_from": 2}, ()),
    ({"columns": ["segment", "customer_id"], "excel": True}, ()),
    ({"preset": "google"}, ()),
    ({"preset": "klaviyo", "consent": "any", "last_order_before": "2026-12-01T00:00:00Z"}, ("pii",)),
    ({"as_of": NOW.isoformat()}, ()),
    ({"segment": ["Prospects"], "consent": "pending"}, ()),
]


@pytest.mark.parametrize(("question", "scopes"), QUESTIONS, ids=lambda each: str(each)[:40])
def test_the_file_is_what_is_streamed(
    world: World, monkeypatch: pytest.MonkeyPatch, question: dict[str, Any], scopes: tuple[str, ...]
) -> None:
    monkeypatch.setattr(reading, "MOST", -1)
    world.batch(NOW - timedelta(hours=1), {"1": "Active", "2": "Loyal"})
    headers = world.key("export", *scopes)
    streamed = world.get("/exports/segments.csv", headers, **question)
    assert streamed.status_code == 200
    asked = ask(world, headers, **question)
    assert (asked["way"], asked["status"], asked["addresses"]) == ("job", "waiting", "pii" in scopes)
    done = until(world, asked["id"], headers, "done")
    answer = file(world, asked["id"], headers)
    assert answer.status_code == 200
    assert answer.content == streamed.content
    for name in ("content-type", "content-disposition", "cache-control"):
        assert answer.headers[name] == streamed.headers[name]
    assert done["rows"] == streamed.content.count(b"\r\n") - 1
    assert done["bytes"] == len(streamed.content)
    assert done["done"] == done["customers"] >= done["rows"]
    kept = datetime.fromisoformat(done["kept_until"]) - datetime.fromisoformat(done["finished_at"])
    assert kept == timedelta(days=7)
    (path,) = files(world)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    path_of = f"/v1/shops/{SHOP}/exports/{asked['id']}/file"
    for part in ("bytes=0-9", "bytes=9-0", "lines=1"):
        answer = world.client.get(path_of, headers={**headers, "Range": part})
        assert (answer.status_code, answer.content) == (200, streamed.content)
        assert answer.headers["accept-ranges"] == "none"


def test_what_cannot_be_asked_is_said_at_once(world: World) -> None:
    headers = world.key("export")
    for question, status in (
        ({"segment": ["Loyall"]}, 422),
        ({"colour": "red"}, 422),
        ({"preset": "hubspot"}, 422),
        ({"changed_since": 0}, 422),  # no seconds since 1970
        ({"preset": "klaviyo"}, 403),
        ({"preset": "google", "consent": "any"}, 403),
    ):
        answer = world.client.post(f"/v1/shops/{SHOP}/exports", headers=headers, json=question)
        assert answer.status_code == status, question
    assert world.sql("SELECT * FROM exports") == []
    path = f"/v1/shops/{SHOP}/exports"
    assert world.client.post(path, headers=world.key("read", "pii", "admin"), json={}).status_code == 403
    assert world.client.post(path, headers=world.key("export", shop=OTHER), json={}).status_code == 404


def test_a_file_with_addresses_is_for_those_who_may_see_them(world: World) -> None:
    may, may_not = world.key("export", "pii"), world.key("export")
    clear = until(world, ask(world, may)["id"], may, "done")
    hashed = until(world, ask(world, may, preset="google")["id"], may, "done")
    assert b"1@x.com" in file(world, clear["id"], may).content
    refused = file(world, clear["id"], may_not)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:loyalnest:problem:no-scope")
    assert file(world, hashed["id"], may_not).status_code == 200
    assert not [path for path in files(world) if hashed["id"] in path.name and b"@" in path.read_bytes()]
    # Nobody else has any of it, and who may read results has no file.
    world.program(shop=OTHER)
    theirs = world.key("export", "pii", "admin", shop=OTHER)
    for path in (f"/exports/{clear['id']}", f"/exports/{clear['id']}/file"):
        assert world.client.get(f"/v1/shops/{OTHER}{path}", headers=theirs).status_code == 404
        assert world.client.get(f"/v1/shops/{SHOP}{path}", headers=theirs).status_code == 404
        assert world.get(path, world.key("read", "pii")).status_code == 403
        assert world.get(path.replace(clear["id"], str(uuid4())), may).status_code == 404
    assert world.client.get(f"/v1/shops/{OTHER}/exports", headers=theirs).json() == {"exports": []}


def test_progress_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_streams, "_FIRST_CHUNK", 3)
    monkeypatch.setattr(export_streams, "_CHUNK", 3)
    monkeypatch.setattr(export_jobs, "NOTE", 0.0)
    headers = world.key("export")
    lines = export_rows.file_rows
    world.sql("CREATE TABLE go (at int)")

    def stopped(*asked: Any) -> Any:
        while not world.sql("SELECT 1 FROM go"):
            time.sleep(0.02)
        world.sql("DELETE FROM go")
        return lines(*asked)

    monkeypatch.setattr(export_streams, "file_rows", stopped)
    ident = ask(world, headers)["id"]
    assert until(world, ident, headers, "running")["done"] == 0
    assert file(world, ident, headers).status_code == 409
    for done in (3, 6):
        world.sql("INSERT INTO go VALUES (1)")
        until_true(lambda done=done: world.get(f"/exports/{ident}", headers).json()["done"] == done)  # type: ignore[misc]
    found = world.get(f"/exports/{ident}", headers).json()
    assert (found["customers"], found["rows"], found["status"]) == (10, 6, "running")
    assert found["bytes"] > 0
    for _ in range(2):
        world.sql("INSERT INTO go VALUES (1)")
        until_true(lambda: not world.sql("SELECT 1 FROM go"))
    assert until(world, ident, headers, "done")["rows"] == 10


def test_progress_is_told_as_it_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_streams, "_FIRST_CHUNK", 3)
    monkeypatch.setattr(export_streams, "_CHUNK", 3)
    monkeypatch.setattr(export_jobs, "NOTE", 0.0)
    lines = export_rows.file_rows

    def slowly(*asked: Any) -> Any:
        time.sleep(0.3)
        return lines(*asked)

    monkeypatch.setattr(export_streams, "file_rows", slowly)
    headers = world.key("export")
    ident = ask(world, headers)["id"]
    path = f"/v1/shops/{SHOP}/exports/{ident}/events"
    told = []
    with world.client.stream("GET", path, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():  # it ends by itself
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
    assert told[-1] == until(world, ident, headers, "done")
    assert [each["done"] for each in told] == sorted(each["done"] for each in told)
    assert {each["done"] for each in told} & {3, 6, 9}
    with world.client.stream("GET", path, headers=headers) as answer:  # of one that is over: that, and the end
        assert [line for line in answer.iter_lines() if line.startswith("event")] == ["event: export"]
    assert world.get(f"/exports/{uuid4()}/events", headers).status_code == 404
    assert world.get(f"/exports/{ident}/events", world.key("read")).status_code == 403


def test_a_restart_ends_none(database: str, tmp_path: Path) -> None:
    """One that was under way and one that waited are made by whoever starts next."""
    with opened(database, data_dir=tmp_path) as world:
        world.program()
        world.customer("1", contact=world.contact("1", "1@x.com"))
        headers = world.key("export")
        with held_up(world):
            asked = [ask(world, headers, points_from=number)["id"] for number in (1, 2)]
            until(world, asked[0], headers, "running")
            world.stop()
        assert [row["status"] for row in world.sql("SELECT status FROM exports ORDER BY asked_at")] == [
            "running",
            "waiting",
        ]
        with opened(database, data_dir=tmp_path) as again:
            for number, ident in enumerate(asked):
                done = until(again, ident, headers, "done")
                assert (done["rows"], done["question"]) == (1, {"points_from": number + 1})
                streamed = again.get("/exports/segments.csv", headers, points_from=number + 1)
                assert file(again, ident, headers).content == streamed.content
            assert len(files(again)) == 2
            assert again.sql("SELECT attempt FROM exports ORDER BY asked_at")[0]["attempt"] == 2
        world.start = lambda: None  # type: ignore[method-assign]


def test_what_ends_without_a_word_each_time_ends(world: World) -> None:
    ident = uuid4()
    row = {"id": ident, "shop": SHOP, "asked_by": "somebody", "way": "job", "asked_at": NOW, "question": "{}"}
    world.insert("exports", **row, scopes=["export"], status="running", attempt=book.ATTEMPTS, started_at=NOW)
    found = until(world, str(ident), world.key("export"), "failed")
    assert found["detail"] == "whoever made it ended without a word"


def test_what_goes_wrong_for_a_while_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_jobs, "AGAIN", 0.1)
    monkeypatch.setattr(export_streams, "READ_SECONDS", 0.5)
    headers = world.key("export")
    with held_up(world):
        ident = ask(world, headers)["id"]
        until_true(lambda: world.sql("SELECT attempt FROM exports")[0]["attempt"] > 1)
    assert until(world, ident, headers, "done", "failed")["status"] == "done"
    assert files(world) == [world.services.exporter.path(_row(world, ident))]


def _row(world: World, ident: str) -> book.Export:
    async def found() -> Any:
        async with world.services.pool.connection() as connection:
            return await book.find(connection, UUID(ident), SHOP)

    row: book.Export = world.run(found())
    return row


def test_a_shop_may_have_so_many_waiting(world: World) -> None:
    headers = world.key("export")
    with held_up(world):
        for _ in range(export_jobs.WAITING):
            ask(world, headers)
        answer = world.client.post(f"/v1/shops/{SHOP}/exports", headers=headers, json={})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    until_true(lambda: not world.sql("SELECT 1 FROM exports WHERE status <> 'done'"))
    ask(world, headers)


def test_a_file_is_kept_for_a_week(world: World) -> None:
    headers = world.key("export")
    ident = until(world, ask(world, headers)["id"], headers, "done")["id"]
    world.sql("UPDATE exports SET kept_until = clock_timestamp() - interval '1 second'")
    answer = file(world, ident, headers)
    assert answer.status_code == 404
    until_true(lambda: files(world) == [])
    found = until(world, ident, headers, "done")
    assert (found["kept_until"], found["detail"]) == (None, book.OVER)
    assert file(world, ident, headers).json()["detail"] == book.OVER


def test_a_file_that_nobody_knows_is_removed(world: World) -> None:
    world.services.exporter.folder.mkdir(parents=True)
    # A copy of somebody's own stays, and keeps no other from going, then or later.
    own = ["mine.csv", f"{uuid4()}.csv", f"{uuid4()} (copy).1.csv", "x.y.z.part"]
    for name in own:
        (world.services.exporter.folder / name).write_bytes(b"x")
    for again in (1, 2):
        for name in (f"{uuid4()}.{again}.csv", f"{uuid4()}.{again}.part"):
            (world.services.exporter.folder / name).write_bytes(b"x")
        until_true(lambda: sorted(path.name for path in files(world)) == sorted(own))


def test_the_sweep_goes_on_whatever_goes_wrong(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.services.exporter.folder.mkdir(parents=True)
    wrong: list[bool] = []

    async def kept_of(*_: Any) -> None:
        if not wrong:
            wrong.append(True)
            raise RuntimeError("once")

    monkeypatch.setattr(book, "kept_of", kept_of)
    (world.services.exporter.folder / f"{uuid4()}.1.csv").write_bytes(b"x")
    until_true(lambda: files(world) == [])
    assert wrong


# --- somebody is forgotten -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_file_outlives_a_redaction(
    world: World, monkeypatch: pytest.MonkeyPatch, way: Callable[[World, Any], None]
) -> None:
    headers = world.key("export", "pii")
    email = EMAIL.format(1)
    world.customer("71", contact=world.contact("71", email))
    ident = until(world, ask(world, headers)["id"], headers, "done")["id"]
    world.program(shop=OTHER)
    theirs = world.key("export", shop=OTHER)
    other = world.client.post(f"/v1/shops/{OTHER}/exports", headers=theirs, json={}).json()["id"]
    until_true(lambda: len(files(world)) == 2)
    assert email.encode() in file(world, ident, headers).content
    way(world, monkeypatch)
    until_true(lambda: [path.name.split(".")[0] for path in files(world)] == [other])
    answer = file(world, ident, headers)
    assert (answer.status_code, answer.json()["detail"]) == (404, book.REDACTED)
    if way is not replay:  # then the sink destroys the key, which is not here
        again = until(world, ask(world, headers)["id"], headers, "done")["id"]
        assert email.encode() not in file(world, again, headers).content


def test_what_is_made_while_somebody_is_forgotten_is_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = world.key("export", "pii")
    lines, made = export_rows.file_rows, list[bytes]()
    world.customer("71", contact=world.contact("71", EMAIL.format(1)))

    def forgotten_meanwhile(*asked: Any) -> Any:
        found = lines(*asked)
        if not made:
            made.append(found[0])
            webhook(world, None)
        return found

    monkeypatch.setattr(export_streams, "file_rows", forgotten_meanwhile)
    ident = ask(world, headers)["id"]
    done = until(world, ident, headers, "done")
    assert EMAIL.format(1).encode() in made[0]
    content = file(world, ident, headers).content
    assert EMAIL.format(1).encode() not in content
    assert b"3@x.com" in content
    assert done["bytes"] == len(content)
    assert [path.name.split(".")[0] for path in files(world)] == [ident]


# --- the list ------------------------------------------------------------------------------------------------------


def test_who_exported_what_is_listed(world: World) -> None:
    reader, admin = world.key("export"), world.key("admin")
    ident = reader["Authorization"].split("_")[1]
    assert world.get("/exports/segments.csv", reader, segment="Loyal", preset="meta").status_code == 200
    job = ask(world, reader, r="5")["id"]
    until(world, job, reader, "done")
    listed = world.get("/exports", admin).json()["exports"]
    told = [
        (each["asked_by"], each["way"], each["question"], each["rows"], each["status"], each["addresses"])
        for each in listed
    ]
    assert told == [
        (ident, "job", {"r": "5"}, 9, "done", False),
        (ident, "stream", {"segment": ["Loyal"], "preset": "meta"}, 2, "done", False),
    ]
    assert listed[0]["id"] == job
    assert listed[1]["bytes"] == len(world.get("/exports/segments.csv", reader, segment="Loyal", preset="meta").content)
    assert world.get("/exports", reader).status_code == 403
    assert world.get(f"/exports/{listed[1]['id']}", reader).status_code == 404  # no job, and no file of it


def test_whoever_has_read_an_export_whole_finds_it_noted(world: World) -> None:
    """Also where the book is slow to note it."""
    world.sql(
        "CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END' LANGUAGE plpgsql"
    )
    world.sql("CREATE TRIGGER slow BEFORE UPDATE ON exports FOR EACH ROW EXECUTE FUNCTION slow()")
    assert world.get("/exports/segments.csv", world.key("export"), segment="Loyal").status_code == 200
    listed = world.get("/exports", world.key("admin")).json()["exports"]
    assert [(each["status"], each["rows"]) for each in listed] == [("done", 4)]


def test_an_export_that_broke_off_is_listed_as_such(world: World) -> None:
    fill(world, 20_000)
    reader, admin = world.key("export"), world.key("admin")
    with world.client.stream("GET", f"/v1/shops/{SHOP}/exports/segments.csv", headers=reader) as answer:
        next(answer.iter_bytes())
    until_true(lambda: world.get("/exports", admin).json()["exports"][0]["status"] == "broken off")


def test_a_stream_whose_process_is_gone_was_broken_off(world: World) -> None:
    row = {"shop": SHOP, "asked_by": "somebody", "way": "stream", "question": "{}", "scopes": ["export"]}
    old, young = uuid4(), uuid4()
    ago = datetime.now(UTC) - timedelta(minutes=2)
    world.insert("exports", **row, id=old, asked_at=ago, status="running", started_at=ago)
    world.insert("exports", **row, id=young, asked_at=ago, status="running", started_at=datetime.now(UTC))
    until_true(lambda: bool(world.sql("SELECT 1 FROM exports WHERE id = %s AND status = 'broken off'", old)))
    assert world.sql("SELECT status FROM exports WHERE id = %s", young)[0]["status"] == "running"


def test_one_that_runs_holds_its_lock(world: World) -> None:
    """Long ago begun, and still streamed: it is somebody's."""
    reader = world.key("export")
    with held_up(world), world.client.stream("GET", f"/v1/shops/{SHOP}/exports/segments.csv", headers=reader) as answer:
        assert answer.status_code == 200
        world.sql("UPDATE exports SET started_at = started_at - interval '1 hour'")

        async def swept() -> None:
            async with world.services.pool.connection() as connection:
                await book.sweep(connection)

        world.run(swept())
        assert world.sql("SELECT status FROM exports") == [{"status": "running"}]
