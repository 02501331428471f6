"""Cases from the field, each whole: signed webhooks or a file that `play` reads, through to what a merchant sees.

A file of `cases/` holds its source, the symptom, the webhooks in the order of their arrival, and what a merchant
should then see. `wanted_too` is what somebody wished beyond it.
"""

import csv
import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.commands import play
from cli.shop.transactions import order_paid
from events import instants, keys, money, orders, topics
from events.programs import FIRST_POLICY
from imports import files, items, judging, transactions
from imports.items import FileError, Item, Reader
from imports.judging import Judged
from runtime import kafka
from streams.sink import store as sink_store
from streams.sink.rows import Rows
from tests import harness, oracle
from tests.harness import Stream
from tests.integration.api_world import World, opened
from tests.property.test_batch_ties import compare
from tests.property.webhooks import SHOP

Json = dict[str, Any]

CASES = sorted((Path(__file__).parent / "cases").glob("*.json"))
WEBHOOKS = [path for path in CASES if json.loads(path.read_text(encoding="utf-8")).get("envelopes")]
FILES = [path for path in CASES if path not in WEBHOOKS]
#: What is expected of these is told in words; each has a test of its own.
IN_WORDS = {path for path in FILES if isinstance(json.loads(path.read_text(encoding="utf-8"))["expect"], str)}
#: What the admin of Shopify exports is brought in, not played.
EXPORTS = {path for path in FILES if path.stem[:3] == "241"}
FILE_SHOP = "nest-case.myshopify.com"
AS_OF = datetime(2026, 11, 25, tzinfo=UTC)


def read(path: Path) -> Json:
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found


def program(case: Json) -> Json:
    """As a shop that is added today has it."""
    currency, policies = case.get("shop", {}).get("currency", "USD"), [FIRST_POLICY.model_dump(mode="json")]
    return {"currency": currency, "zone": "UTC", "look_back_days": 365, "rules": [], "policies": policies}


def shop_of(case: Json) -> str:
    if not case.get("envelopes"):
        return FILE_SHOP
    (shop,) = {each["shop"] for each in case["envelopes"]}
    return str(shop)


def deliver(world: World, case: Json) -> list[Json]:
    """Every webhook posted, each answered 200; what the front door published of them."""
    for each in case["envelopes"]:
        answer = world.webhook(
            each["topic"],
            each["payload"],
            X_Shopify_Shop_Domain=each["shop"],
            X_Shopify_Webhook_Id=each["webhook_id"],
            X_Shopify_Event_Id=each["event_id"],
            X_Shopify_API_Version=each["api_version"],
            X_Shopify_Triggered_At=each["triggered_at"],
        )
        assert answer.status_code == 200
    assert world.publisher.values(topics.DEAD_LETTERS) == []
    return world.publisher.values()


def fold(case: Json, published: list[Json], seed: int | None) -> Stream:
    """Through one partition as they came, or with a seed in another order through three."""
    stream = Stream(
        harness.reference({shop_of(case): program(case)}), random.Random(seed), partitions=1 if seed is None else 3
    )
    sent = list(published)
    if seed is not None:
        random.Random(seed).shuffle(sent)
    for each in sent:
        stream.send(each)
    stream.run(0 if seed is None else 1)
    return stream


def check_customers(case: Json, stream: Stream) -> None:
    rows, shop, currency = stream.sink().rows, shop_of(case), program(case)["currency"]
    for customer_id, wanted in case["expect"].get("customers", {}).items():
        row = rows[shop, customer_id]
        found = {"balance": row["balance"], "frequency": row["frequency"], "segment": row["standing"]["segment"]}
        found["monetary"] = money.decimal_text(row["monetary"], currency)
        found["last_order_at"] = row["last_order_at"]
        assert {name: found[name] for name in wanted} == wanted
    assert len(stream.sink().letters) == case["expect"].get("dead_letters", 0)


