"""Waiting until what was asked for is stored: of all who wait for something of a kind, one look for all."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Protocol, TypeVar

from psycopg import AsyncConnection

from api.limits import READ_SECONDS, within
from api.live.hub import LiveHub
from books.claims import Place
from runtime.database import Pool
from runtime.rounds import Rounds

T = TypeVar("T")
S = TypeVar("S", covariant=True)

#: How long an answer waits until what was asked for is stored (seconds).
WAIT: Final = 5.0


class Book(Protocol[S]):
    """Where things of one kind are kept by shop, customer and name: `books.awards`, `books.redemptions`."""

    async def known(self, connection: AsyncConnection[Any], shop: str, customer_id: str, name: str, /) -> S | None:
        """What is stored, or on its way."""

    async def stored(self, connection: AsyncConnection[Any], places: Collection[Place], /) -> Mapping[Place, S]:
        """What is stored; nobody need claim it any more."""


class Waiting:
    """Whoever waits until something of a book is stored: all look together, whenever their shop has changed."""

    def __init__(self, live: LiveHub, pool: Pool) -> None:
        self._live = live
        self._pool = pool
        self._rounds: dict[Any, Rounds[Place, Any]] = {}

    async def until(self, book: Book[T], place: Place, ready: Callable[[T], bool]) -> T | None:
        """It, once what is stored of it is `ready`; None if that takes longer than WAIT."""
        rounds = self._rounds.setdefault(book, Rounds(self._pool, book.stored))

        async def look() -> T | None:
            found: T | None = (await within(READ_SECONDS, rounds.ask([place]))).get(place)
            return found if found is not None and ready(found) else None

        return await self._live.until(place[0], look, WAIT)
