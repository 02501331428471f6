"""The oracle over CDNOW gives the figures that a separate implementation of section 3 gave."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.oracle import Shop, oracle
from tests.support import CDNOW_SEGMENTS, CDNOW_SHOP, cdnow_envelopes

AS_OF = datetime(1998, 7, 1, tzinfo=UTC)
PROGRAM: dict[str, Any] = {"currency": "USD", "zone": "America/New_York", "look_back_days": 365, "rules": []}


def _score(envelopes: list[dict[str, Any]], cut_points: list[dict[str, Any]]) -> Shop:
    return oracle(envelopes, {CDNOW_SHOP: PROGRAM}, {CDNOW_SHOP: cut_points}, AS_OF)[CDNOW_SHOP]


@pytest.mark.parametrize("shuffled", [False, True], ids=["as it is", "shuffled, a tenth twice"])
def test_cdnow(shuffled: bool) -> None:
    envelopes = cdnow_envelopes()
    if shuffled:
        chance = random.Random(1998)
        twice = chance.sample(envelopes, len(envelopes) // 10)
        envelopes += [envelope | {"received_at": "1999-01-01T00:00:00Z"} for envelope in twice]
        chance.shuffle(envelopes)
    found = _score(envelopes, []).cut_points
    assert found == {
        "version": None,
        "recency": [37, 98, 160, 247],
        "frequency": [1, 1, 3, 4],
        "monetary": [2376, 4298, 8047, 17322],
    }

    shop = _score(envelopes, [found | {"version": "v1", "as_of": AS_OF.isoformat()}])
    assert len(shop.orders) == 6919
    assert len(shop.customers) == 2357
    assert sum(customer.balance for customer in shop.customers.values()) == 239_444
    assert Counter(customer.segment for customer in shop.customers.values()) == CDNOW_SEGMENTS
    days = [window for (size, _), window in shop.windows.items() if size == "day"]
    assert sum(day["points_earned"] for day in days) == 239_444
    assert sum(day["orders"] for day in days) == 6919
