"""Adjustments: points that a shop's own systems, or its people, give a customer or take from them, beside orders."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Header, Path, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api import cursors
from api.asking import LOCATION, Asking, connected
from api.context import AdjustAccess, ReadAccess, now_us
from api.cursors import CursorQuery, LimitQuery
from api.customers import CustomerPath
from api.models import Answer, AsOf, Time
from api.problems import ProblemError, ProblemModel
from api.redemptions import merged_into
from books import awards
from books.awards import Award, MergedError, OtherBodyError
from events import instants
from events.awards import WORDS, Body
from events.money import MAX_POINTS
from events.names import NAME_ALONE

router = APIRouter(prefix="/v1/shops/{shop}/customers/{customer_id}/adjustments", tags=["points"])

#: Where a list begins: nothing is newer.
_FIRST: Final = (datetime(9999, 12, 31, tzinfo=UTC), "")

AwardPath = Annotated[
    str, Path(description="the Idempotency-Key that it was asked for with", pattern=NAME_ALONE, examples=["birthday-7"])
]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        description="what the adjustment is called from now on: asking again with it changes nothing",
        pattern=NAME_ALONE,
        examples=["birthday-7"],
    ),
]


def _some(points: int) -> int:
    if points == 0:
        raise ValueError("points other than 0")
    return points


class NewAdjustment(BaseModel):
    """Points to give or to take."""

    model_config = ConfigDict(extra="forbid")

    points: Annotated[int, AfterValidator(_some)] = Field(
        strict=True,
        ge=-MAX_POINTS,
        le=MAX_POINTS,
        description="above 0 given, below 0 taken, be it more than there is (unless with `check`)",
        examples=[50],
    )
    reason: str | None = Field(
        None, pattern=WORDS, description="one line; nothing that says who somebody is", examples=["birthday"]
    )
    at: AsOf | None = Field(
        None, description="when they are given: their wait and their life begin there; now without, never later"
    )
    counts_as_earned: bool = Field(False, strict=True, description="whether they count among what was ever earned")
    source: str = Field("api", pattern=WORDS, description="what asks for it", examples=["klaviyo"])
    check: bool = Field(
        False,
        strict=True,
        description="of points below 0: taken only if so many can be spent when it is decided, all of them or none",
    )

    @model_validator(mode="after")
    def _of_checked(self) -> Self:
        if self.check and (self.points > 0 or self.at is not None or self.counts_as_earned):
            raise ValueError("`check` is of points below 0, without `at` and `counts_as_earned`")
        return self

    def body(self, now: int) -> Body:
        """What is said, `now` in microseconds. A problem (422) for a time to come, or one before 1970."""
        at = now if self.at is None else instants.from_datetime(self.at)
        if not 0 <= at <= now:
            raise ProblemError(422, "bad-time", "`at` is a time that has been, since 1970.")
        return Body(at, self.points, self.reason or "", self.source, self.counts_as_earned)


class Adjustment(Answer):
    """Points that were given or taken."""

    award_id: str = Field(description="what it is called", examples=["birthday-7"])
    customer_id: str
    at: Time = Field(description="with `check`, when it was decided")
    points: int = Field(description="above 0 given, below 0 taken", examples=[50])
    reason: str | None
    source: str = Field(examples=["api"])
    counts_as_earned: bool
    voided_at: Time | None = Field(description="when it was taken back, for ever; null: it stands")
    stored_at: Time | None = Field(description="null: it is durable, and not taken in yet")
    check: bool = Field(description="it was to be taken only if it was there")
    refused: str | None = Field(description="why nothing was taken, with `check`", examples=["insufficient-points"])
    balance: int | None = Field(description="what could be spent before it, with `check`", examples=[620])

    @classmethod
    def of(cls, customer_id: str, found: Award) -> "Adjustment":
        """Of what stands."""
        at, points, reason, source, counts_as_earned = found.body
        return cls(
            award_id=found.award_id,
            customer_id=customer_id,
            at=instants.to_datetime(at),
            points=points,
            reason=reason or None,
            source=source,
            counts_as_earned=counts_as_earned,
            voided_at=found.voided_at,
            stored_at=found.stored_at,
            check=found.check,
            refused=found.refused,
            balance=found.balance,
        )


class Adjustments(Answer):
    """A page of a customer's adjustments, newest first by `at`."""

    customer_id: str
    items: list[Adjustment]
    next: str | None = Field(description="the next page's cursor; null on the last")


_TAKEN: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Adjustment, "description": "it was asked for before, and stands", "headers": LOCATION},
    201: {"headers": LOCATION},
    202: {"model": Adjustment, "description": "durable, and not taken in within 5 s", "headers": LOCATION},
    409: {
        "model": ProblemModel,
        "description": "the customer was merged: `merged_into` is who they are now; with `check` also"
        " `insufficient-points` (`balance`, `needed`) or `closed`, decided for good",
    },
}


