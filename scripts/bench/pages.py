"""The dashboard of a large shop: what its overview asks for, and pages that are open while numbers move."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import aiohttp
import psycopg

from scripts.bench import data, exporting, web
from scripts.bench.world import World

#: What is asked, by its name: the page itself first, then what its modules ask for.
CALLS: Final = {
    "the page, made on the server": "/shops/{shop}",
    "`segments`": "/v1/shops/{shop}/segments",
    "`points/windows?size=day`": "/v1/shops/{shop}/points/windows?size=day",
    "`segments/history`, 90 days": "/v1/shops/{shop}/segments/history?from={from_}&to={to}",
    "a segment's page, by value": "/shops/{shop}/segments/Loyal",
    "`customers?sort=-monetary`": "/v1/shops/{shop}/customers?sort=-monetary&limit=50",
}

#: How often each is asked, one after another; open pages; and changes while they are open, so far apart (seconds).
_TIMES: Final = 100
OPEN: Final = 200
_CHANGES: Final = 20
_APART: Final = 0.5

_COUNTS: Final = """
INSERT INTO rfm_segment_counts (shop, segment, customers, monetary, balance, frequency, recency_days, recent)
SELECT shop, segment, count(*), sum(monetary), sum(balance), sum(frequency), sum(recency_days), count(recency_days)
FROM customers WHERE merged_into IS NULL GROUP BY shop, segment
"""

_WINDOWS: Final = """
INSERT INTO points_windows (start, shop, size, zone, partition, currency, orders, net, points_earned, points_reversed,
                            customers, guest_orders, guest_net)
SELECT date_trunc('day', now()) - day * interval '1 day', %(shop)s, 'day', 'UTC', partition, %(currency)s, 900, 90000,
       900, 10, 700, 0, 0
FROM generate_series(0, 60) AS day, generate_series(0, 7) AS partition
"""

_SIZES: Final = """
INSERT INTO segment_sizes (shop, as_of, run_id, segment, customers, monetary, balance)
SELECT shop, now() - day * interval '1 day', gen_random_uuid(), segment, customers, monetary, balance
FROM rfm_segment_counts, generate_series(0, 89) AS day
"""

_CHANGE: Final = """
WITH changed AS (UPDATE rfm_segment_counts SET balance = %(balance)s WHERE shop = %(shop)s AND segment = 'Loyal'
                 RETURNING shop)
SELECT pg_notify('loyalnest_live', json_build_object('shop', shop)::text) FROM changed
"""


class Pages(NamedTuple):
    """Seconds of each answer by what was asked; until each open page knew of a change; and of answers meanwhile."""

    customers: int
    asked: dict[str, list[float]]
    moved: list[float]
    meanwhile: list[float]


def pages(world: World, number: int) -> Pages:
    """Of a shop of so many customers, one API process."""
    with world.run("pages") as run:
        exporting.fill(run.settings.database_url(), number)
        for step in (_COUNTS, _WINDOWS, _SIZES):
            run.database.execute(step.encode(), {"shop": data.SHOP, "currency": data.CURRENCY})
        run.database.execute("VACUUM ANALYZE")
        _, port = web.api(run)
        key = asyncio.run(exporting.key_of(run))
        return asyncio.run(_pages(f"http://127.0.0.1:{port}", key, number, run.settings.database_url()))


async def _pages(address: str, key: str, number: int, url: str) -> Pages:
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(address, headers=headers, connector=connector, timeout=timeout) as client:
        today = datetime.now(UTC).date()
        words = {"shop": data.SHOP, "from_": today - timedelta(days=89), "to": today}
        asked = {name: await _asked(client, path.format(**words), _TIMES) for name, path in CALLS.items()}
        moved, meanwhile = await _moved(client, url)
    return Pages(number, asked, moved, meanwhile)


async def _asked(client: aiohttp.ClientSession, path: str, times: int) -> list[float]:
    await _ask(client, path)  # what is loaded at the first is there
    return [await _ask(client, path) for _ in range(times)]


async def _ask(client: aiohttp.ClientSession, path: str) -> float:
    began = time.monotonic()
    async with client.get(path, raise_for_status=True) as answer:
        await answer.read()
    return time.monotonic() - began


async def _moved(client: aiohttp.ClientSession, url: str) -> tuple[list[float], list[float]]:
    """Changes, one after another, while pages are open: when each of them knew, and how others were answered."""
    changed: dict[int, float] = {}
    moved: list[float] = []
    meanwhile: list[float] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        ready = [asyncio.Event() for _ in range(OPEN)]
        for each in ready:
            answer = await stack.enter_async_context(client.get(f"/v1/shops/{data.SHOP}/live", raise_for_status=True))
            group.create_task(_watch(answer, each, changed, moved))
        for each in ready:
            await each.wait()
        asking = group.create_task(_until_ended(lambda: _ask(client, f"/v1/shops/{data.SHOP}/segments"), meanwhile))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for at in range(1, _CHANGES + 1):
                changed[-at] = time.monotonic()
                await connection.execute(_CHANGE.encode(), {"shop": data.SHOP, "balance": -at})
                await asyncio.sleep(_APART)
        asking.cancel()
    return moved, meanwhile


async def _watch(
    answer: aiohttp.ClientResponse, ready: asyncio.Event, changed: dict[int, float], moved: list[float]
) -> None:
    """Notes when the client knows of each change, until it knows of the last; several may be told as one."""
    known = 0
    async for line in answer.content:
        if not line.startswith(b"data: "):
            continue
        told = json.loads(line.removeprefix(b"data: "))
        balance = next(each["points_balance"] for each in told["segments"] if each["segment"] == "Loyal")
        now = time.monotonic()
        while balance < known and known > -_CHANGES:
            known -= 1
            moved.append(now - changed[known])
        ready.set()
        if known == -_CHANGES:
            return


async def _until_ended(ask: Callable[[], Awaitable[float]], found: list[float]) -> None:
    while True:
        found.append(await ask())
        await asyncio.sleep(0.02)
