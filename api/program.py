"""A shop's program: its point rules, look-back, grid, currency and zone."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Body, Header, Query, Response
from psycopg import sql
from pydantic import Field

from api import models
from api.context import AdminAccess, Caller, ReadAccess, Row
from api.limits import READ_SECONDS, within
from api.models import Answer, CutPointsModel, Money, Time
from api.problems import ProblemError, ProblemModel
from api.segments import order_of
from books import programs
from events import announcements, instants
from events.announcements import tag
from events.errors import BadEvent
from events.programs import DEFAULT, CutPoints, Program
from lake.past import tried

router = APIRouter(prefix="/v1/shops/{shop}/program", tags=["program"])

_EXAMPLE = {
    "shop": "demo.myshopify.com",
    "currency": "USD",
    "zone": "America/New_York",
    "locale": "en-US",
    "look_back_days": 365,
    "batch_at": "01:00",
    "rules": [
        {"effective_from": None, "points_per_unit": "1"},
        {"effective_from": "2026-11-27T05:00:00Z", "points_per_unit": "2"},
    ],
    "policies": [{"effective_from": None, "refunds": "goods_and_adjustments", "taxes": "as_priced"}],
    "holds": [{"effective_from": None, "hold_days": 14}],
    "expiry": [{"effective_from": None, "life_days": 365}],
    "rewards": [
        {
            "reward_id": "ten-off",
            "effective_from": None,
            "cost": 500,
            "kind": "amount",
            "value": "10",
            "name": "10 off your next order",
        }
    ],
}


_ETAG = {"ETag": {"description": "of exactly this program, for If-Match", "schema": {"type": "string"}}}
_CONFLICTS: dict[int | str, dict[str, Any]] = {
    409: {"model": ProblemModel, "description": "it may not follow the program that there is"},
    412: {"model": ProblemModel, "description": "made from another program than the one that there is"},
    428: {"model": ProblemModel, "description": "If-Match is missing"},
}


@router.get("", summary="The shop's program", responses={200: {"headers": _ETAG}})
async def get_program(caller: ReadAccess, response: Response) -> Program:
    """The program in force, with every rule, policy, hold, life of points and reward there ever was.

    Its ETag is what a PUT names in If-Match.
    """
    found = await caller.program()
    response.headers["ETag"] = etag(found)
    return found


class ProgramVersion(Answer):
    """The shop's program as it was from an announcement on."""

    announced_at: Time
    program: Program


class ProgramVersions(Answer):
    """What the program was, the newest first."""

    shop: str
    versions: list[ProgramVersion]


_VERSIONS = sql.SQL("""
SELECT announced_at, program FROM program_versions WHERE shop = %(shop)s
ORDER BY announced_at DESC, tag DESC LIMIT %(limit)s
""")


@router.get("/versions", summary="What the program was")
async def program_versions(
    caller: ReadAccess, limit: Annotated[int, Query(ge=1, le=200, description="versions at most")] = 50
) -> ProgramVersions:
    """Each announcement, as it was joined to what was there before: the newest first."""
    rows = await caller.services.rows(_VERSIONS, {"shop": caller.shop, "limit": limit})
    versions = [
        ProgramVersion(announced_at=row["announced_at"], program=Program.model_validate(row["program"])) for row in rows
    ]
    return ProgramVersions(shop=caller.shop, versions=versions)


@router.put(
    "",
    summary="Replace the shop's program",
    status_code=202,
    responses={202: {"headers": _ETAG}, **_CONFLICTS},
)
async def put_program(
    caller: AdminAccess,
    newer: Annotated[Program, Body(examples=[_EXAMPLE])],
    response: Response,
    if_match: Annotated[str | None, Header(description="the ETag of the program that it was made from")] = None,
    if_none_match: Annotated[str | None, Header(description="*: only if there is no program yet")] = None,
) -> Program:
    """Accepted once durable; a GET shows it from then on.

    To change a program, GET it, and name its ETag in If-Match: 412 says that somebody else has changed it since, 428
    that If-Match is missing. A shop's first program needs neither.

    Rules, policies, holds, expiry and rewards are append-only: send all of those there are, and new ones that take
    effect in 15 minutes or later, of expiry in 30 days or later. Expiry is by `life_days` or by `inactive_days`, in one
    program for all time. Without the field `policies`, `holds`, `expiry` or
    `rewards` those stay as they are, and a first program begins with the policy `goods_and_adjustments` and
    `as_priced`. Another entry of a `reward_id` takes the place of the one before; one whose `until` is its
    `effective_from` ends it. The currency cannot change. Zone and locale take effect at once, look-back and grid with
    a customer's next event or batch.
    `announced_at` and `id` are made here, whatever is sent.
    """
    if newer.shop != caller.shop:
        raise ProblemError(422, "other-shop", "The program names another shop than the address does.")

    def replace(before: Program | None) -> Program:
        _check_precondition(before, if_match, if_none_match)
        return newer

    try:
        announced = await within(READ_SECONDS, _announced(caller, replace))
    except BadEvent as error:
        raise ProblemError(409, "not-a-successor", f"{error.detail}.") from None
    response.headers["ETag"] = etag(announced)
    return announced


