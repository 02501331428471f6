"""The points that ran out, by day: what was told in the end is what lots kept one by one come to."""

import random
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events import instants
from events.programs import Program
from tables import account, contributions, expired
from tables.customers import Filed
from tables.reference import ShopReference
from tests import harness, oracle
from tests.harness import Sink, Stream
from tests.property.test_history import Kept as Table
from tests.property.test_history import small
from tests.property.test_order_free import CUT_POINTS
from tests.property.webhooks import NOW, PROGRAM, SHOP, ZONES, text, thorough

Json = dict[str, Any]

DAY = timedelta(days=1)
FIRST = NOW - 100 * DAY
END = NOW + 3 * DAY
CUSTOMERS = ["7", "8"]


def program(plain: Json, chance: random.Random) -> Json:
    """In which points run out soon, by day or year, some of them sooner from a moment on."""
    lives = [{"effective_from": None, "life_days": chance.choice([1, 5, 20]), "calendar": "day"}]
    if chance.random() < 0.5:
        since = text(FIRST + chance.randrange(80) * DAY)
        lives.append({"effective_from": since, "life_days": chance.choice([2, 9, None]), "calendar": "day"})
    if chance.random() < 0.4:  # or for want of activity
        lives = [{"effective_from": None, "inactive_days": chance.choice([30, 33])}]
        if chance.random() < 0.5:
            lives.append({"effective_from": text(FIRST + chance.randrange(80) * DAY), "inactive_days": 31})
    holds = [{"effective_from": None, "hold_days": chance.choice([0, 1, 7])}]
    return {**plain, "expiry": lives, "holds": holds, "rules": [{"effective_from": None, "points_per_unit": "1"}]}


def said(chance: random.Random, count: int, *, merged: bool) -> list[Json]:
    """What was given, taken, taken back and told anew, dated anywhere, and webhooks that tell nothing but the time."""
    found = []
    for number in range(count):
        # Time goes on, mostly: it must pass over days that what comes next changes.
        began = number * 100 // count if chance.random() < 0.8 else 0
        at = FIRST + (began + chance.randrange(3)) * DAY + timedelta(hours=chance.choice([0, 4, 5, 12]))
        topic, customer = "account/award", chance.choice(CUSTOMERS)
        if chance.random() < 0.3:
            topic, payload = "customers/update", {"id": int(customer), "updated_at": text(at)}
        elif chance.random() < 0.4:
            topic = "orders/updated"
            payload = {
                "id": 1 + chance.randrange(6),
                "updated_at": text(at),
                "created_at": text(FIRST),
                "processed_at": text(FIRST + chance.randrange(100) * DAY),
                "financial_status": chance.choice(["paid", "paid", "refunded"]),
                "currency": "USD",
                "customer": {"id": int(customer)},
                "subtotal_price": "30.00",
                "current_subtotal_price": chance.choice(["30.00", "12.00", "0.00"]),
            }
        else:
            payload = {
                "customer_id": customer,
                "award_id": f"a{chance.randrange(8)}",
                "at": text(FIRST + chance.randrange(100) * DAY + timedelta(hours=chance.choice([0, 4, 5]))),
                "points": chance.choice([3, 20, 20, -5, -15]),
                "counts_as_earned": True,
            }
            if chance.random() < 0.2:
                payload["voided"] = True
        if chance.random() < 0.1:
            topic, payload = redemption(chance, customer, number)
        found.append(envelope(topic, payload, at, number))
    if merged:
        gids = [f"gid://shopify/Customer/{each}" for each in chance.sample(CUSTOMERS, 2)]
        named = ("admin_graphql_api_customer_kept_id", "admin_graphql_api_customer_deleted_id")
        merge = {**dict(zip(named, gids, strict=True)), "status": "completed"}
        found.insert(chance.randrange(count), envelope("customers/merge", merge, FIRST + 50 * DAY, count))
    return found


def redemption(chance: random.Random, customer: str, number: int) -> tuple[str, Json]:
    """What was decided, or that it was returned; be it of another customer's, or of nobody's."""
    named = {"customer_id": customer, "request_id": f"r{chance.randrange(number + 1)}"}
    if chance.random() < 0.3:
        return "account/cancel", named
    at = text(FIRST + chance.randrange(100) * DAY)
    said = {"seq": 1, "decided_at": at, "requested_at": at, "accepted": True, "forced": False, "balance": 0}
    return "account/decision", {**named, "request_id": f"r{number}", "reward_id": "ten", "cost": 4, **said}


