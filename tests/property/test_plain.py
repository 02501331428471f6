"""Plain envelopes and records (events/plain.py): what one look takes for ours, reading it with care leaves as it is."""

import copy
import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import pytest
from pydantic import TypeAdapter

from cli.shop import store_maker
from events import account_records, codec, envelopes, fields, instants, payloads, plain, records, topics
from events.errors import BadEvent
from events.webhook_topics import ORDER, SHOPIFY, TOPICS, Leaf, Spare
from tests import fuzz, harness, stores
from tests.golden import test_golden
from tests.harness import LATE

Json = dict[str, Any]
AT = "2026-11-21T09:30:00Z"

#: Topics of which more is looked at than each field alone.
CAREFUL = {
    *("orders/delete", "customers/delete", "customers/redact", "customers/data_request", "shop/redact"),
}


def _ours(envelope: Json) -> bytes | None:
    """The envelope as our door writes it; None for one that it would not take."""
    try:
        exact = codec.loads_exact(codec.dumps(envelope["payload"]))
        return codec.dumps({**envelope, "payload": payloads.minimise(envelope["topic"], exact)})
    except BadEvent:
        return None


# Made when a test first asks, not above: each process of the tests reads this file, and one runs these tests.
@cache
def _sent() -> list[bytes]:
    """Envelopes of golden files, generated stores, a demo store, and one of each topic, as our door writes them."""
    found = [each for path in test_golden.FILES for each in test_golden.read(path)["envelopes"]]
    found += [each for seed in range(6) for each in stores.store(seed, 8, 40)]
    head = {"shop": fuzz.SHOP, "webhook_id": "b54557e4", "event_id": None, "api_version": "2026-07"}
    times = {"triggered_at": AT, "received_at": "2026-11-21T09:30:00.400000Z"}
    for topic, several in fuzz.originals().items():
        sealed = {"address": f"mail-{5:032x}", "contact": "v1.AAAA", "consent": "v1.BB-_=", "consent_at": AT}
        own = {name: each for name, each in sealed.items() if name in TOPICS[topic].fields}
        found += [{"topic": topic, **head, **times, "payload": {**each, **own}} for each in several[:40]]
    return list(filter(None, map(_ours, found)))


def test_what_our_door_writes_is_plain() -> None:
    seen: Counter[tuple[str, bool]] = Counter()
    for data in _sent():
        topic = codec.loads(data)["topic"]
        seen[topic, plain.look(data.decode(), TOPICS[topic].stream) is not None] += 1
    for topic in SHOPIFY:
        assert seen[topic, topic not in CAREFUL] > 0
        assert seen[topic, topic in CAREFUL] <= 0.02 * seen[topic, True], topic  # one golden envelope has a field more


def test_a_demo_store_is_plain() -> None:
    for each in store_maker.make_store(instants.parse(AT), customers=60, webhooks=400):
        opened = envelopes.of_body(each.topic, fuzz.SHOP, codec.dumps(each.payload))
        head = {"topic": each.topic, "shop": fuzz.SHOP, "webhook_id": each.webhook_id, "event_id": each.event_id}
        times = {"api_version": "2026-07", "triggered_at": AT, "received_at": AT}
        text = codec.dumps({**head, **times, "payload": opened.payload}).decode()
        said = plain.look(text, TOPICS[each.topic].stream)
        assert (said is None) == (each.topic in CAREFUL)
        if said is not None:
            assert said[:5] == (each.topic, fuzz.SHOP, each.webhook_id, AT, AT)
            assert said.status == opened.payload.get("financial_status")


def _changed(chance: random.Random, data: bytes) -> bytes:
    """The same with something else in it, as JSON or as bytes."""
    envelope = codec.loads(data)
    for _ in range(chance.choice((0, 1, 1, 2))):
        if chance.random() < 0.3:
            name = chance.choice(list(envelope))
            envelope[name] = copy.deepcopy(chance.choice([*fuzz.VALUES, *fuzz.TEXTS]))
        elif isinstance(envelope["payload"], dict):
            envelope["payload"] = fuzz._changed(chance, envelope["payload"])
    try:
        made = codec.dumps(envelope)
    except TypeError:  # half a surrogate pair, or an integer of more than 64 bits
        return data
    return fuzz._broken(chance, made) if chance.random() < 0.4 else made


