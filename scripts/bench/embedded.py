"""What everybody tries first: `loyalnest up` without any server, and one order on an idle machine."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg

from cli.stack.home import running
from scripts.bench import data, web
from scripts.bench.world import BenchError, Process, wait

#: Between an order that was seen and the next (seconds): what the stack does while there is traffic is over.
_SILENCE: Final = 0.8


def lone_orders(folder: Path, number: int) -> list[float]:
    """Seconds from a 200 until the customer's row was there, of orders that come singly, after a silence each."""
    home = folder / "embedded"
    environment = {**os.environ, "LOYALNEST_SHOPIFY_SECRETS": web.SECRET}
    words = [sys.executable, "-m", "cli.main", "up", "--data", str(home), "--port", "0", "--no-schedule"]
    up = Process(words, environment, folder / "embedded.log")
    try:
        wait("loyalnest up", lambda: up.check() and "LoyalNest is up" in up.log.read_text(), seconds=120)
        there: dict[str, Any] = running(home) or {}
        added = [sys.executable, "-m", "cli.main", "shops", "add", data.SHOP, "--currency", data.CURRENCY]
        subprocess.run([*added, "--data", str(home)], check=True, capture_output=True)
        with psycopg.connect(there["database"], autocommit=True) as connection:
            port = urlsplit(there["api"]).port or 0
            return [_seen(connection, port, each) for each in web.requests(number)]
    finally:
        up.end()


def _seen(connection: psycopg.Connection[Any], port: int, request: web.Request) -> float:
    customer, words, _ = request
    time.sleep(_SILENCE)
    asyncio.run(_post(port, words))
    accepted = time.monotonic()
    known = "SELECT EXISTS (SELECT FROM customers WHERE customer_id = %s)"
    while connection.execute(known, [customer]).fetchone() != (True,):
        if time.monotonic() > accepted + 30:
            raise BenchError("an order was not seen within 30 s")
        time.sleep(0.005)
    return time.monotonic() - accepted


async def _post(port: int, words: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    head = await reader.readuntil(b"\r\n\r\n")
    with suppress(ConnectionError):
        writer.close()
    if b" 200 " not in head.splitlines()[0]:
        raise BenchError(f"a webhook was answered {head.splitlines()[0].decode()}")
