"""A shop's program (point rules, look-back, segment grid, currency, zone) and the batch's cut points.

Programs are joined, never overwritten: `events.announcements` tells how, and what may be joined.
"""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from events import instants, money
from events.fields import MAX_LANGUAGES, Count, Language, Name, Shop, Version
from events.rewards import Reward as Reward
from events.rewards import check_amounts
from events.since import Instant, S, Since, one_form, ordered

#: Rules of one program at most, likewise policies, holds, lives of points and rewards.
MAX_RULES: Final = 1000

#: Bytes of a program as it goes on its topic: what every broker carries.
MAX_PROGRAM: Final = 900_000

#: With fewer customers than this who are not Prospects, the default cut points are used.
MIN_CUSTOMERS: Final = 50

#: What is said to whoever mixes them.
MIXED: Final = "points run out by life_days or by inactive_days, in one program for all time"

DEFAULT: Final = "default"
PROSPECTS: Final = "Prospects"

#: Segment names by R (5, 4, 3, 2, 1) and FM (5, 4, 3, 2, 1).
GRID: Final = (
    ("Champions", "Champions", "Active", "Active", "New"),
    ("Loyal", "Loyal", "Active", "Active", "Promising"),
    ("Loyal", "Loyal", "Needs attention", "Almost lost", "Almost lost"),
    ("Previously loyal", "At risk", "At risk", "Dormant", "Dormant"),
    ("Previously loyal", "At risk", "At risk", "Dormant", "Dormant"),
)


class Rule(Since):
    """How many points an order earns, from an instant on.

    `points_per_unit` is points per 1.00 of the currency, as a decimal string. `effective_from` null is "since ever":
    version 0 of every program. A rule is what these two say: equal ones are one. Of two at one instant the higher
    holds.
    """

    points_per_unit: Annotated[
        Decimal,
        Field(ge=0, le=10_000, max_digits=12, decimal_places=6, examples=["1", "1.5"]),
        AfterValidator(one_form),
    ] = Decimal(1)

    @property
    def rank(self) -> tuple[Any, ...]:
        """By when it takes effect, then by its rate."""
        return self.since, self.points_per_unit


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Refunds = Literal["goods", "goods_and_adjustments", "money"]
Taxes = Literal["as_priced", "excluded"]


class Policy(Since):
    """What an order's net is, from an instant on.

    A refund takes off the `goods` given back, `goods_and_adjustments` (goodwill beyond them too), or the `money` that
    was paid back. Of prices that hold their tax net holds it too, `as_priced`, or not. Of two at one instant the last
    by its words holds (`money`, `excluded`).
    """

    refunds: Refunds
    taxes: Taxes

    @property
    def rank(self) -> tuple[Any, ...]:
        """By when it takes effect, then by its words."""
        return self.since, self.refunds, self.taxes


#: What holds before a program's first policy, and without any.
BEFORE_POLICIES: Final = Policy(refunds="goods", taxes="as_priced")

#: What a new shop begins with, unless it is told another.
FIRST_POLICY: Final = Policy(refunds="goods_and_adjustments", taxes="as_priced")


class Hold(Since):
    """How long points wait before they can be spent: of an order or award that earns them from an instant on.

    Days of 24 hours from `processed_at` (an award's `at`). Of two at one instant the longer holds.
    """

    hold_days: Annotated[
        int, Field(ge=0, le=365, description="days of 24 hours that points are pending", examples=[14])
    ]

    @property
    def rank(self) -> tuple[Any, ...]:
        """By when it takes effect, then by its length."""
        return self.since, self.hold_days


