"""Partitions that are taken over and let go of, without a broker."""

import asyncio
from typing import Any

import pytest

from streams.worker.folding import Table
from streams.worker.recovery import Recovery


class Changelogs:
    """Somebody else's records under one key, once they are read."""

    def __init__(self) -> None:
        self.read = asyncio.Event()

    async def look(self, _place: Any, _gap: range, _token: int) -> set[str]:
        await self.read.wait()
        return {"key"}


class Folder:
    """Which partitions' values were written again."""

    def __init__(self) -> None:
        self.written: list[int] = []

    def write_again(self, _table: Table, number: int, _keys: set[str]) -> None:
        self.written.append(number)


@pytest.mark.parametrize(("standbys", "back"), [(set(), False), ({4}, False), (set(), True)])
def test_of_a_partition_that_was_let_go_of_nothing_is_written_again(standbys: set[int], back: bool) -> None:
    """Also where its changelog was being read meanwhile, and where it has come back since, by another claim."""

    async def moved() -> tuple[list[int], list[Exception]]:
        changelogs, folder, failures = Changelogs(), Folder(), list[Exception]()
        table = Table("orders", "orders-changelog", lambda _: NotImplemented)
        some: Any = changelogs, folder
        recovery = Recovery(None, some[1], [table], some[0], lambda _: NotImplemented, failures.append)
        for number in (1, 4):
            table.state.partition(number).token = 10
        looks = [asyncio.create_task(recovery._look(table, number, [range(11, 12)])) for number in (1, 4)]
        await asyncio.sleep(0)
        recovery._let_go({1}, standbys)
        if back:
            recovery._let_go({1, 4}, set())
            table.state.partition(4).token = 20
        changelogs.read.set()
        await asyncio.gather(*looks)
        return folder.written, failures

    assert asyncio.run(moved()) == ([1], [])
