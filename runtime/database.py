"""PostgreSQL by psycopg 3: connections with their time limits, COPY, and waiting for a server that is not up yet.

Every session is in UTC and says who it is (application_name). A server that vanished without a word is noticed within
about half a minute: by keepalives where nothing is under way, by TCP's time limit where a statement is. (Without that
the kernel sends a statement again and again for a quarter of an hour.)
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from events import codec

log = logging.getLogger(__name__)

Pool = AsyncConnectionPool[psycopg.AsyncConnection[Any]]

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 60.0

#: The longest pause between two attempts to reach a server (seconds).
MAX_PAUSE = 5.0


def arguments(url: str, application: str, statement_seconds: float = STATEMENT_SECONDS) -> dict[str, Any]:
    """Connection parameters of a database URL with our own added; 0 seconds: statements may take for ever.

    What the URL says of connect_timeout, options, keepalives and tcp_user_timeout has precedence.
    """
    ours = f"-c timezone=UTC -c statement_timeout={int(statement_seconds * 1000)}"
    given = conninfo_to_dict(url)
    return {
        "application_name": application,
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        **given,
        "options": f"{ours} {given.get('options') or ''}".strip(),
    }


def connect(
    url: str, application: str, *, statement_seconds: float = STATEMENT_SECONDS, autocommit: bool = False
) -> psycopg.Connection:
    """A connection. psycopg.OperationalError when the server cannot be reached."""
    # No prepared statements: a plan made while a table was small would be kept when it is not.
    return psycopg.connect(
        **arguments(url, application, statement_seconds), autocommit=autocommit, prepare_threshold=None
    )


async def connect_async(
    url: str, application: str, *, statement_seconds: float = STATEMENT_SECONDS, autocommit: bool = False
) -> psycopg.AsyncConnection:
    """As `connect`, for asyncio."""
    return await psycopg.AsyncConnection.connect(
        **arguments(url, application, statement_seconds), autocommit=autocommit, prepare_threshold=None
    )


def pool(url: str, application: str, *, size: int = 10, statement_seconds: float = STATEMENT_SECONDS) -> Pool:
    """A pool of autocommit connections, not opened yet; a connection that died is replaced before it is handed out."""
    return AsyncConnectionPool(
        kwargs={
            **arguments(url, application, statement_seconds),
            "autocommit": True,
            "prepare_threshold": None,
        },
        min_size=1,
        max_size=size,
        timeout=10,
        check=AsyncConnectionPool.check_connection,
        open=False,
    )


def wait_until_up(
    url: str,
    application: str,
    *,
    stop: threading.Event | None = None,
    seconds: float | None = None,
    statement_seconds: float = STATEMENT_SECONDS,
    on_try: Callable[[], None] = lambda: None,
) -> psycopg.Connection | None:
    """A connection, as soon as there is one, with growing pauses of at most MAX_PAUSE between attempts.

    None when `stop` was set meanwhile; the last psycopg.OperationalError after `seconds` (None: no limit). `on_try`
    is called before each attempt, which takes up to CONNECT_SECONDS.
    """
    stop = stop or threading.Event()
    deadline = None if seconds is None else time.monotonic() + seconds
    pause = 0.1
    while not stop.is_set():
        on_try()
        try:
            return connect(url, application, statement_seconds=statement_seconds)
        except psycopg.OperationalError as error:
            if deadline is not None and time.monotonic() + pause > deadline:
                raise
            log.warning("the database cannot be reached (%s); trying again", first_line(error))
        # Jitter: many clients of one restarted server must not come back in step.
        stop.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
        pause = min(pause * 2, MAX_PAUSE)
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error, for a log line; its class where it has no words."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def copy(cursor: psycopg.Cursor[Any], table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """COPY rows into a table. psycopg.DataError (or ValueError by a NUL in a text) if a value does not fit.

    Text format: instants stay the RFC 3339 text they came as. Measured with 19 columns: text 1.7 us a row, binary
    2.4 (it wants datetimes and Decimals), unnest of arrays 15.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with cursor.copy(statement) as stream:
        write = stream.write_row
        for row in rows:
            write(row)


def array(values: Sequence[object]) -> str:
    """Values as the text of an array, for `%s::text[]` or another type's. ValueError by a NUL in a text.

    JSON's list is one, but for its brackets and what it escapes. psycopg's own form of a list takes many times as long.
    """
    try:
        text = codec.dumps(values).decode()[1:-1]
    except TypeError:  # an integer of more than 64 bits, half a surrogate pair: the database refuses it
        text = "\\"
    if "\\" in text:
        text = ",".join(["NULL" if each is None else f'"{_escaped(str(each))}"' for each in values])
    return f"{{{text}}}"


def of_arrays(columns: Mapping[str, str]) -> str:
    """A table for FROM, its columns by name and type, each of which comes as one array (`array`).

    `unnest` of several arrays in FROM would first keep each of their values aside, column by column.
    """
    taken = ", ".join(f'unnest(%s::{kind}[]) AS "{name}"' for name, kind in columns.items())
    return f"(SELECT {taken})"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
