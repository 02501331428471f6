"""What an export may be asked: who stands in it, and which columns tell of them; as parameters, or as a JSON body."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

import polars as pl
from psycopg import sql
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from api import presets
from api.models import AsOf
from api.problems import ProblemError
from api.reading import Reading, Row, Statement
from events import instants
from events.contacts import SUBSCRIBED
from events.programs import PROSPECTS, Program

Column = Literal[
    "customer_id",
    "email",
    "email_sha256",
    "email_consent",
    "recency_days",
    "frequency",
    "monetary",
    "currency",
    "r",
    "f",
    "m",
    "score",
    "segment_id",
    "segment",
    "points_balance",
    "points_pending",
    "points_earned",
    "points_spent",
    "points_expired",
    "points_expiring",
    "points_expire_at",
    "last_order_at",
    "as_of",
    "cut_points_version",
]

#: Columns in the order of a file that names none. `email_sha256` is then `email` for whoever may see addresses.
COLUMNS: Final[tuple[Column, ...]] = tuple(each for each in get_args(Column) if each != "email")

Consent = Literal["subscribed", "not_subscribed", "unsubscribed", "pending", "invalid", "redacted", "any"]

#: A balance is of 64 bits.
_Points = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
_Digits = Annotated[str, Field(pattern="^[1-5](-[1-5])?$", examples=["4-5", "1"])]


def _split(said: object) -> object:
    """A list that was written with commas, or a single name."""
    if isinstance(said, str):
        said = [said]
    if isinstance(said, Sequence):
        return [part.strip() if isinstance(part, str) else part for each in said for part in _parts(each)]
    return said


def _parts(said: object) -> Iterable[object]:
    return said.split(",") if isinstance(said, str) else (said,)


class Question(BaseModel):
    """Who stands in an export, and which columns it has. All that is asked must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segment: Annotated[
        list[Annotated[str, Field(pattern=r"^[^\x00]{1,100}$")]],
        Field(max_length=50, description="only these segments, by name; repeat it for several", examples=[["Loyal"]]),
    ] = []
    r: Annotated[_Digits | None, Field(description="recency's digit, or digits from-to: who has none is left out")] = (
        None
    )
    f: Annotated[_Digits | None, Field(description="frequency's, likewise")] = None
    m: Annotated[_Digits | None, Field(description="monetary's, likewise")] = None
    points_from: Annotated[_Points | None, Field(description="this balance or more")] = None
    points_to: Annotated[_Points | None, Field(description="this balance or less")] = None
    points_expire_before: Annotated[AsOf | None, Field(description="who has points that run out before then")] = None
    last_order_after: Annotated[AsOf | None, Field(description="last order that counts then or later")] = None
    last_order_before: Annotated[AsOf | None, Field(description="last order that counts before then")] = None
    consent: Annotated[
        Consent | None,
        Field(
            description="only those whose `email_consent` is this; `any`: everybody, as without. In a preset it is"
            " `subscribed`, unless asked otherwise with the scope `pii`"
        ),
    ] = None
    changed_since: Annotated[
        AsOf | None, Field(description="only those whose segment changed then or later, and not after `as_of`")
    ] = None
    columns: Annotated[
        list[Column],
        BeforeValidator(_split),
        Field(
            max_length=len(get_args(Column)),
            description="these columns alone, in this order, with commas between; `email` needs the scope `pii`, and"
            " `email_sha256` is the digest for everybody",
            examples=[["customer_id", "segment"]],
        ),
    ] = []
    preset: Annotated[
        presets.Name | None,
        Field(
            description="a list of people for somebody's system, with its columns and its form of an address: only who"
            " consented, has an address, and each address once; `klaviyo` and `mailchimp` need the scope `pii`"
        ),
    ] = None
    excel: Annotated[
        bool,
        Field(description="for Excel: a byte order mark, and an apostrophe before each id, as in Shopify's exports"),
    ] = False
    as_of: Annotated[
        AsOf | None, Field(description="a past instant: all that was told up to then, whenever it arrived")
    ] = None

    @field_validator("r", "f", "m")
    @classmethod
    def _ascending(cls, said: str | None) -> str | None:
        if said is not None and said[0] > said[-1]:
            raise ValueError("digits are from-to, the lower one first")
        return said

    @field_validator("columns")
    @classmethod
    def _once(cls, said: list[Column]) -> list[Column]:
        if len(set(said)) < len(said):
            raise ValueError("a column stands in a file once")
        return said

    @model_validator(mode="after")
    def _possible(self) -> "Question":
        if self.points_from is not None and self.points_to is not None and self.points_from > self.points_to:
            raise ValueError("points_from is above points_to: nobody has so many")
        after, before = self.last_order_after, self.last_order_before
        if after is not None and before is not None and after >= before:
            raise ValueError("last_order_after is not before last_order_before: nobody ordered then")
        if self.system is not None and self.system.layout is not None and (self.columns or self.excel):
            raise ValueError(f"the columns and the form of {self.preset}'s file are its own")
        return self

    @property
    def scopes(self) -> frozenset[str]:
        """What a key must allow beside `export` for this question."""
        clear = "email" in self.columns or (self.system is not None and self.system.clear)
        # To list people who have not agreed is to be asked for.
        disagreeing = self.system is not None and self.wanted_consent != SUBSCRIBED
        return frozenset({"pii"} if clear or disagreeing else ())

    @property
    def system(self) -> presets.Preset | None:
        """For whose system the file is; None for nobody's."""
        return None if self.preset is None else presets.PRESETS[self.preset]

    @property
    def wanted_consent(self) -> str | None:
        """The consent that everybody in the file has; None for any."""
        if self.consent is None and self.preset is not None:
            return SUBSCRIBED
        return None if self.consent == "any" else self.consent

    @property
    def for_excel(self) -> bool:
        """Whether a spreadsheet opens the file as it is."""
        return self.excel or self.preset == "spreadsheet"

    def said(self) -> dict[str, Any]:
        """What was asked, as JSON, without what was not."""
        return self.model_dump(mode="json", exclude_defaults=True)


