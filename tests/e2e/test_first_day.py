"""A merchant's first day: the app is installed, webhooks come, and only then the shop is added."""

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cli.shop.deliveries import Outgoing, money_bag
from cli.shop.player import Player
from cli.shop.store_maker import make_store
from events import instants
from runtime.settings import Settings
from tests.e2e.up import Up, up, wait

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:Sending a large body"),
]
SHOP = "first.myshopify.com"


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.server)])
def stack(request: pytest.FixtureRequest) -> Iterator[Up]:
    # Not under pytest's own folder: the embedded server's user must be able to enter it.
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    try:
        if request.param == "embedded":
            with up(parent / "data") as stack:
                yield stack
        else:
            real: Settings = request.getfixturevalue("real")
            words = ("--kafka", real.kafka_servers(), "--database", real.database_url())
            with up(parent / "data", *words, prefix=real.topic_prefix) as stack:
                yield stack
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def post(stack: Up, deliveries: list[Outgoing]) -> None:
    secret = (stack.folder / "webhook.secret").read_text().strip()
    posted = asyncio.run(Player(stack.announced["api"], SHOP, secret).post(deliveries))
    assert (posted.accepted, posted.refused) == (len(deliveries), {})


def letters(stack: Up) -> list[tuple[str, int, int]]:
    query = "SELECT error, count(*), count(replayed_at) FROM dead_letters GROUP BY 1 ORDER BY 1"
    with psycopg.connect(stack.settings().database_url()) as connection:
        return [(error, count, replayed) for error, count, replayed in connection.execute(query)]


def of_many_refunds(store: list[Outgoing]) -> Outgoing:
    """An order of more than 1 MB, minimised too: the newest there is, with 7,000 refunds of a cent."""
    order = next(each for each in reversed(store) if each.topic == "orders/paid")
    at = instants.text(order.triggered_at + instants.SECOND)
    refunds = [
        {
            "id": 10**12 + number * 7919,
            "created_at": at,
            "refund_line_items": [{"id": number, "quantity": 1, "subtotal_set": money_bag("0.01", "USD")}],
        }
        for number in range(7_000)
    ]
    payload = {**order.payload, "id": 999_999, "updated_at": at, "refunds": refunds}
    big: Outgoing = order._replace(webhook_id="many-refunds", event_id="many-refunds", payload=payload)
    assert len(big.body()) > 1_500_000
    return big


def test_what_came_before_the_shop_was_added_counts(stack: Up) -> None:
    store = list(make_store(time.time_ns() // 1000, customers=40, webhooks=300))
    post(stack, store[:200])
    wait(lambda: letters(stack), what="the first refusal")
    said = stack.run("shops", "add", SHOP, "--no-batch")
    # (The store delivers some twice, which the front door sees.)
    came = re.search(r"(\d+) messages from before have been taken in", said)
    assert came is not None
    count = int(came.group(1))
    assert 0 < count <= 200  # the last of them may have met the program
    post(stack, [*store[200:], of_many_refunds(store)])
    report = stack.json("batch", "segments", "--shop", SHOP)
    assert (report["differ"], report["detail"]) == (0, None)
    assert report["customers"] == 40
    assert "what the history says" in stack.run("batch", "parity", "--shop", SHOP)
    # (Of an order that was told of before and after, all that was told is taken in.)
    ((error, refused, replayed),) = letters(stack)
    assert (error, replayed) == ("unknown_shop", refused)
    assert 0 < refused <= count
    if not stack.announced["journal"]:
        return
    # A replay of the raw history refuses none of them again.
    stack.kill("worker")
    report = stack.json("batch", "segments", "--shop", SHOP)
    assert report["differ"] == 0
    assert "what the history says" in stack.run("batch", "parity", "--shop", SHOP)
    assert letters(stack) == [("unknown_shop", refused, refused)]
