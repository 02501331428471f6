"""Customers who are one person, in a real database: consent follows them, a redaction reaches all that they were."""

import csv
import io
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from books import dead_letters, privacy
from books.sealed import MasterKeys, open_bytes
from books.vault import Vault
from events import codec, topics
from events.payloads import Contact
from lake import reading
from runtime import kafka
from streams.sink import store as sink_store
from streams.sink.rows import Rows
from tables.chunks import Received
from tests import harness, sinks
from tests.golden.test_cases import store
from tests.harness import Stream
from tests.integration.api_world import MASTER, NOW, SHOP, World, opened
from tests.integration.test_imports import bring_in

Json = dict[str, Any]

EMAIL = "ada@example.com"
CONSENT = "customers_email_marketing_consent/update"
PROGRAM: Json = {SHOP: {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}}


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


@pytest.fixture
def runs_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A past list is that of the newest run: the lake says that it is behind."""
    monkeypatch.setattr(reading, "MOST", -1)


# --- consent -----------------------------------------------------------------------------------------------------


def consent(state: str, at: str, customer: int | None = None, email: str = EMAIL) -> tuple[str, Json]:
    marketing = {"state": state, "consent_updated_at": at}
    return CONSENT, {"customer_id": customer, "email_address": email, "email_marketing_consent": marketing}


def known(customer: int, at: str = "2026-03-01T00:00:00Z", email: str = EMAIL, **more: Any) -> tuple[str, Json]:
    return "customers/update", {"id": customer, "updated_at": at, "email": email, **more}


def ordered(number: int, customer: int | None, at: str, email: str = EMAIL, agreed: bool = False) -> tuple[str, Json]:
    return "orders/paid", {
        "id": number,
        "created_at": at,
        "currency": "USD",
        "financial_status": "paid",
        "subtotal_price": "10.00",
        "customer": None if customer is None else {"id": customer},
        "email": email,
        "buyer_accepts_marketing": agreed,
    }


def merged(kept: int, deleted: int) -> tuple[str, Json]:
    ids = {
        f"admin_graphql_api_customer_{name}_id": f"gid://shopify/Customer/{of}"
        for name, of in (("kept", kept), ("deleted", deleted))
    }
    return "customers/merge", {**ids, "status": "completed"}


def settle(world: World, seed: int) -> None:
    """What the door published through the stream, in an order of the seed's, into the database."""
    stream = Stream(harness.reference(PROGRAM), random.Random(seed), partitions=2)
    sent = world.publisher.values()
    random.Random(seed).shuffle(sent)
    for each in sent:
        stream.send(each)
    stream.run(1)
    assert not stream.outputs(topics.DEAD_LETTERS)
    store(world.url, stream)


def exported(world: World, **parameters: object) -> dict[str, tuple[str, str]]:
    answer = world.get("/exports/segments.csv", world.key("export", "pii"), **parameters)
    assert answer.status_code == 200, answer.text
    rows = csv.DictReader(io.StringIO(answer.text, newline=""))
    return {row["customer_id"]: (row["email"], row["email_consent"]) for row in rows}


