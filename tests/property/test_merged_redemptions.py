"""Redemptions in the middle of a merge: asked of whoever is deleted and of who is kept, while one is made the other.

One request, one decision, by the customer's own log alone; what was taken goes ahead of the points, so nobody spends
what is spent; and once everything has come, balances are the oracle's, who knows nothing of forwarding.
"""

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import instants, topics
from tables import contributions, redemptions
from tests import harness, oracle
from tests.harness import Sink, Stream
from tests.property import test_redemptions as alone
from tests.property.test_order_free import expected_row
from tests.property.test_redemptions import PROGRAM, decision, envelope, micros, one_decision_each
from tests.property.webhooks import NOW, SHOP, text, thorough

Json = dict[str, Any]

CUSTOMERS = ["7", "8", "9"]
_MINUTE = timedelta(minutes=1)

#: Instants of what happens: as tests/property/test_redemptions.py has them, with merges among them.
TIMES = [-60 * 24 * 40, -60 * 24 * 2, -3, 0, 1, 2, 59, 60, 61, 60 * 24]


def merge(kept: str, deleted: str, at: datetime, name: str) -> Json:
    gids = {"kept": kept, "deleted": deleted}
    payload = {f"admin_graphql_api_customer_{which}_id": f"gid://shopify/Customer/{of}" for which, of in gids.items()}
    return envelope("customers/merge", {**payload, "status": "completed"}, at, name)


def redeem(customer: str, name: str, reward: str, at: datetime, number: int, forced: bool = False) -> Json:
    cost = {"ten": 10, "kept": 5, "gone": 1, "rare": 2}[reward]
    payload = {"customer_id": customer, "request_id": name, "reward_id": reward, "cost": cost}
    return envelope("account/redeem_forced" if forced else "account/redeem", payload, at, f"q{number}")


def paid(order: int, customer: str, units: int, at: datetime, number: int, **more: Any) -> Json:
    payload = {
        "id": order,
        "updated_at": text(at),
        "created_at": text(at),
        "financial_status": "paid",
        "currency": "USD",
        "customer": {"id": int(customer)},
        "current_subtotal_price": str(units),
        "subtotal_price": "50",
    }
    return envelope("orders/updated", {**payload, **more}, at, f"o{number}")


