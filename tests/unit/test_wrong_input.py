"""Whatever a message may be, it ends as a dead letter with a typed reason or as a right number; nothing stops.

The message goes through the fold that reads its topic, as one of a chunk whose other messages are good: those must
come out as if it had not been there. What it said of anybody must not be in its dead letter.
"""

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from events import codec, keys, money, payloads, topics, webhook_topics
from events.errors import BadEvent
from events.webhook_topics import TOPICS, Kind, Spare
from tables import chunks, customers, orders, packing, windows
from tables.chunks import Received
from tables.state import Values
from tests import harness

Json = dict[str, Any]

SHOP = "wrong.myshopify.com"
AT = "2026-03-01T10:00:00Z"
SECRET = "secret.person@example.com"
#: What a payload says of a person, and nobody else may repeat.
PERSONAL: Json = {
    "email": SECRET,
    "first_name": "Secretia",
    "phone": "+15550199",
    "browser_ip": "192.0.2.77",
    "shipping_address": {"name": "Secretia Person", "address1": "1 Secret Street"},
}
WORDS = [SECRET, "Secretia", "15550199", "192.0.2.77", "Secret Street"]

REFERENCE = harness.reference(
    {SHOP: {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}},
)


#: What the front door puts into a payload.
SEALED: Json = {
    "address": "mail-" + "0f" * 16,
    "contact": "v1.c2VhbGVk",
    "consent": "v1.c2VhbGVk",
    "consent_at": AT,
}


def bag(amount: Any = "100.00") -> Json:
    return {"shop_money": {"amount": amount, "currency_code": "USD"}}


def refund(**changes: Any) -> Json:
    line = {
        "quantity": 1,
        "subtotal": "30.00",
        "subtotal_set": bag("30.00"),
        "total_tax": "4.80",
        "total_tax_set": bag("4.80"),
        "line_item": {"gift_card": False, "price": "30.00", "quantity": 1, "total_discount": "0.00"},
    }
    kept = {
        "order_adjustments": [{"kind": "shipping_refund", "reason": "Late", "amount": "-2.00", "tax_amount": "0.00"}],
        "transactions": [
            {"kind": "refund", "status": "success", "amount": "30.00", "currency": "USD", "gateway": "bogus"}
        ],
    }
    return {"id": 51, "order_id": 1001, "created_at": AT, "refund_line_items": [line], **kept, **changes}


def order(**changes: Any) -> Json:
    """Every field that we read, and a person's."""
    card = {
        "product_id": 3,
        "variant_id": 4,
        "sku": "NEST-1",
        "gift_card": True,
        "price": "5.00",
        "price_set": bag("5.00"),
        "quantity": 1,
        "current_quantity": 1,
        "total_discount": "0.00",
        "discount_allocations": [{"amount": "1.00", "amount_set": bag("1.00")}],
        "tax_lines": [{"price": "0.80"}],
    }
    made = {
        "id": 1001,
        "created_at": AT,
        "updated_at": AT,
        "processed_at": AT,
        "cancelled_at": None,
        "financial_status": "paid",
        "test": False,
        "currency": "USD",
        "customer": {"id": 7, **PERSONAL},
        "current_subtotal_price": "100.00",
        "current_subtotal_price_set": bag(),
        "subtotal_price": "100.00",
        "subtotal_price_set": bag(),
        "current_total_price": "110.00",
        "total_tax": "10.00",
        "taxes_included": True,
        "source_name": "web",
        "discount_codes": [{"code": "TEN"}],
        "line_items": [card],
        "refunds": [refund()],
        **SEALED,
        **PERSONAL,
    }
    return {**made, **changes}