def _look(data: bytes, stream: str) -> plain.Plain | None:
    text = envelopes._text(data)
    return None if text is None else plain.look(text, stream)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_plain_comes_out_of_the_careful_reading_byte_for_byte(seed: int) -> None:
    chance = random.Random(seed)
    sent = _sent()
    found: Counter[bool] = Counter()
    for _ in range(5000):
        data = _changed(chance, chance.choice(sent))
        stream = chance.choice((topics.ORDERS, topics.ORDERS, topics.CUSTOMERS, topics.SHOPS))
        said = _look(data, stream)
        found[said is not None] += 1
        if said is None:
            continue
        careful = envelopes._with_care(data, stream)
        assert codec.dumps(careful) == data
        assert codec.loads(data) == careful
        assert said[:5] == tuple(
            careful[name] for name in ("topic", "shop", "webhook_id", "triggered_at", "received_at")
        )
        assert said.status == careful["payload"].get("financial_status")
    assert min(found[True], found[False]) > 500


def test_a_cancelled_order_says_when() -> None:
    told = {"topic": "orders/cancelled", "payload": {"id": 1, "created_at": AT, "cancelled_at": AT}}
    envelope = {**codec.loads(_sent()[0]), **told}
    assert _look(codec.dumps(envelope), topics.ORDERS) is not None
    for at in ({}, {"cancelled_at": None}):
        data = codec.dumps({**envelope, "payload": {"id": 1, "created_at": AT, **at}})
        assert _look(data, topics.ORDERS) is None
        with pytest.raises(BadEvent, match="wrong_shape"):
            envelopes.envelope(data, topics.ORDERS)


@pytest.mark.parametrize(
    ("lines", "plainly"),
    [
        ([], True),
        ([{}], False),
        ([{"sku": "x"}, {}], False),
        ([{}, {"sku": "x"}], False),
        ([{"sku": "x"}, {"sku": None}], True),
        ([{"price": "1.00", "price_set": {}}], False),
        ([{"gift_card": False, "price": "1.00", "price_set": {}}], False),
        ([{"gift_card": None, "price": "1.00", "price_set": {}}], False),
        ([{"gift_card": True, "price": "1.00", "price_set": {}}], True),
        ([{"gift_card": True, "price_set": {}}, {"price_set": {}}], False),
    ],
)
def test_of_an_orders_lines_more_is_looked_at_than_each_field(lines: list[Json], plainly: bool) -> None:
    """One that says nothing is left out, and of one that is no gift card a price in two currencies."""
    payload = {"id": 1, "created_at": AT, "line_items": lines}
    data = codec.dumps({**codec.loads(_sent()[0]), "topic": "orders/paid", "payload": payload})
    assert (_look(data, topics.ORDERS) is not None) is plainly
    assert (codec.dumps(envelopes._with_care(data, topics.ORDERS)) == data) is plainly


#: A plain envelope, and what may stand in it instead of each: what is plain, and what lies just beyond.
ORDER_PAID = (
    '{"topic":"orders/paid","shop":"plain.myshopify.com","webhook_id":"w-1","event_id":null,"api_version":"2026-07"'
    f',"triggered_at":"{AT}","received_at":"{AT}"'
    f',"payload":{{"id":1,"created_at":"{AT}","test":false,"line_items":[{{"sku":"x","quantity":2}},{{"sku":"y"}}]}}}}'
)
BOUNDS: list[tuple[str, list[str], list[str]]] = [
    (
        '"plain.',
        ['"a.', '"0-.', f'"{"a" * 63}.'],
        ['"-plain.', f'"{"a" * 64}.', '".', '"Plain.', '"pl_ain.'],
    ),
    (".myshopify.com", [], [".myshopify.comm", "xmyshopify.com", ""]),
    ('"w-1"', [f'"{"!" * 128}"', '"~"'], ['""', f'"{"w" * 129}"', '"w 1"', '"\u00e9"', "1", "null"]),
    ('"event_id":null', ['"event_id":""', '"event_id":"a b"'], ['"event_id":1', '"event_id":"\\u0000"']),
    ('"id":1,', ['"id":0,', f'"id":{10**18},'], ['"id":-0,', '"id":01,', '"id":1.0,', f'"id":{2**63},', '"id":+1,']),
    (f'"triggered_at":"{AT}"', [f'"triggered_at":"{AT[:-1]}.123456Z"'], [f'"triggered_at":"{AT[:-1]}.1234567Z"']),
    ("false", ["true", "null"], ["False", "0"]),
    ('{"sku":"y"}]', ['{"sku":null}]'], ['{"sku":"y"},]', ',{"sku":"y"}]', '{"sku":"y",}]']),
    ('{"sku":"x","quantity":2}', ['{"sku":"x"}'], ['{"quantity":2,"sku":"x"}', '{"sku":"x","sku":"x"}', '"x"']),
    ("}]}}", [], ["}]}} ", "}],}}", "}]}", "}]}}\n"]),
]


