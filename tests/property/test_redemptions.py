"""Redemptions in the stream: one request, one decision, whatever crashes and whoever folds; and what comes of it."""

import random
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import codec, instants, topics
from tables import contributions, redemptions
from tests import harness, oracle
from tests.harness import Sink, Stream
from tests.property.webhooks import NOW, SHOP, text, thorough

Json = dict[str, Any]

CUSTOMERS = ["7", "8"]
#: A reward that costs 10, dearer from a moment on, one that is ended, and one of which there is one in ten days.
CHANGES = NOW + timedelta(hours=1)
REWARDS: list[Json] = [
    {"reward_id": "ten", "cost": 10, "kind": "shipping", "name": "ten"},
    {"reward_id": "ten", "cost": 30, "kind": "shipping", "name": "ten", "effective_from": text(CHANGES)},
    {"reward_id": "kept", "cost": 5, "kind": "shipping", "name": "kept", "on_void": "keep"},
    {"reward_id": "gone", "cost": 1, "kind": "shipping", "name": "gone", "until": text(NOW - timedelta(days=9))},
    {"reward_id": "rare", "cost": 2, "kind": "shipping", "name": "rare", "limit": {"count": 1, "days": 10}},
]
PROGRAM: Json = {
    "currency": "USD",
    "zone": "America/New_York",
    "look_back_days": 365,
    "rules": [{"effective_from": None, "points_per_unit": "1"}],
    "rewards": [{"effective_from": None, **each} for each in REWARDS],
    "holds": [{"effective_from": text(NOW), "hold_days": 1}],
    "expiry": [{"effective_from": None, "life_days": 30, "calendar": "day"}],
}


def envelope(topic: str, payload: Json, at: datetime, name: str) -> Json:
    return {
        "topic": topic,
        "shop": SHOP,
        "webhook_id": name,
        "event_id": None,
        "api_version": None,
        "triggered_at": text(at),
        "received_at": text(at),
        "payload": payload,
    }


