"""A shop's redemptions, and each one's page: what was decided and why, what became of it, and what can be done."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Form, Query
from fastapi.responses import RedirectResponse, Response
from psycopg import AsyncConnection
from pydantic import ValidationError

from api import asking, customers, redemptions
from api.dashboard.customer import bad_reason
from api.dashboard.visiting import FulfilVisit, RedeemVisit, Visit, Visitor
from api.problems import ProblemError
from api.redemption_models import Cancellation, Fulfilment, Redemption
from api.redemptions import RequestPath
from books import fulfilment
from events import instants
from events.programs import local_midnight, reward_at

router = APIRouter(include_in_schema=False)

#: Redemptions of one page.
_PAGE: Final = 50

_Filter = Literal["", "refused", "reserved", "issued", "used", "returned"]
_Text = Annotated[str, Form(max_length=1000)]


@router.get("/shops/{shop}/redemptions")
async def listing(
    visitor: Visit,
    chosen: Annotated[_Filter, Query(alias="status")] = "",
    reward: Annotated[str, Query(pattern=r"^[0-9A-Za-z._:-]{0,64}$")] = "",
    named: Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")] = "",
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """All of the shop's, newest first: of a status or a reward, a customer's, or the one of a name or a code."""
    named = named.strip().lstrip("'#")
    asked = chosen or None, reward or None, named or None
    return visitor.page(
        "redemptions.html",
        told=await redemptions.of_shop(visitor.caller, *asked, cursor, _PAGE),
        totals=await redemptions.totals(visitor.caller, reward or None),
        chosen=chosen,
        chosen_reward=reward,
        named=named,
    )


class _Store(NamedTuple):
    """Whether LoyalNest makes the shop's codes itself, and how far that of one redemption is."""

    on: bool
    making: fulfilment.Making | None


@router.get("/shops/{shop}/customers/{customer_id}/redemptions/{request_id}")
async def redemption(
    visitor: Visit,
    customer_id: customers.CustomerPath,
    request_id: RequestPath,
    cancelling: bool = False,
    told: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """One of them, and the facts behind its status.

    `cancelling`: a form asked to cancel it; `told`: one told the outcome of this attempt at handing its code out.
    """
    return await _page(visitor, customer_id, request_id, cancelling=cancelling, told=told)


async def _page(
    visitor: Visitor, customer_id: str, request_id: str, problem: ProblemError | None = None, **asked: Any
) -> Response:
    caller = visitor.caller
    found = await redemptions.redemption(caller, customer_id, request_id)
    decided = None if found.decided_at is None else instants.from_datetime(found.decided_at)
    merged = await redemptions.merged_into(caller, customer_id) if found.reason == "merged" else None
    return visitor.page(
        "redemption.html",
        path=f"{visitor.base}/customers/{customer_id}/redemptions/{request_id}",
        **{"status": 200 if problem is None else problem.status, "cancelling": False, "told": None, **asked},
        found=found,
        store=await _store(visitor, found),
        cost=redemptions.cost_then(visitor.program, found) if found.reason == "wrong-cost" else None,
        merged_into=merged,
        last_day=_last_day(visitor, found, decided),
        problem=problem,
    )


async def _store(visitor: Visitor, found: Redemption) -> _Store:
    async def look(connection: AsyncConnection[Any]) -> _Store:
        on = await fulfilment.enabled(connection, visitor.shop)
        return _Store(on, await fulfilment.making(connection, visitor.shop, found.customer_id, found.request_id))

    return await asking.connected(visitor.caller, look)


def _last_day(visitor: Visitor, found: Redemption, decided: int | None) -> date | None:
    """The day that a code handed out today would be good for, by its reward."""
    reward = None if decided is None else reward_at(visitor.program, found.reward_id, decided)
    if reward is None or reward.valid_days is None:
        return None
    return datetime.now(ZoneInfo(visitor.program.zone)).date() + timedelta(days=reward.valid_days)


@router.post("/shops/{shop}/customers/{customer_id}/redemptions/{request_id}/cancel")
async def cancel(
    visitor: RedeemVisit, customer_id: customers.CustomerPath, request_id: RequestPath, reason: _Text = ""
) -> Response:
    """A redemption cancelled, for a reason."""
    try:
        try:
            said = Cancellation(reason=reason.strip())
        except ValidationError:
            raise bad_reason() from None
        await redemptions.cancel(visitor.caller, customer_id, request_id, Response(), said)
    except ProblemError as problem:
        return await _refused(visitor, customer_id, request_id, problem)
    return _shown(visitor, customer_id, request_id, "cancelling=1")


@router.post("/shops/{shop}/customers/{customer_id}/redemptions/{request_id}/fulfilment")
async def fulfil(
    visitor: FulfilVisit,
    customer_id: customers.CustomerPath,
    request_id: RequestPath,
    attempt: Annotated[int, Form(ge=1, le=2**31 - 1)],
    state: Annotated[Literal["issued", "failed"], Form()],
    code: _Text = "",
    until: Annotated[date | None, Form()] = None,
    reason: _Text = "",
) -> Response:
    """A code handed out by hand, good until the end of a day by the shop's clocks; or that there is none to be had."""
    try:
        said = _fulfilment(visitor, attempt, state, code.strip(), until, reason.strip())
        await redemptions.fulfil(visitor.caller, customer_id, request_id, said, Response())
    except ProblemError as problem:
        return await _refused(visitor, customer_id, request_id, problem)
    return _shown(visitor, customer_id, request_id, f"told={attempt}")


def _fulfilment(
    visitor: Visitor, attempt: int, state: Literal["issued", "failed"], code: str, until: date | None, reason: str
) -> Fulfilment:
    if state == "failed":
        try:
            return Fulfilment(attempt=attempt, state=state, reason=reason)
        except ValidationError:
            raise bad_reason() from None
    try:
        end = None if until is None else local_midnight(until + timedelta(days=1), ZoneInfo(visitor.program.zone))
        valid_until = None if end is None else instants.to_datetime(end).astimezone(UTC)
        return Fulfilment(attempt=attempt, state=state, code=code or None, valid_until=valid_until)
    except (ValidationError, OverflowError):
        raise ProblemError(422, "bad-code", "A code is one line of at most 64 characters, without an @.") from None


async def _refused(visitor: Visitor, customer_id: str, request_id: str, problem: ProblemError) -> Response:
    """The page again, with what is wrong; for who may not see it, or where there is none, that alone."""
    if "read" not in visitor.caller.key.scopes or problem.status == 404:
        raise problem
    return await _page(visitor, customer_id, request_id, problem)


def _shown(visitor: Visitor, customer_id: str, request_id: str, asked: str) -> Response:
    return RedirectResponse(f"{visitor.base}/customers/{customer_id}/redemptions/{request_id}?{asked}", 303)
