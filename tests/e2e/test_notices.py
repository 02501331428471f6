"""Notices of a whole LoyalNest: orders in, signed messages out; a rebuild tells nothing again, a kill loses nothing."""

import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from batch import parity
from books import notices
from tests.e2e.up import Up, up, wait
from tests.receivers import receiving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHOP = "told.myshopify.com"


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not under pytest's own folder: the embedded server's user must be able to enter it.
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    yield parent / "data"
    shutil.rmtree(parent, ignore_errors=True)


def _orders(folder: Path, name: str, number: int) -> str:
    """Orders of the last days, as a file."""
    today = datetime.now(UTC).date()
    lines = [f"{n % 20 + 1},{today - timedelta(days=n % 9 + 1)},{n % 70 + 1}.50" for n in range(number)]
    file = folder.parent / name
    file.write_text("customer,date,amount\n" + "\n".join(lines) + "\n")
    return str(file)


def _sql(stack: Up, query: str, *parameters: Any) -> list[Any]:
    with psycopg.connect(stack.settings().database_url()) as connection:
        cursor = connection.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def _create(stack: Up, key: str, url: str) -> dict[str, Any]:
    body = {"url": url, "events": sorted(notices.EVENTS)}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    address = f"{stack.announced['api']}/v1/shops/{SHOP}/webhooks"
    asked = urllib.request.Request(address, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        made: dict[str, Any] = json.load(answer)
    return made


def test_what_orders_change_is_told_once_whatever_is_rebuilt_or_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Up.SETTINGS, "notices_private", "true")
    with receiving() as receiver, up(folder) as stack:
        stack.run("shops", "add", "told")
        made = _create(stack, stack.run("keys", "create", "told", "--scope", "admin").strip(), receiver.url())
        _sql(stack, "UPDATE notice_endpoints SET created_at = 'epoch'")  # these orders are some days old

        def all_told() -> bool:
            """Everything that the sink has stored is told, and nothing waits."""
            stored = "(SELECT count(*) FROM points_transactions) + (SELECT count(*) FROM rfm_segment_deltas)"
            ((missing, waiting),) = _sql(
                stack,
                f"SELECT {stored} - (SELECT count(*) FROM notices WHERE event <> 'batch.done'),"
                " (SELECT count(*) FROM notices WHERE status <> 'done')",
            )
            return bool((missing, waiting) == (0, 0))

        stack.run("play", _orders(folder, "first.csv", 60), "--shop", "told")
        wait(lambda: not parity.main(stack.settings(), SHOP) and all_told(), what="all of it told")
        assert len(receiver.got) >= 60
        for each in receiver.got:
            assert each.verified(made["secret"])["data"]["shop"] == SHOP
        assert len(set(receiver.ids)) == len(receiver.ids)

        before = list(receiver.ids)
        assert "empty" in stack.run("rebuild")
        wait(lambda: not parity.main(stack.settings(), SHOP), what="parity")
        stack.run("batch", "segments", "--shop", "told")
        wait(lambda: json.loads(receiver.got[-1].body)["type"] == "batch.done", what="word of the batch")
        since = [json.loads(each.body) for each in receiver.got[len(before) :]]
        posted = [each for each in since if each["type"] == "points.posted"]
        assert posted == [], "what was told before is told again"
        # The batch's cut points may move somebody; nothing that had happened before is told.
        assert {each["data"]["cause"].split()[0] for each in since if each["type"] == "segment.changed"} <= {"rescore"}

        stack.kill("notices")
        stack.run("play", _orders(folder, "second.csv", 61), "--shop", "told")
        wait(lambda: not _sql(stack, "SELECT 1 FROM notices WHERE status <> 'done'"), what="all of it told")
        wait(lambda: not parity.main(stack.settings(), SHOP), what="parity")
        wait(lambda: not _sql(stack, "SELECT 1 FROM notices WHERE status <> 'done'"), what="all of it told")
        told = {json.loads(each.body)["data"].get("source_id") for each in receiver.got} - {None}
        stored = {source for (source,) in _sql(stack, "SELECT DISTINCT source_id FROM points_transactions")}
        assert told == stored
        assert len(stored) > 60


def test_whose_points_run_out_soon_is_told_by_the_batch_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Up.SETTINGS, "notices_private", "true")
    with receiving() as receiver, up(folder) as stack:
        stack.run("shops", "add", "told", "--life-days", "14")
        made = _create(stack, stack.run("keys", "create", "told", "--scope", "admin").strip(), receiver.url())
        stack.run("play", _orders(folder, "first.csv", 60), "--shop", "told")
        wait(lambda: not parity.main(stack.settings(), SHOP), what="parity")

        def batch() -> list[dict[str, Any]]:
            """What is told of points that run out, once a batch is over."""
            before = len(_sql(stack, "SELECT 1 FROM notices WHERE event = 'batch.done'"))
            stack.run("batch", "segments", "--shop", "told")
            done = "SELECT 1 FROM notices WHERE event = 'batch.done' AND status = 'done'"
            wait(lambda: len(_sql(stack, done)) > before, what="word of the batch")
            told = [each.verified(made["secret"]) for each in receiver.got]
            return [each["data"] for each in told if each["type"] == "points.expiring"]

        told = batch()
        rows = _sql(stack, "SELECT customer_id, expiring, expires_at FROM customers WHERE expiring > 0")
        assert len(rows) == 20
        assert {(each["customer_id"], each["points"], datetime.fromisoformat(each["expires_at"])) for each in told} == {
            *rows
        }
        assert {each["days"] for each in told} == {7, 30}
        assert batch() == told, "nobody is told twice"
