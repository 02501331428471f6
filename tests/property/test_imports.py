"""A store that is brought in says what its webhooks say, whatever way it comes, in whatever order."""

import csv
import io
import random
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.shop import store_maker
from events import envelopes as reading
from events import instants, orders
from events.webhook_topics import OURS
from imports import files, items, judging
from imports.items import Item
from imports.judging import Judged
from tests import bulk, harness, stores
from tests.harness import Stream
from tests.property import webhooks
from tests.property.webhooks import thorough

Json = dict[str, Any]
SHOP = webhooks.SHOP


def _read(data: bytes, shop: str, currency: str) -> list[Judged]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.jsonl"
        path.write_bytes(data)
        reader = files.reader(path, shop, currency, 0)
        reader.scan()
        found = [
            judging.judge(each, shop, currency) if isinstance(each, Item) else each for each in items.items(reader)
        ]
    assert all(isinstance(each, Judged) for each in found), found
    return [each for each in found if isinstance(each, Judged)]


def _said(webhook: reading.Webhook, currency: str) -> Json:
    """What a snapshot says, without what tells one delivery from another."""
    snapshot, refunds = orders.snapshot(webhook, currency)
    return {**snapshot, "key": snapshot["key"][0], "refunds": refunds}


def _snapshots(envelopes: Iterable[Json]) -> dict[str, Json]:
    """The newest snapshot of each order."""
    newest: dict[str, tuple[Any, Json]] = {}
    for each in envelopes:
        if each["topic"] in webhooks.SNAPSHOT_TOPICS:
            payload = each["payload"]
            at = instants.parse(payload.get("updated_at") or payload["created_at"])
            key = at, instants.parse(each["triggered_at"]), each["webhook_id"]
            if str(payload["id"]) not in newest or newest[str(payload["id"])][0] < key:
                newest[str(payload["id"])] = key, each
    return {ident: each for ident, (_, each) in newest.items()}


def _of_its_own(envelope: Json) -> Json:
    """With refunds that no other order has: their ids are the shop's. And of adjustments those that say what they are:
    of the others GraphQL knows that they are differences, and a webhook does not."""
    payload = dict(envelope["payload"])
    if payload.get("refunds") is not None:
        payload["refunds"] = [{**each, "id": int(f"{payload['id'] % 10}{each['id']}")} for each in payload["refunds"]]
        for each in payload["refunds"]:
            if (told := each.get("order_adjustments")) is not None:
                each["order_adjustments"] = [one for one in told if one.get("kind") or one.get("reason")]
    return {**envelope, "payload": payload}


def _webhook(envelope: Json, shop: str) -> reading.Webhook:
    small = reading.checked(envelope["topic"], shop, envelope["payload"], lambda: envelope["payload"])
    small = {name: value for name, value in small.items() if name not in OURS}  # what the door puts there, no file has
    triggered = instants.parse(envelope["triggered_at"])
    return reading.Webhook(envelope["topic"], shop, envelope["webhook_id"], triggered, triggered, small)


def _same(found: dict[str, Json], shop: str, currency: str, chance: random.Random) -> None:
    for apart, mixed in ((False, False), (True, False), (True, True)):
        told = {ident: each for ident, each in found.items() if not apart or each["payload"].get("refunds") is not None}
        groups = [bulk.order(each["payload"], chance, apart=apart) for each in told.values()]
        if not groups:
            continue
        for each in _read(bulk.jsonl(groups, chance if mixed else None), shop, currency):
            item = each.item
            webhook = reading.Webhook(item.topic, shop, item.webhook_id, item.triggered_at, 0, each.opened.payload)
            ident = str(each.opened.key).partition("/")[2]
            before = _said(_webhook(told[ident], shop), currency)
            after = _said(webhook, currency)
            if apart and not any(group["payload"]["refunds"] for group in told.values()):
                before["refund_ids"] = after["refund_ids"]  # a file without any refund does not say that it has none
            assert after == before


@given(webhooks.envelopes(), st.randoms(use_true_random=False))
@thorough(60)
def test_an_order_as_jsonl_says_what_its_webhook_said(envelopes: list[Json], chance: random.Random) -> None:
    found = {ident: _of_its_own(each) for ident, each in _snapshots(envelopes).items()}
    _same(found, SHOP, "USD", chance)


@pytest.mark.parametrize(("seed", "currency"), [(1, "USD"), (2, "JPY"), (3, "KWD")])
def test_whole_payloads_say_the_same(seed: int, currency: str) -> None:
    found = _snapshots(stores.store(seed, currency=currency))
    assert len(found) > 15
    _same(found, stores.SHOP, currency, random.Random(seed))


# --- one store, three ways ---------------------------------------------------------------------------------------

UNTIL = instants.from_datetime(datetime(2026, 11, 20, tzinfo=UTC))
STORE = "nest.myshopify.com"


def _told() -> list[Json]:
    """A year's webhooks, each once and in some order, as they stand on Kafka."""
    made = store_maker.make_store(UNTIL, seed=3, customers=40, webhooks=400)
    found = {}
    for each in made:
        at = instants.text(each.triggered_at)
        envelope: Json = {"topic": each.topic, "shop": STORE, "webhook_id": each.webhook_id, "event_id": None}
        found[each.webhook_id] = envelope | {
            "api_version": None,
            "triggered_at": at,
            "received_at": at,
            "payload": each.payload,
        }
    return list(found.values())