@pytest.mark.parametrize(("piece", "plainly", "beyond"), BOUNDS)
def test_what_lies_just_beyond_a_bound_is_not_plain(piece: str, plainly: list[str], beyond: list[str]) -> None:
    assert ORDER_PAID.count(piece) == 1
    for each in [piece, *plainly]:
        data = ORDER_PAID.replace(piece, each).encode()
        assert _look(data, topics.ORDERS) is not None, each
        assert codec.dumps(envelopes._with_care(data, topics.ORDERS)) == data
    for each in beyond:
        assert plain.look(ORDER_PAID.replace(piece, each), topics.ORDERS) is None, each


@pytest.mark.parametrize("timestamp", [LATE, instants.parse(AT) // 1000])
def test_what_is_kept_is_what_is_read(timestamp: int) -> None:
    """Whoever wrote it, and also where the broker's time moves `received_at`."""
    sent = _sent()
    for data in [*sent, *(codec.dumps({**codec.loads(each), "more": 1}) for each in sent[::7])]:
        stream = TOPICS[codec.loads(data)["topic"]].stream
        try:
            wanted = envelopes.envelope(data, stream, timestamp)
        except BadEvent as error:
            with pytest.raises(type(error), match=error.reason):
                envelopes.kept(data, stream, timestamp)
            continue
        said, text = envelopes.kept(data, stream, timestamp)
        assert text.encode() == codec.dumps(wanted)
        times = (said.triggered_at, wanted["triggered_at"]), (said.received_at, wanted["received_at"])
        for at, wanted_at in times:
            assert instants.parse(at) == instants.parse(wanted_at)
            assert fields._instant(at) == at
        assert said.status == wanted["payload"].get("financial_status")


def _leaves(spec: Any) -> Iterator[Leaf]:
    if isinstance(spec, Leaf):
        yield spec
    elif isinstance(spec, Spare):
        yield from _leaves(spec.spec)
    else:
        for each in spec.values() if isinstance(spec, dict) else spec:
            yield from _leaves(each)


def test_no_field_may_run_over_its_quote() -> None:
    """What a class of signs lets through and JSON would escape, or end at, is not plain."""
    payload = {"id": 1, "created_at": AT, "sku": "x"}
    for spec in (known.fields for known in TOPICS.values()):
        for leaf in _leaves(spec):
            form = plain._leaf(leaf, told=False)
            for sign in '"\\\n\x7f':
                assert not re.fullmatch(form, f'"a{sign}b"')
    assert ORDER["source_name"].matches('a"b')  # such a name is kept, read with care
    for name in ('a"b', "a\\b", "caf\u00e9", "a b"):
        data = codec.dumps(
            {**codec.loads(_sent()[0]), "topic": "orders/paid", "payload": {**payload, "source_name": name}}
        )
        read = envelopes.read(data, topics.ORDERS)
        assert read.payload["source_name"] == name


@cache
def _records() -> dict[str, list[tuple[TypeAdapter[Any], bytes]]]:
    """What the folds make of two stores, by topic."""
    found: dict[str, list[tuple[TypeAdapter[Any], bytes]]] = {}
    for seed in (1, 2):
        stream = harness.Stream(harness.reference({stores.SHOP: stores.program(seed)}), partitions=1, workers=1)
        for each in stores.store(seed, 8, 40):
            stream.send(each)
        stream.run()
        for topic, adapter in READERS.items():
            log = stream.logs[topic, 0]
            found.setdefault(topic, []).extend((adapter, each.value) for each in log if each.value is not None)
    return found


#: What stands next to the bounds of a record's fields, besides what nobody would send.
ODD: list[Any] = [
    *fuzz.VALUES,
    *fuzz.TEXTS,
    *(
        f"{year}-{day}T10:00:00Z"
        for year in (1969, 1970, 2024, 2999, 9998, 9999)
        for day in ("02-29", "02-28", "11-31")
    ),
    *(10**each + more for each in (9, 12, 13, 14, 18) for more in (-1, 0, 1)),
    *(-(10**each) for each in (0, 9, 13, 18)),
    *(2**31, 2**31 - 1, 5, 6),
    *("-" * 599, "-" * 600, "-" * 601, 'a"b', "a\\b", "a\x7fb", "mail-" + "0" * 32, "guest-07", "guest-7", "1" * 21),
    *(
        "points.earned",
        "points.reversed",
        "order.fact",
        "customer.link",
        "1.5",
        "6.0",
        "seg_000",
        "seg_600",
        "USD",
        "usd",
    ),
]

READERS: dict[str, TypeAdapter[Any]] = {
    topics.ACCOUNT_FACTS: account_records.ACCOUNT_RECORD,
    topics.POINTS: records.POINTS_RECORD,
    topics.CUSTOMER_ROWS: records.CUSTOMER_ROW,
}


def test_our_own_records_are_plain() -> None:
    for topic, several in _records().items():
        plainly = [records._matches(records._forms()[adapter], data) for adapter, data in several]
        # Forwards and links are not; nor is a webhook's id with a quote in it.
        assert sum(plainly) > (0.5 if topic == topics.ACCOUNT_FACTS else 0.95) * len(several) > 100


@pytest.mark.parametrize("topic", READERS)
def test_a_plain_record_is_one(topic: str) -> None:
    """Of its model, and read as the model reads it."""
    chance = random.Random(topic)
    several = _records()[topic]
    found: Counter[bool] = Counter()
    for _ in range(6000):
        adapter, data = chance.choice(several)
        value = codec.loads(data)
        name = chance.choice(list(value))
        match chance.randrange(5):
            case 0:
                value[name] = copy.deepcopy(chance.choice(ODD))
            case 1 if isinstance(value[name], dict):
                value[name][chance.choice(list(value[name]))] = copy.deepcopy(chance.choice(ODD))
            case 2 if isinstance(value[name], list):
                value[name] = [*value[name], chance.choice(ODD)] * chance.choice((1, 2, 60))
            case 3:
                del value[name]
        try:
            data = codec.dumps(value)
        except TypeError:  # half a surrogate pair, or an integer of more than 64 bits
            continue
        if chance.random() < 0.2:
            data = fuzz._broken(chance, data)
        plainly = records._matches(records._forms()[adapter], data)
        found[plainly] += 1
        if plainly:
            assert list(codec.loads(data).items()) == list(adapter.validate_json(data).items())
    assert min(found[True], found[False]) > 500


def test_what_the_form_takes_for_an_instant_is_one() -> None:
    form, taken = plain._INSTANT, 0
    for year in (1969, 1970, 1999, 2000, 2023, 2024, 2999, 3000):
        for month, day in product(range(14), range(33)):
            text = f"{year}-{month:02d}-{day:02d}T23:59:59.5Z"
            if re.fullmatch(form, f'"{text}"'):
                taken += 1
                assert fields._instant(text) == text
    assert taken == 6 * 365 + 2
    for year in range(1970, 3000):
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        assert bool(re.fullmatch(form, f'"{year}-02-29T00:00:00Z"')) is leap
    for time in ("24:00:00", "23:60:00", "23:59:60", "23:59:59.", "23:59:59.1234567", "23:59", "2:00:00"):
        assert not re.fullmatch(form, f'"2026-11-21T{time}Z"')
