"""Taking partitions over: claimed, read up to the claim, windows made again, and only then fetched.

In place of Faust's recovery service, which TableManager would make; Faust tells it of every rebalance.

    revoked: the sequence is cleared, what is in flight is delivered and committed (transport.ChunkConsumer.wait_empty)
    assigned: claim each changelog partition -> read to the claims -> write strays again -> windows -> positions
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any

from mode import Service
from mode.utils.locks import Event

from streams.worker.changelogs import ChangelogReader, Place
from streams.worker.folding import Folder, Table
from tables.state import CLAIM, PartitionState

log = logging.getLogger(__name__)


class OvertakenError(RuntimeError):
    """Somebody else has claimed a partition that we still fold: the group moved on while we stood still."""


class _MovedAgain(Exception):
    """Partitions move again before the last move was done."""


class Recovery(Service):
    """Makes this worker the owner of the partitions that the group gives it.

    `prepare(numbers)` makes what is derived from the tables of the partitions that are ours, where they have changed,
    before anything is folded into them.
    """

    def __init__(
        self,
        app: Any,
        folder: Folder,
        tables: Sequence[Table],
        changelogs: ChangelogReader,
        prepare: Callable[[set[int]], Awaitable[None]],
        on_failure: Callable[[Exception], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.completed = Event()
        self._app = app
        self._folder = folder
        self._tables = tables
        self._changelogs = changelogs
        self._prepare = prepare
        self._on_failure = on_failure
        self._moved = asyncio.Event()
        self._generation = 0
        for table in tables:
            table.on_gaps = partial(self._gaps, table)

    async def on_start(self) -> None:
        """Before the first partitions come."""
        self._folder.guard.start()
        self._changelogs.start()

    # --- what Faust calls ----------------------------------------------------------------------------------------

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing: what is in flight is waited for by the consumer."""

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """The group has given out its partitions anew."""
        self._generation = generation_id
        self._moved.set()

    @Service.task
    async def _take_over_for_ever(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self._moved):
                return
            self._moved.clear()
            try:
                await self._take_over(self._generation, self._app.rebalancing_count)
            except _MovedAgain:
                log.info("partitions move again")
            except Exception as error:
                self._on_failure(error)

    # --- taking over ---------------------------------------------------------------------------------------------

    async def _take_over(self, generation: int, rebalancing: int) -> None:
        actives = self._numbers(self._app.assignor.assigned_actives())
        standbys = self._numbers(self._app.assignor.assigned_standbys()) - actives
        self._let_go(actives, standbys)
        claims = await self._unless_moved(self._claim(actives))
        log.info("reading changelogs up to our claims")
        await self._unless_moved(
            self._changelogs.recover(
                {place: (state, claims[place]) for place, state in self._states(actives)},
                dict(self._states(standbys)),
            )
        )
        log.info("changelogs are read")
        for place, state in self._states(actives):
            state.token = claims[place]
        for table in self._tables:
            for number in actives:
                self._folder.write_again(table, number, set(table.state.partition(number).strays))
        await self._unless_moved(self._prepare(actives))
        consumer = self._app.consumer
        starts = await self._unless_moved(consumer.starts())
        # Since the last await nothing ran on this loop; but the group may have begun to move, on the consumer's thread.
        if self._app.rebalancing_count != rebalancing or self._app.consumer_generation_id != generation:
            raise _MovedAgain
        self._folder.sequence.begin(starts)
        consumer.resume_partitions(set(starts))
        self._app.flow_control.resume()
        consumer.resume_flow()
        await self._app._fetcher.maybe_start()
        self._app.tables.on_actives_ready()
        self._app.tables.on_standbys_ready()
        self._app.on_rebalance_end()
        self.completed.set()
        log.info("ready: partitions %s, standby for %s", sorted(actives), sorted(standbys))

    def _numbers(self, places: set[Any]) -> set[int]:
        ours = {table.changelog for table in self._tables}
        return {tp.partition for tp in places if tp.topic in ours}

    def _states(self, numbers: set[int]) -> Iterator[tuple[Place, PartitionState]]:
        for table in self._tables:
            for number in numbers:
                yield (table.changelog, number), table.state.partition(number)

    def _let_go(self, actives: set[int], standbys: set[int]) -> None:
        for table in self._tables:
            # Those too that are let go of altogether: somebody may still be looking at records of theirs.
            for number, state in table.state.partitions.items():
                if number not in actives:
                    state.token = None
            table.state.keep_only(actives | standbys)
            for state in table.state.partitions.values():
                if state.suspect:
                    state.forget()

    async def _claim(self, actives: set[int]) -> dict[Place, int]:
        places = [place for place, _ in self._states(actives)]
        by = f"{self._app.conf.consumer_group_instance_id or 'a worker'}, generation {self._generation}"
        offsets = await asyncio.gather(*(self._folder.guard.claim(*place, by) for place in places))
        return dict(zip(places, offsets, strict=True))

    async def _unless_moved(self, work: Coroutine[Any, Any, Any] | Awaitable[Any]) -> Any:
        working = asyncio.ensure_future(work)
        moving = asyncio.ensure_future(self._moved.wait())
        try:
            await asyncio.wait({working, moving}, return_when=asyncio.FIRST_COMPLETED)
            if self._moved.is_set():
                raise _MovedAgain
            return await working
        finally:
            moving.cancel()
            working.cancel()

    # --- records that are not ours -------------------------------------------------------------------------------

    def _gaps(self, table: Table, number: int, gaps: list[range]) -> None:
        self.add_future(self._look(table, number, gaps))

    async def _look(self, table: Table, number: int, gaps: list[range]) -> None:
        """Somebody wrote into a changelog of ours. Whoever did so after a claim of ours counts nowhere."""
        state = table.state.partition(number)
        token = state.token
        try:
            if token is None:
                return
            keys = set().union(*[await self._changelogs.look((table.changelog, number), gap, token) for gap in gaps])
            if state.token != token:
                return
            if CLAIM in keys:
                raise OvertakenError(f"{table.changelog}[{number}] was claimed by somebody else")
            state.suspect = False
            self._folder.write_again(table, number, keys)
        except Exception as error:
            self._on_failure(error)
