"""The lake holds what the raw history holds, each row once, in whatever order transactions end and who is killed."""

import json
import random
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
from psycopg import Connection

from batch import frames, orders, segments, standing, windows
from batch.gates import running as gates
from batch.history import History
from events import instants
from lake import filling, past, reading, rfm, since, versions
from lake.errors import BehindError, LakeError
from lake.manifest import Lake
from lake.rows import TABLES
from tests import killed, stores
from tests.integration.test_batch import add_letter, add_program, add_raw
from tests.support import cdnow_envelopes

Json = dict[str, Any]
OTHER = "other.myshopify.com"

#: How points run out: not at all, some time after they were given, and for want of activity.
EXPIRY: list[list[Json]] = [[], [{"life_days": 30}], [{"inactive_days": 30}]]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def told(history: History) -> list[pl.DataFrame]:
    return [
        history.order_states().sort("order_id"),
        history.refunds.frame().sort("order_id", "refund_id"),
        history.owners.frame().sort("order_id", "customer_id"),
        history.customers(),
        history.merged(),
    ]


def same(connection: Connection[Any], lake: Lake, shop: str = stores.SHOP, until: int | None = None) -> int:
    """Holds the lake's history against the raw one; its webhooks."""
    found, plain = History(shop, "USD", lake), History(shop, "USD")
    found.read(connection, until)
    plain.read(connection, until)
    for one, other in zip(told(found), told(plain), strict=True):
        assert one.equals(other)
    return plain.webhooks


def versions_are_the_history(connection: Connection[Any], lake: Lake, until: int | None = None) -> None:
    """Orders as of an instant: a filter over their versions, and the history read anew up to there."""
    plain = History(stores.SHOP, "USD")
    plain.read(connection, until)
    files = lake.shop(lake.root(), stores.SHOP)
    assert files is not None
    assert not files.told
    found = versions.as_of(lake.paths(files.layers), until).collect()
    assert found.sort("order_id").equals(orders.states(plain).sort("order_id"))


def rows(lake: Lake, shop: str = stores.SHOP) -> dict[str, int]:
    files = lake.shop(lake.root(), shop)
    assert files is not None
    found = {name: lake.scan(files.parts(name), name).collect().height for name in TABLES}
    assert found == {name: sum(part.rows for part in files.parts(name)) for name in TABLES}
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_lake_is_the_history_at_any_instant(seed: int, connection: Connection[Any], lake: Lake) -> None:
    chance = random.Random(seed)
    envelopes = stores.store(seed, moments=8)
    add_program(connection, stores.SHOP)
    at = 0
    while at < len(envelopes):
        add_raw(connection, envelopes[at : (at := at + chance.randint(1, 40))])
        filling.fill(connection, lake)
    moments = sorted({instants.parse(each["triggered_at"]) for each in envelopes})
    for moment in (*chance.sample(moments, min(4, len(moments))), None):
        same(connection, lake, until=moment)
        versions_are_the_history(connection, lake, moment)
        if moment is not None:
            same(connection, lake, until=moment - 1)
            versions_are_the_history(connection, lake, moment - 1)


def test_a_past_instant_is_answered_from_the_lake(
    connection: Connection[Any], database: str, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everyone's standing, as a run over the raw history works it out; also while the lake lacks something of then."""
    envelopes = stores.store(8, moments=8)
    add_program(connection, stores.SHOP, look_back_days=30)
    add_raw(connection, envelopes)

    def standings(lake: Lake | None, at: datetime) -> list[Any]:
        report = segments.run(connection, lambda _: None, stores.SHOP, at, False, lake=lake)
        assert report.webhooks
        return connection.execute(
            "SELECT customer_id, balance, recency_days, frequency, monetary, last_order_at, r, f, m, score, segment"
            " FROM batch_segments WHERE run_id = %s ORDER BY customer_id",
            (report.run_id,),
        ).fetchall()

    moments = sorted({instants.parse(each["triggered_at"]) for each in envelopes})
    for moment in random.Random(1).sample(moments, 5):
        at = instants.to_datetime(moment)
        assert standings(lake, at) == standings(None, at)
    more = [{**each, "webhook_id": f"late-{at}"} for at, each in enumerate(stores.store(9, moments=8))]
    add_raw(connection, more)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('loyalnest lake', 0))")
        for at in (stores.NOW, instants.to_datetime(moments[-2])):
            assert standings(lake, at) == standings(None, at)
        monkeypatch.setattr(reading, "MOST", 3)
        assert standings(lake, stores.NOW) == standings(None, stores.NOW)