def said(seed: int, count: int = 22) -> list[Json]:
    """Merges of three customers, chains and circles too, and everything else that may befall an account on the way."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        at = NOW + chance.choice(TIMES) * _MINUTE
        customer, request = chance.choice(CUSTOMERS), f"r{chance.randrange(3)}"
        kind = chance.choice(["order", "order", "award", *["redeem"] * 4, "forced", "cancel", "made", "merge", "merge"])
        if kind == "order":
            more: Json = {"financial_status": chance.choice(["paid", "paid", "refunded", "pending"])}
            more |= {"discount_codes": chance.choice([[], [{"code": f"ln-{customer}-{request}"}]])}
            if chance.random() < 0.1:  # a shop whose clock is wrong by years
                more |= {"updated_at": text(at + timedelta(days=chance.choice([1, 3650])))}
            found.append(paid(chance.randrange(4), customer, chance.choice([0, 9, 25]), at, number, **more))
        elif kind == "award":
            given_at = at + timedelta(minutes=chance.choice([0, 0, 3]))
            payload: Json = {"customer_id": customer, "award_id": f"a{chance.randrange(3)}-{number}"}
            payload |= {"at": text(given_at), "points": chance.choice([5, 12, 12, -4])}
            found.append(envelope("account/award", payload, at, f"q{number}"))
        elif kind in ("redeem", "forced"):
            reward = chance.choice(["ten", "ten", "kept", "kept", "gone", "rare"])
            found.append(redeem(customer, request, reward, at, number, forced=kind == "forced"))
        elif kind == "cancel":
            payload = {"customer_id": customer, "request_id": request}
            found.append(envelope("account/cancel", payload, at, f"q{number}"))
        elif kind == "made":
            payload = {"customer_id": customer, "request_id": request, "attempt": chance.randrange(2)}
            payload |= chance.choice([{"state": "failed"}, {"state": "issued", "code": f"LN-{customer}-{request}"}])
            found.append(envelope("account/fulfilment", payload, at, f"q{number}"))
        else:
            kept, deleted = chance.sample(CUSTOMERS, 2)
            found.append(merge(kept, deleted, at, f"m{number}"))
        if chance.random() < 0.15:
            found.append(found[-1])
    return found


# --- what should be decided, by the log alone ---------------------------------------------------------------------


class Log(alone.Log):
    """One customer's account log with what is forwarded to them, read in its order, by brute force."""

    def __init__(self, customer: str) -> None:
        super().__init__()
        self.customer = customer
        self.links: dict[str, str] = {}
        self.kept = ""
        #: By (whether a debit, its name, whose it was first): the latest that came of it.
        self.came: dict[tuple[bool, str, str], Json] = {}
        #: What had been taken of the customer when each link came to hold, by its rank.
        self.taken_before: dict[str, set[str]] = {}

    @property
    def holds(self) -> tuple[str, str]:
        """The link that holds, and whom it leads to; "" for who is themselves."""
        rank, into = max(((rank, into) for into, rank in self.links.items()), default=("", ""))
        return (rank, into) if rank > self.kept else ("", "")

    def read(self, record: Json) -> None:
        if record["type"] == "customer.link":
            self.links[record["into"]] = max(record["rank"], self.links.get(record["into"], ""))
            self.taken_before.setdefault(self.holds[0], self.names())
        elif record["type"] == "account.kept":
            self.kept = max(self.kept, record["rank"])
        elif record["type"] == "customer.forward":
            self.hear(record)
        else:
            super().read(record)

    def hear(self, record: Json) -> None:
        self.filed = max(self.filed, record["filed"])
        if record["order_id"] is None or self.customer in {record["origin"], *(to for _, to in record["hops"][:-1])}:
            return
        key = bool(record.get("debit")), record["order_id"], record["origin"]
        if key not in self.came or newness(self.came[key]) < newness(record):
            self.came[key] = record

    def had(self, reward: str, at: int) -> bool:
        """Also what somebody had who is this customer now."""
        since, number = at - 10 * instants.DAY, redemptions.number_of(reward)
        return super().had(reward, at) or any(
            home > since and of == number and points > taken_back
            for (debit, name, _), each in self.came.items()
            if debit and name.startswith("redeem:") and not each["gone"]
            for home, of, points, taken_back, *_ in each["entries"]
        )

    def decide(self, request: Json) -> Json:
        found = super().decide(request)
        if self.holds[1] and not request["forced"]:
            found |= {"accepted": False, "reason": "merged"}
        return found

    def names(self) -> set[str]:
        """What was taken of the customer themselves."""
        own = {f"redeem:{name}" for name, each in self.decided.items() if each["accepted"]}
        return own | {f"award:{name}" for name, each in self.awards.items() if each["points"] < 0}

    def lots(self) -> list[tuple[int, int]]:
        if self.holds[1]:
            return []
        # Of an order that Shopify moved as well its newest word counts, whoever told it.
        newest = {name: each["revision"] for name, each in self.orders.items()}
        for (_, name, _), record in self.came.items():
            newest[name] = max(newest.get(name, ""), record["revision"])
        stale = {name for name, each in self.orders.items() if each["revision"] < newest[name]}
        own = [each for name, each in self.of_orders().items() if each[1] and name not in stale]
        own += [(each["at"], each["points"]) for each in self.awards.values() if each["points"] > 0]
        return own + [
            lot
            for (debit, name, _), record in self.came.items()
            if not debit and (record["revision"] == newest[name] or not name.isdigit())
            for lot in brought(record)
        ]

    def taken(self) -> list[tuple[int, int]]:
        if self.holds[1]:
            return []
        return super().taken() + [
            each for (debit, *_), record in self.came.items() if debit for each in brought(record)
        ]


def newness(record: Json) -> tuple[Any, ...]:
    return record["hops"], not record["gone"], record["revision"]


def brought(record: Json) -> list[tuple[int, int]]:
    """When, and how many points, of what was forwarded and is theirs."""
    entries = [] if record["gone"] else record["entries"]
    return [(at, earned - back) for at, _, earned, back, *_ in entries if earned != back]


