"""What a request may cost: the time and size of its body, the time we wait for others; and its answer's headers."""

import asyncio
import re
from collections.abc import Coroutine
from functools import cache
from time import perf_counter
from typing import Any, Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime import metrics

T = TypeVar("T")

#: A body has to be here by then (seconds). Shopify's come at once.
BODY_SECONDS: Final = 15.0

#: Bodies of everything but webhooks, which have a limit of their own (bytes).
BODY_BYTES: Final = 1024 * 1024

#: A file of an import, and how long it may take to come (bytes, seconds).
IMPORT_BYTES: Final = 4 * 1024**3
IMPORT_SECONDS: Final = 3600.0

#: Shopify gives up after 5 s; a 503 before that is heard.
WEBHOOK_SECONDS: Final = 4.0

#: What an answer may wait for the database (seconds), and whether a key is valid.
READ_SECONDS: Final = 10.0
KEY_SECONDS: Final = 4.0

_left: set[asyncio.Task[Any]] = set()


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; TimeoutError after so many seconds, however long it takes to give up.

    Whoever is cancelled while waiting for a frozen server may wait for it once more, to say goodbye. Nobody waits
    for that: it ends by itself.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        _leave(task)
        raise
    if done:
        return task.result()
    _leave(task)
    raise TimeoutError("no answer in time")


def _leave(task: "asyncio.Task[Any]") -> None:
    _left.add(task)  # a task that nobody holds may be collected before it has tidied up
    task.add_done_callback(_gone)
    task.cancel()


def _gone(task: "asyncio.Task[Any]") -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # looked at: what became of it no longer matters


class Limits:
    """ASGI middleware: bodies in time and of bounded size, safe headers, and a metric for each answer.

    Who takes the bodies of `apart` sees to them.
    """

    def __init__(self, app: ASGIApp, apart: str, files: re.Pattern[str]) -> None:
        self._app = app
        self._apart = apart
        self._files = files
        self._seconds = cache(metrics.HTTP_SECONDS.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: the request within its limits, or a problem in its place."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == self._apart:
            pass
        elif scope["method"] == "POST" and self._files.fullmatch(scope["path"]):
            receive = _Body(receive, IMPORT_BYTES, IMPORT_SECONDS).receive
        else:
            receive = _Body(receive, BODY_BYTES, BODY_SECONDS).receive
        began, status = perf_counter(), "none"

        async def headed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = f"{message['status'] // 100}xx"
                protect(message["headers"], encrypted=scope["scheme"] == "https")
            await send(message)

        try:
            await self._app(scope, receive, headed)
        except Exception:
            if status == "none":  # answered by whoever stands around all of the app
                status = "5xx"
            raise
        finally:
            route = getattr(scope.get("route"), "path", "none")  # the template: a path may say who somebody is
            self._seconds(scope["method"][:10], route, status).observe(perf_counter() - began)


def protect(headers: list[tuple[bytes, bytes]], *, encrypted: bool) -> None:
    """Adds what an answer does not say itself; names are lowercase, as ASGI has them."""
    said = dict(headers)
    if b"x-content-type-options" not in said:
        headers.append((b"x-content-type-options", b"nosniff"))
    if encrypted and b"strict-transport-security" not in said:
        headers.append((b"strict-transport-security", b"max-age=31536000"))
    if b"json" in said.get(b"content-type", b"") and b"cache-control" not in said:
        headers.append((b"cache-control", b"no-store"))


def late(seconds: float) -> HTTPException:
    """The answer to whoever does not send a body within so many seconds."""
    return HTTPException(408, f"The body was not here after {seconds:.0f} s.", {"Connection": "close"})


class _Body:
    """A request's body, in time and no larger than `most` bytes."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._most = most
        self._until = asyncio.get_running_loop().time() + seconds
        self._seconds = seconds
        self._read = 0
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:  # from here on it only tells of the client's end
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise late(self._seconds) from None
        self._whole = not message.get("more_body", False)
        self._read += len(message.get("body", b""))
        if self._read > self._most:
            raise HTTPException(413, f"At most {self._most} bytes.", {"Connection": "close"})
        return message
