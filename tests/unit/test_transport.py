"""The chunk consumer's part in a rebalance."""

import asyncio
from typing import Any

from faust.transport.consumer import ThreadDelegateConsumer
from faust.types import TP

from streams.transport import ChunkConsumer

COMMITTED, NEVER, AT_ZERO, CHANGELOG = TP("t", 0), TP("t", 1), TP("t", 2), TP("loyalnest-orders-changelog", 0)


class Thread:
    """Stands for Faust's thread around aiokafka, which seeks to what is committed and to nothing else."""

    def __init__(self) -> None:
        self.sought: dict[TP, int] = {}

    async def seek_to_committed(self) -> dict[TP, int | None]:
        return {COMMITTED: 5, NEVER: None, AT_ZERO: 0, CHANGELOG: None}

    async def earliest_offsets(self, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 3)

    async def seek_wait(self, partitions: dict[TP, int]) -> None:
        self.sought |= partitions


def test_what_was_never_committed_is_read_from_its_beginning_after_a_rebalance() -> None:
    """Records fetched while the flow stood still are thrown away: without the seek they would be lost."""
    consumer: Any = object.__new__(ChunkConsumer)
    assert isinstance(consumer, ThreadDelegateConsumer)
    consumer._thread = thread = Thread()
    consumer._is_changelog_tp = lambda tp: tp == CHANGELOG
    asyncio.run(consumer.seek_to_committed())
    assert thread.sought == {NEVER: 3, AT_ZERO: 3}
