"""The folds' Faust tables: bytes by key, partition by partition, in memory, recovered by chunks from a changelog.

Faust keeps the changelog topics, their assignment, standbys and recovery. Writing is ours (streams/guard.py): one
record per key and chunk, to the partition of the event that caused it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import faust
import orjson
from faust.stores import memory
from faust.types import TP, EventT

from tables.chunks import Writes


class UnreadableChangelog(RuntimeError):
    """A changelog record that cannot be read: the table cannot be trusted, so the worker must stop."""


class PartitionedStore(memory.Store):
    """Values by key, apart for each partition, so that a partition can be let go of whole."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.partitions: dict[int, dict[str, bytes]] = {}
        self._delivered: dict[int, int] = {}

    def partition(self, number: int) -> dict[str, bytes]:
        return self.partitions.setdefault(number, {})

    def apply(self, number: int, writes: Writes) -> None:
        """A folded chunk's writes become the partition's state."""
        values = self.partition(number)
        for key, value in writes.items():
            if value is None:
                values.pop(key, None)
            else:
                values[key] = value

    def delivered(self, number: int, offset: int) -> None:
        """A changelog record of ours is on the broker: recovery need not read it again."""
        if offset > self._delivered.get(number, -1):
            self._delivered[number] = offset

    def persisted_offset(self, tp: TP) -> int | None:
        return self._delivered.get(tp.partition)

    def apply_changelog_batch(
        self, batch: Iterable[EventT], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Recovery and standbys: each event carries the records of one fetch (streams/transport.py)."""
        for event in batch:
            number = event.message.partition
            if event.message.offset <= self._delivered.get(number, -1):
                continue  # ours, and known; laying it over the state would take the state back
            self.apply(number, dict(map(_read, event.message.value)))
            self.delivered(number, event.message.offset)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Nothing: Faust's own store would drop the standbys' values here."""

    def keep_only(self, numbers: set[int]) -> None:
        """Lets go of every partition that is no longer ours."""
        for gone in set(self.partitions) - numbers:
            del self.partitions[gone]
        for gone in set(self._delivered) - numbers:
            del self._delivered[gone]


def _read(record: Any) -> tuple[str, bytes | None]:
    """A changelog record; one that is not ours says so here, not years later in a fold."""
    try:
        if record.value is not None:
            orjson.loads(record.value)
        return record.key.decode(), record.value
    except (ValueError, AttributeError) as error:
        raise UnreadableChangelog(f"{record.topic}[{record.partition}]@{record.offset}: {error}") from error


class ChunkTable(faust.Table):
    """A table whose store is a PartitionedStore and whose changelog comes in chunks.

    `on_broken` is called with what recovery could not read: Faust itself would log a warning and wait for ever.
    """

    on_broken: Callable[[Exception], None]

    def _new_store(self) -> PartitionedStore:
        return PartitionedStore("memory://", self.app, self, table_name=self.name, loop=self.loop)

    @property
    def store(self) -> PartitionedStore:
        found = self.data
        assert isinstance(found, PartitionedStore)
        return found

    def apply_changelog_batch(self, batch: Iterable[EventT]) -> None:
        try:
            super().apply_changelog_batch(batch)
        except Exception as error:
            self.on_broken(error)
            raise

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        topic = self.changelog_topic.get_topic_name()
        assignor = self.app.assignor
        ours = assignor.assigned_actives() | assignor.assigned_standbys()
        self.store.keep_only({tp.partition for tp in ours if tp.topic == topic})
