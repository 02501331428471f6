"""The stream without Kafka: partitions of logs, workers that fold chunks, a producer whose deliveries can stop.

A worker takes any part of any of its partitions next, so topics and partitions interleave as they may; within a
partition the order is kept. What a chunk causes is delivered record by record, in order for each partition of each
topic and in any order across them, its outputs before any of its writes (the guard's promise, streams/guard.py). A
crash ends that at any moment: what was delivered is durable, of a chunk's writes a beginning, and the worker
starts again with the tables that its changelog holds, windows rebuilt from them, at the positions committed.

`Sink` reads what came out as the history sink does.
"""

import json
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from events import codec, instants, keys, payloads, topics
from events.programs import CutPoints, Program
from events.records import CustomerRow, DeadLetter, OrderFact, PointsRecord, RfmUpdated, WindowRow
from streams import ledger
from tables import chunks, customers, history, windows
from tables.chunks import Output, Received
from tables.reference import Reference

Json = Mapping[str, Any]

#: The table that each topic's chunks are folded into.
TABLES = {
    topics.ORDERS: "orders",
    topics.ORDER_FACTS: "customers",
    topics.CUSTOMERS: "customers",
    topics.RESCORE: "customers",
}

Place = tuple[str, int]  # a topic or a table, and a partition


def reference(programs: Mapping[str, Json], cut_points: Mapping[str, Iterable[Json]] | None = None) -> Reference:
    """What the folds know: programs and cut points in the form that the oracle takes them."""
    made = Reference()
    for shop, found in programs.items():
        rules = found["rules"]
        if not any(rule["effective_from"] is None for rule in rules):
            rules = [{"effective_from": None, "points_per_unit": "1"}, *rules]
        made.put_program(Program.model_validate({**found, "rules": rules, "shop": shop}))
    for shop, versions in (cut_points or {}).items():
        for version in versions:
            made.put_cut_points(CutPoints.model_validate({"customers": 50, **version, "shop": shop}))
    return made


def key_of(envelope: Json) -> str:
    """The key that a producer who follows our contract gives an envelope."""
    found = payloads.resource_of(envelope["topic"], envelope["payload"])
    return envelope["shop"] if found is None else keys.join(envelope["shop"], str(found))


@dataclass
class _Flight:
    """A chunk on its way."""

    place: Place
    next_offset: int
    table: Place
    writes: chunks.Writes
    pending: int
    left: bool = False


@dataclass
class _Worker:
    """A worker's memory; all of it is lost in a crash."""

    numbers: list[int]
    tables: dict[Place, dict[str, bytes]] = field(default_factory=dict)
    partials: dict[int, windows.Partial] = field(default_factory=dict)
    positions: dict[Place, int] = field(default_factory=dict)
    flights: deque[_Flight] = field(default_factory=deque)
    outbox: dict[Place, deque[tuple[_Flight, str, bytes | None]]] = field(default_factory=dict)
    done: dict[Place, int] = field(default_factory=dict)  # what may be committed


def _unforeseen(received: Received, error: Exception) -> None:
    raise error


