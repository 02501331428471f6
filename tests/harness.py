"""The stream without Kafka: partitions of logs, workers that fold chunks, a producer whose deliveries can stop.

The sequence, the folder and the guard are a real worker's (streams/); only the logs and the producer are not. A worker
fetches and folds any part of any of its partitions next, so topics and partitions interleave as they may; a fetched
piece may get lost on its way. What a chunk causes is delivered record by record, in order for each partition of each
topic and in any order across them. A crash ends that at any moment: what was delivered is durable, of a chunk's writes
a beginning, and the successor starts with the tables that the changelogs hold, windows rebuilt from them, at the
positions committed. A frozen worker is one that a successor took over from, and that goes on delivering.

`Sink` reads what came out as the history sink does.
"""

import asyncio
import json
import random
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, cast

from faust.types import TP

from events import codec, instants, keys, payloads, topics, webhook_topics
from events.account_records import OrderFact
from events.programs import CutPoints, Program
from events.records import CustomerRow, DeadLetter, PointsExpired, PointsRecord, Redemption, RfmUpdated, WindowRow
from streams.sink import ledger, standings
from streams.sink.standings import Told
from streams.worker.folding import Folder, Table
from streams.worker.guard import Guard
from streams.worker.sequence import Piece, Sequence
from tables import chunks, contributions, customers, orders, restating, windows
from tables.chunks import Received
from tables.reference import Reference
from tables.state import CLAIM, PartitionState, foreign

Json = Mapping[str, Any]

#: The table that each topic's chunks are folded into.
TABLES = {
    topics.ORDERS: "orders",
    topics.REQUESTS: "orders",
    topics.ACCOUNT_FACTS: "customers",
    topics.CUSTOMERS: "customers",
    topics.RESCORE: "customers",
}

#: The broker's time of what the tests send (milliseconds), in 2100: whatever `received_at` they say is believed.
LATE = 4_102_444_800_000

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


class _Message:
    """What a delivery report is about."""

    def __init__(self, topic: str, offset: int) -> None:
        self._topic, self._offset = topic, offset

    def topic(self) -> str:
        return self._topic

    def offset(self) -> int:
        return self._offset


class _Sent(NamedTuple):
    key: str
    value: bytes | None
    headers: Any
    report: Any


class _Producer:
    """Stands for the idempotent producer: keeps what it is given until the test delivers it, in order by partition."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.outbox: dict[Place, deque[_Sent]] = {}

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: str | bytes,
        partition: int,
        report: Any,
        at: int = 0,
        headers: Any = None,
    ) -> None:
        name = key if isinstance(key, str) else key.decode()
        number = keys.partition_of(name.encode(), self._partitions) if partition < 0 else partition
        self.outbox.setdefault((topic, number), deque()).append(_Sent(name, value, headers, report))


class _Known:
    """The reader of programs when everything on its topics is known already."""

    def apply(self) -> None: ...

    def is_worth_reading(self, missed: Any) -> bool:
        return False

    async def catch_up(self, missed: Any) -> None: ...


class _Loop:
    """Stands for the event loop: keeps what delivery reports ask for until the one that asked has returned.

    A real one that is started for each record and stopped again takes longer than all that is tested on it.
    """

    def __init__(self) -> None:
        self._asked: deque[Callable[[], Any]] = deque()

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, function: Callable[..., Any], *args: Any) -> None:
        self._asked.append(partial(function, *args))

    def run(self) -> None:
        while self._asked:
            self._asked.popleft()()


def _at_once(doing: Coroutine[Any, Any, Any]) -> None:
    """Runs what has nothing to wait for."""
    try:
        doing.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something")


class _Worker:
    """A worker's memory, around the very parts that a real one has; all of it is lost in a crash."""

    def __init__(self, stream: "Stream", numbers: list[int]) -> None:
        self.numbers = numbers
        self.partials: dict[int, windows.Partial] = {}
        self.pieces: dict[TP, deque[Piece]] = {}
        self.producer = _Producer(stream.partitions)
        self.failures: list[Exception] = []
        self.guard = Guard(self.producer, str, self.failures.append)
        self.guard.attach(cast(asyncio.AbstractEventLoop, stream.loop))
        self.sequence = Sequence()
        self.folder = Folder(stream.reference, _Known(), self.guard, self.sequence)

        def orders(number: int) -> chunks.OrderChunk:
            values = self.tables["orders"].state.partition(number).values
            return chunks.OrderChunk(values, stream.reference, number, stream.partitions)

        def customers(number: int) -> chunks.CustomerChunk:
            state = self.tables["customers"].state.partition(number)
            partial, fence = self.partials[number], state.token or 0
            return chunks.CustomerChunk(state.values, stream.reference, number, stream.partitions, partial, fence)

        self.tables = {
            "orders": Table("orders", "orders", orders),
            "customers": Table("customers", "customers", customers),
        }
        self.overtaken = False


