"""A customer's data: all of it when they ask, and not a byte of their address left when they are redacted."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from books import dead_letters, privacy
from books.sealed import MasterKeys, VaultError
from books.vault import DESTROY_SHOP, FORGET_OWN, Vault
from events import topics
from events.payloads import Contact
from tests.integration.api_world import MASTER, NOW, OTHER, SHOP, World, opened

EMAIL = "Bob.Norman@Example.com"
CUSTOMER = 115310627314723954
ORDER = {"id": 1001, "created_at": "2026-11-21T09:00:00Z", "currency": "USD", "subtotal_price": "5.00"}


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


def archive(world: World) -> None:
    """Does the sink's part with what was published: raw events, dead letters and the customer's row."""
    for message in world.publisher.messages:
        value = json.loads(message.value)
        if message.topic == topics.DEAD_LETTERS:
            world.insert("dead_letters", **value)
            continue
        world.insert(
            "raw_events",
            received_at=value["received_at"],
            stream=message.topic,
            key=message.key,
            shop=value["shop"],
            webhook_topic=value["topic"],
            webhook_id=value["webhook_id"],
            triggered_at=value["triggered_at"],
            value=message.value.decode(),
        )
    world.publisher.messages.clear()


def play(world: World) -> None:
    """A customer with orders, in every way their address can come in."""
    person = {"id": CUSTOMER, "email": EMAIL, "first_name": "Bob"}
    world.webhook("customers/create", {**person, "updated_at": "2026-11-21T08:00:00Z"})
    world.webhook("orders/paid", {**ORDER, "customer": person, "email": EMAIL})
    world.webhook("orders/paid", {**ORDER, "id": CUSTOMER, "customer": {"id": 2}})  # an order with their number
    world.webhook("refunds/create", {"id": 5, "order_id": 1001, "created_at": "2026-11-21T09:00:00Z"})
    world.webhook("orders/paid", json.dumps({**ORDER, "email": EMAIL}).encode()[:-3])
    world.webhook("orders/unheard-of", {**ORDER, "email": EMAIL})
    world.webhook("orders/paid", {**ORDER, "id": EMAIL})
    world.webhook("orders/paid", {**ORDER, "customer": person}, X_Shopify_Triggered_At="2026-11-21T09:00:00")
    sealed = world.publisher.values()[0]["payload"]["contact"]
    archive(world)
    world.customer(str(CUSTOMER), contact=sealed)
    world.batch(NOW, {str(CUSTOMER): "Loyal"})


def everything(world: World) -> str:
    """Every row of every table, as text."""
    with psycopg.connect(world.url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = []
        for (name,) in tables:
            rows += connection.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(name))).fetchall()
    return "\n".join(row[0] for row in rows)


def exported(world: World, customer: int = CUSTOMER) -> dict[str, Any]:
    found: dict[str, Any] = world.run(privacy.export(world.services.pool, world.services.vault, SHOP, str(customer)))
    json.dumps(found)
    return found


def test_an_export_holds_everything_of_theirs_and_nothing_of_anybody_else(world: World) -> None:
    play(world)
    found = exported(world)
    assert found["contact"] == {"email": EMAIL.lower(), "consent": None}
    assert found["customer"]["monetary"] == "129.90"
    assert [each["webhook_topic"] for each in found["events"]] == ["customers/create", "orders/paid", "refunds/create"]
    assert found["events"][0]["value"]["payload"]["contact"]["email"] == EMAIL.lower()
    assert [each["segment"] for each in found["batch_standings"]] == ["Loyal"]
    assert [each["error"] for each in found["dead_letters"]] == ["naive_time"]
    assert exported(world, 404)["events"] == []
    with pytest.raises(ValueError, match="bad_id"):
        world.run(privacy.export(world.services.pool, world.services.vault, SHOP, "bob"))


def test_after_a_redaction_no_byte_of_the_address_or_its_digest_is_anywhere(world: World) -> None:
    play(world)
    digest = sha256(EMAIL.lower().encode())
    world.get("/exports/segments.csv", world.key("export", "pii"))
    redact = {"shop_domain": SHOP, "customer": {"id": CUSTOMER, "email": EMAIL}, "orders_to_redact": [1001]}
    assert world.webhook("customers/redact", redact).status_code == 200
    assert b"norman" not in b"".join(each.value for each in world.publisher.messages).lower()
    archive(world)
    text = everything(world)
    assert str(CUSTOMER) in text
    assert "norman" not in text.lower()
    for known in (digest.hexdigest(), digest.hexdigest().upper(), digest.digest().hex()):
        assert known not in text
    # And nothing that is there can be opened by whoever has the master key and all the tables.
    assert exported(world)["contact"] is None
    assert exported(world)["events"][0]["value"]["payload"]["contact"] is None
    for row in world.sql("SELECT sealed FROM dead_letters WHERE sealed IS NOT NULL"):
        assert world.run(world.services.vault.open_body(SHOP, row["sealed"])) is None
    assert world.sql("SELECT wrapped FROM customer_keys WHERE customer_id = %s", str(CUSTOMER)) == [{"wrapped": None}]


def test_an_operators_redaction_is_told_to_everybody(world: World) -> None:
    play(world)
    address = world.run(world.services.vault.address(SHOP, EMAIL))
    guest = world.contact(address, EMAIL)
    world.run(privacy.redact(world.services.vault, world.publisher, SHOP, str(CUSTOMER), NOW))
    (message,) = world.publisher.messages
    assert (message.topic, message.key) == (topics.CUSTOMERS, f"{SHOP}/{CUSTOMER}")
    assert world.run(world.services.vault.open(SHOP, address, guest)) is None, "known by the address that is stored"
    envelope = json.loads(message.value)
    assert (envelope["topic"], envelope["payload"]) == (
        "customers/redact",
        {"shop_domain": SHOP, "customer": {"id": CUSTOMER}},
    )
    assert exported(world)["contact"] is None


def test_a_redaction_that_breaks_off_reaches_everybody_when_it_comes_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(world)
    vault = world.services.vault
    address = world.run(vault.address(SHOP, EMAIL))
    guest = world.contact(address, EMAIL)
    destroy, asked = vault.destroy, []

    async def breaking(shop: str, customer_id: str, asked_at: datetime) -> None:
        asked.append(customer_id)
        if len(asked) == 2:
            raise psycopg.OperationalError("away")
        await destroy(shop, customer_id, asked_at)

    monkeypatch.setattr(vault, "destroy", breaking)
    redact = {"shop_domain": SHOP, "customer": {"id": CUSTOMER}}
    assert [world.webhook("customers/redact", redact).status_code for _ in range(2)] == [503, 200]
    assert exported(world)["contact"] is None
    assert world.run(vault.open(SHOP, address, guest)) is None


# --- the vault's store -------------------------------------------------------------------------------------------


def test_many_who_seal_at_once_make_one_key(world: World) -> None:
    vaults = [Vault(MasterKeys([MASTER]), world.services.pool) for _ in range(8)]

    async def race() -> list[str | None]:
        return await asyncio.gather(*[each.seal_body(SHOP, b"body") for each in vaults])

    for sealed in world.run(race()):
        assert world.run(world.services.vault.open_body(SHOP, sealed)) == b"body"
    assert len(world.sql("SELECT 1 FROM customer_keys")) == 1


def test_who_seal_at_once_have_their_keys_read_together(world: World) -> None:
    world.run(world.services.vault.destroy(SHOP, "3", NOW))
    vault = Vault(MasterKeys([MASTER]), world.services.pool)
    known = world.contact("1", "1@x.com")
    reads = []

    async def counted(connection: Any, names: list[tuple[str, str]]) -> dict[tuple[str, str], bytes | None]:
        reads.append(len(names))
        return await Vault._stored_or_made(vault, connection, names)

    async def race() -> list[str | None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vault, "_stored_or_made", counted)
            sealing = [vault.seal(SHOP, str(each % 20), Contact(f"{each % 20}@x.com", None)) for each in range(100)]
            tasks = [asyncio.ensure_future(each) for each in sealing]
            await asyncio.sleep(0)
            tasks[0].cancel()  # who gives up takes the key from nobody
            return await asyncio.gather(*tasks[1:])

    sealed = world.run(race())
    assert reads == [20]
    assert [at for at, each in enumerate(sealed, 1) if each is None] == [3, 23, 43, 63, 83]
    for at in (4, 20, 21):
        assert world.run(world.services.vault.open(SHOP, str(at % 20), sealed[at - 1])) == (f"{at % 20}@x.com", None)
    assert world.run(world.services.vault.open(SHOP, "1", known)) == ("1@x.com", "subscribed")


def test_keys_that_cannot_be_read_are_an_error_for_all_who_wait(world: World) -> None:
    vault = Vault(MasterKeys([MASTER]), world.services.pool)
    world.sql("ALTER TABLE customer_keys RENAME TO hidden")

    async def race() -> list[str | BaseException | None]:
        return await asyncio.gather(*[vault.seal_body(SHOP, b"x") for _ in range(3)], return_exceptions=True)

    assert [type(each) for each in world.run(race())] == [psycopg.errors.UndefinedTable] * 3
    world.sql("ALTER TABLE hidden RENAME TO customer_keys")
    assert world.run(vault.seal_body(SHOP, b"x")) is not None


def test_while_a_shop_is_being_forgotten_nobody_waits_for_it(world: World) -> None:
    sealed = world.contact("1", "bob@example.com")
    vault = Vault(MasterKeys([MASTER]), world.services.pool)

    async def race() -> list[str | None]:
        asked = ((SHOP, "1"), (OTHER, "1"), (SHOP, "2"))
        return await asyncio.gather(*[vault.seal(shop, each, Contact("bob@x.com", None)) for shop, each in asked])

    with psycopg.connect(world.url) as forgetting:
        asked_at = datetime.now(UTC) + timedelta(days=1)
        for statement in (FORGET_OWN, DESTROY_SHOP):
            forgetting.execute(statement.encode(), (SHOP, asked_at))
        late, of_another, new = world.run(race())
    assert None not in (late, of_another, new)
    assert world.run(world.services.vault.open(OTHER, "1", of_another)) == ("bob@x.com", None)
    # The key that was being destroyed: what is sealed with it nobody can read.
    for each in (sealed, late):
        assert world.run(world.services.vault.open(SHOP, "1", each)) is None


def test_a_key_destroyed_elsewhere_opens_nothing_from_then_on(world: World) -> None:
    elsewhere = Vault(MasterKeys([MASTER]), world.services.pool)
    sealed = world.contact("1", "bob@example.com")
    world.run(elsewhere.destroy(SHOP, "1", NOW))
    assert world.run(world.services.vault.open(SHOP, "1", sealed)) is None
    late = world.contact("1", "bob@example.com")  # the key is still remembered here: sealed, but for nobody
    assert world.run(world.services.vault.open(SHOP, "1", late)) is None
    later = Vault(MasterKeys([MASTER]), world.services.pool, seconds=0)
    assert world.run(later.seal_body(OTHER, b"x")) is not None
    assert world.run(later._key(SHOP, "1")) is None


def test_keys_are_remembered_up_to_a_number(world: World) -> None:
    small = Vault(MasterKeys([MASTER]), world.services.pool, remembered=2)
    for shop in (SHOP, OTHER, "third.myshopify.com"):
        world.run(small.seal_body(shop, b"x"))
    assert [key[0] for key in small._keys] == [OTHER, "third.myshopify.com"]


def test_a_replayed_shop_redaction_spares_who_came_later(world: World) -> None:
    sealed = world.contact("1", "bob@example.com")
    world.run(world.services.vault.destroy_shop(SHOP, NOW.replace(year=2020)))
    assert world.run(world.services.vault.open(SHOP, "1", sealed)) is not None


def test_another_master_key_is_an_error_and_not_an_empty_column(world: World) -> None:
    sealed = world.contact("1", "bob@example.com")
    with pytest.raises(VaultError, match="master key"):
        world.run(Vault(MasterKeys([bytes(32)]), world.services.pool).open(SHOP, "1", sealed))


# --- dead letters ------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_and_replayed_where_they_can_be(world: World) -> None:
    world.webhook("orders/paid", {**ORDER, "customer": {"id": 7}}, X_Shopify_Triggered_At="2026-11-21T09:00:00")
    world.webhook("orders/paid", ORDER, X_Shopify_Shop_Domain="nowhere.example.com")
    world.webhook("orders/paid", b"{")
    world.webhook("orders/paid", b"{" * 9_000_000)
    archive(world)
    from_kafka = {"source": topics.ORDERS, "key": f"{SHOP}/5", "error": "unknown_currency", "detail": "'ZZZ'"}
    world.insert("dead_letters", at=NOW, id=uuid4(), shop=SHOP, value='{"a":1}', **from_kafka)
    world.insert("dead_letters", at=NOW, id=uuid4(), shop=OTHER, value="{}", **{**from_kafka, "source": "elsewhere"})
    pool = world.services.pool
    assert len(world.run(dead_letters.listing(pool))) == 6
    assert [each.shop for each in world.run(dead_letters.listing(pool, shop=OTHER))] == [OTHER]
    (one,) = world.run(dead_letters.listing(pool, error="naive_time"))
    assert world.run(dead_letters.listing(pool, ids=[one.id])) == [one]
    letters = world.run(dead_letters.listing(pool, limit=10))
    assert [each.at for each in letters] == sorted((each.at for each in letters), reverse=True)
    outcomes = world.run(dead_letters.replay(pool, world.services.vault, world.publisher, letters, NOW))
    problems = {each.letter.error: each.problem for each in outcomes if each.problem}
    refusals = [each.problem for each in outcomes if each.letter.error == "bad_json"]
    assert "its body was not kept" in refusals
    assert any("still cannot be used (bad_json" in (each or "") for each in refusals)
    assert "still cannot be used (bad_shop" in problems["bad_shop"]
    assert "not one of our topics" in problems["unknown_currency"]
    assert sorted((each.topic, each.key) for each in world.publisher.messages) == [
        (topics.ORDERS, f"{SHOP}/1001"),
        (topics.ORDERS, f"{SHOP}/5"),
    ]
    left = world.run(dead_letters.listing(pool, unreplayed=True))
    assert len(left) == 4
    assert {each.replayed_at for each in world.run(dead_letters.listing(pool))} == {None, NOW}
