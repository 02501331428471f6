"""The API in a test: served by uvicorn on a free port, over a fresh database and a publisher that remembers."""

import asyncio
import base64
import hashlib
import hmac
import json
import queue
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import uvicorn
from psycopg import Connection
from psycopg.rows import dict_row
from pydantic import SecretStr

from api.app import create_app
from api.context import Services
from api.server import Server
from books import api_keys
from events.messages import Message
from events.payloads import Contact
from runtime.ports import Publisher, PublishError
from runtime.settings import Settings
from tests.support import WellPublisher

SHOP = "nest.myshopify.com"
OTHER = "other.myshopify.com"
MASTER = bytes(range(32))
SECRETS = ("new secret", "old secret")
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
PROGRAM = {"shop": SHOP, "currency": "USD", "zone": "America/New_York", "rules": [{"points_per_unit": "1"}]}


class Remembering(WellPublisher):
    """A publisher that keeps what it is given; `failing` makes it refuse."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.failing = False
        self.well = True
        self.broken: str | None = None

    async def publish(self, messages: Sequence[Message]) -> None:
        if self.failing:
            raise PublishError("the broker is away")
        self.messages.extend(messages)

    def failed(self) -> str | None:
        return self.broken

    async def ready(self) -> bool:
        return self.well

    def values(self, topic: str | None = None) -> list[dict[str, Any]]:
        return [json.loads(each.value) for each in self.messages if topic in (None, each.topic)]


class World:
    """A running app, and what a test does to it."""

    def __init__(self, url: str, settings: Settings, publisher: Publisher | None = None) -> None:
        self.url = url
        self.publisher = Remembering()
        self.app = app = create_app(settings, publisher or self.publisher)
        self.services: Services = app.state.services
        self._addresses: queue.Queue[str] = queue.Queue()
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=10)
        self.server = Server(config, self.services.live.close, self._addresses.put, self.publisher.failed)
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._kept: Connection[dict[str, Any]] | None = None

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.server.serve()

    def start(self) -> None:
        self._thread.start()
        # verify=False: the certificates it would load for each test take longer than the test.
        self.client = httpx.Client(base_url=self._addresses.get(timeout=20), timeout=30, verify=False)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(20)
        self.client.close()
        if self._kept is not None:
            self._kept.close()
        assert not self._thread.is_alive(), "the server did not end"

    def run(self, step: Any) -> Any:
        """Awaits a coroutine in the app's own loop."""
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(20)

    def sql(self, query: str, *parameters: object) -> list[dict[str, Any]]:
        cursor = self._connection().execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def _connection(self) -> Connection[dict[str, Any]]:
        """Kept: to PostgreSQL a connection is a process, and takes longer than most of what is asked of it."""
        if self._kept is None or self._kept.closed:  # as it is where a test has ended all there were
            self._kept = psycopg.connect(self.url, autocommit=True, row_factory=dict_row)
        return self._kept

    def insert(self, table: str, **row: object) -> None:
        names, places = ", ".join(f'"{name}"' for name in row), ", ".join(["%s"] * len(row))
        self.sql(f"INSERT INTO {table} ({names}) VALUES ({places})", *row.values())

    def key(self, *scopes: str, shop: str = SHOP) -> dict[str, str]:
        """The headers of a new API key."""

        async def made() -> str:
            async with self.services.pool.connection() as connection:
                return await api_keys.create(connection, shop, "test", scopes, NOW)

        return {"Authorization": f"Bearer {self.run(made())}"}

    def get(self, path: str, headers: dict[str, str], **parameters: object) -> Any:
        return self.client.get(f"/v1/shops/{SHOP}{path}", headers=headers, params=parameters)  # type: ignore[arg-type]

    def program(self, **changes: object) -> None:
        program = {**PROGRAM, **changes}
        self.insert("programs", shop=program["shop"], program=json.dumps(program), updated_at=NOW)

    def customer(self, customer_id: str, **changes: object) -> None:
        self.insert("customers", **customer_row(customer_id, **changes))
        self.count()

    def count(self) -> None:
        """The segments' counts, which the sink keeps beside the customers."""
        self.sql("DELETE FROM rfm_segment_counts")
        self.sql(
            "INSERT INTO rfm_segment_counts SELECT shop, segment, count(*), sum(monetary), sum(balance),"
            " sum(frequency), coalesce(sum(recency_days), 0), count(recency_days), max(stored_at)"
            " FROM customers GROUP BY shop, segment"
        )

    def contact(self, customer_id: str, email: str, consent: str = "subscribed", shop: str = SHOP) -> str:
        sealed: str = self.run(self.services.vault.seal(shop, customer_id, Contact(email, consent)))
        return sealed

    def batch(self, as_of: datetime, standings: dict[str, str], **changes: object) -> UUID:
        """A finished run with these customers in these segments."""
        run_id = uuid4()
        row = {"version": "default", "status": "done", "started_at": as_of + timedelta(minutes=1), **changes}
        self.insert("batch_runs", id=run_id, shop=SHOP, as_of=as_of, **row)
        for customer_id, segment in standings.items():
            whole = customer_row(customer_id, segment=segment)
            told = ("contact", "consent", "deleted", "redacted", "merged_into")
            left_out = ("now", "currency", "cut_points_version", *told)
            kept = {name: value for name, value in whole.items() if name not in left_out}
            self.insert("batch_segments", run_id=run_id, **kept)
        return run_id

    def webhook(self, topic: str | None, payload: object, *, secret: str = SECRETS[0], **headers: str) -> Any:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sent = {
            "X-Shopify-Topic": topic,
            "X-Shopify-Shop-Domain": SHOP,
            "X-Shopify-Webhook-Id": str(uuid4()),
            "X-Shopify-Event-Id": "event-1",
            "X-Shopify-API-Version": "2026-07",
            "X-Shopify-Triggered-At": "2026-11-21T09:29:58.123456Z",
            "X-Shopify-Hmac-Sha256": sign(body, secret),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        kept = {name: value for name, value in sent.items() if value}
        return self.client.post("/webhooks/shopify", content=body, headers=kept)


def sign(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def customer_row(customer_id: str, **changes: object) -> dict[str, Any]:
    row: dict[str, Any] = {
        "shop": SHOP,
        "customer_id": customer_id,
        "now": NOW,
        "currency": "USD",
        "balance": 129,
        "recency_days": 12,
        "frequency": 3,
        "monetary": 12990,
        "last_order_at": NOW - timedelta(days=12),
        "r": 5,
        "f": 3,
        "m": 3,
        "score": "3.8",
        "segment_id": "seg_533",
        "segment": "Active",
        "cut_points_version": "default",
        "contact": None,
        "consent": None,
        "deleted": False,
        "redacted": False,
        "merged_into": None,
    }
    return row | changes


def prospect(**changes: object) -> dict[str, Any]:
    """What makes a customer's row a Prospect's."""
    nothing = dict.fromkeys(("recency_days", "last_order_at", "r", "f", "m", "score"))
    counts = {"frequency": 0, "monetary": 0, "balance": 0}
    return {**nothing, **counts, "segment": "Prospects", "segment_id": "seg_000", **changes}


@contextmanager
def opened(url: str, publisher: Publisher | None = None, **settings_of_its_own: Any) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:  # its own: what waits in another's is another's to bring in
        settings = Settings(
            database=SecretStr(url),
            master_key=SecretStr(base64.b64encode(MASTER).decode()),
            shopify_secrets=[SecretStr(each) for each in SECRETS],
            **{"data_dir": folder, **settings_of_its_own},
        )
        world = World(url, settings, publisher)
        world.start()
        try:
            yield world
        finally:
            world.stop()