class Life(Since):
    """How long points can be spent: those that can be spent from an instant on.

    They run out at the first local midnight after `life_days` of 24 hours (`day`), or at the first local new year after
    them (`year`). Of two at one instant the longer holds, of these the one by the year.
    """

    life_days: Annotated[int | None, Field(ge=1, le=36_500, description="null: points do not run out", examples=[365])]
    calendar: Literal["day", "year"] = "day"

    @property
    def rank(self) -> tuple[Any, ...]:
        """By when it takes effect, then by its length."""
        return self.since, self.life_days is None, self.life_days or 0, self.calendar

    @property
    def days(self) -> int | None:
        """How long; None: without end."""
        return self.life_days


class Inactivity(Since):
    """How long points can be spent while nothing happens: of customers who are active from an instant on.

    A customer who was active, and then is not for `inactive_days` of 24 hours and up to the first local midnight after
    them, loses what can be spent then. Of two at one instant the longer holds.
    """

    inactive_days: Annotated[
        int, Field(ge=30, le=36_500, description="days of 24 hours without any activity", examples=[180])
    ]

    @property
    def rank(self) -> tuple[Any, ...]:
        """By when it takes effect, then by its length, among lives."""
        return self.since, False, self.inactive_days, self.calendar

    @property
    def days(self) -> int:
        """How long."""
        return self.inactive_days

    @property
    def calendar(self) -> str:
        """As a life that runs out at a midnight."""
        return "day"


def _kind_of_expiry(said: Any) -> str:
    """Which of the two somebody means, by the one field that only one of them has."""
    inactive = isinstance(said, Inactivity) or (isinstance(said, dict) and "inactive_days" in said)
    return "inactivity" if inactive else "life"


#: How points run out: some time after they can be spent, or after the customer was last active.
Expiry = Annotated[
    Annotated[Life, Tag("life")] | Annotated[Inactivity, Tag("inactivity")], Discriminator(_kind_of_expiry)
]


def is_mixed(expiry: Iterable[Life | Inactivity]) -> bool:
    """Whether points would run out in both ways, be it one after the other."""
    return len({type(each) for each in expiry if each.days is not None}) > 1


def rewards_at(program: "Program", at: int) -> tuple[Reward, ...]:
    """The catalogue at an instant (microseconds), cheapest first: of each reward what holds, without those ended."""
    held = {reward.reward_id: reward for reward in program.rewards if reward.since <= at}
    return tuple(sorted((each for each in held.values() if not each.ended(at)), key=lambda r: (r.cost, r.reward_id)))


def reward_at(program: "Program", reward_id: str, at: int) -> Reward | None:
    """A reward as it holds at an instant (microseconds); None before it begins, once it has ended, and if unknown."""
    held = [reward for reward in program.rewards if reward.reward_id == reward_id and reward.since <= at]
    return held[-1] if held and not held[-1].ended(at) else None


def endings(program: "Program", reward_id: str, at: datetime) -> tuple[Reward, ...]:
    """What to append so that nobody can have a reward from an instant on; nothing if nobody could.

    Entries that would have begun later end as they begin.
    """
    us = instants.from_datetime(at)
    later = {each.since for each in program.rewards if each.reward_id == reward_id and each.since > us}
    held = ((start, reward_at(program, reward_id, start)) for start in (us, *sorted(later)))
    begins = [(instants.to_datetime(start), each) for start, each in held if each is not None]
    return tuple(each.model_copy(update={"effective_from": start, "until": start}) for start, each in begins)


def rewards_from(program: "Program", at: int) -> tuple[Reward, ...]:
    """The catalogue at an instant (microseconds), and after it what begins later; `until` as far as it is announced."""
    later = [each for each in program.rewards if each.since > at and each == _held(program, each)]
    found = (*rewards_at(program, at), *later)
    return tuple(each.model_copy(update={"until": _announced_end(program, each)}) for each in found)


def _held(program: "Program", reward: Reward) -> Reward | None:
    return reward_at(program, reward.reward_id, reward.since)


