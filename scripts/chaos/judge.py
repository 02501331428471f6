"""When everything is at rest, and what must hold then."""

import time
from collections import Counter, defaultdict
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from batch import parity
from events import codec, topics
from runtime import kafka
from runtime.settings import Settings
from scripts.chaos.load import SHOP, Chaos, Granted, Load, Owned, Request
from scripts.chaos.sums import Purse, purse


class Decided(NamedTuple):
    """A row of redemptions."""

    reward: str
    accepted: bool
    status: str
    cost: int
    balance: int
    reason: str | None
    decided_at: datetime


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
        with psycopg.connect(self._settings.database_url(), options="-c timezone=UTC") as connection:
            decided = {
                Request(*row[:2]): Decided(*row[2:])
                for row in connection.execute(
                    "SELECT customer_id, request_id, reward_id, accepted, status, cost, balance, reason, decided_at"
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
            wrong = self._of_purses(connection, decided)
            dead = connection.execute("SELECT error, count(*) FROM dead_letters GROUP BY 1").fetchall()
        wrong += [f"{count} dead letters: {reason}" for reason, count in dead]
        wrong += self._of_requests(decided, archived) + self._told_twice()
        wrong += parity.main(self._settings, SHOP)
        if wrong:
            raise Chaos("\n  ".join([f"{len(wrong)} differences", *wrong[:20]]))
        return Counter(each.reason or "granted" for each in decided.values())

    def _of_purses(self, connection: psycopg.Connection, decided: dict[Request, Decided]) -> list[str]:
        """Whose points are not what they must come to, as of their own row; nothing is left of who was merged."""
        columns = "customer_id, now, merged_into, balance, pending, expired, earned, spent"
        rows = f"SELECT {columns} FROM customers WHERE shop = %s"
        ledger = "SELECT customer_id, sum(points)::bigint FROM points_transactions WHERE shop = %s GROUP BY 1"
        gone = "SELECT customer_id, sum(points)::bigint FROM points_expired WHERE shop = %s GROUP BY 1"
        found = {row[0]: row[1:] for row in connection.execute(rows, [SHOP])}
        sums: dict[str, int] = dict(connection.execute(ledger, [SHOP]).fetchall())
        ran_out: dict[str, int] = dict(connection.execute(gone, [SHOP]).fetchall())
        granted = [Granted(request, each.decided_at) for request, each in decided.items() if each.accepted]
        owned = self._load.owned(granted)
        wrong = [f"customer {each} has no row" for each in owned.keys() - found.keys()]
        for customer, (now, merged_into, *points) in found.items():
            into = self._load.into.get(customer)
            deserved = Purse(0, 0, 0, 0, 0)
            if into is None:
                mine = owned.get(customer, Owned())
                deserved = purse(mine.orders, mine.given, mine.taken, now)
            told = Purse(*points), merged_into, sums.get(customer, 0), ran_out.get(customer, 0)
            entries = deserved.balance + deserved.pending + deserved.expired
            wanted = deserved, into, entries, deserved.expired
            if told != wanted:
                wrong.append(f"customer {customer} as of {now}: {told}, deserved {wanted}")
        return wrong

    def _of_requests(self, decided: dict[Request, Decided], archived: Counter[Request]) -> list[str]:
        """What is wrong with what was decided: each was asked for, is archived once, and stands as it must."""
        asked = self._load.requests
        wrong = [f"{each} was decided, and never asked for" for each in decided.keys() - asked.keys()]
        wrong += [f"{each} is not decided" for each in asked.keys() - decided.keys()]
        wrong += [f"{each} is archived {archived[each]} times" for each in asked if archived[each] != 1]
        for request in asked.keys() & decided.keys():
            found, of = decided[request], asked[request]
            reason = self._reason(request, found)
            accepted = reason is None
            stands = "refused" if not accepted else "returned" if request in self._load.cancelled else "reserved"
            if found[:4] != (of.reward, accepted, stands, of.cost) or found.reason != reason:
                wrong.append(f"{request} for {of}: {found}, not {stands} ({reason})")
        return wrong

    def _reason(self, request: Request, found: Decided) -> str | None:
        """Why it is to be refused, by what was told of the balance; None: it is granted. Whether somebody was merged
        then is the log's to say."""
        if found.reason == "merged" and request.customer in self._load.ever_merged:
            return "merged"
        if self._load.cost(found.reward, found.decided_at) != found.cost:
            return "wrong-cost"
        return "insufficient-points" if found.balance < found.cost else None

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
