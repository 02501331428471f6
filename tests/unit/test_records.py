"""What the folds emit is what the records' models, and the JSON Schemas made from them, say."""

import json
import random
from datetime import timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from events import account_records, codec, envelopes, records, topics
from events.errors import BadEvent
from tests import harness, stores
from tests.harness import Stream
from tests.sinks import unstorable

MODELS: dict[str, Any] = {
    topics.ACCOUNT_FACTS: account_records.ACCOUNT_RECORD,
    topics.POINTS: records.POINTS_RECORD,
    topics.CUSTOMER_ROWS: records.CUSTOMER_ROW,
    topics.RFM: records.RFM_UPDATED,
    topics.WINDOWS: records.WINDOW_ROW,
    topics.RESCORE: records.RESCORE,
    topics.DEAD_LETTERS: records.DEAD_LETTER,
}


@pytest.fixture(scope="module")
def logs() -> dict[str, list[bytes]]:
    """Every message that stores made to be nasty leave on each topic, with some that cannot be used among them."""
    found: dict[str, list[bytes]] = {name: [] for name in topics.BY_NAME}
    for seed in range(6):
        plain = stores.program(seed)
        end = stores.NOW + timedelta(days=41)
        stream = Stream(harness.reference({stores.SHOP: plain}), random.Random(seed), partitions=2)
        for each in stores.store(seed, moments=6):
            stream.send(each)
            if stream.chance.random() < 0.05:
                stream.send({**each, "triggered_at": "yesterday"})
                stream.put(topics.ORDERS, f"{stores.SHOP}/1", b"\xff")
                stream.put(topics.RESCORE, f"{stores.SHOP}/1", b"{}")
        stream.run()
        stream.rescore(stores.SHOP, end, "v1", slices=8)
        stream.run()
        for (topic, _), log in stream.logs.items():
            found[topic] += [message.value or b"" for message in log]
    return found


def _no_float(text: str) -> None:
    raise AssertionError(f"{text} is a float")


@pytest.mark.parametrize("topic", sorted(MODELS))
def test_every_record_is_of_its_model_and_schema(topic: str, logs: dict[str, list[bytes]]) -> None:
    validator = Draft202012Validator(records.schema(MODELS[topic]), format_checker=FormatChecker())
    assert len(logs[topic]) > 20
    unreadable = 0
    for value in logs[topic]:
        if value == b"{}":  # one of ours, above
            unreadable += 1
            continue
        record = codec.loads(value)
        assert records.read(MODELS[topic], value) == record, "nothing is added, dropped or turned into something else"
        validator.validate(record)
        json.loads(value, parse_float=_no_float)
    assert len(logs[topic]) - unreadable > 20


def test_the_records_of_each_kind_are_seen(logs: dict[str, list[bytes]]) -> None:
    """Else the test above would say less than it seems to."""
    seen = {topic: [codec.loads(value) for value in log] for topic, log in logs.items() if topic in MODELS and log}
    assert {each["type"] for each in seen[topics.POINTS]} == {
        "points.earned",
        "points.reversed",
        "points.adjusted",
        "points.redeemed",
        "points.expired",
    }
    assert {each["late"] for each in seen[topics.WINDOWS]} == {True, False}
    assert {each["size"] for each in seen[topics.WINDOWS]} == {"minute", "hour", "day"}
    assert {each["previous"] is None for each in seen[topics.RFM]} == {True, False}
    assert {each["standing"]["r"] is None for each in seen[topics.CUSTOMER_ROWS]} == {True, False}
    assert {each["deleted"] for each in seen[topics.CUSTOMER_ROWS]} == {True, False}
    assert {each["value"] is None for each in seen[topics.DEAD_LETTERS]} == {True, False}
    assert any(each["customer_id"].startswith("guest-") for each in seen[topics.ACCOUNT_FACTS] if each)


def test_a_field_that_the_model_lacks_is_refused() -> None:
    row = {"shop": "a.myshopify.com", "as_of": "2026-01-01T00:00:00Z", "version": "v", "slice": 0, "slices": 4}
    assert records.read(records.RESCORE, codec.dumps(row)) == row
    with pytest.raises(ValueError, match="bad_record"):
        records.read(records.RESCORE, codec.dumps({**row, "more": 1}))


@pytest.mark.parametrize(("topic", "value"), [(topic, value) for topic, _, value in unstorable()])
def test_what_no_column_could_hold_is_not_of_its_model(topic: str, value: bytes) -> None:
    with pytest.raises(BadEvent, match="bad_record"):
        records.read(MODELS[topic], value)


def test_the_envelopes_of_the_tests_are_of_the_envelopes_schema() -> None:
    validator = Draft202012Validator(envelopes.ENVELOPE.json_schema(), format_checker=FormatChecker())
    for each in stores.store(1):
        validator.validate(each)