def told(world: World, *webhooks: tuple[str, Json]) -> None:
    """The webhooks, triggered one after the other."""
    for second, (topic, payload) in enumerate(webhooks):
        at = f"2026-11-21T09:29:{second:02d}Z"
        assert world.webhook(topic, payload, X_Shopify_Triggered_At=at).status_code == 200
    assert world.publisher.values(topics.DEAD_LETTERS) == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("webhooks", "expected"),
    [
        # Unsubscribed by an address alone, then claimed by an id; and the other way round in time.
        (
            [
                consent("unsubscribed", "2026-05-01T00:00:00Z"),
                known(7, email_marketing_consent={"state": "subscribed"}),
            ],
            {"7": (EMAIL, "unsubscribed")},
        ),
        (
            [
                consent("unsubscribed", "2026-05-01T00:00:00Z"),
                known(7, "2026-06-01T00:00:00Z", email_marketing_consent={"state": "subscribed"}),
            ],
            {"7": (EMAIL, "subscribed")},
        ),
        # An order's agreement of before does not bring back who has left since; one of after does.
        (
            [consent("unsubscribed", "2026-05-01T00:00:00Z"), ordered(1, 7, "2026-04-01T00:00:00Z", agreed=True)],
            {"7": (EMAIL, "unsubscribed")},
        ),
        (
            [consent("unsubscribed", "2026-05-01T00:00:00Z"), ordered(1, 7, "2026-06-01T00:00:00Z", agreed=True)],
            {"7": (EMAIL, "subscribed")},
        ),
        # Of one time the one that forbids.
        (
            [
                consent("subscribed", "2026-05-01T00:00:00Z", 7, "b@example.com"),
                consent("unsubscribed", "2026-05-01T00:00:00Z", 8, "a@example.com"),
                merged(7, 8),
            ],
            {"7": ("b@example.com", "unsubscribed")},
        ),
        # A chain of merges; the address is of the one who was kept, if they have one.
        (
            [
                consent("subscribed", "2026-05-01T00:00:00Z", 7, "b@example.com"),
                consent("unsubscribed", "2026-05-02T00:00:00Z", 9, "c@example.com"),
                merged(8, 9),
                merged(7, 8),
            ],
            {"7": ("b@example.com", "unsubscribed")},
        ),
        (
            [
                ("customers/update", {"id": 7, "updated_at": "2026-01-01T00:00:00Z"}),
                known(8, email="old@example.com"),
                known(9, "2026-04-01T00:00:00Z", email="new@example.com"),
                merged(7, 8),
                merged(7, 9),
            ],
            {"7": ("new@example.com", "not_subscribed")},
        ),
        # Who took their address away is not found by that of an order.
        (
            [
                known(7),
                ("customers/update", {"id": 7, "updated_at": "2026-04-01T00:00:00Z", "email": None}),
                ordered(1, None, "2026-05-01T00:00:00Z"),
            ],
            {"7": ("", "")},
        ),
        # An address belongs to the older account: what was told of it goes there, whoever claimed it first. Nor is it
        # written to by another's older consent.
        (
            [
                known(9, email_marketing_consent={"state": "subscribed"}),
                consent("unsubscribed", "2026-05-01T00:00:00Z"),
                ordered(1, 5, "2026-06-01T00:00:00Z"),
            ],
            {"5": (EMAIL, "unsubscribed"), "9": (EMAIL, "unsubscribed")},
        ),
        (
            [
                known(9, "2026-06-01T00:00:00Z", email_marketing_consent={"state": "subscribed"}),
                consent("unsubscribed", "2026-05-01T00:00:00Z"),
                ordered(1, 5, "2026-06-01T00:00:00Z"),
            ],
            {"5": (EMAIL, "unsubscribed"), "9": (EMAIL, "subscribed")},
        ),
        (
            [
                known(9),
                consent("subscribed", "2026-05-01T00:00:00Z"),
                ordered(1, 5, "2026-06-01T00:00:00Z"),
            ],
            {"5": (EMAIL, "subscribed"), "9": (EMAIL, "not_subscribed")},
        ),
    ],
)
def test_consent_follows_the_person(
    world: World, webhooks: list[tuple[str, Json]], expected: dict[str, tuple[str, str]], seed: int
) -> None:
    told(world, *webhooks)
    settle(world, seed)
    assert exported(world) == expected


