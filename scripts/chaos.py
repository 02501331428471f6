"""`make chaos`: partitions that move under load, and nothing lost.

Four workers on a real Kafka join, leave (SIGTERM), die (SIGKILL) and pause (SIGSTOP, longer than their session lasts)
at random while orders, refunds and cancellations come in, points are given and taken by hand, and rewards are asked
for, some twice and some cancelled. After each ten such moves the load stops, whoever is away is started again, and
everything must be at rest within 30 s. Then each request has one decision, which is archived and never told otherwise,
and what was granted there were the points for; each customer's purse and ledger are held against this script's own
sums, and all that is stored against the raw history (`batch parity`). The exit code is 1 at the first difference; the
folder with everybody's log is named.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg import sql

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # as a script, its own folder stands there
    sys.path.insert(0, str(ROOT))

from batch import parity  # noqa: E402
from books.migrate import migrate  # noqa: E402
from events import codec, instants, keys, topics  # noqa: E402
from events.programs import Program  # noqa: E402
from runtime import kafka  # noqa: E402
from runtime.settings import Settings  # noqa: E402

SHOP = "chaos.myshopify.com"
WORKERS = 4
REWARDS = {"cheap": 40, "dear": 400}
CUSTOMERS = 300
REST_SECONDS = 30.0
SESSION_SECONDS = 6


class Request(NamedTuple):
    """Who asked for a reward, by which name."""

    customer: str
    name: str


class Chaos(AssertionError):
    """Something that had to hold did not."""


# --- what comes in, and what it must sum to ----------------------------------------------------------------------


@dataclass
class Order:
    """An order as this script knows it: cents."""

    number: int
    customer: int
    amount: int
    refunded: int = 0
    cancelled: bool = False

    @property
    def net(self) -> int:
        return 0 if self.cancelled else self.amount - self.refunded


@dataclass
class Load:
    """Webhooks and requests at a steady pace, on a thread of its own, and the sums that they must come to."""

    settings: Settings
    chance: random.Random
    rate: float
    orders: list[Order] = field(default_factory=list)
    #: Points given (above 0) and taken by hand: the customer, and how many.
    awards: list[tuple[int, int]] = field(default_factory=list)
    #: What each asked for.
    requests: dict[Request, str] = field(default_factory=dict)
    cancelled: set[Request] = field(default_factory=set)
    sent: int = 0

    def __post_init__(self) -> None:
        self._producer = Producer(kafka.producer_config(self.settings))
        self._going = threading.Event()
        self._failed: list[str] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go(self) -> None:
        self._going.set()

    def pause(self) -> None:
        """Returns when everything that was sent is on the broker."""
        self._going.clear()
        time.sleep(0.1)
        if self._producer.flush(60) or self._failed:
            raise Chaos(f"webhooks could not be produced: {self._failed[:1]}")

    def end(self) -> None:
        self._ended = True
        self._going.set()
        self._thread.join(5)

    def purses(self, accepted: set[Request]) -> dict[str, tuple[int, int, int]]:
        """(balance, earned, spent) by customer, with these requests granted: one point for each whole unit of each
        order's net, what was given and taken by hand, and the rewards that stand."""
        earned, given, spent = Counter[str](), Counter[str](), Counter[str]()
        for order in self.orders:
            earned[str(order.customer)] += order.net // 100
        for customer, points in self.awards:
            (given if points > 0 else spent)[str(customer)] += abs(points)
        for request in accepted - self.cancelled:
            spent[request.customer] += REWARDS[self.requests[request]]
        everybody = {*earned, *given, *(str(customer) for customer, points in self.awards)}
        return {each: (earned[each] + given[each] - spent[each], earned[each], spent[each]) for each in everybody}

    def _run(self) -> None:
        while not self._ended:
            self._going.wait()
            self._one()
            self._producer.poll(0)
            time.sleep(self.chance.expovariate(self.rate))

    def _one(self) -> None:
        kind = self.chance.random()
        if kind < 0.3 and self.orders:
            self._ask()
        elif kind < 0.85 or not self.orders:
            number = len(self.orders) + 1
            order = Order(number, self.chance.randrange(1, CUSTOMERS + 1), self.chance.randrange(100, 20_000))
            self.orders.append(order)
            self._send("orders/paid", order)
        elif kind < 0.93:
            order = self.chance.choice(self.orders)
            part = self.chance.randrange(order.amount - order.refunded + 1)
            order.refunded += part
            self._send("orders/updated", order)
        else:
            order = self.chance.choice(self.orders)
            order.cancelled = True
            self._send("orders/cancelled", order)

    def _ask(self) -> None:
        """Of whoever has ordered: points by hand, a reward, one that was asked for before, or that it be cancelled."""
        customer = self.chance.choice(self.orders).customer
        kind = self.chance.random()
        if kind < 0.2:
            points = self.chance.choice((25, 60, -15))
            self.awards.append((customer, points))
            self._request("account/award", customer, award_id=f"award-{len(self.awards)}", points=points)
            return
        request = Request(str(customer), f"request-{len(self.requests) + 1}")
        if kind > 0.75 and self.requests:
            request = self.chance.choice(list(self.requests))
        if kind > 0.88 and request in self.requests:
            self.cancelled.add(request)
            self._request("account/cancel", request.customer, request_id=request.name)
            return
        reward = self.requests.setdefault(request, self.chance.choice(list(REWARDS)))
        asked = {"request_id": request.name, "reward_id": reward, "cost": REWARDS[reward]}
        self._request("account/redeem", request.customer, **asked)

    def _request(self, topic: str, customer: int | str, **said: Any) -> None:
        now = instants.text(instants.from_datetime(datetime.now(UTC)))
        when = {"at": now} if topic == "account/award" else {}
        payload = {"customer_id": str(customer), **when, **said}
        self._produce(topics.REQUESTS, topic, keys.join(SHOP, str(customer)), now, payload)

    def _send(self, topic: str, order: Order) -> None:
        now = instants.text(instants.from_datetime(datetime.now(UTC)))
        payload = {
            "id": order.number,
            "created_at": now,
            "updated_at": now,
            "processed_at": now if topic == "orders/paid" else None,
            "cancelled_at": now if order.cancelled else None,
            "financial_status": "paid",
            "currency": "USD",
            "current_subtotal_price": f"{(order.amount - order.refunded) // 100}."
            f"{(order.amount - order.refunded) % 100:02d}",
            "subtotal_price": f"{order.amount // 100}.{order.amount % 100:02d}",
            "customer": {"id": order.customer},
            "line_items": [],
            "refunds": [],
        }
        self._produce(topics.ORDERS, topic, keys.join(SHOP, str(order.number)), now, payload)

    def _produce(self, stream: str, topic: str, key: str, now: str, payload: dict[str, Any]) -> None:
        self.sent += 1
        envelope: dict[str, Any] = {
            "topic": topic,
            "shop": SHOP,
            "webhook_id": f"chaos-{self.sent}",
            "event_id": None,
            "api_version": "2026-07",
            "triggered_at": now,
            "received_at": now,
            "payload": payload,
        }

        def report(error: Any, _: Any) -> None:
            if error is not None:
                self._failed.append(error.str())

        self._producer.produce(self.settings.topic(stream), codec.dumps(envelope), key, on_delivery=report)