def said(seed: int, count: int = 14) -> list[Json]:
    """Orders, awards, requests (some twice, some with another body), cancellations and codes of two customers."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        at = NOW + timedelta(minutes=chance.choice([-60 * 24 * 40, -60 * 24 * 2, -3, 0, 0, 59, 60, 61, 60 * 24]))
        customer, request = chance.choice(CUSTOMERS), f"r{chance.randrange(4)}"
        kinds = ["order", "order", "award", "redeem", "redeem", "redeem", "forced", "cancel", "made", "deduct", "void"]
        kind = chance.choice(kinds)
        if kind == "order":
            code = chance.choice([[], [{"code": f"ln-{customer}-{request}"}], [{"code": "ln-7-r0"}]])
            payload: Json = {
                "id": chance.randrange(4),
                "updated_at": text(at),
                "created_at": text(at),
                "financial_status": chance.choice(["paid", "paid", "refunded", "pending"]),
                "currency": "USD",
                "customer": {"id": int(customer)},
                "current_subtotal_price": str(chance.choice([0, 9, 10, 25])),
                "subtotal_price": "25",
                "discount_codes": code,
            }
            found.append(envelope("orders/updated", payload, at, f"o{number}"))
            continue
        payload = {"customer_id": customer}
        if kind == "award":
            given = at + timedelta(minutes=chance.choice([0, 0, 3]))  # a till's clock may be ahead
            payload |= {"award_id": f"a{number}", "at": text(given), "points": chance.choice([5, 12, -4])}
            topic = "account/award"
        elif kind in ("redeem", "forced"):
            reward = chance.choice(["ten", "ten", "kept", "gone", "rare", "rare", "none"])
            payload |= {"request_id": request, "reward_id": reward}
            payload["cost"] = {"ten": 10, "kept": 5, "gone": 1, "rare": 2, "none": 1}[reward]
            topic = "account/redeem" if kind == "redeem" else "account/redeem_forced"
        elif kind == "deduct":
            payload |= {"request_id": f"checked/{request}", "cost": chance.choice([3, 10, 24]), "source": "api"}
            topic = "account/deduct"
        elif kind == "void":
            payload |= {"request_id": f"checked/{request}"}
            topic = "account/cancel"
        elif kind == "cancel":
            payload |= {"request_id": request, "reason": chance.choice(["unused", "unused", "", "no more"])}
            topic = "account/cancel"
        else:
            state = chance.choice(["issued", "issued", "failed"])
            payload |= {"request_id": request, "attempt": chance.randrange(2), "state": state}
            # One that failed may be there all the same, where nobody heard of it.
            there = state == "issued" or chance.random() < 0.5
            payload |= {"code": f"LN-{customer}-{request}"} if there else {}
            topic = "account/fulfilment"
        found.append(envelope(topic, payload, at, f"q{number}"))
        if chance.random() < 0.2:
            found.append(found[-1])
    return found


# --- what should be decided, by the log alone ---------------------------------------------------------------------


class Log:
    """One customer's account log, read in its order, by brute force."""

    def __init__(self) -> None:
        self.orders: dict[str, Json] = {}
        self.awards: dict[str, Json] = {}
        self.decided: dict[str, Json] = {}
        self.cancelled: set[str] = set()
        self.unused: set[str] = set()
        self.made: dict[str, tuple[int, bool, str]] = {}
        self.codes: dict[str, set[str]] = defaultdict(set)  # that an order ever bore
        self.filed = 0

    def read(self, record: Json) -> None:
        kind = record["type"]
        if kind == "order.fact":
            have = self.orders.get(record["order_id"])
            if have is None or have["revision"] < record["revision"]:
                self.orders[record["order_id"]] = record
            self.codes[record["order_id"]] |= {code.upper() for code in record.get("codes", ())}
        elif kind == "account.award":
            self.awards.setdefault(record["award_id"], record)
        elif kind == "account.redeem" and record["request_id"] not in self.decided:
            self.decided[record["request_id"]] = self.decide(record)
        elif kind == "account.cancel":
            (self.unused if record["reason"] == "unused" else self.cancelled).add(record["request_id"])
        elif kind == "account.fulfilment":
            said = record["attempt"], record["state"] == "issued", record["code"] or ""
            self.made[record["request_id"]] = max(said, self.made.get(record["request_id"], said))
        self.filed = max(self.filed, record["now"])

    def decide(self, request: Json) -> Json:
        latest = max((each["at"] for each in self.decided.values()), default=0)
        at = max(request["now"], latest, self.filed)
        if request["forced"]:
            return {**request, "at": request["now"], "accepted": True, "reason": None}
        balance = self.balance(at)
        if request["reward_id"] is None:
            reason = None if balance >= request["cost"] else "insufficient-points"
            return {**request, "at": at, "accepted": reason is None, "reason": reason}
        rewards = [each for each in PROGRAM["rewards"] if each["reward_id"] == request["reward_id"]]
        rewards = [each for each in rewards if (micros(each["effective_from"]) if each["effective_from"] else 0) <= at]
        reason = None
        if not rewards or (rewards[-1].get("until") and micros(rewards[-1]["until"]) <= at):
            reason = "unknown-reward"
        elif rewards[-1]["cost"] != request["cost"]:
            reason = "wrong-cost"
        elif rewards[-1].get("limit") and self.had(request["reward_id"], at):
            reason = "limit"
        elif balance < request["cost"]:
            reason = "insufficient-points"
        return {**request, "at": at, "accepted": reason is None, "reason": reason}

    def had(self, reward: str, at: int) -> bool:
        since = at - 10 * instants.DAY
        return any(
            each["reward_id"] == reward and each["at"] > since and self.status(name) not in ("refused", "returned")
            for name, each in self.decided.items()
        )

    def status(self, request_id: str) -> str:
        decision = self.decided[request_id]
        if not decision["accepted"]:
            return "refused"
        if decision["reward_id"] is None:
            return "returned" if request_id in self.cancelled else "taken"
        made = self.made.get(request_id)
        code = made[2].upper() if made else ""
        bear = [each for name, each in self.orders.items() if code and code in self.codes[name]]
        bear = sorted(bear, key=lambda each: -int(each["order_id"]))[:2]
        if any(each["counted"] for each in bear):
            return "used"
        if request_id in self.cancelled or (made and not made[1]):
            return "returned"
        if any(each["paid"] for each in bear):
            return "used" if decision["reward_id"] == "kept" else "returned"
        if request_id in self.unused:
            return "returned"
        return "issued" if made or decision["forced"] else "reserved"

    def balance(self, at: int, ahead: bool = True) -> int:
        """Lot by lot; with what is known to be taken later, where whoever asks is to be granted something (`ahead`)."""
        lots, debits = self.lots(), self.taken()
        held = oracle.Customer(now=when(at))
        oracle.spend(
            held, [(when(t), p) for t, p in sorted(lots)], [(when(t), p) for t, p in debits], when(at), PROGRAM
        )
        return int(held.balance - ahead * sum(points for taken_at, points in debits if taken_at > at))

    def lots(self) -> list[tuple[int, int]]:
        """When points were earned, and how many."""
        found = [each for each in self.of_orders().values() if each[1]]
        return found + [(each["at"], each["points"]) for each in self.awards.values() if each["points"] > 0]

    def of_orders(self) -> dict[str, tuple[int, int]]:
        return {name: (each["processed_at"], self.worth(each)) for name, each in self.orders.items()}

    def taken(self) -> list[tuple[int, int]]:
        """When points were taken, and how many."""
        debits = [(each["at"], -each["points"]) for each in self.awards.values() if each["points"] < 0]
        standing = [name for name in self.decided if self.status(name) not in ("refused", "returned")]
        return debits + [(self.decided[name]["at"], self.decided[name]["cost"]) for name in standing]

    def worth(self, fact: Json) -> int:
        return int(fact["net"]) // 100 if fact["counted"] else 0


