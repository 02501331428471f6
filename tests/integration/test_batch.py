"""The batch on an embedded PostgreSQL: history by SQL, and a stand-in for the stream that scores as the oracle does."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from psycopg import Connection
from pydantic import SecretStr

from batch import arrival, frames, orders, parity, runs, segments, windows
from batch.gates import running as gates
from batch.gates.running import GatesError
from batch.history import History
from batch.rescoring import Patience
from books import unknown_shops
from events import codec, instants, keys, payloads, topics, webhook_topics
from events.messages import Message
from events.programs import CutPoints, Program
from lake import reading, versions
from lake.manifest import Lake
from runtime.ports import PublishError
from runtime.settings import Settings
from tests import oracle, stores
from tests.support import CDNOW_SEGMENTS, CDNOW_SHOP, WellPublisher, cdnow_envelopes

AS_OF = datetime(1998, 7, 1, tzinfo=UTC)
PARTITIONS = 4
SHORT = Patience(rounds=2, stall=0.2, poll=0.01)


def add_program(connection: Connection[Any], shop: str, **changes: Any) -> Program:
    program = Program.model_validate({"shop": shop, "currency": "USD", "batch_at": None} | changes)
    connection.execute(
        "INSERT INTO programs (shop, program, updated_at) VALUES (%s, %s, now())", (shop, program.model_dump_json())
    )
    return program


def add_raw(connection: Connection[Any], envelopes: Sequence[dict[str, Any]]) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY raw_events (received_at, stream, key, shop, webhook_topic, webhook_id, triggered_at, value)"
            " FROM STDIN"
        ) as copy,
    ):
        for each in envelopes:
            ident = payloads.resource_of(each["topic"], each["payload"])
            copy.write_row(
                (
                    each["received_at"],
                    webhook_topics.stream_of(each["topic"]),
                    keys.join(each["shop"], str(ident)),
                    each["shop"],
                    each["topic"],
                    each["webhook_id"],
                    each["triggered_at"],
                    json.dumps(each),
                )
            )


#: Customers as the oracle found them, by all that it was asked: most of these tests ask the same of CDNOW. And the
#: whole answers, by what their orders follow from.
FOUND: dict[bytes, dict[str, oracle.Customer]] = {}
KNOWN: dict[bytes, dict[str, oracle.Shop]] = {}


def customers_of(
    shop: str,
    envelopes: Sequence[dict[str, Any]],
    plain: dict[str, Any],
    cut_points: Sequence[dict[str, Any]],
    t: datetime | None,
) -> dict[str, oracle.Customer]:
    said = sha256(codec.dumps([shop, envelopes, plain])).digest()
    asked = sha256(
        codec.dumps(
            [cut_points, t],
        )
        + said
    ).digest()
    if asked not in FOUND:
        found = oracle.oracle(envelopes, {shop: plain}, {shop: cut_points}, t, known=KNOWN.get(said))
        KNOWN.setdefault(said, found)
        FOUND[asked] = found[shop].customers
    return FOUND[asked]


class Stream:
    """Stands in for broker, worker and sink: keeps what is published, and on a rescore writes the oracle's row."""

    def __init__(self, connection: Connection[Any], envelopes: Sequence[dict[str, Any]], plain: dict[str, Any]) -> None:
        self.connection = connection
        self.envelopes = list(envelopes)
        self.plain = plain
        self.cut_points: list[dict[str, Any]] = []
        self.scored: dict[tuple[Any, ...], dict[str, oracle.Customer]] = {}
        self.sent: list[Message] = []
        self.deaf_to: set[str] = set()  # customers whose next rescore gets lost
        self.wrong: set[str] = set()  # customers whose balance comes out wrong, always

    def __call__(self, messages: Sequence[Message]) -> None:
        self.sent += messages
        asked: dict[datetime, set[str]] = {}
        for message in messages:
            self._keep(message)
            value = codec.loads(message.value)
            if message.topic == topics.CUT_POINTS:
                self.cut_points.append(value)
            else:
                slice_ = self._slice(message.key, value)
                asked.setdefault(oracle.moment(value["as_of"]), set()).update(slice_ - self.deaf_to)
                self.deaf_to -= slice_
        for as_of, customers in asked.items():
            self.write(customers, as_of, keys.split(messages[0].key)[0])

    def _slice(self, key: str, value: dict[str, Any]) -> set[str]:
        """Whom a record of a run concerns."""
        shop, partition = keys.split(key)[0], keys.partition_of(key.encode(), PARTITIONS)
        names = {customer: keys.join(shop, customer) for customer in self._customers(shop, None)}
        return {
            customer
            for customer, name in names.items()
            if keys.partition_of(name.encode(), PARTITIONS) == partition
            and keys.slice_of(name, value["slices"]) == value["slice"]
        }

    def _keep(self, message: Message) -> None:
        self.connection.execute(
            "INSERT INTO raw_events (received_at, stream, key, shop, triggered_at, value)"
            " VALUES (now(), %s, %s, %s, now(), %s)",
            (message.topic, message.key, keys.split(message.key)[0], message.value.decode()),
        )

    def write(self, customers: set[str], as_of: datetime, shop: str) -> None:
        own = self._customers(shop, None)
        scored = self._customers(shop, as_of)
        self.connection.execute(
            "DELETE FROM customers WHERE shop = %s AND customer_id = ANY(%s)", (shop, sorted(customers))
        )
        with (
            self.connection.cursor() as cursor,
            cursor.copy(
                "COPY customers (shop, customer_id, now, currency, balance, pending, earned, spent, expired, expiring,"
                " expires_at, recency_days, frequency, monetary, last_order_at, r, f, m, score, segment_id, segment,"
                " cut_points_version, deleted, redacted, merged_into) FROM STDIN"
            ) as copy,
        ):
            for name in customers:
                if own[name].now > as_of:
                    copy.write_row(self._row(shop, name, own[name].now, own[name]))
                else:
                    copy.write_row(self._row(shop, name, as_of, scored[name]))

    def _customers(self, shop: str, t: datetime | None) -> dict[str, oracle.Customer]:
        """What the oracle says with what is known by now; kept, since a batch asks in several messages."""
        key = (shop, t, len(self.envelopes), len(self.cut_points))
        if key not in self.scored:
            self.scored[key] = customers_of(shop, self.envelopes, self.plain, self.cut_points, t)
        return self.scored[key]

    def _row(self, shop: str, name: str, now: datetime, row: oracle.Customer) -> tuple[Any, ...]:
        standing = (*(row.digits or (None, None, None)), row.score or None, row.segment_id, row.segment, row.version)
        balance = row.balance + (name in self.wrong)
        points = (balance, row.pending, row.earned, row.spent, row.expired, row.expiring, row.expires_at)
        measured = (row.recency, row.frequency, row.monetary, row.last_order_at)
        return (shop, name, now, "USD", *points, *measured, *standing, False, False, row.merged_into)


