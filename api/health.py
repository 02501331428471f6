"""Health and metrics, for orchestrators and Prometheus: no key is asked for, and no shop is named."""

import asyncio
from contextlib import suppress
from typing import Final, Literal

import psycopg
from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from psycopg import sql
from psycopg_pool import PoolTimeout
from pydantic import Field

from api.context import Services, services_of
from api.limits import within
from api.models import Answer
from api.problems import ProblemError
from books import fulfilment
from runtime.metrics import FULFILMENT_SHOPS_STOPPED

router = APIRouter(tags=["health"])

#: Whoever looks after the process asks these, as often as they like.
PATHS: Final = ("/healthz", "/readyz", "/metrics")

_DATABASE_SECONDS = 3.0

#: By the index of each shop's runs; it is asked of the database whether it answers as well.
_STOPPED = sql.SQL("""
SELECT count(*) AS stopped FROM programs AS p CROSS JOIN LATERAL (
    SELECT status FROM batch_runs AS b WHERE b.shop = p.shop ORDER BY as_of DESC, started_at DESC LIMIT 1
) AS newest WHERE status = 'failed'
""")


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Answer):
    """Whether webhooks and questions can be taken now."""

    status: Literal["ready", "not ready"]
    database: bool
    publisher: bool = Field(description="what is taken now would be made durable: Kafka answers, or the raw history")
    stopped: int | None = Field(
        description="shops whose newest batch published nothing, because it failed or a quality gate stopped it"
    )
    secrets: bool = Field(description="a Shopify secret is set; without one every webhook gets 401")


async def _stopped(services: Services) -> int | None:
    """None where the database does not answer."""
    try:
        row = await within(_DATABASE_SECONDS, services.row(_STOPPED, {}))
    except (psycopg.Error, PoolTimeout, TimeoutError):
        return None
    return None if row is None else int(row["stopped"])


async def _publisher(services: Services) -> bool:
    try:
        return await within(_DATABASE_SECONDS, services.publisher.ready())
    except TimeoutError:
        return False


@router.get("/healthz", summary="Whether the process is alive")
async def healthz() -> Health:
    """Says nothing of the database: restarting this process would not mend it."""
    return Health()


@router.get("/readyz", summary="Whether it can work", responses={503: {"model": Readiness}})
async def readyz(request: Request, response: Response) -> Readiness:
    """200 when the database is reachable and the publisher well, else 503."""
    services = services_of(request)
    stopped, publisher = await asyncio.gather(_stopped(services), _publisher(services))
    database = stopped is not None
    ready = database and publisher
    response.status_code = 200 if ready else 503
    return Readiness(
        status="ready" if ready else "not ready",
        database=database,
        publisher=publisher,
        stopped=stopped,
        secrets=bool(services.settings.shopify_secrets),
    )


async def _count_stores(services: Services) -> None:
    """The metric of stores in which no discounts can be made; left as it is where the database does not answer."""
    with suppress(psycopg.Error, PoolTimeout, TimeoutError):
        row = await within(_DATABASE_SECONDS, services.row(sql.SQL(fulfilment.STOPPED), {}))
        FULFILMENT_SHOPS_STOPPED.set(0 if row is None else row["stopped"])


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Everything this process counts. 404 where LOYALNEST_API_METRICS is false."""
    services = services_of(request)
    if not services.settings.api_metrics:
        raise ProblemError(404, "not-found", "Metrics are not shown here.")
    await _count_stores(services)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