def micros(at: str) -> int:
    return instants.parse(at)


def when(at: int) -> datetime:
    return instants.to_datetime(at)


def logs_of(stream: Stream) -> dict[str, Log]:
    found: dict[str, Log] = defaultdict(Log)
    for record in stream.outputs(topics.ACCOUNT_FACTS):
        if record["type"] != "account.mode":
            found[record["customer_id"]].read(record)
    return found


DECISION = ("accepted", "reason", "reward_id", "cost", "forced", "seq", "requested_at", "decided_at", "balance")


def one_decision_each(sink: Sink) -> dict[tuple[str, str], Json]:
    """The newest row of each redemption; no two rows of one say that anything else was decided."""
    found = {}
    for (_, customer, request), rows in sink.redemptions.items():
        assert len({tuple(row[name] for name in DECISION) for row in rows}) == 1, (customer, request)  # type: ignore[literal-required]
        found[customer, request] = max(rows, key=lambda row: row["revision"])
    return found  # type: ignore[return-value]


@thorough(300)
@given(seed=st.integers(0, 2**32), crashes=st.integers(0, 4), small=st.booleans())
def test_one_request_one_decision_and_that_by_its_log_alone(seed: int, crashes: int, small: bool) -> None:
    """Through crashes, and workers that were overtaken and go on."""
    chance = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(contributions, "LEAF", 2)
            patch.setattr(contributions, "FAN", 2)
        stream = Stream(harness.reference({SHOP: PROGRAM}), chance, partitions=2, most=chance.choice([1, 3, 40]))
        for each in said(seed):
            stream.send(each, astray=chance.random() < 0.1)
            if chance.random() < 0.4:
                stream.step()
        stream.run(crashes, frozen=0.4)
    sink = stream.sink()
    assert not sink.letters
    rows = one_decision_each(sink)
    logs = logs_of(stream)
    assert set(rows) == {(customer, request) for customer, log in logs.items() for request in log.decided}
    for (customer, request), row in rows.items():
        log = logs[customer]
        wanted = log.decided[request]
        assert (row["accepted"], row["reason"]) == (wanted["accepted"], wanted["reason"]), (customer, request)
        assert micros(row["decided_at"]) == wanted["at"]
        assert row["forced"] or not row["accepted"] or row["cost"] <= row["balance"]
        assert row["status"] == log.status(request), (customer, request)
        assert row["points"] == (-row["cost"] if log.status(request) not in ("refused", "returned") else 0)
        assert (row["reward_id"], row.get("source")) == (wanted["reward_id"], wanted.get("source"))
    check_balances(stream, sink, logs)


def test_a_code_that_was_given_up_but_is_there_is_used_by_an_order_that_bears_it() -> None:
    stream = Stream(harness.reference({SHOP: PROGRAM}))

    def say(topic: str, minutes: int, **said: Any) -> Json:
        at = NOW + timedelta(minutes=minutes)
        whose = {} if topic.startswith("orders") else {"customer_id": "7"}
        stream.send(envelope(topic, {**whose, **said}, at, f"q{minutes}"))
        stream.run()
        found = stream.sink().redemptions[SHOP, "7", "r"]
        return dict(max(found, key=lambda row: row["revision"])) if found else {}

    say("account/award", -9, award_id="a", at=text(NOW - timedelta(minutes=9)), points=50)
    say("account/redeem", 0, request_id="r", reward_id="ten", cost=10)
    lost = say("account/fulfilment", 1, request_id="r", attempt=3, state="failed", code="LN-LOST", reason="gave_up")
    assert (lost["status"], lost["returned_reason"], lost["points"]) == ("returned", "failed", 0)
    at = text(NOW + timedelta(minutes=2))
    paid = {"financial_status": "paid", "currency": "USD", "current_subtotal_price": "9", "subtotal_price": "9"}
    order = {"id": 1, "updated_at": at, "created_at": at, "customer": {"id": 7}, **paid}
    used = say("orders/updated", 2, **order, discount_codes=[{"code": "ln-lost"}])
    assert (used["status"], used["returned_reason"], used["points"]) == ("used", None, -10)


