"""What points can be spent on: a reward, as its shop's program announces it."""

from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from events import instants, money
from events.errors import BadEvent
from events.fields import MAX_LANGUAGES, Language, Name, ResourceId
from events.since import Instant, Since, one_form

#: In the shop's currency, but for a percentage.
Value = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=3, examples=["10"]), AfterValidator(one_form)]


class Limit(BaseModel):
    """How often a customer may have a reward: `count` times in any `days` days of 24 hours."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: Annotated[int, Field(ge=1, le=2**31 - 1)]
    days: Annotated[int, Field(ge=1, le=36_500)]


class Reward(Since):
    """What points can be spent on, from an instant on; `until` null is without an end.

    Later entries of one `reward_id` take its place, with another cost, say, or an `until` to end it. Of two at one
    instant the one that ends sooner holds, then the dearer.
    """

    reward_id: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$", examples=["ten-off"])]
    until: Annotated[Instant | None, Field(description="it can be had before this instant")] = None
    cost: Annotated[int, Field(ge=1, le=money.MAX_POINTS, description="points", examples=[500])]
    kind: Literal["amount", "percent", "shipping", "product", "store_credit"]
    value: Annotated[
        Value | None, Field(description="of `amount` and `store_credit` money, of `percent` a percentage up to 100")
    ] = None
    product_id: Annotated[ResourceId | None, Field(description="the product, for kind `product`")] = None
    min_order: Annotated[Value | None, Field(description="what an order must be worth to take it")] = None
    limit: Annotated[Limit | None, Field(description="how often one customer may have it")] = None
    valid_days: Annotated[
        int | None, Field(ge=1, le=3_650, description="days that it can be used after it was redeemed; null: for ever")
    ] = None
    unused: Annotated[
        Literal["forfeit", "return"], Field(description="what becomes of the points of one not used in time")
    ] = "forfeit"
    on_void: Annotated[
        Literal["return", "keep"], Field(description="of one used for an order that is cancelled or refunded in full")
    ] = "return"
    name: Annotated[Name, Field(examples=["10 off your next order"])]
    names: Annotated[
        dict[Language, Name],
        Field(default_factory=dict, max_length=MAX_LANGUAGES, description="language tag -> name shown"),
    ]

    def __hash__(self) -> int:  # of what is no dict of it
        return hash((self.reward_id, self.effective_from, self.until, self.cost, self.kind, self.name))

    @property
    def rank(self) -> tuple[Any, ...]:
        """By when it takes effect and its id, then by its end and cost; all else only so that it is an order."""
        end = 0 if self.until is None else -instants.from_datetime(self.until)
        return self.since, self.reward_id, self.until is not None, end, self.cost, self.model_dump_json()

    def ended(self, at: int) -> bool:
        """Whether it can no longer be had at an instant (microseconds)."""
        return self.until is not None and instants.from_datetime(self.until) <= at

    def called(self, language: str | None) -> str:
        """Its name in a language (a tag): of `de-AT` that, else `de`, else `name`."""
        names = {tag.lower(): name for tag, name in self.names.items()}
        asked = (language or "").lower().split("-")
        tags = ("-".join(asked[:length]) for length in range(len(asked), 0, -1))
        return next((names[tag] for tag in tags if tag in names), self.name)

    @field_validator("names")
    @classmethod
    def _one_order(cls, names: dict[str, str]) -> dict[str, str]:
        return dict(sorted(names.items()))

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.effective_from is not None and self.until is not None and self.until < self.effective_from:
            raise ValueError("until: a reward ends no sooner than its effective_from")
        if self.kind in {"amount", "percent", "store_credit"} and not self.value:
            raise ValueError(f"value: a reward of kind {self.kind} is worth more than nothing")
        if self.kind == "percent" and self.value is not None and self.value > 100:
            raise ValueError("value: a percentage is at most 100")
        if (self.kind == "product") != (self.product_id is not None):
            raise ValueError("product_id: a reward of kind product names its product, and no other does")
        return self


def check_amounts(reward: Reward, currency: str) -> None:
    """ValueError unless what is money of a reward can be paid in the currency."""
    amounts = {"min_order": reward.min_order, "value": None if reward.kind == "percent" else reward.value}
    for field, amount in amounts.items():
        if amount is None:
            continue
        try:
            money.minor(amount, currency)
        except BadEvent as error:
            raise ValueError(f"{field} of {reward.reward_id}: {error.detail} ({currency})") from None