WHOSE: Json = {"shop_id": 5, "shop_domain": SHOP, "customer": {"id": 7, **PERSONAL}}
PAYLOADS: dict[str, Json] = {
    **dict.fromkeys([name for name, each in TOPICS.items() if each.kind is Kind.SNAPSHOT], order(cancelled_at=AT)),
    "orders/edited": {"order_edit": {"id": 9, "order_id": 1001, "created_at": AT}},
    "orders/delete": {"id": 1001},
    "refunds/create": refund(),
    "customers/create": {"id": 7, "created_at": AT, "updated_at": AT, **SEALED, **PERSONAL},
    "customers/update": {"id": 7, "created_at": AT, "updated_at": AT, **SEALED, **PERSONAL},
    "customers_email_marketing_consent/update": {"customer_id": 7, **SEALED, "email_address": SECRET},
    "customers_sms_marketing_consent/update": {"customer_id": 7, "phone_number": "+15550199"},
    "customers/delete": {"id": 7},
    "customers/merge": {
        "admin_graphql_api_customer_kept_id": "gid://shopify/Customer/7",
        "admin_graphql_api_customer_deleted_id": "gid://shopify/Customer/8",
        "admin_graphql_api_job_id": "gid://shopify/Job/1",
        "status": "completed",
    },
    "customers/redact": {**WHOSE, "orders_to_redact": [1001]},
    "customers/data_request": {**WHOSE, "orders_requested": [1001], "data_request": {"id": 1}},
}


def envelope(topic: str = "orders/paid", payload: Any = None, **changes: Any) -> Json:
    made = {
        "topic": topic,
        "shop": SHOP,
        "webhook_id": "w",
        "event_id": "e",
        "api_version": "2026-07",
        "triggered_at": AT,
        "received_at": AT,
        "payload": PAYLOADS[topic] if payload is None else payload,
    }
    return {**made, **changes}


def key_of(data: bytes | None) -> bytes:
    """The key of a message: where anybody would send what they can read of it."""
    try:
        found = json.loads(data or b"")
        ident = payloads.resource_of(found["topic"], found["payload"])
        return f"{found['shop']}/{ident}".encode()[:200]
    except Exception:
        return f"{SHOP}/1001".encode()


GOOD = {
    topics.ORDERS: envelope("orders/paid", order(id=1)),
    topics.CUSTOMERS: envelope("customers/create", {"id": 1, "updated_at": AT}),
}


_GOOD = {topic: (key_of(data), data) for topic, each in GOOD.items() if (data := json.dumps(each).encode())}


class Outcome:
    """What became of a message between two good ones."""

    def __init__(self, topic: str, data: bytes | None, key: bytes | None = None) -> None:
        self.table = Values()
        good_key, good = _GOOD.get(topic, _GOOD[topics.CUSTOMERS])
        batch = [
            Received(topic if topic in GOOD else topics.CUSTOMERS, 0, 0, harness.LATE, good_key, good),
            Received(topic, 0, 1, harness.LATE, key_of(data) if key is None else key, data),
            Received(topic if topic in GOOD else topics.CUSTOMERS, 0, 2, harness.LATE, good_key, good),
        ]
        chunk = chunks.fold(lambda: self._chunk(topic), batch, self._unforeseen)
        self.writes = chunk.finish()
        self.outputs = [(each.topic, codec.loads(each.value)) for each in chunk.outputs if each.value]
        self.letters = [value for name, value in self.outputs if name == topics.DEAD_LETTERS]
        self.rerouted = chunk.rerouted
        self.ignored = chunk.ignored
        kept = [packing.unpack(value) for value in self.writes.values() if value is not None]
        assert not any(map(_holds_a_float, kept)), "a float"
        assert good_key.decode() in self.writes, "the good ones came through"

    def _chunk(self, topic: str) -> chunks.OrderChunk | chunks.CustomerChunk:
        if topic == topics.ORDERS:
            return chunks.OrderChunk(self.table, REFERENCE, 0, 1)
        return chunks.CustomerChunk(self.table, REFERENCE, 0, 1, windows.Partial())

    @staticmethod
    def _unforeseen(received: Received, error: Exception) -> None:
        raise error

    @property
    def reason(self) -> str | None:
        """The dead letter's error; None where the message was taken."""
        assert len(self.letters) <= 1
        if not self.letters:
            return None
        assert self.letters[0]["offset"] == 1
        found = json.dumps(self.letters[0])
        assert not [word for word in WORDS if word in found], found
        return str(self.letters[0]["error"])

    def facts(self) -> list[Json]:
        return [
            value for name, value in self.outputs if name == topics.ACCOUNT_FACTS and value.get("order_id") == "1001"
        ]


