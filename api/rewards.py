"""The catalogue: what a shop's points can be spent on now."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from api import models
from api.context import ReadAccess
from api.models import Answer, Money, Time
from events import instants, money
from events.fields import Language
from events.programs import Program, Reward, rewards_from
from events.rewards import Limit

router = APIRouter(prefix="/v1/shops/{shop}/rewards", tags=["program"])


class RewardModel(Answer):
    """A reward as it holds now."""

    reward_id: str = Field(examples=["ten-off"])
    name: str = Field(description="in the language of the answer, where there is one", examples=["10 off"])
    names: dict[str, str] = Field(description="language tag -> the name shown", examples=[{"de": "10 weniger"}])
    cost: int = Field(description="points", examples=[500])
    kind: Literal["amount", "percent", "shipping", "product", "store_credit"]
    value: Money | None = Field(description="what it is worth, where that is money")
    percent: str | None = Field(description="of kind `percent`: how much", examples=["15"])
    product_id: str | None
    min_order: Money | None = Field(description="what an order must be worth to take it")
    limit: Limit | None = Field(description="how often one customer may have it: `count` times in any `days` days")
    valid_days: int | None = Field(description="days that it can be used after it was redeemed; null: for ever")
    unused: Literal["forfeit", "return"] = Field(description="what becomes of the points of one not used in time")
    on_void: Literal["return", "keep"] = Field(description="of one used for an order that is cancelled or refunded")
    since: Time | None = Field(description="from when on it is so; null: since ever")
    until: Time | None = Field(description="when it ends, as far as that is announced")


class Rewards(Answer):
    """The catalogue in force, cheapest first."""

    shop: str
    as_of: Time
    locale: str | None = Field(description="what names were looked for: as asked, else the shop's")
    rewards: list[RewardModel]


@router.get("", summary="What points can be spent on")
async def catalogue(
    caller: ReadAccess,
    locale: Annotated[Language | None, Query(description="language tag of the names, such as de or pt-BR")] = None,
) -> Rewards:
    """Every reward that can be had now, cheapest first. Names as in `locale`, else the shop's, else as they were given.

    The whole history of it, and what is announced to come, is in the program.
    """
    program, now = await caller.program(), datetime.now(UTC)
    asked = locale or program.locale
    at = instants.from_datetime(now)
    told = [told_of(reward, program, asked) for reward in rewards_from(program, at) if reward.since <= at]
    return Rewards(shop=caller.shop, as_of=now, locale=asked, rewards=told)


def told_of(reward: Reward, program: Program, language: str | None) -> RewardModel:
    """A reward of a program as answers tell it, by its name in a language (a tag)."""
    percent = reward.kind == "percent"
    return RewardModel(
        reward_id=reward.reward_id,
        name=reward.called(language),
        names=reward.names,
        cost=reward.cost,
        kind=reward.kind,
        value=None if percent else _money(reward.value, program.currency),
        percent=str(reward.value) if percent else None,
        product_id=reward.product_id,
        min_order=_money(reward.min_order, program.currency),
        limit=reward.limit,
        valid_days=reward.valid_days,
        unused=reward.unused,
        on_void=reward.on_void,
        since=reward.effective_from,
        until=reward.until,
    )


def _money(amount: Decimal | None, currency: str) -> Money | None:
    return None if amount is None else models.amount(money.minor(amount, currency), currency)
