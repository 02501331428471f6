"""Asking something of a customer's account from the shell, and waiting until it is stored."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated, Any, Final, TypeVar

import typer
from psycopg import AsyncConnection

from cli.commands import common
from cli.commands.programs import say_when
from events import instants, keys
from events.errors import BadEvent
from events.messages import Message
from runtime import database
from runtime.settings import Settings

T = TypeVar("T")
Step = Callable[[Settings, AsyncConnection[Any]], Awaitable[Any]]

Customer = Annotated[
    str,
    typer.Argument(help="The customer's id, or `mail-...` of somebody known by an address alone.", show_default=False),
]

#: How long a command waits until what it asked for is stored (seconds), and how often it looks.
_WAIT: Final = 5.0
_EVERY: Final = 0.1


def now() -> int:
    """Now, in microseconds."""
    return instants.from_datetime(datetime.now(UTC))


def customer_id(text: str) -> str:
    """A customer's id as it was given; BadParameter for none."""
    try:
        return keys.customer_id(text)
    except BadEvent:
        raise typer.BadParameter(f"{text!r} is no customer's id") from None


def check_name(name: str, form: str) -> None:
    """BadParameter for a name that nothing may have."""
    if not re.fullmatch(form, name):
        raise typer.BadParameter("an id is 1 to 64 letters, digits and . _ : -")


def check_reason(reason: str, form: str) -> None:
    """BadParameter for words that may not be archived."""
    if reason and not re.fullmatch(form, reason):
        raise typer.BadParameter("a reason is one line of at most 64 characters, without an @")


def run(step: Step, **given: Any) -> tuple[Settings, Any]:
    """The settings, and what a step makes of them and of a connection that commits by itself."""

    async def running(settings: Settings) -> Any:
        async with await database.connect_async(settings.database_url(), "loyalnest", autocommit=True) as connection:
            return await step(settings, connection)

    with common.attached(common.read_settings(**given)) as settings:
        return settings, asyncio.run(running(settings))


async def publish(settings: Settings, message: Message) -> None:
    """Makes it durable."""
    async with common.publishing(settings) as publisher:
        await publisher.publish([message])


async def until(settings: Settings, look: Callable[[], Awaitable[T | None]]) -> T | None:
    """What is looked for, if it is there soon; where nothing is running, nobody waits."""
    deadline = monotonic() + (_WAIT if settings.kafka is not None else 0.0)
    while True:
        found = await look()
        if found is not None or monotonic() >= deadline:
            return found
        await asyncio.sleep(_EVERY)


def say_durable(settings: Settings, then: str) -> None:
    """That what was asked for is not taken in yet; `then` tells when it is."""
    if settings.kafka is not None:
        common.err.print(f"It is durable, and not taken in yet: {then}.", markup=False)
    say_when(settings)
