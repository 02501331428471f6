"""Notices from the sink's rows to real receivers on loopback: signed, in order, once, tried again."""

import asyncio
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time_ns
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from standardwebhooks import WebhookVerificationError

from batch import runs
from books import notices, schema
from events import codec, instants, topics
from notices import main as notifying
from runtime.settings import Settings
from streams.sink import store as sink_store
from streams.sink.rows import Rows
from tables.chunks import Received
from tests import killed
from tests.integration.api_world import OTHER, PROGRAM, SHOP, World, opened
from tests.processes import Forked
from tests.receivers import Got, Receiver, receiving, well
from tests.sinks import customer, key, points, ran_out, standing, wait


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(
    params=[
        "database",
        pytest.param("real_database", marks=pytest.mark.server),
        pytest.param("real_plain_database", marks=pytest.mark.server),
    ]
)
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database, notices_private=True) as running:
        running.program()
        running.program(**{**PROGRAM, "shop": OTHER})
        yield running


def ago(**how_long: float) -> str:
    """A time before now, as records have it."""
    return instants.text(instants.from_datetime(datetime.now(UTC) - timedelta(**how_long)))


class Store:
    """What the sink stores of messages, each call in one transaction; and who is told of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._count = 0

    def sql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True, options="-c timezone=UTC") as connection:
            cursor = connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def feed(self, *messages: tuple[str, str, dict[str, Any]]) -> None:
        batch = Rows(journal=False)
        for topic, name, value in messages:
            self._count += 1
            at = time_ns() // 1_000_000
            batch.add(Received(topic, 0, self._count, at, name.encode(), codec.dumps(value)))
        assert not batch.dead_letters, batch.dead_letters
        with psycopg.connect(self.url, options="-c timezone=UTC") as connection:
            sink_store.prepare(connection)
            with connection.transaction(), connection.cursor() as cursor:
                sink_store.write(cursor, batch)

    def post(self, order: str, total: int = 100, revision: str = "a", shop: str = SHOP, **more: Any) -> None:
        changed = {"changed_at": ago(), "shop": shop, **more}
        self.feed((topics.POINTS, key("7", shop), points(order, "7", total, revision, **changed)))

    def row(self, segment: str, ident: str = "7", shop: str = SHOP, **more: Any) -> None:
        told = {"now": ago(), "shop": shop, **more}
        self.feed((topics.CUSTOMER_ROWS, key(ident, shop), customer(ident, segment, **told)))

    def endpoint(
        self, *events: str, shop: str = SHOP, since: str = "1970-01-01T00:00:00Z", to: str = "https://a.b/"
    ) -> UUID:
        made = uuid4()
        self.sql(
            "INSERT INTO notice_endpoints (id, shop, url, events, created_at) VALUES (%s, %s, %s, %s, %s)",
            *(made, shop, to, list(events or notices.EVENTS), since),
        )
        return made

    def told(self) -> list[tuple[str, str]]:
        return [(event, str(message)) for event, message in self.sql("SELECT event, message FROM notices ORDER BY id")]

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for (body,) in self.sql("SELECT body FROM notices ORDER BY id")]


@pytest.fixture
def store(url: str) -> Store:
    return Store(url)


# --- what is told ------------------------------------------------------------------------------------------------


def test_points_and_changes_of_segment_are_told_without_personal_data(store: Store) -> None:
    store.endpoint()
    at = ago(hours=1)
    store.post("450789469", 129, changed_at=at)
    store.row("Loyal", contact="v1.sealed", now=at)
    store.row("Champions", contact="v1.sealed", now=ago())
    store.row("Champions", contact="v1.sealed", now=ago(), balance=7)
    posted, first, moved = store.bodies()
    entry = store.sql("SELECT id FROM points_transactions")[0][0]
    data = {"shop": SHOP, "customer_id": "7", "entry": str(entry), "kind": "earned", "points": 129}
    assert posted == {
        "type": "points.posted",
        "timestamp": at,
        "data": {**data, "source": "order", "source_id": "450789469"},
    }
    assert (first["data"]["previous"], first["data"]["segment"]) == (None, "Loyal")
    digits = {"segment_id": "seg_543", "r": 5, "f": 4, "m": 3}
    assert moved["data"] == {
        "shop": SHOP,
        "customer_id": "7",
        "previous": "Loyal",
        "segment": "Champions",
        "cause": "order 1",
        **digits,
    }
    assert "sealed" not in json.dumps(store.bodies())
    assert [ident for _, ident in store.told()] == [
        str(entry),
        *[str(ident) for (ident,) in store.sql("SELECT id FROM rfm_segment_deltas ORDER BY at")],
    ]


def test_a_change_of_digits_within_a_segment_is_none_of_segment(store: Store) -> None:
    store.endpoint()
    store.row("Loyal")
    store.row("Loyal", standing=standing("Loyal", r=4, segment_id="seg_443"))
    assert len(store.sql("SELECT 1 FROM rfm_score_history")) == 2
    assert len(store.told()) == 1


def test_who_asked_for_one_kind_hears_of_that(store: Store) -> None:
    one, both = store.endpoint("points.posted"), store.endpoint()
    store.post("1")
    store.row("Loyal")
    heard = store.sql("SELECT endpoint, event FROM notices ORDER BY event, id")
    assert sorted(heard, key=str) == sorted(
        [(one, "points.posted"), (both, "points.posted"), (both, "segment.changed")], key=str
    )
    assert len({message for _, message in store.told()}) == 2, "one id, whoever hears it"


def test_of_two_shops_each_hears_its_own(store: Store) -> None:
    mine, theirs = store.endpoint(), store.endpoint(shop=OTHER)
    store.post("1")
    store.post("2", shop=OTHER)
    assert store.sql("SELECT endpoint, shop FROM notices ORDER BY id") == [(mine, SHOP), (theirs, OTHER)]


def test_a_replay_of_records_tells_nothing_again(store: Store) -> None:
    store.endpoint()
    for _ in range(3):
        store.post("1", changed_at="2026-11-21T09:30:00Z")
        store.row("Loyal", now="2026-11-21T09:30:00Z")
    assert len(store.told()) == 2


def test_what_happened_before_the_endpoint_and_long_ago_is_no_news(store: Store) -> None:
    store.endpoint(since=ago(hours=2))
    store.post("1", changed_at=ago(hours=3))
    store.post("2", changed_at=ago(hours=1))
    assert [each["data"]["source_id"] for each in store.bodies()] == ["2"]
    store.endpoint()
    store.post("3", changed_at=ago(days=31))
    store.row("Loyal", now=ago(days=31))
    store.post("4", changed_at=ago(days=29))
    assert [each["data"]["source_id"] for each in store.bodies()] == ["2", "4"]


def test_balances_that_are_brought_in_are_no_news(store: Store) -> None:
    store.endpoint()
    for source, name in itertools.product(("award", "deduction"), ("import-balance", "import:a-1", "important")):
        store.post(name, source=source, processed_at=ago())
    store.post("import-balance", source="redeem", total=-5, processed_at=ago())
    told = [(each["data"]["source"], each["data"]["source_id"]) for each in store.bodies()]
    assert told == [("award", "important"), ("deduction", "important"), ("redeem", "import-balance")]


def rebuilt(store: Store) -> None:
    """What `rebuild` does before the history is taken in again."""
    with psycopg.connect(store.url) as connection:
        connection.execute(notices.REMEMBER.encode())
        connection.execute(f"TRUNCATE {', '.join(schema.DERIVED)}".encode())


def test_a_rebuild_tells_nothing_again_whatever_its_steps_are(store: Store) -> None:
    store.endpoint()
    first, second, third = ago(hours=3), ago(hours=2), ago(hours=1)

    def history(*, steps: bool) -> None:
        store.post("1", changed_at=first)
        store.post("1", 40, "b", changed_at=second)
        store.row("Loyal", now=first)
        if steps:  # in other chunks more is seen of the way, and what follows has another id
            store.row("At risk", now=second)
            store.row("Loyal", now=third)  # the next of the same instant is stored just after it
        store.row("Champions", now=third)

    history(steps=False)
    told = store.told()
    assert len(told) == 4
    for _ in range(2):  # the second begins in the midst of the first
        rebuilt(store)
        history(steps=True)
        assert len(store.sql("SELECT 1 FROM rfm_segment_deltas")) == 4
        assert store.told() == told
    store.post("2", changed_at=ago())
    store.row("Loyal", now=ago())
    assert [event for event, _ in store.told()[4:]] == ["points.posted", "segment.changed"]


def test_what_ran_out_on_a_day_is_told_when_it_is_another_number(store: Store) -> None:
    """Not what is stored again as it is, nor what a rebuild finds again, on whichever way."""
    store.endpoint("points.posted")
    store.endpoint("points.expired")
    day, at = ago(days=2)[:10], f"{ago(days=2)[:10]}T00:00:00Z"

    def tell(*several: int) -> None:
        for number in several:
            store.feed((topics.POINTS, key("7", SHOP), ran_out("7", day, number, shop=SHOP)))

    tell(70, 70, 50, 0)
    told = store.bodies()
    assert told[0] == {
        "type": "points.expired",
        "timestamp": at.replace("Z", ".000000Z"),
        "data": {"shop": SHOP, "customer_id": "7", "day": day, "points": 70, "previous": 0},
    }
    assert [(each["data"]["points"], each["data"]["previous"]) for each in told[1:]] == [(50, 70), (0, 50)]
    store.feed((topics.POINTS, key("7", SHOP), ran_out("7", ago(days=40)[:10], 5, shop=SHOP)))  # no news
    store.row("Loyal", now=ago(days=1))
    rebuilt(store)
    tell(0, 70, 0)
    assert store.bodies() == told


def test_a_batch_that_was_published_is_told_with_its_end(store: Store) -> None:
    store.endpoint()
    for published in (False, True):
        with psycopg.connect(store.url, autocommit=True) as connection:
            as_of = datetime(2026, 11, 21, 2, tzinfo=UTC)
            run = runs.begin(connection, SHOP, as_of)
            connection.execute("UPDATE batch_runs SET version = 'v7', customers = 3 WHERE id = %s", [run])
            if published:
                runs.note_published(connection, run)
            report = runs.RunReport(
                *(run, SHOP, as_of, "v7", published, 3, 2, {}, 2, 1, 0, None, 0, 9, 0, 1.0),
            )
            assert store.told() == []
            runs.finish(connection, report)
    (body,) = store.bodies()
    assert store.told() == [("batch.done", str(run))]
    assert body["data"] == {
        "shop": SHOP,
        "run": str(run),
        "as_of": "2026-11-21T02:00:00.000000Z",
        "version": "v7",
        "customers": 3,
    }


#: How many days before points run out it is told, as the settings have it.
DAYS: list[int] = Settings.model_fields["expiring_days"].default


def night(store: Store, *days: int, killed: bool = False) -> None:
    """A nightly run that was published, to its end; or to where it is killed, when its last transaction is not done."""
    with psycopg.connect(store.url, autocommit=True) as connection:
        as_of = datetime.now(UTC)
        run = runs.begin(connection, SHOP, as_of)
        runs.note_published(connection, run)
        report = runs.RunReport(*(run, SHOP, as_of, "v7", True, 3, 2, {}, 2, 1, 0, None, 0, 9, 0, 1.0))
        if not killed:
            runs.finish(connection, report, days or DAYS)
            return
        with suppress(psycopg.errors.QueryCanceled), connection.transaction():
            runs.finish(connection, report, DAYS)
            raise psycopg.errors.QueryCanceled


def expiring(store: Store) -> list[tuple[str, int, int]]:
    """(customer, points, days) of each message, in order."""
    found = [each["data"] for each in store.bodies() if each["type"] == "points.expiring"]
    return [(each["customer_id"], each["points"], each["days"]) for each in found]


def test_who_has_points_that_run_out_soon_is_told_once_of_each_number_of_days(store: Store) -> None:
    store.endpoint("points.expiring")
    at = ago(days=-20)
    store.row("Loyal", expiring=40, expires_at=at, contact="v1.sealed")
    store.row("Loyal", "8", expiring=9, expires_at=ago(days=-3))
    store.row("Loyal", "9", expiring=9, expires_at=ago(days=-31))
    night(store, killed=True)
    assert store.bodies() == []
    night(store)
    first, second = store.bodies()
    assert first["data"]["customer_id"] == "8", "whose points run out first"
    assert second["data"] == {"shop": SHOP, "customer_id": "7", "points": 40, "expires_at": at, "days": 30}
    assert (first["data"]["days"], second["type"]) == (7, "points.expiring")
    # Some were spent, and the batch ran again: of this run-out everything is said.
    store.row("Loyal", now=ago(seconds=-1), expiring=15, expires_at=at)
    night(store)
    assert expiring(store) == [("8", 9, 7), ("7", 40, 30)]
    # Nearer, and another one.
    night(store, 25, 21)
    night(store, 21)
    store.row("Loyal", "8", now=ago(seconds=-1), expiring=3, expires_at=ago(days=-6))
    night(store)
    assert expiring(store)[2:] == [("8", 9, 21), ("7", 15, 21), ("8", 3, 7)]


def test_nobody_is_told_of_points_that_are_not_theirs_or_gone(store: Store) -> None:
    store.endpoint()
    soon: dict[str, Any] = {"expiring": 5, "expires_at": ago(days=-2)}
    apart: list[dict[str, Any]] = [{"merged_into": "9"}, {"deleted": True}, {"redacted": True}]
    for ident, more in enumerate([*apart, {"expires_at": ago(days=1)}, {"expiring": 0}]):
        store.row("Loyal", str(ident), **{**soon, **more})
    store.row("Loyal", "77", shop=OTHER, **soon)
    night(store)
    assert expiring(store) == []
    store.row("Loyal", "6", **soon)
    night(store)
    assert expiring(store) == [("6", 5, 7)]


def test_a_run_that_publishes_nothing_tells_nobody_that_points_run_out(store: Store) -> None:
    store.endpoint()
    store.row("Loyal", expiring=5, expires_at=ago(days=-2))
    with psycopg.connect(store.url, autocommit=True) as connection:
        run = runs.begin(connection, SHOP, datetime.now(UTC))
        report = runs.RunReport(*(run, SHOP, datetime.now(UTC), "v", False, 3, 2, {}, 2, 1, 0, None, 0, 9, 0, 1.0))
        runs.finish(connection, report, DAYS)
    assert expiring(store) == []


def test_without_an_endpoint_nothing_is_kept(store: Store) -> None:
    store.endpoint(shop=OTHER)
    store.post("1")
    store.row("Loyal")
    assert store.told() == []


# --- sending -----------------------------------------------------------------------------------------------------


@contextmanager
def sending(world: World, **changes: Any) -> Iterator[notifying.Notifier]:
    """Who sends notices, in a thread."""
    settings = world.services.settings.model_copy(update=changes)
    ready: list[tuple[notifying.Notifier, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        made = notifying.Notifier(settings)
        ready.append((made, asyncio.get_running_loop()))
        await made.run()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    wait(lambda: bool(ready))
    notifier, loop = ready[0]
    try:
        yield notifier
    finally:
        loop.call_soon_threadsafe(notifier.end)
        thread.join(20)
        assert not thread.is_alive()


def create(world: World, url: str, *events: str, shop: str = SHOP) -> dict[str, Any]:
    """A new endpoint by the API: its id and secret."""
    told = {"url": url, "events": list(events or notices.EVENTS)}
    answer = world.client.post(f"/v1/shops/{shop}/webhooks", headers=world.key("admin", shop=shop), json=told)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def now_due(world: World) -> None:
    """As if the waits were over."""
    world.sql("UPDATE notices SET due_at = now() WHERE status = 'waiting'")
    world.sql("UPDATE notice_endpoints SET rests_until = now() WHERE rests_until IS NOT NULL")


def statuses(world: World) -> list[str]:
    return [row["status"] for row in world.sql("SELECT status FROM notices ORDER BY id")]


def failing(times: int) -> Callable[[Got], tuple[int, dict[str, str], bytes]]:
    left = [times]

    def answer(_: Got) -> tuple[int, dict[str, str], bytes]:
        left[0] -= 1
        return (500 if left[0] >= 0 else 200), {}, b"{}"

    return answer


def test_what_happens_arrives_signed_in_order_and_once(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url())
    store = Store(world.url)
    with sending(world):
        for number in range(30):
            store.post(str(number), changed_at=ago())
        store.row("Loyal")
        wait(lambda: set(statuses(world)) == {"done"} and len(receiver.got) == 31)
    messages = [each.verified(made["secret"]) for each in receiver.got]
    assert [each["data"]["source_id"] for each in messages[:30]] == [str(number) for number in range(30)]
    assert messages[30]["type"] == "segment.changed"
    assert receiver.ids == [message for _, message in store.told()]
    assert {each.headers["content-type"] for each in receiver.got} == {"application/json"}
    with pytest.raises(WebhookVerificationError):
        receiver.got[0].verified(create(world, receiver.url("/other"))["secret"])


def test_a_failure_is_tried_again_and_lets_others_pass(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url())
    store = Store(world.url)
    receiver.answer = failing(1)
    store.post("1", changed_at=ago())
    store.post("2", changed_at=ago())
    with sending(world):
        wait(lambda: len(receiver.got) == 2)
        wait(lambda: statuses(world) == ["waiting", "done"])
        (failed,) = world.sql(
            "SELECT attempts, code, error, due_at - now() AS left FROM notices WHERE status = 'waiting'"
        )
        assert (failed["attempts"], failed["code"], failed["error"]) == (1, 500, "status")
        assert timedelta() < failed["left"] < timedelta(seconds=7)
        now_due(world)
        wait(lambda: statuses(world) == ["done", "done"])
    one, two, again = receiver.got
    assert (one.id, one.body) == (again.id, again.body)
    assert two.id != one.id
    assert again.verified(made["secret"])["data"]["source_id"] == "1"


def test_a_redirect_is_not_followed(world: World, receiver: Receiver) -> None:
    with receiving() as elsewhere:
        create(world, receiver.url())
        receiver.answer = lambda _: (307, {"Location": elsewhere.url("/inside")}, b"")
        Store(world.url).post("1")
        with sending(world):
            wait(lambda: bool(world.sql("SELECT 1 FROM notices WHERE error = 'redirect' AND code = 307")))
        assert (len(receiver.got), elsewhere.got) == (1, [])


def test_a_slow_receiver_holds_up_nobody_else(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notices.sending.SECONDS", 2.0)
    released = threading.Event()

    def slow(_: Got) -> tuple[int, dict[str, str], bytes]:
        released.wait(20)
        return 200, {}, b""

    with receiving() as quick:
        create(world, receiver.url())
        create(world, quick.url(), shop=OTHER)
        receiver.answer = slow
        store = Store(world.url)
        store.post("1")
        try:
            with sending(world):
                wait(lambda: len(receiver.got) == 1)
                store.post("2", shop=OTHER)
                wait(lambda: len(quick.got) == 1)
                assert statuses(world)[0] == "waiting", "the slow one is still being waited for, or was given up"
                wait(lambda: bool(world.sql("SELECT 1 FROM notices WHERE error = 'timeout'")))
        finally:
            released.set()


def test_who_refuses_the_connection_is_unreachable(world: World) -> None:
    with receiving() as gone:
        url = gone.url()
    create(world, url)
    Store(world.url).post("1")
    with sending(world):
        wait(lambda: bool(world.sql("SELECT 1 FROM notices WHERE error = 'unreachable' AND code IS NULL")))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "loyalnest.rebinding.test"])
def test_nothing_goes_to_an_address_of_ours(
    world: World, receiver: Receiver, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint was taken (by another setting, at another address): what counts is whom a connection would go to."""
    resolve = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def rebound(loop: Any, name: Any, *args: Any, **kwargs: Any) -> Any:
        return await resolve(loop, "127.0.0.1" if name == "loyalnest.rebinding.test" else name, *args, **kwargs)

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", rebound)
    create(world, receiver.url(host=host))
    store = Store(world.url)
    store.post("1")
    with sending(world, notices_private=False):
        wait(lambda: bool(world.sql("SELECT 1 FROM notices WHERE error = 'refused_address'")))
    assert receiver.got == []
    with sending(world):  # where it is allowed
        now_due(world)
        wait(lambda: len(receiver.got) == 1)