class Stream:
    """`workers` workers on `partitions` partitions of every topic. `most` records make a piece at most.

    `losses` is the chance that a piece is lost between the log and the fold.
    """

    def __init__(
        self,
        found: Reference,
        chance: random.Random | None = None,
        *,
        partitions: int = 3,
        workers: int = 2,
        most: int = 5,
        losses: float = 0.02,
    ) -> None:
        self.reference = found
        self.chance = chance or random.Random(0)
        self.partitions = partitions
        self.most = most
        self.losses = losses
        self.loop = _Loop()
        self.logs: dict[Place, list[Received]] = defaultdict(list)
        self.changelogs: dict[Place, list[_Sent]] = defaultdict(list)
        self.committed: dict[Place, int] = defaultdict(int)
        self.crashes = 0
        self._standbys: dict[Place, PartitionState] = defaultdict(PartitionState)
        numbers = list(range(partitions))
        #: Whether each step is let finish: everything is delivered before more is folded, and folded before more comes.
        self.calm = False
        #: Owners that lost their partitions and do not know it yet.
        self.frozen: list[_Worker] = []
        self.workers = [self._start(numbers[first::workers]) for first in range(min(workers, partitions))]

    # --- in ---

    def send(self, envelope: Json, *, astray: bool = False) -> None:
        """An envelope as a producer sends it; `astray`: as one that partitions in a way of its own.

        `arrived` in it is the broker's time of its record; without, the broker's clock is far ahead.
        """
        key = key_of(envelope)
        partition = self.chance.randrange(self.partitions) if astray else None
        timestamp = instants.parse(envelope["arrived"]) // 1000 if "arrived" in envelope else LATE
        self.put(webhook_topics.stream_of(envelope["topic"]), key, json.dumps(envelope).encode(), partition, timestamp)

    def rescore(self, shop: str, as_of: datetime | str, version: str, slices: int = 2) -> None:
        """A batch run, in some order: whether a slice is asked early or late must not matter."""
        at = as_of if isinstance(as_of, str) else instants.text(instants.from_datetime(as_of))
        for number in self.chance.sample(range(slices), slices):
            request = {"shop": shop, "as_of": at, "version": version, "slice": number, "slices": slices}
            for partition in range(self.partitions):
                self.put(topics.RESCORE, f"{shop}/run", codec.dumps(request), partition)

    def put(
        self, topic: str, key: str, value: bytes | None, partition: int | None = None, timestamp: int = LATE
    ) -> int:
        raw = key.encode()
        number = keys.partition_of(raw, self.partitions) if partition is None else partition
        log = self.logs[topic, number]
        log.append(Received(topic, number, len(log), timestamp, raw, value))
        return len(log) - 1

    # --- a worker's steps ---

    def _start(self, numbers: list[int]) -> _Worker:
        """A worker that takes these partitions over: claimed, read to the claim, at the positions committed."""
        worker = _Worker(self, numbers)
        for name, table in worker.tables.items():
            table.on_gaps = partial(self._look, worker, table)
            for number in numbers:
                self.changelogs[name, number].append(_Sent(CLAIM, b"{}", None, None))
                state = table.state.partition(number)
                self._follow(state, (name, number))
                state.token = state.claim
                worker.folder.write_again(table, number, set(state.strays))
        for number in numbers:
            worker.partials[number] = restating.rebuild(worker.tables["customers"].state.partition(number).values)
        worker.sequence.begin(
            {TP(topic, number): self.committed[topic, number] for topic in TABLES for number in numbers}
        )
        return worker

    def _follow(self, state: PartitionState, place: Place) -> None:
        log = self.changelogs[place]
        for offset in range(state.offset + 1, len(log)):
            state.read(offset, log[offset].key.encode(), log[offset].value, log[offset].headers)

    def _look(self, worker: _Worker, table: Table, number: int, gaps: list[range]) -> None:
        """As the recovery does: what is not ours is written over, and a claim says that we are not the owner."""
        state, log = table.state.partition(number), self.changelogs[table.changelog, number]
        assert state.token is not None
        sent = [log[offset] for gap in gaps for offset in gap]
        found = {foreign(state.token, each.key.encode(), each.value, each.headers) for each in sent} - {None}
        if CLAIM in found:
            worker.overtaken = True
        else:
            worker.folder.write_again(table, number, {key for key in found if key is not None})

    def _unread(self, worker: _Worker) -> list[TP]:
        places = [TP(topic, number) for topic in TABLES for number in worker.numbers]
        wanted = worker.sequence.wanted(places, 3 * self.most)
        return [tp for tp, (_, offset) in wanted.items() if len(self.logs[tp]) > offset]

    def _fetch(self, worker: _Worker, tp: TP) -> None:
        asked = worker.sequence.wanted([tp], 3 * self.most)[tp]
        records = self.logs[tp][asked[1] : asked[1] + self.chance.randint(1, self.most)]
        piece = worker.sequence.fetched(tp, asked, records)
        assert piece is not None
        if self.chance.random() >= self.losses:
            worker.pieces.setdefault(tp, deque()).append(piece)

    def _fold(self, worker: _Worker, tp: TP) -> None:
        piece = worker.pieces[tp].popleft()
        if not worker.pieces[tp]:
            del worker.pieces[tp]
        _at_once(worker.folder.fold(worker.tables[TABLES[tp.topic]], tp, piece))

    def _deliver(self, worker: _Worker, place: Place) -> None:
        """One record of the outbox reaches the broker."""
        queue = worker.producer.outbox[place]
        sent = queue.popleft()
        if not queue:
            del worker.producer.outbox[place]
        if place[0] in worker.tables:
            self.changelogs[place].append(sent)
            offset = len(self.changelogs[place]) - 1
        else:
            offset = self.put(place[0], sent.key, sent.value, place[1])
        sent.report(None, _Message(place[0], offset))
        self.loop.run()

    def _commit(self, worker: _Worker) -> None:
        self.committed.update({(tp.topic, tp.partition): at for tp, at in worker.guard.positions.items()})

    def crash(self, which: int, frozen: bool = False) -> None:
        """The worker dies, or only stands still (`frozen`), and one with the same partitions takes over."""
        self.crashes += 1
        if frozen:
            self.frozen.append(self.workers[which])
        self.workers[which] = self._start(self.workers[which].numbers)

    # --- running ---

    def step(self) -> bool:
        """Something that can happen next happens; False when nothing is left to do."""
        chance = self.chance
        choices: list[tuple[_Worker, Callable[[_Worker, Any], None], list[Any]]] = []
        self.frozen = [worker for worker in self.frozen if not worker.overtaken]
        for worker in self.workers:
            if unread := self._unread(worker):
                choices.append((worker, self._fetch, list(unread)))
        for worker in (*self.workers, *self.frozen):
            if worker.pieces and not worker.guard.full:
                choices.append((worker, self._fold, list(worker.pieces)))
            if worker.producer.outbox:
                choices.append((worker, self._deliver, list(worker.producer.outbox)))
        if not choices:
            for worker in self.workers:
                self._commit(worker)
            stuck = [worker.sequence.go_back_where_nothing_moves() for worker in self.workers for _ in range(2)]
            return any(stuck)
        worker, act, places = choices[-1] if self.calm else chance.choice(choices)
        act(worker, chance.choice(places))
        if act == self._deliver:  # deliveries come many at a time
            for _ in range(chance.choice((0, 2, 12))):
                if worker.producer.outbox:
                    self._deliver(worker, chance.choice(list(worker.producer.outbox)))
            if worker in self.workers and chance.random() < 0.2:
                self._commit(worker)
        assert not worker.failures
        return True

    def run(self, crashes: int = 0, horizon: int = 40, frozen: float = 0.0) -> None:
        """Everything that is in the logs, to the end; on the way `crashes` crashes, each within `horizon` steps.

        `frozen` is the chance that the worker only stood still, and goes on delivering later.
        """
        for _ in range(crashes):
            for _ in range(self.chance.randrange(horizon)):
                if not self.step():
                    break
            self.crash(self.chance.randrange(len(self.workers)), self.chance.random() < frozen)
        while self.step():
            pass

    # --- what stands at the end ---

    @property
    def durable(self) -> dict[Place, dict[str, bytes]]:
        """What the changelogs hold, by table and partition."""
        for place in list(self.changelogs):
            self._follow(self._standbys[place], place)
        return {place: cast("dict[str, bytes]", state.values) for place, state in self._standbys.items()}

    def table(self, name: str) -> dict[str, bytes]:
        """A table's durable values, of all partitions. (Equal to the workers' own once everything has run.)"""
        return {
            key: value for (table, _), values in self.durable.items() if table == name for key, value in values.items()
        }

    def orders(self) -> dict[str, Any]:
        """Order states, by key."""
        return {key: orders.unpacked(value) for key, value in self.table("orders").items()}

    def customers(self) -> dict[str, Any]:
        """Customer states by key, each with its entries in place of its tree."""
        table = self.table("customers")
        found = {}
        for key, value in table.items():
            if "#" not in key:
                state = customers.unpacked(value)
                entries = list(contributions.entries(restating.Stored(table, key), state["tree"]))
                apart = ("tree", "next_node", "account", "expired")
                kept = {name: each for name, each in state.items() if name not in apart}
                found[key] = {**kept, "entries": entries, **_account(table, key, state["account"])}
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


