"""Past instants beside the event loop: one thread works them out from the lake, and whoever asks meanwhile waits."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Final, TypeVar

from api.limits import READ_SECONDS, within
from api.problems import ProblemError
from events import instants
from events.instants import MINUTE
from events.programs import Program
from lake import cohorts, manifest, past
from lake.cohorts import Cohort
from lake.past import Standings
from runtime import database
from runtime.settings import Settings

T = TypeVar("T")

#: Who may wait for the one thread, and for how long (seconds): what takes longer is kept for whoever asks again.
WAITING: Final = 8
PATIENCE: Final = 30.0

#: So long after its instant the cohorts of one shop may stand on a page that is opened again and again: their months
#: move slowly, and those of a large shop take seconds to work out (microseconds). Of so many shops they are kept.
LATELY: Final = 10 * MINUTE
SHOPS: Final = 32

_BUSY: Final = "Other past instants are being worked out: try again soon."


class _Turn:
    """One that waits for the thread, or has it."""

    future: "asyncio.Future[Any]"
    begun = False


class Past:
    """The one thread of this process, and its way to the lake."""

    def __init__(self, settings: Settings) -> None:
        self.lake = manifest.of(settings)
        self._url = settings.database_url()
        self._thread = ThreadPoolExecutor(1, "past")
        self._waiting = 0
        self._turns: dict[Hashable, _Turn] = {}
        self._lately: OrderedDict[str, tuple[Program, int, list[Cohort]]] = OrderedDict()

    async def standings(self, program: Program, as_of: datetime) -> Standings:
        """Of the lake. BehindError where it cannot tell; a problem (503) while too many wait."""
        at = instants.from_datetime(as_of)
        found = await within(READ_SECONDS, asyncio.to_thread(self.connected, past.kept, self.lake, program, at))
        if found is not None:
            return found
        return await self.work(lambda: self.connected(past.standings, self.lake, program, at))

    async def cohorts(self, program: Program, at: int) -> list[Cohort]:
        """The shop's cohorts as of `at` (microseconds). BehindError where the lake cannot tell; a problem (503)."""
        return await self.work(lambda: self.connected(cohorts.cohorts, self.lake, program, at))

    async def cohorts_lately(self, program: Program, now: int) -> tuple[int, list[Cohort]]:
        """The cohorts of now, or as they were at most LATELY before; and as of when (microseconds)."""
        kept = self._lately.get(program.shop)
        if kept is None or kept[0] != program or now - kept[1] > LATELY:
            kept = program, now, await self.cohorts(program, now)
            self._lately[program.shop] = kept
            self._lately.move_to_end(program.shop)
            if len(self._lately) > SHOPS:
                self._lately.popitem(last=False)
        return kept[1:]

    def connected(self, step: Callable[..., T], *rest: object) -> T:
        """What `step` makes with a connection and `rest`. For a thread: it waits for the database."""
        with database.connect(self._url, "loyalnest-past", statement_seconds=READ_SECONDS, autocommit=True) as opened:
            return step(opened, *rest)

    async def work(self, step: Callable[[], T], question: Hashable = None) -> T:
        """What `step` returns, in its turn; a problem (503) while too many wait, or if it takes too long.

        Who asks a `question` that waits already shares its answer: nothing was looked at before they asked.
        """
        turn = self._turns.get(question)
        if turn is None or turn.begun:
            turn = self._turn(step, question)
        try:
            done, _ = await asyncio.wait({turn.future}, timeout=PATIENCE)
        except asyncio.CancelledError:
            if question is None:
                turn.future.cancel()
            raise
        if not done:
            raise ProblemError(503, "busy", _BUSY, {"Retry-After": "10"})
        found: T = turn.future.result()
        return found

    def _turn(self, step: Callable[[], T], question: Hashable) -> "_Turn":
        if self._waiting >= WAITING:
            raise ProblemError(503, "busy", _BUSY, {"Retry-After": "5"})
        turn = _Turn()

        def taken() -> T:
            turn.begun = True
            return step()

        def over(future: "asyncio.Future[T]") -> None:
            self._waiting -= 1
            if self._turns.get(question) is turn:
                del self._turns[question]
            if not future.cancelled():
                future.exception()  # looked at: whoever asked may be gone

        self._waiting += 1
        turn.future = asyncio.get_running_loop().run_in_executor(self._thread, taken)
        turn.future.add_done_callback(over)
        if question is not None:
            self._turns[question] = turn
        return turn

    def close(self) -> None:
        """Nothing more is begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)