@router.post("", summary="Give or take points", status_code=201, responses=_TAKEN)
async def adjust(
    caller: AdjustAccess, customer_id: CustomerPath, asked: NewAdjustment, key: Key, response: Response
) -> Adjustment:
    """Answers once the adjustment is stored; the balance follows within a moment.

    The customer need not be known yet. Points that are taken may bring the balance below 0: what comes next pays that
    first. Asking again with the same Idempotency-Key answers what stands; with other words it is a 422. A backdated
    adjustment may have run out already: the customer's `account` tells.

    With `check` it is decided once, as a redemption is: taken, or refused (409) under its name, for good.
    """
    await caller.program()
    wanted, check, at_will = asked.body(now_us()), asked.check, asked.at is None
    place = (caller.shop, customer_id, key)
    try:
        standing = await connected(caller, lambda it: awards.claim(it, *place, wanted, at_will=at_will, check=check))
    except OtherBodyError:
        detail = "This Idempotency-Key was used for another adjustment of this customer's: send another key."
        raise ProblemError(422, "idempotency-key-reused", detail) from None
    except MergedError as merged:
        detail = f"The customer was merged: ask for {merged.into}, who has all that was theirs."
        raise ProblemError(409, "merged", detail, merged_into=merged.into) from None
    response.headers["Location"] = f"/v1/shops/{caller.shop}/customers/{customer_id}/adjustments/{key}"
    if standing.stored_at is None:
        asking = Asking(caller, awards, customer_id, key)
        await asking.publish(standing.asked(caller.shop, customer_id, now_us()))
        stored = await asking.stored()
        if stored is None:
            response.status_code = 202
        standing = stored or standing
    else:
        response.status_code = 200
    if standing.refused is not None:
        raise _refusal(standing, await merged_into(caller, customer_id))
    return Adjustment.of(customer_id, standing)


@router.delete(
    "/{award_id}",
    summary="Take an adjustment back",
    responses={202: {"model": Adjustment, "description": "durable, and not taken in within 5 s", "headers": LOCATION}},
)
async def void(caller: AdjustAccess, customer_id: CustomerPath, award_id: AwardPath, response: Response) -> Adjustment:
    """For ever: its points are as if they had never been. What has been bought with them stays, and the balance may be
    below 0. Points that were taken come back with the life they had. One that was refused is answered as it is."""
    asking = Asking(caller, awards, customer_id, award_id)
    found = _there(await asking.known())
    if found.over:
        return Adjustment.of(customer_id, found)
    await asking.publish(found.voided(caller.shop, customer_id, now_us()))
    stored = await asking.stored(lambda each: each.over)
    if stored is None:
        response.status_code = 202
        response.headers["Location"] = f"/v1/shops/{caller.shop}/customers/{customer_id}/adjustments/{award_id}"
    return Adjustment.of(customer_id, stored or found)


@router.get("/{award_id}", summary="An adjustment")
async def adjustment(caller: ReadAccess, customer_id: CustomerPath, award_id: AwardPath) -> Adjustment:
    """As it stands; one that is on its way, too."""
    return Adjustment.of(customer_id, _there(await Asking(caller, awards, customer_id, award_id).known()))


@router.get("", summary="A customer's adjustments")
async def adjustments(
    caller: ReadAccess, customer_id: CustomerPath, cursor: CursorQuery = None, limit: LimitQuery = 100
) -> Adjustments:
    """Newest first by `at`, those that were taken back among them; none for somebody who never had any. Of whoever was
    merged into the customer they stand under that id."""
    before = _before(cursor)
    found = await connected(caller, lambda it: awards.page(it, caller.shop, customer_id, before, limit + 1))
    last = found[limit - 1] if len(found) > limit else None
    return Adjustments(
        customer_id=customer_id,
        items=[Adjustment.of(customer_id, each) for each in found[:limit]],
        next=None if last is None else cursors.write(last.body.at, last.award_id),
    )


def _before(cursor: str | None) -> tuple[datetime, str]:
    if cursor is None:
        return _FIRST
    at, award_id = cursors.read(cursor, int, str)
    if not 0 <= at <= instants.LATEST or "\x00" in award_id:
        raise ProblemError(400, "bad-cursor", "This cursor is none of this list's: begin again without one.")
    return instants.to_datetime(at), award_id


def _there(found: Award | None) -> Award:
    """It; a problem (404) where nobody knows one."""
    if found is None:
        raise ProblemError(404, "no-adjustment", "The customer has no adjustment of this name.")
    return found


def _refusal(found: Award, into: str | None) -> ProblemError:
    """Why nothing was taken, as a problem."""
    if found.refused == "insufficient-points":
        detail = f"{-found.body.points} points were to be taken, and {found.balance} could be spent."
        needed = -found.body.points
        return ProblemError(
            409, "insufficient-points", detail, award_id=found.award_id, balance=found.balance, needed=needed
        )
    if found.refused == "merged":
        detail = "The customer was merged: ask for whom they are now, who has all that was theirs."
        return ProblemError(409, "merged", detail, award_id=found.award_id, merged_into=into)
    return ProblemError(409, "closed", "The customer was deleted.", award_id=found.award_id)
