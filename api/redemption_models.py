"""What is said and told of redemptions over HTTP."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.models import Answer, AsOf, Time
from api.problems import ProblemError
from books.redemptions import Asked
from books.redemptions import Redemption as Found
from events import instants
from events.money import MAX_POINTS
from events.names import NAME_ALONE
from events.redeeming import WORDS, Outcome

Status = Literal["refused", "reserved", "issued", "used", "returned"]


class NewRedemption(BaseModel):
    """A reward that is asked for."""

    model_config = ConfigDict(extra="forbid")

    reward_id: str = Field(pattern=NAME_ALONE, examples=["ten-off"])
    cost: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=MAX_POINTS,
        description="points, as the customer was shown it: refused if it is another; without, what it costs now",
        examples=[500],
    )
    forced: bool = Field(
        False, strict=True, description="it was given already, offline: never refused. Needs the scope `till`, too"
    )
    at: AsOf | None = Field(None, description="when it was given, of a `forced` one; now without, never later")

    @model_validator(mode="after")
    def _of_forced(self) -> "NewRedemption":
        if self.at is not None and not self.forced:
            raise ValueError("`at` is of a `forced` one alone")
        return self

    def asked(self, now: int) -> Asked:
        """What is asked for, `now` in microseconds. A problem (422) for a time to come, or one before 1970."""
        at = None if self.at is None else instants.from_datetime(self.at)
        if at is not None and not 0 <= at <= now:
            raise ProblemError(422, "bad-time", "`at` is a time that has been, since 1970.")
        return Asked(self.reward_id, self.cost, self.forced, at)


class Cancellation(BaseModel):
    """Why a redemption is cancelled."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(
        None, pattern=WORDS, description="one line; nothing that says who somebody is", examples=["cart abandoned"]
    )


class Fulfilment(BaseModel):
    """What became of handing a redemption's code out."""

    model_config = ConfigDict(extra="forbid")

    attempt: int = Field(
        strict=True, ge=1, le=2**31 - 1, description="told once each; of several the highest holds", examples=[1]
    )
    state: Literal["issued", "failed"] = Field(description="`failed`: its points return")
    code: str | None = Field(
        None, pattern=WORDS, description="an order that bears it has used the redemption", examples=["LN-7XK2M9PQRSTW"]
    )
    valid_until: AsOf | None = Field(None, description="until when it can be used; null: without end")
    reason: str | None = Field(None, pattern=WORDS, description="why it failed", examples=["out of stock"])

    def outcome(self) -> Outcome:
        """As it is told."""
        until = None if self.valid_until is None else instants.from_datetime(self.valid_until)
        return Outcome(self.attempt, self.state, self.code, until, self.reason)

    def told(self, found: Found) -> bool:
        """Whether this is what was last told of it."""
        until = None if self.valid_until is None else instants.from_datetime(self.valid_until)
        known = None if found.valid_until is None else instants.from_datetime(found.valid_until)
        failed = found.returned_reason == "failed"
        said = (self.attempt, self.code, until)
        return said == (found.attempt, found.code, known) and (self.state == "failed" or not failed)


class Redemption(Answer):
    """A redemption, and what has become of it."""

    request_id: str = Field(description="what it is called", examples=["cart-81-a"])
    customer_id: str
    reward_id: str = Field(examples=["ten-off"])
    cost: int = Field(description="points", examples=[500])
    forced: bool = Field(description="it had been given already when it was told of")
    status: Literal["pending", "refused", "reserved", "issued", "used", "returned"] = Field(
        description="`pending`: not decided yet, as far as is stored; `reserved`: accepted, without a code yet;"
        " `issued`: with its code, or handed out; `used` by an order; `returned`: its points were given back"
    )
    reason: str | None = Field(description="why it was refused", examples=["insufficient-points"])
    returned_reason: str | None = Field(
        description="`cancelled`, `failed`, `unused` in its time, or `void`: its order came to nothing"
    )
    balance: int | None = Field(description="what could be spent before it; null while pending", examples=[620])
    points: int = Field(description="what it takes from the account now: -cost, or 0", examples=[-500])
    requested_at: Time
    decided_at: Time | None
    attempt: int | None = Field(description="of handing its code out: the highest that was told of")
    code: str | None = Field(examples=["LN-7XK2M9PQRSTW"])
    valid_until: Time | None
    over: bool = Field(
        description="`valid_until` has gone by, and no order has used it: its points are lost, or return within hours"
    )

    @classmethod
    def of(cls, found: Found) -> "Redemption":
        """Of what is known."""
        return cls(**{name: getattr(found, name) for name in cls.model_fields})


class CustomersRedemptions(Answer):
    """A page of a customer's redemptions, the newest decisions first."""

    customer_id: str
    items: list[Redemption]
    next: str | None = Field(description="the next page's cursor; null on the last")


class Redemptions(Answer):
    """A page of a shop's redemptions, the newest decisions first."""

    shop: str
    items: list[Redemption]
    next: str | None = Field(description="the next page's cursor; null on the last")


class Total(Answer):
    """The redemptions of one status."""

    status: Status
    redemptions: int
    cost: int = Field(
        description="points that they cost in all: of `refused` never taken, of `returned` given back", examples=[12500]
    )


class Totals(Answer):
    """A shop's redemptions in figures, each status once."""

    shop: str
    items: list[Total]
