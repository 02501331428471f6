"""What comes in, and what it must come to."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from confluent_kafka import Producer

from events import codec, instants, keys, topics
from events.programs import Program
from runtime import kafka
from runtime.settings import Settings
from scripts.chaos.sums import HOLD, LIFE, ZONE, Points

SHOP: Final = "chaos.myshopify.com"
CUSTOMERS: Final = 150

#: So many customers are merged with one another and with nobody else: their ways stay short.
FAMILY: Final = 3

#: What a reward costs, in turns, each for so long.
REWARDS: Final = {"cheap": (40, 45), "dear": (150, 170)}
TURN: Final = timedelta(days=1)

#: The load's own time: it begins so long ago, and moves by this at each event, on average.
PAST: Final = timedelta(days=360)
STEP: Final = timedelta(minutes=10)


class Chaos(AssertionError):
    """Something that had to hold did not."""


class Request(NamedTuple):
    """Who asked for a reward, by which name."""

    customer: str
    name: str


class Asked(NamedTuple):
    """What for, at which price."""

    reward: str
    cost: int


class Granted(NamedTuple):
    """A request that was granted: points are taken from then on."""

    request: Request
    at: datetime


@dataclass
class Order:
    """An order as this script knows it: cents. `customer` is whose its newest snapshot says it is."""

    number: int
    customer: str
    amount: int
    at: datetime
    refunded: int = 0
    cancelled: bool = False

    @property
    def net(self) -> int:
        return 0 if self.cancelled else self.amount - self.refunded


@dataclass
class Owned:
    """What is known of a customer's points, those of who is merged into them among them."""

    orders: list[Points] = field(default_factory=list)
    given: list[Points] = field(default_factory=list)
    taken: list[Points] = field(default_factory=list)


