"""A shop's program as the commands see it: published like any other input, shown by the programs table."""

import time
from typing import Any, Final

import psycopg

from events import topics
from events.programs import Program
from runtime.ports import Message, Publisher

_POLL: Final = 0.1


def known(connection: psycopg.Connection[Any], shop: str) -> Program | None:
    """The program in force; None for a shop that is not there."""
    row = connection.execute("SELECT program FROM programs WHERE shop = %s", [shop]).fetchone()
    return Program.model_validate(row[0]) if row else None


def announced(connection: psycopg.Connection[Any], shop: str) -> Program | None:
    """The program published last, whether or not a sink has stored it yet."""
    row = connection.execute(
        "SELECT value FROM raw_events WHERE shop = %s AND stream = %s ORDER BY xid DESC, id DESC LIMIT 1",
        [shop, topics.PROGRAMS],
    ).fetchone()
    return Program.model_validate_json(row[0]) if row else known(connection, shop)


async def publish(publisher: Publisher, program: Program) -> None:
    """Make a program the shop's newest. PublishError if it could not be made durable."""
    await publisher.publish([Message(topics.PROGRAMS, program.shop, program.model_dump_json().encode())])


def wait_until_known(connection: psycopg.Connection[Any], program: Program, seconds: float) -> bool:
    """Whether the programs table shows exactly this program within so many seconds."""
    deadline = time.monotonic() + seconds
    while known(connection, program.shop) != program:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
