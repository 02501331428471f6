"""A shop's program (point rules, look-back, segment grid, currency, zone) and the batch's cut points."""

from bisect import bisect_right
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from events import instants, money

#: Rules are announced this long before they take effect, so that every worker knows them in time.
ANNOUNCED = 15 * instants.MINUTE

#: With fewer customers than this who are not Prospects, the default cut points are used.
MIN_CUSTOMERS: Final = 50

_SINCE_EVER: Final = -(1 << 62)

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


class Rule(BaseModel):
    """How many points an order earns, from an instant on.

    `points_per_unit` is points per 1.00 of the currency, as a decimal string. `effective_from` null is "since ever":
    version 0 of every program.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    effective_from: AwareDatetime | None = None
    points_per_unit: Annotated[
        Decimal, Field(ge=0, le=10_000, max_digits=12, decimal_places=6, examples=["1", "1.5"])
    ] = Decimal(1)


class Program(BaseModel):
    """A shop's program. Its rules are append-only; the rest takes effect at the next batch.

    `look_back_days` null is a customer's whole life. `batch_at` is the local time of the nightly batch, null for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shop: str
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["USD"])]
    zone: Annotated[str, Field(description="IANA time zone, for the day windows and the batch")] = "UTC"
    look_back_days: Annotated[int | None, Field(ge=1, le=36_500)] = 365
    batch_at: Annotated[str | None, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "01:00"
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=1000)] = (Rule(),)
    grid: Annotated[
        tuple[tuple[str, str, str, str, str], ...],
        Field(min_length=5, max_length=5, description="segment names by R 5..1 (rows) and FM 5..1 (columns)"),
    ] = GRID
    translations: Annotated[
        dict[str, dict[str, str]], Field(description="language tag -> segment name -> name shown")
    ] = {}

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

    @model_validator(mode="after")
    def _since_ever(self) -> Self:
        if self.rules[0].effective_from is not None:
            raise ValueError("the first rule must hold since ever (effective_from null)")
        if any(rule.effective_from is None for rule in self.rules[1:]):
            raise ValueError("only the first rule may hold since ever")
        return self

    def succeed(self, newer: "Program", now: datetime) -> None:
        """ValueError unless `newer` may replace this program at `now`: rules are only appended, and in time."""
        if newer.currency != self.currency:
            raise ValueError("a shop's currency cannot change: its amounts are kept in it")
        if newer.rules[: len(self.rules)] != self.rules:
            raise ValueError("rules are append-only: those announced before must stay as they are")
        earliest = instants.from_datetime(now) + ANNOUNCED
        for rule in newer.rules[len(self.rules) :]:
            if rule.effective_from is None or instants.from_datetime(rule.effective_from) < earliest:
                raise ValueError("a rule is announced at least 15 minutes before it takes effect")


class Rates:
    """A program's rules made ready for the fold: which rate holds at an instant, and the points it gives."""

    def __init__(self, program: Program) -> None:
        scale = 10 ** money.exponent(program.currency)
        ordered = sorted(
            (_SINCE_EVER if rule.effective_from is None else instants.from_datetime(rule.effective_from), at)
            for at, rule in enumerate(program.rules)
        )
        self._from = [effective for effective, _ in ordered]
        self._rates: list[tuple[int, int]] = []
        for _, at in ordered:
            rate = Fraction(program.rules[at].points_per_unit) / scale
            self._rates.append((rate.numerator, rate.denominator))

    def points(self, net: int, processed_at: int) -> int:
        """floor(net x rate) by the rule with the latest effective_from not after `processed_at`; MAX_POINTS at most."""
        numerator, denominator = self._rates[bisect_right(self._from, processed_at) - 1]
        return min(net * numerator // denominator, money.MAX_POINTS)


class CutPoints(BaseModel):
    """The thresholds between digits, as one batch worked them out from the shop's customers.

    Recency in days, frequency in orders, monetary in minor units; each four values t_1..t_4, ascending.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shop: str
    version: str
    as_of: AwareDatetime
    customers: Annotated[int, Field(ge=0, description="customers who are not Prospects")]
    recency: tuple[int, int, int, int]
    frequency: tuple[int, int, int, int]
    monetary: tuple[int, int, int, int]


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
