"""What many ask for at once: everybody has their answer, whoever gives up and whatever goes wrong beside it."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from runtime.rounds import Rounds


class Pool:
    """A pool of one connection, which cannot be given back when `giving` raises."""

    def __init__(self, giving: Callable[[], Awaitable[object]] | None = None) -> None:
        self._giving = giving

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[None]:
        yield None
        if self._giving is not None:
            await self._giving()


def test_who_asks_while_a_connection_cannot_be_given_back_is_answered() -> None:
    async def read(_connection: Any, names: Collection[str]) -> dict[str, str]:
        return {name: name.upper() for name in names}

    async def whole() -> None:
        async def giving() -> None:
            if not coming.done():
                coming.set_result(asyncio.create_task(rounds.ask(["b"])))
                await asyncio.sleep(0)
                raise OSError("away")

        coming: asyncio.Future[asyncio.Task[Any]] = asyncio.get_running_loop().create_future()
        rounds = Rounds[str, str](cast(Any, Pool(giving)), read)
        assert await rounds.ask(["a"]) == {"a": "A"}
        assert await asyncio.wait_for(await coming, 10) == {"b": "B"}
        assert await asyncio.wait_for(rounds.ask(["c"]), 10) == {"c": "C"}

    asyncio.run(whole())


def test_what_went_wrong_when_all_had_given_up_is_nobodys() -> None:
    told: list[dict[str, Any]] = []

    async def whole() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        frozen = asyncio.Event()

        async def read(_connection: Any, _names: Collection[str]) -> dict[str, str]:
            await frozen.wait()
            raise OSError("away")

        rounds = Rounds[str, str](cast(Any, Pool()), read)
        asking = asyncio.create_task(rounds.ask(["a"]))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        frozen.set()
        with pytest.raises(OSError, match="away"):
            await rounds.ask(["b"])

    asyncio.run(whole())
    gc.collect()
    assert told == []