class Stream:
    """`workers` workers on `partitions` partitions of every topic. `most` records make a chunk at most."""

    def __init__(
        self,
        found: Reference,
        chance: random.Random | None = None,
        *,
        partitions: int = 3,
        workers: int = 2,
        most: int = 5,
    ) -> None:
        self.reference = found
        self.chance = chance or random.Random(0)
        self.partitions = partitions
        self.most = most
        self.logs: dict[Place, list[Received]] = defaultdict(list)
        self.durable: dict[Place, dict[str, bytes]] = defaultdict(dict)
        self.committed: dict[Place, int] = defaultdict(int)
        self.crashes = 0
        numbers = list(range(partitions))
        self.workers = [self._start(numbers[first::workers]) for first in range(min(workers, partitions))]

    # --- in ---

    def send(self, envelope: Json, *, astray: bool = False) -> None:
        """An envelope as a producer sends it; `astray`: as one that partitions in a way of its own."""
        key = key_of(envelope)
        partition = self.chance.randrange(self.partitions) if astray else None
        self.put(topics.for_webhook(envelope["topic"]), key, json.dumps(envelope).encode(), partition)

    def rescore(self, shop: str, customer_id: str, as_of: datetime, version: str) -> None:
        at = instants.text(instants.from_datetime(as_of))
        request = {"shop": shop, "customer_id": customer_id, "as_of": at, "version": version}
        self.put(topics.RESCORE, keys.join(shop, customer_id), codec.dumps(request))

    def put(self, topic: str, key: str, value: bytes | None, partition: int | None = None) -> None:
        raw = key.encode()
        number = keys.partition_of(raw, self.partitions) if partition is None else partition
        log = self.logs[topic, number]
        log.append(Received(topic, number, len(log), 1_700_000_000_000, raw, value))

    # --- a worker's steps ---

    def _start(self, numbers: list[int]) -> _Worker:
        """A worker with the tables that are durable, at the positions committed."""
        worker = _Worker(numbers)
        for number in numbers:
            for table in ("orders", "customers"):
                worker.tables[table, number] = dict(self.durable[table, number])
            worker.partials[number] = chunks.rebuild(worker.tables["customers", number], self.reference)
            for topic in TABLES:
                worker.positions[topic, number] = self.committed[topic, number]
        return worker

    def _unread(self, worker: _Worker) -> list[Place]:
        return [place for place, at in worker.positions.items() if len(self.logs[place]) > at]

    def _fold(self, worker: _Worker, place: Place) -> None:
        at, (topic, number) = worker.positions[place], place
        batch = self.logs[place][at : at + self.chance.randint(1, self.most)]
        table = TABLES[topic], number
        make: Callable[[], chunks.OrderChunk | chunks.CustomerChunk]
        if table[0] == "orders":

            def make() -> chunks.OrderChunk:
                return chunks.OrderChunk(worker.tables[table], self.reference, number, self.partitions)
        else:

            def make() -> chunks.CustomerChunk:
                partial = worker.partials[number]
                return chunks.CustomerChunk(worker.tables[table], self.reference, number, self.partitions, partial)

        chunk = chunks.fold(make, batch, _unforeseen)
        writes = chunk.finish()
        _lay(worker.tables[table], writes)
        worker.positions[place] = at + len(batch)
        flight = _Flight(place, at + len(batch), table, writes, len(chunk.outputs))
        worker.flights.append(flight)
        for output in chunk.outputs:
            worker.outbox.setdefault(self._destination(output), deque()).append((flight, output.key, output.value))
        self._advance(worker)

    def _destination(self, output: Output) -> Place:
        number = output.partition
        return output.topic, keys.partition_of(output.key.encode(), self.partitions) if number is None else number

    def _deliver(self, worker: _Worker, place: Place) -> None:
        """One record of the outbox reaches the broker."""
        queue = worker.outbox[place]
        flight, key, value = queue.popleft()
        if not queue:
            del worker.outbox[place]
        if place[0].startswith("changelog "):
            _lay(self.durable[flight.table], {key: value})
        else:
            self.put(place[0], key, value, place[1])
        flight.pending -= 1
        self._advance(worker)

    def _advance(self, worker: _Worker) -> None:
        """As the guard does: writes leave when the outputs are in, chunk by chunk; then the position moves."""
        for flight in worker.flights:
            if flight.left:
                continue
            if flight.pending:
                break
            flight.left, flight.pending = True, len(flight.writes)
            queue = worker.outbox.setdefault((f"changelog {flight.table[0]}", flight.table[1]), deque())
            queue.extend((flight, key, value) for key, value in flight.writes.items())
            if not queue:
                del worker.outbox[f"changelog {flight.table[0]}", flight.table[1]]
        while worker.flights and worker.flights[0].left and not worker.flights[0].pending:
            flight = worker.flights.popleft()
            worker.done[flight.place] = flight.next_offset

    def _commit(self, worker: _Worker) -> None:
        self.committed.update(worker.done)

    def crash(self, which: int) -> None:
        """The worker dies, and one with the same partitions takes over."""
        self.crashes += 1
        self.workers[which] = self._start(self.workers[which].numbers)

    # --- running ---

    def step(self) -> bool:
        """Something that can happen next happens; False when nothing is left to do."""
        chance = self.chance
        choices: list[tuple[_Worker, Callable[[_Worker, Place], None], list[Place]]] = []
        for worker in self.workers:
            if unread := self._unread(worker):
                choices.append((worker, self._fold, unread))
            if worker.outbox:
                choices.append((worker, self._deliver, list(worker.outbox)))
        if not choices:
            for worker in self.workers:
                self._commit(worker)
            return False
        worker, act, places = chance.choice(choices)
        act(worker, chance.choice(places))
        if act == self._deliver:  # deliveries come many at a time
            for _ in range(chance.choice((0, 2, 12))):
                if worker.outbox:
                    self._deliver(worker, chance.choice(list(worker.outbox)))
            if chance.random() < 0.2:
                self._commit(worker)
        return True

    def run(self, crashes: int = 0, horizon: int = 40) -> None:
        """Everything that is in the logs, to the end; on the way `crashes` crashes, each within `horizon` steps."""
        for _ in range(crashes):
            for _ in range(self.chance.randrange(horizon)):
                if not self.step():
                    break
            self.crash(self.chance.randrange(len(self.workers)))
        while self.step():
            pass

    # --- what stands at the end ---

    def table(self, name: str) -> dict[str, bytes]:
        """A table's durable values, of all partitions. (Equal to the workers' own once everything has run.)"""
        found: dict[str, bytes] = {}
        for number in range(self.partitions):
            found.update(self.durable[name, number])
        return found

    def orders(self) -> dict[str, Any]:
        """Order states, by key."""
        return {key: codec.loads(value) for key, value in self.table("orders").items()}

    def customers(self) -> dict[str, Any]:
        """Customer states by key, each with its entries in place of its tree."""
        table = self.table("customers")
        found = {}
        for key, value in table.items():
            if "#" not in key:
                state: customers.CustomerState = codec.loads(value)
                entries = history.entries(ReadNodes(table, key), state["tree"])
                kept = {name: each for name, each in state.items() if name not in ("tree", "next_chunk")}
                found[key] = {**kept, "entries": entries}
        return found

    def outputs(self, topic: str) -> list[Any]:
        """Every record on a topic, partition by partition, each partition in its order."""
        return [
            codec.loads(received.value or b"null")
            for number in range(self.partitions)
            for received in self.logs[topic, number]
        ]

    def sink(self) -> "Sink":
        return Sink.of(self)


