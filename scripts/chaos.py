"""`make chaos`: partitions that move under load, and nothing lost.

Four workers on a real Kafka join, leave (SIGTERM), die (SIGKILL) and pause (SIGSTOP, longer than their session lasts)
at random while orders, refunds and cancellations come in. After each ten such moves the load stops, whoever is away is
started again, and everything must be at rest within 30 s. Then each customer's balance and ledger are held against
this script's own sums, and all that is stored against the raw history (`batch parity`). The exit code is 1 at the first
difference; the folder with everybody's log is named.
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
from typing import Any
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
CUSTOMERS = 300
REST_SECONDS = 30.0
SESSION_SECONDS = 6


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
    """Webhooks at a steady pace, on a thread of its own, and the sums that they must come to."""

    settings: Settings
    chance: random.Random
    rate: float
    orders: list[Order] = field(default_factory=list)
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

    def balances(self) -> dict[str, int]:
        """By customer: one point for each whole unit of each order's net."""
        found: dict[str, int] = defaultdict(int)
        for order in self.orders:
            found[str(order.customer)] += order.net // 100
        return dict(found)

    def _run(self) -> None:
        while not self._ended:
            self._going.wait()
            self._one()
            self._producer.poll(0)
            time.sleep(self.chance.expovariate(self.rate))

    def _one(self) -> None:
        kind = self.chance.random()
        if kind < 0.8 or not self.orders:
            number = len(self.orders) + 1
            order = Order(number, self.chance.randrange(1, CUSTOMERS + 1), self.chance.randrange(100, 20_000))
            self.orders.append(order)
            self._send("orders/paid", order)
        elif kind < 0.9:
            order = self.chance.choice(self.orders)
            part = self.chance.randrange(order.amount - order.refunded + 1)
            order.refunded += part
            self._send("orders/updated", order)
        else:
            order = self.chance.choice(self.orders)
            order.cancelled = True
            self._send("orders/cancelled", order)

    def _send(self, topic: str, order: Order) -> None:
        self.sent += 1
        now = instants.text(instants.from_datetime(datetime.now(UTC)))
        envelope: dict[str, Any] = {
            "topic": topic,
            "shop": SHOP,
            "webhook_id": f"chaos-{self.sent}",
            "event_id": None,
            "api_version": "2026-07",
            "triggered_at": now,
            "received_at": now,
            "payload": {
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
            },
        }
        key = keys.join(SHOP, str(order.number))

        def report(error: Any, _: Any) -> None:
            if error is not None:
                self._failed.append(error.str())

        self._producer.produce(self.settings.topic(topics.ORDERS), codec.dumps(envelope), key, on_delivery=report)


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
        self._worker_topics = [
            settings.topic(name) for name in (topics.ORDERS, topics.CUSTOMERS, topics.ACCOUNT_FACTS, topics.RESCORE)
        ]
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

    def check(self) -> None:
        """Everything that must hold at rest; Chaos with the differences."""
        expected = self._load.balances()
        rows = "SELECT customer_id, balance FROM customers WHERE shop = %s"
        ledger = "SELECT customer_id, sum(points)::bigint FROM points_transactions WHERE shop = %s GROUP BY 1"
        with psycopg.connect(self._settings.database_url()) as connection:
            balances: dict[str, int] = dict(connection.execute(rows, [SHOP]).fetchall())
            sums: dict[str, int] = dict(connection.execute(ledger, [SHOP]).fetchall())
        wrong = [
            f"customer {each}: balance {balances.get(each)}, ledger {sums.get(each, 0)}, deserved {points}"
            for each, points in sorted(expected.items())
            if balances.get(each) != points or sums.get(each, 0) != points
        ]
        wrong += parity.main(self._settings, SHOP)
        if wrong:
            raise Chaos("\n  ".join([f"{len(wrong)} differences", *wrong[:20]]))

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
    program = Program(shop=SHOP, currency="USD")
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
            judge.check()
            print(
                f"{done} moves ({', '.join(f'{count} {kind}' for kind, count in sorted(crew.moves.items()))}),"
                f" {crew.assignments()} times partitions given, {load.sent} webhooks, {len(load.orders)} orders:"
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
