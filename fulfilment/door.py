"""Whom the outcome of a fulfilment is told: in the house the customer's log."""

import time
from collections.abc import Sequence
from typing import Literal, Protocol, TypedDict

from books.unused import Over
from events import instants, redeeming
from runtime.ports import Publisher


class Fulfilment(TypedDict):
    """What came of a redemption. The highest `attempt` holds; told twice it is the same but for that.

    `issued`: the discount is in the store under `code`, until `valid_until` (RFC 3339, UTC; None: without end).
    `failed`: its points return, `reason` says why in a word. A `code` with it may be in the store all the same (nobody
    answered): an order that carries it has used it.
    """

    request_id: str
    attempt: int
    state: Literal["issued", "failed"]
    code: str | None
    valid_until: str | None
    reason: str | None


class Door(Protocol):
    """The way of outcomes to the customer's log."""

    async def tell(self, shop: str, customer_id: str, fact: Fulfilment) -> None:
        """Returns once the fact is durable; raises if it is not, and is then told it again. Twice is harmless."""
        ...

    async def over(self, found: Sequence[Over]) -> None:
        """That nobody used these in time: as `tell`, of all of them. Twice is harmless."""
        ...

    async def ready(self) -> bool:
        """Whether a fact would be made durable now."""
        ...

    def failed(self) -> str | None:
        """Why nothing can be told any more by this process, which must end; None while it can go on."""
        ...


class LogDoor:
    """Tells the customer's log, as an envelope of what is asked of accounts. PublishError where that is not durable."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def tell(self, shop: str, customer_id: str, fact: Fulfilment) -> None:
        """Publishes the fact."""
        until = None if fact["valid_until"] is None else instants.parse(fact["valid_until"])
        outcome = redeeming.Outcome(fact["attempt"], fact["state"], fact["code"], until, fact["reason"])
        now = time.time_ns() // 1000
        await self._publisher.publish([redeeming.fulfilment(shop, customer_id, fact["request_id"], outcome, now)])

    async def over(self, found: Sequence[Over]) -> None:
        """Publishes a cancellation of each, by one name however often it is told."""
        now = time.time_ns() // 1000
        await self._publisher.publish([redeeming.cancellation(*each, redeeming.UNUSED, now) for each in found])

    async def ready(self) -> bool:
        """Whether the publisher is."""
        return await self._publisher.ready()

    def failed(self) -> str | None:
        """Why the publisher must end."""
        return self._publisher.failed()