def _lay(table: dict[str, bytes], writes: Mapping[str, bytes | None]) -> None:
    for key, value in writes.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


class ReadNodes:
    """A customer's chunks in a table, to be read."""

    def __init__(self, table: Mapping[str, bytes], key: str) -> None:
        self._table, self._key = table, key

    def get(self, chunk: int) -> history.Node:
        node: history.Node = codec.loads(self._table[f"{self._key}#{chunk}"])
        return node

    def put(self, chunk: int, node: history.Node) -> int:
        raise AssertionError("read only")

    def add(self, node: history.Node) -> int:
        raise AssertionError("read only")

    def drop(self, chunk: int) -> None:
        raise AssertionError("read only")


class Sums(NamedTuple):
    """A window's sums over all partitions."""

    orders: int
    net: int
    points_earned: int
    points_reversed: int
    customers: int
    guest_orders: int
    guest_net: int


#: shop, size, start (microseconds)
WindowKey = tuple[str, str, int]


@dataclass
class Sink:
    """What a consumer of every topic holds in the end, by the rules of the contract."""

    facts: dict[tuple[str, str, str], OrderFact] = field(default_factory=dict)
    points: dict[tuple[str, str, str], PointsRecord] = field(default_factory=dict)
    entries: dict[Any, ledger.Entry] = field(default_factory=dict)
    totals: dict[ledger.Key, ledger.Total] = field(default_factory=dict)
    rows: dict[tuple[str, str], CustomerRow] = field(default_factory=dict)
    rfm: dict[str, RfmUpdated] = field(default_factory=dict)
    last_rfm: dict[tuple[str, str], RfmUpdated] = field(default_factory=dict)
    partials: dict[tuple[str, str, str, int], WindowRow] = field(default_factory=dict)
    late: set[WindowKey] = field(default_factory=set)
    letters: dict[str, DeadLetter] = field(default_factory=dict)

    @classmethod
    def of(cls, stream: Stream) -> "Sink":
        sink = cls()
        for fact in stream.outputs(topics.ORDER_FACTS):
            _keep_highest(sink.facts, fact)
        for record in stream.outputs(topics.POINTS):
            sink._take_points(record)
        for row in stream.outputs(topics.CUSTOMER_ROWS):
            sink.rows[row["shop"], row["customer_id"]] = row
        for change in stream.outputs(topics.RFM):
            sink.rfm.setdefault(change["id"], change)
            sink.last_rfm[change["shop"], change["customer_id"]] = change
        for window in stream.outputs(topics.WINDOWS):
            sink._take_window(window)
        for letter in stream.outputs(topics.DEAD_LETTERS):
            sink.letters.setdefault(letter["id"], letter)
        return sink

    def _take_points(self, record: PointsRecord) -> None:
        _keep_highest(self.points, record)
        entries, totals = ledger.post(self.totals, [record])
        self.totals.update(totals)
        for entry in entries:
            assert entry.id not in self.entries, "an id names one entry"
            self.entries[entry.id] = entry

    def _take_window(self, row: WindowRow) -> None:
        if row["late"]:
            self.late.add((row["shop"], row["size"], instants.parse(row["start"])))
        else:
            self.partials[row["shop"], row["size"], row["start"], row["partition"]] = row

    def windows(self) -> dict[WindowKey, Sums]:
        """Every window that is not all zeros, summed over partitions."""
        found: dict[WindowKey, Sums] = {}
        for (shop, size, start, _), row in self.partials.items():
            key = shop, size, instants.parse(start)
            parts = [int(row[name]) for name in Sums._fields]  # type: ignore[literal-required]
            found[key] = Sums(*map(sum, zip(found.get(key, (0,) * 7), parts, strict=True)))
        return {key: sums for key, sums in found.items() if any(sums)}

    def balances(self) -> dict[tuple[str, str], int]:
        """By customer, the sum of what orders have posted in all, whenever they were processed."""
        found: dict[tuple[str, str], int] = defaultdict(int)
        for (shop, customer_id, _), record in self.points.items():
            found[shop, customer_id] += record["total"]
        return dict(found)

    def ledger_sums(self) -> dict[tuple[str, str], int]:
        """By customer, the sum of the ledger's entries."""
        found: dict[tuple[str, str], int] = defaultdict(int)
        for entry in self.entries.values():
            found[entry.shop, entry.customer_id] += entry.points
        return dict(found)


def _keep_highest(kept: dict[tuple[str, str, str], Any], record: Any) -> None:
    key = record["shop"], record["customer_id"], record["order_id"]
    have = kept.get(key)
    if have is None or have["revision"] < record["revision"]:
        kept[key] = record


def stream_time(stream: Stream, shop: str) -> int:
    """The greatest event time that any customer of the shop has seen (microseconds)."""
    return max((state["now"] for key, state in stream.customers().items() if keys.split(key)[0] == shop), default=0)