def _account(table: Mapping[str, bytes], key: str, account: Any) -> dict[str, Any]:
    """An account's entries in place of its trees."""
    if account is None:
        return {}
    stored = restating.Stored(table, key)
    trees = {name: list(contributions.entries(stored, account[name])) for name in ("debits", "asked")}
    return {**account, **trees}


class Sums(NamedTuple):
    """A window's sums over all partitions."""

    orders: int
    net: int
    points_earned: int
    points_reversed: int
    customers: int
    guest_orders: int
    guest_net: int
    points_awarded: int
    points_redeemed: int


#: shop, size, start (microseconds)
WindowKey = tuple[str, str, int]


@dataclass
class Standings:
    """The history of standings, kept in memory as streams.sink.store keeps it in the database."""

    rows: dict[standings.Key, Told] = field(default_factory=dict)
    changes: dict[standings.Key, list[standings.Change]] = field(default_factory=dict)

    def take(self, told: Mapping[standings.Key, list[Told]]) -> None:
        """The rows of a batch, by customer."""
        for key, rows in told.items():
            kept, row = self.changes.setdefault(key, []), self.rows.get(key)
            path = None
            if row is not None:
                path = standings.at_rest(row.fence, row.now, row.standing)
                start = standings.read_from(path, rows)
                if start is not None:
                    before = [each for each in kept if each.at < start][-1:]
                    path = path._replace(changes=[*before, *(each for each in kept if each.at >= start)])
            added, removed = standings.follow(key, path, rows)
            assert all(each in kept for each in removed)
            stored = [each._replace(told=None) for each in added]
            self.changes[key] = sorted(
                [*(each for each in kept if each not in removed), *stored], key=lambda each: each.at
            )
            for each in rows:
                if key not in self.rows or (each.fence, each.now) >= (self.rows[key].fence, self.rows[key].now):
                    self.rows[key] = each