def test_an_endpoint_that_keeps_failing_rests_and_comes_back(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url())
    store = Store(world.url)
    receiver.answer = failing(6)
    for number in range(8):
        store.post(str(number), changed_at=ago())
    (path, admin) = f"/v1/shops/{SHOP}/webhooks", world.key("admin")

    def shown() -> Any:
        return world.client.get(path, headers=admin).json()["endpoints"][0]

    with sending(world):
        wait(lambda: bool(shown()["rests_until"]))
        assert len(receiver.got) == 5, "after so many in a row nothing more is sent"
        assert (shown()["failures"], shown()["waiting"]) == (5, 8)
        now_due(world)
        wait(lambda: shown()["failures"] == 6)
        assert len(receiver.got) == 6, "one is tried, and it rests again"
        now_due(world)
        wait(lambda: set(statuses(world)) == {"done"})
        assert (shown()["failures"], shown()["rests_until"], shown()["id"]) == (0, None, made["id"])
    assert len(set(receiver.ids)) == 8


@pytest.mark.parametrize(("status", "said"), [(429, "3600"), (503, "Wed, 01 Jan 2200 00:00:00 GMT")])
def test_who_asks_to_be_left_alone_is(world: World, receiver: Receiver, status: int, said: str) -> None:
    create(world, receiver.url())
    store = Store(world.url)
    for number in range(3):
        store.post(str(number), changed_at=ago())
    receiver.answer = lambda _: (status, {"Retry-After": said}, b"")
    with sending(world):
        wait(lambda: bool(world.sql("SELECT 1 FROM notice_endpoints WHERE rests_until IS NOT NULL")))
        (rests,) = world.sql("SELECT failures, rests_until - now() AS left FROM notice_endpoints")
        longest = timedelta(hours=1 if status == 429 else 6)
        assert rests["failures"] == 1
        assert longest - timedelta(minutes=1) < rests["left"] <= longest
        assert len(receiver.got) == 1, "nothing else is sent meanwhile"
        assert statuses(world) == ["waiting"] * 3
        receiver.answer = well
        now_due(world)
        wait(lambda: set(statuses(world)) == {"done"})


