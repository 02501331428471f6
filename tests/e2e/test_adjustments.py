"""Points given and taken through a whole LoyalNest: by two processes of its API and from the shell, while parts die."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from batch import parity
from runtime.settings import Settings
from streams.publisher import JournalPublisher, KafkaPublisher
from tests.e2e.up import Up, up, wait
from tests.integration.api_world import World, opened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SHOP = "nest.myshopify.com"


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.server)])
def stack(request: pytest.FixtureRequest) -> Iterator[tuple[Up, World]]:
    """A LoyalNest, and another process of its API."""
    # Not under pytest's own folder: the embedded server's user must be able to enter it.
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    words: tuple[str, ...] = ()
    real: Settings | None = None
    if request.param == "real":
        real = request.getfixturevalue("real")
        words = ("--kafka", real.kafka_servers(), "--database", real.database_url())
    try:
        with up(parent / "data", *words, prefix=real.topic_prefix if real else "") as stack:
            stack.run("shops", "add", SHOP, "--no-batch")
            publisher = KafkaPublisher(real) if real else JournalPublisher(stack.settings())
            with opened(stack.settings().database_url(), publisher) as other:
                yield stack, other
    finally:
        shutil.rmtree(parent, ignore_errors=True)


class Door:
    """One process of the API, asked with a key."""

    def __init__(self, client: httpx.Client, key: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(self, name: str, customer: str = "7", **said: Any) -> httpx.Response:
        headers = self._headers | {"Idempotency-Key": name}
        return self._client.post(f"/v1/shops/{SHOP}/customers/{customer}/adjustments", headers=headers, json=said)

    def take_back(self, name: str) -> httpx.Response:
        return self._client.delete(f"/v1/shops/{SHOP}/customers/7/adjustments/{name}", headers=self._headers)

    def get(self, path: str) -> Any:
        return self._client.get(f"/v1/shops/{SHOP}/customers/7{path}", headers=self._headers).json()

    def balance(self) -> Any:
        return self.get("/account").get("balance")


def test_what_is_asked_for_stands_whoever_asks_again(stack: tuple[Up, World]) -> None:
    running, other = stack
    key = running.run("keys", "create", SHOP, "--scope", "read", "--scope", "adjust").strip()
    with httpx.Client(base_url=running.announced["api"], timeout=30, verify=False) as client:
        one, two = Door(client, key), Door(other.client, key)
        first = one.ask("welcome", points=50)
        assert first.status_code == 201, first.text
        again = two.ask("welcome", points=50)
        assert (again.status_code, again.json()) == (200, first.json())
        assert two.ask("welcome", points=51).status_code == 422
        wait(lambda: two.balance() == 50, what="the balance")

        with ThreadPoolExecutor(8) as threads:
            answers = [threads.submit((one, two)[at % 2].ask, "race", points=10 + at // 4) for at in range(8)]
            told = [each.result() for each in answers]
        good = [each.json()["points"] for each in told if each.status_code in (200, 201)]
        assert {each.status_code for each in told} <= {200, 201, 422}
        assert set(good) == {one.get("/adjustments/race")["points"]}
        wait(lambda: one.balance() == 50 + good[0], what="one of them, once")

        assert two.take_back("welcome").json()["voided_at"] is not None
        wait(lambda: one.balance() == good[0], what="what was taken back")
        assert two.ask("welcome", points=50).json()["voided_at"] is not None, "for ever"

        said = running.run("points", "adjust", SHOP, "7", "-100", "--id", "by-hand", "--reason", "a mistake")
        assert said == "Took 100 points from 7, called by-hand.\n"
        wait(lambda: one.get("/account")["owed"] == 100 - good[0], what="a debt")
        assert "points are owed" in running.run("points", "show", SHOP, "7")

        running.kill("sink")
        late = one.ask("late", points=1000, counts_as_earned=True)
        assert late.status_code in (201, 202), late.text
        wait(lambda: one.get("/adjustments/late").get("stored_at"), what="the sink's return")
        running.kill("worker")
        wait(lambda: one.balance() == 900 + good[0], what="the balance after the worker's end")
        account = one.get("/account")
        assert (account["earned"], account["spent"], account["spendable"]) == (1000, 100, 900 + good[0])
        ledger = [each["points"] for each in one.get("/points")["items"]]
        assert sorted(ledger) == sorted([50, -50, good[0], -100, 1000])

        # Balances of another programme, by id and by address: with what is there they are what the history says.
        file = running.folder.parent / "balances.csv"
        file.write_text("customer,points,date\n7,25,2026-01-05\nada@example.com,60,2026-01-05\n")
        for words in ((), ("--again",)):
            assert "2 customers in" in running.run("import", str(file), "--shop", SHOP, *words)
        wait(lambda: one.balance() == 925 + good[0], what="the balance that was brought in, once")
        deadline = time.monotonic() + 60
        while differences := parity.main(running.settings(), SHOP):
            assert time.monotonic() < deadline, differences
            time.sleep(0.5)
