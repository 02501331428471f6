"""One message to one endpoint: signed as Standard Webhooks has it, and sent to a public address alone.

The address is looked at where the socket to it is made, after a name has been resolved: no name can first say one
address and then another.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import aiohttp
from standardwebhooks import Webhook

from runtime import waits
from runtime.addresses import REFUSED, public_socket

#: A whole attempt, and in it the connection (seconds).
SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0

#: So much of an answer's body is read, that its connection may serve again (bytes). Nobody is shown it.
_BODY: Final = 16 * 1024

#: Who answers so may say when to come again.
_BUSY: Final = frozenset({429, 503})


class Outcome(NamedTuple):
    """What came of an attempt: the answer's `code`, and `error`: None when the message was taken, else a word.

    `after`: for how long the receiver wants to be left alone.
    """

    code: int | None
    error: str | None
    after: timedelta | None = None


class Sender:
    """Sends, with connections kept open. `private`: to any address. Within a loop; `close` it."""

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
            auto_decompress=False,
            headers={"User-Agent": "LoyalNest", "Content-Type": "application/json"},
        )

    async def close(self) -> None:
        """Ends its connections."""
        await self._session.close()

    async def send(self, url: str, secret: bytes, message: UUID, body: str, now: datetime) -> Outcome:
        """One attempt, signed as of `now`. Any answer but 2xx is a failure, a redirect too: it is not followed."""
        headers = {
            "webhook-id": str(message),
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(str(message), now.astimezone(UTC), body),
        }
        try:
            async with self._session.post(url, data=body.encode(), headers=headers, allow_redirects=False) as answer:
                await answer.content.read(_BODY)
                code, again = answer.status, answer.headers.get("Retry-After", "")
        except TimeoutError:
            return Outcome(None, "timeout")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(None, "refused_address" if REFUSED in str(error) else _word(error))
        if 200 <= code < 300:
            return Outcome(code, None)
        after = waits.asked_for(again, now) if code in _BUSY else None
        return Outcome(code, "redirect" if 300 <= code < 400 else "status", after)


def _word(error: Exception) -> str:
    """Without the error's own words: they may hold what a server of ours has said."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "unknown_host"
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "unreachable"
    return "broken_off"