def _holds_a_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_a_float, value.values()))
    return any(map(_holds_a_float, value)) if isinstance(value, list) else isinstance(value, float)


def outcome(found: Json) -> Outcome:
    """Of an envelope, on the topic it belongs on."""
    return Outcome(webhook_topics.stream_of(found["topic"]), json.dumps(found).encode())


# Every field, every wrong type

WRONG: list[Any] = [
    *(True, False, 0, -1, 1.5, 10**30, -(2**63), "", " ", "x", "-1", "NaN", "\x00", "é" * 5000, [], [[]], [None], {}),
    *({"email": SECRET}, [{"email": SECRET}], "2026-03-01T10:00:00", "2026-13-01T10:00:00Z", "0001-01-01T00:00:00Z"),
    *("9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z", "1e400", "1" * 30, "1_000"),
]

#: Refusals that may come; `unexpected` is none of them.
REASONS = {
    *("bad_json", "bad_envelope", "bad_shop", "bad_id", "bad_time", "naive_time", "bad_amount", "bad_quantity"),
    *("missing_amount", "negative_amount", "other_currency", "unknown_currency", "wrong_type"),
    *("unknown_shop", "empty", "wrong_topic", "other_shop", "wrong_shape"),
}


def paths(spec: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every field of a spec, and to every object and list on it."""
    if way:
        yield way
    if isinstance(spec, Spare):
        spec = spec.spec
    if isinstance(spec, list):
        yield from paths(spec[0], (*way, 0))
    elif isinstance(spec, dict):
        for name, inner in spec.items():
            yield from paths(inner, (*way, name))


def put(payload: Json, way: tuple[Any, ...], value: Any) -> Json | None:
    """The payload with a value at a place, or None where it has no such place."""
    made = copy.copy(payload)
    at: Any = made
    for step in way[:-1]:
        if not at or (isinstance(step, str) and step not in at):
            return None
        at[step] = copy.copy(at[step])  # what does not lie on the way is the payload's own
        at = at[step]
    at[way[-1]] = value
    return made


#: One topic of each kind: what holds of one order's snapshot holds of all.
KINDS = {TOPICS[topic].kind: topic for topic in PAYLOADS}.values()
FIELDS = [(topic, way) for topic in KINDS for way in paths(TOPICS[topic].fields)]


def _name(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(("topic", "way"), FIELDS, ids=_name)
def test_a_wrong_value_in_any_field(topic: str, way: tuple[Any, ...]) -> None:
    right = outcome(envelope(topic))
    assert right.reason is None
    for wrong in WRONG:
        payload = put(PAYLOADS[topic], way, wrong)
        assert payload is not None, "the payload above lacks a field that we read"
        found = outcome(envelope(topic, payload))
        assert found.reason in REASONS | {None}, (wrong, found.reason)
        for fact in found.facts():
            assert 0 <= fact["net"] <= fact["gross"] <= money.MAX_MINOR
            assert isinstance(fact["net"], int)


@pytest.mark.parametrize(("topic", "way"), FIELDS, ids=_name)
def test_a_field_that_is_null_or_missing(topic: str, way: tuple[Any, ...]) -> None:
    nulled = put(PAYLOADS[topic], way, None)
    assert nulled is not None
    assert outcome(envelope(topic, nulled)).reason in REASONS | {None}
    if isinstance(way[-1], str):
        at: Any = nulled
        for step in way[:-1]:
            at = at[step]
        del at[way[-1]]
        assert outcome(envelope(topic, nulled)).reason in REASONS | {None}


@pytest.mark.parametrize("name", ["topic", "shop", "webhook_id", "triggered_at", "received_at", "payload"])
def test_a_wrong_value_in_the_envelope(name: str) -> None:
    for wrong in [*WRONG, None]:
        found = Outcome(topics.ORDERS, json.dumps({**envelope(), name: wrong}).encode())
        if name == "topic" and isinstance(wrong, str):
            assert (found.reason, found.ignored) in ((None, 1), ("bad_envelope", 0))
            continue
        if name in ("triggered_at", "received_at", "webhook_id") and found.reason is None:
            assert isinstance(wrong, str)
            continue
        assert found.reason in REASONS, wrong
    without = envelope()
    del without[name]
    assert Outcome(topics.ORDERS, json.dumps(without).encode()).reason == "bad_envelope"


@pytest.mark.parametrize("name", ["event_id", "api_version"])
def test_a_wrong_value_in_what_nobody_reads(name: str) -> None:
    for wrong in [*WRONG, None]:
        assert Outcome(topics.ORDERS, json.dumps({**envelope(), name: wrong}).encode()).reason in (None, "bad_envelope")


# Every leaf has its type: a person put there is never copied


PEOPLE: list[Any] = [PERSONAL, [PERSONAL], SECRET, f"<{SECRET}>", "Secretia\nPerson", "1 Secret Street, " * 9]
LEAVES = [(topic, way) for topic, way in FIELDS if way[-1] != 0]


@pytest.mark.parametrize(("topic", "way"), LEAVES, ids=_name)
def test_a_person_where_a_kept_field_belongs_is_never_kept(topic: str, way: tuple[Any, ...]) -> None:
    for person in PEOPLE:
        payload = put(PAYLOADS[topic], way, person)
        assert payload is not None
        try:
            kept = json.dumps(payloads.minimise(topic, payload))
        except BadEvent as error:
            kept = str(error)
        assert not [word for word in WORDS if word in kept], (person, kept)


def test_a_name_of_a_merchants_own_is_one_short_line_without_an_address() -> None:
    right, wrong = ["NEST 1/a", "Käse"], ["a@b", "x" * 65, "a\tb", 5, ["a"]]
    for sku, kept in [*((each, True) for each in right), *((each, False) for each in wrong)]:
        small = payloads.minimise("orders/paid", order(line_items=[{"quantity": 1, "sku": sku}]))
        assert ("sku" in small["line_items"][0]) is kept


# Bytes that are no envelope


@pytest.mark.parametrize("topic", [topics.ORDERS, topics.CUSTOMERS])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "empty"),
        (b"", "bad_envelope"),
        (b"null", "bad_envelope"),
        (b"[]", "bad_envelope"),
        (b"\xff\xfe\x00", "bad_envelope"),
        (b'"' + SECRET.encode() + b'"', "bad_envelope"),
        (json.dumps(envelope()).encode()[:-40], "bad_envelope"),
        (json.dumps(envelope()).encode() + b"}", "bad_envelope"),
        (json.dumps(envelope()).encode("utf-16"), "bad_envelope"),
        (json.dumps(envelope()).encode().replace(b"Secretia", b"\xe9\xff"), "bad_envelope"),
        (json.dumps(envelope()).encode().replace(b"Secretia", b"\\ud800"), "bad_envelope"),
        (b"[" * 200_000, "bad_envelope"),
        (json.dumps(envelope()).encode().replace(b'"paid"', b"[" * 100_000 + b"]" * 100_000), "bad_envelope"),
        (json.dumps(envelope()).encode().replace(b'"paid"', b"1" * 10_000), "bad_envelope"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_bytes_that_are_no_envelope(topic: str, data: bytes | None, reason: str) -> None:
    assert Outcome(topic, data).reason == reason


@pytest.mark.parametrize("cut", range(0, 1500, 37))
def test_an_envelope_cut_off_anywhere(cut: int) -> None:
    assert Outcome(topics.ORDERS, json.dumps(envelope()).encode()[:cut]).reason == "bad_envelope"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1.5", "1e2", "-0.0", "0.1"])
def test_numbers_that_are_no_decimals(number: str) -> None:
    """Where an amount may stand as a number, NaN and infinities are refused, and decimals are read exactly."""
    payload = order(refunds=[])
    for name in ("current_subtotal_price_set", "subtotal_price_set"):
        del payload[name]
    data = json.dumps(envelope(payload={**payload, "current_subtotal_price": "@"})).replace('"@"', number).encode()
    found = Outcome(topics.ORDERS, data)
    exact = {"1.5": 150, "1e2": 10_000, "-0.0": 0, "0.1": 10}
    if number in exact:
        assert found.reason is None
        assert found.facts()[0]["net"] == max(exact[number] - 400, 0)
    else:
        assert found.reason in ("bad_json", "bad_amount", "bad_envelope")


def test_a_float_in_a_refund_is_read_exactly() -> None:
    line = {"quantity": 1, "subtotal": 0.07}
    data = json.dumps(envelope("refunds/create", refund(refund_line_items=[line] * 3))).encode()
    assert b"0.07" in data
    found = Outcome(topics.ORDERS, data)
    assert found.reason is None
    assert orders.unpacked(found.writes[f"{SHOP}/1001"] or b"")["refunds"]["51"][1] == 21
    line = {"quantity": 1, "subtotal": 0.075}
    found = Outcome(topics.ORDERS, json.dumps(envelope("refunds/create", refund(refund_line_items=[line]))).encode())
    assert found.reason == "bad_amount"


# What is right in form and wrong in fact


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"currency": "EUR"}, "other_currency"),
        ({"currency": "XXX"}, "other_currency"),
        ({"currency": 5}, "wrong_type"),
        ({"subtotal_price_set": {"shop_money": {"amount": "1.00", "currency_code": "EUR"}}}, "other_currency"),
        ({"updated_at": "2026-03-01T10:00:00"}, "naive_time"),
        ({"created_at": "2026-03-01"}, "naive_time"),
        ({"processed_at": "yesterday"}, "bad_time"),
        ({"processed_at": "1969-12-31T23:59:59Z"}, "bad_time"),
        ({"cancelled_at": "yesterday"}, "bad_time"),
        ({"cancelled_at": False}, "bad_time"),
        ({"financial_status": "x" * 4000}, "wrong_type"),
        ({"current_subtotal_price_set": bag("-1.00")}, "negative_amount"),
        ({"subtotal_price_set": bag("-0.01")}, "negative_amount"),
        ({"current_subtotal_price_set": bag("1.001")}, "bad_amount"),
        ({"current_subtotal_price_set": bag("1" * 30)}, "bad_amount"),
        ({"current_subtotal_price_set": bag("1" * 30 + ".00")}, "bad_amount"),
        ({"current_subtotal_price_set": bag(10**30)}, "bad_amount"),
        ({"refunds": [refund(id=None)]}, "bad_id"),
        ({"refunds": [refund(created_at=None)]}, "bad_time"),
        ({"refunds": [refund(refund_line_items=[{"subtotal": "-5.00"}])]}, "negative_amount"),
        ({"refunds": [refund(refund_line_items=[{"quantity": 1}])]}, "missing_amount"),
        ({"customer": {"id": "gid://shopify/Customer/7"}}, "bad_id"),
        ({"customer": {"id": "7 or so"}}, "bad_id"),
        ({"customer": {"id": -7}}, "bad_id"),
        ({"test": "false"}, "wrong_type"),
        ({"financial_status": 5}, "wrong_type"),
        ({"line_items": [{"gift_card": True, "price": "1.00", "quantity": -1}]}, "bad_quantity"),
        ({"line_items": [{"gift_card": True, "price": "1.00", "quantity": 1.0}]}, "bad_quantity"),
        ({"line_items": [{"gift_card": True, "price": "-1.00"}]}, "negative_amount"),
        ({"line_items": [{"gift_card": True, "price": "9" * 13, "quantity": 10**6}]}, "bad_amount"),
        ({"line_items": [{"gift_card": "yes", "price": "1.00"}]}, "wrong_type"),
    ],
    ids=repr,
)
def test_an_order_that_cannot_be_one(changes: Json, reason: str) -> None:
    found = outcome(envelope(payload=order(**changes)))
    assert found.reason == reason
    assert not found.facts()


@pytest.mark.parametrize(
    ("changes", "net"),
    [
        ({"financial_status": "mystified"}, None),
        ({"financial_status": None}, None),
        ({"financial_status": "PAID"}, 9600),
        ({"customer": None}, 9600),
        ({"customer": {}}, 9600),
        ({"customer": {"id": None}}, 9600),
        ({"customer": {"id": "7"}}, 9600),
        ({"customer": {"id": 2**63 - 1}}, 9600),
        ({"line_items": None, "refunds": None}, 10_000),
        ({"line_items": [None], "refunds": [None]}, 10_000),
        ({"current_subtotal_price_set": None, "current_subtotal_price": "12.34"}, 834),
        ({"current_subtotal_price_set": bag(12)}, 800),
        ({"current_subtotal_price_set": bag("100000000000")}, 10**13 - 400),
        ({"updated_at": None}, 9600),
        ({"processed_at": "2099-12-31T23:59:59.999999Z"}, 9600),
        ({"updated_at": "2099-01-01T00:00:00Z"}, 9600),
        ({"unknown": {"deep": [{"er": 1.5}]}}, 9600),
    ],
    ids=repr,
)
def test_an_order_that_is_odd_and_right(changes: Json, net: int | None) -> None:
    found = outcome(envelope(payload=order(**changes)))
    assert found.reason is None
    fact = found.facts()[0]
    assert (fact["counted"], fact["net"]) == (net is not None, net or 0)


@pytest.mark.parametrize("ident", [820982911946154508, "820982911946154508", 2**63 - 1])
def test_ids_of_64_bits_stay_exact(ident: Any) -> None:
    found = outcome(envelope(payload=order(id=ident, customer={"id": ident})))
    assert found.reason is None
    facts = [value for name, value in found.outputs if name == topics.ACCOUNT_FACTS]
    assert {fact["order_id"] for fact in facts} == {"1", str(ident)}
    assert {fact["customer_id"] for fact in facts} == {"7", str(ident)}


@pytest.mark.parametrize("year", ["2099-06-01T00:00:00Z", "2999-12-31T23:59:59Z"])
def test_a_far_future_is_believed_of_orders_and_never_of_clocks(year: str) -> None:
    sent = envelope(payload=order(processed_at=year, updated_at=year), triggered_at=year)
    stream = harness.Stream(REFERENCE, partitions=1)
    stream.send(sent)
    stream.run()
    sink = stream.sink()
    assert not sink.letters
    row = sink.rows[SHOP, "7"]
    assert (row["now"], row["balance"], row["frequency"]) == ("2026-03-01T10:05:00Z", 0, 0)
    assert sink.balances() == {(SHOP, "7"): 96}


@pytest.mark.parametrize("year", ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z", "9999-01-01T00:00:00Z"])
@pytest.mark.parametrize("name", ["processed_at", "updated_at", "created_at"])
def test_the_end_of_all_calendars_ends_nothing(name: str, year: str) -> None:
    stream = harness.Stream(REFERENCE, partitions=1)
    stream.send(envelope(payload=order(**{name: year}), triggered_at=year, received_at=year))
    stream.run()
    assert {letter["error"] for letter in stream.sink().letters.values()} == {"bad_time"}


@pytest.mark.parametrize("topic", ["orders/update", "products/create", "", "orders", SECRET])
def test_a_topic_nobody_takes_is_counted_and_passed(topic: str) -> None:
    found = Outcome(topics.ORDERS, json.dumps({**envelope(), "topic": topic}).encode(), f"{SHOP}/1001".encode())
    assert (found.reason, found.ignored) == (None, 1)
    assert f"{SHOP}/1001" not in found.writes


@pytest.mark.parametrize("topic", sorted(PAYLOADS))
def test_a_webhook_on_another_familys_topic(topic: str) -> None:
    """Whoever sends an order to shopify.customers must not move the customer who has its number."""
    home = webhook_topics.stream_of(topic)
    other = topics.CUSTOMERS if home == topics.ORDERS else topics.ORDERS
    found = Outcome(other, json.dumps(envelope(topic)).encode())
    assert found.reason == "wrong_topic"
    ident = payloads.resource_of(topic, PAYLOADS[topic])
    state = found.writes.get(keys.join(SHOP, str(ident)))
    assert state is None or (customers if other == topics.CUSTOMERS else orders).unpacked(state)["now"] == 0


@pytest.mark.parametrize("shop", ["", "wrong", "wrong.example.com", "a/b.myshopify.com", "-x.myshopify.com", "x" * 300])
def test_a_shop_that_is_none(shop: str) -> None:
    found = Outcome(topics.ORDERS, json.dumps(envelope(shop=shop)).encode())
    assert found.reason == "bad_shop"


def test_a_shop_nobody_has_added() -> None:
    found = Outcome(topics.ORDERS, json.dumps(envelope(shop="stranger.myshopify.com")).encode())
    assert found.reason == "unknown_shop"


def test_a_shop_in_capitals_is_the_shop() -> None:
    found = Outcome(topics.ORDERS, json.dumps(envelope(shop=SHOP.upper())).encode(), f"{SHOP}/1001".encode())
    assert found.reason is None
    assert found.facts()[0]["shop"] == SHOP


def test_ten_megabytes_are_one_dead_letter_without_them() -> None:
    data = json.dumps(envelope(payload=order(note="x" * 10_000_000, test="no"))).encode()
    found = Outcome(topics.ORDERS, data)
    assert found.reason == "wrong_type"
    assert len(json.dumps(found.letters[0])) < 2000
    taken = Outcome(topics.ORDERS, json.dumps(envelope(payload=order(note="x" * 10_000_000))).encode())
    assert taken.reason is None


def test_no_message_takes_long() -> None:
    """An exponent or a number that would fill the memory is refused before it is worked out."""
    started = time.process_time()  # however busy the machine is
    for amount in ("1e999999999", "1e-999999999", "9" * 40, "1" + "0" * 4000):
        assert outcome(envelope(payload=order(current_subtotal_price_set=bag(amount)))).reason == "bad_amount"
    assert time.process_time() - started < 1


# Keys


@pytest.mark.parametrize("key", [b"", SECRET.encode(), b"\xff\xfe", b"wrong.myshopify.com/1", b"x" * 5000])
def test_a_message_under_another_key_goes_where_it_belongs(key: bytes) -> None:
    found = Outcome(topics.ORDERS, json.dumps(envelope()).encode(), key)
    assert (found.reason, found.rerouted) == (None, 1)
    sent = [(name, value) for name, value in found.outputs if name == topics.ORDERS]
    assert sent == [(topics.ORDERS, envelope())]


@pytest.mark.parametrize("key", [SECRET.encode(), f"{SECRET}/1001".encode(), f"{SHOP}/{SECRET}".encode()])
def test_a_key_that_names_a_person_is_not_repeated(key: bytes) -> None:
    assert Outcome(topics.ORDERS, b"{", key).reason == "bad_envelope"


# Our own topics, to which somebody else may have written


@pytest.mark.parametrize("topic", [topics.ACCOUNT_FACTS, topics.RESCORE])
@pytest.mark.parametrize(
    "data", [None, b"", b"null", b"{}", b'{"shop": 1}', b"\xff", b"[" * 100_000, b'{"shop": "a", "more": 1.5}']
)
def test_a_record_that_is_none(topic: str, data: bytes | None) -> None:
    assert Outcome(topic, data).reason in ("empty", "bad_record")


def test_every_reason_is_a_label() -> None:
    assert all(reason.isascii() and reason.replace("_", "").isalpha() for reason in REASONS)
    assert issubclass(BadEvent, ValueError)