# --- processes ---------------------------------------------------------------------------------------------------


class Process:
    """`loyalnest worker` or `loyalnest sink`, started anew as often as it likes."""

    def __init__(self, settings: Settings, folder: Path, name: str, command: str, lasting: bool = False) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.frozen_until = 0.0
        self._command = [sys.executable, "-P", "-m", "cli.main", command]
        wanted = {
            "KAFKA": settings.kafka_servers(),
            "DATABASE": settings.database_url(),
            "TOPIC_PREFIX": settings.topic_prefix,
            "PARTITIONS": settings.partitions,
            "DATA_DIR": folder / name,
            "CHUNK_RECORDS": 100,
            "STORE": settings.store,
            "SESSION_TIMEOUT": SESSION_SECONDS,
            **({"WORKER_ID": name} if lasting else {}),
        }
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LOYALNEST_")},
            **{f"LOYALNEST_{key}": str(value) for key, value in wanted.items()},
            "PYTHONPATH": str(ROOT),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._begins = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def frozen(self) -> bool:
        return self.frozen_until > 0

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._begins = output.tell()
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=output, stderr=subprocess.STDOUT
            )

    def since_start(self) -> str:
        """What it has logged since it was started last."""
        with self.log.open("rb") as text:
            text.seek(self._begins)
            return text.read().decode(errors="replace")

    def signal(self, number: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def freeze(self, seconds: float) -> None:
        self.signal(signal.SIGSTOP)
        self.frozen_until = time.monotonic() + seconds

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)
        self.frozen_until = 0.0

    def end(self) -> None:
        if self.alive:
            self.thaw()
            self.signal(signal.SIGKILL)
            assert self.process is not None
            self.process.wait(10)


