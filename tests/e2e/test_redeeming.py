"""Redemptions of a whole LoyalNest: points spent, a code in the store, an order that uses it, and what comes back."""

import asyncio
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.commands import common
from cli.commands.shops import ensure
from events import codec, instants, keys, topics
from events.messages import Message
from events.programs import Program
from tests import shopify_admin
from tests.e2e.up import Up, up, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHOP = "spent.myshopify.com"
PROGRAM = {
    "shop": SHOP,
    "currency": "USD",
    "zone": "UTC",
    "rules": [{"points_per_unit": "1"}],
    "rewards": [
        {"reward_id": "ten", "cost": 500, "kind": "amount", "value": "10", "name": "10 off", "valid_days": 30},
        {"reward_id": "back", "cost": 400, "kind": "shipping", "name": "free", "valid_days": 1, "unused": "return"},
    ],
}


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not under pytest's own folder: the embedded server's user must be able to enter it.
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    yield parent / "data"
    shutil.rmtree(parent, ignore_errors=True)


def _now() -> int:
    return instants.from_datetime(datetime.now(UTC))


def order(order_id: int, customer_id: int, amount: int, *codes: str) -> Message:
    """A paid order of some minutes ago, with the codes it was given."""
    at = instants.text(_now() - 60_000_000)
    payload = {
        "id": order_id,
        "created_at": at,
        "updated_at": at,
        "financial_status": "paid",
        "currency": "USD",
        "customer": {"id": customer_id},
        "current_subtotal_price": str(amount),
        "subtotal_price": str(amount),
        "discount_codes": [{"code": code} for code in codes],
    }
    envelope = {
        "topic": "orders/paid",
        "shop": SHOP,
        "webhook_id": f"order-{order_id}",
        "event_id": None,
        "api_version": None,
        "triggered_at": at,
        "received_at": at,
        "payload": payload,
    }
    return Message(topics.ORDERS, keys.join(SHOP, str(order_id)), codec.dumps(envelope))


class Shop:
    """A shop of a running LoyalNest whose store is a fake one; without, it hands its codes out by its own means."""

    def __init__(self, stack: Up, store: shopify_admin.Store | None) -> None:
        self.stack = stack
        self._settings = stack.settings().model_copy(update={"journal": True})
        assert ensure(self._settings, Program.model_validate(PROGRAM))
        if store is not None:
            token = stack.folder.parent / "token"
            token.write_text(shopify_admin.TOKEN)
            stack.run("fulfilment", "set", "spent", "--token-file", str(token), "--endpoint", store.url())
        scopes = [word for scope in ("read", "redeem", "fulfil") for word in ("--scope", scope)]
        self._key = stack.run("keys", "create", "spent", *scopes).strip()

    def publish(self, *messages: Message) -> None:
        async def publishing() -> None:
            async with common.publishing(self._settings) as publisher:
                await publisher.publish(messages)

        asyncio.run(publishing())

    def redeem(self, request_id: str, customer_id: int, reward_id: str = "ten") -> None:
        self._post(customer_id, "", {"reward_id": reward_id}, {"Idempotency-Key": request_id})

    def cancel(self, request_id: str, customer_id: int) -> None:
        self._post(customer_id, f"/{request_id}/cancel", {}, {})

    def hand_out(self, request_id: str, customer_id: int, code: str, until: str) -> None:
        said = {"attempt": 1, "state": "issued", "code": code, "valid_until": until}
        self._post(customer_id, f"/{request_id}/fulfilment", said, {})

    def long_ago(self, request_id: str) -> None:
        """As if its row had been stored when its time was over."""
        self.sql("UPDATE redemptions SET stored_at = valid_until WHERE request_id = %s", request_id)

    def _post(self, customer_id: int, path: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        address = f"{self.stack.announced['api']}/v1/shops/{SHOP}/customers/{customer_id}/redemptions{path}"
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", **headers}
        with urllib.request.urlopen(urllib.request.Request(address, codec.dumps(body), headers), timeout=30) as answer:
            assert answer.status in (200, 201)

    def sql(self, query: str, *parameters: Any) -> list[Any]:
        with psycopg.connect(self.stack.settings().database_url()) as connection:
            cursor = connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def redemptions(self) -> list[Any]:
        return self.sql("SELECT customer_id, request_id, status, code FROM redemptions ORDER BY 1, 2")

    def becomes(self, request_id: str, customer_id: int, status: str, balance: int) -> Any:
        """Waits until a request has a status and its customer a balance; the request's code."""
        whose = (SHOP, str(customer_id))
        asked = "SELECT status, code FROM redemptions WHERE shop = %s AND customer_id = %s AND request_id = %s"
        wait(lambda: [row[0] for row in self.sql(asked, *whose, request_id)] == [status], what=f"{request_id} {status}")
        self.balance(customer_id, balance)
        return self.sql(asked, *whose, request_id)[0][1]

    def balance(self, customer_id: int, balance: int) -> None:
        asked = "SELECT balance FROM customers WHERE shop = %s AND customer_id = %s"
        wait(lambda: self.sql(asked, SHOP, str(customer_id)) == [(balance,)], what=f"a balance of {balance}")


def test_points_become_one_code_that_is_used_and_come_back_where_there_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Up.SETTINGS, "fulfilment_private", "true")
    with shopify_admin.store() as store, up(folder) as stack:
        shop = Shop(stack, store)
        shop.publish(order(1, 7, 2000), order(2, 8, 600))
        shop.balance(7, 2000)
        shop.balance(8, 600)

        shop.redeem("first", 7)
        code = shop.becomes("first", 7, "issued", 1500)
        assert list(store.discounts) == [code]
        shop.publish(order(3, 7, 90, code.lower()))
        assert shop.becomes("first", 7, "used", 1590) == code

        store.strangers.add("gid://shopify/Customer/8")
        shop.redeem("first", 8)
        assert shop.becomes("first", 8, "returned", 600) is None

        store.always = "slow"  # made at once, and answered when nobody listens any more
        shop.redeem("second", 7)
        wait(lambda: len(store.discounts) == 2, what="the code in the store")
        stack.kill("fulfilment")
        store.always = "ok"
        assert shop.sql("SELECT status FROM redemptions WHERE request_id = 'second'") == [("reserved",)]
        shop.sql("UPDATE fulfilment_work SET held_until = now()")  # as if its lease were over
        second = shop.becomes("second", 7, "issued", 1090)
        assert list(store.discounts) == [code, second]
        assert shop.sql("SELECT attempts FROM fulfilment_work WHERE request_id = 'second'") == [(2,)]

        shop.cancel("second", 7)
        shop.becomes("second", 7, "returned", 1590)
        wait(lambda: store.withdrawn() == [second], what="the code to be of no use")

        before, asked = shop.redemptions(), len(store.asked)
        assert "empty" in stack.run("rebuild")
        wait(lambda: shop.redemptions() == before, what="what became of each before")
        shop.balance(7, 1590)
        shop.balance(8, 600)
        assert len(store.asked) == asked


