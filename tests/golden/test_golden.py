"""Shopify's oddities, one file each: what they come to was worked out by hand, and the stream and the oracle agree.

A file says `why`, the envelopes in the order in which they arrive, and what is expected: orders and customers (as of
`at`), windows (sums over all partitions), those told to be late, and dead letters. Amounts are minor units. Shops have
the usual program unless `programs` says otherwise. `arrived` in an envelope is the broker's time of its record.
"""

import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from events import instants, keys, topics
from tests import harness, oracle
from tests.harness import Sink, Stream
from tests.support import DATA

Json = dict[str, Any]

FILES = sorted(Path(__file__).parent.glob("*.json"))
SHOP = "golden.myshopify.com"
USUAL: Json = {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}
AT = "2026-03-31T10:00:00Z"  # thirty days after most of the orders

#: Words of the payloads that nothing of ours may repeat.
PERSONAL = (
    b"golden.person",
    b"Goldie",
    b"Person Street",
    b"15550100",
    b"192.0.2.7",
    b"post.example",
    b"Ottilie",
    b"Brandt",
    b"Lindenhof",
    b"5550117",
    b"198.51.100.23",
)

OUR_TOPICS = [name for name in topics.BY_NAME if name.startswith("loyalnest.")]


def read(path: Path, number: type[float | Decimal] = float) -> Json:
    found: Json = json.loads(path.read_text(encoding="utf-8"), parse_float=number)
    for envelope in found["envelopes"]:
        if "payload_from" in envelope:  # a whole webhook's body, kept in a file of its own
            body = (DATA / "shopify" / envelope.pop("payload_from")).read_text(encoding="utf-8")
            envelope["payload"] = json.loads(body, parse_float=number)
    found.setdefault("programs", {SHOP: USUAL})
    found["kept"] = [kept(envelope) for envelope in found["envelopes"]]
    found["at"] = datetime.fromisoformat(found.get("at", AT))
    return found


