"""One question to a store's Admin API: sent, and its answer told apart. To public addresses alone, by https."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import aiohttp

from events import codec
from events.errors import BadEvent
from fulfilment.discounts import Call
from runtime import waits
from runtime.addresses import REFUSED, public_socket

#: A whole question, and in it the connection (seconds).
SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 5.0

#: No answer to what we ask is longer (bytes).
_BODY: Final = 1024 * 1024

#: Who is busy and says not for how long is left alone for so long.
_BUSY: Final = timedelta(seconds=2)

#: The store does not let us in: the token is none or not any more, or the store is frozen, gone or locked.
_SHUT: Final = frozenset({401, 402, 403, 404, 423})

#: By what GraphQL calls an error, what it is to us. Anything else may pass.
_ERRORS: Final[dict[str, "Kind"]] = {
    "THROTTLED": "busy",
    "ACCESS_DENIED": "denied",
    "INVALID_VARIABLE": "invalid",
    "SHOP_INACTIVE": "shut",
}

#: busy: ask again later. shut: nobody is let in. denied: we may not do this. invalid: it is wrong. failed: it may pass.
Kind = Literal["busy", "shut", "denied", "invalid", "failed"]


class Trouble(NamedTuple):
    """What was wrong, in a word of ours: a store's own words may hold anything. `after`: of a busy store."""

    kind: Kind
    error: str
    after: timedelta = timedelta()


class Answer(NamedTuple):
    """`data` of an answer that has some and no error, else `trouble`; and how long the next question should wait."""

    data: dict[str, Any]
    trouble: Trouble | None
    pause: timedelta = timedelta()


class Admin:
    """Asks stores, with connections kept open. `private`: at any address. Within a loop; `close` it."""

    def __init__(self, *, private: bool, connections: int) -> None:
        connector = aiohttp.TCPConnector(
            limit=connections,
            limit_per_host=0,
            use_dns_cache=False,
            socket_factory=None if private else public_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=SECONDS, connect=CONNECT_SECONDS),
            headers={"User-Agent": "LoyalNest", "Content-Type": "application/json"},
        )

    async def close(self) -> None:
        """Ends its connections."""
        await self._session.close()

    async def ask(self, endpoint: str, token: str, call: Call) -> Answer:
        """One question. Whatever was not answered as it should be is trouble, and may have been done all the same."""
        body = codec.dumps({"query": call.document, "variables": call.variables})
        headers = {"X-Shopify-Access-Token": token}
        try:
            async with self._session.post(endpoint, data=body, headers=headers, allow_redirects=False) as answer:
                status, again = answer.status, answer.headers.get("Retry-After", "")
                said = await answer.content.read(_BODY) if status == 200 else b""
                while status == 200 and not answer.content.at_eof() and len(said) < _BODY:
                    said += await answer.content.read(_BODY - len(said))
        except TimeoutError:
            return Answer({}, Trouble("failed", "timeout"))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer({}, Trouble("failed", "refused_address" if REFUSED in str(error) else "unreachable"))
        if status == 429:
            return Answer({}, Trouble("busy", "status 429", _asked_for(again)))
        if status != 200:
            return Answer({}, Trouble("shut" if status in _SHUT else "failed", f"status {status}"))
        return read(said)


def _asked_for(again: str) -> timedelta:
    """Shopify says it in seconds, with a decimal point."""
    whole = again.strip().removesuffix(".0")
    return waits.asked_for(whole, datetime.now(UTC)) or _BUSY


def read(body: bytes) -> Answer:
    """What the body of a 200 says."""
    try:
        told = codec.loads(body)
    except BadEvent:
        return Answer({}, Trouble("failed", "unreadable"))
    if not isinstance(told, dict):
        return Answer({}, Trouble("failed", "unreadable"))
    pause = _pause(told)
    errors = told.get("errors")
    if errors:
        code = _code(errors)
        kind = _ERRORS.get(code, "failed")
        return Answer({}, Trouble(kind, code.lower(), max(pause, _BUSY) if kind == "busy" else timedelta()), pause)
    data = told.get("data")
    if not isinstance(data, dict):
        return Answer({}, Trouble("failed", "unreadable"), pause)
    return Answer(data, None, pause)


def _code(errors: Any) -> str:
    """What the first error that we know is called."""
    found = []
    for each in errors if isinstance(errors, list) else []:
        extensions = each.get("extensions") if isinstance(each, dict) else None
        code = extensions.get("code") if isinstance(extensions, dict) else None
        if isinstance(code, str) and len(code) < 50 and code.isascii() and code.replace("_", "").isalnum():
            found.append(code)
    return next((each for each in found if each in _ERRORS), found[0] if found else "error")


def _pause(told: dict[str, Any]) -> timedelta:
    """For how long the next question, as dear as this one, has to wait for the store's points to come back."""
    try:
        cost = told["extensions"]["cost"]
        asked, left = cost["requestedQueryCost"], cost["throttleStatus"]
        missing = float(asked) - float(left["currentlyAvailable"])
        seconds = missing / max(float(left["restoreRate"]), 1.0)
    except (KeyError, TypeError, ValueError):
        return timedelta()
    return timedelta(seconds=min(seconds, 60)) if seconds > 0 and math.isfinite(seconds) else timedelta()
