"""The types of our records' fields: what a value may be at most, so that it fits its column, its index and its key.

Patterns are of the dialect that pydantic (Rust), JSON Schema and Python read alike. No text holds a control character:
PostgreSQL's holds no NUL, and a name goes into files and pages. (Half surrogates are no JSON to pydantic.)
"""

import re
from datetime import date
from functools import lru_cache
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, ConfigDict, Field

from events import instants, names

_PLAIN_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")


def text(most: int) -> Any:
    """A field of 1 to `most` characters, none of them a control character."""
    return Field(pattern=rf"^[^\x00-\x1f\x7f-\x9f]{{1,{most}}}$")


# One record names the same instant in several fields, and its like name it again.
@lru_cache(maxsize=1 << 16)
def _instant(value: str) -> str:
    """The instant itself if it is of 1970 to 9998 and written as we write it; ValueError if not."""
    if not _PLAIN_INSTANT.fullmatch(value):
        raise ValueError("not RFC 3339 in UTC with `Z`")
    instants.parse(value)
    return value


@lru_cache(maxsize=1 << 10)
def _zone(value: str) -> str:
    """The zone itself; ValueError if it is no IANA time zone."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("not an IANA time zone") from None
    return value


def _day(value: str) -> str:
    """The day itself; ValueError if it is none of the calendar's."""
    date.fromisoformat(value)
    return value


Day = Annotated[
    str,
    Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", json_schema_extra={"format": "date", "examples": ["2026-11-21"]}),
    AfterValidator(_day),
]

Instant = Annotated[
    str,
    AfterValidator(_instant),
    Field(
        description="RFC 3339 in UTC, with `Z`",
        json_schema_extra={"format": "date-time", "examples": ["2026-11-21T09:30:00Z"]},
    ),
]

#: An instant where nobody but ourselves reads it.
Micros = Annotated[int, Field(ge=0, le=instants.LATEST, description="microseconds since 1970, UTC")]

#: What a bigint holds, an integer column, and a count in one.
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Partition = Annotated[int, Field(ge=0, le=2**31 - 1)]

Shop = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com$")]
ResourceId = Annotated[str, Field(pattern="^[0-9]{1,20}$", description="a Shopify id")]
#: What a client calls an award or a request, so that asking twice is asking once; a reward's name in the program.
Token = Annotated[str, Field(pattern=names.NAME_ALONE)]
#: What is asked for and decided: a redemption's name, or a checked deduction's behind `checked/`.
RequestId = Annotated[str, Field(pattern=f"^{names.ASKED}$")]
#: What points come from: an order's id, or the name of an award or a request.
SourceId = Annotated[str, Field(pattern=f"^{names.ASKED}$", description="an order's id, or an award's name")]
CustomerId = Annotated[
    str,
    Field(
        pattern="^([0-9]{1,20}|guest-[0-9]{2}|mail-[0-9a-f]{32})$",
        description="a Shopify id, the keyed hash of an address that is all we know of somebody, or a guest key",
    ),
]
#: Orders links between customers (events/links.py).
Rank = Annotated[str, Field(pattern="^[0-9a-f]{20,24}~?$")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["USD"])]
Uuid = Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]

#: Longer than any that we make: two times, a webhook's id of 128, a digest, counts and flags, and MAX_HOPS ranks; or,
#: a redemption's, a code, two orders' and the ranks.
Revision = Annotated[str, Field(pattern="^[ -~]{1,1500}$")]

#: Through so many merges an order follows its customer.
MAX_HOPS = 12

#: A version of cut points: also a part of a key.
Version = Annotated[str, Field(pattern="^[0-9A-Za-z.:_+-]{1,64}$", examples=["default"])]

Zone = Annotated[str, text(64), AfterValidator(_zone), Field(examples=["America/New_York"])]

#: A name that a merchant gives.
Name = Annotated[str, text(100)]

#: A language's tag, such as `de` or `pt-BR`; so many of them at most: what Shopify lets a shop publish.
Language = Annotated[str, Field(max_length=35, pattern="^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")]
MAX_LANGUAGES = 20

#: A stable code: a metric's label.
Code = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}$")]

#: What the vault has sealed: an address and its consent, or (a dead letter's) a whole body.
Sealed = Annotated[str, Field(pattern="^[!-~]+$")]

#: Of a deduction that is asked for, what for and by whom.
Purpose = Annotated[str, Field(max_length=64, description="of a deduction, what for")]
Asker = Annotated[str, Field(max_length=64, description="of a deduction, what asks for it")]

#: A record has its model's fields and no others.
STRICT: Final = ConfigDict(extra="forbid")