@pytest.mark.usefixtures("runs_answer")
def test_a_past_list_has_todays_consent_of_who_somebody_is_today(world: World) -> None:
    told(
        world,
        consent("subscribed", "2026-05-01T00:00:00Z", 8, "a@example.com"),
        consent("unsubscribed", "2026-06-01T00:00:00Z", 7, "b@example.com"),
        merged(7, 8),
    )
    settle(world, 1)
    world.batch(NOW - timedelta(days=1), {"7": "Loyal", "8": "At risk", "404": "At risk"})
    found = exported(world, as_of=NOW.isoformat())
    assert found == {"7": ("b@example.com", "unsubscribed"), "8": ("b@example.com", "unsubscribed"), "404": ("", "")}
    del found["7"]
    assert exported(world, as_of=NOW.isoformat(), segment="At risk") == found


@pytest.mark.usefixtures("runs_answer")
def test_rows_that_lead_in_a_circle_or_nowhere_are_read_all_the_same(world: World) -> None:
    for customer_id, into in (("1", "2"), ("2", "1"), ("3", "404"), ("4", "3")):
        world.customer(customer_id, contact=world.contact(customer_id, f"{customer_id}@x.com"), merged_into=into)
    world.sql("UPDATE customers SET consent_at = now() WHERE customer_id = '3'")
    world.batch(NOW - timedelta(days=1), dict.fromkeys("1234", "Loyal"))
    found = exported(world, as_of=NOW.isoformat())
    assert found == {each: (f"{each}@x.com", "subscribed") for each in "1234"}
    asked = world.run(privacy.export(world.services.pool, world.services.vault, SHOP, "1"))
    assert [each["customer_id"] for each in asked["merged"]] == ["2"]


def test_a_data_request_holds_what_was_told_under_every_name(world: World) -> None:
    told(world, ordered(1, None, "2026-05-01T00:00:00Z"), consent("unsubscribed", "2026-05-01T00:00:00Z"), known(7))
    address = world.publisher.values()[0]["payload"]["address"]
    settle(world, 1)
    found = world.run(privacy.export(world.services.pool, world.services.vault, SHOP, "7"))
    assert found["contact"] == {"email": EMAIL, "consent": "unsubscribed"}
    (other,) = found["merged"]
    assert (other["customer_id"], other["customer"]["merged_into"]) == (address, "7")
    assert sorted(each["webhook_topic"] for each in other["events"]) == [CONSENT, "orders/paid"]
    opened_ = [each["value"]["payload"]["contact"]["email"] for each in other["events"]]
    assert opened_ == [EMAIL, EMAIL]
    alone = world.run(privacy.export(world.services.pool, world.services.vault, SHOP, address))
    assert (alone["contact"], alone["customer"]) == (found["contact"], other["customer"])


# --- an address alone, at the door and in files ------------------------------------------------------------------


def test_a_consent_without_a_customers_id_is_of_whom_the_address_names(world: World) -> None:
    told(world, consent("unsubscribed", "2026-05-01T00:00:00Z", email=" Ada@Example.com"))
    (message,) = world.publisher.messages
    payload = json.loads(message.value)["payload"]
    address = world.run(world.services.vault.address(SHOP, EMAIL))
    assert (message.topic, message.key, payload["address"]) == (topics.CUSTOMERS, f"{SHOP}/{address}", address)
    assert b"ada@" not in message.value.lower()
    assert b"unsubscribed" not in message.value
    assert world.run(world.services.vault.open(SHOP, address, payload["consent"])) == (None, "unsubscribed")


@pytest.mark.parametrize("named", [{}, {"email_address": " "}, {"customer_id": "mail-" + "0" * 32}])
def test_a_consent_that_names_nobody_is_a_dead_letter(world: World, named: Json) -> None:
    assert world.webhook(CONSENT, {"email_marketing_consent": {"state": "unsubscribed"}, **named}).status_code == 200
    (letter,) = world.publisher.values(topics.DEAD_LETTERS)
    assert letter["error"] == "bad_id"


