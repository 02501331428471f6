"""Whatever a signed body holds: it is answered 200, and what comes of it stops neither worker nor sink.

`make fuzz COUNT=100000 SEED=7` takes longer; the same seed sends the same webhooks.
"""

import base64
import hmac
import os
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256

import pytest

from events import topics
from events.webhook_topics import SHOPIFY
from streams.sink.rows import Rows
from tables import chunks, windows
from tables.chunks import Received
from tables.state import Values
from tests import fuzz, harness
from tests.integration.api_world import SECRETS, World, opened

COUNT = int(os.environ.get("LOYALNEST_FUZZ_COUNT", "1500"))
SEED = int(os.environ.get("LOYALNEST_FUZZ_SEED", "1"))
REFERENCE = harness.reference({fuzz.SHOP: {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}})


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        yield running


def _unforeseen(received: Received, error: Exception) -> None:
    raise error


def read(received: Received) -> None:
    """By whoever reads it: an exception that nobody foresaw is a failure."""
    Rows(journal=False).add(received)
    if received.topic == topics.ORDERS:
        chunks.fold(lambda: chunks.OrderChunk({}, REFERENCE, 0, 1), [received], _unforeseen).finish()
    elif received.topic == topics.CUSTOMERS:
        partial = windows.Partial()
        chunks.fold(lambda: chunks.CustomerChunk(Values(), REFERENCE, 0, 1, partial), [received], _unforeseen).finish()


@pytest.mark.timeout(max(120, COUNT // 10))
def test_no_body_ends_in_an_error_and_none_leaves_an_address(world: World) -> None:
    seen: Counter[str] = Counter()
    for number, sent in enumerate(fuzz.webhooks(SEED, COUNT)):
        signature = base64.b64encode(hmac.digest(SECRETS[0].encode(), sent.body, sha256)).decode()
        headers = {f"X-Shopify-{name}".encode(): value.encode("latin-1") for name, value in sent.headers.items()}
        headers[b"X-Shopify-Hmac-Sha256"] = signature.encode()
        answer = world.client.post("/webhooks/shopify", content=sent.body, headers=headers)
        assert answer.status_code == 200, (SEED, number, sent)
        for message in world.publisher.messages:
            assert fuzz.EMAIL.encode() not in message.value, (SEED, number, sent)
            received = Received(message.topic, 0, number, 1_700_000_000_000, message.key.encode(), message.value)
            read(received)
            seen[message.topic] += 1
        world.publisher.messages.clear()
    assert seen[topics.ORDERS] > COUNT // 10
    assert seen[topics.CUSTOMERS] > COUNT // 20
    assert seen[topics.DEAD_LETTERS] > COUNT // 20


def test_every_topic_is_among_them() -> None:
    assert {sent.headers.get("Topic") for sent in fuzz.webhooks(1, 600)} >= set(SHOPIFY)