def test_after_three_days_it_is_dead_and_can_be_replayed(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url())
    receiver.answer = failing(2)
    Store(world.url).post("1")
    path, admin = f"/v1/shops/{SHOP}/webhooks/{made['id']}", world.key("admin")

    def listed(status: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = world.client.get(
            f"{path}/deliveries", headers=admin, params={"status": status}
        ).json()["items"]
        return found

    with sending(world):
        wait(lambda: len(receiver.got) == 1 and bool(listed("waiting")) and listed("waiting")[0]["attempts"] == 1)
        world.sql("UPDATE notices SET since = now() - interval '3 days 1 minute', due_at = now()")
        wait(lambda: len(listed("dead")) == 1)
        (dead,) = listed("dead")
        assert (dead["attempts"], dead["code"], dead["due_at"]) == (2, 500, None)
        assert dead["message"] == receiver.ids[0]
        answer = world.client.post(f"{path}/deliveries/{dead['id']}/replay", headers=admin)
        assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
        wait(lambda: len(listed("done")) == 1)
    assert len(set(receiver.ids)) == 1
    assert len(receiver.got) == 3


def test_a_replay_is_tried_for_three_days_more(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url())
    receiver.answer = failing(3)
    Store(world.url).post("1")
    path, admin = f"/v1/shops/{SHOP}/webhooks/{made['id']}", world.key("admin")
    world.sql("UPDATE notices SET status = 'dead', since = now() - interval '4 days', finished_at = now()")
    (dead,) = world.client.get(f"{path}/deliveries", headers=admin).json()["items"]
    assert world.client.post(f"{path}/deliveries/{dead['id']}/replay", headers=admin).status_code == 202
    with sending(world):
        for attempts in (1, 2, 3):
            wait(lambda: bool(world.sql("SELECT 1 FROM notices WHERE attempts = %s", attempts)))  # noqa: B023
            assert statuses(world) == ["waiting"]
            now_due(world)
        wait(lambda: statuses(world) == ["done"])


def test_what_waited_while_nobody_sent_is_not_dead(world: World, receiver: Receiver) -> None:
    create(world, receiver.url())
    store = Store(world.url)
    for number in range(3):
        store.post(str(number), changed_at=ago())
    world.sql("UPDATE notices SET since = now() - interval '4 days', created_at = now() - interval '4 days'")
    receiver.answer = failing(1)
    with sending(world):
        wait(lambda: statuses(world) == ["dead", "done", "done"])


def test_a_test_is_sent_at_once_even_to_one_that_rests(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url(), "batch.done")
    world.sql("UPDATE notice_endpoints SET failures = 9, rests_until = now() + interval '1 hour'")
    with sending(world):
        answer = world.client.post(f"/v1/shops/{SHOP}/webhooks/{made['id']}/test", headers=world.key("admin"))
        assert (answer.status_code, answer.json()["event"]) == (202, "test")
        wait(lambda: statuses(world) == ["done"])
    assert receiver.got[0].verified(made["secret"]) == json.loads(answer.json()["body"])
    assert world.sql("SELECT failures FROM notice_endpoints") == [{"failures": 0}]


def test_an_endpoint_that_is_removed_gets_nothing_more(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url())
    store = Store(world.url)
    store.post("1")
    path, admin = f"/v1/shops/{SHOP}/webhooks/{made['id']}", world.key("admin")
    assert world.client.delete(path, headers=admin).status_code == 204
    assert world.client.delete(path, headers=admin).status_code == 404
    assert world.sql("SELECT 1 FROM notices") == []
    store.post("2")
    with create_and_send(world, receiver) as other:
        store.post("3")
        wait(lambda: len(receiver.got) == 1)
    assert receiver.got[0].verified(other["secret"])["data"]["source_id"] == "3"


@contextmanager
def create_and_send(world: World, receiver: Receiver) -> Iterator[dict[str, Any]]:
    made = create(world, receiver.url())
    with sending(world):
        yield made


# --- processes ---------------------------------------------------------------------------------------------------


def environment(world: World) -> dict[str, str]:
    settings = world.services.settings
    assert settings.master_key is not None
    return {
        **os.environ,
        "LOYALNEST_DATABASE": settings.database_url(),
        "LOYALNEST_MASTER_KEY": settings.master_key.get_secret_value(),
        "LOYALNEST_NOTICES_PRIVATE": "true",
    }


def started(world: World, folder: Path) -> Forked:
    said = folder / f"{uuid4()}.out"
    return Forked(killed.notify, environment=environment(world), stdout=said, stderr=said)


def test_two_processes_share_the_work_and_send_each_message_once(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        others = [stack.enter_context(receiving()) for _ in range(7)]
        for each in (receiver, *others):
            create(world, each.url())
        processes = [started(world, tmp_path) for _ in range(2)]
        try:
            store = Store(world.url)
            for number in range(25):
                store.post(str(number), changed_at=ago())
            wait(lambda: statuses(world).count("done") == 200)
        finally:
            for process in processes:
                process.terminate()
            assert [process.wait(20) for process in processes] == [0, 0]
        for each in (receiver, *others):
            told = [json.loads(got.body)["data"]["source_id"] for got in each.got]
            assert told == [str(number) for number in range(25)]


def test_one_killed_before_the_answer_loses_nothing_and_repeats_that_message(
    world: World, receiver: Receiver, tmp_path: Path
) -> None:
    create(world, receiver.url())
    arrived, released = threading.Event(), threading.Event()

    def held(got: Got) -> tuple[int, dict[str, str], bytes]:
        if json.loads(got.body)["data"]["source_id"] == "1" and not released.is_set():
            arrived.set()
            released.wait(30)
        return 200, {}, b""

    receiver.answer = held
    store = Store(world.url)
    for number in range(3):
        store.post(str(number), changed_at=ago())
    first = started(world, tmp_path)
    try:
        assert arrived.wait(30)
        os.kill(first.pid, signal.SIGKILL)
        first.wait(20)
        released.set()
        second = started(world, tmp_path)
        try:
            (left,) = world.sql("SELECT held_until - now() AS left FROM notice_endpoints")
            assert timedelta() < left["left"] <= notifying.LEASE, "nobody else sends there meanwhile"
            assert statuses(world) == ["done", "waiting", "waiting"]
            world.sql("UPDATE notice_endpoints SET held_until = now()")  # as if that were over
            wait(lambda: statuses(world) == ["done"] * 3)
        finally:
            second.terminate()
            second.wait(20)
    finally:
        released.set()
        first.kill()
    told = [json.loads(got.body)["data"]["source_id"] for got in receiver.got]
    assert told == ["0", "1", "1", "2"]
    assert receiver.ids[1] == receiver.ids[2]


def test_a_database_that_goes_away_is_waited_for(world: World, receiver: Receiver) -> None:
    create(world, receiver.url())
    store = Store(world.url)
    with sending(world) as notifier:
        store.post("1", changed_at=ago())
        # Noted, and given back: else its lease would have to be over first.
        wait(lambda: statuses(world) == ["done"])
        wait(lambda: world.sql("SELECT held_by FROM notice_endpoints") == [{"held_by": None}])
        world.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'loyalnest-notices'"
            " AND datname = current_database()"
        )
        store.post("2", changed_at=ago())
        wait(lambda: len(receiver.got) == 2 and statuses(world) == ["done", "done"])
        wait(lambda: notifier.waits_for() == [])


# --- the API -----------------------------------------------------------------------------------------------------


def test_only_an_admin_of_the_shop_reaches_its_endpoints(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url())
    notice = Store(world.url)
    notice.post("1")
    paths = [("GET", ""), ("POST", ""), ("DELETE", f"/{made['id']}"), ("GET", f"/{made['id']}/deliveries")]
    paths += [("POST", f"/{made['id']}/test"), ("POST", f"/{made['id']}/deliveries/1/replay")]
    for method, path in paths:
        body = {"json": {"url": receiver.url(), "events": ["batch.done"]}} if (method, path) == ("POST", "") else {}
        here, there = f"/v1/shops/{SHOP}/webhooks{path}", f"/v1/shops/{OTHER}/webhooks{path}"
        asked: list[tuple[int, str, dict[str, str]]] = [
            (403, here, world.key("read", "export", "pii")),
            (404, here, world.key("admin", shop=OTHER)),
            (401, here, {}),
        ]
        if path:  # another shop's key, for its own shop, with this shop's endpoint
            asked.append((404, there, world.key("admin", shop=OTHER)))
        for status, where, headers in asked:
            answer = world.client.request(method, where, headers=headers, **body)  # type: ignore[arg-type]
            assert answer.status_code == status, (method, where)
    assert len(world.sql("SELECT 1 FROM notice_endpoints")) == 1
    assert len(world.sql("SELECT 1 FROM notices")) == 1


def test_the_secret_is_shown_once_and_kept_nowhere(world: World, receiver: Receiver) -> None:
    made = create(world, receiver.url(), "segment.changed", "segment.changed")
    assert made["events"] == ["segment.changed"]
    path, admin = f"/v1/shops/{SHOP}/webhooks", world.key("admin")
    (shown,) = world.client.get(path, headers=admin).json()["endpoints"]
    assert "secret" not in shown
    secret = made["secret"].removeprefix("whsec_")
    for table in ("notice_endpoints", "notices", "customer_keys"):
        assert secret not in str(world.sql(f"SELECT t::text FROM {table} t"))
    assert create(world, receiver.url())["secret"] != made["secret"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"url": "ftp://example.com/", "events": ["batch.done"]},
        {"url": "https://example.com/", "events": []},
        {"url": "https://example.com/", "events": ["test"]},
        {"url": "https://example.com/", "events": ["batch.done"], "secret": "mine"},
        {"url": "https://me:x@example.com/", "events": ["batch.done"]},
    ],
)
def test_an_endpoint_that_is_none_is_refused(world: World, wanted: dict[str, Any]) -> None:
    answer = world.client.post(f"/v1/shops/{SHOP}/webhooks", headers=world.key("admin"), json=wanted)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_without_the_setting_private_addresses_and_http_are_refused(database: str) -> None:
    with opened(database) as world:
        world.program()
        for url in ("http://example.com/", "https://127.0.0.1/", "https://[fd00::1]/"):
            told = {"url": url, "events": ["batch.done"]}
            answer = world.client.post(f"/v1/shops/{SHOP}/webhooks", headers=world.key("admin"), json=told)
            assert (answer.status_code, answer.json()["type"]) == (422, "urn:loyalnest:problem:bad-url")


