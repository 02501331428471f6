"""A shop's program: its point rules, look-back, grid, currency and zone."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Body

from api.problems import ProblemError
from api.services import AdminAccess, ReadAccess
from events import topics
from events.programs import Program
from runtime.ports import Message

router = APIRouter(prefix="/v1/shops/{shop}/program", tags=["program"])

_EXAMPLE = {
    "shop": "demo.myshopify.com",
    "currency": "USD",
    "zone": "America/New_York",
    "look_back_days": 365,
    "batch_at": "01:00",
    "rules": [
        {"effective_from": None, "points_per_unit": "1"},
        {"effective_from": "2026-11-27T05:00:00Z", "points_per_unit": "2"},
    ],
}


@router.get("", summary="The shop's program")
async def get_program(caller: ReadAccess) -> Program:
    """The program in force, with every rule there ever was."""
    return await caller.program()


@router.put("", summary="Replace the shop's program", status_code=202)
async def put_program(caller: AdminAccess, newer: Annotated[Program, Body(examples=[_EXAMPLE])]) -> Program:
    """Accepted once durable; a GET shows it when the history has stored it, a moment later.

    Rules are append-only: send all of those there are, and new ones that take effect in 15 minutes or later. The
    currency cannot change. Everything but the rules takes effect at the next batch.
    """
    services = caller.services
    if newer.shop != caller.shop:
        raise ProblemError(422, "other-shop", "The program names another shop than the address does.")
    async with services.program_lock:
        # What was published a moment ago may not be stored yet, and its rules must not be lost.
        for known in (await services.program(caller.shop), services.published_programs.get(caller.shop)):
            if known is None:
                continue
            try:
                known.succeed(newer, datetime.now(UTC))
            except ValueError as error:
                raise ProblemError(409, "not-a-successor", f"{error}.") from None
        value = newer.model_dump_json().encode()
        await services.publisher.publish([Message(topics.PROGRAMS, caller.shop, value)])
        services.published_programs[caller.shop] = newer
    return newer
