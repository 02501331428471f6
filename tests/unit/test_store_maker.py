"""The generated shop is the same for the same seed, and is what its promise says."""

import re
from collections import Counter
from functools import cache

from cli.shop import store_maker
from cli.shop.deliveries import Outgoing
from events import codec, envelopes, instants, keys, orders, topics
from events.programs import GRID, PROSPECTS
from tests.oracle import oracle

UNTIL = instants.parse("2026-11-21T09:30:00Z")
SHOP = "demo.myshopify.com"


@cache
def _store(seed: int = 1) -> list[Outgoing]:
    return list(store_maker.make_store(UNTIL, seed=seed))


def _small(seed: int = 3, webhooks: int = 600) -> list[Outgoing]:
    return list(store_maker.make_store(UNTIL, seed=seed, customers=60, webhooks=webhooks))


def _envelope(outgoing: Outgoing) -> dict[str, object]:
    return {
        "topic": outgoing.topic,
        "shop": SHOP,
        "webhook_id": outgoing.webhook_id,
        "event_id": outgoing.event_id,
        "api_version": "2026-07",
        "triggered_at": instants.text(outgoing.triggered_at),
        "received_at": instants.text(outgoing.triggered_at),
        "payload": outgoing.payload,
    }


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert [(each[:4], each.body()) for each in _small()] == [(each[:4], each.body()) for each in _small()]
    assert _small() != _small(seed=4)


def test_it_sends_as_many_webhooks_as_asked_in_the_year_that_ends_then() -> None:
    store = _store()
    assert len(store) == 20_000
    assert len(_small(webhooks=601)) == 601
    assert all(UNTIL - 366 * instants.DAY < each.triggered_at <= UNTIL for each in store)
    assert max(each.triggered_at for each in store) > UNTIL - instants.DAY


def test_the_smallest_shops_send_as_many_too() -> None:
    for customers, webhooks in ((1, 1), (1, 30), (50, 10), (3, 200)):
        store = list(store_maker.make_store(UNTIL, seed=5, customers=customers, webhooks=webhooks))
        assert len(store) == webhooks


def test_one_in_twenty_comes_twice_and_one_in_twenty_late() -> None:
    store = _store()
    first: dict[str, int] = {}
    late = greatest = 0
    for each in store:
        if each.webhook_id in first:
            continue
        first[each.webhook_id] = each.triggered_at
        late += each.triggered_at < greatest
        greatest = max(greatest, each.triggered_at)
    assert 0.045 < (len(store) - len(first)) / len(store) < 0.055
    assert 0.045 < late / len(store) < 0.055


def test_a_duplicate_is_the_same_delivery_to_the_byte() -> None:
    times = Counter(each.webhook_id for each in _store())
    seen: dict[str, bytes] = {}
    for each in _store():
        if times[each.webhook_id] > 1:
            body = each.body()
            assert seen.setdefault(each.webhook_id, body) == body
    assert seen


def test_it_has_everything_a_shop_has() -> None:
    store = _store()
    kinds = Counter(each.topic for each in store)
    assert set(kinds) == {
        *("orders/create", "orders/paid", "orders/updated", "orders/cancelled"),
        *("refunds/create", "customers/create"),
    }
    placed = [each.payload for each in store if each.topic == "orders/create"]
    assert 0.03 < sum(each["customer"] is None for each in placed) / len(placed) < 0.09
    assert 0.005 < sum(each["test"] for each in placed) / len(placed) < 0.03
    statuses = Counter(each.payload["financial_status"] for each in store if each.topic == "orders/updated")
    assert statuses["partially_refunded"] > 200
    assert statuses["refunded"] > 100
    lines = [line for each in placed for line in each["line_items"]]
    assert sum(line["gift_card"] for line in lines) > 50
    assert sum(bool(line["discount_allocations"]) for line in lines) > 100
    assert any(each["presentment_currency"] != each["currency"] for each in placed)
    assert max(Counter(each["customer"]["id"] for each in placed if each["customer"]).values()) > 20


def test_amounts_hold_together() -> None:
    for each in _small(webhooks=3000):
        if not each.topic.startswith("orders/"):
            continue
        found, refunds = orders.snapshot(envelopes.read(_message(each), topics.ORDERS), "USD")
        back = sum(goods for _, goods, *_ in refunds.values())
        # Gift cards are in the subtotal, and no refund of goods holds them.
        assert found["gross"] - back == found["base"] - found["gift"]
        assert found["base"] >= 0


def _message(outgoing: Outgoing) -> bytes:
    return codec.dumps(_envelope(outgoing))


def test_people_are_nobody() -> None:
    emails = [each.payload["email"] for each in _store() if each.topic == "customers/create"]
    assert all(re.fullmatch(r"[\w.]+@example\.(com|net|org)", email) for email in emails)
    assert {
        each.payload["email_marketing_consent"]["state"] for each in _store() if each.topic == "customers/create"
    } == {
        "subscribed",
        "not_subscribed",
        "unsubscribed",
        "pending",
    }


def test_everybody_is_a_valid_key() -> None:
    for each in _small():
        assert keys.resource_id(each.payload["id"])


def test_all_eleven_segments_appear() -> None:
    program = {
        "currency": "USD",
        "zone": "UTC",
        "look_back_days": 365,
        "rules": [{"effective_from": None, "points_per_unit": "1"}],
    }
    envelopes_ = [_envelope(each) for each in _store()]
    at = instants.to_datetime(UNTIL)
    known = oracle(envelopes_, {SHOP: program}, t=at)
    first = known[SHOP]
    cut_points = {"version": "v", "as_of": instants.text(UNTIL), **first.cut_points}
    shop = oracle(envelopes_, {SHOP: program}, {SHOP: [cut_points]}, t=at, known=known)[SHOP]
    sizes = Counter(customer.segment for customer in shop.customers.values())
    assert set(sizes) == {name for row in GRID for name in row} | {PROSPECTS}
    assert sum(sizes.values()) == 2000
    assert min(sizes.values()) >= 10
    assert sum(customer.balance for customer in shop.customers.values()) > 100_000
