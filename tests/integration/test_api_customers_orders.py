"""A customer's orders: each with its reason, and those that count sum up to what the oracle says of the customer."""

import random
from collections import Counter
from typing import Any

import polars as pl
from psycopg import Connection

from events import instants
from lake import filling, orders
from tests import oracle, stores
from tests.integration.api_world import World
from tests.integration.test_api_past import PROGRAM, get, said, told
from tests.integration.test_batch import add_program, add_raw


def sums(found: pl.DataFrame) -> tuple[int, ...]:
    assert found["processed_at"].is_sorted(descending=True)
    count = found.filter(found["reason"] == "counts")
    posted = found.filter(found["reason"].is_in(["counts", "too_old"]))
    return count.height, int(count["net"].sum()), int(posted["points"].sum())


def test_those_that_count_are_the_customers_values_at_any_instant(world: World, connection: Connection[Any]) -> None:
    lake, sent = world.services.past.lake, told(1)
    program = add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, sent)
    filling.fill(connection, lake)
    moments = sorted({oracle.moment(each["triggered_at"]) for each in sent})
    reasons: Counter[str] = Counter()
    for at in random.Random(7).sample(moments, 2):
        customers = said(sent, at)
        for customer, should in customers.items():
            found = orders.of_customer(connection, lake, program, customer, instants.from_datetime(at))
            assert sums(found) == (should.frequency, should.monetary, should.deserved), customer
            reasons.update(found["reason"].cast(str).to_list())
    assert {"counts", "cancelled", "test", "refunded", "not_paid"} <= set(reasons), reasons


def test_the_api_tells_them(world: World, connection: Connection[Any]) -> None:
    sent = told(1)
    add_program(connection, stores.SHOP, **PROGRAM)
    add_raw(connection, sent)
    # Whoever has the most orders, as the sink would have stored them.
    customers = said(sent, stores.NOW)
    whose = max(customers, key=lambda each: customers[each].frequency)
    world.customer(whose, shop=stores.SHOP)
    headers = world.key("read", shop=stores.SHOP)
    answer = get(world, f"/customers/{whose}/orders", headers).json()
    assert answer["customer_id"] == whose
    assert not answer["more"]
    assert {"order_id", "processed_at", "status", "net", "points", "reason"} == set(answer["items"][0])
    shorter = get(world, f"/customers/{whose}/orders", headers, limit=1).json()
    assert (shorter["items"], shorter["more"]) == (answer["items"][:1], True)
    assert get(world, "/customers/99999999/orders", headers).status_code == 404
