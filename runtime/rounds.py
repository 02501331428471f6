"""What many ask the database for at once, by name: read together, one round after the other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Generic, TypeVar

from psycopg import AsyncConnection

from runtime.database import Pool

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")


class _Round(Generic[K, V]):
    """Names that are read together."""

    def __init__(self) -> None:
        self.names: set[K] = set()
        self.found: asyncio.Future[Mapping[K, V]] = asyncio.get_running_loop().create_future()


class Rounds(Generic[K, V]):
    """Reads what is asked for, over one connection as long as somebody asks.

    What is asked for while a round is being read is read in the next: never by a look that began before it was asked
    for. So however many ask, the database has one statement of theirs at a time, and the pool's others are left for
    others. `read` finds the values of names over a connection that commits by itself.
    """

    def __init__(
        self, pool: Pool, read: Callable[[AsyncConnection[Any], Collection[K]], Awaitable[Mapping[K, V]]]
    ) -> None:
        self._pool = pool
        self._read = read
        self._next: _Round[K, V] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def ask(self, names: Collection[K]) -> Mapping[K, V]:
        """What their round found, of others too; raises what `read` did."""
        if not names:
            return {}
        if self._next is None:
            self._next = _Round()
        asked = self._next
        asked.names.update(names)
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read_asked())
        # Not awaited itself: whoever is cancelled must not cancel what others wait for.
        await asyncio.wait([asked.found])
        return asked.found.result()

    async def _read_asked(self) -> None:
        asked: _Round[K, V] | None = None
        try:
            while (asked := self._begun()) is not None:
                try:
                    async with self._pool.connection() as connection:
                        while asked is not None:
                            asked.found.set_result(await self._read(connection, asked.names))
                            asked = self._begun()
                except Exception as error:
                    if asked is None:  # all have their answer, and the pool has other connections for who comes next
                        log.warning("a connection was not given back: %s", type(error).__name__)
                        continue
                    asked.found.set_exception(error)
                    asked.found.exception()  # looked at: whoever asked may have given up, and nobody else would
        finally:
            self._reading = None

    def _begun(self) -> _Round[K, V] | None:
        """What has been asked for by now; who asks from here on asks for the next."""
        asked, self._next = self._next, None
        return asked
