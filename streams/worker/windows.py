"""A worker's partial windows: made when a partition comes, and stated anew when a shop changes its zone.

Both walk everything that is kept of a partition, which takes a minute and more for a million customers. So they go in
slices, between which the event loop lives: heartbeats, commits and rebalances go on. Meanwhile no chunk of the
partition may be folded: a fold begins with `stand`, which returns at once when the windows stand.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from events.messages import Message
from streams.worker.folding import Folder, Table
from tables import restating, windows
from tables.reference import Reference
from tables.state import Writes

#: How long a walk holds the loop (seconds) before everybody else has their turn.
SLICE: Final = 0.01

#: Rows of a restatement that leave as one.
_ROWS: Final = 500

#: How often what came or changed is looked for (seconds).
_LOOK: Final = 0.1


class Partitions(Protocol):
    """The partitions of the customers' table, as far as their windows need it."""

    def values(self, number: int) -> Mapping[str, bytes]:
        """What is kept of a partition."""
        ...

    def version(self, number: int) -> object:
        """Another one after each change of a partition that no fold of ours made."""
        ...

    def held(self) -> set[int]:
        """The partitions that are ours to fold; empty while partitions move."""
        ...

    def tenure(self, number: int) -> object | None:
        """Another one each time a partition becomes ours; None while it is not."""
        ...

    def fence(self, number: int) -> int:
        """What the rows of a partition's owner carry."""
        ...

    async def room(self) -> None:
        """Waits until more may be sent."""
        ...

    def send(self, number: int, outputs: list[Message], writes: Writes) -> None:
        """Sends the outputs; the partition has the writes at once, and keeps them when the outputs are durable."""
        ...


class Kept:
    """The customers' table of a worker."""

    def __init__(self, folder: Folder, table: Table, fence: Callable[[int], int]) -> None:
        self._folder = folder
        self._table = table
        self.fence = fence

    def values(self, number: int) -> Mapping[str, bytes]:
        """A partition's keys and their values."""
        return self._table.state.partition(number).values

    def version(self, number: int) -> object:
        """Equal as long as nothing in the partition has changed."""
        state = self._table.state.partition(number)
        return state, state.version

    def held(self) -> set[int]:
        """The partitions that are folded here now."""
        return set() if self._folder.guard.failed else self._folder.sequence.numbers()

    def tenure(self, number: int) -> object | None:
        """The owner's token in a partition; None where that is not ours."""
        return self._table.state.partition(number).token if number in self.held() else None

    async def room(self) -> None:
        """Returns when another chunk may be sent."""
        await self._folder.guard.room()

    def send(self, number: int, outputs: list[Message], writes: Writes) -> None:
        """Outputs, and then new values of a partition's keys, as a chunk's."""
        self._table.state.partition(number).apply(writes)
        self._folder.guard.submit(None, outputs, self._folder.changelog(self._table, number), writes)


@dataclass
class _Standing:
    version: object
    partial: windows.Partial
    zoned: int = -1  # which of the reference's zones it stands under


class PartialWindows:
    """The partial windows of each partition of a worker."""

    def __init__(self, reference: Reference, partitions: Partitions) -> None:
        self._reference = reference
        self._partitions = partitions
        self._standing: dict[int, _Standing] = {}
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def partial(self, number: int) -> windows.Partial:
        """A partition's windows, after `stand`."""
        return self._standing[number].partial

    async def prepare(self, numbers: set[int]) -> None:
        """Makes the windows of the partitions that are ours from now on, and lets go of all others'."""
        for gone in self._standing.keys() - numbers:
            del self._standing[gone]
        for number in sorted(numbers):
            async with self._turns[number]:
                await self._make(number)

    async def stand(self, number: int) -> bool:
        """Returns once the partition's windows stand, under the zones in force; False when it is ours no longer.

        Nobody else changes them until the caller next gives up the loop.
        """
        while not self._stands(number):
            async with self._turns[number]:
                if not self._stands(number) and not await self._bring_up(number):
                    return False
        return True

    async def follow(self) -> None:
        """Brings up what changed, before it is asked for; for ever."""
        while True:
            for number in sorted(self._partitions.held()):
                await self.stand(number)
            await asyncio.sleep(_LOOK)

    def _stands(self, number: int) -> bool:
        found = self._standing.get(number)
        return (
            found is not None
            and found.zoned == self._reference.zoned
            and found.version == self._partitions.version(number)
        )

    async def _bring_up(self, number: int) -> bool:
        """One attempt; False when the partition is ours no longer. `stand` sees whether it was enough."""
        tenure = self._partitions.tenure(number)
        if tenure is None:
            return False
        found, zoned = await self._make(number), self._reference.zoned
        if found is not None:
            for shop in found.partial.shops():
                if not await self._state(number, found, shop, tenure):
                    break
            else:
                found.zoned = zoned
        return self._partitions.tenure(number) == tenure

    async def _make(self, number: int) -> _Standing | None:
        """The partition's windows, made anew if something but a fold changed it; None if that happens meanwhile."""
        version, found = self._partitions.version(number), self._standing.get(number)
        if found is None or found.version != version:
            partial = windows.Partial()
            steps = restating.rebuilding(self._partitions.values(number), partial)
            if not await in_slices(steps, lambda: self._partitions.version(number) == version):
                return None
            found = self._standing[number] = _Standing(version, partial)
        return found

    async def _state(self, number: int, found: _Standing, shop: str, tenure: object) -> bool:
        """States a shop's days under its zone, if they stand under another; False when that must be left undone."""
        known, values = self._reference.get(shop), self._partitions.values(number)
        zone = windows.standing_zone(values, shop)
        if known is None or zone is None or zone.key == known.zone.key:
            return True

        def go_on() -> bool:
            ours = self._partitions.tenure(number) == tenure
            return ours and self._partitions.version(number) == found.version

        made = restating.Restatement(values, shop, known.zone)
        if not await in_slices(made.steps(), go_on):
            return False
        now = found.partial.time(shop)
        outputs = made.outputs(number, known.program.currency, now, self._partitions.fence(number))
        for start in range(0, len(outputs) + 1, _ROWS):
            await self._partitions.room()
            if not go_on():
                return False
            last = start + _ROWS > len(outputs)
            self._partitions.send(number, outputs[start : start + _ROWS], made.writes() if last else {})
        made.apply(found.partial, now)
        return True


async def in_slices(steps: Iterator[None], go_on: Callable[[], bool]) -> bool:
    """Goes through the steps and lets the loop live after each SLICE; False when it is then told not to go on."""
    until = time.perf_counter() + SLICE
    for _ in steps:
        if time.perf_counter() > until:
            await asyncio.sleep(0)
            if not go_on():
                return False
            until = time.perf_counter() + SLICE
    return go_on()