class Previewed(Answer):
    """One segment under the program as it is, and as it would be."""

    segment: str
    customers: int
    customers_then: int
    revenue: Money
    revenue_then: Money
    points_balance: int = Field(description="what can be spent, by holds and expiry, summed")
    points_balance_then: int


class Preview(Answer):
    """Everybody under a program that has not been announced, beside the one in force, as of one instant."""

    as_of: Time
    segments: list[Previewed]
    cut_points: CutPointsModel
    cut_points_then: CutPointsModel


@router.post("/preview", summary="What a program would change, before it is announced")
async def preview_program(caller: AdminAccess, newer: Annotated[Program, Body(examples=[_EXAMPLE])]) -> Preview:
    """How many customers would be where, and with how many points, had the program always been so. Changes nothing.

    Worked out from the lake, as a batch would; what is appended holds from when it says. So points are those of
    `as_of`: a rule, a hold or a life that takes effect later changes none of them yet.
    """
    before = await caller.program()
    if newer.shop != caller.shop:
        raise ProblemError(422, "other-shop", "The program names another shop than the address does.")
    now = datetime.now(UTC)
    said = announcements.completed(before, newer).model_copy(update={"announced_at": now, "id": uuid4()})
    try:
        announcements.succeed(before, said)
    except BadEvent as error:
        raise ProblemError(409, "not-a-successor", f"{error.detail}.") from None
    at, past = instants.from_datetime(now), caller.services.past
    programs_ = [before, said]
    is_, would = await past.work(lambda: past.connected(tried, past.lake, programs_, at))
    return Preview(
        as_of=now,
        segments=_previewed(is_.segments, would.segments, programs_),
        cut_points=_cuts(is_.cut_points, before),
        cut_points_then=_cuts(would.cut_points, before),
    )


def _cuts(found: CutPoints, program: Program) -> CutPointsModel:
    return CutPointsModel.of(found, program.currency, known=found.version != DEFAULT)


def _previewed(now: list[Row], then: list[Row], programs_: list[Program]) -> list[Previewed]:
    nothing = {"customers": 0, "monetary": 0, "balance": 0}
    sides = [{each["segment"]: each for each in side} for side in (now, then)]
    names = dict.fromkeys(name for program in programs_[::-1] for name in order_of(program))
    currency = programs_[0].currency
    found = []
    for name in names:
        is_, would = (side.get(name, nothing) for side in sides)
        if is_["customers"] or would["customers"]:
            found.append(
                Previewed(
                    segment=name,
                    customers=is_["customers"],
                    customers_then=would["customers"],
                    revenue=models.amount(is_["monetary"], currency),
                    revenue_then=models.amount(would["monetary"], currency),
                    points_balance=is_["balance"],
                    points_balance_then=would["balance"],
                )
            )
    return found


async def _announced(caller: Caller, change: programs.Change) -> Program:
    services = caller.services
    async with services.announcing, services.pool.connection() as connection:
        return await programs.announce(connection, services.publisher, caller.shop, change)


def etag(program: Program) -> str:
    """What If-Match names it by."""
    return f'"{tag(program)}"'


def _check_precondition(before: Program | None, if_match: str | None, if_none_match: str | None) -> None:
    """A problem unless the program that there is, is the one that the caller has seen."""
    if if_none_match is not None and _names(if_none_match, before):
        raise ProblemError(412, "there-already", "The shop has a program already: GET it, and send its ETag.")
    if if_match is None and before is not None:
        raise ProblemError(428, "no-if-match", "GET the program first, and send its ETag in If-Match.")
    if if_match is not None and not _names(if_match, before):
        raise ProblemError(412, "changed-since", "The program is not the one that If-Match names: GET it again.")


def _names(header: str, program: Program | None) -> bool:
    """Whether the header's list of entity tags names the program; `*` names any."""
    tags = [each.strip() for each in header.split(",")]
    return program is not None and ("*" in tags or etag(program) in tags)
