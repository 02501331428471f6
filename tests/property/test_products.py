"""Product RFM against plain Python over the oracle's orders, on stores in which everything goes wrong."""

import copy
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import psycopg
import pytest

from batch.analytics import making
from events import instants
from lake.manifest import Lake
from runtime import duck
from tests import oracle, stores
from tests.integration.test_batch import add_program, add_raw

Json = dict[str, Any]


def with_products(seed: int) -> list[Json]:
    """A store whose lines are of some products and variants, some known by their SKU alone, some by nothing."""
    envelopes = copy.deepcopy(stores.store(seed, customers=4, orders=60, moments=6))
    for envelope in envelopes:
        for line in envelope["payload"].get("line_items") or []:
            kind = line["id"] // 3 % 5
            line["product_id"] = 700 + kind if kind < 3 else None
            line["variant_id"] = 7000 + kind * 10 + line["id"] % 2 if kind < 2 else None
            line["sku"] = None if kind == 4 else f"S-{kind}"
            if line["id"] % 7 == 0:
                line["current_quantity"] = 0
    return envelopes


def minor(line: Json, name: str) -> int:
    return oracle.if_readable(line, name, "USD") or 0


def named(line: Json, ident: str) -> str | None:
    if line[ident] is not None:
        return str(line[ident])
    return None if line["sku"] is None else f"sku:{line['sku']}"


def kept_lines(order: Json) -> Iterator[tuple[str, str | None, int, int]]:
    """(item, variant, pieces, amount) of each line with an item of which anything is left."""
    for line in order.get("line_items") or []:
        item = named(line, "product_id")
        left = min(line.get("current_quantity", line["quantity"]), line["quantity"])
        if line.get("gift_card") or not item or not left:
            continue
        if line.get("discount_allocations"):
            off = sum(minor(each, "amount") for each in line["discount_allocations"])
        else:
            off = minor(line, "total_discount")
        share = (2 * off * left + line["quantity"]) // (2 * line["quantity"])
        yield item, named(line, "variant_id"), left, max(minor(line, "price") * left - share, 0)


@pytest.mark.parametrize("seed", range(3))
def test_products_are_what_the_orders_say(
    seed: int, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "LEAST_PAIRS", 1)
    envelopes, program = with_products(seed), {**stores.program(seed), "look_back_days": (365, 30, None)[seed % 3]}
    found = oracle.oracle(envelopes, {stores.SHOP: program}, t=stores.NOW)[stores.SHOP]
    newest: dict[str, Json] = {}
    for ident in found.orders:
        theirs = [e for e in envelopes if e["topic"] in oracle.SNAPSHOTS and str(e["payload"]["id"]) == ident]
        if theirs:
            newest[ident] = max(theirs, key=lambda told: oracle.snapshot_key(told, program["currency"]))["payload"]
    bought: dict[str, list[tuple[Any, str]]] = defaultdict(list)
    for ident, order in found.orders.items():
        at = order.processed_at
        if order.counts and order.net > 0 and order.whose is not None and at is not None and at <= stores.NOW:
            bought[order.whose].append((at, ident))
    sold: dict[tuple[str | None, ...], list[tuple[str, str, Any, int, int, bool, bool]]] = defaultdict(list)
    since = stores.NOW - timedelta(days=program["look_back_days"]) if program["look_back_days"] else None
    baskets: dict[str, set[str]] = defaultdict(set)
    for customer, orders in bought.items():
        for nth, (at, ident) in enumerate(sorted(orders)):
            if since is not None and at <= since:
                continue
            for item, variant, pieces, amount in kept_lines(newest[ident]):
                row = (customer, ident, at, pieces, amount, nth == 0, len(orders) > 1)
                sold[item,].append(row)
                sold[item, variant].append(row)
                baskets[ident].add(item)

    with psycopg.connect(database, autocommit=True) as connection:
        add_program(connection, stores.SHOP, **{"rules": [], **program})
        add_raw(connection, envelopes)
        path = tmp_path / "analytics.duckdb"
        making.make(connection, Lake(tmp_path / "lake"), stores.SHOP, path, instants.from_datetime(stores.NOW))
    columns = (
        "recency_days, frequency, pieces, monetary_minor, buyers, repeat_buyers, first_orders, came_back,"
        " repeat_rate, came_back_rate"
    )
    with duck.locked(path, "1GB") as file:
        rows = {}
        for by, table in (("item, NULL", "products"), ("item, variant", "variants")):
            for item, variant, *rest in file.execute(f"SELECT {by}, {columns} FROM {table}").fetchall():
                rows[(item,) if table == "products" else (item, variant)] = tuple(rest)
        pairs = file.execute("SELECT item, other, orders, support, confidence, lift FROM product_pairs").fetchall()
    assert rows == {key: expected(each) for key, each in sold.items()}
    assert len(rows) > 4
    counts = Counter(item for basket in baskets.values() for item in basket)
    together = Counter(pair for basket in baskets.values() for pair in combinations(sorted(basket), 2))
    assert pairs == [
        (
            *(one, other, n, n / len(baskets), n / counts[one]),
            n * len(baskets) / (counts[one] * counts[other]),
        )
        for (one, other), n in sorted(together.items(), key=lambda each: (-each[1], each[0]))
    ]
    assert pairs or program["look_back_days"] == 30


def expected(rows: list[tuple[str, str, Any, int, int, bool, bool]]) -> tuple[Any, ...]:
    of_customer: dict[str, set[str]] = defaultdict(set)
    for customer, ident, *_ in rows:
        of_customer[customer].add(ident)
    first = {customer for customer, _, _, _, _, is_first, _ in rows if is_first}
    came_back = {customer for customer, *_, is_first, again in rows if is_first and again}
    again = sum(len(each) > 1 for each in of_customer.values())
    return (
        (stores.NOW - max(at for _, _, at, *_ in rows)) // timedelta(days=1),
        sum(map(len, of_customer.values())),
        sum(pieces for _, _, _, pieces, *_ in rows),
        sum(amount for _, _, _, _, amount, *_ in rows),
        len(of_customer),
        again,
        len(first),
        len(came_back),
        again / len(of_customer),
        len(came_back) / len(first) if first else None,
    )