def envelope(topic: str, payload: Json, at: datetime, number: int) -> Json:
    return {
        "topic": topic,
        "shop": SHOP,
        "webhook_id": f"w{number}",
        "event_id": None,
        "api_version": None,
        "triggered_at": text(at),
        "received_at": text(at),
        "payload": payload,
    }


def check(sink: Sink, sent: list[Json], plain: Json, end: datetime | None) -> None:
    wanted = oracle.oracle(sent, {SHOP: plain}, None, end)[SHOP]
    for customer_id, customer in wanted.customers.items():
        days = sink.expired().get((SHOP, customer_id), {})
        assert {day: points for day, (_, _, points) in days.items()} == +customer.expired_on, customer_id
        assert {zone for zone, _, _ in days.values()} <= {plain["zone"]}
        row: Any = sink.rows[SHOP, customer_id]
        assert row["expired"] == sum(points for _, _, points in days.values())


@thorough(60)
@given(plain=PROGRAM, seed=st.integers(0, 2**32), crashes=st.integers(0, 3), nodes=st.sampled_from([2, 3, 32]))
def test_days_are_told_as_lots_come_to_whatever_crashes(plain: Json, seed: int, crashes: int, nodes: int) -> None:
    """Also where time, told by other topics than points are, comes at another moment of a replay."""
    chance = random.Random(seed)
    plain = program(plain, chance)
    sent = said(chance, chance.choice([4, 8, 20]), merged=chance.random() < 0.3)
    with small(nodes, nodes):
        cut = {SHOP: [{**CUT_POINTS, "as_of": text(END)}]}
        stream = Stream(
            harness.reference({SHOP: plain}, cut), chance, partitions=1, workers=1, most=chance.choice([1, 3])
        )
        runs = sorted(chance.sample(range(len(sent)), 2))
        for number, each in enumerate(sent):
            if number in runs:
                stream.rescore(SHOP, FIRST + (chance.randrange(100)) * DAY, "v1", slices=1)
            stream.send(each)
            if chance.random() < 0.3:
                for _ in range(chance.randrange(12)):
                    stream.step()
        stream.run(crashes, horizon=25, frozen=0.3)
        stream.rescore(SHOP, END, "v1")
        stream.run(chance.choice([0, 1]), horizon=10, frozen=0.3)
        check(stream.sink(), sent, plain, END)


@thorough(100)
@given(seed=st.integers(0, 2**32), crashes=st.integers(1, 3))
def test_a_day_that_was_told_before_a_crash_is_taken_back_after_it(seed: int, crashes: int) -> None:
    """The replay may hear that the points were taken back before it hears of the time at which they ran out."""
    chance = random.Random(seed)
    plain = {
        "currency": "USD",
        "zone": "UTC",
        "look_back_days": 365,
        "rules": [],
        "expiry": [{"effective_from": None, "life_days": 5, "calendar": "day"}],
    }
    award = {"customer_id": "7", "award_id": "a", "at": text(FIRST), "points": 20, "counts_as_earned": True}
    sent = [
        envelope("account/award", award, FIRST, 0),
        envelope("account/award", {**award, "voided": True}, FIRST + 2 * DAY, 1),
    ]
    later = FIRST + 50 * DAY
    known = harness.reference({SHOP: plain}, {SHOP: [{**CUT_POINTS, "as_of": text(later)}]})
    stream = Stream(known, chance, partitions=1, workers=1, most=1)
    stream.send(sent[0])
    stream.run()
    stream.rescore(SHOP, later, "v1", slices=1)
    stream.send(sent[1])
    stream.run(crashes, horizon=8)
    check(stream.sink(), sent, plain, later)


def is_redeemed(name: str) -> bool:
    """Of what is taken, whether by a redemption."""
    return int(name.removeprefix("award:")) % 2 == 0


