"""The processes that make what a file comes to."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from imports import apart, files, making
from imports.items import ImportingError

SHOP = "x.myshopify.com"
NOT_JSON = b'{"id":"gid://shopify/Order/2",\n'


def _maker(folder: Path) -> making.Maker:
    path = folder / "orders.jsonl"
    path.write_bytes(b'{"id":"gid://shopify/Order/1"}\n' + NOT_JSON)
    return making.Maker(files.reader(path, SHOP, "USD", 0), SHOP, "USD", 0)


def test_what_ends_is_said_and_what_is_left_ends(tmp_path: Path) -> None:
    maker = _maker(tmp_path)
    [chunks] = making.batches(maker.reader, 10, 0)

    async def ask() -> None:
        with apart.processes(maker) as processes:
            found, _ = await processes.make(chunks)
            assert found == maker.make(chunks)
            for each in processes._all:
                os.kill(each._process.pid, signal.SIGKILL)
            with pytest.raises(ImportingError, match="has ended"):
                await processes.make(chunks)
        assert all(each._process.returncode is not None for each in processes._all)

    asyncio.run(ask())


def test_who_leaves_waits_for_nobody(tmp_path: Path) -> None:
    maker = _maker(tmp_path)

    async def leave() -> list[apart._Process]:
        with apart.processes(maker) as processes:
            waiting = [processes.make([]) for _ in range(5)]
        await asyncio.gather(*waiting, return_exceptions=True)
        return processes._all

    assert all(each._process.returncode is not None for each in asyncio.run(leave()))
