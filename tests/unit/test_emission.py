"""Outputs are a function of state, never of the change: what is known is said again, as it stands now."""

from typing import Any

import pytest

from events import codec, topics
from tests import harness
from tests.harness import Stream

Json = dict[str, Any]

SHOP = "again.myshopify.com"
PROGRAM: Json = {"currency": "USD", "zone": "UTC", "look_back_days": 365, "rules": []}


def sent(topic: str, payload: Json, at: str, **changes: Any) -> Json:
    made = {"topic": topic, "shop": SHOP, "webhook_id": f"w {at}".replace(" ", "-"), "event_id": None}
    return {**made, "api_version": "2026-07", "triggered_at": at, "received_at": at, "payload": payload, **changes}


def order(at: str, amount: str = "100.00", **changes: Any) -> Json:
    payload = {"id": 1, "created_at": "2026-03-01T10:00:00Z", "updated_at": at, "financial_status": "paid"}
    payload |= {"customer": {"id": 7}, "currency": "USD", "current_subtotal_price": amount, "subtotal_price": "100.00"}
    return sent("orders/updated", {**payload, **changes}, at)


def refund(at: str) -> Json:
    line = {"quantity": 1, "subtotal": "30.00"}
    return sent("refunds/create", {"id": 5, "order_id": 1, "created_at": at, "refund_line_items": [line]}, at)


DAY_1, DAY_2, DAY_3 = (f"2026-03-0{day}T10:00:00Z" for day in (1, 2, 3))


class Told:
    """A stream of one partition, and what each further message made it say."""

    def __init__(self) -> None:
        self.stream = Stream(harness.reference({SHOP: PROGRAM}), partitions=1, workers=1)

    def after(self, envelope: Json) -> dict[str, list[Any]]:
        lengths = {place: len(log) for place, log in self.stream.logs.items()}
        self.stream.send(envelope)
        self.stream.run()
        return {
            topic: [codec.loads(message.value or b"") for message in log[lengths.get((topic, number), 0) :]]
            for (topic, number), log in self.stream.logs.items()
        }


SETUPS = {
    "an order": [order(DAY_2)],
    "an order that moved": [order(DAY_1, customer={"id": 8}), order(DAY_2)],
    "a refunded order": [order(DAY_1), refund(DAY_2)],
    "a cancelled order": [order(DAY_1), order(DAY_2, cancelled_at=DAY_2)],
    "a guest's order": [order(DAY_2, customer=None)],
}


@pytest.mark.parametrize("name", SETUPS)
def test_a_duplicate_says_it_all_again(name: str) -> None:
    told = Told()
    for each in SETUPS[name]:
        first = told.after(each)
    again = told.after(SETUPS[name][-1])
    assert again[topics.ACCOUNT_FACTS] == first[topics.ACCOUNT_FACTS]
    for topic in (topics.POINTS, topics.CUSTOMER_ROWS):
        assert again.get(topic, []) == first.get(topic, []), topic
        assert again.get(topic) or name == "a guest's order", topic
    assert again[topics.WINDOWS][-3:] == first[topics.WINDOWS][-3:]
    assert again[topics.WINDOWS]
    assert again.get(topics.RFM, []) == [], "a change is said once"


def test_a_stale_message_says_what_stands() -> None:
    told = Told()
    told.after(order(DAY_1))
    newest = told.after(order(DAY_3, "60.00"))
    stale = told.after(order(DAY_2, "999.00"))
    for topic in (topics.ACCOUNT_FACTS, topics.POINTS, topics.CUSTOMER_ROWS):
        assert stale[topic] == newest[topic], topic
    # The minute had been closed for a day when the newest came: that it is late is said once, as nothing changed since.
    assert stale[topics.WINDOWS] == [row for row in newest[topics.WINDOWS] if not row["late"]]
    assert len(stale[topics.WINDOWS]) == 2


@pytest.mark.parametrize("topic", ["customers/update", "customers/delete", "customers/merge", "customers/data_request"])
def test_a_webhook_of_a_customer_says_their_row_again(topic: str) -> None:
    told = Told()
    told.after(order(DAY_1))
    payloads: dict[str, Json] = {
        "customers/merge": {"admin_graphql_api_customer_kept_id": "gid://shopify/Customer/7"},
        "customers/data_request": {"shop_domain": SHOP, "customer": {"id": 7}},
    }
    payload = payloads.get(topic, {"id": 7})
    first = told.after(sent(topic, payload, DAY_2))
    again = told.after(sent(topic, payload, DAY_2))
    assert first[topics.CUSTOMER_ROWS] == again[topics.CUSTOMER_ROWS]
    assert len(again[topics.CUSTOMER_ROWS]) == 1


def test_a_chunk_says_each_customer_and_window_once_and_each_input_singly() -> None:
    told = Told()
    told.stream.calm, told.stream.losses = True, 0.0
    told.stream.most = 1000
    told.stream.chance.randint = lambda a, b: b  # type: ignore[method-assign]
    for amount in ("10.00", "20.00", "30.00", "40.00"):
        told.stream.send(order(DAY_2, amount))
    told.stream.run()
    assert len(told.stream.outputs(topics.ACCOUNT_FACTS)) == 4
    assert len(told.stream.outputs(topics.POINTS)) == 4
    # One where the standing changed, of which the history is made, and one where the chunk ends.
    assert len(told.stream.outputs(topics.CUSTOMER_ROWS)) == 2
    assert len(told.stream.outputs(topics.WINDOWS)) == 3


@pytest.mark.parametrize("crashed", [False, True])
def test_a_run_asks_who_is_there_and_meets_who_is_named_only_later(crashed: bool) -> None:
    """And so does the next; also where another worker has taken the partition over meanwhile."""
    told = Told()

    def rows(found: list[Any]) -> dict[str, str]:
        if crashed:
            told.stream.crash(0)
            told.stream.run()
        return {row["customer_id"]: row["now"][:10] for row in found}

    def come(number: int) -> dict[str, str]:
        return rows(told.after(order(DAY_2, id=number, customer={"id": number}))[topics.CUSTOMER_ROWS])

    def run(day: str) -> dict[str, str]:
        before = len(told.stream.outputs(topics.CUSTOMER_ROWS))
        told.stream.rescore(SHOP, f"{day}T10:00:00Z", "v1")
        told.stream.run()
        return rows(told.stream.outputs(topics.CUSTOMER_ROWS)[before:])

    assert come(1) == {"1": "2026-03-02"}
    assert run("2026-03-10") == {"1": "2026-03-10"}
    assert come(2) == {"2": "2026-03-10"}
    assert run("2026-03-11") == {"1": "2026-03-11", "2": "2026-03-11"}
    assert come(3) == {"3": "2026-03-11"}
    assert run("2026-03-12") == {str(number): "2026-03-12" for number in (1, 2, 3)}
    assert run("2026-03-05") == {str(number): "2026-03-12" for number in (1, 2, 3)}, "one that comes late"
    assert come(4) == {"4": "2026-03-12"}
