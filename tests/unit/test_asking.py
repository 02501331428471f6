"""What is asked of accounts while customers become one: seen row by row, as each record is filed."""

from datetime import timedelta
from typing import Any

import pytest

from events import instants, topics
from events.programs import Program
from tests import harness
from tests.harness import Stream

Json = dict[str, Any]

SHOP, NOW = "many.myshopify.com", instants.to_datetime(instants.parse("2026-11-20T10:00:00Z"))
BEFORE: Json = {"currency": "USD", "zone": "UTC", "rules": []}
TEN: Json = {"reward_id": "ten", "cost": 10, "kind": "shipping", "name": "ten"}
RARE: Json = {**TEN, "reward_id": "rare", "limit": {"count": 1, "days": 10}}
PROGRAM: Json = {**BEFORE, "rewards": [TEN, RARE]}


class Told:
    """A stream that is told of one thing after the other, a minute apart, each folded alone."""

    def __init__(self, program: Json = PROGRAM) -> None:
        self.stream = Stream(harness.reference({SHOP: program}), partitions=2, most=1)
        self._minutes = 0

    def say(self, topic: str, payload: Json) -> None:
        at = text(self._minutes)
        envelope: Json = {"topic": topic, "shop": SHOP, "webhook_id": f"w{self._minutes}", "event_id": None}
        envelope |= {"api_version": None, "triggered_at": at, "received_at": at, "payload": payload}
        self.stream.send(envelope)
        self._minutes += 1
        for _ in range(5_000):
            if not self.stream.step():
                return
        raise AssertionError("it comes to no rest")

    def later(self, minutes: int) -> None:
        self._minutes += minutes

    def order(self, order_id: int, customer: int, **more: Any) -> None:
        at = text(self._minutes)
        told = {"id": order_id, "customer": {"id": customer}, "financial_status": "paid", "currency": "USD"}
        told |= dict.fromkeys(("created_at", "updated_at", "processed_at"), at)
        self.say("orders/paid", told | dict.fromkeys(("subtotal_price", "current_subtotal_price"), "100") | more)

    def redeem(self, customer: str, request: str, reward: str = "ten", cost: int = 10) -> Json:
        said = {"customer_id": customer, "request_id": request, "reward_id": reward, "cost": cost}
        self.say("account/redeem", said)
        row: Any = self.stream.sink().redemptions[SHOP, customer, request][-1]
        return dict(row)

    def status(self, customer: str, request: str) -> str:
        rows = self.stream.sink().redemptions[SHOP, customer, request]
        return max(rows, key=lambda row: row["revision"])["status"]

    def merge(self, kept: int, deleted: int) -> None:
        ids = {"kept": kept, "deleted": deleted}
        gids = {f"admin_graphql_api_customer_{each}_id": f"gid://shopify/Customer/{ids[each]}" for each in ids}
        self.say("customers/merge", {**gids, "status": "completed"})

    def balances(self, customer: str) -> list[int]:
        """In the order in which they were told."""
        rows = self.stream.outputs(topics.CUSTOMER_ROWS)
        return [row["balance"] for row in rows if row["customer_id"] == customer]


def text(minutes: int) -> str:
    return instants.text(instants.from_datetime(NOW + timedelta(minutes=minutes)))


def test_whom_something_comes_to_and_goes_from_never_seems_to_have_what_is_spent() -> None:
    """A reward that is asked for in between would be granted by it."""
    told = Told()
    told.order(1, 9)
    assert told.redeem("9", "r")["accepted"]
    told.merge(7, 9)
    assert (max(told.balances("7")), told.balances("7")[-1]) == (90, 90)
    told.merge(8, 9)
    assert (max(told.balances("7")), told.balances("7")[-1]) == (90, 0)
    assert (max(told.balances("8")), told.balances("8")[-1]) == (90, 90)
    told.merge(9, 6)
    assert (max(told.balances("8")), told.balances("8")[-1]) == (90, 0)
    assert told.balances("9")[-1] == 90


def test_an_order_of_years_to_come_moves_nobodys_decisions_there() -> None:
    """Announcements of then would decide, and whoever makes the decision anew may have read more of them."""
    told = Told()
    told.order(1, 9, updated_at="9990-01-01T00:00:00Z")
    told.merge(7, 9)
    decided = told.redeem("7", "r")
    assert (decided["accepted"], decided["decided_at"]) == (True, text(2))


def test_what_is_taken_later_cannot_be_spent_before() -> None:
    """By a till whose clock is ahead."""
    told = Told()
    told.order(1, 9)
    told.say("account/award", {"customer_id": "9", "award_id": "a", "at": text(4), "points": -95})
    refused = told.redeem("9", "r")
    assert (refused["reason"], refused["balance"]) == ("insufficient-points", 5)


@pytest.mark.parametrize("known", [True, False])
def test_an_order_from_before_the_first_reward_has_used_none(known: bool) -> None:
    """Whether the program is known all along, as to a rebuild, or announced when that order is filed already.

    Whoever hands codes out by their own means may hand out one that was there before.
    """
    program = {**BEFORE, "rewards": [{**TEN, "effective_from": text(20)}]}
    told = Told(program if known else BEFORE)
    told.order(1, 7, discount_codes=[{"code": "FREE"}])
    if not known:
        told.stream.reference.put_program(Program.model_validate({**program, "rules": [{}], "shop": SHOP}))
    told.later(30)
    assert told.redeem("7", "r")["accepted"]
    issued = {"customer_id": "7", "request_id": "r", "attempt": 1, "state": "issued", "code": "Free"}
    told.say("account/fulfilment", issued)
    assert told.status("7", "r") == "issued"
    told.order(2, 7, discount_codes=[{"code": "free"}])
    assert told.status("7", "r") == "used"


def test_a_reward_that_one_of_two_has_had_is_had_by_who_they_are_together() -> None:
    """For as long as it is theirs, and was not given back; whatever it is called."""
    told = Told()
    told.order(1, 9)
    told.order(2, 7)
    assert told.redeem("9", "r", "rare")["accepted"]
    told.merge(7, 9)
    assert told.redeem("7", "s", "rare")["reason"] == "limit"
    assert told.redeem("7", "r")["accepted"], "of another reward by the same name"
    told.say("account/cancel", {"customer_id": "9", "request_id": "r"})
    assert told.redeem("7", "t", "rare")["accepted"]
    assert told.redeem("7", "u", "rare")["reason"] == "limit"


def test_a_reward_whose_customer_is_themselves_again_was_not_had_by_another() -> None:
    told = Told()
    told.order(1, 9)
    told.order(2, 7)
    assert told.redeem("9", "r", "rare")["accepted"]
    told.merge(7, 9)
    told.merge(9, 6)
    assert told.redeem("7", "s", "rare")["accepted"]
    assert told.redeem("9", "s", "rare")["reason"] == "limit"


def test_what_customers_who_lead_to_each_other_forward_comes_to_rest() -> None:
    """Whatever is taken back goes by a way that names nobody on it."""
    told = Told()
    told.order(1, 8)
    for kept, deleted in ((9, 8), (7, 9), (8, 7), (9, 7)):
        told.merge(kept, deleted)
    assert [told.balances(each)[-1] for each in ("7", "8", "9")] == [0, 100, 0]
