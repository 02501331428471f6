"""Whom the outcome of a fulfilment is told."""

from typing import Literal, Protocol, TypedDict


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
