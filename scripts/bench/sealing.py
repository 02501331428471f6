"""What an order's sealed contact costs at the front door: bytes of its envelope, and time of an order.

`python -m scripts.bench.sealing [--database URL]`, on a database of its own beside that one. The front door is the real
one, its publisher keeps nothing; a client is one of so many that each send an order once the last was taken.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from api.webhooks.front_door import FrontDoor
from api.webhooks.signatures import Body
from books import migrate
from books.sealed import MasterKeys
from books.vault import Vault
from cli.shop import store_maker
from events import codec, instants
from events.messages import Message
from runtime import database
from scripts.bench import data
from scripts.bench.world import create, drop
from tests.support import WellPublisher

_CLIENTS: Final = 32
_DATABASE: Final = "bench_sealing"
_NOW: Final = instants.parse("2026-11-21T09:30:00Z")


class _Counting(WellPublisher):
    """A publisher that is done at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.sizes += [len(each.value) for each in messages]


def _orders(number: int, customers: int, *, told: bool, agreed: bool = False) -> list[bytes]:
    store = store_maker.make_store(instants.parse("2026-11-20T00:00:00Z"), customers=20, webhooks=200)
    template = next(each.payload for each in store if each.topic == "orders/paid" and each.payload.get("customer"))
    bodies = []
    for at in range(number):
        whose = 7_900_000_000_000 + at % customers
        email = f"somebody.{at % customers:07d}@example.com" if told else None
        order = {**template, "id": 5_900_000_000_000 + at, "email": email, "contact_email": email}
        order |= {"customer": {**template["customer"], "id": whose, "email": email}, "buyer_accepts_marketing": agreed}
        bodies.append(codec.dumps(order))
    return bodies


async def _take(door: FrontDoor, bodies: Iterable[tuple[int, bytes]]) -> None:
    for at, raw in bodies:
        headers = {"x-shopify-topic": "orders/paid", "x-shopify-shop-domain": data.SHOP}
        body = Body(raw, len(raw), (at.to_bytes(32),))
        topic, outcome = await door.take(headers, body)
        assert (topic, outcome) == ("orders/paid", "accepted")


async def _measure(url: str, number: int) -> None:
    pool = database.pool(url, "loyalnest-bench", size=10, statement_seconds=10)
    await pool.open()
    kinds = {
        "no e-mail": _orders(number, number, told=False),
        "e-mail, customers known": _orders(number, 50, told=True),
        "e-mail and consent, customers known": _orders(number, 50, told=True, agreed=True),
        "e-mail, each of a new customer": _orders(number, number, told=True),
    }
    print(f"{number:,} orders, {_CLIENTS} clients\n\n{'':38} bytes   us of CPU an order   orders/s")
    for name, bodies in kinds.items():
        publisher = _Counting()
        door = FrontDoor(publisher, Vault(MasterKeys([bytes(32)]), pool), lambda: _NOW)
        await _take(door, list(enumerate(bodies[:50], 10**9)))
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(_take(door, list(enumerate(bodies))[at::_CLIENTS]) for at in range(_CLIENTS)))
        took, used = time.perf_counter() - began, time.process_time() - cpu
        print(f"{name:38} {median(publisher.sizes):5.0f} {used / number * 1e6:12.0f} {number / took:18,.0f}")
    await pool.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default=os.environ.get("LOYALNEST_TEST_DATABASE"))
    parser.add_argument("--orders", type=int, default=5_000)
    options = parser.parse_args()
    url = create(options.database, _DATABASE)
    try:
        migrate.migrate(url)
        asyncio.run(_measure(url, options.orders))
    finally:
        drop(options.database, _DATABASE)


if __name__ == "__main__":
    main()