class Crew:
    """The workers: two with lasting names, two without."""

    def __init__(self, settings: Settings, folder: Path, chance: random.Random) -> None:
        self.workers = [
            Process(settings, folder, f"worker-{number}", "worker", lasting=number % 2 == 0)
            for number in range(WORKERS)
        ]
        self.moves: Counter[str] = Counter()
        self._chance = chance

    def everyone(self) -> None:
        """Thawed, and started where somebody is not there."""
        for worker in self.workers:
            if worker.frozen:
                worker.thaw()
            if not worker.alive:
                worker.start()

    def move(self) -> None:
        """One of them joins, leaves, dies or pauses."""
        for worker in self.workers:
            if worker.frozen and time.monotonic() > worker.frozen_until:
                worker.thaw()
        there = [worker for worker in self.workers if worker.alive and not worker.frozen]
        away = [worker for worker in self.workers if not worker.alive]
        kinds = (["join"] * 2 if away else []) + (["leave", "die", "pause"] if len(there) > 1 else [])
        kind = self._chance.choice(kinds or ["wait"])
        self.moves[kind] += 1
        if kind == "join":
            self._chance.choice(away).start()
        elif kind == "leave":
            self._chance.choice(there).signal(signal.SIGTERM)
        elif kind == "die":
            self._chance.choice(there).signal(signal.SIGKILL)
        elif kind == "pause":
            self._chance.choice(there).freeze(SESSION_SECONDS + self._chance.uniform(0.5, 5))

    def wait_until_started(self) -> None:
        """Until each has said that it is ready: a process's imports are not what is measured."""
        deadline = time.monotonic() + 120
        while not all(worker.log.exists() and "ready: partitions" in worker.since_start() for worker in self.workers):
            if time.monotonic() > deadline:
                raise Chaos("a worker did not get ready within two minutes of its start")
            time.sleep(0.1)

    def assignments(self) -> int:
        """How often somebody was given partitions, by their logs."""
        return sum(
            worker.log.read_text(errors="replace").count("reading changelogs up to our claims")
            for worker in self.workers
            if worker.log.exists()
        )


# --- rest, and what must hold then -------------------------------------------------------------------------------