def bounds(said: str) -> tuple[int, int]:
    """The digits that `4-5` or `4` means, both inclusive."""
    return int(said[0]), int(said[-1])


_CHANGED = sql.SQL(
    "SELECT DISTINCT d.customer_id FROM rfm_segment_deltas AS d WHERE d.shop = %(shop)s AND d.at >= %(changed_since)s"
)
_CHANGED_THEN = _CHANGED + sql.SQL(" AND d.at <= %(as_of)s")


def _ranges(question: Question) -> Iterable[tuple[str, Literal[">=", "<=", "<"], str, int | datetime]]:
    """(column, how, the parameter's name, its value) of every bound."""
    for name in ("r", "f", "m"):
        if (said := getattr(question, name)) is not None:
            lowest, highest = bounds(said)
            yield name, ">=", f"{name}_from", lowest
            yield name, "<=", f"{name}_to", highest
    if question.points_from is not None:
        yield "balance", ">=", "points_from", question.points_from
    if question.points_to is not None:
        yield "balance", "<=", "points_to", question.points_to
    if question.points_expire_before is not None:
        yield "expires_at", "<", "points_expire_before", question.points_expire_before
    if question.last_order_after is not None:
        yield "last_order_at", ">=", "last_order_after", question.last_order_after
    if question.last_order_before is not None:
        yield "last_order_at", "<", "last_order_before", question.last_order_before


def where(question: Question, rows: str) -> tuple[Statement, Row]:
    """The question as SQL on these rows, with its parameters; `shop` and `as_of` are the caller's."""
    found: list[Statement] = []
    parameters: Row = {}
    if len(question.segment) == 1:  # as one: then the index by segment has them by customer too
        found.append(sql.SQL("{} = %(segment)s").format(sql.Identifier(rows, "segment")))
        parameters["segment"] = question.segment[0]
    elif question.segment:
        found.append(sql.SQL("{} = ANY(%(segment)s)").format(sql.Identifier(rows, "segment")))
        parameters["segment"] = question.segment
    for column, how, name, value in _ranges(question):
        found.append(sql.SQL("{} {} {}").format(sql.Identifier(rows, column), sql.SQL(how), sql.Placeholder(name)))
        parameters[name] = value
    if question.changed_since is not None:
        changed = _CHANGED if question.as_of is None else _CHANGED_THEN
        found.append(sql.SQL("{} IN ({})").format(sql.Identifier(rows, "customer_id"), changed))
        parameters["changed_since"] = question.changed_since
    return sql.SQL(" AND ").join([sql.SQL("true"), *found]), parameters


async def expression(services: Reading, shop: str, question: Question) -> pl.Expr:
    """The question of a past instant, for the lake's standings."""
    found = [pl.lit(value=True)]
    if question.segment:
        found.append(pl.col("segment").is_in(question.segment))
    for column, how, _, value in _ranges(question):
        bound = instants.from_datetime(value) if isinstance(value, datetime) else value
        told = pl.col(column)
        found.append(told >= bound if how == ">=" else told <= bound if how == "<=" else told < bound)
    if question.changed_since is not None:
        asked = {"shop": shop, "changed_since": question.changed_since, "as_of": question.as_of}
        rows = await services.rows(_CHANGED_THEN, asked)
        changed = pl.Series([row["customer_id"] for row in rows], dtype=pl.String)
        found.append(pl.col("customer_id").is_in(changed.implode()))
    return pl.all_horizontal(found)


def refuse_unknown_segments(question: Question, program: Program, others: Iterable[str]) -> None:
    """A problem (422), which names those known, for a segment that the shop does not have: an empty file would say
    that nobody is in it. `others` are those that hold somebody, beside the program's own."""
    known = {PROSPECTS, *others}.union(*program.grid)
    if not known.issuperset(question.segment):
        # Without the name: whoever sends an address as a parameter may have sent one as a segment.
        detail = f"A segment is not one of the shop's: {', '.join(sorted(known))}."
        raise ProblemError(422, "invalid", detail)


def refuse_without_scopes(question: Question, scopes: frozenset[str]) -> None:
    """A problem (403) where the question asks for more than these scopes allow."""
    for scope in sorted(question.scopes - scopes):
        raise ProblemError(403, "no-scope", f"For this export the API key lacks the scope '{scope}'.")