def logs_of(stream: Stream) -> dict[str, Log]:
    found = {customer: Log(customer) for customer in CUSTOMERS}
    for record in stream.outputs(topics.ACCOUNT_FACTS):
        if record["type"] != "account.mode":
            found[record["customer_id"]].read(record)
    return found


def what_was_taken_came_first(stream: Stream, logs: dict[str, Log]) -> None:
    """No log ever has points without what was taken of them before the link by which they came: not while they come,
    and not while they go again."""
    again = {customer: Log(customer) for customer in CUSTOMERS}
    for record in stream.outputs(topics.ACCOUNT_FACTS):
        if record["type"] != "customer.forward":
            continue
        log, origin = again[record["customer_id"]], record["origin"]
        log.hear(record)
        if (
            record["order_id"] is None
            or log.came.get((bool(record.get("debit")), record["order_id"], origin)) != record
        ):
            continue
        theirs = {(debit, name): each for (debit, name, of), each in log.came.items() if of == origin}
        if not record.get("debit") and not record["gone"]:
            for name in logs[origin].taken_before[record["hops"][0][0]]:
                assert theirs[True, name]["hops"] >= record["hops"], (log.customer, record["order_id"], name)
        elif record.get("debit") and record["gone"]:
            left = [name for (debit, name), each in theirs.items() if not debit and not each["gone"]]
            assert not [name for name in left if theirs[False, name]["hops"] < record["hops"]], (log.customer, origin)


# --- the tests ----------------------------------------------------------------------------------------------------


def told(stream: Stream, sent: list[Json], crashes: int) -> Stream:
    """Everything, in this order, each a little after the other: what is asked is decided in the middle of merges."""
    for each in sent:
        stream.send(each, astray=stream.chance.random() < 0.1)
        for _ in range(stream.chance.choice([0, 0, 1, 4, 20])):
            stream.step()
    stream.run(crashes, frozen=0.4)
    return stream


def check_decisions(sink: Sink, logs: dict[str, Log]) -> dict[tuple[str, str], Json]:
    rows = one_decision_each(sink)
    assert set(rows) == {(customer, request) for customer, log in logs.items() for request in log.decided}
    for (customer, request), row in rows.items():
        log = logs[customer]
        wanted = log.decided[request]
        found = row["accepted"], row["reason"], micros(row["decided_at"])
        assert found == (wanted["accepted"], wanted["reason"], wanted["at"]), (customer, request)
        assert row["forced"] or not row["accepted"] or row["cost"] <= row["balance"]
        assert row["status"] == log.status(request), (customer, request)
    return rows


def check_rows(sink: Sink, sent: list[Json], rows: dict[tuple[str, str], Json]) -> None:
    """As the oracle has it, of all that was said and what was decided of it."""
    history = [*sent, *(decision(row, at) for at, row in enumerate(rows.values()))]
    expected = oracle.oracle(history, {SHOP: PROGRAM})[SHOP]
    assert {customer for _, customer in sink.rows} == set(expected.customers)
    for customer_id, customer in expected.customers.items():
        row: Any = sink.rows[SHOP, customer_id]
        wanted = expected_row(customer)
        del wanted["standing"]
        assert {name: row[name] for name in wanted} == wanted, customer_id
        posted = [record for key, record in sink.points.items() if key[:2] == (SHOP, customer_id)]
        ledger = sum(each["total"] for each in posted if instants.parse(each["processed_at"]) <= micros(row["now"]))
        assert ledger == customer.balance + customer.pending + customer.expired, customer_id
    statuses = {key: each.status for key, each in expected.redemptions.items()}
    assert statuses == {key: row["status"] for key, row in rows.items()}


@thorough(300)
@given(seed=st.integers(0, 2**32), crashes=st.integers(0, 4), small=st.booleans())
def test_what_is_asked_in_the_middle_of_a_merge_is_decided_once_and_by_its_log_alone(
    seed: int, crashes: int, small: bool
) -> None:
    """Merges of three customers in chains and circles, crashes, and workers that were overtaken and go on."""
    chance, sent = random.Random(seed), said(seed)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(contributions, "LEAF", 2)
            patch.setattr(contributions, "FAN", 2)
        known = harness.reference({SHOP: PROGRAM})
        stream = told(Stream(known, chance, partitions=3, most=chance.choice([1, 3, 40])), sent, crashes)
    sink, logs = stream.sink(), logs_of(stream)
    assert not sink.letters
    what_was_taken_came_first(stream, logs)
    check_rows(sink, sent, check_decisions(sink, logs))


