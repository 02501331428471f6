"""Any past instant through the API: what the oracle says of it, whoever asked before and whatever came late."""

import asyncio
import csv
import io
import random
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import psycopg
import pytest
from psycopg import Connection

from batch import frames, segments
from events import instants
from events.instants import MINUTE
from lake import filling, movement, past, reading
from lake.manifest import Lake
from tests import oracle, stores
from tests.integration.api_world import World
from tests.integration.test_batch import add_program, add_raw

Json = dict[str, Any]
OTHER = "other.myshopify.com"
POINTS = (
    *("points_balance", "points_pending", "points_earned", "points_spent", "points_expired", "points_expiring"),
    "points_expire_at",
)
PROGRAM: Json = {
    **stores.program(3),
    "look_back_days": 365,
    "holds": [{"effective_from": None, "hold_days": 14}],
}


@pytest.fixture
def lake(world: World) -> Lake:
    return world.services.past.lake


def said(envelopes: list[Json], at: datetime, shop: str = stores.SHOP, program: Json = PROGRAM) -> dict[str, Any]:
    """The customers as of then by the oracle, under the cut points that a run as of then finds."""
    then = oracle.until(envelopes, at)
    found = oracle.oracle(then, {shop: program}, t=at)
    cuts = {**found[shop].cut_points, "version": "then", "as_of": at.isoformat()}
    customers = oracle.oracle(then, {shop: program}, {shop: [cuts]}, at, found)[shop].customers
    return {each: customer for each, customer in customers.items() if customer.merged_into is None}


def get(world: World, path: str, headers: dict[str, str], shop: str = stores.SHOP, **asked: Any) -> Any:
    texts = {name.rstrip("_"): str(said) for name, said in asked.items()}
    return world.client.get(f"/v1/shops/{shop}{path}", headers=headers, params=texts)


def text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def exported(world: World, at: datetime, shop: str = stores.SHOP) -> dict[str, tuple[Any, ...]]:
    answer = get(world, "/exports/segments.csv", world.key("export", shop=shop), shop, as_of=text(at))
    assert answer.status_code == 200, answer.text
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["as_of"] for row in rows} <= {text(at)}
    assert [row["customer_id"] for row in rows] == sorted(row["customer_id"] for row in rows)
    names = (*POINTS, "recency_days", "frequency", "monetary", "score", "segment_id", "segment")
    return {row["customer_id"]: tuple(row[name] for name in names) for row in rows}


