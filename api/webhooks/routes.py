"""`POST /webhooks/shopify`: HTTP around the front door."""

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from time import perf_counter
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from api import export_jobs, imports, limits
from api.context import Services
from api.limits import WEBHOOK_SECONDS
from api.problems import ProblemError, problem_of, response
from api.webhooks import signatures
from runtime import metrics

router = APIRouter(tags=["webhooks"])

PATH = "/webhooks/shopify"

_DESCRIPTION = """
For Shopify's webhooks, and for whoever signs as Shopify does. The topic and the shop are taken from Shopify's headers.

- **200**: durable. Also for a correctly signed body that cannot be used: it becomes a dead letter, because Shopify
  would send it again and in the end unsubscribe. A delivery that comes twice is taken once.
- **401**: the signature is missing or wrong. Two secrets may hold at once, while one is rotated.
- **503**: it could not be made durable; Shopify sends it again.

Bodies go up to 10 MB. Names, addresses, phone numbers and IPs are dropped on the spot; e-mail and consent are sealed.
"""

_HEADERS = [
    ("X-Shopify-Hmac-Sha256", "base64 of HMAC-SHA256 over the raw body, with the app's client secret", True),
    ("X-Shopify-Topic", "for example orders/paid; a dead letter without it", False),
    ("X-Shopify-Shop-Domain", "the shop's *.myshopify.com domain; a dead letter without it", False),
    ("X-Shopify-Webhook-Id", "one delivery; the body's SHA-256 without it", False),
    ("X-Shopify-Triggered-At", "when it happened, RFC 3339; the time of receipt without it", False),
    ("X-Shopify-Event-Id", "one merchant action", False),
    ("X-Shopify-API-Version", "the version of the payload", False),
]

_OPENAPI = {
    "parameters": [
        {"name": name, "in": "header", "required": required, "description": text, "schema": {"type": "string"}}
        for name, text, required in _HEADERS
    ],
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {"description": "What Shopify sends; whatever else is signed becomes a dead letter."},
                "example": {
                    "id": 820982911946154508,
                    "created_at": "2026-11-21T04:30:00-05:00",
                    "updated_at": "2026-11-21T04:30:00-05:00",
                    "processed_at": "2026-11-21T04:30:00-05:00",
                    "financial_status": "paid",
                    "currency": "USD",
                    "current_subtotal_price": "129.90",
                    "customer": {"id": 115310627314723954},
                    "line_items": [],
                    "refunds": [],
                },
            }
        },
    },
}


@router.post(
    PATH,
    summary="Take a signed Shopify webhook",
    description=_DESCRIPTION,
    openapi_extra=_OPENAPI,
    response_class=Response,
    responses={200: {"description": "Durable"}},
)
async def take() -> Response:
    """What the API's documents tell of: whoever posts is answered by the Door, which stands before this.

    Whoever comes here nevertheless has put an end of line behind the path, which the router takes for the same.
    """
    raise HTTPException(404)


#: What makes somebody's files go, too.
_FORGETTING: Final = frozenset({"customers/redact", "shop/redact"})


class Door:
    """ASGI middleware: answers webhooks before anything of FastAPI's is set going, which cost a third of each."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        (self._route,) = router.routes
        self._counted = cache(metrics.WEBHOOKS.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: a webhook, or what the app has to say."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        try:
            topic, outcome = await self._take(_shopifys(scope["headers"]), receive)
            if outcome == "accepted" and topic in _FORGETTING:
                await imports.forget(Request(scope))
                await export_jobs.forget(Request(scope))
        except ClientDisconnect:
            return  # nobody hears it
        except Exception as error:
            if (problem := problem_of(error)).status == 500:
                raise  # logged and answered by whoever stands around all of the app
            await response(problem)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _take(self, headers: dict[str, str], receive: Receive) -> tuple[str, str]:
        """One delivery: signature first, then the front door, whose answer this is."""
        patience = asyncio.timeout(limits.BODY_SECONDS)
        body: signatures.Body | None = None
        try:
            async with patience:
                body = await self._read(receive)
                if not signatures.signed(body, headers.get("x-shopify-hmac-sha256")):
                    self._counted("any", "unsigned").inc()
                    detail = "X-Shopify-Hmac-Sha256 is not this body's signature."
                    raise ProblemError(401, "bad-signature", detail)
                return await self._let_in(headers, body, patience)
        except TimeoutError:
            if body is None:
                raise limits.late(limits.BODY_SECONDS) from None
            raise

    async def _read(self, receive: Receive) -> signatures.Body:
        try:
            return await self._services.bodies.read(_chunks(receive))
        except signatures.BusyError:
            self._counted("any", "unavailable").inc()
            detail = "Too many bodies are being read just now."
            raise ProblemError(503, "busy", detail, {"Retry-After": "5"}) from None
        except signatures.TooLargeError:
            raise ProblemError(413, "too-large", "No webhook is that large.", {"Connection": "close"}) from None

    async def _let_in(
        self, headers: dict[str, str], body: signatures.Body, patience: asyncio.Timeout
    ) -> tuple[str, str]:
        """What the front door says; TimeoutError after WEBHOOK_SECONDS.

        Who forgets somebody has a transaction open, and may wait for the database once more when they are to give up.
        Whoever else waits for others does so for what others do, which goes on without them.
        """
        began = perf_counter()
        taking = self._services.front_door.take(headers, body)
        try:
            if headers.get("x-shopify-topic") in _FORGETTING:
                patience.reschedule(None)
                topic, outcome = await limits.within(WEBHOOK_SECONDS, taking)
            else:
                patience.reschedule(asyncio.get_running_loop().time() + WEBHOOK_SECONDS)
                topic, outcome = await taking
        except BaseException:
            self._counted("any", "unavailable").inc()
            raise
        self._counted(topic, outcome).inc()
        metrics.WEBHOOK_SECONDS.observe(perf_counter() - began)
        return topic, outcome


def _shopifys(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Shopify's headers by their names in lower case, as ASGI has them; of one that comes twice the first counts."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in reversed(headers)
        if name.startswith(b"x-shopify-")
    }


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    """A request's body as it comes; ClientDisconnect if it does not come to its end."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        yield message.get("body", b"")
