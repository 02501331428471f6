"""Whatever a store answers, a redemption has a result: no answer takes the process that asked with it."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from events.programs import Reward
from fulfilment import admin
from fulfilment.admin import Answer
from fulfilment.discounts import Call, Wanted
from fulfilment.making import Maker

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)

#: The names that answers have, so that something is found under them.
NAMES = (
    *("data", "errors", "extensions", "cost", "requestedQueryCost", "throttleStatus", "currentlyAvailable"),
    *("discountCodeBasicCreate", "codeDiscountNode", "codeDiscount", "userErrors", "field", "code", "title", "endsAt"),
    *("codeDiscountNodeByCode", "context", "customers", "id", "product", "priceRangeV2", "maxVariantPrice", "amount"),
)
WORDS = st.sampled_from(
    ["TAKEN", "THROTTLED", "INVALID", "code", "customers", "2026-12-24T12:00:00Z", "x", "", "24.50"]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


def _payload(field: str) -> st.SearchStrategy[Any]:
    errors = st.lists(st.fixed_dictionaries({"field": VALUES, "code": WORDS}), max_size=2) | VALUES
    return st.fixed_dictionaries({field: st.fixed_dictionaries({"userErrors": errors, "codeDiscountNode": VALUES})})


TAKEN = [{"field": ["basicCodeDiscount", "code"], "code": "TAKEN"}]
ANSWERS = st.fixed_dictionaries(
    {
        "data": _payload("discountCodeBasicCreate")
        | st.just({"discountCodeBasicCreate": {"userErrors": TAKEN, "codeDiscountNode": None}})
        | st.fixed_dictionaries({"codeDiscountNodeByCode": VALUES, "product": VALUES})
        | VALUES,
        "extensions": VALUES,
    }
)


class Saying:
    """An Admin API that says one thing after the other."""

    def __init__(self, said: list[Any]) -> None:
        self._said = [json.dumps(each).encode() for each in said]

    async def ask(self, endpoint: str, token: str, call: Call) -> Answer:
        return admin.read(self._said.pop(0))


@settings(max_examples=300)
@given(said=st.lists(ANSWERS | VALUES, min_size=3, max_size=3), kind=st.sampled_from(["amount", "product"]))
def test_every_answer_has_a_result(said: list[Any], kind: str) -> None:
    value, product = ("10", None) if kind == "amount" else (None, "11")
    told = {"reward_id": "it", "cost": 1, "kind": kind, "value": value, "product_id": product, "name": "It"}
    wanted = Wanted("r-1", "7", "LN-X", Reward.model_validate(told), AT, None)

    async def make() -> None:
        maker = Maker(Saying(said), "https://example.com", "token")  # type: ignore[arg-type]
        maker.longest_pause = maker.longest_pause * 0
        result = await maker.make(wanted)
        assert result.kind in {"issued", "failed", "again", "busy", "shut"}
        assert "\n" not in result.why
        assert len(result.why) < 50

    asyncio.run(make())
