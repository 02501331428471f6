"""The front door: webhooks a second, and how long until what was accepted can be seen."""

import asyncio
import base64
import json
import os
import pickle
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import psycopg
from pydantic import SecretStr

from books import api_keys
from cli.shop import deliveries, store_maker
from cli.shop.deliveries import Outgoing
from cli.stack import home
from events import instants
from scripts.bench import data
from scripts.bench.world import BenchError, Process, Run, World, wait
from scripts.serving.server import free_port
from streams.sink.store import CHANNEL

_HOST: Final = "127.0.0.1"
SECRET: Final = "a secret of the bench"
_CONNECTIONS: Final = 32

#: Every so many of the timed customers is also awaited through the API.
_SAMPLE: Final = 20

Request = tuple[str, bytes, str | None]


class Accepted(NamedTuple):
    """Webhooks answered 200, the seconds it took, each answer's seconds, and CPU seconds of the API and the client."""

    number: int
    size: float
    seconds: float
    took: list[float]
    api_cpu: float
    client_cpu: float


class Delay(NamedTuple):
    """Seconds from a 200 until the customer's row was there, and until the API showed a sample of them."""

    rate: float
    seen: list[float]
    asked: list[float]


# --- requests ----------------------------------------------------------------------------------------------------


def requests(number: int, sample: int = 0, customers: int | None = None) -> Iterator[Request]:
    """Signed orders/paid webhooks as Shopify sends them, by so many customers, or each by another; each customer has an
    address of their own.
    """
    template = _template()
    for at in range(number):
        now = instants.from_datetime(datetime.now(UTC))
        customer = 7_900_000_000_000 + at % (customers or number)
        email = f"somebody.{customer}@example.com"
        payload = {
            **template,
            "id": 5_900_000_000_000 + at,
            "customer": {**template["customer"], "id": customer, "email": email},
            **dict.fromkeys(("email", "contact_email"), email),
            **dict.fromkeys(("created_at", "updated_at", "processed_at"), instants.text(now)),
        }
        path = f"/v1/shops/{data.SHOP}/customers/{customer}" if sample and at % sample == 0 else None
        names = f"b54557e4-bdd9-4b37-8a5f-{at:012d}", f"98880550-{at:012d}"
        yield str(customer), request(Outgoing("orders/paid", now, *names, payload)), path


def _template() -> dict[str, Any]:
    store = store_maker.make_store(instants.parse("2026-11-20T00:00:00Z"), customers=20, webhooks=200)
    return next(each.payload for each in store if each.topic == "orders/paid" and each.payload.get("customer"))


def request(outgoing: Outgoing) -> bytes:
    """The signed request that brings it."""
    body = outgoing.body()
    headers = deliveries.headers(outgoing, data.SHOP, SECRET, body)
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    head = f"POST /webhooks/shopify HTTP/1.1\r\nHost: {_HOST}\r\nContent-Length: {len(body)}\r\n{''.join(lines)}\r\n"
    return head.encode() + body


# --- processes ---------------------------------------------------------------------------------------------------


def api(run: Run) -> tuple[Process, int]:
    port = free_port()
    master = base64.b64encode(bytes(32)).decode()
    api = run.start(
        "api",
        api_host=_HOST,
        api_port=port,
        api_key_rate=0,  # what one key may ask is not what is measured
        api_address_rate=0,
        shopify_secrets=[SecretStr(SECRET)],
        master_key=SecretStr(master),
    )

    def listens() -> bool:
        try:
            asyncio.run(_touch(port))
        except OSError:
            return False
        return True

    wait("the API", lambda: api.check() and listens(), seconds=60)
    return api, port


async def _touch(port: int) -> None:
    _, writer = await asyncio.open_connection(_HOST, port)
    writer.close()


def load(run: Run, port: int, wanted: list[Request], rate: float, key: str = "", name: str = "requests") -> Process:
    file = run.folder / name
    file.write_bytes(pickle.dumps(wanted))
    script = Path(__file__).resolve().parent / "load.py"
    words = [sys.executable, "-P", str(script), _HOST, str(port), str(file), str(_CONNECTIONS), str(rate), key]
    return run.spawn("load", words, dict(os.environ))