@dataclass
class Sink:
    """What a consumer of every topic holds in the end, by the rules of the contract."""

    facts: dict[tuple[str, str, str], OrderFact] = field(default_factory=dict)
    points: dict[tuple[str, str, str, str | None], PointsRecord] = field(default_factory=dict)
    entries: dict[Any, ledger.Entry] = field(default_factory=dict)
    totals: dict[ledger.Key, ledger.Total] = field(default_factory=dict)
    rows: dict[tuple[str, str], CustomerRow] = field(default_factory=dict)
    days: dict[tuple[str, str, str], PointsExpired] = field(default_factory=dict)
    rfm: dict[str, RfmUpdated] = field(default_factory=dict)
    last_rfm: dict[tuple[str, str], RfmUpdated] = field(default_factory=dict)
    standings: "Standings" = field(default_factory=lambda: Standings())
    partials: dict[tuple[str, str, str, int], WindowRow] = field(default_factory=dict)
    #: Every row of each redemption that was ever told.
    redemptions: dict[tuple[str, str, str], list[Redemption]] = field(default_factory=lambda: defaultdict(list))
    late: set[WindowKey] = field(default_factory=set)
    letters: dict[str, DeadLetter] = field(default_factory=dict)

    @classmethod
    def of(cls, stream: Stream) -> "Sink":
        sink = cls()
        for fact in stream.outputs(topics.ACCOUNT_FACTS):
            if fact["type"] == "order.fact":
                _keep_highest(sink.facts, (fact["shop"], fact["customer_id"], fact["order_id"]), fact)
        for row in stream.outputs(topics.REDEMPTIONS):
            sink.redemptions[row["shop"], row["customer_id"], row["request_id"]].append(row)
        for record in stream.outputs(topics.POINTS):
            if record["type"] == "points.expired":
                sink._take_expired(record)
            else:
                sink._take_points(record)
        for row in stream.outputs(topics.CUSTOMER_ROWS):
            have = sink.rows.get((row["shop"], row["customer_id"]))
            if have is None or have["fence"] <= row["fence"]:
                sink.rows[row["shop"], row["customer_id"]] = row
            values = row["recency_days"], row["frequency"], row["monetary"]
            told = Told(row["fence"], instants.parse(row["now"]), row["standing"], *values, row["cause"])
            sink.standings.take({(row["shop"], row["customer_id"]): [told]})
        for change in stream.outputs(topics.RFM):
            sink.rfm.setdefault(change["id"], change)
            sink.last_rfm[change["shop"], change["customer_id"]] = change
        for window in stream.outputs(topics.WINDOWS):
            sink._take_window(window)
        for letter in stream.outputs(topics.DEAD_LETTERS):
            sink.letters.setdefault(letter["id"], letter)
        return sink

    def _take_points(self, record: PointsRecord) -> None:
        name = record["source_id"] if record["source"] == "order" else f"{record['source']}:{record['source_id']}"
        key = record["shop"], record["customer_id"], name, record["via"]
        _keep_highest(self.points, key, record)
        entries, totals = ledger.post(self.totals, [record])
        self.totals.update(totals)
        for entry in entries:
            assert entry.id not in self.entries, "an id names one entry"
            self.entries[entry.id] = entry

    def _take_expired(self, record: PointsExpired) -> None:
        key = record["shop"], record["customer_id"], record["day"]
        if key not in self.days or self.days[key]["fence"] <= record["fence"]:
            self.days[key] = record

    def expired(self) -> dict[tuple[str, str], dict[str, tuple[str, str, int]]]:
        """By customer, of each day on which points ran out: its zone, its beginning, and how many."""
        found: dict[tuple[str, str], dict[str, tuple[str, str, int]]] = defaultdict(dict)
        for (shop, customer_id, day), record in self.days.items():
            if record["points"]:
                found[shop, customer_id][day] = record["zone"], record["at"], record["points"]
        return dict(found)

    def _take_window(self, row: WindowRow) -> None:
        if row["late"]:
            self.late.add((row["shop"], row["size"], instants.parse(row["start"])))
        else:
            key = row["shop"], row["size"], row["start"], row["partition"]
            if key not in self.partials or self.partials[key]["fence"] <= row["fence"]:
                self.partials[key] = row

    def windows(self) -> dict[WindowKey, Sums]:
        """Every window that is not all zeros, summed over partitions."""
        found: dict[WindowKey, Sums] = {}
        for (shop, size, start, _), row in self.partials.items():
            key = shop, size, instants.parse(start)
            parts = [int(row[name]) for name in Sums._fields]  # type: ignore[literal-required]
            found[key] = Sums(*map(sum, zip(found.get(key, (0,) * len(Sums._fields)), parts, strict=True)))
        return {key: sums for key, sums in found.items() if any(sums)}

    def balances(self) -> dict[tuple[str, str], int]:
        """By customer, the sum of what orders have posted in all, whenever they were processed."""
        found: dict[tuple[str, str], int] = defaultdict(int)
        for (shop, customer_id, _, _), record in self.points.items():
            found[shop, customer_id] += record["total"]
        return dict(found)

    def posted(self, shop: str, customer_id: str, order_id: str) -> tuple[int, int]:
        """(earned, reversed) of an order to a customer, by whatever way."""
        found = [record for key, record in self.points.items() if key[:3] == (shop, customer_id, order_id)]
        return sum(each["earned"] for each in found), sum(each["reversed"] for each in found)

    def ledger_sums(self) -> dict[tuple[str, str], int]:
        """By customer, the sum of the ledger's entries."""
        found: dict[tuple[str, str], int] = defaultdict(int)
        for entry in self.entries.values():
            found[entry.shop, entry.customer_id] += entry.points
        return dict(found)


def _keep_highest(kept: dict[Any, Any], key: tuple[Any, ...], record: Any) -> None:
    have = kept.get(key)
    if have is None or have["revision"] < record["revision"]:
        kept[key] = record


def stream_time(stream: Stream, shop: str) -> int:
    """The greatest event time that any customer of the shop has seen (microseconds)."""
    return max((state["now"] for key, state in stream.customers().items() if keys.split(key)[0] == shop), default=0)
