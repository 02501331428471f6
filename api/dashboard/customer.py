"""A customer's page, and what staff do there: points given, taken and taken back, and rewards redeemed for them.

A form carries the name of what it asks for (an Idempotency-Key), made with the page: sent twice, it asks once. What it
asks for, the API's own functions do; then the browser is sent to a page that tells what came of it, as it is by then.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, NamedTuple
from uuid import UUID, uuid4, uuid5
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Query
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from api import adjustments, customers, points, redemptions, rewards
from api.adjustments import Adjustment, AwardPath, NewAdjustment
from api.dashboard.visiting import AdjustVisit, RedeemVisit, Visit, Visitor
from api.problems import ProblemError, problem_of
from api.redemption_models import NewRedemption
from events import instants
from events.money import MAX_POINTS
from events.names import NAME_ALONE
from events.programs import rewards_at
from lake.errors import BehindError
from tables.terms import FOR_EVER, Terms

router = APIRouter(include_in_schema=False)

#: Entries of one list.
_PAGE: Final = 50

#: Redemptions and adjustments that the page shows, the newest.
_LATEST: Final = 10

#: Customers that one was merged from, as far as the page names them.
_MERGED: Final = 20

#: What asks for what this page asks for.
_SOURCE: Final = "dashboard"

_Name = Annotated[str | None, Query(pattern=NAME_ALONE)]
_FormKey = Annotated[str, Form(alias="key", pattern=NAME_ALONE)]
_Text = Annotated[str, Form(max_length=1000)]
_Way = Literal["give", "take"]


class Wrong(NamedTuple):
    """What a form was refused for: which form, why, and what stood in it."""

    form: str
    problem: ProblemError
    said: Mapping[str, str]


@router.get("/shops/{shop}/customers/{customer_id}")
async def customer(
    visitor: Visit,
    customer_id: customers.CustomerPath,
    adjusted: _Name = None,
    voided: _Name = None,
    names: UUID | None = None,
) -> Response:
    """A customer: balance, digits and where they come from, how they came there, and what can be done.

    `adjusted` and `voided` name the adjustment that a form asked for. `names` is what the forms' own names are made
    from: a page that is shown anew keeps them.
    """
    asked = adjusted or voided
    told = None if asked is None else await _adjustment(visitor, customer_id, asked)
    return await _page(visitor, customer_id, names, told=told, voiding=voided is not None)


async def _adjustment(visitor: Visitor, customer_id: str, name: str) -> Adjustment | None:
    try:
        return await adjustments.adjustment(visitor.caller, customer_id, name)
    except ProblemError:  # somebody's bookmark
        return None


async def _page(
    visitor: Visitor,
    customer_id: str,
    names: UUID | None = None,
    *,
    told: Adjustment | None = None,
    voiding: bool = False,
    wrong: Wrong | None = None,
) -> Response:
    caller = visitor.caller
    names = names or uuid4()
    now = instants.from_datetime(datetime.now(UTC))
    catalogue = [(each, rewards.told_of(each, visitor.program, None)) for each in rewards_at(visitor.program, now)]
    return visitor.page(
        "customer.html",
        status=200 if wrong is None else wrong.problem.status,
        path=f"{visitor.base}/customers/{customer_id}",
        found=await customers.customer(caller, customer_id),
        ledger=await points.ledger(caller, customer_id, None, _PAGE),
        history=await customers.history(caller, customer_id, None, _PAGE),
        redeemed=await redemptions.of_customer(caller, customer_id, None, _LATEST),
        adjusted=await adjustments.adjustments(caller, customer_id, None, _LATEST),
        catalogue=catalogue,
        merged_shown=_MERGED,
        most=MAX_POINTS,
        names=names,
        named=lambda what: f"desk-{uuid5(names, what).hex}",
        told=told,
        voiding=voiding,
        wrong=wrong,
    )


@router.post("/shops/{shop}/customers/{customer_id}/adjustments")
async def adjust(
    visitor: AdjustVisit,
    customer_id: customers.CustomerPath,
    key: _FormKey,
    way: Annotated[_Way, Form()] = "give",
    amount: Annotated[str, Form(alias="points", max_length=30)] = "",
    reason: _Text = "",
    earned: Annotated[bool, Form()] = False,
) -> Response:
    """Points given or taken by hand, for a reason."""
    said = {"way": way, "points": amount, "reason": reason, "earned": "1" if earned else ""}
    try:
        asked = _asked(way, amount, reason, earned)
        await adjustments.adjust(visitor.caller, customer_id, asked, key, Response())
    except ProblemError as problem:
        return await _refused(visitor, customer_id, Wrong("adjust", problem, said))
    return _shown(visitor, customer_id, "adjusted", key)


def _asked(way: _Way, amount: str, reason: str, earned: bool) -> NewAdjustment:
    """A form's adjustment; a problem (422) for one without points or a reason, or with others than can be."""
    try:
        many = int(amount)
    except ValueError:
        many = 0
    if not 0 < many <= MAX_POINTS:
        raise ProblemError(422, "bad-points", f"Points are a whole number from 1 to {MAX_POINTS}.")
    try:
        return NewAdjustment(
            points=many if way == "give" else -many,
            reason=reason.strip(),
            counts_as_earned=earned and way == "give",
            source=_SOURCE,
        )
    except ValidationError:
        raise bad_reason() from None


