"""Discounts of redemptions, from the table to a store that behaves as Shopify does: made once and told."""

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from books import fulfilment, unused
from books.unused import Over
from events import instants
from fulfilment import admin, codes
from fulfilment import main as fulfilling
from fulfilment.door import Fulfilment
from tests import killed, shopify_admin
from tests.integration.api_world import OTHER, PROGRAM, SHOP, World, opened
from tests.processes import Forked
from tests.shopify_admin import TOKEN, Store
from tests.sinks import wait


def _reward(reward_id: str, kind: str = "amount", value: str | None = "10", **more: Any) -> dict[str, Any]:
    return {"reward_id": reward_id, "cost": 500, "kind": kind, "value": value, "name": "It", **more}


REWARDS = [
    _reward("ten", valid_days=30, min_order="40"),
    _reward("tenth", "percent"),
    _reward("parcel", "shipping", None),
    _reward("cup", "product", None, product_id="11"),
    _reward("mug", "product", None, product_id="12"),
    _reward("credit", "store_credit"),
    _reward("past", until="2026-01-01T00:00:00Z"),
    _reward("back", valid_days=1, unused="return"),
    # Of these the points came back, and since an instant do not, or the other way about; of the last as long as it was.
    _reward("was", unused="return"),
    _reward("was", effective_from="2026-10-01T00:00:00Z"),
    _reward("will"),
    _reward("will", effective_from="2026-10-01T00:00:00Z", unused="return"),
    _reward("twice", effective_from="2026-10-01T00:00:00Z", until="2026-10-02T00:00:00Z", unused="return"),
]


@contextmanager
def _opened(url: str) -> Iterator[World]:
    with opened(url, fulfilment_private=True) as running:
        for shop in (SHOP, OTHER):
            running.program(**{**PROGRAM, "shop": shop, "rewards": REWARDS})
        yield running


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with _opened(database) as running:
        yield running


@pytest.fixture(params=["database", pytest.param("real_database", marks=pytest.mark.server)])
def anywhere(request: pytest.FixtureRequest) -> Iterator[World]:
    """As `world`, on a real server as well."""
    with _opened(str(request.getfixturevalue(request.param))) as running:
        yield running


@pytest.fixture
def store() -> Iterator[Store]:
    with shopify_admin.store() as found:
        yield found


def switch_on(world: World, store: Store, shop: str = SHOP, token: str = TOKEN) -> None:
    async def setting() -> None:
        sealed = await world.services.vault.seal_token(shop, token)
        assert sealed is not None
        async with world.services.pool.connection() as connection:
            await fulfilment.set_store(connection, shop, store.url(), sealed)

    world.run(setting())


def redeem(world: World, request_id: str, reward_id: str = "ten", shop: str = SHOP, **more: Any) -> str:
    """An accepted redemption as the sink would store it."""
    now = datetime.now(UTC)
    row = {
        "shop": shop,
        "request_id": request_id,
        "customer_id": "7",
        "reward_id": reward_id,
        "cost": 500,
        "decided_at": now,
        "requested_at": now,
        "seq": 1,
        "accepted": True,
        "balance": 700,
        "forced": False,
        "status": "reserved",
        "points": -500,
        "revision": "a",
        **more,
    }
    world.insert("redemptions", **row)
    return request_id