@pytest.mark.parametrize("seed", range(4))
def test_instants_that_are_asked_for_together_are_each_what_it_is_alone(
    seed: int, connection: Connection[Any], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some of them kept, over layers and slices that a customer's orders lie across; merges, and a look-back's edge."""
    monkeypatch.setattr(versions, "SLICE", 7)
    chance = random.Random(seed)
    envelopes = stores.store(seed, moments=12)
    program = add_program(connection, stores.SHOP, look_back_days=30, expiry=EXPIRY[seed % len(EXPIRY)])
    add_raw(connection, envelopes[: len(envelopes) // 2])
    filling.fill(connection, lake)
    add_raw(connection, envelopes[len(envelopes) // 2 :])
    filling.fill(connection, lake)
    moments = sorted({instants.parse(each["triggered_at"]) for each in envelopes})
    alone = {}
    with reading.told_until(connection, lake, program, reading.EVER) as files:
        placed = chance.choice(versions.as_of(files.layers, None).collect()["processed_at"].sort())
        times = [
            *chance.sample(moments, 3),
            *(placed + more for more in (-1, 0, 30 * instants.DAY)),
            moments[0] - 1,
            moments[-1],
        ]
        for at in times:
            alone[at], _ = past.work_out(files, program, at)
    past.standings(connection, lake, program, times[1])
    found = {each.at: each for each in past.standings_of(connection, lake, program, times)}
    assert set(found) == set(times)
    for at, expected in alone.items():
        assert found[at].read(*past.COLUMNS).equals(expected.select(past.COLUMNS))
        assert past.kept(connection, lake, program, at) == found[at]
    assert alone[moments[-1]].height


@pytest.mark.parametrize("seed", range(4))
def test_a_publishing_run_has_of_the_lake_what_the_history_says(
    seed: int, connection: Connection[Any], lake: Lake
) -> None:
    """What gates measure, what rows of any time should be, and what late windows are made of; some of it not filled."""
    chance = random.Random(seed)
    envelopes = stores.store(seed, moments=12)
    program = add_program(connection, stores.SHOP, look_back_days=30, expiry=EXPIRY[seed % len(EXPIRY)])
    add_raw(connection, envelopes[: -len(envelopes) // 4])
    filling.fill(connection, lake)
    add_raw(connection, envelopes[-len(envelopes) // 4 :])
    moments = sorted({instants.parse(each["triggered_at"]) for each in envelopes})

    at = chance.choice(moments) + 1
    with reading.told_until(connection, lake, program, at) as files:
        found, cut_points = past.work_out(files, program, at)
        taken = gates.Taken.of_files(files, program, at)
        measured = gates.measure(connection, program, instants.to_datetime(at), taken, found, cut_points)
    history = History(stores.SHOP, "USD")
    history.read(connection, at)
    worth = orders.worth(history, program)
    # (What of the lake's webhooks came later is counted with it: shares of many years need no more.)
    plain = gates.Taken.of_history(history, worth)._replace(webhooks=taken.webhooks, unreadable=taken.unreadable)
    named = found.drop("customer")
    assert gates.measure(connection, program, instants.to_datetime(at), plain, named, cut_points) == measured
    assert measured["orders"] == worth.height > 0
    assert measured["customers"]
    assert {name for name, value in measured.items() if "unaccounted" in name and value} == set()

    history.read(connection)
    worth, everyone = orders.worth(history, program), history.customers()["customer_id"]
    nows = [chance.choice(moments) + chance.randint(-1, 1) for _ in everyone]
    rows = pl.DataFrame({"customer_id": everyone, "now": nows})
    published = [cut_points, rfm.find_cut_points(found.head(0), program, instants.to_datetime(moments[-1]))]
    should_be = standing.expected(rows, worth, history, published, program)
    # A day of theirs begins at 15:00 of the day before in UTC: most of its orders are of the next.
    late = windows.sums(worth, "Asia/Tokyo", ["day"]).sample(3, seed=seed).sort("start")
    with reading.told_until(connection, lake, program, reading.EVER) as files:
        assert standing.expected_of(files, rows, published, program).equals(should_be)
        some = orders.worth_of(files, program, late["start"].to_list())
    sums = windows.sums(some, "Asia/Tokyo", ["day"]).join(late, on="start", how="semi")
    assert sums.sort("start").equals(late)


@pytest.mark.parametrize("seed", range(6))
def test_whose_values_stand_as_a_run_worked_them_out_is_not_summed_again(
    seed: int, connection: Connection[Any], lake: Lake
) -> None:
    """What came after its reading, of before its time too, makes the others: orders, refunds, owners and merges."""
    chance = random.Random(seed)
    envelopes = stores.store(seed, customers=30, orders=40, moments=12)
    program = add_program(connection, stores.SHOP, look_back_days=30)
    late = chance.sample(envelopes, 5 * (seed % 2))
    add_raw(connection, [each for each in envelopes if each not in late])
    filling.fill(connection, lake)
    moments = sorted({instants.parse(each["triggered_at"]) for each in envelopes})
    at = chance.choice(moments[3:]) if late else moments[-1]
    with reading.told_until(connection, lake, program, at) as files:
        found, cut_points = past.work_out(files, program, at)
        known = since.known(files, found, at)
    if not late:  # of two of whom nothing else is told it is said that they are one
        kept, gone = (f"gid://shopify/Customer/{each}" for each in found.top_k(2, by="balance")["customer_id"])
        who = {"admin_graphql_api_customer_kept_id": kept, "admin_graphql_api_customer_deleted_id": gone}
        merge = {"topic": "customers/merge", "webhook_id": "late", "payload": {**who, "status": "completed"}}
        late = [{**envelopes[-1], **merge}]
    add_raw(connection, late)
    if chance.random() < 0.5:
        filling.fill(connection, lake)  # their numbers may be others now
    if chance.random() < 0.5:
        filling.rebuild(connection, lake)

    history = History(stores.SHOP, "USD")
    history.read(connection)
    everyone = history.customers().select("customer_id", now=pl.lit(at))
    rows = everyone.with_columns(now=pl.col("now") + pl.int_range(pl.len()) % 2 * 40 * instants.DAY)
    worth, published = orders.worth(history, program), [cut_points]
    with reading.told_until(connection, lake, program, reading.EVER) as files:
        told = reading.orders_told_since(connection, program, known.edge)
        same = since.same(files, known, told)
        for each in (rows, everyone):
            should_be = standing.expected(each, worth, history, published, program)
            assert standing.expected_of(files, each, published, program, same).equals(should_be)
        assert since.same(files, known, None).is_empty()
        assert since.same(files, known._replace(refused="other"), told).is_empty()
    values = rfm.values(everyone, worth, orders.given(history, program), program).select(same.columns)
    assert 0 < same.height < found.height
    assert same.join(values, on=same.columns, how="anti", nulls_equal=True).is_empty()


def test_a_filling_that_is_not_over_is_read_or_said_to_be_behind(
    connection: Connection[Any], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files count from a swap on; versions are made of them when all has been read."""
    program, at = add_program(connection, stores.SHOP), instants.from_datetime(stores.NOW)
    add_raw(connection, stores.store(3))
    filling.fill(connection, lake)
    with reading.told_until(connection, lake, program, at) as files:
        whole, _ = past.work_out(files, program, at)
    root = lake.root()
    found = lake.shop(root, stores.SHOP)
    assert found is not None
    found.layers, found.customers, found.ties = [], None, None
    found.told = {name: [part.path for part in parts] for name, parts in found.tables.items()}
    root.lists[stores.SHOP] = lake.write_list(stores.SHOP, root.change + 1, found)
    lake.swap(root)
    with reading.told_until(connection, lake, program, at) as files:
        assert past.work_out(files, program, at)[0].equals(whole)
    monkeypatch.setattr(reading, "MOST", 5)
    with pytest.raises(BehindError, match="loyalnest lake fill"), reading.told_until(connection, lake, program, at):
        pass


@pytest.mark.parametrize("step", ["_finish", "_derive", "_merge_small"])
def test_one_that_ended_when_all_was_read_is_gone_on_with(
    connection: Connection[Any], lake: Lake, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """All counts by then, and nothing more comes that the versions would be made for."""

    def interrupted(*_: Any) -> None:
        raise InterruptedError

    add_program(connection, stores.SHOP)
    add_raw(connection, stores.store(3))
    with monkeypatch.context() as patch:
        patch.setattr(filling, "SWAP", 1)
        patch.setattr(filling._Filling, step, interrupted)
        with pytest.raises(InterruptedError):
            filling.fill(connection, lake)
    assert filling.fill(connection, lake).webhooks == 0
    versions_are_the_history(connection, lake)


def test_each_row_of_the_history_is_taken_once(connection: Connection[Any], lake: Lake, tmp_path: Path) -> None:
    envelopes = stores.store(5, moments=8)
    add_program(connection, stores.SHOP)
    for at in range(0, len(envelopes), 17):
        add_raw(connection, envelopes[at : at + 17])
        filling.fill(connection, lake)
    assert filling.fill(connection, lake).webhooks == 0
    at_once = Lake(tmp_path / "at once")
    assert filling.fill(connection, at_once).webhooks == len(envelopes)
    assert rows(lake) == rows(at_once)


def test_who_commits_late_is_not_missed(connection: Connection[Any], database: str, lake: Lake) -> None:
    envelopes = stores.store(3, moments=6)
    add_program(connection, stores.SHOP)
    with psycopg.connect(database) as late:
        add_raw(late, envelopes[::2])
        add_raw(connection, envelopes[1::2])
        # Above the oldest open transaction nothing is taken yet; a reader takes it from the history.
        assert filling.fill(connection, lake).webhooks == 0
        assert same(connection, lake) == len(envelopes[1::2])
        late.commit()
    assert filling.fill(connection, lake).webhooks == len(envelopes)
    assert same(connection, lake) == len(envelopes)


def test_a_shop_that_was_added_later_is_made_from_its_beginning(connection: Connection[Any], lake: Lake) -> None:
    first, second = stores.store(1), [{**each, "shop": OTHER} for each in stores.store(2)]
    add_program(connection, stores.SHOP)
    add_raw(connection, [*first, *second])
    assert filling.fill(connection, lake).webhooks == len(first)
    add_program(connection, OTHER)
    add_raw(connection, second[:3])
    found = filling.fill(connection, lake)
    assert (found.anew, found.webhooks) == (1, len(second) + 3)
    assert same(connection, lake, OTHER) == len(second) + 3
    same(connection, lake)


def test_a_refusal_and_its_replay_make_the_shop_anew(connection: Connection[Any], lake: Lake) -> None:
    envelopes = cdnow_envelopes()[:6]
    shop = envelopes[0]["shop"]
    add_program(connection, shop)
    add_raw(connection, envelopes)
    same(connection, lake, shop)
    assert rows(lake, shop)["snapshots"] == 6
    add_letter(connection, envelopes[0], "unexpected")
    same(connection, lake, shop)
    assert rows(lake, shop)["snapshots"] == 5
    connection.execute("UPDATE dead_letters SET replayed_at = now()")
    same(connection, lake, shop)
    assert rows(lake, shop)["snapshots"] == 6
    assert filling.fill(connection, lake).anew == 0


def test_small_files_are_merged_and_old_ones_go(
    connection: Connection[Any], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelopes = stores.store(6, moments=40)
    add_program(connection, stores.SHOP)
    for at in range(0, len(envelopes), 5):
        add_raw(connection, envelopes[at : at + 5])
        filling.fill(connection, lake)
    root = lake.root()
    files = lake.shop(root, stores.SHOP)
    assert files is not None
    months: dict[tuple[str, str], int] = {}
    for name, parts in files.tables.items():
        for part in parts:
            months[name, part.month] = months.get((name, part.month), 0) + 1
    assert max(months.values()) <= filling.FEW + 1
    there = set(lake.folder.rglob("*.parquet"))
    named = {lake.folder / path for path in files.paths()}
    assert len(files.layers) <= filling.LAYERS
    versions_are_the_history(connection, lake)
    assert named < there  # a reader may have begun before
    assert lake.sweep(root, old=-1.0) > 0
    assert set(lake.folder.rglob("*.parquet")) == named
    same(connection, lake)


def test_one_fills_at_a_time_and_readers_do_not_wait(connection: Connection[Any], database: str, lake: Lake) -> None:
    envelopes = stores.store(7)
    add_program(connection, stores.SHOP)
    add_raw(connection, envelopes)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('loyalnest lake', 0))")
        with pytest.raises(LakeError, match="another process"):
            filling.fill(connection, lake)
        assert same(connection, lake) == len(envelopes)
    assert lake.root().lists == {}


def test_a_lake_of_another_database_or_ahead_of_its_own_is_made_anew(connection: Connection[Any], lake: Lake) -> None:
    """A data folder outlives its database: the same shop there has another history."""
    envelopes = stores.store(7)
    add_program(connection, stores.SHOP)
    add_raw(connection, envelopes)
    whole = filling.fill(connection, lake).webhooks
    for changes in ({"database": "another"}, {"cursor": (10**9, 1)}):
        content = json.loads((lake.folder / "lake.json").read_bytes())
        (lake.folder / "lake.json").write_text(json.dumps({**content, **changes}))
        program, until = frames.program(connection, stores.SHOP), instants.from_datetime(stores.NOW)
        with reading.told_until(connection, lake, program, until) as files:
            assert not any(layer.is_relative_to(lake.folder) for layer in files.layers)
        assert filling.fill(connection, lake).webhooks == whole
        same(connection, lake)


def _broken(lake: Lake, which: str) -> None:
    files = lake.shop(lake.root(), stores.SHOP)
    assert files is not None
    assert files.customers is not None
    path = {
        "snapshots": files.tables["snapshots"][0].path,
        "versions": files.layers[0].path,
        "customers": files.customers.path,
        "list": lake.root().lists[stores.SHOP],
        "root": "lake.json",
    }[which.removeprefix("cut ")]
    if which.startswith("cut "):
        with (lake.folder / path).open("r+b") as file:
            file.truncate((lake.folder / path).stat().st_size // 2)
    else:
        (lake.folder / path).unlink()


@pytest.mark.parametrize(
    "which", ["snapshots", "cut snapshots", "versions", "cut customers", "list", "cut list", "cut root"]
)
def test_a_lake_with_a_hole_answers_all_the_same_and_is_mended(
    which: str, connection: Connection[Any], lake: Lake
) -> None:
    envelopes = stores.store(5)
    program = add_program(connection, stores.SHOP)
    add_raw(connection, envelopes)
    whole, until = filling.fill(connection, lake).webhooks, instants.from_datetime(stores.NOW)
    before = rows(lake)
    _broken(lake, which)
    with reading.told_until(connection, lake, program, until) as found:
        assert not any(layer.is_relative_to(lake.folder) for layer in found.layers)  # what was told is read anew, aside
    mended = filling.fill(connection, lake)
    assert (mended.webhooks, mended.anew) == (whole, 1)
    assert rows(lake) == before
    same(connection, lake)
    versions_are_the_history(connection, lake)
    assert filling.fill(connection, lake).webhooks == 0


def test_killed_at_any_moment_it_goes_on(
    connection: Connection[Any], database: str, lake: Lake, tmp_path: Path
) -> None:
    """kill -9 again and again, until one comes to its end; then nothing is missing and nothing is there twice."""
    chance = random.Random(1)
    envelopes = [each for seed in range(3) for each in stores.store(seed, moments=12)]
    for at, each in enumerate(envelopes):
        each["webhook_id"] = f"{at}"
    add_program(connection, stores.SHOP)
    add_raw(connection, envelopes)
    kills = 0
    for attempt in range(60):
        process = killed.begun(tmp_path, killed.fill, database, str(lake.folder))
        time.sleep(chance.uniform(0.0, 0.2 * 1.15**attempt))
        if process.poll() is None:
            kills += 1
            process.kill()
        ended = process.wait(60) == 0
        if ended:
            break
    assert ended
    assert kills
    same(connection, lake)
    versions_are_the_history(connection, lake)
    at_once = Lake(tmp_path / "at once")
    filling.fill(connection, at_once)
    assert rows(lake) == rows(at_once)
