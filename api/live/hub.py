"""The live hub: one LISTEN connection for all clients, and one snapshot per shop and change for all who watch it.

The sink notifies `loyalnest_live` with {"shop", "at"} in the transaction that stored the rows. A client fetches the
newest snapshot when it is ready for one; nothing is queued for it, so a lagging client misses some and costs nothing.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Final, TypeVar

import psycopg
from psycopg import sql

from events import codec
from events.errors import BadEvent
from runtime import database, metrics

T = TypeVar("T")

log = logging.getLogger(__name__)

CHANNEL: Final = "loyalnest_live"

#: Changes within this time of each other are told as one (seconds).
DEBOUNCE: Final = 0.25

#: How often a client hears that it is still connected, when nothing changes (seconds).
HEARTBEAT: Final = 15.0

_RETRY: Final = 1.0


class _Watched:
    """A shop that somebody watches: `changes` rises with each change, and `changed` is set by the next one."""

    def __init__(self) -> None:
        self.clients = 0
        self.changes = 0
        self.changed = asyncio.Event()
        self.lock = asyncio.Lock()
        self.told = -1
        self.snapshot = b""
        #: Whether somebody may see this snapshot, by who they are: asked once for all their open pages.
        self.allowed: dict[Hashable, asyncio.Future[bool]] = {}

    def change(self) -> None:
        self.changes += 1
        waiting, self.changed = self.changed, asyncio.Event()
        waiting.set()

    async def newest(self, read: Callable[[], Awaitable[bytes]]) -> tuple[int, bytes]:
        """(changes it holds, the snapshot): read once for all clients."""
        async with self.lock:
            if self.told != self.changes:
                changes = self.changes
                self.snapshot = await read()
                self.told = changes
                self.allowed = {}
            return self.told, self.snapshot

    async def may_see(self, who: Hashable, allowed: Callable[[], Awaitable[bool]]) -> bool:
        """Whether `who` may see the snapshot that was read last, as `allowed` said after it was."""
        if (asked := self.allowed.get(who)) is None:
            asked = self.allowed[who] = asyncio.ensure_future(allowed())
        return await asyncio.shield(asked)


class LiveHub:
    """Tells those who watch a shop that it changed. `close` ends every watch, so that a server can shut down."""

    def __init__(
        self, url: str, *, debounce: float = DEBOUNCE, heartbeat: float = HEARTBEAT, retry: float = _RETRY
    ) -> None:
        self._url = url
        self._debounce = debounce
        self._heartbeat = heartbeat
        self._retry = retry
        self._shops: dict[str, _Watched] = {}
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listens to the database from now on. Within the app's loop."""
        self._task = asyncio.create_task(self._listen())

    def close(self) -> None:
        """Ends every watch; new ones end at once."""
        self._closed = True
        self._everything_changed()

    async def stop(self) -> None:
        """Ends every stream, and listening."""
        self.close()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def watch(
        self, shop: str, read: Callable[[], Awaitable[bytes]], who: Hashable, allowed: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[bytes | None]:
        """The shop's newest snapshot, now and after changes; None when nothing changed for a heartbeat. Ends when `who`
        is no longer `allowed`."""
        watched = self._shops.setdefault(shop, _Watched())
        watched.clients += 1
        metrics.LIVE_CLIENTS.inc()
        try:
            seen = -1
            while not self._closed:
                changed = watched.changed
                if seen == watched.changes and not await self._waited(changed):
                    if not await allowed():
                        return
                    yield None
                    continue
                if seen >= 0:
                    await asyncio.sleep(self._debounce)
                seen, snapshot = await watched.newest(read)
                if not await watched.may_see(who, allowed):
                    return
                yield snapshot
        finally:
            metrics.LIVE_CLIENTS.dec()
            watched.clients -= 1
            if not watched.clients:
                self._shops.pop(shop, None)

    async def until(self, shop: str, look: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
        """What `look` finds, now or after a change of the shop's; None if it finds nothing for so many seconds."""
        watched = self._shops.setdefault(shop, _Watched())
        watched.clients += 1
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            while True:
                changed = watched.changed
                found = await look()
                left = deadline - asyncio.get_running_loop().time()
                if found is not None or left <= 0 or self._closed:
                    return found
                with suppress(TimeoutError):  # then it looks once more: word may have been missed
                    await asyncio.wait_for(changed.wait(), left)
        finally:
            watched.clients -= 1
            if not watched.clients:
                self._shops.pop(shop, None)

    async def _waited(self, changed: asyncio.Event) -> bool:
        """Whether a change came before it was time for a heartbeat."""
        try:
            await asyncio.wait_for(changed.wait(), self._heartbeat)
        except TimeoutError:
            return False
        return True

    async def _listen(self) -> None:
        while True:
            try:
                async with await database.connect_async(
                    self._url, "loyalnest-live", statement_seconds=0, autocommit=True
                ) as connection:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                    self._everything_changed()  # what was missed while nobody listened
                    async for notice in connection.notifies():
                        self._heard(notice.payload)
            except psycopg.OperationalError as error:
                log.warning("live: the database is away (%s)", database.first_line(error))
            except Exception:
                # Not the end of it: clients would hear heartbeats and old numbers for ever.
                log.exception("live: listening ended, and begins again")
            await asyncio.sleep(self._retry)

    def _heard(self, payload: str) -> None:
        try:
            watched = self._shops.get(codec.loads(payload.encode())["shop"])
        except (BadEvent, KeyError, TypeError):
            log.warning("live: a notification that is none of ours")
            return
        if watched is not None:
            watched.change()

    def _everything_changed(self) -> None:
        for watched in self._shops.values():
            watched.change()