def test_a_shop_has_ten_endpoints_at_most(world: World) -> None:
    for number in range(notices.MOST):
        create(world, f"https://example.com/{number}")
    told = {"url": "https://example.com/more", "events": ["batch.done"]}
    answer = world.client.post(f"/v1/shops/{SHOP}/webhooks", headers=world.key("admin"), json=told)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:loyalnest:problem:too-many-endpoints")
    create(world, "https://example.com/other", shop=OTHER)


def test_deliveries_come_in_pages_newest_first(world: World) -> None:
    made = create(world, "https://example.com/")
    store = Store(world.url)
    for number in range(5):
        store.post(str(number), changed_at=ago())
    path, admin = f"/v1/shops/{SHOP}/webhooks/{made['id']}/deliveries", world.key("admin")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        asked = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = world.client.get(path, headers=admin, params=asked).json()  # type: ignore[arg-type]
        seen += [json.loads(each["body"])["data"]["source_id"] for each in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == ["4", "3", "2", "1", "0"]
    assert world.client.get(path, headers=admin, params={"status": "dead"}).json() == {"items": [], "next": None}
    assert world.client.get(path, headers=admin, params={"cursor": "x"}).status_code == 400


@pytest.mark.parametrize("way", ["the API", "Kafka"])
def test_a_shop_that_is_forgotten_has_no_endpoints_any_more(world: World, receiver: Receiver, way: str) -> None:
    made, other = create(world, receiver.url()), create(world, receiver.url(), shop=OTHER)
    store = Store(world.url)
    store.post("1")
    store.post("2", shop=OTHER)
    payload = {"shop_id": 1, "shop_domain": SHOP}
    later = instants.text(instants.from_datetime(datetime.now(UTC) + timedelta(seconds=1)))
    if way == "the API":
        times = {"X_Shopify_Triggered_At": later}
        assert world.webhook("shop/redact", payload, **times).status_code == 200
    else:
        told = {"topic": "shop/redact", "webhook_id": "w", "event_id": None, "api_version": None, "payload": payload}
        store.feed((topics.SHOPS, SHOP, {**told, "shop": SHOP, "triggered_at": later, "received_at": later}))
    assert [str(row["id"]) for row in world.sql("SELECT id FROM notice_endpoints")] == [other["id"]]
    assert [row["shop"] for row in world.sql("SELECT shop FROM notices")] == [OTHER]
    again = create(world, receiver.url())
    assert again["secret"] != made["secret"]
    with sending(world):
        wait(lambda: len(receiver.got) == 1)
    assert receiver.got[0].verified(other["secret"])["data"]["source_id"] == "2"


def test_a_customers_export_has_what_was_told_of_them(world: World) -> None:
    from books import privacy

    create(world, "https://example.com/")
    store = Store(world.url)
    store.row("Loyal", "7")
    store.row("Loyal", "8")
    found = world.run(privacy.export(world.services.pool, world.services.vault, SHOP, "7"))
    assert [json.loads(each["body"])["data"]["customer_id"] for each in found["notices"]] == ["7"]


def test_old_messages_and_those_of_nobody_are_tidied_away(world: World) -> None:
    create(world, "https://example.com/")
    store = Store(world.url)
    for number in range(3):
        store.post(str(number), changed_at=ago())
    world.sql("UPDATE notices SET created_at = now() - interval '36 days', status = 'dead' WHERE mod(id, 3) = 0")
    world.sql("UPDATE notices SET endpoint = gen_random_uuid() WHERE mod(id, 3) = 1")

    async def tidied() -> None:
        async with world.services.pool.connection() as connection:
            await notices.tidy(connection)

    world.run(tidied())
    assert [row["id"] % 3 for row in world.sql("SELECT id FROM notices")] == [2]