def check_balances(stream: Stream, sink: Sink, logs: dict[str, Log]) -> None:
    """Each row is what lots kept one by one come to, and the ledger sums to it."""
    sums = sink.ledger_sums()
    for customer, log in logs.items():
        row = sink.rows.get((SHOP, customer))
        if row is None:
            continue
        assert row["balance"] == log.balance(micros(row["now"]), ahead=False), customer
        later = sum(
            each["cost"]
            for name, each in log.decided.items()
            if each["at"] > micros(row["now"]) and log.status(name) not in ("refused", "returned")
        )
        to_come = sum(log.worth(each) for each in log.orders.values() if each["processed_at"] > micros(row["now"]))
        to_come += sum(each["points"] for each in log.awards.values() if each["at"] > micros(row["now"]))
        known = row["balance"] + row["pending"] + row["expired"] - later + to_come
        assert known == sums.get((SHOP, customer), 0), customer


@thorough(150)
@given(seed=st.integers(0, 2**32), crashes=st.integers(0, 3))
def test_a_rebuild_decides_nothing_anew(seed: int, crashes: int) -> None:
    """The history and what was decided, in any order: the same states, and only what nobody was told is decided."""
    chance = random.Random(seed)
    sent = said(seed)
    stream = Stream(harness.reference({SHOP: PROGRAM}), chance, partitions=2)
    for each in sent:
        stream.send(each)
        if chance.random() < 0.5:
            stream.step()
    stream.run()
    before = one_decision_each(stream.sink())
    archived = {name: row for name, row in before.items() if chance.random() < 0.9}
    history = [*sent, *(decision(row, at) for at, row in enumerate(archived.values()))]
    chance.shuffle(history)

    again = Stream(harness.reference({SHOP: PROGRAM}), chance, partitions=2, most=chance.choice([1, 3, 40]))
    mode(again, "replay")
    again.run()
    for each in history:
        again.send(each)
        if chance.random() < 0.3:
            again.step()
    again.run(crashes)
    assert set(one_decision_each(again.sink())) == set(archived), "nothing is decided while history is told"
    mode(again, "live")
    again.run(crashes, frozen=0.4)
    sink = again.sink()
    after = one_decision_each(sink)
    assert set(after) == set(before)
    for name, row in archived.items():
        assert {part: after[name][part] for part in DECISION} == {part: row[part] for part in DECISION}
        assert all(each["archived"] for each in sink.redemptions[SHOP, *name])
    if len(archived) == len(before):
        for name, row in before.items():
            assert {**after[name], "archived": None} == {**row, "archived": None}
        rows = stream.sink().rows
        assert {key: row["balance"] for key, row in sink.rows.items()} == {
            key: row["balance"] for key, row in rows.items()
        }


def decision(row: Json, number: int) -> Json:
    """As the sink archives it."""
    payload = {
        name: row[name] for name in ("customer_id", "request_id", "cost", "seq", "accepted", "forced", "balance")
    }
    payload |= {name: row[name] for name in ("reward_id", "source") if row.get(name)}
    payload |= {"decided_at": row["decided_at"], "requested_at": row["requested_at"]}
    payload |= {"reason": row["reason"]} if row["reason"] else {}
    return envelope("account/decision", payload, when(micros(row["decided_at"])), f"d{number}")


def mode(stream: Stream, name: str) -> None:
    for number in range(stream.partitions):
        stream.put(topics.ACCOUNT_FACTS, "mode", codec.dumps({"type": "account.mode", "mode": name}), number)