def store(url: str, stream: Stream) -> None:
    """What the stream wrote, by the sink's own hands."""
    with psycopg.connect(url) as connection:
        sink_store.prepare(connection)
        rows = Rows(journal=False)
        for (topic, _), log in stream.logs.items():
            if topic in kafka.SINK_TOPICS:
                for message in log:
                    rows.add(message)
        assert len(rows.dead_letters) == len(stream.outputs(topics.DEAD_LETTERS))
        sink_store.write(connection.cursor(), rows)


def check_export(case: Json, world: World, *, pii: bool, name: str) -> None:
    shop = shop_of(case)
    scopes = ("export", "pii") if pii else ("export",)
    answer = world.client.get(f"/v1/shops/{shop}/exports/segments.csv", headers=world.key(*scopes, shop=shop))
    assert answer.status_code == 200, answer.text
    rows = {row["customer_id"]: row for row in csv.DictReader(io.StringIO(answer.text, newline=""), strict=True)}
    for customer_id, wanted in case["expect"].get(name, {}).items():
        for column, value in wanted.items():
            assert rows[customer_id][column] == _digest(value), (customer_id, column)


#: Under what name each preset has its address.
ADDRESSED = {
    "klaviyo": "Email",
    "mailchimp": "Email Address",
    "meta": "email",
    "google": "Email",
    "spreadsheet": "email",
}


def check_presets(case: Json, world: World, name: str, **asked: str) -> None:
    """A list of people holds these addresses, each once, in the order of their customers."""
    shop = shop_of(case)
    headers = world.key("export", "pii", shop=shop)
    for preset, wanted in case["expect"].get(name, {}).items():
        url = f"/v1/shops/{shop}/exports/segments.csv"
        answer = world.client.get(url, headers=headers, params={"preset": preset, **asked})
        assert answer.status_code == 200, answer.text
        rows = csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""), strict=True)
        assert [row[ADDRESSED[preset]] for row in rows] == [_digest(each) for each in wanted], preset


def _digest(told: str) -> str:
    email = told.removeprefix("trim-lower:")
    return told if email == told else sha256(email.encode()).hexdigest()


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        yield running


@pytest.mark.parametrize("path", WEBHOOKS, ids=lambda path: path.stem)
def test_a_merchant_sees_what_they_should(path: Path, world: World) -> None:
    case = read(path)
    world.program(shop=shop_of(case), currency=case["shop"]["currency"])
    published = deliver(world, case)
    check_customers(case, fold(case, published, 1))
    stream = fold(case, published, None)
    check_customers(case, stream)
    store(world.url, stream)
    check_export(case, world, pii=True, name="export")
    check_export(case, world, pii=False, name="export_hashed")
    check_presets(case, world, "presets")
    check_presets(case, world, "presets_any", consent="any")


@pytest.mark.parametrize("path", WEBHOOKS, ids=lambda path: path.stem)
def test_the_oracle_and_the_batch_agree(path: Path, world: World) -> None:
    case = read(path)
    published = deliver(world, case)
    shop, currency = shop_of(case), case["shop"]["currency"]
    found = oracle.oracle(published, {shop: program(case)}, t=AS_OF)[shop].customers
    for customer_id, wanted in case["expect"].get("customers", {}).items():
        row = found[customer_id]
        told = {"balance": row.balance, "frequency": row.frequency, "segment": row.segment}
        told["monetary"] = money.decimal_text(row.monetary, currency)
        assert {name: told[name] for name in wanted} == wanted
    rules = [{"effective_from": None, "points_per_unit": "1"}]
    compare([{**each, "shop": SHOP} for each in published], {**program(case), "rules": rules})