def _brought_in(told: list[Json]) -> list[Json]:
    """The same store as a bulk operation tells it when all is over."""
    chance = random.Random(1)
    groups = [bulk.order(each["payload"], chance, apart=False) for each in _snapshots(told).values()]
    newest = {each["payload"]["id"]: each["payload"] for each in told if each["topic"].startswith("customers/")}
    people = bulk.jsonl([[bulk.customer(each)] for each in newest.values()])
    found = []
    for each in [*_read(bulk.jsonl(groups), STORE, "USD"), *_read(people, STORE, "USD")]:
        at = instants.text(each.item.triggered_at)
        envelope: Json = {"topic": each.item.topic, "shop": STORE, "webhook_id": each.item.webhook_id}
        envelope |= {"event_id": None, "api_version": None, "triggered_at": at}
        found.append(envelope | {"received_at": instants.text(UNTIL), "payload": each.opened.payload})
    return found


def _customers(sent: list[Json], seed: int) -> dict[str, Json]:
    """Everybody's row as of the year's end."""
    program = {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}
    stream = Stream(harness.reference({STORE: program}), random.Random(seed))
    mixed = list(sent)
    random.Random(seed).shuffle(mixed)
    for each in mixed:
        stream.send(each)
    stream.run()
    stream.rescore(STORE, instants.text(UNTIL), "default")
    stream.run()
    wanted = ("balance", "recency_days", "frequency", "monetary", "last_order_at", "standing")
    return {key[1]: {name: row[name] for name in wanted} for key, row in stream.sink().rows.items()}  # type: ignore[literal-required]


def test_webhooks_files_and_both_make_the_same_customers() -> None:
    told = _told()
    files_ = _brought_in(told)
    expected = _customers(told, 1)
    assert len([row for row in expected.values() if row["monetary"]]) > 15
    assert _customers(files_, 2) == expected
    assert _customers([*told, *files_, *files_[::2]], 3) == expected
    half = [each for number, each in enumerate(told) if number % 2]
    assert _customers([*half, *files_], 4) == expected


# --- and as the admin's orders export ----------------------------------------------------------------------------

_HEADER = (
    *("Name", "Email", "Financial Status", "Currency", "Subtotal", "Shipping", "Taxes", "Total", "Created at"),
    *(
        "Lineitem quantity",
        "Lineitem name",
        "Lineitem price",
        "Cancelled at",
        "Payment Method",
        "Refunded Amount",
        "Id",
    ),
)


def _addressed(payload: Json, email: str | None) -> Json:
    """As the front door leaves it: an address is known by its keyed hash, here by one without a key."""
    if email is None:
        return payload
    return {**payload, "address": f"mail-{sha256(email.lower().encode()).hexdigest()[:32]}"}


def _exported(told: list[Json]) -> bytes:
    """The same store's orders as the admin's export has them: a row a line, an order's own cells in its first row."""
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(_HEADER)
    for each in _snapshots(told).values():
        order = each["payload"]
        refunded = Decimal(order["subtotal_price"]) - Decimal(order["current_subtotal_price"])
        own = [order["financial_status"], "USD", order["subtotal_price"], "0.00", "0.00", order["subtotal_price"]]
        gateway = "bogus" if order["test"] else "card"
        last = [order["cancelled_at"] or "", gateway, refunded, order["id"]]
        for number, line in enumerate(order["line_items"]):
            first = number == 0
            rows.writerow(
                [
                    *(order["name"], order["email"] or "" if first else "", *(own if first else [""] * len(own))),
                    *(order["created_at"], line["quantity"], line["name"], line["price"]),
                    *(last if first else [""] * len(last)),
                ]
            )
    return out.getvalue().encode()


def test_an_orders_export_makes_the_same_customers_but_for_what_it_does_not_tell() -> None:
    """Gift cards it does not tell apart, so who bought one is left out. Ids come with the customers' own webhooks."""
    told = [{**each, "payload": _addressed(each["payload"], each["payload"].get("email"))} for each in _told()]
    people = [each for each in told if each["topic"].startswith("customers/")]
    orders_ = [
        {
            **dict.fromkeys(("event_id", "api_version")),
            "topic": each.item.topic,
            "shop": STORE,
            "webhook_id": each.item.webhook_id,
            "triggered_at": instants.text(each.item.triggered_at),
            "received_at": instants.text(UNTIL),
            "payload": _addressed(each.opened.payload, each.opened.told.email),
        }
        for each in _read(_exported(told), STORE, "USD")
    ]
    snapshots = [each["payload"] for each in _snapshots(told).values()]
    assert len(orders_) == len(snapshots)
    gifted = {
        str(order["customer"]["id"])
        for order in snapshots
        if order["customer"] is not None and any(line["gift_card"] for line in order["line_items"])
    }
    expected = {who: row for who, row in _customers(told, 1).items() if who.isdecimal() and who not in gifted}
    assert len([row for row in expected.values() if row["monetary"]]) > 15
    for mixed in ([*people, *orders_], [*orders_, *people], [*told, *orders_]):
        found = _customers(mixed, 2)
        assert {who: found[who] for who in expected} == expected