def test_who_has_bought_with_it_has_used_it() -> None:
    done = redemptions.Decision(1, 100, 100, True, None, "ten", 10, False, 50)
    order: Any = {"order_id": "9", "revision": f"{100:015x}b0", "counted": True, "paid": True}
    code = redemptions.with_order(redemptions.Code(["r"], [], 0), order)
    kept = redemptions.with_decision(redemptions.Kept(made=[1, False, 0, "A"], cancelled=True), done, archived=False)
    assert redemptions.state_of(kept, code, None)[:2] == ("used", None)
    void: Any = {**order, "revision": f"{101:015x}b0", "counted": False}
    gone = redemptions.with_order(code, void)
    assert redemptions.state_of(kept, gone, None)[:2] == ("returned", "cancelled")


def test_what_nobody_used_in_time_is_returned_unless_an_order_did() -> None:
    """One that did and came to nothing goes by the word of its reward; one that was cancelled is cancelled."""
    done = redemptions.Decision(1, 100, 100, True, None, "kept", 5, False, 50)
    rewards = {each.reward_id: each for each in harness.reference({SHOP: PROGRAM})[SHOP].program.rewards}
    late: Any = {"now": 200, "reason": "unused"}
    issued = redemptions.with_decision(redemptions.Kept(made=[1, True, 150, "A"]), done, archived=False)
    kept = redemptions.with_cancel(issued, late)
    code = redemptions.Code(["r"], [], 0)
    assert redemptions.state_of(kept, code, rewards["kept"])[:2] == ("returned", "unused")
    assert redemptions.with_cancel(kept, late) == kept, "told twice it is the same"
    order: Any = {"order_id": "9", "revision": f"{140:015x}b0", "counted": True, "paid": True}
    code = redemptions.with_order(code, order)
    assert redemptions.state_of(kept, code, rewards["kept"])[:2] == ("used", None)
    gone: Any = {**order, "revision": f"{141:015x}b0", "counted": False}
    void = redemptions.with_order(code, gone)
    assert redemptions.state_of(kept, void, rewards["kept"])[:2] == ("used", None)
    assert redemptions.state_of(kept, void, rewards["ten"])[:2] == ("returned", "void")
    asked: Any = {**late, "reason": ""}
    both = redemptions.with_cancel(kept, asked)
    assert redemptions.state_of(both, void, rewards["kept"])[:2] == ("returned", "cancelled")


@thorough(100)
@given(seed=st.integers(0, 2**32))
def test_what_is_said_of_a_redemption_may_come_in_any_order(seed: int) -> None:
    """Cancelled before or after it was used, made or not: the same in the end, and revisions grow on the way."""
    chance = random.Random(seed)
    reward = next(each for each in harness.reference({SHOP: PROGRAM})[SHOP].program.rewards if each.reward_id == "ten")
    done = redemptions.Decision(1, 100, 100, True, None, "ten", 10, False, 50)
    cancel: Any = lambda have, at, why: redemptions.with_cancel(have, {"now": at, "reason": why})  # type: ignore[typeddict-item]  # noqa: E731
    changes: list[Any] = [
        ("kept", lambda have: redemptions.with_decision(have, done, archived=False)),
        *[
            ("kept", lambda have, at=at, why=why: cancel(have, at, why))
            for at, why in ((150, ""), (90, "asked"), (95, "unused"))
        ],
        *[
            ("kept", lambda have, of=of: redemptions.with_outcome(have, of))
            for of in (
                {"attempt": number, "state": state, "code": code, "valid_until": until, "now": at}
                for number, state, code, until, at in (
                    *((0, "failed", None, None, 200), (0, "issued", "A", 300, 140)),
                    *((0, "issued", "AB", None, 500), (1, "failed", None, None, 120)),
                )
            )
        ],
        *[
            ("code", lambda have, of=of: redemptions.with_order(have, of))
            for of in (
                {"order_id": order, "revision": f"{at:015x}b0{mark}", "counted": counted, "paid": True}
                for order, at, mark, counted in (("9", 100, "x", True), ("9", 100, "y", False), ("10", 90, "z", True))
            )
        ],
    ]
    chosen = chance.sample(changes[1:], 4)
    ends = set()
    for order in permutations([changes[0], *chosen]):
        kept, code, last = redemptions.Kept(), redemptions.Code([], [], 0), redemptions.State("", None, "")
        for part, change in order:
            if part == "kept":
                kept = change(kept)
            else:
                code = change(code)
            kept = redemptions.with_use(kept, code)
            if kept.decision is None:
                continue
            state = redemptions.state_of(kept, code, reward)
            assert state.revision > last.revision or state == last
            last = state
        ends.add(state)
    assert len(ends) == 1