class Listening:
    """A door that remembers, and folds what it is told into the table, as worker and sink would."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ended: list[Over] = []
        self.told: list[tuple[str, str, Fulfilment]] = []
        self.failing = 0
        self.well = True
        self.broken: str | None = None

    async def tell(self, shop: str, customer_id: str, fact: Fulfilment) -> None:
        if self.failing:
            self.failing -= 1
            raise ConnectionError("the log is away")
        self.told.append((shop, customer_id, fact))
        status = "issued" if fact["state"] == "issued" else "returned"
        query = "UPDATE redemptions SET status = %s WHERE (shop, customer_id, request_id) = (%s, %s, %s)"
        await asyncio.to_thread(self.world.sql, query, status, shop, customer_id, fact["request_id"])

    async def over(self, found: Sequence[Over]) -> None:
        if self.failing:
            self.failing -= 1
            raise ConnectionError("the log is away")
        self.ended += found
        query = """
        UPDATE redemptions SET status = 'returned', returned_reason = 'unused'
        WHERE (shop, customer_id, request_id) = (%s, %s, %s)
        """
        for each in found:
            await asyncio.to_thread(self.world.sql, query, *each)

    async def ready(self) -> bool:
        return self.well

    def failed(self) -> str | None:
        return self.broken

    def facts(self) -> dict[str, Fulfilment]:
        return {fact["request_id"]: fact for _, _, fact in self.told}


@contextmanager
def working(world: World, **changes: Any) -> Iterator[Listening]:
    """Who makes discounts, in a thread."""
    settings = world.services.settings.model_copy(update=changes)
    door = Listening(world)
    ready: list[tuple[fulfilling.Fulfiller, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        made = fulfilling.Fulfiller(settings, door)
        ready.append((made, asyncio.get_running_loop()))
        await made.run()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    wait(lambda: bool(ready))
    fulfiller, loop = ready[0]
    try:
        yield door
    finally:
        loop.call_soon_threadsafe(fulfiller.end)
        thread.join(30)
        assert not thread.is_alive()


def now_due(world: World) -> None:
    """As if the waits were over."""
    world.sql("UPDATE fulfilment_work SET due_at = now() WHERE finished_at IS NULL")
    world.sql("UPDATE fulfilment_shops SET rests_until = now()")


def work(world: World, request_id: str) -> dict[str, Any]:
    found = world.sql("SELECT * FROM fulfilment_work WHERE request_id = %s", request_id)
    return found[0] if found else {"attempts": 0, "last_error": None, "outcome": None, "finished_at": None}


def shop_row(world: World, shop: str = SHOP) -> dict[str, Any]:
    found: dict[str, Any] = world.sql("SELECT * FROM fulfilment_shops WHERE shop = %s", shop)[0]
    return found


def code_of(world: World, request_id: str, shop: str = SHOP, customer_id: str = "7") -> str:
    return codes.code(world.run(world.services.vault.code_digest(shop, customer_id, request_id)))


# --- made --------------------------------------------------------------------------------------------------------


def test_a_redemption_becomes_a_discount_and_is_told_once(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world) as door:
        redeem(world, "r-1")
        wait(lambda: len(door.told) == 1)
        wait(lambda: work(world, "r-1")["finished_at"] is not None)
    code = code_of(world, "r-1")
    (asked,) = store.asked
    discount = asked.variables["discount"]
    assert (asked.path, discount["code"], discount["title"]) == (
        "/admin/api/2026-10/graphql.json",
        code,
        "LoyalNest reward r-1",
    )
    assert discount["minimumRequirement"] == {"subtotal": {"greaterThanOrEqualToSubtotal": "40"}}
    until = instants.to_datetime(instants.parse(discount["endsAt"]))
    assert abs(until - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=1)
    told: Fulfilment = {
        "request_id": "r-1",
        "attempt": 1,
        "state": "issued",
        "code": code,
        "valid_until": discount["endsAt"],
        "reason": None,
    }
    assert door.told == [(SHOP, "7", told)]


def test_two_customers_who_call_their_requests_the_same_have_a_code_each(world: World, store: Store) -> None:
    switch_on(world, store)
    for customer_id in ("7", "8"):
        redeem(world, "r-1", customer_id=customer_id)
    with working(world) as door:
        wait(lambda: len(door.told) == 2)
        wait(lambda: not world.sql("SELECT 1 FROM fulfilment_work WHERE finished_at IS NULL"))
    told = {customer_id: fact["code"] for _, customer_id, fact in door.told}
    assert told == {customer_id: code_of(world, "r-1", customer_id=customer_id) for customer_id in ("7", "8")}
    made = {code: each["input"]["context"]["customers"]["add"] for code, each in store.discounts.items()}
    assert made == {code: [f"gid://shopify/Customer/{customer_id}"] for customer_id, code in told.items()}
    rows = world.sql("SELECT customer_id, attempts, code FROM fulfilment_work ORDER BY 1")
    assert rows == [{"customer_id": each, "attempts": 1, "code": told[each]} for each in ("7", "8")]


def test_each_kind_is_made_and_what_cannot_be_fails_at_once(world: World, store: Store) -> None:
    switch_on(world, store)
    kinds = ("tenth", "parcel", "cup", "mug", "credit", "past", "unknown")
    for reward_id in kinds:
        redeem(world, f"r-{reward_id}", reward_id)
    redeem(world, "r-mail", customer_id="mail-" + "0" * 32)
    with working(world) as door:
        wait(lambda: len(door.told) == len(kinds) + 1)
    facts = door.facts()
    assert {name: fact["reason"] for name, fact in facts.items() if fact["state"] == "failed"} == {
        "r-mug": "product_not_found",
        "r-credit": "unsupported",
        "r-past": "unknown_reward",
        "r-unknown": "unknown_reward",
        "r-mail": "customer_not_found",
    }
    made = {each["input"]["title"].rpartition("-")[2]: each for each in store.discounts.values()}
    assert set(made) == {"tenth", "parcel", "cup"}
    assert made["tenth"]["input"]["customerGets"]["value"] == {"percentage": 0.1}
    assert made["parcel"]["type"] == "DiscountCodeFreeShipping"
    assert made["cup"]["input"]["customerGets"]["value"]["discountAmount"]["amount"] == "24.50"
    assert all(facts[f"r-{name}"]["valid_until"] is None for name in made)


def test_nothing_is_made_where_it_is_not_on(world: World, store: Store) -> None:
    switch_on(world, store)
    redeem(world, "r-other", shop=OTHER)
    for status in ("refused", "issued", "used", "returned"):
        redeem(world, f"r-{status}", status=status)
    with working(world) as door:
        redeem(world, "r-1")
        wait(lambda: len(door.told) == 1)

        async def off() -> None:
            async with world.services.pool.connection() as connection:
                assert await fulfilment.off(connection, SHOP)

        world.run(off())
        redeem(world, "r-2")
        switch_on(world, store, OTHER)
        wait(lambda: len(door.told) == 2)
    assert {request: shop for shop, _, fact in door.told for request in [fact["request_id"]]} == {
        "r-1": SHOP,
        "r-other": OTHER,
    }
    assert len(store.discounts) == 2
    assert shop_row(world)["token"] is None


@pytest.mark.parametrize(
    "way", ["drop after it worked", "502 after it worked", "slow", "drop", "502", "garbage", "500"]
)
def test_whatever_happens_to_an_answer_there_is_one_discount(
    world: World, store: Store, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "SECONDS", 1.0)
    switch_on(world, store)
    store.ways.append(way)
    redeem(world, "r-1")
    with working(world) as door:
        wait(lambda: work(world, "r-1")["last_error"] is not None)
        failed = work(world, "r-1")
        assert failed["attempts"] == 1
        assert failed["due_at"] - datetime.now(UTC) <= timedelta(seconds=6.25)
        now_due(world)
        wait(lambda: len(door.told) == 1)
    (fact,) = door.facts().values()
    (made,) = store.discounts.values()
    assert fact == {
        "request_id": "r-1",
        "attempt": 2,
        "state": "issued",
        "code": code_of(world, "r-1"),
        "valid_until": made["input"]["endsAt"],
        "reason": None,
    }
    assert shop_row(world)["failures"] == 0


def test_a_code_of_ours_that_is_there_counts_as_made_and_somebody_elses_does_not(world: World, store: Store) -> None:
    switch_on(world, store)
    me, another = "gid://shopify/Customer/7", "gid://shopify/Customer/8"
    until = "2026-12-24T12:00:00Z"
    store.have(code_of(world, "r-ours"), "LoyalNest reward r-ours", [me], until)
    store.have(code_of(world, "r-title"), "Christmas", [me])
    store.have(code_of(world, "r-customer"), "LoyalNest reward r-customer", [another])
    for request in ("r-ours", "r-title", "r-customer"):
        redeem(world, request)
    with working(world) as door:
        wait(lambda: len(door.told) == 3)
    facts = door.facts()
    assert (facts["r-ours"]["state"], facts["r-ours"]["valid_until"]) == ("issued", until)
    for request in ("r-title", "r-customer"):
        assert (facts[request]["state"], facts[request]["reason"]) == ("failed", "code_taken")
        assert facts[request]["code"] is None


def test_what_will_never_pass_fails_at_once(world: World, store: Store) -> None:
    switch_on(world, store)
    store.strangers.add("gid://shopify/Customer/9")
    redeem(world, "r-stranger", customer_id="9")
    with working(world) as door:
        wait(lambda: len(door.told) == 1)
        store.errors = [shopify_admin._error("VALUE_OUTSIDE_RANGE", "basicCodeDiscount", "customerGets")]
        redeem(world, "r-invalid")
        wait(lambda: len(door.told) == 2)
        store.errors = [shopify_admin._error("INTERNAL_ERROR", "basicCodeDiscount")]
        redeem(world, "r-passes")
        wait(lambda: work(world, "r-passes")["last_error"] == "internal_error")
        store.errors, store.always = [], "denied"
        redeem(world, "r-denied")
        wait(lambda: len(door.told) == 3)
    reasons = {name: fact["reason"] for name, fact in door.facts().items()}
    assert reasons == {"r-stranger": "customer_not_found", "r-invalid": "invalid", "r-denied": "access_denied"}
    assert store.discounts == {}


def test_who_may_not_look_does_not_say_that_it_is_not_there(world: World, store: Store) -> None:
    switch_on(world, store)
    store.have(code_of(world, "r-1"), "LoyalNest reward r-1", ["gid://shopify/Customer/7"])
    store.ways.extend(["ok", "denied"])
    redeem(world, "r-1")
    with working(world) as door:
        wait(lambda: work(world, "r-1")["last_error"] == "access_denied")
        now_due(world)
        wait(lambda: len(door.told) == 1)
    assert door.facts()["r-1"]["state"] == "issued"


# --- a store that is busy, or does not let us in -----------------------------------------------------------------


@pytest.mark.parametrize("way", ["429", "throttled"])
def test_a_busy_store_is_waited_for_and_it_counts_as_no_failure(world: World, store: Store, way: str) -> None:
    switch_on(world, store)
    store.ways.extend([way] * 3)
    store.retry_after = "1.0"
    store.available = 1000.0
    redeem(world, "r-1")
    with working(world) as door:
        wait(lambda: len(door.told) == 1, 30)
    assert door.facts()["r-1"]["attempt"] == 1
    first, *others = [each.at for each in store.asked]
    least = 1.0 if way == "429" else 2.0
    assert all(later - sooner >= least for sooner, later in zip([first, *others], others, strict=False))
    assert (shop_row(world)["failures"], shop_row(world)["rests_why"]) == (0, None)


def test_a_busy_store_holds_up_no_other(world: World, store: Store) -> None:
    with shopify_admin.store() as other:
        store.always, store.retry_after = "429", "60"
        switch_on(world, store)
        switch_on(world, other, OTHER)
        redeem(world, "r-1")
        with working(world) as door:
            wait(lambda: len(store.asked) == 1)
            for number in range(5):
                redeem(world, f"o-{number}", shop=OTHER)
            wait(lambda: len(door.told) == 5)
            assert len(store.asked) == 1
        rest = shop_row(world)["rests_until"] - datetime.now(UTC)
        assert timedelta(seconds=40) < rest <= timedelta(seconds=60)


def test_questions_come_no_faster_than_the_points_of_the_store(world: World, store: Store) -> None:
    store.most = store.available = 20.0
    store.restored = 20.0
    switch_on(world, store)
    for number in range(6):
        redeem(world, f"r-{number}")
    with working(world) as door:
        wait(lambda: len(door.told) == 6, 30)
    assert len(store.asked) == 6, "none was throttled: each waited until there were points"
    took = store.asked[-1].at - store.asked[0].at
    assert took >= 1.5, "40 points beyond those that were there, 20 a second"


@pytest.mark.parametrize("way", ["401", "403", "402", "404", "423"])
def test_a_store_that_does_not_let_us_in_is_left_alone_and_fails_nothing(world: World, store: Store, way: str) -> None:
    switch_on(world, store)
    store.always = way
    redeem(world, "r-1")
    redeem(world, "r-2")
    with working(world) as door:
        wait(lambda: shop_row(world)["rests_why"] == "refused")
        rest = shop_row(world)["rests_until"] - datetime.now(UTC)
        assert timedelta(minutes=59) < rest <= timedelta(hours=1)
        assert [work(world, name)["outcome"] for name in ("r-1", "r-2")] == [None, None]
        metrics = world.client.get("/metrics").text
        assert "loyalnest_fulfilment_shops_stopped 1.0" in metrics
        store.always = "ok"
        switch_on(world, store)
        wait(lambda: len(door.told) == 2)
    assert {fact["attempt"] for fact in door.facts().values()} == {1}
    assert "loyalnest_fulfilment_shops_stopped 0.0" in world.client.get("/metrics").text


def test_a_wrong_token_is_no_secret_in_what_is_kept_or_said(
    world: World, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    switch_on(world, store, token="shpat_wrong")
    redeem(world, "r-1")
    with working(world):
        wait(lambda: shop_row(world)["rests_why"] == "refused")
    for table in ("fulfilment_shops", "fulfilment_work", "customer_keys"):
        assert "shpat_wrong" not in str(world.sql(f"SELECT t::text FROM {table} t"))
    assert "shpat_wrong" not in caplog.text
    assert SHOP in caplog.text


def test_who_set_a_token_anew_is_not_stopped_by_the_old_one(world: World, store: Store) -> None:
    switch_on(world, store, token="shpat_old")
    redeem(world, "r-1")

    async def refused_late() -> None:
        holder = fulfilment.Holder(uuid4(), timedelta(minutes=1), timedelta(days=1))
        async with world.services.pool.connection() as connection:
            await fulfilment.enlist(connection, 1)
            (found,) = await fulfilment.due(connection, [], 1)
            work = await holder.take(connection, SHOP)
            assert work is not None
            await fulfilment.set_store(connection, SHOP, found.endpoint, found.token or "")
            await holder.rest(connection, found, work, "refused", timedelta(hours=1), "status 401")

    world.run(refused_late())
    assert shop_row(world)["rests_until"] is None
    assert work(world, "r-1")["held_by"] is None


def test_a_token_that_cannot_be_read_stops_its_store(world: World, store: Store) -> None:
    switch_on(world, store)
    world.sql("UPDATE fulfilment_shops SET token = 'v1.other'")
    redeem(world, "r-1")
    with working(world):
        wait(lambda: shop_row(world)["rests_why"] == "token")
    assert store.asked == []
    assert "loyalnest_fulfilment_shops_stopped 1.0" in world.client.get("/metrics").text


def test_a_store_that_keeps_failing_rests_and_comes_back(world: World, store: Store) -> None:
    switch_on(world, store)
    store.always = "503"
    for number in range(6):
        redeem(world, f"r-{number}")
    with working(world) as door:
        wait(lambda: shop_row(world)["rests_why"] == "failures")
        assert len(store.asked) == 5
        rest = shop_row(world)["rests_until"] - datetime.now(UTC)
        assert timedelta(seconds=50) < rest <= timedelta(minutes=1)
        store.always = "ok"
        now_due(world)
        wait(lambda: len(door.told) == 6)
    assert (shop_row(world)["failures"], shop_row(world)["rests_until"]) == (0, None)


def test_after_a_day_of_failures_it_is_given_up_and_may_be_there(world: World, store: Store) -> None:
    switch_on(world, store)
    store.always = "502 after it worked"
    redeem(world, "r-1")
    with working(world) as door:
        wait(lambda: work(world, "r-1")["last_error"] == "status 502")
        world.sql("UPDATE fulfilment_work SET failing_since = now() - interval '23 hours'")
        now_due(world)
        wait(lambda: work(world, "r-1")["attempts"] == 2 and work(world, "r-1")["held_by"] is None)
        assert door.told == []
        world.sql("UPDATE fulfilment_work SET failing_since = now() - interval '24 hours'")
        now_due(world)
        wait(lambda: len(door.told) == 1)
    fact = door.facts()["r-1"]
    assert (fact["state"], fact["reason"], fact["code"]) == ("failed", "gave_up", code_of(world, "r-1"))
    assert len(store.discounts) == 1, "nobody heard of it: an order with its code has used it"


def test_what_fails_after_an_attempt_that_nobody_heard_of_may_be_there_too(world: World, store: Store) -> None:
    switch_on(world, store)
    store.ways.extend(["drop after it worked", "denied"])
    redeem(world, "r-1")
    with working(world) as door:
        wait(lambda: work(world, "r-1")["last_error"] is not None)
        now_due(world)
        wait(lambda: len(door.told) == 1)
    fact = door.facts()["r-1"]
    assert (fact["state"], fact["reason"], fact["code"]) == ("failed", "access_denied", code_of(world, "r-1"))
    assert len(store.discounts) == 1


def test_of_a_store_that_is_gone_all_that_waited_is_given_up(world: World, store: Store) -> None:
    switch_on(world, store)
    store.always = "500"
    for number in range(20):
        redeem(world, f"r-{number}")
    with working(world, fulfilment_hours=2) as door:
        wait(lambda: shop_row(world)["rests_why"] == "failures")
        world.sql("UPDATE fulfilment_work SET created_at = now() - interval '3 hours'")
        world.sql("UPDATE fulfilment_shops SET failing_since = now() - interval '3 hours'")
        # Who tried this one was killed, and it may be there: it is given up when its own attempt has failed.
        killed = "SELECT min(request_id) FROM fulfilment_work WHERE attempts = 0"
        tried = "attempts = 1, due_at = now() + interval '1 hour'"
        world.sql(f"UPDATE fulfilment_work SET {tried} WHERE request_id = ({killed})")
        redeem(world, "r-new")
        world.sql("UPDATE fulfilment_shops SET rests_until = now()")
        wait(lambda: len(door.told) == 19)
        wait(lambda: shop_row(world)["rests_until"] > datetime.now(UTC))
    assert work(world, "r-new")["outcome"] is None
    assert len(world.sql("SELECT 1 FROM fulfilment_work WHERE attempts = 1 AND code IS NULL AND outcome IS NULL")) == 1
    assert {fact["reason"] for fact in door.facts().values()} == {"gave_up"}


# --- cancelled ---------------------------------------------------------------------------------------------------


def cancel(world: World, request_id: str) -> None:
    query = "UPDATE redemptions SET status = 'returned', returned_reason = 'cancelled' WHERE request_id = %s"
    world.sql(query, request_id)


def withdrawal(world: World, request_id: str) -> Any:
    return work(world, request_id)["withdrawal"]


def test_the_discount_of_what_was_cancelled_is_withdrawn_and_nobody_is_told(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world) as door:
        redeem(world, "r-1")
        redeem(world, "r-2")
        wait(lambda: not world.sql("SELECT 1 FROM redemptions WHERE status = 'reserved'"))
        store.ways.extend(["ok", "drop", "ok", "502 after it worked"])
        cancel(world, "r-1")
        for _ in range(2):  # each question may be answered badly, and is asked again
            wait(lambda: work(world, "r-1")["last_error"] is not None)
            failed = work(world, "r-1")
            assert (failed["withdrawal"], failed["due_at"] > datetime.now(UTC)) == ("due", True)
            world.sql("UPDATE fulfilment_work SET last_error = NULL")
            now_due(world)
        wait(lambda: withdrawal(world, "r-1") == "done")
        assert store.withdrawn() == [code_of(world, "r-1")]
        asked = len(store.asked)
        assert work(world, "r-1")["finished_at"] is not None
        world.run(asyncio.sleep(2 * fulfilling.LOOK))
        assert len(store.asked) == asked
    assert len(door.told) == 2
    assert work(world, "r-2")["withdrawal"] is None
    assert shop_row(world)["failures"] == 0


def test_what_was_cancelled_while_nobody_knew_whether_it_is_there_is_withdrawn(world: World, store: Store) -> None:
    switch_on(world, store)
    store.ways.append("drop after it worked")
    redeem(world, "r-1")
    redeem(world, "r-2")
    world.insert("fulfilment_work", shop=SHOP, customer_id="7", request_id="r-2")
    cancel(world, "r-2")
    with working(world) as door:
        wait(lambda: work(world, "r-1")["last_error"] is not None)
        cancel(world, "r-1")
        wait(lambda: withdrawal(world, "r-1") == "done")
    assert store.withdrawn() == [code_of(world, "r-1")]
    assert door.told == []
    assert withdrawal(world, "r-2") is None, "it was never tried"


#: A shop of 20,000 redemptions: each fifth was cancelled, and is withdrawn.
MANY = (
    """INSERT INTO redemptions (shop, customer_id, request_id, reward_id, cost, requested_at, decided_at, seq, accepted,
        balance, forced, status, points, revision, returned_reason)
    SELECT %s, i, 'r' || i, 'ten', 500, now(), now(), 1, true, 700, false,
        CASE mod(i, 5) WHEN 0 THEN 'returned' ELSE 'used' END, 0, 'a', CASE mod(i, 5) WHEN 0 THEN 'cancelled' END
    FROM generate_series(1, 20000) i""",
    """INSERT INTO fulfilment_work (shop, customer_id, request_id, attempts, outcome, code, finished_at, withdrawal)
    SELECT %s, i, 'r' || i, 1, 'issued', 'LN-' || i, now(), CASE mod(i, 5) WHEN 0 THEN 'done' END
    FROM generate_series(1, 20000) i""",
)


def test_what_was_ever_made_is_not_read_to_find_what_was_cancelled(world: World, store: Store) -> None:
    switch_on(world, store)
    for statement in MANY:
        world.sql(statement, SHOP)
    for table in ("redemptions", "fulfilment_work"):
        world.sql(f"ANALYZE {table}")
    explained = "EXPLAIN (ANALYZE, FORMAT JSON) " + fulfilment._WITHDRAW
    (plan,) = world.sql(explained, 200)[0]["QUERY PLAN"]

    def read(node: Any) -> int:
        """Rows of what was ever made that were looked at."""
        found = sum(read(each) for each in node.get("Plans", []))
        if node.get("Relation Name") == "fulfilment_work" and node["Node Type"] != "ModifyTable":
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            found += round(rows * node["Actual Loops"])
        return found

    assert 4000 <= read(plan["Plan"]) < 5000
    world.sql("UPDATE fulfilment_work SET withdrawal = NULL WHERE request_id IN ('r5', 'r6')")
    world.sql(explained, 200)
    assert world.sql("SELECT request_id FROM fulfilment_work WHERE withdrawal = 'due'") == [{"request_id": "r5"}]


def test_what_is_not_ours_or_not_there_is_not_withdrawn(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world):
        for request_id in ("r-gone", "r-edited"):
            redeem(world, request_id)
        wait(lambda: not world.sql("SELECT 1 FROM redemptions WHERE status = 'reserved'"))
        del store.discounts[code_of(world, "r-gone")]
        store.have(code_of(world, "r-edited"), "Christmas", ["gid://shopify/Customer/7"])
        for request_id in ("r-gone", "r-edited"):
            cancel(world, request_id)
        wait(lambda: [withdrawal(world, each) for each in ("r-gone", "r-edited")] == ["done", "done"])
    assert store.withdrawn() == []


def test_what_was_cancelled_and_is_used_all_the_same_is_not_withdrawn(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world):
        redeem(world, "r-1")
        redeem(world, "r-2")
        wait(lambda: not world.sql("SELECT 1 FROM redemptions WHERE status = 'reserved'"))
        store.always = "429"
        store.retry_after = "60"
        cancel(world, "r-1")
        wait(lambda: withdrawal(world, "r-1") == "due" and shop_row(world)["rests_until"] is not None)
        world.sql("UPDATE redemptions SET status = 'used', returned_reason = NULL WHERE request_id = 'r-1'")
        store.always = "ok"
        cancel(world, "r-2")
        world.sql("UPDATE fulfilment_shops SET rests_until = NULL")
        wait(lambda: withdrawal(world, "r-2") == "done")
    assert store.withdrawn() == [code_of(world, "r-2")]
    assert withdrawal(world, "r-1") == "due"


def test_a_withdrawal_that_fails_for_a_day_is_left(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world):
        redeem(world, "r-1")
        wait(lambda: not world.sql("SELECT 1 FROM redemptions WHERE status = 'reserved'"))
        store.always = "500"
        cancel(world, "r-1")
        wait(lambda: work(world, "r-1")["last_error"] == "status 500")
        world.sql("UPDATE fulfilment_work SET failing_since = now() - interval '24 hours'")
        now_due(world)
        wait(lambda: withdrawal(world, "r-1") == "failed")
    assert work(world, "r-1")["finished_at"] is not None


# --- telling -----------------------------------------------------------------------------------------------------


def test_a_door_that_is_away_is_told_again_and_nothing_is_made_anew(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world) as door:
        door.failing = 2
        redeem(world, "r-1")
        for failures in (1, 0):
            wait(lambda: door.failing == failures and work(world, "r-1")["last_error"] == "untold")  # noqa: B023
            world.sql("UPDATE fulfilment_work SET last_error = NULL")
            store.always = "401"  # whatever the store does by now
            world.sql("UPDATE fulfilment_shops SET enabled = false, token = NULL")
            now_due(world)
        wait(lambda: len(door.told) == 1)
        wait(lambda: work(world, "r-1")["finished_at"] is not None)
    assert len(store.asked) == 1
    assert door.facts()["r-1"]["attempt"] == 1


def test_a_door_that_has_failed_for_good_ends_it_and_one_that_is_away_is_told_of(world: World, store: Store) -> None:
    switch_on(world, store)
    door = Listening(world)
    made = fulfilling.Fulfiller(world.services.settings, door)
    door.well = False

    async def run() -> None:
        running = asyncio.create_task(made.run())
        await asyncio.to_thread(wait, lambda: made.waits_for() == ["what came of redemptions cannot be told"])
        assert not running.done()
        door.broken = "the producer cannot go on"
        await asyncio.wait_for(running, 20)

    asyncio.run(run())


def test_a_database_that_goes_away_is_waited_for(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world) as door:
        redeem(world, "r-1")
        wait(lambda: len(door.told) == 1)
        world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loyalnest-fulfilment'"
            " AND datname = current_database()"
        )
        redeem(world, "r-2")
        wait(lambda: len(door.told) == 2)


def test_a_redemption_that_a_rebuild_has_not_brought_back_yet_is_waited_for(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world) as door:
        door.failing = 1
        redeem(world, "r-1")
        wait(lambda: work(world, "r-1")["last_error"] == "untold")
        world.sql("DELETE FROM redemptions")
        now_due(world)
        redeem(world, "r-2")
        wait(lambda: len(door.told) == 1)
        redeem(world, "r-1")
        wait(lambda: len(door.told) == 2)
    assert len(store.mutations()) == 2


# --- over, and not used --------------------------------------------------------------------------------------------


def issued(world: World, request_id: str, reward_id: str = "back", **more: Any) -> str:
    """A redemption whose code was handed out by somebody, and whose time was over two hours ago."""
    now = datetime.now(UTC)
    ago = {"valid_until": now - timedelta(hours=2), "stored_at": now - timedelta(hours=2)}
    return redeem(world, request_id, reward_id, **{"status": "issued", "code": request_id, **ago, **more})


def test_what_nobody_used_in_time_is_told_if_its_reward_says_so_at_its_decision(world: World) -> None:
    """In shops whose stores are off, too."""
    now = datetime.now(UTC)
    before, after = datetime(2026, 9, 30, 23, 59, 59, 999999, UTC), datetime(2026, 10, 1, tzinfo=UTC)
    issued(world, "a")
    issued(world, "a", customer_id="8")
    issued(world, "a", shop=OTHER)
    issued(world, "no-code", code=None)
    issued(world, "kept", "ten")
    issued(world, "used", status="used")
    issued(world, "reserved", status="reserved")
    issued(world, "for-ever", valid_until=None)
    issued(world, "valid", valid_until=now + timedelta(hours=1))
    issued(world, "late", valid_until=now - unused.GRACE + timedelta(minutes=1))
    issued(world, "just-stored", stored_at=now)
    for name, since in (("before", before), ("after", after)):
        issued(world, f"was-{name}", "was", decided_at=since)
        issued(world, f"will-{name}", "will", decided_at=since)
        issued(world, f"twice-{name}", "twice", decided_at=since)
    issued(world, "twice-ended", "twice", decided_at=after + timedelta(days=1))
    issued(world, "unknown", "none")
    with working(world) as door:
        wait(lambda: len(door.ended) >= 7)
        world.run(asyncio.sleep(2 * fulfilling.LOOK))
    mine = [Over(SHOP, "7", name) for name in ("a", "no-code", "was-before", "will-after", "twice-after")]
    assert sorted(door.ended) == sorted([*mine, Over(SHOP, "8", "a"), Over(OTHER, "7", "a")])
    assert door.told == []


def test_the_discount_of_what_nobody_used_in_time_is_withdrawn(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world):
        redeem(world, "r-1", "back")
        wait(lambda: bool(world.sql("SELECT 1 FROM redemptions WHERE status = 'issued'")))
        world.sql("UPDATE redemptions SET valid_until = now() - '2 h'::interval, stored_at = now() - '2 h'::interval")
        wait(lambda: withdrawal(world, "r-1") == "done", 30)
    assert store.withdrawn() == [code_of(world, "r-1")]


def test_what_could_not_be_told_is_told_again_and_what_nothing_came_of_much_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulfilling, "_OVER", 0.1)
    issued(world, "a")
    with working(world) as door:
        wait(lambda: bool(world.sql("SELECT 1 FROM redemptions WHERE status = 'returned'")))
        world.sql("UPDATE redemptions SET status = 'issued'")  # as if the worker had not heard of it yet
        world.run(asyncio.sleep(4 * fulfilling.LOOK))
        assert len(door.ended) == 1
        monkeypatch.setattr(fulfilling, "_STILL", 0.0)
        wait(lambda: len(door.ended) == 2)
        door.failing = 2
        issued(world, "b")
        wait(lambda: Over(SHOP, "7", "b") in door.ended)
        assert door.failing == 0


# --- processes ---------------------------------------------------------------------------------------------------


def started(world: World, folder: Path, deadly: str = "") -> Forked:
    settings = world.services.settings
    assert settings.master_key is not None
    environment = {
        **os.environ,
        "LOYALNEST_DATABASE": settings.database_url(),
        "LOYALNEST_MASTER_KEY": settings.master_key.get_secret_value(),
        "LOYALNEST_FULFILMENT_PRIVATE": "true",
    }
    said = folder / f"{uuid4()}.out"
    told = str(folder / "told")
    return Forked(killed.fulfil, told, deadly, environment=environment, stdout=said, stderr=said)


def told(folder: Path) -> list[dict[str, Any]]:
    """The envelopes that were published."""
    file = folder / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def requests(folder: Path) -> list[str]:
    return [each["payload"]["request_id"] for each in told(folder)]


@pytest.mark.parametrize("where", ["making", "telling"])
def test_one_killed_between_making_and_telling_makes_no_second_code(
    anywhere: World, store: Store, tmp_path: Path, where: str
) -> None:
    world = anywhere
    switch_on(world, store)
    redeem(world, "r-1")
    first = started(world, tmp_path, where)
    try:
        assert first.wait(30) == -signal.SIGKILL
    finally:
        first.kill()
    (made,) = store.discounts.values()
    held = work(world, "r-1")
    assert (held["outcome"], held["attempts"]) == ("issued" if where == "telling" else None, 1)
    assert timedelta() < held["held_until"] - datetime.now(UTC) <= fulfilling.LEASE, "nobody else works on it meanwhile"
    second = started(world, tmp_path)
    try:
        redeem(world, "r-2")
        wait(lambda: requests(tmp_path) == ["r-2"])
        world.sql("UPDATE fulfilment_work SET held_until = now()")  # as if that were over
        wait(lambda: len(told(tmp_path)) == 2)
        wait(lambda: work(world, "r-1")["finished_at"] is not None)
    finally:
        second.terminate()
        assert second.wait(30) == 0
    said = told(tmp_path)[1]
    assert (said["topic"], said["shop"]) == ("account/fulfilment", SHOP)
    assert said["payload"] == {
        "customer_id": "7",
        "request_id": "r-1",
        "attempt": {"making": 2, "telling": 1}[where],
        "state": "issued",
        "code": made["input"]["code"],
        "valid_until": made["input"]["endsAt"],
    }
    assert len(store.discounts) == 2
    assert len(told(tmp_path)) == 2


def test_what_nobody_used_is_one_cancellation_whoever_is_killed_telling_it(anywhere: World, tmp_path: Path) -> None:
    """The log takes it twice as once: tests/property/test_redemptions.py."""
    world = anywhere
    issued(world, "r-1")
    first = started(world, tmp_path, "telling")
    try:
        assert first.wait(30) == -signal.SIGKILL
    finally:
        first.kill()
    processes = [started(world, tmp_path) for _ in range(2)]
    try:
        wait(lambda: len(told(tmp_path)) == 2)
    finally:
        for process in processes:
            process.terminate()
        assert [process.wait(30) for process in processes] == [0, 0]
    said = [(each["topic"], each["webhook_id"], each["payload"]) for each in told(tmp_path)]
    assert said[0] == said[1]
    assert said[0][0] == "account/cancel"
    assert said[0][2] == {"customer_id": "7", "request_id": "r-1", "reason": "unused"}


def test_two_processes_share_the_work_and_ask_for_each_once(anywhere: World, store: Store, tmp_path: Path) -> None:
    world = anywhere
    switch_on(world, store)
    processes = [started(world, tmp_path) for _ in range(2)]
    try:
        for number in range(40):
            redeem(world, f"r-{number}")
        wait(lambda: len(told(tmp_path)) == 40, 60)
    finally:
        for process in processes:
            process.terminate()
        assert [process.wait(30) for process in processes] == [0, 0]
    assert len(store.mutations()) == len(store.discounts) == 40
    assert len(set(requests(tmp_path))) == 40


# --- what is kept ------------------------------------------------------------------------------------------------


def test_a_shop_that_is_forgotten_is_off_and_makes_other_codes_when_it_comes_back(world: World, store: Store) -> None:
    switch_on(world, store)
    switch_on(world, store, OTHER)
    redeem(world, "r-1")
    with working(world) as door:
        wait(lambda: len(door.told) == 1)
    before = code_of(world, "r-1")
    later = datetime.now(UTC) + timedelta(seconds=1)
    world.run(world.services.vault.destroy_shop(SHOP, later))
    assert [row["shop"] for row in world.sql("SELECT shop FROM fulfilment_shops")] == [OTHER]
    assert world.sql("SELECT 1 FROM fulfilment_work") == []
    assert code_of(world, "r-1") != before
    assert code_of(world, "r-1", OTHER) != code_of(world, "r-1")


def test_what_was_made_long_ago_is_not_made_anew_while_a_rebuild_brings_it_back(world: World, store: Store) -> None:
    switch_on(world, store)
    with working(world) as door:
        redeem(world, "r-old")
        wait(lambda: len(door.told) == 1)
        wait(lambda: work(world, "r-old")["finished_at"] is not None)
        ages = ", ".join(f"{name} = now() - interval '2 years'" for name in ("created_at", "finished_at"))
        world.sql(f"UPDATE fulfilment_work SET {ages}")
    store.discounts.clear()  # the merchant has tidied up
    world.sql("DELETE FROM redemptions")
    with working(world) as door:
        redeem(world, "r-old")
        redeem(world, "r-new")
        wait(lambda: len(door.told) == 1)
    assert list(store.discounts) == [code_of(world, "r-new")]


def test_a_customers_export_has_their_redemptions(world: World) -> None:
    from books import privacy

    redeem(world, "r-1")
    redeem(world, "r-2", customer_id="8")
    for customer_id, name in (("7", "r-1"), ("8", "r-2")):
        code = f"LN-{customer_id}"
        world.insert("fulfilment_work", shop=SHOP, customer_id=customer_id, request_id=name, code=code)
    found = world.run(privacy.export(world.services.pool, world.services.vault, SHOP, "7"))
    assert [each["request_id"] for each in found["redemptions"]] == ["r-1"]
    assert [each["code"] for each in found["discounts"]] == ["LN-7"]


def test_to_an_address_of_ours_nothing_is_sent(database: str, store: Store) -> None:
    with opened(database) as world:
        world.program(rewards=REWARDS)
        switch_on(world, store)
        redeem(world, "r-1")
        with working(world):
            wait(lambda: work(world, "r-1")["last_error"] == "refused_address")
        assert store.asked == []