@pytest.mark.parametrize("path", [path for path in FILES if path not in IN_WORDS | EXPORTS], ids=lambda path: path.stem)
def test_a_file_of_transactions_is_read_as_it_is_meant(path: Path) -> None:
    """Each of a case's files played in turn; what was posted before is the same delivery."""
    case = read(path)
    published: dict[str, Json] = {}
    for name in case["files"]:
        for row in transactions.read(path.parent / name, "csv", "USD").found:
            order = order_paid(FILE_SHOP, row)
            at = instants.text(order.triggered_at)
            envelope: Json = {"topic": order.topic, "shop": FILE_SHOP, "webhook_id": order.webhook_id, "event_id": None}
            envelope |= {"api_version": None, "triggered_at": at, "received_at": at, "payload": order.payload}
            published.setdefault(order.webhook_id, envelope)
    for seed in (None, 1):
        stream = fold(case, list(published.values()), seed)
        check_customers(case, stream)
        wanted = {keys.join(FILE_SHOP, each) for each in case["expect"]["customers"]}
        assert {keys.join(*key) for key in stream.sink().rows} == wanted


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("246-online-retail.csv", "no column for the amount .* name it 'amount'"),
        ("252-windows-1252.csv", "not UTF-8: save the file as such"),
        ("257-spreadsheet-dates.csv", "line 2: the timestamp is a date whose day and month cannot be told"),
    ],
)
def test_a_file_that_cannot_be_read_for_sure_is_refused_in_a_clear_word(name: str, says: str) -> None:
    with pytest.raises(FileError, match=says):
        transactions.read(Path(__file__).parent / "cases" / name, "csv", "USD")


def test_a_comma_is_the_decimal_sign_where_semicolons_part_the_columns() -> None:
    path = Path(__file__).parent / "cases" / "250-three-decimals-after-a-comma.csv"
    assert [row.amount for row in transactions.read(path, "csv", "USD").found] == [12_50]


def test_the_admins_orders_export_is_brought_in() -> None:
    case = read(*EXPORTS)
    reader = files.reader(Path(__file__).parent / "cases" / case["files"][0], FILE_SHOP, "USD", 0)
    reader.scan()
    found: dict[str | None, list[Any]] = {}
    for item in items.items(reader):
        judged = judging.judge(item, FILE_SHOP, "USD") if isinstance(item, Item) else item
        assert isinstance(judged, Judged)
        told = judged.opened.told
        found.setdefault(told.email, []).append(judged)
        assert told.consent == ("subscribed" if told.email else None)
    assert len(found.pop(None)) == case["expect"]["guest_orders"]
    for email, wanted in case["expect"]["customers_by_email"].items():
        judgements = [each.order for each in found.pop(email)]
        net = [each["base"] for each in judgements if each["status"] in orders.COUNTING and not each["cancelled"]]
        assert len(net) == wanted["orders"]
        if "net" in wanted:
            assert money.decimal_text(sum(net), "USD") == wanted["net"]
    assert not found
    newest = max(each["processed_at"] for each in told_of(reader))
    assert instants.text(newest) == case["expect"]["time_of_1006"]


def told_of(reader: Reader) -> list[Any]:
    judged = (judging.judge(each, FILE_SHOP, "USD") for each in items.items(reader) if isinstance(each, Item))
    return [each.order for each in judged if isinstance(each, Judged)]


def test_rows_in_another_currency_are_told() -> None:
    path = Path(__file__).parent / "cases" / "258-two-currencies.csv"
    rows = transactions.read(path, "csv", "USD").found
    assert play.cannot_count(rows, "USD") == "1 row is not in the shop's USD and cannot count."
    assert play.cannot_count(rows[:1], "USD") is None


def test_a_parameter_that_is_not_known_is_refused(world: World) -> None:
    """An address in a query would stand in everybody's logs; to leave it out unsaid would answer with everybody."""
    world.program(shop=FILE_SHOP)
    reader = world.key("read", shop=FILE_SHOP)
    for query in ("email=ada@example.com", "segment=Loyal&Limit=5"):
        answer = world.client.get(f"/v1/shops/{FILE_SHOP}/customers?{query}", headers=reader)
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:loyalnest:problem:invalid")
        assert "ada" not in answer.text


def test_every_file_names_its_source_and_expects_what_is_looked_at() -> None:
    looked_at = {"customers", "dead_letters", "export", "export_hashed", "presets", "presets_any", "wanted_too"}
    for path in CASES:
        case = read(path)
        assert case["name"] == path.stem
        assert case["source"]
        assert case["symptom"]
        if path not in IN_WORDS | EXPORTS:
            assert set(case["expect"]) <= looked_at
            assert set(case["expect"]) - {"wanted_too"}
    assert {path.stem[:3] for path in IN_WORDS} == {"246", "250", "252", "257", "258", "265"}
