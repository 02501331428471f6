"""A store's past as a bulk operation gives it: how fast it is tried, how fast it is durable, and who waits for it."""

import asyncio
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from books import imports as book
from books.sealed import MasterKeys
from books.vault import Vault
from events import codec
from imports import files, quick
from imports.importing import Bringing
from runtime import database
from scripts.bench import data
from scripts.bench.world import World
from streams.publisher import JournalPublisher, KafkaPublisher

_LINES: Final = 2  # of an order
_BATCH: Final = 2_000


class Brought(NamedTuple):
    """Orders and the seconds until all were durable; CPU seconds of this process and those that it started."""

    orders: int
    seconds: float
    cpu: float


def write(path: Path, orders: int) -> int:
    """So many orders of six years with two lines each, one in twenty partly refunded; the file's lines."""
    chance = random.Random(1)
    lines = 0
    with path.open("wb") as out:
        for number in range(orders):
            for each in _order(number, orders // 4 + 1, chance):
                out.write(codec.dumps(each) + b"\n")
                lines += 1
    return lines


def _bag(cents: int) -> dict[str, Any]:
    return {"shopMoney": {"amount": f"{cents // 100}.{cents % 100:02d}", "currencyCode": data.CURRENCY}}


def _order(number: int, customers: int, chance: random.Random) -> list[dict[str, Any]]:
    cents, customer = chance.randint(500, 20_000), chance.randint(1, customers)
    day = f"20{chance.randint(20, 25)}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}"
    at = f"{day}T{chance.randint(0, 23):02d}:{chance.randint(0, 59):02d}:{chance.randint(0, 59):02d}Z"
    order_id = 5_000_000_000_000 + 7 * number
    email = f"customer{customer}@example.com"
    refunded = 300 if number % 20 == 0 else 0
    refund = {"id": f"gid://shopify/Refund/{order_id}", "createdAt": at, "totalRefundedSet": _bag(refunded)}
    found: dict[str, Any] = {
        "id": f"gid://shopify/Order/{order_id}",
        "name": f"#{1001 + number}",
        **dict.fromkeys(("createdAt", "updatedAt", "processedAt"), at),
        "cancelledAt": None,
        "test": False,
        "displayFinancialStatus": "PARTIALLY_REFUNDED" if refunded else "PAID",
        "currencyCode": data.CURRENCY,
        "sourceName": "web",
        "taxesIncluded": False,
        "discountCodes": [],
        "email": email,
        "customerAcceptsMarketing": customer % 2 == 0,
        "customer": {"id": f"gid://shopify/Customer/{7_000_000_000_000 + customer}", "email": email},
        "currentSubtotalPriceSet": _bag(cents - refunded),
        "subtotalPriceSet": _bag(cents),
        "totalTaxSet": _bag(cents // 10),
        "refunds": [refund] if refunded else [],
    }
    lines = [
        {
            "id": f"gid://shopify/LineItem/{order_id * 10 + at_line}",
            "sku": f"SKU-{at_line}",
            **dict.fromkeys(("quantity", "currentQuantity"), 1),
            "isGiftCard": False,
            "originalUnitPriceSet": _bag(cents // _LINES),
            "discountAllocations": [],
            "product": {"id": "gid://shopify/Product/632910392"},
            "variant": {"id": "gid://shopify/ProductVariant/808950810"},
            "__parentId": found["id"],
        }
        for at_line in range(_LINES)
    ]
    return [found, *lines]


def tried(path: Path) -> tuple[int, float]:
    """A dry run: (lines, seconds)."""
    began = time.monotonic()
    reader = files.reader(path, data.SHOP, data.CURRENCY, 0)
    lines, found = quick.summary(reader, path, data.SHOP, data.CURRENCY)
    assert found.orders
    assert not found.problems
    return lines, time.monotonic() - began


def brought_in(world: World, path: Path, *, journal: bool) -> Brought:
    """As `loyalnest import --at-once` does it, nothing else running: into the raw history, or to Kafka."""

    async def bring() -> Brought:
        with world.run("past") as run:
            url = run.settings.database_url()
            pool = database.pool(url, "bench", size=2)
            await pool.open(wait=True)
            publisher: Any = (JournalPublisher if journal else KafkaPublisher)(run.settings)
            try:
                async with await database.connect_async(url, "bench", autocommit=True) as connection:
                    before, began = _cpu(), time.monotonic()
                    content, now = files.content(path), datetime.now(UTC)
                    found = await book.begin_or_find(
                        connection, data.SHOP, path.name, content.sha256, content.size, now, again=False
                    )
                    tally = await Bringing(
                        path=path,
                        shop=data.SHOP,
                        currency=data.CURRENCY,
                        vault=Vault(MasterKeys([bytes(32)]), pool),
                        publisher=publisher,
                        pace=None,
                        batch=_BATCH,
                        batch_due=False,
                    ).run(connection, found)
                    return Brought(tally.orders, time.monotonic() - began, _cpu() - before)
            finally:
                await publisher.close()
                await pool.close()

    return asyncio.run(bring())


def _cpu() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
