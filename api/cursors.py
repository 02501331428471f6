"""Opaque cursors: where a list's next page begins, by the values it is sorted by (keyset)."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from psycopg import sql

from api.problems import ProblemError
from books import ledger
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


# --- a customer's lists, newest first ---

# Rows are compared as rows, in the index's own order, so that a page begins where the index is entered. The first
# condition says nothing new: it is what lets TimescaleDB leave out the chunks that are newer.
_NEWEST_FIRST = sql.SQL("""
SELECT * FROM {table}
WHERE shop = %(shop)s AND customer_id = %(customer)s
  AND {at} <= %(at)s AND ({at}, id) < (%(at)s, %(id)s)
ORDER BY {at} DESC, id DESC LIMIT %(limit)s + 1
""")


def newest_first(table: str, at: str) -> sql.Composed:
    """A page of what a table holds of a customer, by the time in column `at`; parameters: shop, customer, limit and
    those of `time_and_id`. The table has an index on (shop, customer_id, at, id).
    """
    return _NEWEST_FIRST.format(table=sql.Identifier(table), at=sql.Identifier(at))


def time_and_id(cursor: str | None) -> dict[str, Any]:
    """The parameters `at` and `id` of a list that is newest first."""
    if cursor is None:
        return ledger.NEWEST
    at, ident = read(cursor, str, str)
    try:
        when = datetime.fromisoformat(at)
        if when.tzinfo is None:
            raise ValueError("a time without its zone")
        return {"at": when, "id": UUID(ident)}
    except ValueError:
        raise ProblemError(400, "bad-cursor", "This cursor is none of this list's: begin again without one.") from None