class Judge:
    """Knows when everything is at rest, and what must be so then."""

    def __init__(self, settings: Settings, load: Load, rest_seconds: float) -> None:
        self._settings = settings
        self._load = load
        self._rest_seconds = rest_seconds
        group = f"{settings.topic_prefix}{settings.group}"
        self._consumer = Consumer({"bootstrap.servers": settings.kafka_servers(), "group.id": group})
        names = (topics.ORDERS, topics.REQUESTS, topics.CUSTOMERS, topics.ACCOUNT_FACTS, topics.RESCORE)
        self._worker_topics = [settings.topic(name) for name in names]
        self._sink_topics = [settings.topic(name) for name in kafka.SINK_TOPICS]

    def rest(self) -> float:
        """Waits until nobody has anything left to do; the seconds it took."""
        began = time.monotonic()
        while (left := self._left()) != 0:
            if time.monotonic() - began > self._rest_seconds:
                waiting = "an unknown number of" if left is None else left
                raise Chaos(f"{waiting} records are still waiting {self._rest_seconds:.0f} s after everyone was there")
            time.sleep(0.2)
        return time.monotonic() - began

    def _ends(self, names: list[str]) -> dict[tuple[str, int], int]:
        found = {}
        for name in names:
            for number in self._consumer.list_topics(name, timeout=10).topics[name].partitions:
                found[name, number] = self._consumer.get_watermark_offsets(TopicPartition(name, number), timeout=10)[1]
        return found

    def _left(self) -> int | None:
        """Records that somebody has yet to read; None where Kafka, on a crowded machine, does not answer in time."""
        try:
            return self._counted()
        except KafkaException as error:
            if error.args[0].code() != KafkaError._TIMED_OUT:
                raise
            return None

    def _counted(self) -> int:
        ends = self._ends(self._worker_topics)
        committed = self._consumer.committed([TopicPartition(*place) for place in ends], timeout=10)
        left = sum(max(ends[at.topic, at.partition] - max(at.offset, 0), 0) for at in committed)
        ends = self._ends(self._sink_topics)
        with psycopg.connect(self._settings.database_url()) as connection:
            stored = {
                (row[0], row[1]): row[2]
                for row in connection.execute("SELECT topic, partition, next_offset FROM sink_positions")
            }
        left += sum(max(end - stored.get(place, 0), 0) for place, end in ends.items())
        return int(left)

    def check(self) -> Counter[str]:
        """Everything that must hold at rest, Chaos with the differences; how many requests were decided how."""
        rows = "SELECT customer_id, balance, earned, spent FROM customers WHERE shop = %s"
        ledger = "SELECT customer_id, sum(points)::bigint FROM points_transactions WHERE shop = %s GROUP BY 1"
        with psycopg.connect(self._settings.database_url()) as connection:
            purses = {row[0]: tuple(row[1:]) for row in connection.execute(rows, [SHOP])}
            sums: dict[str, int] = dict(connection.execute(ledger, [SHOP]).fetchall())
            decided = {
                Request(*row[:2]): row[2:]
                for row in connection.execute(
                    "SELECT customer_id, request_id, reward_id, accepted, status, cost, balance, reason"
                    " FROM redemptions WHERE shop = %s",
                    [SHOP],
                )
            }
            archived = Counter(
                Request(*row)
                for row in connection.execute(
                    "SELECT value::jsonb #>> '{payload,customer_id}', value::jsonb #>> '{payload,request_id}'"
                    " FROM raw_events WHERE shop = %s AND webhook_topic = 'account/decision'",
                    [SHOP],
                )
            )
        wrong = self._of_requests(decided, archived) + self._told_twice()
        expected = self._load.purses({request for request, (_, accepted, *_) in decided.items() if accepted})
        wrong += [
            f"customer {each}: (balance, earned, spent) {purses.get(each)}, ledger {sums.get(each, 0)},"
            f" deserved {purse}"
            for each, purse in sorted(expected.items())
            if purses.get(each) != purse or sums.get(each, 0) != purse[0]
        ]
        wrong += parity.main(self._settings, SHOP)
        if wrong:
            raise Chaos("\n  ".join([f"{len(wrong)} differences", *wrong[:20]]))
        return Counter("granted" if accepted else "refused" for _, accepted, *_ in decided.values())

    def _of_requests(self, decided: dict[Request, tuple[Any, ...]], archived: Counter[Request]) -> list[str]:
        """What is wrong with what was decided: each was asked for, is archived once, and stands as it must."""
        asked = self._load.requests
        wrong = [f"{each} was decided, and never asked for" for each in decided.keys() - asked.keys()]
        wrong += [f"{each} is not decided" for each in asked.keys() - decided.keys()]
        wrong += [f"{each} is archived {archived[each]} times" for each in asked if archived[each] != 1]
        for request in asked.keys() & decided.keys():
            reward, accepted, status, cost, balance, reason = decided[request]
            there = balance >= cost
            stands = "refused" if not accepted else "returned" if request in self._load.cancelled else "reserved"
            if (reward, accepted, status) != (asked[request], there, stands) or (reason is None) != there:
                wrong.append(f"{request} for {asked[request]}: {decided[request]}")
        return wrong

    def _told_twice(self) -> list[str]:
        """Requests of which the log of redemptions says two things."""
        said: dict[Request, set[tuple[Any, ...]]] = defaultdict(set)
        name = self._settings.topic(topics.REDEMPTIONS)
        ends = self._ends([name])
        reader = Consumer(
            {**kafka.client_config(self._settings), "group.id": f"{name}-judge", "auto.offset.reset": "earliest"}
        )
        reader.assign([TopicPartition(*place, 0) for place in ends])
        left = sum(ends.values())
        while left > 0:
            messages = reader.consume(min(left, 10_000), timeout=10)
            if not messages:
                raise Chaos("the redemptions could not be read")
            for message in messages:
                row = codec.loads(message.value() or b"")
                what = ("reward_id", "cost", "seq", "accepted", "reason", "balance", "requested_at", "decided_at")
                said[Request(row["customer_id"], row["request_id"])].add(tuple(row[each] for each in what))
            left -= len(messages)
        reader.close()
        return [f"{request} was decided {len(each)} times: {each}" for request, each in said.items() if len(each) > 1]

    def close(self) -> None:
        self._consumer.close()


