"""Redemptions: rewards that customers ask for, what was decided, what became of it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Header, Path, Query, Response

from api import cursors
from api.asking import LOCATION, Asking, connected
from api.context import Caller, FulfilAccess, ReadAccess, RedeemAccess, now_us
from api.cursors import CursorQuery, LimitQuery
from api.customers import CustomerPath
from api.problems import ProblemError, ProblemModel
from api.redemption_models import (
    Cancellation,
    CustomersRedemptions,
    Fulfilment,
    NewRedemption,
    Redemption,
    Redemptions,
    Status,
    Total,
    Totals,
)
from books import persons, redemptions
from books.redemptions import Asked, OtherBodyError, UnknownRewardError, Which
from books.redemptions import Redemption as Found
from events import instants, redeeming
from events.names import NAME_ALONE
from events.programs import Program, reward_at

router = APIRouter(prefix="/v1/shops/{shop}", tags=["redemptions"])

_OF_CUSTOMER: Final = "/customers/{customer_id}/redemptions"

RequestPath = Annotated[
    str, Path(description="the Idempotency-Key that it was asked for with", pattern=NAME_ALONE, examples=["cart-81-a"])
]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        description="what the redemption is called from now on: asking again with it changes nothing",
        pattern=NAME_ALONE,
        examples=["cart-81-a"],
    ),
]
RewardQuery = Annotated[str | None, Query(description="only of this reward", pattern=NAME_ALONE, examples=["ten-off"])]

_NONE: Final = {"redemptions": 0, "cost": 0}


def _waits(what: str, refusals: str) -> dict[int | str, dict[str, Any]]:
    return {
        202: {"model": Redemption, "description": f"durable, and not {what} within 5 s", "headers": LOCATION},
        409: {"model": ProblemModel, "description": refusals},
    }


@router.post(
    _OF_CUSTOMER,
    summary="Redeem",
    status_code=201,
    responses={
        201: {"headers": LOCATION},
        **_waits(
            "decided",
            "refused, under its `request_id`, for good: `insufficient-points` (`balance`, `needed`), `limit`,"
            " `unknown-reward`, `wrong-cost` (`cost`: what it costs), `merged` (`merged_into`) or `closed`",
        ),
    },
)
async def redeem(
    caller: RedeemAccess, customer_id: CustomerPath, body: NewRedemption, key: Key, response: Response
) -> Redemption:
    """Asks for a reward, and answers once that is decided: accepted, its points are taken.

    It is decided once. Asking again with the same Idempotency-Key answers what was decided and what became of it,
    with the status of the first answer; for another reward or cost it is a 422. So after a broken connection ask again
    with the same key; after a refusal, with another.
    """
    if body.forced and "till" not in caller.key.scopes:
        raise ProblemError(403, "no-scope", "A forced redemption wants the scope 'till' as well.")
    program, asked = await caller.program(), body.asked(now_us())
    found = await _claim(caller, customer_id, key, asked, program)
    response.headers["Location"] = _location(caller, customer_id, key)
    if found.decided_at is None:
        asking = Asking(caller, redemptions, customer_id, key)
        await asking.publish(redeeming.redemption(caller.shop, customer_id, key, found.wanted(), now_us()))
        stored = await asking.stored()
        if stored is None:
            response.status_code = 202
            return Redemption.of(found)
        if not asked.same(stored):  # somebody noted it before us, and it was long on its way
            raise _other_body()
        found = stored
    if found.status == "refused":
        raise await _refusal(caller, found)
    return Redemption.of(found)


@router.get(_OF_CUSTOMER + "/{request_id}", summary="A redemption")
async def redemption(caller: ReadAccess, customer_id: CustomerPath, request_id: RequestPath) -> Redemption:
    """As it stands, a refused one too; `pending` is one on its way."""
    return Redemption.of(_there(await Asking(caller, redemptions, customer_id, request_id).known()))


@router.post(
    _OF_CUSTOMER + "/{request_id}/cancel",
    summary="Cancel a redemption",
    responses=_waits("taken in", "`used`: an order has used it"),
)
async def cancel(
    caller: RedeemAccess,
    customer_id: CustomerPath,
    request_id: RequestPath,
    response: Response,
    said: Cancellation | None = None,
) -> Redemption:
    """Its points return, as if they had never been taken, with the life they had. For ever.

    A code that is out may be used until it is withdrawn: an order that bears it has used the redemption all the
    same, be it placed before or after, and its points are taken. One that was refused, or whose points are back
    already, is answered as it is.
    """
    asking = Asking(caller, redemptions, customer_id, request_id)
    found = _there(await asking.known())
    if found.status in ("pending", "reserved", "issued"):
        reason = None if said is None else said.reason
        await asking.publish(redeeming.cancellation(caller.shop, customer_id, request_id, reason, now_us()))
        stored = await asking.stored(lambda each: each.status in ("refused", "used", "returned"))
        if stored is None:
            return _accepted(caller, found, response)
        found = stored
    if found.status == "used":
        detail = (
            "An order has used it: its points return if that order is cancelled or refunded, if its reward says so."
        )
        raise ProblemError(409, "used", detail, request_id=request_id)
    return Redemption.of(found)


@router.post(
    _OF_CUSTOMER + "/{request_id}/fulfilment",
    summary="Tell what became of its code",
    responses=_waits(
        "taken in", "`not-accepted`: it was refused, or is not decided; `attempt-told` (`attempt`): something else"
    ),
)
async def fulfil(
    caller: FulfilAccess, customer_id: CustomerPath, request_id: RequestPath, said: Fulfilment, response: Response
) -> Redemption:
    """For merchants who hand out codes, or the reward itself, by their own means: `issued`, or `failed` for good.

    Of several attempts the highest holds: after a failure that was mended, tell the next attempt.
    """
    asking = Asking(caller, redemptions, customer_id, request_id)
    found = _there(await asking.known())
    if found.status in ("pending", "refused"):
        raise ProblemError(409, "not-accepted", f"The redemption is {found.status}.", request_id=request_id)
    if found.attempt is None or found.attempt < said.attempt:
        outcome = said.outcome()
        await asking.publish(redeeming.fulfilment(caller.shop, customer_id, request_id, outcome, now_us()))
        stored = await asking.stored(lambda each: each.attempt is not None and each.attempt >= said.attempt)
        if stored is None:
            return _accepted(caller, found, response)
        found = stored
    elif not said.told(found):
        detail = f"Something else was told of attempt {found.attempt}: tell a higher one."
        raise ProblemError(409, "attempt-told", detail, request_id=request_id, attempt=found.attempt)
    return Redemption.of(found)


@router.get(_OF_CUSTOMER, summary="A customer's redemptions")
async def of_customer(
    caller: ReadAccess, customer_id: CustomerPath, cursor: CursorQuery = None, limit: LimitQuery = 100
) -> CustomersRedemptions:
    """Newest first by when they were decided, refused ones among them; none for somebody who never asked. Of whoever
    was merged into the customer they stand under that id."""
    before = (redemptions.LAST, "") if cursor is None else _time_and_names(cursors.read(cursor, int, str))
    found = await connected(caller, lambda it: redemptions.of_customer(it, caller.shop, customer_id, before, limit + 1))
    following = _cursor(found, limit, lambda last: (last.request_id,))
    items = [Redemption.of(each) for each in found[:limit]]
    return CustomersRedemptions(customer_id=customer_id, items=items, next=following)


@router.get("/redemptions", summary="A shop's redemptions")
async def of_shop(
    caller: ReadAccess,
    status: Annotated[Status | None, Query(description="only these")] = None,
    reward: RewardQuery = None,
    named: Annotated[
        str | None,
        Query(
            description="only those of this customer, of this name or with this code",
            min_length=1,
            max_length=64,
            pattern=r"^[^\x00]*$",
        ),
    ] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 100,
) -> Redemptions:
    """Newest first by when they were decided. Those that wait for their code are `reserved`."""
    before = (redemptions.LAST, "", "") if cursor is None else _time_and_names(cursors.read(cursor, int, str, str))
    which = Which(status, reward, named)
    found = await connected(caller, lambda it: redemptions.of_shop(it, caller.shop, which, before, limit + 1))
    following = _cursor(found, limit, lambda last: (last.customer_id, last.request_id))
    return Redemptions(shop=caller.shop, items=[Redemption.of(each) for each in found[:limit]], next=following)


@router.get("/redemptions/totals", summary="How many redemptions there are")
async def totals(caller: ReadAccess, reward: RewardQuery = None) -> Totals:
    """By status, all that were ever decided, with what they cost."""
    found = await connected(caller, lambda it: redemptions.totals(it, caller.shop, reward))
    return Totals(shop=caller.shop, items=[Total(status=each, **found.get(each, _NONE)) for each in get_args(Status)])


def _cursor(found: Sequence[Found], limit: int, names: Callable[[Found], tuple[str, ...]]) -> str | None:
    if len(found) <= limit:
        return None
    last = found[limit - 1]
    assert last.decided_at is not None, "lists are of what was decided"
    return cursors.write(instants.from_datetime(last.decided_at), *names(last))


def _time_and_names(values: list[Any]) -> Any:
    at, *names = values
    if not 0 <= at <= instants.LATEST or any("\x00" in name for name in names):
        raise ProblemError(400, "bad-cursor", "This cursor is none of this list's: begin again without one.")
    return instants.to_datetime(at), *names


def _location(caller: Caller, customer_id: str, request_id: str) -> str:
    return f"/v1/shops/{caller.shop}/customers/{customer_id}/redemptions/{request_id}"


def _accepted(caller: Caller, found: Found, response: Response) -> Redemption:
    response.status_code = 202
    response.headers["Location"] = _location(caller, found.customer_id, found.request_id)
    return Redemption.of(found)


async def _claim(caller: Caller, customer_id: str, request_id: str, asked: Asked, program: Program) -> Found:
    place = (caller.shop, customer_id, request_id)
    try:
        return await connected(caller, lambda it: redemptions.claim(it, *place, asked, program, now_us()))
    except OtherBodyError:
        raise _other_body() from None
    except UnknownRewardError:
        detail = "The program has no such reward now: `GET /v1/shops/{shop}/rewards` tells those there are."
        raise ProblemError(404, "unknown-reward", detail) from None


def _other_body() -> ProblemError:
    detail = "This Idempotency-Key was used for another redemption of this customer's: send another key."
    return ProblemError(422, "idempotency-key-reused", detail)


def _there(found: Found | None) -> Found:
    """It; a problem (404) where nobody knows one."""
    if found is None:
        raise ProblemError(404, "no-redemption", "The customer has no redemption of this name.")
    return found


async def _refusal(caller: Caller, found: Found) -> ProblemError:
    """Why a redemption was refused, as a problem."""
    more: dict[str, Any] = {}
    if found.reason == "insufficient-points":
        detail = f"It costs {found.cost} points, and {found.balance} could be spent."
        more = {"balance": found.balance, "needed": found.cost}
    elif found.reason == "wrong-cost":
        more = {"cost": cost_then(await caller.program(), found)}
        detail = f"It costs {more['cost']} points, not {found.cost}."
    elif found.reason == "limit":
        detail = "The customer has had this reward as often as they may for now."
    elif found.reason == "merged":
        more = {"merged_into": await merged_into(caller, found.customer_id)}
        detail = "The customer was merged: ask for whom they are now, who has all that was theirs."
    elif found.reason == "closed":
        detail = "The customer was deleted: nothing is given to them any more."
    else:
        detail = "The program had no such reward then."
    return ProblemError(409, found.reason or "refused", detail, request_id=found.request_id, **more)


def cost_then(program: Program, found: Found | Redemption) -> int | None:
    """What the reward of a decided redemption cost then; None where there was none."""
    assert found.decided_at is not None, "it was refused"
    reward = reward_at(program, found.reward_id, instants.from_datetime(found.decided_at))
    return None if reward is None else reward.cost


async def merged_into(caller: Caller, customer_id: str) -> str | None:
    """Whom a customer was merged into."""
    return await connected(caller, lambda it: persons.merged_into(it, caller.shop, customer_id))
