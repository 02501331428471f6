"""Cohorts: of those whose first order fell into a month, how many came back, and what they brought."""

from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import Field

from api import models
from api.context import Caller, ReadAccess, now_us
from api.models import Answer, AsOfQuery, Money, Time
from events import instants
from events.programs import Program
from lake import cohorts

router = APIRouter(prefix="/v1/shops/{shop}/cohorts", tags=["segments"])


class CohortMonth(Answer):
    """What a cohort did in one month."""

    months_since: int = Field(description="since the month of the first order, which is 0")
    customers: int = Field(description="those who ordered in it")
    orders: int
    net: Money
    repeat_rate: float = Field(description="of the cohort, those with a second order by its end, 0 to 1")


class Cohort(Answer):
    """Those whose first order fell into one month."""

    month: str = Field(description="in the shop's zone", examples=["2026-03"])
    customers: int
    months: list[CohortMonth]


class Cohorts(Answer):
    """All cohorts, oldest first, each to the month of `as_of`, in which it may still grow."""

    shop: str
    as_of: Time
    zone: str
    cohorts: list[Cohort]


@router.get("", summary="Who came back after their first order, month by month")
async def all_cohorts(caller: ReadAccess, as_of: AsOfQuery = None) -> Cohorts:
    """By the month of the first order: who ordered in each month since, their orders and net, and the repeat rate.

    Orders count as for RFM, over the shop's whole history: paid, not cancelled, with something left after refunds.
    """
    program = await caller.program()
    when = as_of or datetime.now(UTC)
    return _told(program, when, await caller.services.past.cohorts(program, instants.from_datetime(when)))


async def lately(caller: Caller) -> Cohorts:
    """As of now, or of an instant not long ago, which the answer names: for a page that is opened again and again."""
    program = await caller.program()
    at, found = await caller.services.past.cohorts_lately(program, now_us())
    return _told(program, instants.to_datetime(at), found)


def _told(program: Program, when: datetime, found: list[cohorts.Cohort]) -> Cohorts:
    told = [_cohort(each, program.currency) for each in found]
    return Cohorts(shop=program.shop, as_of=when, zone=program.zone, cohorts=told)


def _cohort(found: cohorts.Cohort, currency: str) -> Cohort:
    months = [
        CohortMonth(
            months_since=since,
            customers=month["customers"],
            orders=month["orders"],
            net=models.amount(month["net"], currency),
            repeat_rate=round(month["repeated"] / found.customers, 6),
        )
        for since, month in enumerate(found.months)
    ]
    return Cohort(month=f"{found.month:%Y-%m}", customers=found.customers, months=months)
