"""What is asked for of a customer's account by a name of its own: looked up, made durable, and waited for."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from psycopg import AsyncConnection

from api.context import Caller
from api.limits import READ_SECONDS, within
from events.messages import Message

T = TypeVar("T")
S = TypeVar("S", covariant=True)

#: How long an answer waits until what was asked for is stored (seconds).
WAIT: Final = 5.0

#: Of an answer that tells where what was asked for can be read.
LOCATION: Final = {"Location": {"description": "where it can be read", "schema": {"type": "string"}}}


class Book(Protocol[S]):
    """Where things of one kind are kept by shop, customer and name: `books.awards`, `books.redemptions`."""

    async def find(self, connection: AsyncConnection[Any], shop: str, customer_id: str, name: str, /) -> S | None:
        """What is stored."""

    async def known(self, connection: AsyncConnection[Any], shop: str, customer_id: str, name: str, /) -> S | None:
        """What is stored, or on its way."""

    async def release(self, connection: AsyncConnection[Any], shop: str, customer_id: str, name: str, /) -> None:
        """It is stored: nobody need claim it any more."""


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

        async def look(connection: AsyncConnection[Any]) -> T | None:
            found = await self._book.find(connection, *self._place)
            if found is None or not ready(found):
                return None
            await self._book.release(connection, *self._place)
            return found

        return await self._caller.services.live.until(self._caller.shop, lambda: connected(self._caller, look), WAIT)


async def connected(caller: Caller, step: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
    """What a step finds with a connection of its own; TimeoutError when the database does not answer in time."""

    async def work() -> T:
        async with caller.services.pool.connection() as connection:
            return await step(connection)

    return await within(READ_SECONDS, work())