def kept(envelope: Json) -> Json:
    """As the raw history keeps it: `received_at` is not after the broker's time of the record (`arrived`)."""
    if "arrived" not in envelope:
        return envelope
    believed = instants.believed(instants.parse(envelope["received_at"]), instants.parse(envelope["arrived"]) // 1000)
    return {**envelope, "received_at": instants.text(believed)}


def run(golden: Json, envelopes: list[Json], seed: int | None) -> Stream:
    """Through one partition as they come, or with a seed through three, with a crash."""
    partitions = 1 if seed is None else 3
    stream = Stream(harness.reference(golden["programs"]), random.Random(seed or 0), partitions=partitions)
    for envelope in envelopes:
        stream.send(envelope)
    stream.run(0 if seed is None else 1, horizon=20)
    return stream


def check_now(golden: Json, sink: Sink) -> None:
    """What a customer's row says before any batch asks."""
    for key, wanted in golden["expected"]["customers"].items():
        row: Any = sink.rows[keys.split(key)]
        for name in {"now", "contact", "consent", "redacted", "deleted", "merged_into"} & wanted.keys():
            assert row[name] == wanted[name], name


def check_customers(golden: Json, stream: Stream) -> None:
    for shop in {keys.split(key)[0] for key in golden["expected"]["customers"]}:
        stream.rescore(shop, golden["at"], "default")
    stream.run()
    rows = stream.sink().rows
    assert {keys.join(*key) for key in rows} == set(golden["expected"]["customers"])
    for key, wanted in golden["expected"]["customers"].items():
        row = rows[keys.split(key)]
        standing = row["standing"]
        digits = None if standing["r"] is None else [standing[name] for name in ("r", "f", "m")]
        found = {**row, "digits": digits, "segment": standing["segment"]}
        for name in ("balance", "recency_days", "frequency", "monetary", "digits", "segment"):
            assert found[name] == wanted[name], name


def check_orders(golden: Json, sink: Sink) -> None:
    assert {(shop, order) for shop, _, order in sink.facts} == set(map(keys.split, golden["expected"]["orders"]))
    for key, wanted in golden["expected"]["orders"].items():
        shop, order_id = keys.split(key)
        owner = wanted["customer"] or keys.guest(order_id)
        for (of, customer_id, about), fact in sink.facts.items():
            if (of, about) == (shop, order_id):
                mine = customer_id == owner
                assert fact["counted"] == (mine and wanted["counted"])
                assert fact["net"] == (wanted["net"] if mine else 0)
                if wanted["earned"]:  # what was never paid has no gross
                    assert fact["gross"] == (wanted["gross"] if mine else 0)
        if wanted["customer"] is not None:
            whose = wanted.get("whose", owner)
            assert sink.posted(shop, whose, order_id) == (wanted["earned"], wanted["reversed"])


def check_windows(golden: Json, sink: Sink) -> None:
    found = sink.windows()
    for name, wanted in golden["expected"]["windows"].items():
        shop, size, start = name.split()
        have = found.get((shop, size, instants.parse(start)), harness.Sums(*[0] * 9))._asdict()
        assert have == {"points_awarded": 0, "points_redeemed": 0, **wanted}, name


def check_letters(golden: Json, stream: Stream) -> None:
    found = set()
    for letter in stream.sink().letters.values():
        assert letter["partition"] is not None
        assert letter["offset"] is not None
        message = stream.logs[letter["source"], letter["partition"]][letter["offset"]]
        found.add((json.loads(message.value or b"")["webhook_id"], letter["error"]))
    assert found == {(each["webhook_id"], each["error"]) for each in golden["expected"]["dead_letters"]}


def check_privacy(stream: Stream) -> None:
    for (topic, _), log in stream.logs.items():
        if topic in OUR_TOPICS:
            for message in log:
                assert not [word for word in PERSONAL if word in (message.value or b"") + (message.key or b"")], topic
    for table in stream.durable.values():
        assert not [word for word in PERSONAL for value in table.values() if word in value]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_stream_makes_of_it_what_it_should(path: Path) -> None:
    golden = read(path)
    for seed in (None, 1, 2, 3):
        envelopes = list(golden["envelopes"])
        if seed is not None:
            random.Random(seed).shuffle(envelopes)
        stream = run(golden, envelopes, seed)
        sink = stream.sink()
        check_now(golden, sink)
        check_orders(golden, sink)
        check_windows(golden, sink)
        check_letters(golden, stream)
        if seed is None:
            late = {f"{shop} {size} {instants.text(start)}" for shop, size, start in sink.late}
            assert late >= set(golden["expected"]["late"])
        check_customers(golden, stream)
        check_privacy(stream)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_oracle_makes_the_same_of_it(path: Path) -> None:
    golden = read(path, Decimal)
    refused = {each["webhook_id"] for each in golden["expected"]["dead_letters"]}
    good = [each for each in golden["kept"] if each["webhook_id"] not in refused]
    found = oracle.oracle(good, golden["programs"], t=golden["at"])
    orders = {keys.join(shop, each): order for shop, of in found.items() for each, order in of.orders.items()}
    assert {key for key, order in orders.items() if order.processed_at} == set(golden["expected"]["orders"])
    for key, wanted in golden["expected"]["orders"].items():
        order = orders[key]
        assert order.customer == wanted["customer"]
        assert (order.counts or order.guest) == wanted["counted"]
        assert wanted["net"] == (order.net if wanted["counted"] else 0)
        assert (order.earned, order.reversed) == (wanted["earned"], wanted["reversed"])
    customers = {keys.join(shop, each): row for shop, of in found.items() for each, row in of.customers.items()}
    assert set(customers) == set(golden["expected"]["customers"])
    for key, wanted in golden["expected"]["customers"].items():
        row = customers[key]
        assert (row.balance, row.recency, row.frequency) == (
            wanted["balance"],
            wanted["recency_days"],
            wanted["frequency"],
        )
        assert (row.monetary, row.segment) == (wanted["monetary"], wanted["segment"])
        assert (None if row.digits is None else list(row.digits)) == wanted["digits"]
        if "now" in wanted:
            assert row.now == datetime.fromisoformat(wanted["now"])
        for name in {"contact", "consent"} & wanted.keys():
            assert getattr(row.reach, name) == wanted[name], name
    for name, wanted in golden["expected"]["windows"].items():
        shop, size, start = name.split()
        at = datetime.fromisoformat(start).astimezone(UTC)
        assert dict(found[shop].windows.get((size, at), {})) == {part: each for part, each in wanted.items() if each}


def test_a_file_says_why_and_none_is_left_out() -> None:
    """Every edge case of the contract's list has its file."""
    cases = {
        *("guest_order", "guest_then_attached", "test_order", "paid_then_cancelled", "cancelled_before_paid"),
        *("partial_then_full_refund", "refund_before_order", "duplicate_delivery", "stale_retry", "edited_up"),
        *("edited_down", "multi_currency", "zero_decimal_currency", "three_decimal_currency", "gift_card_purchase"),
        *("gift_card_payment", "full_discount", "refunds_exceed_earned", "merge_with_points_on_both_sides"),
        *("merge_chain", "merge_circle", "merge_failed", "merge_then_orders_move"),
        *(
            "order_known_by_address",
            "two_customers_with_one_address",
            "redact_then_late_order",
            "uninstalled_and_reinstalled",
            "clock_skew",
        ),
        *("imported_historical_order", "two_shops_sharing_ids", "payloads_of_today", "payloads_of_an_older_version"),
    }
    assert cases <= {path.stem for path in FILES}
    for path in FILES:
        why = json.loads(path.read_text(encoding="utf-8"))["why"]
        assert 20 < len(why) < 200
