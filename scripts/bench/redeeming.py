"""Redemptions asked over HTTP while orders come in: how long until each is told what was decided."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, NamedTuple

import psycopg

from books import api_keys
from events import awards, codec, instants, topics
from events.programs import Life, Program, Reward
from scripts.bench import data, web
from scripts.bench.web import Request
from scripts.bench.world import World, wait
from tables import account, contributions, redemptions
from tables.contributions import Node
from tables.terms import Terms

#: Who redeem, in turns.
CUSTOMERS: Final = 200
_FIRST: Final = 8_800_000_000_000


class Redeemed(NamedTuple):
    """Seconds from each request to its answer, and of the orders' from theirs."""

    took: list[float]
    orders: list[float]


def program() -> Program:
    """The bench's, with a reward that costs a point, and points that live for a year."""
    reward = Reward(reward_id="one", cost=1, kind="shipping", name="one", names={})
    return data.program().model_copy(update={"rewards": (reward,), "expiry": (Life(life_days=365),)})


def redeemed(world: World, rate: float, orders: float, seconds: float) -> Redeemed:
    """API, worker and sink at a steady rate of orders, and beside them so many redemptions a second."""
    number = int(rate * seconds)
    with world.run("redeem", program()) as run:
        _, port = web.api(run)
        key = asyncio.run(_key(run.settings.database_url()))
        sink = run.sink()
        run.worker()
        sink.go_on()
        now = instants.from_datetime(datetime.now(UTC))
        body = awards.Body(now, number, "bench", "bench", counts_as_earned=False)
        given = [awards.message(data.SHOP, str(_FIRST + at), "first", body, now) for at in range(CUSTOMERS)]
        run.send(run.settings.topic(topics.REQUESTS), [(each.key, each.value) for each in given])
        wait(
            "the points",
            lambda: run.number("SELECT count(*) FROM customers WHERE balance > 0") == CUSTOMERS,
            seconds=60,
        )
        buying = web.load(run, port, list(web.requests(int(orders * seconds))), orders)
        asking = web.load(run, port, [_request(key, at) for at in range(number)], rate, name="redemptions")
        came = web.outcome(asking, number)
        bought = web.outcome(buying, int(orders * seconds))
    return Redeemed(came["took"], bought["took"])


async def _key(url: str) -> str:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await api_keys.create(connection, data.SHOP, "bench", ["redeem"], datetime.now(UTC))


def _request(key: str, at: int) -> Request:
    customer, body = str(_FIRST + at % CUSTOMERS), codec.dumps({"reward_id": "one", "cost": 1})
    head = (
        f"POST /v1/shops/{data.SHOP}/customers/{customer}/redemptions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {key}\r\nIdempotency-Key: bench-{at}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return customer, head.encode() + body, None


# --- an account, large and small ---------------------------------------------------------------------------------


class _Nodes(dict[int, Node]):
    """A customer's nodes, in memory."""

    def get(self, number: int) -> Node:  # type: ignore[override]
        return self[number]

    def put(self, number: int, node: Node) -> int:
        self[number] = node
        return number

    def add(self, node: Node) -> int:
        self[len(self)] = node
        return len(self) - 1

    def drop(self, number: int) -> None:
        """It stays: numbers are counted."""


def decided(orders: int, taken: int, times: int = 20) -> float:
    """Seconds that a decision takes in an account of so many orders and redemptions, over five years."""
    nodes, tree, held = _Nodes(), contributions.empty(), account.empty()
    now, span = instants.parse("2026-11-30T00:00:00Z"), 5 * 365 * instants.DAY
    for at in range(orders):
        entry = [now - (orders - at) * span // orders, str(at), "r", 100, 10, 0, 1, 1]
        tree = contributions.put(nodes, tree, entry)
    for at in range(taken):
        entry = [now - (taken - at) * span // taken, f"redeem:{at}", "r", 0, 3, 0, 0, 1]
        held["debits"] = contributions.put(nodes, held["debits"], entry)
    asked, terms = program(), Terms(program())
    began = time.perf_counter()
    for _ in range(times):
        redemptions.decide(
            nodes,
            tree,
            held,
            {
                "type": "account.redeem",
                "shop": data.SHOP,
                "customer_id": "7",
                "request_id": "r",
                "reward_id": "one",
                "cost": 1,
                "forced": False,
                "program": 0,
                "now": now,
            },
            asked,
            terms,
            now,
            None,
        )
    return (time.perf_counter() - began) / times