def outcome(load: Process, number: int) -> dict[str, Any]:
    wait("the load", load.finished, seconds=300)
    came: dict[str, Any] = json.loads(load.log.read_text())
    if came["refused"] or came["sent"] != number:
        raise BenchError(f"{came['refused']} of {came['sent']} requests were not answered as they should be")
    return came


# --- webhooks a second -------------------------------------------------------------------------------------------


def accepted(world: World, number: int) -> Accepted:
    """One API process, 32 connections that send the next webhook as soon as the last one is answered."""
    wanted = list(requests(number))
    with world.run("web") as run:
        served, port = api(run)
        before = served.cpu()
        came = outcome(load(run, port, wanted, 0), number)
        used = served.cpu() - before
    size = sum(len(request) for _, request, _ in wanted) / number
    return Accepted(number, size, came["seconds"], came["took"], used, came["cpu"])


# --- delay -------------------------------------------------------------------------------------------------------


def delay(world: World, rate: float, seconds: float, past: Path | None = None) -> Delay:
    """API, worker and sink at a steady rate; a row is seen on the sink's own notice of its commit.

    `past`: while that file is being brought in.
    """
    number = int(rate * seconds)
    with world.run("delay") as run:
        served, port = api(run)
        key = asyncio.run(_key(run))
        sink = run.sink()
        worker = run.worker()
        sink.go_on()
        if past is not None:
            _bring_in(run, past)
        wanted = list(requests(number, _SAMPLE))
        sending = load(run, port, wanted, rate, key)
        customers = {customer for customer, _, _ in wanted}
        seen = _watch(run, customers, [served, sink, worker], time.monotonic() + seconds + 120)
        came = outcome(sending, number)
    accepted_at = came["accepted"]
    return Delay(
        rate,
        [seen[customer] - at for customer, at in accepted_at.items()],
        [at - accepted_at[customer] for customer, at in came["answered"].items()],
    )


async def _key(run: Run) -> str:
    async with await psycopg.AsyncConnection.connect(run.settings.database_url(), autocommit=True) as connection:
        return await api_keys.create(connection, data.SHOP, "bench", ["read"], datetime.now(UTC))


def _bring_in(run: Run, past: Path) -> None:
    """`loyalnest import`, until some of it is durable."""
    known = "SELECT count(*) FROM programs"
    wait("the program", lambda: run.number(known) > 0, seconds=60)
    words = [sys.executable, "-m", "cli.main", "import", str(past), "--shop", data.SHOP]
    master = SecretStr(base64.b64encode(bytes(32)).decode())
    importing = run.spawn("import", words, home.environment(home.changed(run.settings, master_key=master)))
    begun = "SELECT coalesce(max(position), 0) FROM imports"
    wait("the import", lambda: importing.check() and run.number(begun) > 0, seconds=120)


def _watch(run: Run, wanted: set[str], processes: list[Process], until: float) -> dict[str, float]:
    """When each of these customers' row was there: looked up whenever the sink tells of a commit."""
    seen: dict[str, float] = {}
    since = datetime.fromtimestamp(0, UTC)
    with psycopg.connect(run.settings.database_url(), autocommit=True) as listening:
        listening.execute(f"LISTEN {CHANNEL}")
        while len(seen) < len(wanted):
            list(listening.notifies(timeout=0.5, stop_after=1))
            now = time.time()
            rows = run.database.execute(
                "SELECT customer_id, stored_at FROM customers WHERE stored_at > %s ORDER BY stored_at", [since]
            ).fetchall()
            for customer, stored_at in rows:
                if customer in wanted:
                    seen.setdefault(customer, now)
                since = stored_at
            if time.monotonic() > until:
                raise BenchError(f"{len(wanted) - len(seen)} of {len(wanted)} orders were never seen")
            all(process.check() for process in processes)
    return seen
