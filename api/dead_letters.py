"""Dead letters: what of a shop could not be used, why, and sending it again once the cause is gone."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import Field

from api.context import AdminAccess
from api.models import Answer, Time
from api.problems import ProblemError
from books import dead_letters

router = APIRouter(prefix="/v1/shops/{shop}/dead-letters", tags=["dead letters"])


class DeadLetter(Answer):
    """A message that could not be used. Its body is not told here: `loyalnest dead-letters show` opens it."""

    id: UUID
    at: Time
    source: str = Field(description="the topic that it came from, or `webhook`", examples=["shopify.orders"])
    error: str = Field(examples=["other_currency"])
    detail: str = Field(description="what was wrong with it")
    replayed_at: Time | None = Field(description="null: it has not been sent again")

    @classmethod
    def of(cls, letter: dead_letters.DeadLetterRow) -> "DeadLetter":
        """From its row."""
        return cls(**{name: getattr(letter, name) for name in cls.model_fields})


class DeadLetters(Answer):
    """A shop's newest dead letters, the newest first."""

    shop: str
    letters: list[DeadLetter]


class ReplayedLetter(Answer):
    """What became of sending it again."""

    id: UUID
    problem: str | None = Field(description="why it could not be sent again; null: it was")


@router.get("", summary="What could not be used, and why")
async def all_letters(
    caller: AdminAccess,
    unreplayed: Annotated[bool, Query(description="only those that were not sent again")] = False,
    limit: Annotated[int, Query(ge=1, le=500, description="letters at most")] = 100,
) -> DeadLetters:
    """Those of the shop. What named no shop is for the operator: `loyalnest dead-letters list`."""
    found = await dead_letters.listing(caller.services.pool, shop=caller.shop, unreplayed=unreplayed, limit=limit)
    return DeadLetters(shop=caller.shop, letters=[DeadLetter.of(each) for each in found])


@router.post("/{letter}/replay", summary="Send it again")
async def replay(caller: AdminAccess, letter: Annotated[UUID, Path(description="a letter's id")]) -> ReplayedLetter:
    """To where it came from, once the cause is gone. Twice does no harm: whoever reads it has it already."""
    services = caller.services
    found = await dead_letters.listing(services.pool, shop=caller.shop, ids=[letter], limit=1)
    if not found:
        raise ProblemError(404, "not-found", "There is no such dead letter of this shop.")
    (outcome,) = await dead_letters.replay(services.pool, services.vault, services.publisher, found, datetime.now(UTC))
    return ReplayedLetter(id=letter, problem=outcome.problem)