def test_what_was_given_up_is_used_by_an_order_that_bears_its_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Up.SETTINGS, "fulfilment_private", "true")
    with shopify_admin.store() as store, up(folder) as stack:
        shop = Shop(stack, store)
        shop.publish(order(1, 7, 600))
        shop.balance(7, 600)
        store.always = "502 after it worked"
        shop.redeem("lost", 7)
        wait(lambda: shop.sql("SELECT 1 FROM fulfilment_work WHERE last_error = 'status 502'"), what="a failure")
        a_day_ago = datetime.now(UTC) - timedelta(hours=25)
        shop.sql("UPDATE fulfilment_work SET failing_since = %s, due_at = now()", a_day_ago)
        code = shop.becomes("lost", 7, "returned", 600)
        assert list(store.discounts) == [code]
        shop.publish(order(2, 7, 50, code))
        assert shop.becomes("lost", 7, "used", 150) == code


def test_what_nobody_used_in_time_comes_back_without_a_store_too_until_a_late_order_has_used_it(folder: Path) -> None:
    said = """
    SELECT value::jsonb #>> '{payload,request_id}' FROM raw_events
    WHERE webhook_topic = 'account/cancel' AND value::jsonb #>> '{payload,reason}' = 'unused' ORDER BY 1
    """
    with up(folder) as stack:
        shop = Shop(stack, None)
        shop.publish(order(1, 7, 2000))
        shop.balance(7, 2000)
        for request_id, reward_id in (("lost", "ten"), ("late", "back"), ("back", "back")):
            shop.redeem(request_id, 7, reward_id)
            shop.hand_out(request_id, 7, f"own-{request_id}", instants.text(_now() - 7_200_000_000))
        for request_id, balance in (("lost", 700), ("late", 1100), ("back", 1500)):
            shop.long_ago(request_id)
            if request_id != "lost":
                shop.becomes(request_id, 7, "returned", balance)
        assert shop.sql("SELECT returned_reason FROM redemptions WHERE request_id = 'back'") == [("unused",)]
        shop.becomes("lost", 7, "issued", 1500)
        shop.publish(order(2, 7, 30, "OWN-late"))
        assert shop.becomes("late", 7, "used", 1130) == "own-late"

        stack.kill("fulfilment")
        shop.redeem("last", 7, "back")
        shop.hand_out("last", 7, "own-last", instants.text(_now() - 7_200_000_000))
        shop.long_ago("last")
        shop.becomes("last", 7, "returned", 1130)

        before = shop.redemptions()
        assert "empty" in stack.run("rebuild")
        wait(lambda: shop.redemptions() == before, what="what became of each before")
        shop.balance(7, 1130)
        assert [name for (name,) in shop.sql(said)] == ["back", "last", "late"]
