"""The process that makes discounts: it looks for stores that have something due, and works each one off by itself.

It also tells the door which redemptions nobody used in time, of all shops: those whose stores are off, or that hand
their codes out by their own means, too.

One store's redemptions go one after the other, as the points of its Admin API allow; stores do not wait for each other.
Several such processes share the work, a redemption at a time. What is killed leaves a redemption held until its lease
is over; whoever takes it up then finds the discount, if it was made, by its code.
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
from uuid import uuid4

from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from books import fulfilment, programs, unused
from books.fulfilment import Holder, Open, Work
from books.master_keys import master_keys
from books.sealed import VaultError
from books.unused import Over
from books.vault import Vault
from events import instants
from events.programs import reward_at
from fulfilment import codes
from fulfilment.admin import SECONDS, Admin
from fulfilment.discounts import Wanted
from fulfilment.door import Door, Fulfilment, LogDoor
from fulfilment.making import LONGEST_PAUSE, Maker, Result
from runtime import database, health, metrics, waits
from runtime.database import Pool
from runtime.ports import Publisher
from runtime.settings import Settings
from runtime.supervised import health_listener

log = logging.getLogger(__name__)

#: Stores that are worked on at once.
STORES: Final = 64

#: How long one store is worked on before it is looked at anew (seconds).
TURN_SECONDS: Final = 20.0

#: How long a redemption stays held by a process that says nothing: longer than three questions and their notes.
LEASE: Final = timedelta(seconds=3 * SECONDS + 30) + 2 * LONGEST_PAUSE

#: The door has so long to take a fact (seconds).
TELL_SECONDS: Final = 15.0

#: How long a store that does not let us in is left alone.
SHUT: Final = timedelta(hours=1)

#: Between two looks for what is due, and after an error of the database's (seconds).
LOOK: Final = 0.5
AGAIN: Final = 2.0

#: Redemptions that are made work of in one look, and those whose discounts are to be withdrawn.
_ENLISTED: Final = 1_000
_WITHDRAWN: Final = 200

#: Between two looks for what the metrics tell, and for what was cancelled (seconds).
_LOAD: Final = 15.0
_CANCELLED: Final = 3.0

#: What takes long is done less often: it rests for so many times as long as it took.
_SHARE: Final = 20.0

#: Between two looks for what nobody used in time, and how many are told of in one; told of again after `_STILL`, where
#: nothing has come of it (seconds).
_OVER: Final = 10.0
_MOST_OVER: Final = 500
_STILL: Final = 3600.0

_POOL: Final = 8
_ALIVE: Final = 30.0
_AWAY: Final = (OperationalError, PoolTimeout)


class Fulfiller:
    """Makes what is due and tells the door, until it is told to end."""

    def __init__(self, settings: Settings, door: Door) -> None:
        self._pool: Pool = database.pool(
            settings.database_url(), "loyalnest-fulfilment", size=_POOL, statement_seconds=_ALIVE
        )
        self._vault = Vault(master_keys(settings), self._pool)
        self._private = settings.fulfilment_private
        self._door = door
        self._holder = Holder(uuid4(), LEASE, timedelta(hours=settings.fulfilment_hours))
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: By store: not before then is it asked again (seconds of `monotonic`).
        self._not_before: dict[str, float] = {}
        self._ending = asyncio.Event()
        self._away = True
        self._unheard = False
        #: Not before then is it done again, in the order of `_now_and_then` (seconds of `monotonic`).
        self._next = [0.0, 0.0, 0.0]
        #: When it was told that they are over (seconds of `monotonic`).
        self._over: dict[Over, float] = {}
        self._admin: Admin

    def waits_for(self) -> Sequence[str]:
        """Why it does not keep up, in words."""
        away = ["the database does not answer"] if self._away else []
        return [*away, "what came of redemptions cannot be told"] if self._unheard else away

    def end(self) -> None:
        """`run` returns when the redemptions under way are noted."""
        self._ending.set()

    async def run(self) -> None:
        """Works until `end`, or the door has failed for good. Waits for a database that is away."""
        self._admin = Admin(private=self._private, connections=STORES)
        await self._pool.open()
        try:
            while not self._ending.is_set() and self._door.failed() is None:
                try:
                    await self._now_and_then()
                    await self._look()
                    self._away = False
                except _AWAY as error:
                    self._away = True
                    log.warning("fulfilment: the database is away (%s)", database.first_line(error))
                await self._pause(AGAIN if self._away else LOOK)
        finally:
            self.end()
            if self._tasks:
                await asyncio.wait(self._tasks.values(), timeout=LEASE.total_seconds())
            await self._admin.close()
            await self._pool.close()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        for shop, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[shop]
                if (error := task.exception()) is not None:
                    # Its lease holds the redemption back, so that this is not the next thing that happens.
                    log.error("fulfilment: %s was left", shop, exc_info=error)

    async def _look(self) -> None:
        async with self._pool.connection() as connection:
            await fulfilment.enlist(connection, _ENLISTED)
            free = STORES - len(self._tasks)
            found = await fulfilment.due(connection, self._tasks, free) if free > 0 else []
        for store in found:
            self._tasks[store.shop] = asyncio.create_task(self._work_off(store))

    async def _now_and_then(self) -> None:
        chores = ((self._withdraw, _CANCELLED), (self._measure, _LOAD), (self._give_back, _OVER))
        for number, (chore, seconds) in enumerate(chores):
            if (began := monotonic()) >= self._next[number]:
                await chore()
                took = monotonic() - began
                self._next[number] = monotonic() + max(seconds, _SHARE * took)

    async def _withdraw(self) -> None:
        async with self._pool.connection() as connection:
            await fulfilment.withdraw(connection, _WITHDRAWN)

    async def _give_back(self) -> None:
        async with self._pool.connection() as connection:
            found = await unused.over(connection, _MOST_OVER)
        now = monotonic()
        # What the worker has not heard of yet is found once more.
        self._over = {each: at for each in found if (at := self._over.get(each, -_STILL)) > now - _STILL}
        found = [each for each in found if each not in self._over]
        if not found:
            return
        try:
            await asyncio.wait_for(self._door.over(found), TELL_SECONDS)
        except Exception as error:
            metrics.FULFILMENTS.labels("untold").inc(len(found))
            log.warning("fulfilment: %d unused redemptions could not be told (%s)", len(found), type(error).__name__)
            return
        self._over |= dict.fromkeys(found, now)
        metrics.FULFILMENTS.labels("unused").inc(len(found))

    async def _measure(self) -> None:
        async with self._pool.connection() as connection:
            waiting, resting = await fulfilment.load(connection)
        metrics.FULFILMENTS_WAITING.set(waiting)
        metrics.FULFILMENT_SHOPS_RESTING.set(resting)
        self._unheard = not await self._door.ready()

    async def _work_off(self, store: Open) -> None:
        """Makes and tells what is due of one store, one after the other."""
        until = monotonic() + TURN_SECONDS
        try:
            maker = await self._maker(store)
            while not self._ending.is_set() and monotonic() < until:
                await self._wait(store.shop)
                async with self._pool.connection() as connection:
                    work = await self._holder.take(connection, store.shop)
                if work is None or not await self._one(store, maker, work):
                    return
        except _AWAY as error:
            # What was made may not have been noted, and is found by its code when the lease is over.
            log.warning("fulfilment: the database is away (%s)", database.first_line(error))

    async def _maker(self, store: Open) -> Maker | None:
        """What makes discounts in a store; None where it is off, or no key opens its token."""
        token = None
        try:
            if store.token is not None:
                token = await self._vault.open_token(store.shop, store.token)
        except VaultError as error:
            log.error("the token of %s cannot be read: %s", store.shop, error)
        return None if token is None else Maker(self._admin, store.endpoint, token)

    async def _wait(self, shop: str) -> None:
        """Until the store has points for a question again; or the end."""
        left = self._not_before.pop(shop, 0.0) - monotonic()
        if left > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), left)

    async def _one(self, store: Open, maker: Maker | None, work: Work) -> bool:
        """One redemption made, if it is not, and told, or withdrawn; whether there may be another of the store's."""
        if work.withdrawal is not None:
            return await self._take_back(store, maker, work)
        if work.outcome is None:
            decided = await self._decide(store, maker, work)
            if decided is None:
                return False
            work = decided
        fact: Fulfilment = {
            "request_id": work.request_id,
            "attempt": work.attempt,
            "state": work.outcome or "failed",
            "code": work.code,
            "valid_until": None if work.valid_until is None else _text(work.valid_until),
            "reason": work.reason,
        }
        try:
            await asyncio.wait_for(self._door.tell(work.shop, work.customer_id, fact), TELL_SECONDS)
        except Exception as error:
            metrics.FULFILMENTS.labels("untold").inc()
            log.warning("fulfilment: an outcome of %s could not be told (%s)", work.shop, type(error).__name__)
            async with self._pool.connection() as connection:
                await self._holder.untold(connection, work, _retry(work.attempt))
            return False
        async with self._pool.connection() as connection:
            await self._holder.finish(connection, work)
        metrics.FULFILMENTS.labels(fact["state"]).inc()
        if fact["state"] == "failed":
            log.warning("a redemption of %s was not fulfilled: %s", work.shop, work.reason)
        return True

    async def _decide(self, store: Open, maker: Maker | None, work: Work) -> Work | None:
        """A redemption with its outcome, noted; None if it has none yet, or is not ours any more."""
        if maker is None:
            await self._rest(store, work, "token", SHUT, "token")
            return None
        wanted = await self._wanted(work)
        if isinstance(wanted, Result):
            return await self._note(work, wanted, well=False)
        began = monotonic()
        result = await maker.make(wanted)
        metrics.FULFILMENT_SECONDS.observe(monotonic() - began)
        work = work._replace(code=wanted.code)
        if await self._put_off(store, maker, work, result):
            return None
        return await self._note(work, result, well=True)

    async def _take_back(self, store: Open, maker: Maker | None, work: Work) -> bool:
        """The discount of a redemption that was cancelled made useless; whether there may be another of the store's."""
        if maker is None:
            await self._rest(store, work, "token", SHUT, "token")
            return False
        digest = await self._vault.code_digest(work.shop, work.customer_id, work.request_id)
        if digest is None:
            result = Result("failed", "forgotten")
        else:
            result = await maker.withdraw(codes.code(digest), work.customer_id, work.request_id)
        if await self._put_off(store, maker, work, result):
            return False
        error = None if result.kind == "withdrawn" else result.why
        if error is not None:
            log.warning("the discount of a cancelled redemption of %s stays in its store: %s", work.shop, error)
        async with self._pool.connection() as connection:
            await self._holder.withdrawn(connection, work, error)
        metrics.FULFILMENTS.labels("withdrawn" if error is None else "left").inc()
        return True

    async def _put_off(self, store: Open, maker: Maker, work: Work, result: Result) -> bool:
        """Whether the store has to be asked again, which is noted."""
        self._not_before[work.shop] = monotonic() + maker.pause.total_seconds()
        if result.kind == "busy":
            await self._rest(store, work, "throttled", result.after, result.why)
        elif result.kind == "shut":
            log.error("%s does not let us in (%s): nothing is made there until it does", work.shop, result.why)
            await self._rest(store, work, "refused", SHUT, result.why)
        elif result.kind == "again":
            await self._failed(work, result.why)
        else:
            return False
        return True

    async def _wanted(self, work: Work) -> Wanted | Result:
        """What is to be made; or why that cannot be."""
        async with self._pool.connection() as connection:
            program = await programs.known_async(connection, work.shop)
        at = instants.from_datetime(work.decided_at)
        reward = None if program is None else reward_at(program, work.reward_id, at)
        if reward is None:
            return Result("failed", "unknown_reward")
        digest = await self._vault.code_digest(work.shop, work.customer_id, work.request_id)
        if digest is None:
            return Result("failed", "forgotten")
        now = datetime.now(UTC)
        until = None if reward.valid_days is None else now + timedelta(days=reward.valid_days)
        code = codes.code(digest)
        return Wanted(work.request_id, work.customer_id, code, reward, work.decided_at, until)

    async def _note(self, work: Work, result: Result, *, well: bool) -> Work | None:
        issued = result.kind == "issued"
        # Of an attempt before this one nobody may have heard: it may have worked all the same.
        there = issued or (work.attempt > 1 and result.why != "code_taken")
        decided = work._replace(
            outcome="issued" if issued else "failed",
            reason=None if issued else result.why,
            code=work.code if there else None,
            valid_until=result.valid_until,
        )
        async with self._pool.connection() as connection:
            ours = await self._holder.note(connection, decided, well=well)
        return decided if ours else None

    async def _rest(self, store: Open, work: Work, why: fulfilment.Why, rest: timedelta, error: str) -> None:
        metrics.FULFILMENTS.labels("held back").inc()
        async with self._pool.connection() as connection:
            await self._holder.rest(connection, store, work, why, rest, error)

    async def _failed(self, work: Work, error: str) -> None:
        metrics.FULFILMENTS.labels("retried").inc()
        async with self._pool.connection() as connection:
            rests = await self._holder.failed(connection, work, error, _retry(work.attempt), waits.rest)
        if rests is not None:
            log.warning("%s rests for %s: %s", work.shop, rests, error)


def _retry(attempt: int) -> timedelta:
    return waits.before_retry(max(attempt, 1), random.random())  # noqa: S311


def _text(when: datetime) -> str:
    return instants.text(instants.from_datetime(when))


def main(settings: Settings, publisher: Publisher) -> int:
    """Works until SIGTERM or SIGINT; the exit code: 1 where nothing can be published any more by this process.

    ValueError or VaultError for settings it cannot work with.
    """
    return asyncio.run(_main(settings, publisher))


async def _main(settings: Settings, publisher: Publisher) -> int:
    try:
        fulfiller = Fulfiller(settings, LogDoor(publisher))
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):  # Windows
                loop.add_signal_handler(each, fulfiller.end)
        pulse = health.Pulse(_ALIVE)
        if (listener := health_listener(settings.worker_host, settings.worker_port)) is not None:
            health.serve(listener, pulse)
        loop.call_soon(pulse.follow, loop, fulfiller.waits_for)
        await fulfiller.run()
    finally:
        await publisher.close()
    if (why := publisher.failed()) is not None:
        log.critical("fulfilment ends, to be started anew: %s", why)
        return 1
    return 0