# --- the run -----------------------------------------------------------------------------------------------------


@contextmanager
def world(kafka_servers: str, database: str, partitions: int, store: str = "memory") -> Iterator[Settings]:
    """Topics and a database of this run alone; both are gone at its end."""
    name = f"chaos_{uuid4().hex[:10]}"
    parts = urlsplit(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = urlunsplit(parts._replace(path=f"/{name}"))
    settings = Settings(
        kafka=kafka_servers,
        database=url,
        topic_prefix=f"{name}-",
        partitions=partitions,
        session_timeout=SESSION_SECONDS,
        store=store,
    )
    try:
        migrate(url)
        kafka.create_topics(settings)
        yield settings
    finally:
        admin = AdminClient({"bootstrap.servers": kafka_servers})
        ours = [topic for topic in admin.list_topics(timeout=10).topics if topic.startswith(settings.topic_prefix)]
        for answer in admin.delete_topics(ours).values() if ours else ():
            with suppress(Exception):
                answer.result(10)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run(
    settings: Settings,
    folder: Path,
    rebalances: int,
    seed: int,
    rate: float = 150.0,
    rest_seconds: float = REST_SECONDS,
    every: int = 10,
) -> None:
    """`rebalances` moves, a check after each `every`; Chaos at the first difference."""
    chance = random.Random(seed)
    producer = Producer(kafka.producer_config(settings))
    rewards = [
        {"reward_id": name, "cost": cost, "kind": "shipping", "name": name, "effective_from": None}
        for name, cost in REWARDS.items()
    ]
    program = Program.model_validate({"shop": SHOP, "currency": "USD", "rewards": rewards})
    producer.produce(settings.topic(topics.PROGRAMS), program.model_dump_json().encode(), SHOP)
    if producer.flush(30):
        raise Chaos("the program could not be announced")
    load = Load(settings, random.Random(seed + 1), rate)
    crew, judge = Crew(settings, folder, chance), Judge(settings, load, rest_seconds)
    sink = Process(settings, folder, "sink", "sink")
    try:
        sink.start()
        crew.everyone()
        crew.wait_until_started()
        for done in range(1, rebalances + 1):
            load.go()
            crew.move()
            time.sleep(chance.choice((0.3, 1, 2, 4)))
            if done % every and done < rebalances:
                continue
            load.pause()
            crew.everyone()
            crew.wait_until_started()
            seconds = judge.rest()
            decided = judge.check()
            if not sink.alive:
                raise Chaos("the sink has stopped: two decisions of one request?")
            print(
                f"{done} moves ({', '.join(f'{count} {kind}' for kind, count in sorted(crew.moves.items()))}),"
                f" {crew.assignments()} times partitions given, {load.sent} webhooks, {len(load.orders)} orders,"
                f" {len(load.requests)} requests ({', '.join(f'{n} {how}' for how, n in sorted(decided.items()))},"
                f" {len(load.cancelled)} cancelled), {len(load.awards)} awards:"
                f" at rest after {seconds:.1f} s, nothing lost, parity",
                flush=True,
            )
    finally:
        load.end()
        for process in (*crew.workers, sink):
            process.end()
        judge.close()


def main() -> int:
    """The command; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rebalances", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=150.0, help="webhooks a second")
    parser.add_argument("--rest", type=float, default=REST_SECONDS, help="seconds until all must be at rest")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--store", choices=["memory", "rocksdb"], default="memory", help="where workers keep tables")
    given = parser.parse_args()
    servers, database = (os.environ.get(f"LOYALNEST_TEST_{name}") for name in ("KAFKA", "DATABASE"))
    if not servers or not database:
        print("make chaos needs real servers: run `make servers` first", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="loyalnest-chaos-"))
    print(f"seed {given.seed}; logs in {folder}", flush=True)
    try:
        with world(servers, database, given.partitions, given.store) as settings:
            run(settings, folder, given.rebalances, given.seed, given.rate, given.rest)
    except Chaos as found:
        print(f"NOT HELD: {found}\nlogs in {folder}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
