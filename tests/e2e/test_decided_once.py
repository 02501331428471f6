"""Redeeming as a shop's pages do it, and deductions that are asked for, through the real stream: decided once, whoever
asks and whatever is killed."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from batch import parity
from runtime.settings import Settings
from streams.publisher import JournalPublisher, KafkaPublisher
from tests.e2e.up import Up, up, wait
from tests.integration.api_world import opened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

SHOP = "nest.myshopify.com"
PROGRAM = {
    "shop": SHOP,
    "currency": "USD",
    "batch_at": None,
    "rules": [{"points_per_unit": "1"}],
    "rewards": [{"reward_id": "ten", "cost": 10, "kind": "shipping", "name": "ten", "effective_from": None}],
}


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.server)])
def stack(request: pytest.FixtureRequest) -> Iterator[Up]:
    # Not under pytest's own folder: the embedded server's user must be able to enter it.
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    words: tuple[str, ...] = ()
    prefix = ""
    if request.param == "real":
        real: Settings = request.getfixturevalue("real")
        words = ("--kafka", real.kafka_servers(), "--database", real.database_url())
        prefix = real.topic_prefix
    try:
        with up(parent / "data", *words, prefix=prefix) as stack:
            yield stack
    finally:
        shutil.rmtree(parent, ignore_errors=True)


class Client:
    """Who asks for customer 7, at any process of the API."""

    def __init__(self, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}

    def _ask(self, api: str, method: str, path: str, body: Any, name: str | None = None) -> httpx.Response:
        headers = self._headers | ({"Idempotency-Key": name} if name else {})
        url = f"{api}/v1/shops/{SHOP}{path}"
        # verify=False: the certificates it would load take longer than the test.
        with httpx.Client(timeout=30, verify=False) as client:
            return client.request(method, url, headers=headers, json=body)

    def program(self, api: str) -> int:
        return self._ask(api, "PUT", "/program", PROGRAM).status_code

    def give(self, api: str, points: int, name: str) -> int:
        return self._ask(api, "POST", "/customers/7/adjustments", {"points": points}, name).status_code

    def take(self, api: str, points: int, name: str) -> httpx.Response:
        return self._ask(api, "POST", "/customers/7/adjustments", {"points": -points, "check": True}, name)

    def redeem(self, api: str, name: str) -> httpx.Response:
        return self._ask(api, "POST", "/customers/7/redemptions", {"reward_id": "ten"}, name)

    def read(self, api: str, name: str) -> Any:
        return self._ask(api, "GET", f"/customers/7/redemptions/{name}", None).json()

    def cancel(self, api: str, name: str) -> httpx.Response:
        return self._ask(api, "POST", f"/customers/7/redemptions/{name}/cancel", None)


def rows(stack: Up, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(stack.settings().database_url(), row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


def decisions(stack: Up) -> list[str]:
    found = rows(stack, "SELECT webhook_id FROM raw_events WHERE webhook_topic = 'account/decision'")
    return sorted(row["webhook_id"].removeprefix("decision/") for row in found)


def table(stack: Up) -> list[dict[str, Any]]:
    decided = "request_id, accepted, reason, cost, balance, seq, requested_at, decided_at, status, points"
    return rows(stack, f"SELECT {decided} FROM redemptions ORDER BY request_id")


def balance(stack: Up, wanted: int) -> None:
    """The account and the ledger become this, and all tables what the history says."""
    ledger = "SELECT balance = %s AND balance = (SELECT sum(points) FROM points_transactions) AS same FROM customers"
    wait(lambda: rows(stack, ledger % wanted) == [{"same": True}], what=f"a balance of {wanted}")
    wait(lambda: not parity.main(stack.settings(), SHOP), what="parity")


def settled(client: Client, stack: Up, name: str) -> Any:
    """What is decided of a redemption, however long that takes."""
    wait(lambda: client.read(stack.announced["api"], name).get("decided_at"), what=f"the decision of {name}")
    return client.read(stack.announced["api"], name)


def is_embedded(stack: Up) -> bool:
    return (stack.folder / "postgres").exists()


def at_once_by_two_processes(client: Client, stack: Up) -> list[httpx.Response]:
    """One name, eight times at once, at the API that is up and at another one."""
    settings = stack.settings().model_copy(update={"topic_prefix": stack._settings["topic_prefix"]})
    publisher = JournalPublisher(settings) if is_embedded(stack) else KafkaPublisher(settings)
    with opened(settings.database_url(), publisher) as other, ThreadPoolExecutor(8) as threads:
        apis = (stack.announced["api"], str(other.client.base_url).rstrip("/"))
        asked = [threads.submit(client.redeem, apis[at % 2], "at-once") for at in range(8)]
        return [each.result() for each in asked]


def kill_before_the_answer(stack: Up, ask: Callable[[str], httpx.Response], claims: str) -> httpx.Response:
    """The worker stands still when it is asked, and dies by kill -9."""
    worker = stack.pid("worker")
    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask, stack.announced["api"])
        wait(lambda: rows(stack, f"SELECT 1 FROM {claims}"), what="the request")
        stack.kill("worker")
        return asked.result()


def test_a_reward_is_decided_once(stack: Up) -> None:
    api = stack.announced["api"]
    scopes = [word for scope in ("admin", "adjust", "redeem", "read") for word in ("--scope", scope)]
    client = Client(stack.run("keys", "create", SHOP, *scopes).strip())
    assert client.program(api) == 202
    wait(lambda: rows(stack, "SELECT 1 FROM programs"), what="the program")
    assert client.give(api, 25, "gift") == 201

    assert client.redeem(api, "a").json()["balance"] == 25
    told = at_once_by_two_processes(client, stack)
    assert [each.status_code for each in told] == [201] * 8
    assert len({each.text for each in told}) == 1
    refused = client.redeem(api, "b")
    assert (refused.status_code, refused.json()["balance"]) == (409, 5)
    assert client.redeem(api, "b").text == refused.text

    assert client.cancel(api, "a").json()["status"] == "returned"
    assert client.redeem(api, "c").json()["balance"] == 15, "its points are back"
    assert decisions(stack) == ["a", "at-once", "b", "c"]

    assert client.give(api, 10, "more") == 201
    killed = kill_before_the_answer(stack, lambda at: client.redeem(at, "d"), "redemption_claims")
    assert killed.status_code in (201, 202), killed.text
    assert settled(client, stack, "d")["status"] == "reserved"
    assert client.redeem(api, "d").status_code == 201
    balance(stack, 5)

    killed = kill_before_the_answer(stack, lambda at: client.take(at, 4, "t"), "award_claims")
    assert killed.status_code in (201, 202), killed.text
    wait(lambda: "checked/t" in decisions(stack), what="the decision of t")
    taken, lacking = client.take(api, 4, "t"), client.take(api, 2, "u")
    assert (taken.status_code, taken.json()["balance"], lacking.status_code, lacking.json()["balance"]) == (
        200,
        5,
        409,
        1,
    )
    balance(stack, 1)

    all_decisions = ["a", "at-once", "b", "c", "checked/t", "checked/u", "d", "e"]
    before = table(stack)
    assert stack.stop() == 0
    stack.start()
    api = stack.announced["api"]
    assert client.redeem(api, "d").status_code == 201, "while history may still be told"
    assert client.redeem(api, "b").text == refused.text
    assert client.take(api, 4, "t").text == taken.text
    assert client.take(api, 2, "u").text == lacking.text
    waited = client.redeem(api, "e")
    assert waited.status_code in (202, 409), waited.text
    assert settled(client, stack, "e")["reason"] == "insufficient-points"
    balance(stack, 1)
    assert [row for row in table(stack) if row["request_id"] != "e"] == before
    assert decisions(stack) == all_decisions

    if is_embedded(stack):  # of real servers a rebuild ends first what runs
        before = table(stack)
        assert "empty" in stack.run("rebuild")
        assert client.redeem(api, "c").status_code in (201, 202), "whatever of it is there just now"
        wait(lambda: table(stack) == before, what="the decisions that there were")
        assert client.redeem(api, "c").status_code == 201
        balance(stack, 1)
        assert decisions(stack) == all_decisions