def test_an_export_without_ids_is_brought_in_by_address(world: World, tmp_path: Path) -> None:
    path = tmp_path / "customers.csv"
    header = "First Name,Last Name,Email,Accepts Marketing,Total Spent,Total Orders\n"
    path.write_text(f"{header}Ada,L,Ada@Example.com,no,1.00,1\nBo,L,bo@example.com,yes,,\nCy,L,,yes,,\n")
    row = bring_in(world.url, path, world.publisher)
    assert (row.status, row.customers, row.rejected) == ("done", 2, 1)
    address = world.run(world.services.vault.address(SHOP, EMAIL))
    messages = list(world.publisher.messages)
    assert messages[0].key == f"{SHOP}/{address}"
    assert b"example.com" not in b"".join(each.value for each in messages).lower()
    bring_in(world.url, path, world.publisher, again=True)
    assert [codec.loads(each.value)["webhook_id"] for each in world.publisher.messages[2:]] == [
        codec.loads(each.value)["webhook_id"] for each in messages
    ]
    told(
        world,
        ordered(1, 7, "2026-06-01T00:00:00Z", agreed=True),
        ordered(2, 8, "2026-06-01T00:00:00Z", "bo@example.com"),
    )
    settle(world, 1)
    # Whoever said no in it is not taken at their word of an order, be it under another name.
    assert exported(world) == {"7": (EMAIL, "not_subscribed"), "8": ("bo@example.com", "subscribed")}


# --- redaction ---------------------------------------------------------------------------------------------------


def batch(*records: tuple[str, str, Json]) -> Rows:
    rows = Rows(journal=False)
    for at, (topic, key, value) in enumerate(records):
        rows.add(Received(topic, 0, at, 1_795_253_405_000, f"{SHOP}/{key}".encode(), codec.dumps(value)))
    assert not rows.dead_letters
    return rows


def row(ident: str, into: str | None = None) -> tuple[str, str, Json]:
    return topics.CUSTOMER_ROWS, ident, sinks.customer(ident, shop=SHOP, merged_into=into)


def redaction(ident: str) -> tuple[str, str, Json]:
    payload = {"shop_domain": SHOP, "customer": {"id": int(ident)}}
    return topics.CUSTOMERS, ident, sinks.envelope("customers/redact", payload, shop=SHOP)


def write(world: World, *records: tuple[str, str, Json]) -> None:
    with psycopg.connect(world.url) as connection:
        sink_store.prepare(connection)
        sink_store.write(connection.cursor(), batch(*records))


def readable(world: World, sealed: dict[str, str]) -> set[str]:
    """Those whose key still opens what was sealed for them."""
    fresh = Vault(MasterKeys([MASTER]), world.services.pool)
    return {each for each, text in sealed.items() if world.run(fresh.open(SHOP, each, text)) is not None}


ADDRESS = "mail-" + "a" * 32
CHAIN = {ADDRESS: "1", "1": "2", "2": "3"}


@pytest.mark.parametrize("door", [False, True])
@pytest.mark.parametrize("order", list(permutations([ADDRESS, "1", "2", "redact"])), ids="-".join)
def test_a_redaction_reaches_all_who_are_they_in_whatever_order_it_is_heard(
    world: World, order: tuple[str, ...], door: bool
) -> None:
    sealed = {each: world.contact(each, f"{each}@x.com") for each in (*CHAIN, "3", "4", "5")}
    write(world, row("3"), row("4", "5"), row("5"))
    for each in order:
        if each != "redact":
            write(world, row(each, CHAIN[each]))
        elif door:
            told(world, ("customers/redact", {"shop_domain": SHOP, "customer": {"id": 3}}))
        else:
            write(world, redaction("3"))
    assert readable(world, sealed) == {"4", "5"}
    # Nobody gets a new key either.
    vault = Vault(MasterKeys([MASTER]), world.services.pool)
    assert world.run(vault.seal(SHOP, ADDRESS, Contact("a@x.com", None))) is None


def test_one_batch_may_bring_all_of_it(world: World) -> None:
    sealed = {each: world.contact(each, f"{each}@x.com") for each in (*CHAIN, "3", "4")}
    write(world, row("3"), redaction("3"), *(row(each, into) for each, into in CHAIN.items()), row("4", None))
    assert readable(world, sealed) == {"4"}


