"""Shopify signs the body and no header: one captured body with its signature, sent again under other headers."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest

from books import dead_letters
from books.dead_letters import DeadLetterRow
from events import topics
from tests.integration.api_world import OTHER, SHOP, World, opened

CUSTOMER = 7
ORDER: dict[str, Any] = {
    "id": 1001,
    "admin_graphql_api_id": "gid://shopify/Order/1001",
    "created_at": "2026-11-21T04:29:57-05:00",
    "updated_at": "2026-11-21T04:29:57-05:00",
    "cancelled_at": None,
    "financial_status": "paid",
    "currency": "USD",
    "current_subtotal_price": "129.90",
    "order_status_url": f"https://{SHOP}/548380009/orders/123456abcd/authenticate?key=abcdefg",
    "customer": {"id": CUSTOMER, "email": "bob.norman@example.com"},
    "line_items": [],
    "refunds": [],
}
WHOLE_CUSTOMER: dict[str, Any] = {
    "id": CUSTOMER,
    "admin_graphql_api_id": f"gid://shopify/Customer/{CUSTOMER}",
    "email": "bob.norman@example.com",
    "created_at": "2026-11-01T00:00:00Z",
    "updated_at": "2026-11-21T00:00:00Z",
}
WHOSE: dict[str, Any] = {
    "shop_id": 5,
    "shop_domain": SHOP,
    "customer": {"id": CUSTOMER, "email": "bob.norman@example.com", "phone": None},
}
REDACT = {**WHOSE, "orders_to_redact": [1001]}
DATA_REQUEST = {**WHOSE, "orders_requested": [1001], "data_request": {"id": 9}}
#: As Shopify sends them: nothing but the id has anything to say.
GONE_CUSTOMER: dict[str, Any] = {
    "id": CUSTOMER,
    "phone": None,
    "addresses": [],
    "tax_exemptions": [],
    "email_marketing_consent": None,
    "sms_marketing_consent": None,
    "admin_graphql_api_id": f"gid://shopify/Customer/{CUSTOMER}",
}


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        yield running


def letters(world: World) -> list[tuple[str, str, bool]]:
    """(topic, error, sealed) of each dead letter; there is nothing else."""
    assert {each.topic for each in world.publisher.messages} <= {topics.DEAD_LETTERS}
    return [
        (json.loads(each["value"])["topic"], each["error"], each["sealed"] is not None)
        for each in world.publisher.values()
    ]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("shop/redact", ORDER),
        ("shop/redact", REDACT),
        ("shop/redact", {**WHOSE, "customer": None, "orders_to_redact": [1]}),
        ("shop/redact", {"shop_domain": SHOP}),
        ("shop/redact", {"shop_id": 5}),
        ("shop/redact", {"shop_id": 5, "shop_domain": None}),
        ("customers/redact", ORDER),
        ("customers/redact", WHOLE_CUSTOMER),
        ("customers/redact", DATA_REQUEST),
        ("customers/redact", {"customer": {"id": CUSTOMER}}),
        ("customers/delete", ORDER),
        ("customers/delete", WHOLE_CUSTOMER),
        ("customers/delete", {**GONE_CUSTOMER, "admin_graphql_api_id": "gid://shopify/Order/7"}),
        ("customers/update", ORDER),
        ("customers/update", {**ORDER, "admin_graphql_api_id": None}),
        ("orders/delete", ORDER),
        ("orders/delete", WHOLE_CUSTOMER),
        ("orders/delete", {"id": 1001, "updated_at": "2026-11-21T00:00:00Z"}),
        ("orders/delete", {"id": 1001, "test": False}),
        ("orders/cancelled", ORDER),
        ("orders/updated", WHOLE_CUSTOMER),
        ("refunds/create", {**ORDER, "order_id": 5}),
        ("customers/data_request", ORDER),
    ],
)
def test_a_body_under_a_topic_that_is_not_its_own_does_nothing(
    world: World, topic: str, payload: dict[str, Any]
) -> None:
    sealed = world.contact(str(CUSTOMER), "bob.norman@example.com")
    assert world.webhook(topic, payload).status_code == 200
    assert letters(world) == [(topic, "wrong_shape", True)]
    assert world.run(world.services.vault.open(SHOP, str(CUSTOMER), sealed)) is not None
    assert b"bob." not in world.publisher.messages[0].value


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("orders/paid", ORDER),
        ("orders/updated", {**ORDER, "order_status_url": f"https://{SHOP.upper()}:443/1/orders/x"}),
        ("customers/redact", REDACT),
        ("customers/data_request", DATA_REQUEST),
        ("shop/redact", {"shop_id": 5, "shop_domain": SHOP}),
        ("app/uninstalled", {"id": 5, "myshopify_domain": SHOP}),
    ],
)
def test_a_body_that_names_its_shop_is_taken_under_no_other(world: World, topic: str, payload: dict[str, Any]) -> None:
    sealed = world.contact(str(CUSTOMER), "bob.norman@example.com", shop=OTHER)
    assert world.webhook(topic, payload, X_Shopify_Shop_Domain=OTHER).status_code == 200
    assert letters(world) == [(topic, "other_shop", True)]
    assert world.run(world.services.vault.open(OTHER, str(CUSTOMER), sealed)) is not None
    world.publisher.messages.clear()
    assert world.webhook(topic, payload).status_code == 200
    assert [each.topic for each in world.publisher.messages] != [topics.DEAD_LETTERS]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("orders/delete", {"id": 1001}),
        ("orders/delete", {"id": 1001, "admin_graphql_api_id": "gid://shopify/Order/1001", "note": None, "tags": ""}),
        ("orders/cancelled", {**ORDER, "cancelled_at": "2026-11-21T09:00:00Z"}),
        ("orders/fulfilled", ORDER),
        ("orders/partially_fulfilled", ORDER),
        ("orders/paid", {**ORDER, "order_status_url": "https://shop.example.com/548380009/orders/x"}),
        ("orders/paid", {**ORDER, "order_status_url": "https://["}),
        ("customers/delete", GONE_CUSTOMER),
        ("customers/redact", REDACT),
        ("customers/data_request", DATA_REQUEST),
        ("shop/redact", {"shop_id": 5, "shop_domain": SHOP.upper()}),
        ("app/uninstalled", {"id": 5, "domain": None, "myshopify_domain": None}),
    ],
)
def test_what_shopify_sends_has_its_shape(world: World, topic: str, payload: dict[str, Any]) -> None:
    assert world.webhook(topic, payload).status_code == 200
    assert [each.topic for each in world.publisher.messages] != [topics.DEAD_LETTERS]


def test_what_was_destroyed_is_written_down_without_a_name(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for topic, payload in (("customers/redact", REDACT), ("shop/redact", {"shop_id": 5, "shop_domain": SHOP})):
        assert world.webhook(topic, payload, X_Shopify_Webhook_Id="w-9").status_code == 200
        (line,) = [each.getMessage() for each in caplog.records if f"{topic} of {SHOP} destroyed keys" in each.message]
        assert "webhook w-9" in line
        assert sha256(json.dumps(payload).encode()).hexdigest() in line
        assert "bob" not in line


def test_a_borrowed_webhook_id_makes_no_genuine_one_a_duplicate(world: World) -> None:
    for payload in (ORDER, {**ORDER, "current_subtotal_price": "99.00"}, ORDER):
        assert world.webhook("orders/updated", payload, X_Shopify_Webhook_Id="w-1").status_code == 200
    found = [each["payload"]["current_subtotal_price"] for each in world.publisher.values(topics.ORDERS)]
    assert found == ["129.90", "99.00"]


def test_a_flood_of_dead_letters_is_one_line_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        assert world.webhook("orders/paid", b'{"id": "bob. %d"}' % number).status_code == 200
        assert world.webhook("bob@example.com", ORDER).status_code == 200
    assert len(world.publisher.messages) == 20
    said = [each.getMessage() for each in caplog.records if each.name == "api.webhooks.front_door"]
    assert len(said) == 2
    assert not [line for line in said if "bob" in line]


# --- opened and replayed ---


def stored(world: World) -> DeadLetterRow:
    """The last dead letter, as the sink would have stored it."""
    found = world.publisher.values(topics.DEAD_LETTERS)[-1]
    names = ("id", "shop", "source", "key", "error", "detail", "value", "sealed")
    world.insert("dead_letters", at=datetime(2026, 11, 21, tzinfo=UTC), **{name: found[name] for name in names})
    row: DeadLetterRow
    (row,) = world.run(dead_letters.listing(world.services.pool))
    world.publisher.messages.clear()
    return row


def test_a_sealed_body_is_opened_and_replayed_once_its_cause_is_gone(world: World) -> None:
    """As when a newer version knows the shape: nothing of the delivery is lost, and its contact is sealed anew."""
    body = json.dumps(WHOLE_CUSTOMER).encode()
    assert world.webhook("customers/update", b'{"id": {}, ' + body[1:].replace(b'"id": 7,', b"")).status_code == 200
    row = stored(world)
    assert row.error == "bad_id"
    pool, vault = world.services.pool, world.services.vault
    (outcome,) = world.run(dead_letters.replay(pool, vault, world.publisher, [row], datetime.now(UTC)))
    assert "still cannot be used (bad_id" in (outcome.problem or "")
    mended = row._replace(sealed=world.run(vault.seal_body(SHOP, body)))
    assert world.run(dead_letters.opened(vault, mended)) == body
    (outcome,) = world.run(dead_letters.replay(pool, vault, world.publisher, [mended], datetime.now(UTC)))
    assert outcome.problem is None
    (message,) = world.publisher.messages
    assert (message.topic, message.key) == (topics.CUSTOMERS, f"{SHOP}/{CUSTOMER}")
    assert b"bob." not in message.value
    contact = json.loads(message.value)["payload"]["contact"]
    assert world.run(vault.open(SHOP, str(CUSTOMER), contact)).email == "bob.norman@example.com"


def test_an_attack_is_not_carried_out_by_its_replay(world: World) -> None:
    assert world.webhook("orders/delete", ORDER).status_code == 200
    row = stored(world)
    pool, vault = world.services.pool, world.services.vault
    for chosen in (row, row._replace(sealed=None)):
        (outcome,) = world.run(dead_letters.replay(pool, vault, world.publisher, [chosen], datetime.now(UTC)))
        assert outcome.problem
    assert world.publisher.messages == []


def test_a_shop_of_another_name_is_believed_when_an_operator_says_so(world: World) -> None:
    assert world.webhook("orders/paid", ORDER, X_Shopify_Shop_Domain=OTHER).status_code == 200
    row = stored(world)
    pool, vault, now = world.services.pool, world.services.vault, datetime.now(UTC)
    (outcome,) = world.run(dead_letters.replay(pool, vault, world.publisher, [row], now))
    assert "other_shop" in (outcome.problem or "")
    (outcome,) = world.run(dead_letters.replay(pool, vault, world.publisher, [row], now, page=False))
    assert outcome.problem is None
    assert [each.key for each in world.publisher.messages] == [f"{OTHER}/1001"]