PLAIN: dict[str, Any] = {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}


def shop_of(connection: Connection[Any], envelopes: list[dict[str, Any]]) -> Stream:
    add_raw(connection, envelopes)
    add_program(connection, CDNOW_SHOP)
    return Stream(connection, envelopes, PLAIN)


@pytest.fixture
def cdnow(connection: Connection[Any]) -> Stream:
    return shop_of(connection, cdnow_envelopes())


@pytest.fixture
def some(connection: Connection[Any]) -> Stream:
    """The first of CDNOW's customers, for what does not depend on how many there are."""
    return shop_of(connection, cdnow_envelopes()[:500])


def run(stream: Stream, as_of: datetime, shop: str = CDNOW_SHOP, **more: Any) -> runs.RunReport:
    return segments.run(stream.connection, stream, shop, as_of, patience=SHORT, partitions=PARTITIONS, **more)


def one(connection: Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def test_cdnow(connection: Connection[Any], cdnow: Stream) -> None:
    told: list[tuple[str, int, int | None]] = []
    report = run(cdnow, AS_OF, on_progress=lambda *each: told.append(each))
    assert report.segments == CDNOW_SEGMENTS
    assert (report.customers, report.scored, report.webhooks, report.unreadable) == (2357, 812, 6919, 0)
    assert (report.published, report.rescored, report.rounds) == (True, 2357, 1)
    first, *rescores = cdnow.sent
    cut_points = CutPoints.model_validate_json(first.value)
    assert (first.topic, first.key) == (topics.CUT_POINTS, f"{CDNOW_SHOP}/{cut_points.version}")
    assert cut_points.recency == (37, 98, 160, 247)
    assert cut_points.frequency == (1, 1, 3, 4)
    assert cut_points.monetary == (2376, 4298, 8047, 17322)
    # What is archived of a night: one record for some thousand customers of a partition, and never one a customer.
    assert [message.topic for message in rescores] == [topics.RESCORE] * PARTITIONS
    places = {keys.partition_of(message.key.encode(), PARTITIONS) for message in rescores}
    assert places == set(range(PARTITIONS))
    assert report.version == cut_points.version
    assert report.version.startswith("19980701T000000Z-")
    kept = dict(
        connection.execute(
            "SELECT segment, count(*) FROM batch_segments WHERE run_id = %s GROUP BY segment", (report.run_id,)
        ).fetchall()
    )
    assert kept == CDNOW_SEGMENTS
    assert one(connection, "SELECT sum(balance)::int FROM batch_segments") == 239_444
    assert one(connection, "SELECT status, published, customers, rescored, rounds FROM batch_runs") == (
        "done",
        True,
        2357,
        2357,
        1,
    )
    assert told[-1] == ("rescoring", 2357, 2357)
    assert ("reading", 6919, None) in told


def test_equal_values_make_an_equal_version(some: Stream) -> None:
    assert run(some, AS_OF).version == run(some, AS_OF).version


def test_an_earlier_as_of_is_a_question(connection: Connection[Any], cdnow: Stream) -> None:
    run(cdnow, AS_OF)
    cdnow.sent.clear()
    report = run(cdnow, AS_OF - timedelta(days=30))
    assert not report.published
    assert runs.last_begun(connection) == {CDNOW_SHOP: one(connection, "SELECT min(started_at) FROM batch_runs")}
    assert cdnow.sent == []
    assert one(connection, "SELECT count(*) FROM batch_segments") == 2 * 2357
    assert one(connection, "SELECT count(*) FROM batch_runs WHERE NOT published AND status = 'done'") == 1
    asked = run(cdnow, AS_OF - timedelta(days=30), wanted=True)
    assert asked.published
    assert asked.rescored == 2357


def test_a_question_may_ask_of_the_future_but_publishing_it_is_refused(cdnow: Stream) -> None:
    future = datetime.now(UTC) + timedelta(days=1)
    with pytest.raises(frames.BatchError, match="yet to come"):
        run(cdnow, future)
    assert run(cdnow, future, wanted=False).segments == {"Prospects": 2357}


def test_a_lost_rescore_is_asked_for_again(cdnow: Stream) -> None:
    everyone = {str(each["payload"]["customer"]["id"]) for each in cdnow.envelopes}
    cdnow.write(everyone - {"10002"}, AS_OF - timedelta(days=9999), CDNOW_SHOP)  # as of their own last event
    cdnow.deaf_to = {"10002", "10020"}
    report = run(cdnow, AS_OF)
    assert (report.rescored, report.rounds) == (2359, 2)
    asked = [message for message in cdnow.sent if message.topic == topics.RESCORE]
    assert len(asked) == PARTITIONS + len(
        {keys.partition_of(f"{CDNOW_SHOP}/{each}".encode(), PARTITIONS) for each in (10002, 10020)}
    )


def test_who_was_missed_is_asked_at_once_when_the_stream_rests(some: Stream) -> None:
    """With all the patience in the world: there is nothing to be patient for."""
    missed = str(some.envelopes[-1]["payload"]["customer"]["id"])
    some.deaf_to = {missed}
    ages = Patience(rounds=2, stall=100_000, poll=0.01)
    report = segments.run(
        some.connection, some, CDNOW_SHOP, AS_OF, patience=ages, partitions=PARTITIONS, at_rest=lambda: True
    )
    assert (report.rounds, report.differ) == (2, 0)
    some.wrong = {missed}
    report = segments.run(
        some.connection, some, CDNOW_SHOP, AS_OF, patience=ages, partitions=PARTITIONS, at_rest=lambda: True
    )
    assert (report.rounds, report.differ) == (2, 1)


@pytest.fixture
def told(database: str, mock_kafka: str) -> Iterator[arrival.Rest]:
    settings = Settings(database=database, kafka=mock_kafka, journal=True, incarnation="one", partitions=4)
    with frames.connect(settings) as connection, closing(arrival.Rest(settings, connection)) as rest:
        yield rest


def test_a_stream_rests_once_all_has_been_read_twice_in_a_row(
    told: arrival.Rest, connection: Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not told.reached()  # not a moment after it was asked
    monkeypatch.setattr(arrival, "_REST", 0.0)
    assert [told.reached() for _ in range(2)] == [False, True]
    add_raw(connection, cdnow_envelopes()[:3])
    assert [told.reached() for _ in range(2)] == [False, False]
    connection.execute(
        "INSERT INTO sink_positions (incarnation, topic, partition, next_offset)"
        " SELECT 'one', 'raw_events', 0, max(id) FROM raw_events"
    )
    assert [told.reached() for _ in range(2)] == [False, True]
    producer = Producer({"bootstrap.servers": told._settings.kafka_servers()})
    producer.produce(topics.ORDERS, b"{}", b"key")
    assert producer.flush(10) == 0
    assert [told.reached() for _ in range(2)] == [False, False]  # neither the worker nor the sink has read it


def test_a_run_with_a_lake_joins_no_history(
    connection: Connection[Any], some: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standings, the rounds and late windows come of the lake; also when it lacks more than a reader takes in."""
    connection.execute(
        "INSERT INTO late_windows (shop, size, zone, start) VALUES (%s, 'day', 'UTC', '1997-01-01T00:00:00Z')",
        [CDNOW_SHOP],
    )
    whole = run(some, AS_OF)
    rows = connection.execute("SELECT * FROM points_windows").fetchall()
    connection.execute("DELETE FROM customers")
    connection.execute("UPDATE points_windows SET orders = 0")
    connection.execute(
        "INSERT INTO late_windows (shop, size, zone, start) VALUES (%s, 'day', 'UTC', '1997-01-01T00:00:00Z')",
        [CDNOW_SHOP],
    )
    some.deaf_to = {str(some.envelopes[-1]["payload"]["customer"]["id"])}
    monkeypatch.delattr(History, "read")
    monkeypatch.setattr(reading, "MOST", 1)
    later = {**some.envelopes[0], "webhook_id": "later", "triggered_at": "1998-08-01T00:00:00Z"}

    def told_more(messages: Sequence[Message]) -> None:
        if messages[0].topic == topics.CUT_POINTS:
            add_raw(connection, [{**later, "webhook_id": f"later-{at}"} for at in range(3)])
        some(messages)

    found = segments.run(
        connection, told_more, CDNOW_SHOP, AS_OF, patience=SHORT, partitions=PARTITIONS, lake=Lake(tmp_path / "lake")
    )
    assert (found.rounds, found.rescored, found.differ, found.windows) == (2, whole.rescored + 1, 0, 1)
    assert (found.version, found.segments, found.webhooks) == (whole.version, whole.segments, whole.webhooks)
    assert connection.execute("SELECT * FROM points_windows").fetchall() == rows


def test_runs_of_long_ago_are_let_go(connection: Connection[Any], some: Stream) -> None:
    reports = [run(some, AS_OF + timedelta(days=days), kept=2) for days in range(4)]
    left = connection.execute("SELECT id FROM batch_runs ORDER BY started_at").fetchall()
    assert left == [(each.run_id,) for each in reports[2:]]
    assert one(connection, "SELECT count(DISTINCT run_id) FROM batch_segments") == 2


def test_it_says_how_many_differ_and_is_done(connection: Connection[Any], cdnow: Stream) -> None:
    """Whoever asks of that day is answered, and windows that came late are rebuilt all the same."""
    cdnow.wrong = {"10002", "10020", "10041"}
    connection.execute(
        "INSERT INTO late_windows (shop, size, zone, start) VALUES (%s, 'day', 'UTC', '1997-01-01T00:00:00Z')",
        [CDNOW_SHOP],
    )
    report = run(cdnow, AS_OF)
    assert (report.differ, report.windows) == (3, 1)
    status, detail = one(connection, "SELECT status, detail FROM batch_runs")
    assert status == "done"
    assert detail == report.detail
    assert "3 of 2357 customers are not as the history says after 2 rounds" in detail


@pytest.mark.slow
def test_a_gate_that_fails_stops_publication(connection: Connection[Any], some: Stream) -> None:
    """The last good cut points stay, and the run says why; who knows better publishes all the same."""
    gated = segments.Gating(on=True)
    good = run(some, AS_OF, gating=gated)
    quality = one(connection, "SELECT quality FROM batch_runs")
    assert {gate["passed"] for gate in quality["gates"]} == {True, None}
    assert quality["measured"]["customers"] == good.customers
    assert quality["measured"]["revenue"] == one(connection, "SELECT sum(monetary)::bigint FROM batch_segments")
    assert quality["shares"]["Prospects"] == pytest.approx(100 * good.segments["Prospects"] / good.customers)

    connection.execute(
        "UPDATE customers SET currency = 'EUR' WHERE customer_id = (SELECT min(customer_id) FROM customers)"
    )
    some.sent.clear()
    day = AS_OF + timedelta(days=1)
    with pytest.raises(GatesError, match="nothing was published: other_currency is 1, not 0"):
        run(some, day, gating=gated)
    assert some.sent == []
    status, published, detail, stopped = one(
        connection, "SELECT status, published, detail, quality FROM batch_runs ORDER BY started_at DESC LIMIT 1"
    )
    assert (status, published) == ("failed", False)
    assert "other_currency is 1, not 0" in detail
    assert [gate["name"] for gate in stopped["gates"] if gate["passed"] is False] == ["other_currency"]
    assert {gate["passed"] for gate in stopped["gates"] if gate["name"] in ("sizes", "revenue", "volume")} == {True}

    assert run(some, day, gating=segments.Gating(on=True, despite=True)).published
    assert one(connection, "SELECT quality->>'despite' FROM batch_runs ORDER BY started_at DESC LIMIT 1") == "true"
    assert run(some, AS_OF, wanted=False, gating=gated).customers == good.customers  # a question is only answered


def test_a_past_or_another_program_compares_with_nothing(connection: Connection[Any], some: Stream) -> None:
    run(some, AS_OF)
    program, begun = frames.program(connection, CDNOW_SHOP), one(connection, "SELECT started_at FROM batch_runs")
    assert gates.changed(connection, program, begun) is None
    newer = program.model_copy(update={"announced_at": begun + timedelta(seconds=1)})
    assert gates.changed(connection, newer, begun) == "the program was changed since the run before"
    # One that was broken off before, and left, brings nothing in any more.
    add = (
        "INSERT INTO imports (id, shop, file, sha256, bytes, status, first_at, started_at, updated_at, finished_at)"
        " VALUES (gen_random_uuid(), %s, 'past.csv', 'x', 1, %s, %s, %s, %s, %s)"
    )
    left = begun - timedelta(seconds=1)
    for status in ("running", "waiting"):
        connection.execute(add, [CDNOW_SHOP, status, *[left] * 3, None])
    connection.execute(add, [CDNOW_SHOP, "failed", *[left] * 4])
    assert gates.changed(connection, program, begun) is None
    for status, finished in (("running", None), ("done", begun + timedelta(seconds=1))):
        with connection.transaction(force_rollback=True):
            connection.execute(add, [CDNOW_SHOP, status, left, left, begun + timedelta(seconds=1), finished])
            assert gates.changed(connection, program, begun) == "a past came in since the run before"
    connection.execute(add, [CDNOW_SHOP, "done", *[begun + timedelta(seconds=1)] * 4])
    assert gates.changed(connection, program, begun) == "a past came in since the run before"


def add_letter(connection: Connection[Any], envelope: dict[str, Any], error: str, *, value: bool = True) -> None:
    ident = payloads.resource_of(envelope["topic"], envelope["payload"])
    at = dict(reversed(envelope.items()))  # whoever wrote it may have had another order
    connection.execute(
        "INSERT INTO dead_letters (at, id, shop, source, key, error, detail, value)"
        " VALUES (now(), gen_random_uuid(), %s, %s, %s, %s, '', %s)",
        (
            envelope["shop"],
            webhook_topics.stream_of(envelope["topic"]),
            keys.join(envelope["shop"], str(ident)),
            error,
            json.dumps(at) if value else None,
        ),
    )


def test_what_the_stream_refused_counts_nowhere_until_it_is_replayed(connection: Connection[Any]) -> None:
    """Refused for what it says, it is refused here by the same rules; of all else the letters tell."""
    shop, envelopes = CDNOW_SHOP, cdnow_envelopes()[:6]
    envelopes[1]["payload"]["note"] = "x" * (1 << 20)  # too long for a letter
    add_program(connection, shop)
    add_raw(connection, envelopes)
    add_letter(connection, envelopes[0], "unexpected")
    add_letter(connection, envelopes[1], "too_large", value=False)
    add_letter(connection, envelopes[2], "unknown_shop")  # no refusal: it is brought in, and so counts

    def read() -> set[str]:
        history = History(shop, "USD")
        history.read(connection)
        return set(history.owners.frame()["order_id"])

    ids = [str(each["payload"]["id"]) for each in envelopes]
    assert read() == {*ids[2:]}
    connection.execute("UPDATE dead_letters SET replayed_at = now()")
    assert read() == {*ids}


def test_what_came_before_a_shop_is_brought_in_once(connection: Connection[Any], database: str) -> None:
    """Its messages as they stand in the raw history; the duplicate of one that was taken counts as one."""
    envelopes = cdnow_envelopes()[:6]
    settings = Settings(database=SecretStr(database), journal=True)
    add_raw(connection, [*envelopes, envelopes[0]])
    for each in envelopes[:4]:
        add_letter(connection, each, "unknown_shop", value=False)
    add_letter(connection, envelopes[5], "unexpected")
    assert unknown_shops.waiting(connection) == []
    add_program(connection, CDNOW_SHOP)
    assert unknown_shops.waiting(connection) == [CDNOW_SHOP]
    sent: list[Message] = []

    def refuse(messages: Sequence[Message]) -> None:
        raise PublishError("away")

    with pytest.raises(PublishError):
        unknown_shops.bring_in(settings, connection, refuse, CDNOW_SHOP)
    assert unknown_shops.waiting(connection) == [CDNOW_SHOP]
    assert unknown_shops.bring_in(settings, connection, sent.extend, CDNOW_SHOP) == 4
    assert {each.value for each in sent} == {json.dumps(each).encode() for each in envelopes[:4]}
    assert unknown_shops.bring_in(settings, connection, sent.extend, CDNOW_SHOP) == 0
    assert unknown_shops.waiting(connection) == []


def test_a_letter_that_came_before_its_message_waits_for_it(connection: Connection[Any], database: str) -> None:
    """With real Kafka the sink reads its topics side by side."""
    envelope = cdnow_envelopes()[0]
    settings = Settings(database=SecretStr(database), topic_prefix="p-")
    add_program(connection, CDNOW_SHOP)
    add_letter(connection, envelope, "unknown_shop")
    connection.execute('UPDATE dead_letters SET partition = 2, "offset" = 7')
    sent: list[Message] = []
    for at, expected in ((7, 0), (8, 1)):
        connection.execute("DELETE FROM sink_positions")
        connection.execute("INSERT INTO sink_positions VALUES ('kafka', 'p-shopify.orders', 2, %s)", [at])
        if expected:
            add_raw(connection, [envelope])
        assert unknown_shops.bring_in(settings, connection, sent.extend, CDNOW_SHOP) == expected


def test_events_after_its_read_do_not_disturb_it(connection: Connection[Any], cdnow: Stream) -> None:
    """What comes while the batch asks: rows are held against the history as of their own now."""
    late = [
        each
        | {
            "webhook_id": f"late-{number}",
            "triggered_at": "1998-07-02T12:00:00Z",
            "received_at": "1998-07-02T12:00:00Z",
            "payload": each["payload"]
            | {"id": 900_000 + number, "created_at": "1998-07-02T12:00:00Z", "processed_at": "1998-07-02T12:00:00Z"},
        }
        for number, each in enumerate(cdnow.envelopes[:50])
    ]
    recent = max(cdnow.envelopes, key=lambda each: each["triggered_at"])
    late[0] = recent | {
        "topic": "orders/cancelled",
        "webhook_id": "late-cancel",
        "triggered_at": "1998-07-02T12:00:00Z",
        "received_at": "1998-07-02T12:00:00Z",
        "payload": recent["payload"] | {"cancelled_at": "1998-07-02T12:00:00Z"},
    }
    add_raw(connection, late[:25])  # before it reads, triggered after as_of

    def publish(messages: Sequence[Message]) -> None:
        if messages[0].topic == topics.CUT_POINTS:
            add_raw(connection, late[25:])
            cdnow.envelopes += late
        cdnow(messages)

    report = segments.run(connection, publish, CDNOW_SHOP, AS_OF, patience=SHORT, partitions=PARTITIONS)
    assert report.segments == CDNOW_SEGMENTS
    assert report.webhooks == 6919 + 50
    assert report.rounds == 1


def test_main_publishes_through_the_ports_publisher(database: str, cdnow: Stream) -> None:
    class Publisher(WellPublisher):
        async def publish(self, messages: Sequence[Message]) -> None:
            cdnow(messages)

    settings = Settings(database=SecretStr(database), partitions=PARTITIONS)
    report = segments.main(settings, Publisher(), CDNOW_SHOP, AS_OF, patience=SHORT)
    assert report.segments == CDNOW_SEGMENTS
    assert report.rescored == 2357
    assert parity.main(settings, "cdnow.myshopify.com")[0].startswith("points: ")  # nobody posted any here


def test_progress_may_end_a_run(connection: Connection[Any], some: Stream) -> None:
    def end(stage: str, done: int, total: int | None) -> None:
        if stage == "rescoring":
            raise frames.BatchError("told to end")

    with pytest.raises(frames.BatchError, match="told to end"):
        run(some, AS_OF, on_progress=end)
    assert one(connection, "SELECT status, detail, published FROM batch_runs") == (
        "failed",
        "BatchError: told to end",
        True,
    )
    assert run(some, AS_OF).rounds == 1


def test_a_shop_without_customers(connection: Connection[Any]) -> None:
    add_program(connection, "empty.myshopify.com")
    stream = Stream(connection, [], PLAIN)
    report = run(stream, AS_OF, "empty.myshopify.com")
    assert (report.customers, report.version, report.rounds, report.segments) == (0, "default", 1, {})
    published = [message.key for message in stream.sent if message.topic == topics.CUT_POINTS]
    assert published == ["empty.myshopify.com/default"]


def test_a_shop_without_a_program(connection: Connection[Any]) -> None:
    with pytest.raises(frames.BatchError, match="no program"):
        run(Stream(connection, [], PLAIN), AS_OF, "nobody.myshopify.com")


def test_one_run_of_a_shop_at_a_time(connection: Connection[Any], database: str) -> None:
    add_program(connection, "busy.myshopify.com")
    with psycopg.connect(database, autocommit=True) as other:
        runs.lock(other, "busy.myshopify.com")
        with pytest.raises(frames.BatchError, match="another batch"):
            run(Stream(connection, [], PLAIN), AS_OF, "busy.myshopify.com")
        runs.unlock(other, "busy.myshopify.com")
    assert run(Stream(connection, [], PLAIN), AS_OF, "busy.myshopify.com").customers == 0


def test_reading_takes_up_where_it_left_off(connection: Connection[Any], database: str) -> None:
    envelopes = stores.store(3, moments=6)
    add_raw(connection, envelopes[::2])
    whole = History(stores.SHOP, "USD")
    half = History(stores.SHOP, "USD")
    at = instants.from_datetime(stores.NOW - timedelta(hours=1))
    early = sum(oracle.moment(each["triggered_at"]) <= stores.NOW - timedelta(hours=1) for each in envelopes[::2])
    assert half.read(connection, at) == early
    assert half.read(connection) == len(envelopes[::2]) - early
    assert half.read(connection) == 0
    with psycopg.connect(database) as other:  # not committed while others are
        add_raw(other, envelopes[1::4])
        add_raw(connection, envelopes[3::4])
        assert half.read(connection) == len(envelopes[3::4])
        other.commit()
    half.read(connection)
    whole.read(connection)
    key = ["order_id"]
    assert half.order_states().sort(key).equals(whole.order_states().sort(key))
    assert half.customers().equals(whole.customers())
    assert whole.webhooks == len(envelopes)


def test_what_nobody_can_read_is_skipped(connection: Connection[Any]) -> None:
    envelopes = stores.store(4)
    add_raw(connection, envelopes)
    broken = [b"", b"{", json.dumps(envelopes[0] | {"topic": "orders/unheard_of"}).encode()]
    paid = next(each for each in envelopes if each["topic"] == "orders/paid")
    broken.append(json.dumps(paid | {"payload": paid["payload"] | {"id": 1, "currency": "EUR"}}).encode())
    for value in broken:
        connection.execute(
            "INSERT INTO raw_events (received_at, stream, key, shop, triggered_at, value)"
            " VALUES (now(), %s, %s, %s, now(), %s)",
            (topics.ORDERS, f"{stores.SHOP}/1", stores.SHOP, value.decode()),
        )
    history = History(stores.SHOP, "USD")
    assert history.read(connection) == len(envelopes) + len(broken)
    assert history.unreadable == len(broken) - 1  # a topic that nobody uses is no error
    assert "1" not in history.order_states()["order_id"].to_list()


# --- windows -----------------------------------------------------------------------------------------------------


def note(connection: Connection[Any], size: str, start: str, zone: str = "UTC") -> None:
    place = (CDNOW_SHOP, size, zone, start)
    connection.execute("INSERT INTO late_windows (shop, size, zone, start) VALUES (%s, %s, %s, %s)", place)


def partial(connection: Connection[Any], size: str, start: str, partition: int, zone: str = "UTC") -> None:
    connection.execute(
        "INSERT INTO points_windows VALUES (%s, %s, %s, %s, %s, 'USD', 1, 1, 1, 0, 1, 0, 0)",
        (start, CDNOW_SHOP, size, zone, partition),
    )


def test_late_windows_are_rebuilt_and_the_rest_left(connection: Connection[Any], some: Stream) -> None:
    for size, start in (("day", "1997-01-01T00:00Z"), ("minute", "1997-01-01T12:00Z"), ("hour", "1980-01-01T00:00Z")):
        note(connection, size, start)
    for partition in range(3):
        partial(connection, "day", "1997-01-01T00:00Z", partition)
        partial(connection, "day", "1997-01-02T00:00Z", partition)
    report = run(some, AS_OF)
    assert report.windows == 3
    assert one(connection, "SELECT count(*) FROM late_windows") == 0
    first = [float(each["payload"]["subtotal_price"]) for each in some.envelopes if "19970101" in day_of(each)]
    rows = connection.execute(
        "SELECT size, start, partition, orders, net, points_earned, points_reversed FROM points_windows"
        " WHERE partition = -1 ORDER BY start, size"
    ).fetchall()
    expected = (len(first), round(100 * sum(first)), sum(map(int, first)), 0)
    assert [row[2:] for row in rows] == [(-1, 0, 0, 0, 0), (-1, *expected), (-1, *expected)]
    assert one(connection, "SELECT count(*) FROM points_windows WHERE partition >= 0") == 3


@pytest.mark.parametrize("from_lake", [False, True])
def test_what_was_given_and_redeemed_is_in_a_rebuilt_window(
    connection: Connection[Any], some: Stream, tmp_path: Path, from_lake: bool
) -> None:
    whose = {"customer_id": some.envelopes[0]["payload"]["customer"]["id"]}
    body = {**whose, "source": "test", "at": "1997-01-01T12:30:00Z"}
    decided = {"decided_at": "1997-01-01T12:40:00Z", "requested_at": "1997-01-01T12:40:00Z", "seq": 1, "balance": 0}
    said = [
        ("award", {**body, "award_id": "a", "points": 50}),
        ("award", {**body, "award_id": "b", "points": -20}),
        ("award", {**body, "award_id": "c", "points": 1000}),
        ("award", {**body, "award_id": "c", "points": 1000, "voided": True}),
        *[
            ("decision", {**whose, **decided, "request_id": name, "cost": cost, "accepted": accepted, **more})
            for name, cost, accepted, more in (
                ("d", 300, True, {"reward_id": "ten"}),
                ("e", 400, True, {"reward_id": "ten"}),
                ("f", 500, False, {"reward_id": "ten", "reason": "limit"}),
                ("checked/g", 7, True, {"source": "api"}),
            )
        ],
        ("cancel", {**whose, "request_id": "e"}),
    ]
    at = "1997-01-02T00:00:00Z"
    nothing = {"event_id": None, "api_version": None}
    add_raw(
        connection,
        [
            {
                "topic": f"account/{topic}",
                "shop": CDNOW_SHOP,
                "webhook_id": f"w-{number}",
                "triggered_at": at,
                "received_at": at,
                **nothing,
                "payload": each,
            }
            for number, (topic, each) in enumerate(said)
        ],
    )
    for size, start in (("day", "1997-01-01T00:00Z"), ("hour", "1997-01-01T12:00Z"), ("minute", "1997-01-01T12:40Z")):
        note(connection, size, start)
    assert run(some, AS_OF, lake=Lake(tmp_path / "lake") if from_lake else None).windows == 3
    rows = connection.execute(
        "SELECT size, points_awarded, points_redeemed FROM points_windows WHERE partition = -1 ORDER BY size"
    ).fetchall()
    assert rows == [("day", 23, 300), ("hour", 23, 300), ("minute", -7, 300)]


def day_of(envelope: dict[str, Any]) -> str:
    return str(envelope["payload"]["processed_at"])[:10].replace("-", "")


def test_a_window_noted_again_meanwhile_stays_on_the_list(connection: Connection[Any], some: Stream) -> None:
    note(connection, "day", "1997-01-01T00:00Z")
    waiting = windows.late(connection, CDNOW_SHOP)
    connection.execute("UPDATE late_windows SET noted_at = clock_timestamp()")
    program = frames.program(connection, CDNOW_SHOP)
    history = History(CDNOW_SHOP, "USD")
    history.read(connection)
    windows.rebuild(connection, orders.worth(history, program), program, waiting)
    assert one(connection, "SELECT count(*) FROM points_windows WHERE partition = -1") == 1
    assert one(connection, "SELECT count(*) FROM late_windows") == 1


def test_a_fresh_note_waits_for_what_caused_it(connection: Connection[Any], some: Stream) -> None:
    note(connection, "day", "1997-01-01T00:00Z")
    report = run(some, AS_OF, settled=timedelta(minutes=5))
    assert report.windows == 1
    assert one(connection, "SELECT count(*) FROM points_windows WHERE partition = -1") == 1
    assert one(connection, "SELECT count(*) FROM late_windows") == 1
    connection.execute("UPDATE late_windows SET noted_at = noted_at - interval '5 minutes'")
    assert run(some, AS_OF, settled=timedelta(minutes=5)).windows == 1
    assert one(connection, "SELECT count(*) FROM late_windows") == 0


def test_what_the_stream_wrote_beside_a_closed_window_is_looked_at_again(
    connection: Connection[Any], some: Stream
) -> None:
    """A sink wrote its row before the batch closed the window, and committed after: neither saw the other."""
    day = "1997-01-01T00:00Z"
    note(connection, "day", day)
    with psycopg.connect(connection.info.dsn, password=connection.info.password) as sink:
        partial(sink, "day", day, 2)  # not yet committed
        assert run(some, AS_OF).windows == 1
        sink.commit()
    assert one(connection, "SELECT count(*) FROM late_windows") == 0
    assert one(connection, "SELECT count(*) FROM points_windows WHERE partition >= 0") == 1
    report = run(some, AS_OF, settled=timedelta(minutes=5))
    assert report.windows == 1
    assert one(connection, "SELECT count(*) FROM points_windows WHERE partition >= 0") == 0
    # Noted when it was found: what caused the row may not be stored yet.
    assert one(connection, "SELECT count(*) FROM late_windows") == 1


def test_a_window_that_the_stream_changed_meanwhile_stays_on_the_list(
    connection: Connection[Any], some: Stream
) -> None:
    """A partition whose time is behind still writes a window that another one has noted as late."""
    day = "1997-01-01T00:00Z"
    note(connection, "day", day)
    partial(connection, "day", day, 2)
    waiting = windows.late(connection, CDNOW_SHOP)
    program = frames.program(connection, CDNOW_SHOP)
    history = History(CDNOW_SHOP, "USD")
    history.read(connection)
    worth = orders.worth(history, program)
    connection.execute("UPDATE points_windows SET orders = 2 WHERE partition = 2")
    windows.rebuild(connection, worth, program, waiting)
    assert one(connection, "SELECT count(*) FROM late_windows") == 1
    windows.rebuild(connection, worth, program, windows.late(connection, CDNOW_SHOP))
    assert one(connection, "SELECT count(*) FROM late_windows") == 0


def test_a_late_day_is_rebuilt_under_the_zone_it_names(connection: Connection[Any], some: Stream) -> None:
    """A note may be of a zone that is no longer, or not yet, in force: its row is right whenever it is."""
    zones = {"UTC": "1997-01-01T00:00Z", "Asia/Kolkata": "1996-12-31T18:30Z", "America/New_York": "1997-01-01T05:00Z"}
    for zone, start in zones.items():
        note(connection, "day", start, zone)
        partial(connection, "day", start, 0, zone)
    assert run(some, AS_OF).windows == 3
    orders_of = dict(connection.execute("SELECT zone, orders FROM points_windows WHERE size = 'day'").fetchall())
    noons = [sum(day in day_of(each) for each in some.envelopes) for day in ("19970101", "19970102")]
    assert orders_of == dict.fromkeys(zones, noons[0])  # CDNOW's orders are all of noon, UTC
    for zone in zones:
        connection.execute("UPDATE programs SET program = program || jsonb_build_object('zone', %s::text)", (zone,))
        shown = connection.execute("SELECT zone, start, orders FROM shop_windows WHERE size = 'day'").fetchall()
        assert [(row[0], instants.from_datetime(row[1])) for row in shown] == [
            (zone, instants.parse(zones[zone][:-1] + ":00Z"))
        ]


# --- parity ------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_par(connection: Connection[Any]) -> Connection[Any]:
    """Some of CDNOW, with every table as a stream without fault would have left it."""
    envelopes = cdnow_envelopes()[:500]
    add_raw(connection, envelopes)
    program = add_program(connection, CDNOW_SHOP)
    run(Stream(connection, envelopes, PLAIN), AS_OF)
    history = History(CDNOW_SHOP, "USD")
    history.read(connection)
    worth = orders.worth(history, program)
    everything = windows.sums(worth, "UTC").select("size", "start").iter_rows()
    windows.rebuild(connection, worth, program, [windows.Late(size, "UTC", at, None) for size, at in everything])
    for each in envelopes:
        payload = each["payload"]
        total, at = int(float(payload["subtotal_price"])), payload["processed_at"]
        key = (CDNOW_SHOP, "order", str(payload["id"]), str(payload["customer"]["id"]))
        connection.execute(
            "INSERT INTO points_totals (shop, source, source_id, customer_id, revision, total, processed_at)"
            " VALUES (%s, %s, %s, %s, 'r', %s, %s)",
            (*key, total, at),
        )
        if total:
            connection.execute(
                "INSERT INTO points_transactions (posted_at, id, shop, source, source_id, customer_id, kind, points,"
                " revision, processed_at) VALUES (%s, gen_random_uuid(), %s, %s, %s, %s, 'earned', %s, 'r', %s)",
                (at, *key, total, at),
            )
    connection.execute(
        "INSERT INTO rfm_segment_counts SELECT shop, segment, count(*), sum(monetary), sum(balance), sum(frequency),"
        " coalesce(sum(recency_days), 0), count(recency_days) FROM customers GROUP BY 1, 2"
    )
    return connection


#: What may be wrong with the tables, and what parity says of it.
HARMS = [
    ("UPDATE customers SET balance = balance + 1 WHERE customer_id = '4'", "customers: 4: balance 99 not 98"),
    ("UPDATE customers SET recency_days = NULL WHERE customer_id = '4'", "customers: 4: recency_days None not 200"),
    ("UPDATE customers SET r = 5 WHERE customer_id = '4'", "customers: 4: r 5 not 2"),
    ("UPDATE customers SET now = now + '1 second' WHERE customer_id = '4'", "4 stands at 1998-07-01T00:00:01Z"),
    ("DELETE FROM customers WHERE customer_id = '4'", "4 is known but has no row"),
    ("UPDATE customers SET customer_id = '7' WHERE customer_id = '4'", "7 has a row, but nothing named them"),
    ("UPDATE points_totals SET total = total + 1 WHERE source_id = '1'", "points: order 1 of 4: posted 30"),
    (
        "DELETE FROM points_transactions WHERE source_id = '1'",
        "4: 98 points with what is pending or has expired, but the ledger sums to 69",
    ),
    (
        "INSERT INTO points_expired SELECT shop, '4', '1998-01-01', 'UTC', '1998-01-01T00:00Z', 5, 0 FROM programs",
        "run out: 4 on 1998-01-01: 5 points, not 0",
    ),
    ("UPDATE points_windows SET net = net + 1 WHERE size = 'hour'", "windows: "),
    ("DELETE FROM points_windows WHERE start = '1997-01-01T12:00Z'", "windows: minute of 1997-01-01T12:00:00Z"),
    ("UPDATE rfm_segment_counts SET customers = 800", "segment counts: "),
    ("UPDATE rfm_segment_counts SET recent = recent + 1 WHERE segment = 'Loyal'", "segment counts: Loyal: recent"),
    ("DELETE FROM raw_events WHERE id = 1", "points: order 1 of 4: posted 29, in the ledger 29, deserved 0"),
]


@pytest.mark.parametrize("part", range(3))  # each harm takes a lake of its own
def test_parity_notices(at_par: Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """By the history joined in memory, and by the lake, some orders at a time."""
    monkeypatch.setattr(parity, "TOLD", 10**6)
    for number, (harm, told) in enumerate(HARMS[part::3]):
        with at_par.transaction(force_rollback=True):
            assert at_par.execute(harm.encode()).rowcount > 0, harm
            found = parity.compare(at_par, CDNOW_SHOP)
            with monkeypatch.context() as patched:
                patched.setattr(parity, "SLICE", 100)
                patched.setattr(versions, "SLICE", 300)
                patched.delattr(History, "read")
                of_lake = parity.compare(at_par, CDNOW_SHOP, Lake(tmp_path / str(number)))
        assert any(told in line for line in found), (harm, found)
        assert sorted(of_lake) == sorted(found), harm
    assert parity.compare(at_par, CDNOW_SHOP) == []
    assert parity.compare(at_par, CDNOW_SHOP, Lake(tmp_path / "lake")) == []


def test_parity_takes_a_closed_row_for_all_of_its_window(at_par: Connection[Any]) -> None:
    partial(at_par, "day", "1997-01-01T00:00Z", 2)
    assert parity.compare(at_par, CDNOW_SHOP) == []


def test_parity_leaves_late_windows_out(at_par: Connection[Any]) -> None:
    at_par.execute("UPDATE points_windows SET net = 0 WHERE size = 'day' AND start = '1997-01-01T00:00Z'")
    note(at_par, "day", "1997-01-01T00:00Z")
    assert parity.compare(at_par, CDNOW_SHOP) == []


def test_parity_of_adversarial_stores(
    connection: Connection[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows at their own now, some under a version, some moved on by a rescore; ledger and windows left out."""
    envelopes = stores.store(11, moments=6)
    plain = stores.program(11)
    add_raw(connection, envelopes)
    add_program(connection, stores.SHOP, **plain)
    stream = Stream(connection, envelopes, plain)
    report = run(stream, stores.NOW - timedelta(hours=1), stores.SHOP)
    assert report.rounds == 1
    names = {*oracle.oracle(envelopes, {stores.SHOP: plain})[stores.SHOP].customers}
    # Also those whom the batch did not know yet: the run holds for whoever is named later.
    stream.write(names, stores.NOW - timedelta(hours=1), stores.SHOP)
    for lake in (None, Lake(tmp_path / "lake")):
        found = parity.compare(connection, stores.SHOP, lake)
        assert [line for line in found if line.startswith("customers")] == []
        monkeypatch.delattr(History, "read", raising=False)
