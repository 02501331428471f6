"""The batch's recomputation agrees with the brute-force oracle, on stores made to be nasty."""

import json
import random
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import polars as pl
import pytest

from batch import orders, windows
from batch.history import History
from events import instants, webhook_topics
from events.programs import CutPoints, Program
from lake import rfm
from tests import oracle, stores

SEEDS = range(24)


def _message(envelope: dict[str, Any]) -> tuple[str, bytes]:
    return webhook_topics.stream_of(envelope["topic"]), json.dumps(envelope).encode()


def _history(envelopes: list[dict[str, Any]], currency: str, chunk: int) -> History:
    history = History(stores.SHOP, currency)
    for at in range(0, len(envelopes), chunk):
        history.absorb(map(_message, envelopes[at : at + chunk]))
    assert history.unreadable == 0
    return history


def _program(found: dict[str, Any]) -> Program:
    return Program.model_validate(found | {"shop": stores.SHOP})


def _cut_points(program: Program) -> CutPoints:
    """Cut points as of an hour before the last moment, so that some customers stand under the default."""
    return CutPoints(
        shop=stores.SHOP,
        version="v1",
        as_of=stores.NOW - timedelta(hours=1),
        customers=50,
        recency=(0, 1, 20, 30),
        frequency=(1, 1, 2, 3),
        monetary=(0, 999, 5000, 20_000),
    )


def _expected(customer: oracle.Customer) -> dict[str, Any]:
    r, f, m = customer.digits or (None, None, None)
    last, ends = customer.last_order_at, customer.expires_at
    return {
        "balance": customer.balance,
        "pending": customer.pending,
        "earned": customer.earned,
        "spent": customer.spent,
        "expired": customer.expired,
        "expiring": customer.expiring,
        "expires_at": None if ends is None else instants.from_datetime(ends),
        "recency_days": customer.recency,
        "frequency": customer.frequency,
        "monetary": customer.monetary,
        "last_order_at": None if last is None else instants.from_datetime(last),
        "r": r,
        "f": f,
        "m": m,
        "score": customer.score or None,
        "segment_id": customer.segment_id,
        "segment": customer.segment,
        "cut_points_version": customer.version,
    }


def _standing(history: History, program: Program, cut: CutPoints, t: datetime | None) -> pl.DataFrame:
    customers = history.customers()
    if t is not None:
        customers = customers.with_columns(now=pl.lit(instants.from_datetime(t)))
    found = rfm.values(customers, orders.worth(history, program), orders.given(history, program), program)
    return rfm.standings_at_now(found, [cut], program)


@lru_cache(len(SEEDS))
def _store(seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    currency = ("USD", "JPY", "KWD")[seed % 3]
    return stores.store(seed, currency=currency, moments=1 + seed % 6), stores.program(seed, currency)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_number_is_the_oracles(seed: int) -> None:
    envelopes, plain = _store(seed)
    program = _program(plain)
    cut = _cut_points(program)
    published = {stores.SHOP: [cut.model_dump(mode="json")]}
    #: By how many webhooks were seen. Of most stores all but one of the moments see all.
    read: dict[int, tuple[History, dict[str, oracle.Shop]]] = {}
    for t in (None, stores.NOW, stores.NOW - timedelta(hours=1), stores.NOW + timedelta(days=41)):
        seen = [each for each in envelopes if t is None or oracle.moment(each["triggered_at"]) <= t]
        history, known = read.get(len(seen)) or (_history(seen, program.currency, chunk=1 + seed), None)
        shops = oracle.oracle(seen, {stores.SHOP: plain}, published, t, known)
        read[len(seen)] = history, shops
        shop = shops[stores.SHOP]
        rows = _standing(history, program, cut, t).to_dicts()
        assert {row["customer_id"] for row in rows} == set(shop.customers)
        for row in rows:
            expected = _expected(shop.customers[row["customer_id"]])
            assert {name: row[name] for name in expected} == expected, row["customer_id"]
            if t is None:
                assert row["now"] == instants.from_datetime(shop.customers[row["customer_id"]].now)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_window_is_the_oracles(seed: int) -> None:
    envelopes, plain = _store(seed)
    program = _program(plain)
    shop = oracle.oracle(envelopes, {stores.SHOP: plain})[stores.SHOP]
    history = _history(envelopes, program.currency, chunk=50)
    worth, given = orders.worth(history, program), orders.given(history, program)
    sums = windows.sums(worth, program.zone, given=given)
    found = {
        (row["size"], instants.to_datetime(row["start"])): {name: row[name] for name in windows.MEASURES if row[name]}
        for row in sums.to_dicts()
    }
    assert {key: row for key, row in found.items() if row} == {key: dict(row) for key, row in shop.windows.items()}


@pytest.mark.parametrize("seed", range(8))
def test_order_duplicates_and_batching_of_the_history_do_not_matter(seed: int) -> None:
    envelopes, plain = _store(seed)
    program = _program(plain)
    chance = random.Random(seed)
    again = envelopes + chance.sample(envelopes, len(envelopes) // 3)
    chance.shuffle(again)
    found = []
    for seen, chunk in ((envelopes, 1000), (again, 7)):
        history = _history(seen, program.currency, chunk)
        worth = orders.worth(history, program).sort("order_id")
        found.append((worth, history.customers()))
    assert found[0][0].equals(found[1][0])
    assert found[0][1].equals(found[1][1])
