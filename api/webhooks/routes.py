"""`POST /webhooks/shopify`: HTTP around the front door."""

import logging
from time import perf_counter

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from api import export_jobs, imports
from api.context import services_of
from api.limits import WEBHOOK_SECONDS, within
from api.problems import ProblemError
from api.webhooks import signatures
from runtime import metrics

log = logging.getLogger(__name__)
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
async def take(request: Request) -> Response:
    """One delivery: signature first, then the front door."""
    services = services_of(request)
    try:
        body = await services.bodies.read(request.stream())
    except ClientDisconnect:
        return Response(status_code=400)  # nobody hears it
    except signatures.BusyError:
        metrics.WEBHOOKS.labels("any", "unavailable").inc()
        raise ProblemError(503, "busy", "Too many bodies are being read just now.", {"Retry-After": "5"}) from None
    except signatures.TooLargeError:
        raise ProblemError(413, "too-large", "No webhook is that large.", {"Connection": "close"}) from None
    if not signatures.signed(body, request.headers.get("x-shopify-hmac-sha256")):
        metrics.WEBHOOKS.labels("any", "unsigned").inc()
        raise ProblemError(401, "bad-signature", "X-Shopify-Hmac-Sha256 is not this body's signature.")
    began = perf_counter()
    try:
        topic, outcome = await within(WEBHOOK_SECONDS, services.front_door.take(request.headers, body))
    except Exception:
        metrics.WEBHOOKS.labels("any", "unavailable").inc()
        raise
    if outcome == "accepted" and topic in ("customers/redact", "shop/redact"):
        await imports.forget(request)
        await export_jobs.forget(request)
    metrics.WEBHOOKS.labels(topic, outcome).inc()
    metrics.WEBHOOK_SECONDS.observe(perf_counter() - began)
    return Response()
