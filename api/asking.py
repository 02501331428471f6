"""What is asked for of a customer's account by a name of its own: looked up, made durable, and waited for."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from psycopg import AsyncConnection

from api.context import Caller
from api.limits import READ_SECONDS, within
from api.waiting import Book
from events.messages import Message

T = TypeVar("T")

#: Of an answer that tells where what was asked for can be read.
LOCATION: Final = {"Location": {"description": "where it can be read", "schema": {"type": "string"}}}


class Asking(Generic[T]):
    """One thing that is asked for of a customer of the caller's shop. What waits for the database: TimeoutError."""

    def __init__(self, caller: Caller, book: Book[T], customer_id: str, name: str) -> None:
        self._caller = caller
        self._book = book
        self._place = (caller.shop, customer_id, name)

    async def known(self) -> T | None:
        """It, stored or on its way; None if nobody has asked for it."""
        return await connected(self._caller, lambda connection: self._book.known(connection, *self._place))

    async def publish(self, message: Message) -> None:
        """Makes what is said of it durable; PublishError if that cannot be done."""
        await self._caller.services.publisher.publish([message])

    async def stored(self, ready: Callable[[T], bool] = lambda _: True) -> T | None:
        """It, once what is stored of it is `ready`; None if that takes longer than WAIT."""
        return await self._caller.services.waiting.until(self._book, self._place, ready)


async def connected(caller: Caller, step: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
    """What a step finds with a connection of its own; TimeoutError when the database does not answer in time."""

    async def work() -> T:
        async with caller.services.pool.connection() as connection:
            return await step(connection)

    return await within(READ_SECONDS, work())