def bad_reason() -> ProblemError:
    """Of a reason that is none, or cannot be kept."""
    return ProblemError(422, "bad-reason", "A reason is one line of at most 64 characters, without an @.")


@router.post("/shops/{shop}/customers/{customer_id}/adjustments/{award_id}/void")
async def void(visitor: AdjustVisit, customer_id: customers.CustomerPath, award_id: AwardPath) -> Response:
    """An adjustment taken back, for ever."""
    await adjustments.void(visitor.caller, customer_id, award_id, Response())
    return _shown(visitor, customer_id, "voided", award_id)


@router.post("/shops/{shop}/customers/{customer_id}/redemptions")
async def redeem(
    visitor: RedeemVisit,
    customer_id: customers.CustomerPath,
    key: _FormKey,
    reward_id: Annotated[str, Form(max_length=64)] = "",
    cost: Annotated[int | None, Form()] = None,
    forced: Annotated[bool, Form()] = False,
    at: Annotated[str, Form(max_length=30)] = "",
) -> Response:
    """A reward for the customer's points, or (`forced`) one that they had already: then on to what was decided."""
    said = {"reward_id": reward_id, "at": at}
    form = "forced" if forced else "redeem"
    try:
        when = _local(at, ZoneInfo(visitor.program.zone)) if forced and at else None
        try:
            asked = NewRedemption(reward_id=reward_id, cost=cost, forced=forced, at=when)
        except ValidationError:
            raise ProblemError(422, "unknown-reward", "This is no reward.") from None
        await redemptions.redeem(visitor.caller, customer_id, asked, key, Response())
    except ProblemError as problem:
        if "request_id" not in problem.more:  # else it was decided: its page tells why it was refused
            return await _refused(visitor, customer_id, Wrong(form, problem, said))
    return RedirectResponse(f"{visitor.base}/customers/{customer_id}/redemptions/{key}", 303)


def _local(said: str, zone: ZoneInfo) -> datetime:
    """A time as a form has it, by the shop's clocks; a problem (422) for what is none."""
    try:
        return datetime.fromisoformat(said).replace(tzinfo=zone)
    except ValueError:
        raise ProblemError(422, "bad-time", "`at` is a time that has been, since 1970.") from None


async def _refused(visitor: Visitor, customer_id: str, wrong: Wrong) -> Response:
    """The page again, with what is wrong; for who may not see it, that alone."""
    if "read" not in visitor.caller.key.scopes:
        raise wrong.problem
    return await _page(visitor, customer_id, wrong=wrong)


def _shown(visitor: Visitor, customer_id: str, what: str, name: str) -> Response:
    return RedirectResponse(f"{visitor.base}/customers/{customer_id}?{what}={name}#adjusting", 303)


@router.get("/shops/{shop}/parts/adjusting/{customer_id}")
async def adjusting_part(
    visitor: Visit,
    customer_id: customers.CustomerPath,
    way: _Way = "give",
    amount: Annotated[str, Query(alias="points", max_length=30)] = "",
) -> Response:
    """What so many points more or less would make of the account now."""
    if not (amount.isascii() and amount.isdigit() and 0 < int(amount) <= MAX_POINTS):
        return visitor.page("parts/adjusting.html", found=None)
    now = instants.from_datetime(datetime.now(UTC))
    terms = Terms(visitor.program)
    spendable, runs_out = terms.spendable_from(now), terms.runs_out(now)
    return visitor.page(
        "parts/adjusting.html",
        found=await customers.customer(visitor.caller, customer_id),
        points=int(amount) if way == "give" else -int(amount),
        spendable_from=instants.to_datetime(spendable) if spendable > now else None,
        runs_out=None if runs_out == FOR_EVER else instants.to_datetime(runs_out),
    )


@router.get("/shops/{shop}/parts/orders/{customer_id}")
async def orders_part(visitor: Visit, customer_id: customers.CustomerPath) -> Response:
    """The part of a customer's page that tells their orders."""
    try:
        told = await customers.customers_orders(visitor.caller, customer_id, _PAGE)
    except BehindError as error:
        return visitor.page("parts/nothing.html", problem=problem_of(error))
    return visitor.page("parts/orders.html", told=told)