class Days:
    """A customer's trees, what was told of their days, and what lots kept one by one come to."""

    def __init__(self, plain: Json) -> None:
        self.plain = plain
        self.nodes: Any = Table().open()[1]
        self.tree, self.held = contributions.empty(), account.empty()
        self.points: dict[tuple[bool, str], tuple[datetime, int]] = {}  # what is given and taken, by its name
        self.told: expired.Told | None = None
        self.heard: dict[int, int] = {}  # what a reader has heard last
        self.moved: expired.Moved | None = None

    @property
    def shop(self) -> ShopReference:
        return ShopReference.of(Program.model_validate({**self.plain, "shop": SHOP}))

    def put(self, debit: bool, name: str, at: datetime, points: int) -> None:
        """Filed as of another time it is nothing where it was."""
        have = self.points.get((debit, name))
        if have is not None and have[0] != at:
            self._file(debit, name, have[0], 0, 0)
        self.points[debit, name] = at, points
        self._file(debit, name, at, points, int(debit and is_redeemed(name)))

    def _file(self, debit: bool, name: str, at: datetime, points: int, counts: int) -> None:
        home = instants.from_datetime(at)
        entry = [home, name, "r", 0, points, 0, counts, 1]
        tree = self.held["debits"] if debit else self.tree
        filed = Filed(home, contributions.find(self.nodes, tree, home, name), entry)
        tree = contributions.put(self.nodes, tree, list(entry))
        if debit:
            self.held["debits"] = tree
        else:
            self.tree = tree
        if self.told is not None:
            self.moved = expired.moved(self.told, self.shop, home, filed.before, entry, debit, self.moved)

    def tell(self, at: datetime) -> dict[int, int]:
        now = instants.from_datetime(at)
        gone = account.purse(self.nodes, self.tree, self.held, self.shop.terms, now).expired
        self.told, differ = expired.told_now(
            self.nodes, self.tree, self.held, self.told, self.shop, now, gone, self.moved
        )
        self.moved = None
        self.heard |= differ
        return differ

    def wanted(self, at: datetime) -> dict[str, int]:
        customer = oracle.Customer(now=at)
        lots = sorted(each for (debit, _), each in self.points.items() if not debit)
        taken = [each for (debit, _), each in self.points.items() if debit]
        if oracle.by_inactivity(self.plain):
            active = [when for when, points in lots if points]
            active += [when for (debit, name), (when, _) in self.points.items() if debit and is_redeemed(name)]
            oracle.idle(customer, lots, taken, active, at, self.plain)
        else:
            oracle.spend(customer, lots, taken, at, self.plain)
        return dict(+customer.expired_on)

    def found(self) -> dict[str, int]:
        records = expired.records(SHOP, "7", self.shop.zone, self.heard, 0)
        return {each["day"]: each["points"] for each in records if each["points"]}


@thorough(120)
@given(
    plain=PROGRAM,
    seed=st.integers(0, 2**32),
    nodes=st.sampled_from([2, 3, 32]),
    zones=st.booleans(),
    several=st.booleans(),
)
def test_days_are_those_of_lots_after_every_change(
    plain: Json, seed: int, nodes: int, zones: bool, several: bool
) -> None:
    """Whatever is filed late, in whichever order, however many at once, and however often the shop changes its zone."""
    chance = random.Random(seed)
    days = Days(program(plain, chance))
    with small(nodes, nodes):
        at = FIRST
        for number in range(30):
            for _ in range(chance.randint(1, 4) if several else 1):
                debit, name = chance.random() < 0.4, f"award:{chance.randrange(12)}"
                when = FIRST + chance.randrange(100) * DAY + timedelta(hours=chance.choice([0, 4, 5, 12]))
                days.put(debit, name, when, chance.choice([0, 3, 10, 20]))
            if zones and number % 7 == 6:
                days.plain = {**days.plain, "zone": chance.choice(ZONES)}
            if chance.random() < 0.6:
                # (Over several times that somebody may be inactive.)
                most = 16 if oracle.by_inactivity(days.plain) else 6
                at += chance.randrange(most) * DAY + timedelta(hours=chance.choice([0, 5]))
            before, heard, shop = days.told, dict(days.heard), days.shop
            differ = days.tell(at)
            assert days.found() == days.wanted(at)
            if before is not None and before["zone"] == shop.zone.key:  # what is right and was told is not told again
                newest = instants.to_datetime(before["until"]).astimezone(shop.zone).date().toordinal()
                assert not [day for day, points in differ.items() if day < newest and heard.get(day, 0) == points]
