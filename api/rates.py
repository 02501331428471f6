"""How often may be asked: so many requests a minute of one address, and of one API key or session.

Kept in memory, by each process for itself: with n processes somebody may ask up to n times as often. What is kept is
one number for each who asked lately, the last `MOST` of them: memory is bounded whoever asks.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection
from ipaddress import ip_address, ip_network
from time import monotonic_ns
from typing import Final, NamedTuple

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import ProblemError
from books.api_keys import Granted
from runtime import metrics

#: A quota is of so many seconds.
WINDOW: Final = 60

#: Those of whom it is known how often they asked. Who is pushed out by others has their whole quota again.
MOST: Final = 10_000

_SECOND: Final = 1_000_000_000


class Taken(NamedTuple):
    """What came of one request. `left`: requests that may follow at once; `seconds`: until the whole quota may again.

    Refused: until the next may, and nothing was taken.
    """

    allowed: bool
    left: int
    seconds: int


class Quota:
    """`requests` in WINDOW seconds for each who asks: at once, and then as they come back, one by one (GCRA)."""

    def __init__(self, name: str, requests: int, most: int = MOST) -> None:
        self.name = name
        self.requests = requests
        self._most = most
        self._whole = WINDOW * _SECOND
        self._one = self._whole // requests
        #: When each will have their whole quota again (nanoseconds), who asked last at the end.
        self._whole_at: OrderedDict[str, int] = OrderedDict()

    def take(self, who: str, now: int) -> Taken:
        """One request at `now`, in nanoseconds of a clock that never goes back."""
        whole_at = max(self._whole_at.get(who, now), now)
        over = whole_at + self._one - now - self._whole
        if over > 0:
            return Taken(False, 0, _seconds(over))
        self._whole_at[who] = whole_at = whole_at + self._one
        self._whole_at.move_to_end(who)
        if len(self._whole_at) > self._most:
            self._whole_at.popitem(last=False)
        return Taken(True, (self._whole - (whole_at - now)) // self._one, _seconds(whole_at - now))


def _seconds(nanoseconds: int) -> int:
    return -(-nanoseconds // _SECOND)


class Asked:
    """What one request took of its quotas, for the header fields of draft-ietf-httpapi-ratelimit-headers-11."""

    def __init__(self) -> None:
        self._taken: list[tuple[Quota, Taken]] = []

    def take(self, quota: Quota | None, who: str) -> None:
        """A problem (429) if they have asked too often; nothing where there is no quota."""
        if quota is None:
            return
        taken = quota.take(who, monotonic_ns())
        self._taken.append((quota, taken))
        if not taken.allowed:
            metrics.RATE_LIMITED.labels(quota.name).inc()
            detail = (
                f"More than {quota.requests} requests a minute of one {quota.name}: ask again in {taken.seconds} s."
            )
            raise ProblemError(429, "too-many-requests", detail, {"Retry-After": str(taken.seconds)})

    def tell(self, headers: MutableHeaders) -> None:
        """Puts the fields there, of each quota that counted."""
        for quota, (_, left, seconds) in self._taken:
            headers.append("RateLimit-Policy", f'"{quota.name}";q={quota.requests};w={WINDOW}')
            headers.append("RateLimit", f'"{quota.name}";r={left};t={seconds}')


class Rates:
    """ASGI middleware: counts each request to its address, and tells in each answer what is left.

    `free` and what begins with `free_folder` count nowhere. `answer` makes a response of a problem.
    """

    def __init__(
        self,
        app: ASGIApp,
        quota: Quota | None,
        free: Collection[str],
        free_folder: str,
        answer: Callable[[Request, ProblemError], Response],
    ) -> None:
        self._app = app
        self._quota = quota
        self._free = frozenset(free)
        self._free_folder = free_folder
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: the request, or a problem in its place."""
        if scope["type"] != "http" or scope["path"] in self._free or scope["path"].startswith(self._free_folder):
            await self._app(scope, receive, send)
            return
        asked = scope.setdefault("state", {})["asked"] = Asked()

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                asked.tell(MutableHeaders(raw=message["headers"]))
            await send(message)

        try:
            if scope.get("client"):  # none: by a socket of this machine
                asked.take(self._quota, address(scope["client"][0]))
        except ProblemError as problem:
            await self._answer(Request(scope), problem)(scope, receive, headed)
            return
        await self._app(scope, receive, headed)


def address(host: str) -> str:
    """Whose requests count together: an IPv4 address, or the network of 64 bits that an IPv6 customer is given."""
    if ":" not in host:
        return host
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or ip_network((found, 64), strict=False))


def count(request: Request, quota: Quota | None, granted: Granted) -> None:
    """Counts a request to its key, its session, or whoever Shopify says is there. A problem (429) if it is too many."""
    asked: Asked = request.state.asked
    asked.take(quota, f"{granted.way} {granted.id} {granted.shops[0]}")