@dataclass
class Load:
    """Webhooks and requests at a steady pace, on a thread of its own, and what they must come to."""

    settings: Settings
    chance: random.Random
    rate: float
    orders: list[Order] = field(default_factory=list)
    #: Points given (above 0) and taken by hand.
    awards: list[tuple[str, Points]] = field(default_factory=list)
    requests: dict[Request, Asked] = field(default_factory=dict)
    cancelled: set[Request] = field(default_factory=set)
    #: Whom a customer is now. Whoever is kept is themselves again.
    into: dict[str, str] = field(default_factory=dict)
    #: Whoever was merged into somebody at some time.
    ever_merged: set[str] = field(default_factory=set)
    merges: int = 0
    programs: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self.began = self.now = datetime.now(UTC) - PAST
        self._producer = Producer(kafka.producer_config(self.settings))
        self._going = threading.Event()
        self._failed: list[str] = []
        self._ended = False
        self.announce()
        self._flush()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go(self) -> None:
        self._going.set()

    def pause(self) -> None:
        """Returns when everything that was sent is on the broker."""
        self._going.clear()
        time.sleep(0.1)
        if not self._thread.is_alive():
            raise Chaos("the load has ended by itself")
        self._flush()

    def end(self) -> None:
        self._ended = True
        self._going.set()
        self._thread.join(5)

    def _flush(self) -> None:
        if self._producer.flush(60) or self._failed:
            raise Chaos(f"what was sent did not reach the broker: {self._failed[:1]}")

    # --- what it must come to -----------------------------------------------------------------------------------

    def who(self, customer: str) -> str:
        """Whom a customer is in the end."""
        while customer in self.into:
            customer = self.into[customer]
        return customer

    def cost(self, reward: str, at: datetime) -> int:
        """What a reward costs at a time."""
        return REWARDS[reward][(at - self.began) // TURN % 2]

    def owned(self, granted: Iterable[Granted]) -> dict[str, Owned]:
        """By whom somebody is in the end: one point for each whole unit of each order's net, what was given and taken
        by hand, and what was granted and stands."""
        found = defaultdict[str, Owned](Owned)
        for order in self.orders:
            found[self.who(order.customer)].orders.append(Points(order.at, order.net // 100))
        for customer, award in self.awards:
            owned = found[self.who(customer)]
            (owned.given if award.points > 0 else owned.taken).append(Points(award.at, abs(award.points)))
        for request, at in granted:
            if request not in self.cancelled:
                found[self.who(request.customer)].taken.append(Points(at, self.requests[request].cost))
        return found

    # --- what comes in ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended:
            self._going.wait()
            self._one()
            self._producer.poll(0)
            time.sleep(self.chance.expovariate(self.rate))

    def _one(self) -> None:
        self.now = min(self.now + self.chance.expovariate(1) * STEP, datetime.now(UTC))
        kind = self.chance.random()
        if kind < 0.55 or not self.orders:
            number, customer = len(self.orders) + 1, str(self.chance.randrange(CUSTOMERS) + 1)
            order = Order(number, customer, self.chance.randrange(100, 20_000), self.now)
            self.orders.append(order)
            self._snapshot("orders/paid", order)
        elif kind < 0.63:
            order = self.chance.choice(self.orders)
            order.refunded += self.chance.randrange(order.amount - order.refunded + 1)
            if self.chance.random() < 0.5:  # Shopify moves what the merged customer had
                order.customer = self.who(order.customer)
            self._snapshot("orders/updated", order)
        elif kind < 0.69:
            order = self.chance.choice(self.orders)
            order.cancelled = True
            self._snapshot("orders/cancelled", order)
        elif kind < 0.71:
            self._merge()
        elif kind < 0.711:
            self.announce()
        else:
            self._ask(self.chance.choice(self.orders).customer)

    def _ask(self, customer: str) -> None:
        """Of whoever has ordered: points by hand, a reward, one that was asked for before, or that it be cancelled."""
        kind = self.chance.random()
        if kind < 0.2:
            award = Points(self.now, self.chance.choice((25, 60, -15)))
            self.awards.append((customer, award))
            said = {"at": text(award.at), "points": award.points}
            self._request("account/award", customer, self.now, award_id=f"award-{len(self.awards)}", **said)
            return
        request = Request(customer, f"request-{len(self.requests) + 1}")
        if kind > 0.75 and self.requests:
            request = self.chance.choice(list(self.requests))
        if kind > 0.88 and request in self.requests:
            self.cancelled.add(request)
            self._request("account/cancel", request.customer, self.now, request_id=request.name)
            return
        # Some come late, from a till without a network: by then the reward may cost another number of points.
        at = self.now if self.chance.random() < 0.7 else self.now - self.chance.random() * TURN
        at = max(at, self.began)
        reward = self.chance.choice(list(REWARDS))
        asked = self.requests.setdefault(request, Asked(reward, self.cost(reward, at)))
        said = {"request_id": request.name, "reward_id": asked.reward, "cost": asked.cost}
        self._request("account/redeem", request.customer, at, **said)

    def _merge(self) -> None:
        """Two of a family, who are not the same yet: one becomes the other."""
        first = self.chance.randrange(CUSTOMERS // FAMILY) * FAMILY + 1
        family = {self.who(str(first + number)) for number in range(FAMILY)}
        if len(family) == 1:  # they are parted again: one who was merged is kept, and is themselves
            merged = [str(first + number) for number in range(FAMILY) if str(first + number) in self.into]
            kept, deleted = self.chance.choice(merged), family.pop()
        else:
            kept, deleted = self.chance.sample(sorted(family), 2)
        self.into.pop(kept, None)
        self.into[deleted] = kept
        self.ever_merged.add(deleted)
        self.merges += 1
        ids = {"kept": kept, "deleted": deleted}
        gids = {f"admin_graphql_api_customer_{which}_id": f"gid://shopify/Customer/{of}" for which, of in ids.items()}
        payload = {**gids, "admin_graphql_api_job_id": None, "status": "completed"}
        self._produce(topics.CUSTOMERS, "customers/merge", kept, self.now, payload)

    def announce(self) -> None:
        """The program, looking back a day longer each time. What rewards cost is said ahead, of all the time."""
        turns = PAST // TURN + 2
        rewards = [
            {
                "reward_id": reward,
                "cost": costs[turn % 2],
                "kind": "shipping",
                "name": reward,
                "effective_from": text(self.began + turn * TURN) if turn else None,
            }
            for reward, costs in REWARDS.items()
            for turn in range(turns)
        ]
        program = Program.model_validate(
            {
                "shop": SHOP,
                "currency": "USD",
                "zone": ZONE,
                "look_back_days": 365 + self.programs,
                "holds": [{"effective_from": None, "hold_days": HOLD.days}],
                "expiry": [{"effective_from": None, "life_days": LIFE.days}],
                "rewards": rewards,
            }
        )
        self.programs += 1
        self._producer.produce(
            self.settings.topic(topics.PROGRAMS), program.model_dump_json(), SHOP, on_delivery=self._report
        )

    def _request(self, topic: str, customer: str, when: datetime, **said: Any) -> None:
        self._produce(topics.REQUESTS, topic, customer, when, {"customer_id": customer, **said})

    def _snapshot(self, topic: str, order: Order) -> None:
        now, left = text(self.now), order.amount - order.refunded
        payload = {
            "id": order.number,
            "created_at": text(order.at),
            "updated_at": now,
            "processed_at": text(order.at),
            "cancelled_at": now if order.cancelled else None,
            "financial_status": "paid",
            "currency": "USD",
            "current_subtotal_price": f"{left // 100}.{left % 100:02d}",
            "subtotal_price": f"{order.amount // 100}.{order.amount % 100:02d}",
            "customer": {"id": int(order.customer)},
            "line_items": [],
            "refunds": [],
        }
        self._produce(topics.ORDERS, topic, str(order.number), self.now, payload)

    def _produce(self, stream: str, topic: str, ident: str, at: datetime, payload: dict[str, Any]) -> None:
        self.sent += 1
        envelope = {
            "topic": topic,
            "shop": SHOP,
            "webhook_id": f"chaos-{self.sent}",
            "event_id": None,
            "api_version": "2026-07",
            "triggered_at": text(at),
            "received_at": text(datetime.now(UTC)),
            "payload": payload,
        }
        key = keys.join(SHOP, ident)
        self._producer.produce(self.settings.topic(stream), codec.dumps(envelope), key, on_delivery=self._report)

    def _report(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failed.append(error.str())


def text(at: datetime) -> str:
    return instants.text(instants.from_datetime(at))
