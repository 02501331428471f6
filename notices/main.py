"""The process that sends notices: it claims endpoints that have something due, and works each one off by itself.

One endpoint's messages go one after the other, in the order in which they came about; a message that has to be tried
again lets the others pass. Several such processes share the endpoints. What is killed leaves an endpoint claimed until
its lease is over, and repeats at most the one message whose answer it had not noted.
"""

import asyncio
import logging
import random
import signal
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final
from uuid import UUID, uuid4

import psycopg
from psycopg_pool import PoolTimeout

from books import notices
from books.master_keys import master_keys
from books.notices import Due, Held
from books.sealed import VaultError
from books.vault import Vault
from notices.sending import SECONDS, Outcome, Sender
from runtime import database, health, metrics, waits
from runtime.database import Pool
from runtime.settings import Settings
from runtime.supervised import health_listener

log = logging.getLogger(__name__)

#: Endpoints that are sent to at once.
ENDPOINTS: Final = 64

#: Messages of one endpoint before others have their turn, and how long that may take (seconds).
TURN: Final = 50
TURN_SECONDS: Final = 20.0

#: How long an endpoint stays claimed by a process that says nothing: longer than an attempt and its note.
LEASE: Final = timedelta(seconds=SECONDS + 20)

#: Between two looks for what is due, and after an error of the database's (seconds).
LOOK: Final = 0.5
AGAIN: Final = 2.0

#: Between two looks for what is old, and for what the metrics tell (seconds).
_TIDY: Final = 3600.0
_LOAD: Final = 15.0

_POOL: Final = 8
_ALIVE: Final = 30.0
_AWAY: Final = (psycopg.OperationalError, PoolTimeout)


class Notifier:
    """Sends what is due, until it is told to end."""

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url()
        self._pool: Pool = database.pool(url, "loyalnest-notices", size=_POOL, statement_seconds=_ALIVE)
        self._vault = Vault(master_keys(settings), self._pool)
        self._private = settings.notices_private
        self._me: UUID = uuid4()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()
        self._away = True
        self._sender: Sender

    def waits_for(self) -> Sequence[str]:
        """Why it does not keep up, in words."""
        return ["the database does not answer"] if self._away else []

    def end(self) -> None:
        """`run` returns when the messages under way are noted."""
        self._ending.set()

    async def run(self) -> None:
        """Sends until `end`. Waits for a database that is away."""
        self._sender = Sender(private=self._private, connections=ENDPOINTS)
        tidy_at = load_at = 0.0
        await self._pool.open()
        try:
            while not self._ending.is_set():
                try:
                    await self._claim()
                    if monotonic() >= load_at:
                        await self._measure()
                        load_at = monotonic() + _LOAD
                    if monotonic() >= tidy_at:
                        async with self._pool.connection() as connection:
                            await notices.tidy(connection)
                        tidy_at = monotonic() + _TIDY
                    self._away = False
                except _AWAY as error:
                    self._away = True
                    log.warning("notices: the database is away (%s)", database.first_line(error))
                await self._pause(AGAIN if self._away else LOOK)
        finally:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=SECONDS + 1)
            await self._sender.close()
            await self._pool.close()

    async def _pause(self, seconds: float) -> None:
        """Until it is time to look again: at once when an endpoint has been worked off, which may have had more."""
        ending = asyncio.create_task(self._ending.wait())
        done, _ = await asyncio.wait({ending, *self._tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        for task in done & self._tasks:
            self._tasks.discard(task)
            if (error := task.exception()) is not None:
                # Its lease holds the endpoint back, so that this is not the next thing that happens.
                log.error("notices: an endpoint was left", exc_info=error)

    async def _claim(self) -> None:
        free = ENDPOINTS - len(self._tasks)
        if free <= 0:
            return
        async with self._pool.connection() as connection:
            claimed = await notices.claim(connection, self._me, LEASE, free)
        for held in claimed:
            self._tasks.add(asyncio.create_task(self._turn(held)))

    async def _measure(self) -> None:
        async with self._pool.connection() as connection:
            waiting, resting = await notices.load(connection)
        metrics.NOTICES_WAITING.set(waiting)
        metrics.ENDPOINTS_RESTING.set(resting)

    async def _turn(self, held: Held) -> None:
        """Sends to an endpoint that is claimed, and gives it back."""
        try:
            secret = await self._vault.notice_secret(held.shop, held.id)
            if secret is None:  # the shop has been forgotten: its endpoints go, too
                return
            until = monotonic() + TURN_SECONDS
            async with self._pool.connection() as connection:
                due = await notices.due(connection, held.id, TURN)
            for each in due:
                if self._ending.is_set() or monotonic() > until or not await self._one(held, secret, each):
                    break
            async with self._pool.connection() as connection:
                await notices.release(connection, self._me, held)
        except _AWAY as error:
            # What was sent may not have been noted, and is sent again when the lease is over.
            log.warning("notices: the database is away (%s)", database.first_line(error))
        except VaultError as error:
            log.error("notices of %s cannot be signed: %s", held.shop, error)

    async def _one(self, held: Held, secret: bytes, due: Due) -> bool:
        """One attempt; whether there may be another."""
        began = monotonic()
        outcome = await self._sender.send(held.url, secret, due.message, due.body, datetime.now(UTC))
        metrics.NOTICE_SECONDS.observe(monotonic() - began)
        metrics.NOTICES.labels(due.event, "done" if outcome.error is None else "failed").inc()
        async with self._pool.connection() as connection:
            if outcome.error is None:
                assert outcome.code is not None
                return await notices.note_done(connection, self._me, LEASE, held, due.id, outcome.code)
            return await self._failed(connection, held, due, outcome)

    async def _failed(self, connection: psycopg.AsyncConnection, held: Held, due: Due, outcome: Outcome) -> bool:
        assert outcome.error is not None
        wait = max(waits.before_retry(due.attempts + 1, random.random()), outcome.after or timedelta())  # noqa: S311
        failed = await notices.note_failed(
            connection, self._me, LEASE, held, due.id, outcome.code, outcome.error, wait, waits.rest, outcome.after
        )
        for event in failed.dead:
            metrics.NOTICES.labels(event, "dead").inc()
        if failed.rests is not None:
            log.warning("endpoint %s of %s rests for %s: %s", held.id, held.shop, failed.rests, outcome.error)
        return failed.ours and failed.rests is None


def main(settings: Settings) -> int:
    """Sends until SIGTERM or SIGINT; the exit code. ValueError or VaultError for settings it cannot work with."""
    return asyncio.run(_main(settings))


async def _main(settings: Settings) -> int:
    notifier = Notifier(settings)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(each, notifier.end)
    pulse = health.Pulse(_ALIVE)
    if (listener := health_listener(settings.worker_host, settings.worker_port)) is not None:
        health.serve(listener, pulse)
    loop.call_soon(pulse.follow, loop, notifier.waits_for)
    await notifier.run()
    return 0
