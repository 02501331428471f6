"""The discount of one redemption: made, or found to have been made before; and withdrawn."""

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

from events.errors import BadEvent
from events.programs import Reward
from fulfilment import discounts
from fulfilment.admin import Admin, Answer, Trouble
from fulfilment.discounts import Call, Wanted

#: What passes by itself, of the errors that Shopify tells of what was asked.
_PASSES: Final = frozenset({"INTERNAL_ERROR"})


#: What reading an answer that is none comes to.
_UNREADABLE: Final = (BadEvent, AttributeError, LookupError, TypeError, ValueError)

#: Between two questions of one redemption.
LONGEST_PAUSE: Final = timedelta(seconds=10)


class Result(NamedTuple):
    """What came of it. `why`: in a word.

    issued: it is there, until `valid_until`. withdrawn: it is of no use. failed: neither, and never will be. again: it
    may be another time, and may be there by now. busy: not `after` so long. shut: the store lets nobody in.
    """

    kind: Literal["issued", "withdrawn", "failed", "again", "busy", "shut"]
    why: str = ""
    valid_until: datetime | None = None
    after: timedelta = timedelta()


class Maker:
    """Makes discounts in one store. `pause` is for how long the next question should wait for its points."""

    def __init__(self, admin: Admin, endpoint: str, token: str) -> None:
        self._admin = admin
        self._endpoint = endpoint
        self._token = token
        self.longest_pause = LONGEST_PAUSE
        self.pause = timedelta()

    async def make(self, wanted: Wanted) -> Result:
        """Makes it; tried twice, it is the same one. Whoever calls has waited for what the last one's `pause` says."""
        return await self._read(self._make(wanted))

    async def withdraw(self, code: str, customer_id: str, request_id: str) -> Result:
        """Makes the discount of a code useless, if there is one and it is this request's. Twice is harmless."""
        return await self._read(self._withdraw(code, customer_id, request_id))

    async def _read(self, asking: Awaitable[Result]) -> Result:
        self.pause = timedelta()
        try:
            return await asking
        except _UNREADABLE:
            return Result("again", "unreadable")

    async def _make(self, wanted: Wanted) -> Result:
        if not wanted.customer_id.isdecimal():  # known by an address alone: no customer of Shopify's
            return Result("failed", "customer_not_found")
        if wanted.reward.kind not in discounts.SUPPORTED:
            return Result("failed", "unsupported")
        worth = await self._worth(wanted.reward)
        if isinstance(worth, Result):
            return worth
        call = discounts.creation(wanted._replace(off=worth))
        answer = await self._ask(call)
        if answer.trouble is not None:
            return _of(answer.trouble)
        made = answer.data[call.field]
        errors = made["userErrors"]
        if not errors:
            return _issued(made["codeDiscountNode"])
        if any(_is_taken(each) for each in errors):
            return await self._found(wanted)
        return _refused(errors)

    async def _worth(self, reward: Reward) -> Decimal | Result | None:
        """The money that it takes off; None where it is none.

        One piece of a product is free by what it costs, not by 100 %: that every piece in the cart would be.
        """
        if reward.kind != "product" or reward.value:
            return reward.value
        call = discounts.price(reward.product_id)
        answer = await self._ask(call)
        if answer.trouble is not None:
            return _of(answer.trouble)
        found = answer.data[call.field]
        return Result("failed", "product_not_found") if found is None else discounts.dearest(found)

    async def _found(self, wanted: Wanted) -> Result:
        """The code is taken: by an attempt of ours that nobody heard of, or by somebody else."""
        call = discounts.look(wanted.code)
        answer = await self._ask(call)
        if answer.trouble is not None:
            found = _of(answer.trouble)
            # It may well be ours: whoever may not look must not say that it is not there.
            return Result("again", found.why) if found.kind == "failed" else found
        node = answer.data[call.field]
        if node is None:  # it is not to be found yet
            return Result("again", "taken")
        ours = discounts.is_ours(node, wanted.customer_id, wanted.request_id)
        return _issued(node) if ours else Result("failed", "code_taken")

    async def _withdraw(self, code: str, customer_id: str, request_id: str) -> Result:
        call = discounts.look(code)
        answer = await self._ask(call)
        if answer.trouble is not None:
            return _of(answer.trouble)
        node = answer.data[call.field]
        if node is None or not discounts.is_ours(node, customer_id, request_id):
            return Result("withdrawn")
        call = discounts.withdrawal(node)
        answer = await self._ask(call)
        if answer.trouble is not None:
            return _of(answer.trouble)
        errors = answer.data[call.field]["userErrors"]
        return _refused(errors) if errors else Result("withdrawn")

    async def _ask(self, call: Call) -> Answer:
        await asyncio.sleep(min(self.pause, self.longest_pause).total_seconds())
        answer = await self._admin.ask(self._endpoint, self._token, call)
        self.pause = answer.pause
        return answer


def _issued(node: Any) -> Result:
    return Result("issued", valid_until=discounts.ends_at(node))


def _of(trouble: Trouble) -> Result:
    if trouble.kind == "busy":
        return Result("busy", trouble.error, after=trouble.after)
    if trouble.kind == "shut":
        return Result("shut", trouble.error)
    if trouble.kind == "denied":
        return Result("failed", "access_denied")
    if trouble.kind == "invalid":
        return Result("failed", "invalid")
    return Result("again", trouble.error)


def _is_taken(error: dict[str, Any]) -> bool:
    return error.get("code") == "TAKEN" and "code" in _path(error)


def _refused(errors: list[dict[str, Any]]) -> Result:
    if any(each.get("code") in _PASSES for each in errors):
        return Result("again", "internal_error")
    paths = [part for each in errors for part in _path(each)]
    if "customers" in paths or "context" in paths or "customerSelection" in paths:
        return Result("failed", "customer_not_found")
    if "products" in paths or "productsToAdd" in paths:
        return Result("failed", "product_not_found")
    return Result("failed", "invalid")


def _path(error: dict[str, Any]) -> list[str]:
    return error["field"] or []