@thorough(100)
@given(seed=st.integers(0, 2**32), crashes=st.integers(0, 3))
def test_a_rebuild_of_a_merge_decides_nothing_anew(seed: int, crashes: int) -> None:
    """The history and what was decided, in any order: the same decisions, the same balances."""
    chance, sent = random.Random(seed), said(seed)
    known = harness.reference({SHOP: PROGRAM})
    stream = told(Stream(known, chance, partitions=3), sent, 0)
    before = one_decision_each(stream.sink())
    history = [*sent, *(decision(row, at) for at, row in enumerate(before.values()))]
    chance.shuffle(history)
    again = Stream(known, chance, partitions=3, most=chance.choice([1, 3, 40]))
    alone.mode(again, "replay")
    again.run()
    told(again, history, crashes)
    alone.mode(again, "live")
    again.run(crashes, frozen=0.4)
    sink = again.sink()
    after = one_decision_each(sink)
    assert {key: {**row, "archived": None} for key, row in after.items()} == {
        key: {**row, "archived": None} for key, row in before.items()
    }
    check_rows(sink, sent, after)


@thorough(200)
@given(seed=st.integers(0, 2**32), crashes=st.integers(0, 4))
def test_two_who_become_one_never_spend_what_they_did_not_earn(seed: int, crashes: int) -> None:
    """Where nothing is given back, forced or taken by hand, nobody who is themselves in the end owes anything.

    A chain, or two into one; points wait and run out; requests to all of them, before, during and after.
    """
    chance = random.Random(seed)
    sent = []
    for number in range(20):
        at, customer = NOW + chance.choice(TIMES) * _MINUTE, chance.choice(CUSTOMERS)
        if chance.random() < 0.35:
            sent.append(paid(number, customer, chance.choice([9, 25]), at, number))
        else:
            reward = chance.choice(["ten", "kept"])
            sent.append(redeem(customer, f"r{chance.randrange(6)}", reward, at, number))
    first, second, third = chance.sample(CUSTOMERS, 3)
    pair = chance.choice([(third, second), (second, third)])
    merges = [merge(second, first, NOW, "m1"), merge(*pair, NOW + _MINUTE, "m2")]
    for each in chance.sample(merges, chance.choice([1, 2, 2])):
        sent.insert(chance.randrange(len(sent) // 2, len(sent)), each)
    stream = Stream(harness.reference({SHOP: PROGRAM}), chance, partitions=3, most=chance.choice([1, 3, 40]))
    sink = told(stream, sent, crashes).sink()
    rows = check_decisions(sink, logs_of(stream))
    check_rows(sink, sent, rows)
    assert all(row["balance"] >= 0 for row in sink.rows.values())


def test_what_somebody_else_had_under_a_name_is_not_what_they_had() -> None:
    """Of 8's a request of the same name came over, for another reward: a limit knows it by its reward."""
    stream = Stream(harness.reference({SHOP: PROGRAM}))
    sent = [
        *(paid(number, customer, 25, NOW - 2 * timedelta(days=1), number) for number, customer in enumerate("78")),
        redeem("7", "r", "rare", NOW, 2),
        envelope("account/cancel", {"customer_id": "7", "request_id": "r"}, NOW, "c"),
        redeem("8", "r", "ten", NOW + _MINUTE, 3),
        merge("7", "8", NOW + 2 * _MINUTE, "m"),
        redeem("7", "again", "rare", NOW + 3 * _MINUTE, 4),
    ]
    for each in sent:
        stream.send(each)
        stream.run()
    rows = one_decision_each(stream.sink())
    assert [rows["8", "r"]["status"], rows["7", "r"]["status"]] == ["reserved", "returned"]
    assert (rows["7", "again"]["accepted"], rows["7", "again"]["reason"]) == (True, None)
