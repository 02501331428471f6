"""The dashboard of the demo store and of a large shop: what the overview asks for, how soon a browser can use it, and
pages that are open while numbers move."""

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import aiohttp
import psycopg
from playwright.sync_api import BrowserContext, sync_playwright

from scripts import demo
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

#: What comes when the page stands, from the lake: of the demo store, which has one.
LATER: Final = {
    "`segments/movement`, since yesterday": "/v1/shops/{shop}/segments/movement?from={yesterday}",
    "who moved, made on the server": "/shops/{shop}/parts/movement?since={from_day}",
    "who came back, made on the server": "/shops/{shop}/parts/cohorts",
}

#: When the page's module has marked that it can be used (milliseconds since the navigation).
_MARKED: Final = """() => new Promise((resolve) => {
    const look = () => {
        const [mark] = performance.getEntriesByName("usable");
        if (mark) resolve(mark.startTime);
        else setTimeout(look, 5);
    };
    look();
})"""

#: Open pages; and changes while they are open, so far apart (seconds).
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
    """Seconds of each answer by what was asked; until each open page knew of a change; and of answers meanwhile.

    `usable`: seconds from a navigation to the overview until it is drawn and works; none without a browser.
    """

    customers: int
    asked: dict[str, list[float]]
    moved: list[float]
    meanwhile: list[float]
    usable: list[float]


class Store(NamedTuple):
    """The same of the demo store, where nothing else is measured."""

    customers: int
    asked: dict[str, list[float]]
    usable: list[float]


def pages(world: World, number: int, times: int) -> Pages:
    """Of a shop of so many customers, one API process; each call is asked so often, one after another."""
    with world.run("pages") as run:
        exporting.fill(run.settings.database_url(), number)
        for step in (_COUNTS, _WINDOWS, _SIZES):
            run.database.execute(step.encode(), {"shop": data.SHOP, "currency": data.CURRENCY})
        run.database.execute("VACUUM ANALYZE")
        _, port = web.api(run)
        key = asyncio.run(exporting.key_of(run))
        address = f"http://127.0.0.1:{port}"
        usable = _usable(address, key, data.SHOP, times)
        return asyncio.run(_pages(address, key, number, run.settings.database_url(), times, usable))


def store(customers: int, times: int) -> Store:
    """The demo store of so many customers, while an order comes every second or two."""
    with demo.serving("--customers", str(customers), "--webhooks", str(customers * 10)) as found:
        usable = _usable(found.api, found.key, demo.SHOP, times)
        asked = asyncio.run(_store(found, times))
    return Store(customers, asked, usable)


async def _store(found: demo.Demo, times: int) -> dict[str, list[float]]:
    headers = {"Authorization": f"Bearer {found.key}"}
    async with aiohttp.ClientSession(found.api, headers=headers) as client:
        return {name: await _asked(client, path, times) for name, path in _calls(demo.SHOP, CALLS | LATER).items()}


def _calls(shop: str, calls: Mapping[str, str]) -> dict[str, str]:
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    words = {"shop": shop, "from_": today - timedelta(days=89), "to": today}
    words |= {"yesterday": f"{yesterday}T00:00:00Z", "from_day": yesterday}
    return {name: path.format(**words) for name, path in calls.items()}


def _usable(address: str, key: str, shop: str, times: int) -> list[float]:
    """Seconds of each load of the overview in a Chromium that has nothing of it yet, a fifth as often as a call is
    asked; none where there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        return []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        signed_in = browser.new_context(base_url=address)
        page = signed_in.new_page()
        page.goto("/sign-in")
        page.fill("#key", key)
        page.press("#key", "Enter")
        page.wait_for_url(f"**/shops/{shop}")
        state = signed_in.storage_state()
        signed_in.close()
        found = [
            _load(browser.new_context(base_url=address, storage_state=state), shop) for _ in range(max(times // 5, 2))
        ]
        browser.close()
    return found


def _load(context: BrowserContext, shop: str) -> float:
    page = context.new_page()
    page.goto(f"/shops/{shop}", wait_until="domcontentloaded")
    seconds = float(page.evaluate(_MARKED)) / 1000
    context.close()
    return seconds


async def _pages(address: str, key: str, number: int, url: str, times: int, usable: list[float]) -> Pages:
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(address, headers=headers, connector=connector, timeout=timeout) as client:
        asked = {name: await _asked(client, path, times) for name, path in _calls(data.SHOP, CALLS).items()}
        moved, meanwhile = await _moved(client, url)
    return Pages(number, asked, moved, meanwhile, usable)


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
