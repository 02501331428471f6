"""Batch runs over HTTP: what came of each, its gates, and the report."""

import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.integration.api_world import NOW, OTHER, SHOP, World, opened

GATE = {
    "name": "revenue",
    "says": "<i>its</i> change",
    "value": 99.0,
    "low": -50,
    "high": 50,
    "passed": False,
    "why": None,
}
QUALITY = {"measured": {"customers": 7}, "shares": {}, "gates": [GATE], "despite": False}


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as made:
        yield made


def stopped(world: World) -> UUID:
    run = uuid4()
    row = {"id": run, "shop": SHOP, "as_of": NOW, "status": "failed", "detail": "no", "quality": Jsonb(QUALITY)}
    world.insert("batch_runs", **row, started_at=NOW, finished_at=NOW, attempt=2)
    return run


def test_the_newest_runs_come_first_with_their_gates(world: World) -> None:
    world.program()
    first, then = world.batch(NOW - timedelta(days=1), {"1": "Loyal"}), stopped(world)
    answer = world.get("/batches", world.key("read")).json()
    assert [run["id"] for run in answer["runs"]] == [str(then), str(first)]
    assert answer["runs"][0]["gates"] == [GATE]
    assert (answer["runs"][0]["status"], answer["runs"][0]["attempt"]) == ("failed", 2)
    assert answer["runs"][1]["gates"] == []
    assert len(world.get("/batches", world.key("read"), limit=1).json()["runs"]) == 1


def test_the_report_is_a_page_that_loads_nothing(world: World) -> None:
    run = stopped(world)
    page = world.get(f"/batches/{run}/report", world.key("read"))
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "&lt;i&gt;its&lt;/i&gt; change" in page.text
    style = re.search("<style>(.*)</style>", page.text)
    assert style is not None
    allowed = b64encode(sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{allowed}'" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"(src|href)=|https?:", page.text)


def test_a_report_is_of_its_own_shop_alone(world: World) -> None:
    run = stopped(world)
    theirs = world.client.get(f"/v1/shops/{OTHER}/batches/{run}/report", headers=world.key("read", shop=OTHER))
    assert theirs.status_code == 404
    assert world.get(f"/batches/{run}/report", world.key("read", shop=OTHER)).status_code in (403, 404)
    assert world.get(f"/batches/{uuid4()}/report", world.key("read")).status_code == 404


def test_readiness_tells_of_shops_whose_newest_batch_was_stopped(world: World) -> None:
    world.program()
    world.batch(NOW - timedelta(days=1), {})
    assert world.client.get("/readyz").json()["stopped"] == 0
    stopped(world)
    answer = world.client.get("/readyz")
    assert (answer.status_code, answer.json()["stopped"]) == (200, 1)