def _announced_end(program: "Program", reward: Reward) -> datetime | None:
    """Its own `until`, or when the next entry begins if nothing can be had by that one, the earlier."""
    following = (each for each in program.rewards if each.reward_id == reward.reward_id and each.since > reward.since)
    after = next(following, None)
    if after is None or _held(program, after) is not None:
        return reward.until
    return min(filter(None, (reward.until, after.effective_from)))


class Bounds(BaseModel):
    """How far a batch may be from the one before, a day apart, and still publish; what it takes in may be how bad.

    `stale_hours` null: nobody minds how old the newest event is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes_percent: Annotated[int, Field(ge=1, le=100, description="points of a segment's share of all customers")] = 20
    revenue_percent: Annotated[int, Field(ge=1, le=10_000, description="of the revenue in the look-back")] = 50
    volume_percent: Annotated[int, Field(ge=1, le=10_000, description="of the number of orders")] = 50
    unreadable_percent: Annotated[int, Field(ge=0, le=100, description="of all webhooks")] = 5
    stale_hours: Annotated[int | None, Field(ge=1, le=100_000, description="since the newest event")] = None


class Program(BaseModel):
    """A shop's program. Rules, policies, holds, expiry and rewards are append-only; the rest takes effect at once or
    at the next batch.

    Without a policy since ever, and before the first, refunds are `goods` and taxes `as_priced`; without a hold points
    can be spent at once, without expiry they do not run out. Expiry is by `life_days` or by `inactive_days`, not both.
    `look_back_days` null is a customer's whole life. `batch_at` is the local time of the nightly batch, null for none;
    with `batch_weekday` it is weekly, with `batch_every` several times a day.
    `announced_at` and `id` are made when a program is announced; where a record lacks them its own time stands in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shop: Shop
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["USD"])]
    zone: Annotated[str, Field(max_length=64, description="IANA time zone, for the day windows and the batch")] = "UTC"
    locale: Annotated[
        str | None,
        Field(
            max_length=12,
            pattern="^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$",
            description="language tag: how numbers, money and dates are written; null: as the reader's browser asks",
            examples=["de-DE"],
        ),
    ] = None
    look_back_days: Annotated[int | None, Field(ge=1, le=36_500)] = 365
    batch_at: Annotated[str | None, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "01:00"
    batch_weekday: Annotated[
        Weekday | None, Field(description="the batch is run on this day of the week alone, at `batch_at`")
    ] = None
    batch_every: Annotated[
        int | None, Field(ge=5, le=1440, description="minutes: the batch is run so often, from `batch_at` on")
    ] = None
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=MAX_RULES)] = (Rule(),)
    policies: Annotated[tuple[Policy, ...], Field(max_length=MAX_RULES)] = ()
    holds: Annotated[tuple[Hold, ...], Field(max_length=MAX_RULES)] = ()
    expiry: Annotated[tuple[Expiry, ...], Field(max_length=MAX_RULES)] = ()
    rewards: Annotated[tuple[Reward, ...], Field(max_length=MAX_RULES)] = ()
    grid: Annotated[
        tuple[tuple[Name, Name, Name, Name, Name], ...],
        Field(min_length=5, max_length=5, description="segment names by R 5..1 (rows) and FM 5..1 (columns)"),
    ] = GRID
    translations: Annotated[
        dict[Language, Annotated[dict[Name, Name], Field(max_length=26)]],
        Field(max_length=MAX_LANGUAGES, description="language tag -> segment name -> name shown"),
    ] = {}
    bounds: Bounds = Bounds()
    announced_at: Instant | None = None
    id: UUID | None = None

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if self.batch_weekday is not None and self.batch_every is not None:
            raise ValueError("a batch is run on a day of the week or every so many minutes, not both")
        if self.batch_at is None and (self.batch_weekday is not None or self.batch_every is not None):
            raise ValueError("a batch needs its time, batch_at")
        return self

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"{zone!r} is not an IANA time zone") from None
        return zone

    @field_validator("currency")
    @classmethod
    def _known_currency(cls, currency: str) -> str:
        money.exponent(currency)
        return currency

    @field_validator("rules")
    @classmethod
    def _since_ever(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        found = ordered(rules)
        if sum(rule.effective_from is None for rule in found) != 1:
            raise ValueError("exactly one rule must hold since ever (effective_from null)")
        return found

    @field_validator("policies", "holds", "expiry")
    @classmethod
    def _at_most_one_since_ever(cls, entries: tuple[S, ...], info: ValidationInfo) -> tuple[S, ...]:
        found = ordered(entries)
        if sum(entry.effective_from is None for entry in found) > 1:
            raise ValueError(f"at most one of {info.field_name} holds since ever (effective_from null)")
        return found

    @field_validator("expiry")
    @classmethod
    def _one_kind(cls, expiry: tuple[Expiry, ...]) -> tuple[Expiry, ...]:
        if is_mixed(expiry):
            raise ValueError(MIXED)
        return expiry

    @field_validator("rewards")
    @classmethod
    def _payable(cls, rewards: tuple[Reward, ...], info: ValidationInfo) -> tuple[Reward, ...]:
        for reward in rewards if "currency" in info.data else ():  # else it is told of the currency
            check_amounts(reward, info.data["currency"])
        return ordered(rewards)


class Policies:
    """A program's policies made ready for the fold: which one holds at an instant."""

    def __init__(self, program: Program) -> None:
        self._policies = (BEFORE_POLICIES, *program.policies)
        self._from = [policy.since for policy in self._policies]

    def at(self, processed_at: int) -> Policy:
        """The policy with the latest effective_from not after `processed_at` (microseconds)."""
        return self._policies[bisect_right(self._from, processed_at) - 1]


class Rates:
    """A program's rules made ready for the fold: which rate holds at an instant, and the points it gives."""

    def __init__(self, program: Program) -> None:
        scale = 10 ** money.exponent(program.currency)
        rates = [Fraction(rule.points_per_unit) / scale for rule in program.rules]
        self._from = [rule.since for rule in program.rules]
        self._rates: list[tuple[int, int]] = [(rate.numerator, rate.denominator) for rate in rates]

    def points(self, net: int, processed_at: int) -> int:
        """floor(net x rate) by the rule with the latest effective_from not after `processed_at`; MAX_POINTS at most."""
        numerator, denominator = self._rates[bisect_right(self._from, processed_at) - 1]
        return min(net * numerator // denominator, money.MAX_POINTS)


#: As large as its column holds.
Threshold = Annotated[int, Field(ge=0, lt=1 << 63)]


class CutPoints(BaseModel):
    """The thresholds between digits, as one batch worked them out from the shop's customers.

    Recency in days, frequency in orders, monetary in minor units; each four values t_1..t_4, ascending.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shop: Shop
    version: Version
    as_of: Instant
    customers: Annotated[Count, Field(description="customers who are not Prospects")]
    recency: tuple[Threshold, Threshold, Threshold, Threshold]
    frequency: tuple[Threshold, Threshold, Threshold, Threshold]
    monetary: tuple[Threshold, Threshold, Threshold, Threshold]


def default_cut_points(shop: str, currency: str, as_of: datetime, customers: int = 0) -> CutPoints:
    """What is used before the first batch, and with fewer than MIN_CUSTOMERS customers."""
    unit = 10 ** money.exponent(currency)
    return CutPoints(
        shop=shop,
        version=DEFAULT,
        as_of=as_of,
        customers=customers,
        recency=(30, 60, 90, 180),
        frequency=(1, 2, 4, 8),
        monetary=(50 * unit, 100 * unit, 250 * unit, 500 * unit),
    )


def local_midnight(day: date, zone: ZoneInfo) -> int:
    """The instant at which a calendar day begins in a zone (microseconds)."""
    return instants.from_datetime(datetime(day.year, day.month, day.day, tzinfo=zone))
