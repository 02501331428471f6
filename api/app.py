"""The app: every route of section 6 of the design, over one pool, one vault and one publisher."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline

from api import (
    account,
    adjustments,
    batches,
    cohorts,
    customers,
    dead_letters,
    docs_page,
    export_jobs,
    exports,
    health,
    imports,
    lag,
    movement,
    notices,
    points,
    problems,
    products,
    program,
    redemptions,
    rewards,
    segments,
)
from api.context import Services
from api.dashboard import site
from api.limits import READ_SECONDS, Limits
from api.live import routes as live
from api.rates import Quota, Rates
from api.webhooks import routes as webhooks
from books.master_keys import master_keys
from books.opening import Openers
from books.vault import Vault
from runtime import database
from runtime.ports import Publisher
from runtime.settings import Settings

VERSION = "1.0.0"

_TITLE: Final = "LoyalNest"

#: Connections of one process. An order's webhook takes one for as long as it reads its customer's key.
_POOL = 10

_DESCRIPTION = """
Live loyalty points and RFM segments of a Shopify store, with their whole history.

- **Merchants**: [segments](#tag/segments), their sizes and movement, and why a [customer](#tag/customers) is where
  they are; `/live` tells of changes as they happen.
- **Marketers**: a segment as CSV under [exports](#tag/exports), with consent beside each address, as of now or of any
  past instant.
- **Integrators**: signed [webhooks](#tag/webhooks) in; the same data leaves on Kafka topics.

Send an API key of the shop: `Authorization: Bearer ln_...` (made by `loyalnest keys create`). Ids are strings, because
Shopify's exceed 2^53; amounts are decimal strings in the shop's currency; times are RFC 3339 in UTC. Errors are problem
details (RFC 9457). Lists go on with `cursor`: give back what `next` held.

Whoever asks too often gets 429 with `Retry-After`. Answers say what is left of a minute's requests, of your address
and of your key, in `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
"""

_TAGS = [
    {"name": "segments", "description": "For merchants: how large, how valuable, and who moved."},
    {"name": "customers", "description": "For merchants: one customer's standing, why, and its history."},
    {"name": "products", "description": "For merchants: what sells, to whom, and who comes back for it."},
    {
        "name": "points",
        "description": "For merchants: the account, the ledger, points by minute, hour and day; and adjustments.",
    },
    {
        "name": "redemptions",
        "description": "For a shop's own pages and tills: rewards asked for, cancelled, and their codes handed out.",
    },
    {"name": "exports", "description": "For marketers: segments as CSV."},
    {"name": "program", "description": "For whoever runs the program: rules, look-back, grid, zone, rewards."},
    {"name": "imports", "description": "For whoever brings a store's past in: files, and how far they are."},
    {"name": "batches", "description": "For whoever watches over a shop: runs, their gates, and a report of each."},
    {
        "name": "dead letters",
        "description": "For whoever watches over a shop: what could not be used, and sending it again.",
    },
    {"name": "live", "description": "For dashboards: changes as they happen."},
    {"name": "webhooks", "description": "For integrators: the way in."},
    {"name": "notices", "description": "For integrators: be told of what happens, by signed webhooks."},
    {"name": "health", "description": "For operators: is it there, and does it keep up?"},
]

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": problems.ProblemModel, "description": "a cursor, a body or a header that cannot be read"},
    401: {"model": problems.ProblemModel, "description": "no valid API key"},
    403: {"model": problems.ProblemModel, "description": "the API key lacks the scope"},
    404: {"model": problems.ProblemModel, "description": "not there, or not this key's"},
    408: {"model": problems.ProblemModel, "description": "the body did not come in time"},
    413: {"model": problems.ProblemModel, "description": "the body is too large"},
    422: {"model": problems.ProblemModel, "description": "a parameter is wrong"},
    429: {
        "model": problems.ProblemModel,
        "description": "asked too often, by this key or from this address",
        "headers": {
            "Retry-After": {"description": "seconds until one more request is taken", "schema": {"type": "string"}},
            "RateLimit": {"description": '`"key";r=0;t=2`: requests left, seconds', "schema": {"type": "string"}},
            "RateLimit-Policy": {
                "description": '`"key";q=3000;w=60`: requests in seconds',
                "schema": {"type": "string"},
            },
        },
    },
    503: {"model": problems.ProblemModel, "description": "not possible just now: try again"},
}
_WEBHOOK_ERRORS: dict[int | str, dict[str, Any]] = {status: _ERRORS[status] for status in (400, 401, 408, 413, 503)}


def _routes() -> APIRouter:
    found = APIRouter()
    found.include_router(webhooks.router, responses=_WEBHOOK_ERRORS)
    results = (segments, movement, cohorts, customers, products, points, account, adjustments, redemptions)
    for module in (
        *results,
        exports,
        export_jobs,
        program,
        rewards,
        imports,
        batches,
        dead_letters,
        lag,
        live,
        notices,
    ):
        found.include_router(module.router, responses=_ERRORS)
    found.include_router(health.router)
    found.include_router(site.router)
    return found


#: The routes of every app in this process. To make one ready for its first request takes FastAPI milliseconds.
_ROUTES: Final = _routes()


@cache
def _openapi() -> dict[str, Any]:
    """FastAPI's schema, with errors under the media type that they are sent with."""
    schema = get_openapi(title=_TITLE, version=VERSION, description=_DESCRIPTION, routes=_ROUTES.routes, tags=_TAGS)
    model = {"schema": {"$ref": "#/components/schemas/ProblemModel"}}
    for path in schema["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                if answer.get("content", {}).get("application/json") == model:
                    answer["content"] = {problems.MEDIA_TYPE: model}
    return schema


def create_app(settings: Settings, publisher: Publisher) -> FastAPI:
    """The API. Publishes webhooks and programs through `publisher`, and closes it (`close`) at the end.

    ValueError (or VaultError) for settings it cannot work with: no database, no master key.
    """
    pool = database.pool(settings.database_url(), "loyalnest-api", size=_POOL, statement_seconds=READ_SECONDS)
    masters = master_keys(settings)
    openers = Openers(masters)
    services = Services(settings, publisher, pool, Vault(masters, pool, openers=openers))
    services.importer = imports.Importer(services)
    services.exporter = export_jobs.Exporter(services)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await pool.open()  # without waiting: /readyz tells when the database is there
        services.live.start()
        services.importer.start()
        services.exporter.start()
        try:
            yield
        finally:
            await services.importer.stop()
            await services.exporter.stop()
            await services.live.stop()
            services.past.close()
            openers.close()
            await pool.close()
            await publisher.close()  # here, because its connections belong to this loop

    about: dict[str, Any] = {"title": _TITLE, "version": VERSION, "description": _DESCRIPTION, "redoc_url": None}
    # What goes on in a request may say who somebody is; and each request would look whether somebody listens.
    about["telemetry"] = {"tracing": False, "metrics": False, "logs": False}
    if settings.api_docs:
        app = FastAPIOffline(lifespan=lifespan, docs_url=None, routes=_ROUTES.routes, **about)
        docs_page.install(app)
    else:
        app = FastAPI(lifespan=lifespan, docs_url=None, openapi_url=None, routes=_ROUTES.routes, **about)
    app.add_middleware(
        Rates,
        quota=Quota("address", settings.api_address_rate) if settings.api_address_rate else None,
        free={webhooks.PATH, *health.PATHS},
        free_folder=f"{site.STATIC}/",
        answer=lambda request, problem: site.problem(request, problem) or problems.response(problem),
    )
    app.add_middleware(webhooks.Door, services=services)
    app.add_middleware(Limits, apart=webhooks.PATH, files=imports.PATH)
    app.state.services = services
    problems.install(app, site.problem)
    site.install(app)
    app.openapi = _openapi  # type: ignore[method-assign]
    return app
