"""What an error of the database means for the sink: is it away, is it the record, or is something else wrong?

The SQLSTATE decides, not psycopg's class: a row too large for its index (54000) is an OperationalError like a server
that is shutting down (57P01). The classes are those of PostgreSQL's documentation, appendix A.
"""

from typing import Final, Literal

import psycopg

Meaning = Literal["away", "content", "other"]

#: Connection exceptions, insufficient resources, and a server that is going down or not up yet.
_AWAY: Final = ("08", "53", "57P")

#: What a deadlock or a failed serialization leaves (class 40): nobody's content, and gone the next time.
_AGAIN: Final = ("40",)

#: Feature not supported (of a value), cardinality, data, integrity, and program limits: it is the row.
_CONTENT: Final = ("0A", "21", "22", "23", "54")

#: Records that may be refused within a minute; past it, it is not the records that are wrong.
MAX_REFUSED: Final = 20
REFUSED_WITHIN: Final = 60.0


def meaning(error: Exception, connection: psycopg.Connection | None) -> Meaning:
    """`away`: start over from the stored positions; `content`: find the record; `other`: a person has to look."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is not None:
        if state.startswith((*_AWAY, *_AGAIN)):
            return "away"
        return "content" if state.startswith(_CONTENT) else "other"
    # The client's own: a value it cannot send, or a connection that is no more.
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return "away" if connection is None or connection.broken or connection.closed else "other"
    return "content" if isinstance(error, (psycopg.DataError, ValueError, OverflowError)) else "other"
