"""Opaque cursors: where a list's next page begins, by the values it is sorted by (keyset)."""

import base64
import binascii
from typing import Annotated, Any

from fastapi import Query

from api.problems import ProblemError
from events import codec
from events.errors import BadEvent

CursorQuery = Annotated[
    str | None, Query(description="`next` of the page before; the first page without it", max_length=1000)
]
LimitQuery = Annotated[int, Query(ge=1, le=1000, description="rows at most in one page")]


def write(*values: object) -> str:
    """A cursor that holds these JSON values; datetimes become RFC 3339."""
    return base64.urlsafe_b64encode(codec.dumps(values)).rstrip(b"=").decode()


def read(cursor: str, *kinds: type) -> list[Any]:
    """The cursor's values; a problem (400) unless they are of these kinds."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = codec.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, BadEvent):
        values = None
    matches = isinstance(values, list) and len(values) == len(kinds)
    if not matches or not all(type(each) is kind for each, kind in zip(values, kinds, strict=True)):
        raise ProblemError(400, "bad-cursor", "This cursor is none of this list's: begin again without one.")
    return list(values)
