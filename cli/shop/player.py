"""Posting webhooks to a running LoyalNest over HTTP, as Shopify would: signed, some at once, again when refused."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import aiohttp

from cli.shop.deliveries import Outgoing, headers

#: Posts under way at once. Two webhooks of one customer may overtake each other: no order is promised.
CONCURRENCY: Final = 32

_ATTEMPTS: Final = 9
_FIRST_PAUSE: Final = 0.25  # seconds; doubled each time: about a minute in all
_TIMEOUT: Final = 30.0
_REFUSED: Final = 20  # answers that are neither 200 nor worth another try, until it gives up


class PlayError(RuntimeError):
    """Nothing can be posted, or too much was refused; the message says why and what to do."""


class Posted(NamedTuple):
    """What became of the posts: how many were accepted (200), tried again, and refused, by status."""

    accepted: int
    retried: int
    refused: dict[int, int]
    seconds: float


class Player:
    """Posts the webhooks of one shop to `url` (without a path), signed with `secret`."""

    def __init__(self, url: str, shop: str, secret: str) -> None:
        self._address = f"{url.rstrip('/')}/webhooks/shopify"
        self._url = url
        self._shop = shop
        self._secret = secret
        self._accepted = 0
        self._retried = 0
        self._refused: Counter[int] = Counter()

    async def greet(self, patience: float = 0.0) -> None:
        """Until somebody answers; PlayError if nobody does within `patience` seconds."""
        deadline = time.monotonic() + patience
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                try:
                    async with session.get(f"{self._url.rstrip('/')}/healthz"):
                        return
                except (aiohttp.ClientError, TimeoutError, ValueError):
                    if time.monotonic() > deadline:
                        break
                await asyncio.sleep(0.2)
        raise PlayError(f"nothing answers at {self._url}: start LoyalNest with `loyalnest up`")

    async def post(self, deliveries: Iterable[Outgoing], on_progress: Callable[[int], None] = lambda _: None) -> Posted:
        """Post everything; `on_progress` is told how many are done. PlayError if it cannot go on."""
        began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            shared = iter(deliveries)
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(CONCURRENCY):
                        group.create_task(self._work(session, shared, on_progress))
            except* PlayError as errors:
                raise PlayError(str(errors.exceptions[0])) from None
        return Posted(self._accepted, self._retried, dict(self._refused), time.monotonic() - began)

    async def _work(
        self, session: aiohttp.ClientSession, shared: Iterator[Outgoing], on_progress: Callable[[int], None]
    ) -> None:
        for outgoing in shared:
            await self._deliver(session, outgoing)
            on_progress(self._accepted + sum(self._refused.values()))

    async def _deliver(self, session: aiohttp.ClientSession, outgoing: Outgoing) -> None:
        body = outgoing.body()
        sent = headers(outgoing, self._shop, self._secret, body)
        pause = _FIRST_PAUSE
        for attempt in range(1, _ATTEMPTS + 1):
            status = await self._try(session, body, sent)
            if status == 200:
                self._accepted += 1
                return
            if status is not None and status != 429 and status < 500:
                self._refuse(status)
                return
            if attempt < _ATTEMPTS:
                self._retried += 1
                await asyncio.sleep(pause)
                pause *= 2
        answered = f"answers {status}" if status is not None else "does not answer"
        raise PlayError(f"{self._url} {answered} for a minute: see its logs")

    async def _try(self, session: aiohttp.ClientSession, body: bytes, sent: dict[str, str]) -> int | None:
        try:
            async with session.post(self._address, data=body, headers=sent) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    def _refuse(self, status: int) -> None:
        if status == 401:
            raise PlayError(f"{self._url} does not accept the signature: give its webhook secret with --secret")
        self._refused[status] += 1
        if sum(self._refused.values()) > _REFUSED:
            raise PlayError(f"{self._url} refuses webhooks with status {status}: is it LoyalNest's API?")