def test_a_circle_is_forgotten_once(world: World) -> None:
    sealed = {each: world.contact(each, f"{each}@x.com") for each in "123"}
    write(world, row("1", "2"), row("2", "1"), row("3"))
    write(world, redaction("1"))
    assert readable(world, sealed) == {"3"}


def test_whoever_is_somebody_no_more_is_not_forgotten_with_them(world: World) -> None:
    sealed = {each: world.contact(each, f"{each}@x.com") for each in "12"}
    write(world, row("1", "2"), row("2"))
    write(world, row("1"))
    write(world, redaction("2"))
    assert readable(world, sealed) == {"1"}


def test_every_address_that_is_stored_of_them_is_forgotten(world: World) -> None:
    """Also one that nothing but the merged customer's own contact tells."""
    vault = world.services.vault
    hers = world.run(vault.address(SHOP, "maiden@example.com"))
    sealed = {hers: world.contact(hers, "maiden@example.com")}
    world.customer("8", contact=world.contact("8", "maiden@example.com"), merged_into="7")
    told(world, ("customers/redact", {"shop_domain": SHOP, "customer": {"id": 7}}))
    assert readable(world, sealed) == set()


def waiting(world: World) -> bool:
    return bool(world.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


def crosswise(world: World, first: Callable[[Any], None], second: Callable[[], None]) -> None:
    """`second` begins while what `first` did is not committed yet, and ends after it."""
    with psycopg.connect(world.url) as connection:
        sink_store.prepare(connection)
        first(connection.cursor())
        thread = threading.Thread(target=second)
        thread.start()
        until = time.monotonic() + 20
        while not waiting(world):
            assert time.monotonic() < until, "nobody waits"
            time.sleep(0.01)
        connection.commit()
    thread.join(20)
    assert not thread.is_alive()


def test_two_who_write_at_once_do_not_miss_each_other(world: World) -> None:
    names = ["1", "2", "3", "4", "5", "6", "7", "8", "9"]
    sealed = {each: world.contact(each, f"{each}@x.com") for each in names}

    def writes(*records: tuple[str, str, Json]) -> Callable[[Any], None]:
        return lambda cursor: (sink_store.write(cursor, batch(*records)), None)[1]

    crosswise(world, writes(row("1", "2")), lambda: write(world, redaction("2")))
    crosswise(world, writes(redaction("4")), lambda: write(world, row("3", "4")))
    crosswise(world, writes(row("5", "6")), lambda: world.run(world.services.vault.destroy(SHOP, "6", NOW)))
    # 9 is forgotten already: 8 comes to be them, and just now 7 to be 8.
    write(world, redaction("9"))
    crosswise(world, writes(row("7", "8")), lambda: write(world, row("8", "9")))
    assert readable(world, sealed) == set()


def test_sinks_that_store_who_is_whom_do_not_wait_for_each_other(world: World) -> None:
    with psycopg.connect(world.url) as connection:
        sink_store.prepare(connection)
        sink_store._lock_persons(connection.cursor(), batch(row("1", "2")))
        with psycopg.connect(world.url, options="-c lock_timeout=2000") as other:
            sink_store._lock_persons(other.cursor(), batch(row("3", "4")))


def everything(world: World) -> str:
    with psycopg.connect(world.url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [connection.execute(f"SELECT t::text FROM {name} t".encode()).fetchall() for (name,) in tables]
    return "\n".join(row[0] for found in rows for row in found)


@pytest.mark.parametrize("seed", range(4))
def test_after_a_redaction_nothing_of_the_person_can_be_opened_in_any_table(world: World, seed: int) -> None:
    """By whoever has all tables and the master key. The redaction comes by Kafka, without an address."""
    told(
        world,
        ordered(1, None, "2026-05-01T00:00:00Z", agreed=True),
        consent("unsubscribed", "2026-05-01T00:00:00Z"),
        known(7, accepts_marketing=True),
        known(8, email="maiden@example.com", accepts_marketing=True),
        ordered(2, None, "2026-05-01T00:00:00Z", "maiden@example.com", agreed=True),
        merged(7, 8),
        known(9, email="bo@example.com", accepts_marketing=True),
    )
    stream = Stream(harness.reference(PROGRAM), random.Random(seed), partitions=2)
    sent = [*world.publisher.values(), redaction("7")[2]]
    random.Random(seed).shuffle(sent)
    for each in sent:
        stream.send(each)
    stream.run(1)
    # As the sink meets it: a few records of some partition at a time.
    logs = [list(log) for (topic, _), log in stream.logs.items() if topic in kafka.SINK_TOPICS]
    chance = random.Random(seed)
    with psycopg.connect(world.url) as connection:
        sink_store.prepare(connection)
        while any(logs):
            log = chance.choice([log for log in logs if log])
            rows = Rows(journal=False)
            for _ in range(min(3, len(log))):
                rows.add(log.pop(0))
            sink_store.write(connection.cursor(), rows)
            connection.commit()
    tokens = set(re.findall(r"v1\.[0-9A-Za-z_=-]{20,}", everything(world)))
    assert len(tokens) > 10
    opens: dict[str, set[bytes | None]] = {}
    for found in world.sql("SELECT customer_id, wrapped FROM customer_keys WHERE wrapped IS NOT NULL"):
        cipher = AESGCM(MasterKeys([MASTER]).unwrap(SHOP, found["customer_id"], bytes(found["wrapped"])))
        opens[found["customer_id"]] = {open_bytes(cipher, SHOP, found["customer_id"], token) for token in tokens} - {
            None
        }
    assert {name for name, plain in opens.items() if plain} == {"9"}


def test_a_replayed_redaction_reaches_whom_its_address_names(world: World) -> None:
    """One that was sealed, since it could not be used once: only here anybody reads whose address it names."""
    vault = world.services.vault
    address = world.run(vault.address(SHOP, EMAIL))
    sealed = {address: world.contact(address, EMAIL)}
    assert world.webhook("customers/redact", {"shop_domain": SHOP, "customer": {"id": "x", "email": EMAIL}}).is_success
    (letter,) = world.publisher.values(topics.DEAD_LETTERS)
    world.insert("dead_letters", **letter)
    body = json.dumps({"shop_domain": SHOP, "customer": {"id": 7, "email": EMAIL}}).encode()
    (found,) = world.run(dead_letters.listing(world.services.pool))
    mended = found._replace(sealed=world.run(vault.seal_body(SHOP, body)))
    assert readable(world, sealed) == {address}
    (outcome,) = world.run(dead_letters.replay(world.services.pool, vault, world.publisher, [mended], NOW))
    assert outcome.problem is None
    assert readable(world, sealed) == set()


@pytest.mark.parametrize("operator", [False, True])
def test_whoever_is_known_by_an_address_alone_can_be_forgotten(world: World, operator: bool) -> None:
    told(world, ordered(1, None, "2026-05-01T00:00:00Z"))
    (message,) = world.publisher.messages
    payload = json.loads(message.value)["payload"]
    address = payload["address"]
    if operator:
        world.run(privacy.redact(world.services.vault, world.publisher, SHOP, address, NOW))
    else:
        told(world, ("customers/redact", {"shop_domain": SHOP, "customer": {"id": None, "email": EMAIL}}))
    message = world.publisher.messages[-1]
    assert (message.topic, message.key) == (topics.CUSTOMERS, f"{SHOP}/{address}")
    assert b"example.com" not in message.value
    assert readable(world, {address: payload["contact"]}) == set()
    settle(world, 1)
    (stored,) = world.sql("SELECT customer_id, redacted, contact FROM customers")
    assert stored == {"customer_id": address, "redacted": True, "contact": None}
