"""The sink's rows, records in and rows out, in one transaction a batch; on plain PostgreSQL and on TimescaleDB."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from events import codec, envelopes, instants, payloads, topics
from runtime.database import array
from runtime.settings import Settings
from streams.sink import store as sink_store
from streams.sink.rows import COLUMNS, Rows
from tables.chunks import Received
from tests.sinks import SHOP, Sent, customer, envelope, key, points, ran_out, rows, standing, window

Feed = Callable[..., Rows]
UUIDS = [f"5f0d4c1e-0000-4000-8000-{number:012d}" for number in range(10)]


@pytest.fixture(
    params=[
        "database",
        pytest.param("real_database", marks=pytest.mark.server),
        pytest.param("real_plain_database", marks=pytest.mark.server),
    ]
)
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(database=request.getfixturevalue(request.param))


@pytest.fixture
def feed(settings: Settings) -> Feed:
    """Stores messages as one batch, as the sink would."""
    count = 0

    def store(*messages: Sent, journal: bool = False) -> Rows:
        nonlocal count
        batch = Rows(journal)
        for topic, name, value in messages:
            data = value if isinstance(value, bytes) or value is None else codec.dumps(value)
            batch.add(
                Received(topic, 0, count, 1_795_253_405_000 + count, None if name is None else name.encode(), data)
            )
            count += 1
        with psycopg.connect(settings.database_url(), options="-c timezone=UTC") as connection:
            sink_store.prepare(connection)
            with connection.transaction(), connection.cursor() as cursor:
                sink_store.write(cursor, batch)
        return batch

    return store


# --- points ------------------------------------------------------------------------------------------------------


def test_the_ledger_follows_the_totals(settings: Settings, feed: Feed) -> None:
    feed((topics.POINTS, key("7"), points("1", "7", 100, "a")), (topics.POINTS, key("7"), points("1", "7", 40, "b")))
    feed((topics.POINTS, key("7"), points("1", "7", 100, "a")), (topics.POINTS, key("7"), points("1", "7", 90, "c")))
    ledger = rows(settings, "SELECT kind, points, revision FROM points_transactions ORDER BY revision")
    assert ledger == [("earned", 100, "a"), ("reversed", -60, "b"), ("earned", 50, "c")]
    assert rows(settings, "SELECT revision, total FROM points_totals") == [("c", 90)]


def test_a_replay_posts_nothing(settings: Settings, feed: Feed) -> None:
    records = [(topics.POINTS, key("7"), points("1", "7", total, rev)) for total, rev in ((100, "a"), (0, "b"))]
    for _ in range(3):
        feed(*records)
    assert rows(settings, "SELECT count(*), sum(points) FROM points_transactions") == [(2, 0)]


def test_an_entry_is_posted_when_its_revision_came_about(settings: Settings, feed: Feed) -> None:
    feed((topics.POINTS, key("7"), points("1", "7", 5, "a", changed_at="1997-03-02T12:00:00.000001Z")))
    assert rows(settings, "SELECT posted_at::text FROM points_transactions") == [("1997-03-02 12:00:00.000001+00",)]


def test_of_a_day_on_which_points_ran_out_the_last_told_stands(settings: Settings, feed: Feed) -> None:
    """Of the newest owner of the partition; also within one batch, and also if nothing ran out on it after all."""

    def told(day: str, number: int, **more: Any) -> Sent:
        return topics.POINTS, key("7"), ran_out("7", day, number, **more)

    stored = "SELECT day::text, points, zone, at::text, fence FROM points_expired ORDER BY day"
    feed(told("2026-08-15", 70), told("2026-08-16", 5), told("2026-08-15", 50))
    feed(told("2026-08-16", 0))
    assert rows(settings, stored) == [
        ("2026-08-15", 50, "UTC", "2026-08-15 00:00:00+00", 0),
        ("2026-08-16", 0, "UTC", "2026-08-16 00:00:00+00", 0),
    ]
    theirs = {"zone": "Asia/Kolkata", "at": "2026-08-14T18:30:00Z"}
    feed(told("2026-08-15", 40, fence=2, **theirs), told("2026-08-15", 60, fence=1))
    feed(told("2026-08-15", 60, fence=1), told("2026-08-16", 9, fence=1))
    assert rows(settings, stored) == [
        ("2026-08-15", 40, "Asia/Kolkata", "2026-08-14 18:30:00+00", 2),
        ("2026-08-16", 9, "UTC", "2026-08-16 00:00:00+00", 1),
    ]


# --- customers and counts ----------------------------------------------------------------------------------------


def counts(settings: Settings) -> dict[str, tuple[int, int]]:
    found = rows(settings, "SELECT segment, customers, monetary FROM rfm_segment_counts")
    return {segment: (number, monetary) for segment, number, monetary in found if number or monetary}


def sums(settings: Settings) -> tuple[list[Any], list[Any]]:
    """(all that is kept of the segments, the same by their customers)"""
    kept = rows(
        settings,
        "SELECT segment, customers, monetary, balance, frequency, recency_days, recent, stored_at"
        " FROM rfm_segment_counts WHERE customers <> 0 ORDER BY segment",
    )
    counted = rows(
        settings,
        "SELECT segment, count(*), sum(monetary)::bigint, sum(balance), sum(frequency)::bigint,"
        " coalesce(sum(recency_days), 0)::bigint, count(recency_days) FROM customers GROUP BY segment ORDER BY segment",
    )
    newest = rows(settings, "SELECT max(stored_at) FROM rfm_segment_counts")
    assert newest >= rows(settings, "SELECT max(stored_at) FROM customers")
    return [each[:-1] for each in kept], counted


def really(settings: Settings) -> dict[str, tuple[int, int]]:
    found = rows(settings, "SELECT segment, count(*), sum(monetary)::bigint FROM customers GROUP BY segment")
    return {segment: (number, monetary) for segment, number, monetary in found}


def row(ident: str, segment: str = "Champions", **more: Any) -> Sent:
    return topics.CUSTOMER_ROWS, key(ident), customer(ident, segment, **more)


def test_a_customers_row_is_stored_whole(settings: Settings, feed: Feed) -> None:
    feed(row("7", contact="v1.sealed", balance=-5))
    found = rows(
        settings,
        "SELECT balance, pending, earned, spent, expired, expiring, expires_at::text,"
        " recency_days, frequency, monetary, last_order_at::text, r, f, m, score::text, segment_id,"
        " segment, cut_points_version, contact, deleted, redacted, now::text, currency FROM customers",
    )
    assert found == [
        (
            *(-5, 0, 150, 30, 0, 20, "2027-11-19 00:00:00+00"),
            *(3, 2, 12_000, "2026-11-18 09:30:00+00", 5, 4, 3, "4.1", "seg_543", "Champions", "default"),
            *("v1.sealed", False, False, "2026-11-21 09:30:00+00", "USD"),
        )
    ]


def test_a_prospect_has_no_digits(settings: Settings, feed: Feed) -> None:
    none = standing("Prospects", r=None, f=None, m=None, score=None, segment_id="seg_000")
    feed(row("7", recency_days=None, frequency=0, monetary=0, last_order_at=None, standing=none))
    assert rows(settings, "SELECT r, f, m, score, recency_days FROM customers") == [(None,) * 5]


def test_counts_follow_the_customers(settings: Settings, feed: Feed) -> None:
    feed(row("1"), row("2"), row("3", "Dormant", monetary=500))
    assert counts(settings) == {"Champions": (2, 24_000), "Dormant": (1, 500)}
    feed(row("1", "Dormant", monetary=7), row("2", monetary=13_000))
    assert counts(settings) == {"Champions": (1, 13_000), "Dormant": (2, 507)} == really(settings)


def test_the_sums_of_a_segment_follow_too(settings: Settings, feed: Feed) -> None:
    most = 2**63 - 1
    feed(row("1", balance=most), row("2", balance=most, recency_days=None), row("3", "Dormant", recency_days=400))
    kept, counted = sums(settings)
    assert kept == counted
    feed(row("2", recency_days=9, frequency=7), row("3", recency_days=None), row("1", "Dormant", balance=-5))
    kept, counted = sums(settings)
    assert kept == counted
    feed(row("1", "Dormant", balance=-5))
    assert sums(settings) == (counted, counted)


def test_only_the_last_row_of_a_key_counts(settings: Settings, feed: Feed) -> None:
    feed(row("1", "New"), row("1", "Active"), row("1", "Loyal", monetary=9))
    assert counts(settings) == {"Loyal": (1, 9)} == really(settings)


@pytest.mark.parametrize("apart", [True, False])
def test_a_row_of_an_earlier_now_changes_nothing(settings: Settings, feed: Feed, apart: bool) -> None:
    # As text the later instant is the smaller one.
    newer = row("1", "Loyal", now="2026-11-21T09:30:00.5Z", monetary=9)
    older = row("1", "New", now="2026-11-21T09:30:00Z", monetary=1)
    if apart:
        feed(newer)
        feed(older)
    else:
        feed(newer, older)
    assert counts(settings) == {"Loyal": (1, 9)} == really(settings)


def test_a_row_of_the_same_now_replaces(settings: Settings, feed: Feed) -> None:
    feed(row("1", "New"))
    feed(row("1", "Loyal"))
    assert counts(settings) == {"Loyal": (1, 12_000)} == really(settings)


@pytest.mark.parametrize("apart", [True, False])
def test_a_former_owners_row_changes_nothing_whatever_its_now(settings: Settings, feed: Feed, apart: bool) -> None:
    owners = row("1", "Loyal", fence=9, monetary=9)
    formers = row("1", "New", fence=7, now="2026-11-22T09:30:00Z")
    if apart:
        feed(owners)
        feed(formers)
    else:
        feed(owners, formers)
    assert counts(settings) == {"Loyal": (1, 9)} == really(settings)
    feed(row("1", "Active", fence=12, now="2026-11-20T09:30:00Z", monetary=8))  # its successor knows better
    assert counts(settings) == {"Active": (1, 8)} == really(settings)


@pytest.mark.parametrize("apart", [True, False])
def test_a_former_owners_window_changes_nothing(settings: Settings, feed: Feed, apart: bool) -> None:
    owners, formers = ((topics.WINDOWS, "k", window(fence=fence, orders=fence)) for fence in (9, 7))
    if apart:
        feed(owners)
        feed(formers)
    else:
        feed(owners, formers)
    assert rows(settings, "SELECT orders FROM points_windows") == [(9,)]


# --- RFM ---------------------------------------------------------------------------------------------------------


def changed(settings: Settings) -> list[tuple[Any, ...]]:
    """Every change of the one customer in the order of time, and that each kept its delta where the segment moved."""
    found = rows(settings, "SELECT at::time::text, segment, cause FROM rfm_score_history ORDER BY at")
    moved = rows(settings, "SELECT at::time::text, previous_segment, segment FROM rfm_segment_deltas ORDER BY at")
    left = [None, *(segment for _, segment, _ in found)]
    expected = [(at, before, now) for before, (at, now, _) in zip(left, found, strict=False) if before != now]
    assert moved == expected
    assert rows(settings, "SELECT segment FROM customers") == [(found[-1][1],)]
    return found


def told(at: str, segment: str, cause: str = "order 1", **more: Any) -> Sent:
    return row("7", segment, now=f"2026-11-21T{at}Z", cause=cause, **more)


def test_a_change_of_standing_is_a_row_of_history_and_of_segment_a_delta(settings: Settings, feed: Feed) -> None:
    again = standing("New", cut_points_version="v2")
    messages = [
        told("09:00:00", "New"),
        told("09:10:00", "New", "order 2"),
        told("09:20:00", "New", "rescore", standing=again),
        told("09:30:00", "Active", "order 3"),
    ]
    wanted = [("09:00:00", "New", "order 1"), ("09:20:00", "New", "rescore"), ("09:30:00", "Active", "order 3")]
    feed(*messages)
    assert changed(settings) == wanted
    feed(*messages)  # a replay
    for message in messages:
        feed(message)
    assert changed(settings) == wanted
    found = rows(
        settings,
        "SELECT r, f, m, score::text, segment_id, recency_days, frequency, monetary FROM rfm_score_history LIMIT 1",
    )
    assert found == [(5, 4, 3, "4.1", "seg_543", 3, 2, 12_000)]


def test_a_replay_that_takes_another_way_still_leads_to_the_row(settings: Settings, feed: Feed) -> None:
    feed(told("09:00:00", "New"), told("09:30:00", "Dormant", "rescore"))
    # The worker died with this; in the replay the order came first, and the rescore found nothing to change.
    feed(told("09:15:00", "Active", "order 2"))
    feed(told("09:30:00", "Active", "rescore"))
    wanted = [("09:00:00", "New", "order 1"), ("09:30:00", "Dormant", "rescore")]
    assert changed(settings) == [*wanted, ("09:30:00.000001", "Active", "rescore")]


def test_changes_of_one_instant_are_taken_back_together(settings: Settings, feed: Feed) -> None:
    feed(told("09:00:00", "New"), told("09:30:00", "Loyal"), told("09:30:00", "Active"), told("09:30:00", "Dormant"))
    assert [at for at, *_ in changed(settings)] == ["09:00:00", "09:30:00", "09:30:00.000001", "09:30:00.000002"]
    feed(told("09:30:00", "Loyal"))
    assert [segment for _, segment, _ in changed(settings)] == ["New", "Loyal"]
    feed(told("09:30:00", "New"))
    assert [segment for _, segment, _ in changed(settings)] == ["New"]


# --- windows -----------------------------------------------------------------------------------------------------


def test_a_windows_last_row_replaces_it(settings: Settings, feed: Feed) -> None:
    feed(
        (topics.WINDOWS, "k", window(net=1)),
        (topics.WINDOWS, "k", window(net=2)),
        (topics.WINDOWS, "k", window(partition=1)),
    )
    feed((topics.WINDOWS, "k", window(net=3)))
    assert rows(settings, "SELECT partition, net FROM points_windows ORDER BY partition") == [(0, 3), (1, 12_000)]


def test_a_window_that_the_batch_closed_stays_closed(settings: Settings, feed: Feed) -> None:
    feed((topics.WINDOWS, "k", window(net=99)))
    with psycopg.connect(settings.database_url()) as connection:
        connection.execute("UPDATE points_windows SET partition = -1")  # as the batch closes one
    feed((topics.WINDOWS, "k", window(net=1)), (topics.WINDOWS, "k", window("2026-11-21T10:00:00Z", net=2)))
    found = rows(settings, "SELECT extract(hour FROM start)::int, partition, net FROM points_windows ORDER BY start")
    assert found == [(9, -1, 99), (10, 0, 2)]
    # What was refused is not lost: the batch is told to rebuild the window.
    assert rows(settings, "SELECT size, extract(hour FROM start)::int FROM late_windows") == [("hour", 9)]


def test_late_rows_are_noted_and_write_no_numbers(settings: Settings, feed: Feed) -> None:
    late = window(late=True, orders=0, net=0)
    feed((topics.WINDOWS, "k", late), (topics.WINDOWS, "k", late))
    first = rows(settings, "SELECT shop, size, start::text, noted_at FROM late_windows")
    assert [each[:3] for each in first] == [(SHOP, "hour", "2026-11-21 09:00:00+00")]
    feed((topics.WINDOWS, "k", late))
    again = rows(settings, "SELECT noted_at FROM late_windows")
    assert again[0][0] > first[0][3]  # noted anew: a batch that read before removes only what it read
    assert rows(settings, "SELECT count(*) FROM points_windows") == [(0,)]


# --- inputs ------------------------------------------------------------------------------------------------------


def test_an_envelope_of_our_own_is_kept_byte_for_byte(settings: Settings, feed: Feed) -> None:
    payload = {"id": 820982911946154508, "subtotal_price": "12.30", "customer": {"id": 7}}
    sent = envelope("orders/paid", payloads.minimise("orders/paid", payload))
    feed((topics.ORDERS, key("820982911946154508"), sent))
    found = rows(
        settings, "SELECT stream, key, shop, webhook_topic, webhook_id, triggered_at::text, value FROM raw_events"
    )
    assert found == [
        (
            *(topics.ORDERS, key("820982911946154508"), SHOP, "orders/paid", "w-1"),
            *("2026-11-21 09:30:00+00", codec.dumps(sent).decode()),
        )
    ]


def test_a_third_partys_envelope_is_minimised_first(settings: Settings, feed: Feed) -> None:
    payload = {
        "id": 1,
        "email": "ann@example.com",
        "customer": {"id": 7, "first_name": "Ann"},
        "shipping_address": {"address1": "1 Elm St"},
        "refunds": [{"id": 3, "note": "ann", "refund_line_items": [{"subtotal": 1.5, "quantity": 1}]}],
    }
    sent = envelope(
        "orders/paid", payload, shop=SHOP.upper(), sender="ann@example.com", triggered_at="20261121T103000+01"
    )
    feed((topics.ORDERS, key("1"), sent))
    ((value, shop, triggered_at),) = rows(settings, "SELECT value, shop, triggered_at::text FROM raw_events")
    assert (shop, triggered_at) == (SHOP, "2026-11-21 09:30:00+00")
    assert "ann" not in value.lower()
    assert "elm" not in value.lower()
    stored = codec.loads(value.encode())["payload"]
    assert stored["customer"] == {"id": 7}
    assert stored["refunds"][0]["refund_line_items"][0]["subtotal"] == "1.5"


@pytest.mark.parametrize("stream", [topics.ORDERS, topics.CUSTOMERS])
def test_the_history_keeps_the_time_that_is_believed(settings: Settings, feed: Feed, stream: str) -> None:
    """What the batch and a replay at any later time read, is what the fold believed of the record itself."""
    name = "orders/paid" if stream == topics.ORDERS else "customers/create"
    forged = "9998-01-01T00:00:00Z"
    sent = envelope(name, {"id": 7}, triggered_at=forged, received_at=forged)
    feed((stream, key("7"), sent))
    ((received_at, value),) = rows(settings, "SELECT received_at, value FROM raw_events")
    assert received_at == instants.to_datetime(1_795_253_405_000_000)
    folded = envelopes.read(codec.dumps(sent), stream, 1_795_253_405_000)
    assert folded.event_time == 1_795_253_405_000_000 + instants.CLOCK_SKEW
    assert envelopes.read(value.encode(), stream).event_time == folded.event_time
    assert envelopes.read(value.encode(), stream, 1_900_000_000_000).event_time == folded.event_time


def test_a_rescore_of_a_time_to_come_is_refused(settings: Settings, feed: Feed) -> None:
    feed(
        (
            topics.RESCORE,
            key("7"),
            {"shop": SHOP, "as_of": "9998-01-01T00:00:00Z", "version": "v", "slice": 0, "slices": 1},
        )
    )
    assert rows(settings, "SELECT count(*) FROM raw_events") == [(0,)]
    assert rows(settings, "SELECT error FROM dead_letters") == [("future_time",)]


def test_the_journal_has_the_raw_events_already(settings: Settings, feed: Feed) -> None:
    feed((topics.ORDERS, key("1"), envelope("orders/paid", {"id": 1})), journal=True)
    assert rows(settings, "SELECT count(*) FROM raw_events") == [(0,)]


def test_programs_cut_points_and_rescores(settings: Settings, feed: Feed) -> None:
    program = {"shop": SHOP, "currency": "USD", "rules": [{"points_per_unit": "1"}]}
    cut_points = {
        "shop": SHOP,
        "version": "v1",
        "as_of": "2026-11-21T00:00:00Z",
        "customers": 60,
        "recency": [1, 2, 3, 4],
        "frequency": [1, 1, 2, 3],
        "monetary": [10, 20, 30, 2**40],
    }
    rescore = {"shop": SHOP, "as_of": "2026-11-21T00:00:00Z", "version": "v1", "slice": 0, "slices": 1}
    feed(
        (topics.PROGRAMS, SHOP, program),
        (topics.PROGRAMS, SHOP, {**program, "zone": "Europe/Berlin"}),
        (topics.CUT_POINTS, f"{SHOP}/v1", cut_points),
        (topics.RESCORE, key("run.7"), rescore),
    )
    assert rows(settings, "SELECT program ->> 'zone' FROM programs") == [("Europe/Berlin",)]
    assert rows(settings, "SELECT version, customers, monetary FROM cut_points") == [("v1", 60, [10, 20, 30, 2**40])]
    raw = rows(settings, "SELECT stream, triggered_at = received_at, webhook_topic FROM raw_events ORDER BY id")
    assert raw == [(name, True, None) for name in (topics.PROGRAMS, topics.PROGRAMS, topics.CUT_POINTS, topics.RESCORE)]


def program(**changes: Any) -> dict[str, Any]:
    return {"shop": SHOP, "currency": "USD", "rules": [{"points_per_unit": "1"}], **changes}


def later(at: str, rate: str = "2") -> dict[str, Any]:
    return {"effective_from": at, "points_per_unit": rate}


def test_programs_are_joined_whatever_batch_they_come_in(settings: Settings, feed: Feed) -> None:
    """Two that were made from one, by processes that did not know of each other: every rule is there."""
    ever = program()["rules"]
    first = (topics.PROGRAMS, SHOP, program(zone="Europe/Berlin"))
    one = (topics.PROGRAMS, SHOP, program(rules=[*ever, later("2026-12-01T00:00:00Z")]))
    other = (topics.PROGRAMS, SHOP, program(rules=[*ever, later("2026-12-24T00:00:00Z", "3")], zone="Asia/Tokyo"))
    feed(first)
    feed(one, other)
    feed(one)
    (found,) = rows(settings, "SELECT program FROM programs")
    assert [rule["points_per_unit"] for rule in found[0]["rules"]] == ["1", "2", "3"]
    assert rows(settings, "SELECT count(*) FROM dead_letters") == [(0,)]


def test_a_forged_program_becomes_a_dead_letter(settings: Settings, feed: Feed) -> None:
    ever = program()["rules"]
    feed((topics.PROGRAMS, SHOP, program(zone="Europe/Berlin")))
    before = rows(settings, "SELECT program FROM programs")
    backdated = program(rules=[*ever, later("2026-01-01T00:00:00Z")], announced_at="2025-12-31T00:00:00Z")
    feed(
        (topics.PROGRAMS, SHOP, program(currency="JPY")),
        (topics.PROGRAMS, SHOP, program(rules=[{"points_per_unit": "1000"}])),
        (topics.PROGRAMS, SHOP, program(rules=[*ever, later("2026-11-21T09:44:59Z")])),
        (topics.PROGRAMS, SHOP, backdated),
        (topics.PROGRAMS, "other.myshopify.com", program(zone="Asia/Tokyo")),
        (topics.PROGRAMS, SHOP, program(grid=[["x" * 8000] * 5] * 5)),
        (topics.PROGRAMS, SHOP, program(grid=[["a\0b"] * 5] * 5)),
    )
    assert rows(settings, "SELECT program FROM programs") == before
    letters = rows(settings, 'SELECT error FROM dead_letters ORDER BY "offset"')
    refused = ["other_currency", "rules_rewritten", "rule_too_soon", "rule_too_soon", "wrong_key"]
    assert [error for (error,) in letters] == [*refused, "bad_record", "bad_record"]


def test_cut_points_of_a_time_to_come_become_a_dead_letter(settings: Settings, feed: Feed) -> None:
    """They would keep every later batch of the shop from publishing."""
    thresholds = {name: [1, 2, 3, 4] for name in ("recency", "frequency", "monetary")}
    found = {"shop": SHOP, "version": "v1", "as_of": "9998-01-01T00:00:00Z", "customers": 60, **thresholds}
    feed((topics.CUT_POINTS, f"{SHOP}/v1", found))
    assert rows(settings, "SELECT count(*) FROM cut_points") == [(0,)]
    assert rows(settings, "SELECT error FROM dead_letters") == [("future_time",)]


# --- redactions --------------------------------------------------------------------------------------------------


def keys_of(settings: Settings) -> dict[tuple[str, str], tuple[bool, bool]]:
    """(shop, customer) -> (has a key, was destroyed)."""
    found = rows(settings, "SELECT shop, customer_id, wrapped IS NOT NULL, destroyed_at IS NOT NULL FROM customer_keys")
    return {(shop, ident): (has, destroyed) for shop, ident, has, destroyed in found}


def _make_keys(settings: Settings, *pairs: tuple[str, str]) -> None:
    with psycopg.connect(settings.database_url()) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO customer_keys (shop, customer_id, wrapped, created_at) VALUES (%s, %s, 'k', '2020-01-01Z')",
            pairs,
        )


OTHER = "other.myshopify.com"


def test_customers_redact_destroys_the_key_and_the_contact(settings: Settings, feed: Feed) -> None:
    _make_keys(settings, (SHOP, "7"), (SHOP, "8"), (SHOP, "dead-letters"), (OTHER, "7"))
    feed(row("7", contact="v1.sealed", consent="v1.yes"), row("8", contact="v1.sealed", consent="v1.yes"))
    feed(
        (
            topics.CUSTOMERS,
            key("7"),
            envelope("customers/redact", {"shop_domain": SHOP, "customer": {"id": 7, "email": "ann@x.de"}}),
        )
    )
    assert keys_of(settings) == {(SHOP, "7"): (False, True), (SHOP, "8"): (True, False), (OTHER, "7"): (True, False)}
    contacts = rows(settings, "SELECT customer_id, contact, consent FROM customers ORDER BY customer_id")
    assert contacts == [("7", None, None), ("8", "v1.sealed", "v1.yes")]
    assert rows(settings, "SELECT count(*) FROM raw_events WHERE value LIKE '%%ann%%'") == [(0,)]


def test_a_redaction_of_somebody_without_a_key_forbids_one(settings: Settings, feed: Feed) -> None:
    feed(
        (topics.CUSTOMERS, key("7"), envelope("customers/redact", {"shop_domain": SHOP, "customer": {"id": 7}})),
        journal=True,
    )
    assert keys_of(settings) == {(SHOP, "7"): (False, True)}


def test_a_redacted_row_has_no_contact(settings: Settings, feed: Feed) -> None:
    feed(row("7", contact="v1.sealed", consent="v1.yes", redacted=True))
    assert rows(settings, "SELECT contact, consent, redacted FROM customers") == [(None, None, True)]


def test_shop_redact_destroys_every_key_of_the_shop(settings: Settings, feed: Feed) -> None:
    _make_keys(settings, (SHOP, "7"), (SHOP, "8"), (SHOP, "dead-letters"), (SHOP, "addresses"), (OTHER, "7"))
    feed(row("7", contact="v1.sealed"), row("8", consent="v1.yes"))
    feed((topics.SHOPS, SHOP, envelope("shop/redact", {"shop_id": 1, "shop_domain": SHOP})))
    assert not any(has for (shop, _), (has, _) in keys_of(settings).items() if shop == SHOP)
    assert (SHOP, "addresses") not in keys_of(settings), "whoever comes back begins anew"
    assert keys_of(settings)[OTHER, "7"] == (True, False)
    assert rows(settings, "SELECT DISTINCT contact, consent FROM customers") == [(None, None)]


# --- dead letters ------------------------------------------------------------------------------------------------

UNREADABLE = [
    (topics.ORDERS, b"{", "bad_envelope"),
    (topics.ORDERS, None, "empty"),
    (topics.CUSTOMERS, envelope("orders/paid", {"id": 1}), "wrong_topic"),
    (topics.ORDERS, envelope("orders/paid", {"id": {"deep": 1}}), "bad_id"),
    (topics.ORDERS, envelope("orders/paid", {}, shop="example.com"), "bad_shop"),
    (topics.ORDERS, envelope("orders/paid", {}, triggered_at="2026-11-21T09:30:00"), "naive_time"),
    (topics.CUSTOMERS, envelope("customers/redact", {}), "wrong_shape"),
    (topics.POINTS, b"[]", "bad_record"),
    (topics.POINTS, {**points("1", "7", 1, "a"), "total": "many"}, "bad_record"),
    (topics.CUSTOMER_ROWS, customer("7", balance=None), "bad_record"),
    (topics.WINDOWS, window(size="week"), "bad_record"),
    (topics.PROGRAMS, {"shop": SHOP}, "bad_record"),
    (topics.CUT_POINTS, b"", "bad_record"),
    (topics.RESCORE, b"null", "bad_record"),
    (topics.DEAD_LETTERS, b"{}", "bad_record"),
]


@pytest.mark.parametrize(("topic", "value", "error"), UNREADABLE, ids=[f"{t}-{e}" for t, _, e in UNREADABLE])
def test_what_cannot_be_read_is_a_dead_letter_and_stops_nothing(
    settings: Settings, feed: Feed, topic: str, value: Any, error: str
) -> None:
    batch = feed((topic, key("7"), value), (topics.POINTS, key("7"), points("1", "7", 1, "a")))
    assert rows(settings, 'SELECT source, partition, "offset", error FROM dead_letters') == [(topic, 0, 0, error)]
    assert rows(settings, "SELECT count(*) FROM points_transactions") == [(1,)]
    assert rows(settings, "SELECT count(*) FROM raw_events") == [(0,)]
    assert batch.letters == {(topic, error): 1}


def test_a_webhook_that_nobody_uses_is_counted_and_passed(settings: Settings, feed: Feed) -> None:
    batch = feed((topics.ORDERS, key("7"), envelope("orders/ann@x.de", {})))
    assert batch.ignored == 1
    assert rows(settings, "SELECT (SELECT count(*) FROM dead_letters), (SELECT count(*) FROM raw_events)") == [(0, 0)]


def test_a_dead_letter_of_ours_is_stored_once(settings: Settings, feed: Feed) -> None:
    letter = {
        "id": UUIDS[1],
        "at": "2026-11-21T09:30:00Z",
        "shop": None,
        "source": "webhook",
        "partition": None,
        "offset": None,
        "key": "a\0b",
        "error": "bad_json",
        "detail": "d",
        "value": None,
        "sealed": "v1.x",
    }
    for _ in range(2):
        feed((topics.DEAD_LETTERS, None, letter))
    found = rows(settings, "SELECT id::text, shop, key, sealed FROM dead_letters")
    assert found == [(UUIDS[1], None, "a\N{REPLACEMENT CHARACTER}b", "v1.x")]


def test_a_message_without_a_key_is_archived_all_the_same(settings: Settings, feed: Feed) -> None:
    feed((topics.ORDERS, None, envelope("orders/paid", {"id": 1})))
    assert rows(settings, "SELECT key FROM raw_events") == [("",)]


# --- live --------------------------------------------------------------------------------------------------------


def test_those_who_listen_hear_of_each_shop_once_a_batch(settings: Settings, feed: Feed) -> None:
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute("LISTEN loyalnest_live")
        feed(row("1"), row("2"), (topics.POINTS, key("1", OTHER), points("1", "1", 1, "a", shop=OTHER)))
        heard = [codec.loads(each.payload.encode()) for each in connection.notifies(timeout=5, stop_after=2)]
    assert [each["shop"] for each in heard] == [SHOP, OTHER]
    assert all(each["at"].endswith("Z") for each in heard)


# --- arrays ------------------------------------------------------------------------------------------------------


def test_each_column_goes_as_an_array_of_its_own_type(settings: Settings) -> None:
    query = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'"
    stored = {(table, column): kind for table, column, kind in rows(settings, query)}
    for table in COLUMNS.keys() - {"raw_events", "programs", "program_versions", "cut_points"}:  # these go otherwise
        sent = {name: sink_store.TYPES.get(name, "text") for name in COLUMNS[table]}
        assert sent == {name: stored[table, name] for name in COLUMNS[table]}, table


def test_an_array_holds_any_text(settings: Settings) -> None:
    plain = ["", "a", "NULL", "null", None, "{}", "{a,b}", ",", " ", "\n\t", "Ä€\U0001f600"]
    marked = ['"', "\\", 'a"b', '\\"', "\\n", '","', None]
    for values in ([], [None], plain, marked, plain + marked):
        with psycopg.connect(settings.database_url()) as connection:
            assert connection.execute("SELECT %s::text[]", [array(values)]).fetchone() == (values,)
    with psycopg.connect(settings.database_url()) as connection:
        found = connection.execute(
            "SELECT %s::bigint[], %s::boolean[]", [array([2**63 - 1, None]), array([True, False])]
        )
        assert found.fetchone() == ([2**63 - 1, None], [True, False])


# --- awards ------------------------------------------------------------------------------------------------------


def award(points: int, at: str = "2026-11-20T08:00:00Z", **more: Any) -> Sent:
    said = {"customer_id": "7", "award_id": "a-1", "at": at, "points": points, "source": "api", **more}
    told = envelope("account/award", said, webhook_id=f"award/a-1/{abs(points):016x}")
    return topics.REQUESTS, key("7"), told


AWARDS = "SELECT at::text, points, reason, source, counts_as_earned, voided_at::text FROM awards ORDER BY award_id"
AT = "2026-11-20 08:00:00+00"
BODIES = [
    award(5),
    award(5, reason="z", counts_as_earned=True),
    award(5, reason="Z"),
    award(5, reason="\U0001f600"),
    award(5, reason="\uff5e"),
    award(-90, "2026-11-20T07:59:59.999999Z"),
]


@pytest.mark.parametrize("journal", [False, True])
def test_of_an_awards_bodies_the_greatest_stands_in_whatever_order_and_batches(
    settings: Settings, feed: Feed, journal: bool
) -> None:
    for several in (BODIES, BODIES[::-1], BODIES[3:] + BODIES[:3]):
        for batch in (several[:4], several[4:], several[:1]):
            feed(*batch, journal=journal)
        # By code point: a database that compares as its language does has them otherwise.
        assert rows(settings, AWARDS) == [(AT, 5, "\U0001f600", "api", False, None)]
        with psycopg.connect(settings.database_url()) as connection:
            connection.execute("TRUNCATE awards")
    for each in BODIES:
        feed(each, journal=journal)
    assert rows(settings, AWARDS) == [(AT, 5, "\U0001f600", "api", False, None)]
    kept = [] if journal else [("loyalnest.requests", "account/award")]
    assert rows(settings, "SELECT DISTINCT stream, webhook_topic FROM raw_events") == kept


def test_an_award_that_was_taken_back_stays_so(settings: Settings, feed: Feed) -> None:
    taken = award(5, voided=True)
    feed(award(5))
    told = rows(settings, "SELECT stored_at FROM awards")
    feed(award(5))
    assert rows(settings, "SELECT stored_at FROM awards") == told, "nothing new"
    feed(taken)
    feed(award(5), award(6))
    assert rows(settings, AWARDS) == [(AT, 6, "", "api", False, "2026-11-21 09:30:00+00")]
    assert rows(settings, "SELECT stored_at FROM awards") > told
    feed(award(9, award_id="a-2"))
    feed(award(8, award_id="a-2", voided=True))
    assert rows(settings, AWARDS)[1] == (AT, 9, "", "api", False, "2026-11-21 09:30:00+00"), "it took back the award"


def test_whoever_waits_for_an_award_is_told_and_one_that_cannot_be_used_is_the_workers(
    settings: Settings, feed: Feed
) -> None:
    with psycopg.connect(settings.database_url(), autocommit=True) as connection:
        connection.execute("LISTEN loyalnest_live")
        made = feed(award(5, at="soon"), award(0, award_id="a-2"), award(10**14, award_id="a-3"))
        heard = [codec.loads(each.payload.encode()) for each in connection.notifies(timeout=5, stop_after=1)]
    assert [each["shop"] for each in heard] == [SHOP]
    assert rows(settings, "SELECT award_id FROM awards") == [("a-2",)]
    assert [letter[7] for letter in made.dead_letters] == ["bad_time"], "not of its form: the sink's to refuse, too"
