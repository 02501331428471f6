"""What several answers are made of. Ids are strings, amounts decimal strings, times RFC 3339 in UTC."""

import re
from datetime import date, datetime
from typing import Annotated, Final

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from events import instants, money
from events.programs import CutPoints


def time_text(when: datetime) -> str:
    """RFC 3339 in UTC, with `Z`."""
    return instants.text(instants.from_datetime(when))


Time = Annotated[
    datetime,
    PlainSerializer(time_text, return_type=str),
    Field(json_schema_extra={"format": "date-time", "examples": ["2026-11-21T09:30:00Z"]}),
]


def _written(said: object) -> object:
    # A number would be seconds since 1970, be it written as text or not.
    if not isinstance(said, datetime) and not (isinstance(said, str) and re.match(r"\d{4}-", said)):
        raise ValueError("a time such as 2026-11-21T09:30:00Z")
    return said


#: Days that can be asked for: of each the zone's midnight is an instant of 1970 or later.
FIRST_DAY: Final = date(1970, 1, 2)
LAST_DAY: Final = date(2200, 1, 1)


def _in_range(when: datetime) -> datetime:
    if not 1970 <= when.year <= 2200:
        raise ValueError("a time between 1970 and 2200")
    return when


#: A time in a query. A `+` there means a space: write `Z`, or `%2B`.
AsOf = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_range)]


#: A past instant that is asked for.
AsOfQuery = Annotated[
    AsOf | None,
    Query(description="a past instant: all that was told up to then, whenever it arrived"),
]


class Answer(BaseModel):
    """A model of an answer: what it holds is made by us and not validated twice."""

    model_config = ConfigDict(frozen=True)


class Money(Answer):
    """An amount in the shop's currency."""

    amount: str = Field(description="decimal, in major units", examples=["12.30"])
    currency: str = Field(examples=["USD"])


def amount(minor_units: int, currency: str) -> Money:
    """Minor units as money."""
    return Money(amount=money.decimal_text(int(minor_units), currency), currency=currency)


class CutPointsModel(Answer):
    """The thresholds between digits: a value above t_k is past the k-th."""

    version: str = Field(examples=["default"])
    as_of: Time | None = Field(description="null: the default, before any batch")
    customers: int | None = Field(description="how many customers they were worked out from")
    recency_days: list[int] = Field(examples=[[30, 60, 90, 180]])
    frequency: list[int] = Field(examples=[[1, 2, 4, 8]])
    monetary: list[Money]

    @classmethod
    def of(cls, found: CutPoints, currency: str, *, known: bool) -> "CutPointsModel":
        """`known`: a batch published them; else they are what is used before any has."""
        return cls(
            version=found.version,
            as_of=found.as_of if known else None,
            customers=found.customers if known else None,
            recency_days=list(found.recency),
            frequency=list(found.frequency),
            monetary=[amount(each, currency) for each in found.monetary],
        )