def as_exported(customers: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {
        each: (
            *(str(getattr(found, name.removeprefix("points_"))) for name in POINTS[:-1]),
            "" if found.expires_at is None else text(found.expires_at),
            "" if found.recency is None else str(found.recency),
            str(found.frequency),
            f"{found.monetary // 100}.{found.monetary % 100:02d}",
            found.score,
            found.segment_id,
            found.segment,
        )
        for each, found in customers.items()
    }


def sizes(answer: Json) -> dict[str, tuple[int, str, int]]:
    return {
        each["segment"]: (each["customers"], each["revenue"]["amount"], each["points_balance"])
        for each in answer["segments"]
    }


def sizes_said(customers: dict[str, Any]) -> dict[str, tuple[int, str, int]]:
    found = {}
    for segment in {each.segment for each in customers.values()}:
        theirs = [each for each in customers.values() if each.segment == segment]
        revenue = sum(each.monetary for each in theirs)
        money = f"{revenue // 100}.{revenue % 100:02d}"
        found[segment] = (len(theirs), money, sum(each.balance for each in theirs))
    return found


def told(seed: int = 1, shop: str = stores.SHOP) -> list[Json]:
    return stores.store(seed, customers=75, orders=170, shop=shop, moments=6)


def test_ten_random_instants_are_what_the_oracle_says(world: World, connection: Connection[Any], lake: Lake) -> None:
    """Of two shops; the lake holds a part, another part came since, and the rest comes later."""
    chance = random.Random(4)
    envelopes = {stores.SHOP: told(1), OTHER: told(2, OTHER)}
    for shop, sent in envelopes.items():
        add_program(connection, shop, **PROGRAM)
        add_raw(connection, sent[: len(sent) // 2])
    filling.fill(connection, lake)
    for sent in envelopes.values():
        add_raw(connection, sent[len(sent) // 2 :])
    moments = sorted({oracle.moment(each["triggered_at"]) for each in envelopes[stores.SHOP]})
    days = (moments[-1] - moments[0]) // stores.DAY
    asked = [*moments[1:3], *(moments[0] + timedelta(days=chance.uniform(0, days + 40)) for _ in range(6))]
    for number, at in enumerate([*asked, moments[-1], stores.NOW]):
        shop = OTHER if number % 3 == 2 else stores.SHOP
        if number == 3:
            filling.fill(connection, lake)
        should = said(envelopes[shop], at, shop)
        answer = get(world, "/segments", world.key("read", shop=shop), shop, as_of=text(at)).json()
        assert (answer["as_of"], answer["source"], answer["run"]) == (
            instants.text(instants.from_datetime(at)),
            "lake",
            None,
        )
        assert sizes(answer) == sizes_said(should)
        assert (answer["cut_points"]["version"] != "default") == (
            sum(each.recency is not None for each in should.values()) >= 50
        )
        if number in (0, 5, 9):
            at = at.replace(microsecond=0)
            assert exported(world, at, shop) == as_exported(said(envelopes[shop], at, shop))


def test_a_run_of_that_instant_says_the_same(world: World, connection: Connection[Any], lake: Lake) -> None:
    envelopes = told(5)
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, envelopes)
    at = stores.NOW - 3 * stores.DAY
    report = segments.run(connection, lambda _: None, stores.SHOP, at, False, lake=lake)
    plain = segments.run(connection, lambda _: None, stores.SHOP, at, False)
    answer = get(world, "/segments", world.key("read", shop=stores.SHOP), as_of=text(at)).json()
    counts = {each["segment"]: each["customers"] for each in answer["segments"]}
    assert report.segments == plain.segments == counts
    assert report.version == plain.version == answer["cut_points"]["version"]


def test_what_is_kept_counts_until_something_else_is_true(
    world: World, connection: Connection[Any], lake: Lake
) -> None:
    """Late webhooks, a merge among them, and another program are heard; what says nothing of then is not."""
    envelopes = told(6)
    late, later = envelopes[::7], stores.NOW - stores.DAY / 2
    sent = [each for each in envelopes if each not in late]
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, sent)
    filling.fill(connection, lake)
    headers, at = world.key("read", shop=stores.SHOP), later
    worked_out = 0
    folder = lake.folder / "past" / f"shop={stores.SHOP}"

    def asked() -> Json:
        nonlocal worked_out
        before = {path.name for path in folder.glob("*.parquet")}
        answer: Json = get(world, "/segments", headers, as_of=text(at)).json()
        worked_out = len({path.name for path in folder.glob("*.parquet")} - before)
        return answer

    assert (sizes(asked()), worked_out) == (sizes_said(said(sent, at)), 1)
    assert (sizes(asked()), worked_out) == (sizes_said(said(sent, at)), 0)
    after = [
        {**each, "webhook_id": f"after-{n}", "triggered_at": text(at + stores.SECOND)} for n, each in enumerate(late)
    ]
    add_raw(connection, after)
    filling.fill(connection, lake)
    assert (sizes(asked()), worked_out) == (sizes_said(said(sent, at)), 0)
    add_raw(connection, late)
    assert (sizes(asked()), worked_out) == (sizes_said(said(sent + late, at)), 1)
    one, other = list(said(sent + late, at))[:2]
    merge = {
        "status": "completed",
        "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{one}",
        "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{other}",
    }
    told_late = {**late[0], "topic": "customers/merge", "webhook_id": "merged", "payload": merge}
    add_raw(connection, [told_late])
    assert (sizes(asked()), worked_out) == (sizes_said(said([*sent, *late, told_late], at)), 1)
    cheap = {**PROGRAM, "look_back_days": 30}
    connection.execute("DELETE FROM programs")
    add_program(connection, stores.SHOP, **cheap)
    assert (sizes(asked()), worked_out) == (sizes_said(said([*sent, *late, told_late], at, program=cheap)), 1)
    filling.rebuild(connection, lake)
    assert not folder.exists()


def test_few_instants_are_kept_and_read_in_slices(
    world: World, connection: Connection[Any], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "_GROUP", 2)
    add_program(connection, stores.SHOP)
    add_raw(connection, stores.store(1))
    filling.fill(connection, lake)
    program = frames.program(connection, stores.SHOP)
    folder = lake.folder / "past" / f"shop={stores.SHOP}"
    for number in range(past.KEPT + 3):
        found = past.standings(connection, lake, program, instants.from_datetime(stores.NOW) + number)
    everybody = found.read(*past.COLUMNS)
    for segment in everybody["segment"].unique():
        theirs = list(found.slices(1, pl.col("segment") == segment))
        assert all(each.height == 1 for each in theirs)  # an empty one is the end of an export
        assert pl.concat(theirs).equals(everybody.filter(pl.col("segment") == segment))
    assert len(list(folder.glob("*.json"))) == past.KEPT
    assert len(list(folder.glob("*.parquet"))) <= past.KEPT + 1
    lake.sweep(lake.root(), old=-1)
    assert len(list(folder.glob("*.json"))) == past.KEPT


def test_what_a_crash_of_the_machine_has_left_stops_no_other_instant(
    world: World, connection: Connection[Any], lake: Lake
) -> None:
    add_program(connection, stores.SHOP)
    add_raw(connection, stores.store(1))
    filling.fill(connection, lake)
    program, at = frames.program(connection, stores.SHOP), instants.from_datetime(stores.NOW)
    folder = lake.folder / "past" / f"shop={stores.SHOP}"
    first = past.standings(connection, lake, program, at)
    for number, left in enumerate((b"", b'{"file": "', b"\x00" * 300)):
        (folder / f"{at}.json").write_bytes(left)
        past.standings(connection, lake, program, at + number + 1)
        assert past.kept(connection, lake, program, at + number + 1) is not None
    assert past.kept(connection, lake, program, at) is None
    assert past.standings(connection, lake, program, at).read().equals(first.read())


def test_movement_between_any_two_instants_has_people_and_money(
    world: World, connection: Connection[Any], lake: Lake
) -> None:
    envelopes = told(7)
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, envelopes)
    filling.fill(connection, lake)
    headers = world.key("read", shop=stores.SHOP)
    first, second = stores.NOW - 10 * stores.DAY, stores.NOW
    answer = get(world, "/segments/movement", headers, from_=text(first), to=text(second)).json()
    before, after = said(envelopes, first), said(envelopes, second)
    people: Counter[Any] = Counter()
    money: Counter[Any] = Counter()
    for each in before.keys() | after.keys():
        one, other = before.get(each), after.get(each)
        move = one and one.segment, other and other.segment
        people[move] += 1
        money[move, 0] += one.monetary if one else 0
        money[move, 1] += other.monetary if other else 0
    assert {(each["previous"], each["current"]): each["customers"] for each in answer["moves"]} == people
    for each in answer["moves"]:
        move = each["previous"], each["current"]
        assert each["revenue_before"]["amount"] == f"{money[move, 0] // 100}.{money[move, 0] % 100:02d}"
        assert each["revenue_after"]["amount"] == f"{money[move, 1] // 100}.{money[move, 1] % 100:02d}"
    assert (answer["from"], answer["from_source"], answer["to_source"]) == (text(first), "lake", "lake")
    for move in answer["moves"]:
        cell = {side: move[side] or "" for side in ("previous", "current")}
        asked = {"from_": text(first), "to": text(second), **cell}
        found = get(world, "/segments/movement/customers", headers, limit=1000, **asked).json()
        should = {each for each in before.keys() | after.keys() if _moved(before, after, each) == tuple(cell.values())}
        assert [each["customer_id"] for each in found["items"]] == sorted(should)
        assert (found["from_source"], found["next"]) == ("lake", None)
    both = {"from_": text(first), "to": text(second)}
    page = get(world, "/segments/movement/customers", headers, limit=10, **both).json()
    following = get(world, "/segments/movement/customers", headers, limit=10, cursor=page["next"], **both).json()
    ids = [each["customer_id"] for each in page["items"] + following["items"]]
    assert ids == sorted(before.keys() | after.keys())[:20]
    gone = get(world, "/segments/movement/customers", headers, from_=text(first), current="", limit=1000).json()
    assert [each["customer_id"] for each in gone["items"]] == sorted(before)
    live = get(world, "/segments/movement", headers, from_=text(first)).json()
    assert (live["to_source"], {each["current"] for each in live["moves"]}) == ("live", {None})


def stand(connection: Connection[Any], customers: dict[str, tuple[str, str, int]], shop: str = stores.SHOP) -> None:
    """Customers' rows as the sink has them now: segment_id, segment and monetary value of each."""
    for ident, (segment_id, segment, monetary) in customers.items():
        connection.execute(
            "INSERT INTO customers (shop, customer_id, now, currency, balance, frequency, monetary, segment_id,"
            " segment, cut_points_version, deleted, redacted)"
            " VALUES (%s, %s, %s, 'EUR', 0, 1, %s, %s, %s, 'default', false, false)",
            (shop, ident, stores.NOW, monetary, segment_id, segment),
        )


def test_movement_to_now_knows_everybody_as_they_stand_now(
    world: World, connection: Connection[Any], lake: Lake
) -> None:
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, envelopes := told(7))
    filling.fill(connection, lake)
    first = stores.NOW - 10 * stores.DAY
    before = said(envelopes, first)
    known = sorted(before)[:2]
    now = {
        known[0]: ("seg_555", 'Best, "of all"', 900),
        known[1]: ("seg_111", "Lost", 1),
        "mail-0011223344556677": ("seg_554", 'Best, "of all"', 70),
        "12345678901234567890": ("seg_000", "Prospects", 0),
    }
    stand(connection, now)
    stand(connection, {"1": ("seg_555", "Elsewhere", 5)}, OTHER)
    connection.execute(
        'INSERT INTO customers SELECT (jsonb_populate_record(c, \'{"customer_id": "2", "merged_into": "1"}\')).*'
        " FROM customers AS c WHERE shop = %s AND customer_id = %s",
        (stores.SHOP, known[0]),
    )
    answer = get(world, "/segments/movement", world.key("read", shop=stores.SHOP), from_=text(first)).json()
    moves: Counter[Any] = Counter()
    for ident in before.keys() | now.keys():
        moves[before[ident].segment if ident in before else None, now[ident][1] if ident in now else None] += 1
    assert {(each["previous"], each["current"]): each["customers"] for each in answer["moves"]} == moves
    worth = sum(int(each["revenue_after"]["amount"].replace(".", "")) for each in answer["moves"])
    assert worth == sum(monetary for _, _, monetary in now.values())


def test_who_asks_for_a_movement_that_waits_shares_it_and_one_that_has_begun_is_another(
    world: World, connection: Connection[Any], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, told(7))
    filling.fill(connection, lake)
    headers = world.key("read", shop=stores.SHOP)
    going, gate, times = threading.Event(), threading.Event(), 0
    real = movement.moves

    def slow(*sides: Any) -> Any:
        nonlocal times
        times += 1
        going.set()
        gate.wait(20)
        return real(*sides)

    monkeypatch.setattr(movement, "moves", slow)
    answers: dict[int, Any] = {}

    def ask(name: int, at: datetime) -> threading.Thread:
        def asked() -> None:
            answers[name] = get(world, "/segments/movement", headers, from_=text(at)).json()

        thread = threading.Thread(target=asked)
        thread.start()
        return thread

    at = stores.NOW - 10 * stores.DAY
    get(world, "/segments", headers, as_of=text(at))  # worked out, and kept
    get(world, "/segments", headers, as_of=text(stores.NOW))
    asking = [ask(0, at)]
    assert going.wait(20)
    stand(connection, {"12345678901234567890": ("seg_555", "Champions", 900)})
    asking += [ask(1, at), ask(2, at), ask(3, at), ask(4, stores.NOW)]
    past_ = world.services.past
    while past_._waiting < 3 or len(past_._turns) < 2:
        gate.wait(0.01)
    gate.wait(0.3)  # whoever would not share has been counted by then
    assert past_._waiting == 3
    gate.set()
    for each in asking:
        each.join(20)
    assert times == 3
    assert all(each["current"] is None for each in answers[0]["moves"])
    assert answers[1]["moves"] == answers[2]["moves"] == answers[3]["moves"] != answers[4]["moves"]
    assert {each["current"] for each in answers[1]["moves"]} == {None, "Champions"}
    assert not past_._turns


def _moved(before: dict[str, Any], after: dict[str, Any], customer: str) -> tuple[str, str]:
    one, other = before.get(customer), after.get(customer)
    return one.segment if one else "", other.segment if other else ""


def test_a_lake_behind_is_said_and_a_run_answers(
    world: World, connection: Connection[Any], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelopes = told(8)
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, envelopes)
    headers = world.key("read", shop=stores.SHOP)
    monkeypatch.setattr(reading, "MOST", 20)
    for path in ("/segments", "/cohorts"):
        answer = get(world, path, headers, as_of=text(stores.NOW))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:loyalnest:problem:lake-behind")
        assert "loyalnest lake fill" in answer.json()["detail"]
        assert answer.headers["retry-after"]
    at = stores.NOW - stores.DAY
    report = segments.run(connection, lambda _: None, stores.SHOP, at, False)
    answer = get(world, "/segments", headers, as_of=text(stores.NOW)).json()
    assert (answer["source"], answer["run"]["id"], answer["as_of"]) == ("run", str(report.run_id), text(at))
    assert {each["segment"]: each["customers"] for each in answer["segments"]} == report.segments
    exporting = world.key("export", shop=stores.SHOP)
    assert f",{text(at)}," in get(world, "/exports/segments.csv", exporting, as_of=text(stores.NOW)).text
    filling.fill(connection, lake)
    assert get(world, "/segments", headers, as_of=text(stores.NOW)).json()["source"] == "lake"


def test_one_is_worked_out_at_a_time_and_others_wait_or_come_back(
    world: World, connection: Connection[Any], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, told(9))
    headers = world.key("read", shop=stores.SHOP)
    going, gate, at_once, most = threading.Event(), threading.Event(), 0, 0
    real = past.standings

    def slow(*given: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        going.set()
        gate.wait(20)
        found = real(*given)
        at_once -= 1
        return found

    monkeypatch.setattr(past, "standings", slow)
    monkeypatch.setattr("api.past.WAITING", 3)
    answers: list[Any] = []
    asking = [
        threading.Thread(
            target=lambda day: answers.append(
                get(world, "/segments", headers, as_of=text(stores.NOW - day * stores.DAY))
            ),
            args=(day,),
        )
        for day in range(3)
    ]
    for each in asking:
        each.start()
    assert going.wait(20)
    while world.services.past._waiting < 3:
        gate.wait(0.01)
    refused = get(world, "/segments", headers, as_of=text(stores.NOW - 9 * stores.DAY))
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:loyalnest:problem:busy")
    assert refused.headers["retry-after"]
    assert world.client.get("/healthz").status_code == 200  # the loop lives
    gate.set()
    for each in asking:
        each.join(20)
    assert ([answer.status_code for answer in answers], most) == ([200] * 3, 1)


def test_cohorts_are_who_came_back_month_by_month(world: World, connection: Connection[Any], lake: Lake) -> None:
    envelopes, at = told(10), stores.NOW
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, envelopes)
    filling.fill(connection, lake)
    answer = get(world, "/cohorts", world.key("read", shop=stores.SHOP), as_of=text(at)).json()
    found = oracle.oracle(oracle.until(envelopes, at), {stores.SHOP: PROGRAM}, t=at)[stores.SHOP]
    theirs: dict[str, list[Any]] = {}
    zone = frames.program(connection, stores.SHOP).zone
    for order in found.orders.values():
        if order.counts and order.net > 0 and order.whose in found.customers:
            assert order.processed_at is not None
            if order.processed_at > at:
                continue
            theirs.setdefault(order.whose, []).append((order.processed_at, order.net))
    should: dict[tuple[str, int], list[Any]] = {}
    first_of: Counter[str] = Counter()
    for orders in theirs.values():
        months = sorted((_month(when, zone), net) for when, net in orders)
        first = months[0][0]
        first_of[_named(first)] += 1
        for since in range(_month(at, zone) - first + 1):
            cell = should.setdefault((_named(first), since), [0, 0, 0, 0])
            nets = [net for month, net in months if month - first == since]
            cell[0] += bool(nets)
            cell[1] += len(nets)
            cell[2] += sum(nets)
            cell[3] += sum(month - first <= since for month, _ in months) > 1
    assert {each["month"]: each["customers"] for each in answer["cohorts"]} == first_of
    cells = {
        (each["month"], cell["months_since"]): [
            cell["customers"],
            cell["orders"],
            round(float(cell["net"]["amount"]) * 100),
            round(cell["repeat_rate"] * each["customers"]),
        ]
        for each in answer["cohorts"]
        for cell in each["months"]
    }
    assert cells == should
    assert sum(cell[3] for cell in cells.values())


def _month(at: datetime, zone: str) -> int:
    local = at.astimezone(ZoneInfo(zone))
    return local.year * 12 + local.month - 1


def _named(month: int) -> str:
    return f"{month // 12:04d}-{month % 12 + 1:02d}"


def test_sizes_by_day_are_those_of_each_days_last_run(world: World, connection: Connection[Any], lake: Lake) -> None:
    add_program(connection, stores.SHOP, **{**PROGRAM, "zone": "America/New_York"})
    add_raw(connection, told(11))
    day = datetime(2026, 10, 30, 12, tzinfo=UTC)
    reports = {}
    for at in (day, day + timedelta(hours=15), day + timedelta(hours=17), day + timedelta(days=2)):
        reports[at] = segments.run(connection, lambda _: None, stores.SHOP, at, False, kept=1, lake=lake)
    headers = world.key("read", shop=stores.SHOP)
    answer = get(world, "/segments/history", headers, from_="2026-10-30", to="2026-10-31").json()
    expected = [day + timedelta(hours=15), day + timedelta(hours=17)]
    assert [(each["day"], each["as_of"]) for each in answer["days"]] == [
        ("2026-10-30", text(expected[0])),
        ("2026-10-31", text(expected[1])),
    ]
    for each, at in zip(answer["days"], expected, strict=True):
        assert {row["segment"]: row["customers"] for row in each["segments"]} == reports[at].segments
    for wrong in ({"from_": "2026-10-31", "to": "2026-10-30"}, {"from_": "2020-01-01", "to": "2026-10-30"}):
        assert get(world, "/segments/history", headers, **wrong).status_code == 422


def test_where_nothing_can_be_kept_an_answer_is_given(world: World, connection: Connection[Any], lake: Lake) -> None:
    """The folder cannot be written to: a file stands where the kept ones go."""
    add_program(connection, stores.SHOP, **PROGRAM)
    envelopes = told(12)
    add_raw(connection, envelopes)
    filling.fill(connection, lake)
    (lake.folder / "past").write_text("")
    answer = get(world, "/segments", world.key("read", shop=stores.SHOP), as_of=text(stores.NOW)).json()
    assert sizes(answer) == sizes_said(said(envelopes, stores.NOW))


def test_a_preview_is_what_everybody_would_be(world: World, connection: Connection[Any], lake: Lake) -> None:
    """Of a program that is not announced: a shorter look-back, beside the one in force."""
    sent = told(1)
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, sent)
    filling.fill(connection, lake)
    headers = world.key("read", "admin", shop=stores.SHOP)
    path = f"/v1/shops/{stores.SHOP}/program"
    before = world.client.get(path, headers=headers)
    would = before.json() | {"look_back_days": 30}
    answer = world.client.post(f"{path}/preview", headers=headers, json=would)
    assert answer.status_code == 200, answer.text
    everybody = said(sent, datetime.now(UTC)).values()
    assert all(any(getattr(each, name) for each in everybody) for name in ("spent", "expired"))
    preview, now = answer.json(), datetime.fromisoformat(answer.json()["as_of"])
    for words, look_back in (("", 365), ("_then", 30)):
        should = sizes_said(said(sent, now, program={**PROGRAM, "look_back_days": look_back}))
        found = {
            each["segment"]: (
                each[f"customers{words}"],
                each[f"revenue{words}"]["amount"],
                each[f"points_balance{words}"],
            )
            for each in preview["segments"]
            if each[f"customers{words}"]
        }
        assert found == should
    assert world.client.get(path, headers=headers).headers["ETag"] == before.headers["ETag"]
    assert not list((lake.folder / "past").rglob("*.parquet")), "a preview is not kept"
    refused = world.client.post(f"{path}/preview", headers=headers, json=would | {"currency": "EUR"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:loyalnest:problem:not-a-successor")


def test_a_pages_cohorts_stand_for_a_while_and_never_over_another_program(world: World, lake: Lake) -> None:
    envelopes = stores.store(3)
    with psycopg.connect(world.url, autocommit=True) as connection:
        program = add_program(connection, stores.SHOP, **PROGRAM)
        add_raw(connection, envelopes[: len(envelopes) // 2])
        past_, now = world.services.past, instants.from_datetime(datetime(2027, 1, 1, tzinfo=UTC))
        at, first = asyncio.run(past_.cohorts_lately(program, now))
        assert at == now
        assert first
        add_raw(connection, envelopes[len(envelopes) // 2 :])
        assert asyncio.run(past_.cohorts_lately(program, now + MINUTE)) == (now, first)
        later = now + 10 * MINUTE + 1
        at, then = asyncio.run(past_.cohorts_lately(program, later))
        assert at == later
        assert then != first
        moved = program.model_copy(update={"zone": "Pacific/Auckland"})
        assert asyncio.run(past_.cohorts_lately(moved, later + 1))[0] == later + 1
