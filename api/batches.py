"""Batch runs: what came of each, and its quality gates."""

import base64
from hashlib import sha256
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Response
from psycopg import sql
from pydantic import Field

from api.context import ReadAccess, Row
from api.models import Answer, Time
from api.problems import ProblemError
from books import quality

router = APIRouter(prefix="/v1/shops/{shop}/batches", tags=["batches"])

_RUNS = sql.SQL(quality.RUNS.replace("%s", "%(shop)s", 1).replace("%s", "%(limit)s"))
_RUN = sql.SQL(quality.RUN.replace("%s", "%(shop)s", 1).replace("%s", "%(id)s"))

#: The page's own style, and nothing else of anybody's.
_POLICY: Final = (
    "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(sha256(quality.STYLE.encode()).digest()).decode()
    + "'"
)


class GateModel(Answer):
    """What must hold before a run publishes: the value lies within [low, high]."""

    name: str = Field(examples=["revenue"])
    says: str
    value: float | None
    low: float | None = Field(description="null: no bound")
    high: float | None = Field(description="null: no bound")
    passed: bool | None = Field(description="null: it was not asked")
    why: str | None = Field(description="why it was not asked")


class BatchRun(Answer):
    """A batch run. Numbers are null where it did not come so far."""

    id: UUID
    as_of: Time
    status: Literal["running", "done", "failed"]
    published: bool
    version: str | None = Field(description="of its cut points")
    attempt: int = Field(description="the how many-th try it was")
    customers: int | None
    scored: int | None = Field(description="customers who are not Prospects")
    rescored: int | None = Field(description="requests to rescore")
    rounds: int | None
    differ: int | None = Field(description="customers who were not as the history says in the end")
    webhooks: int | None
    seconds: float | None
    detail: str | None = Field(description="what was not as it should be")
    started_at: Time
    finished_at: Time | None
    gates: list[GateModel]

    @classmethod
    def of(cls, row: Row) -> "BatchRun":
        """From its row."""
        gates = (row["quality"] or {}).get("gates", ())
        return cls(**{name: row[name] for name in cls.model_fields if name != "gates"}, gates=gates)


class BatchRuns(Answer):
    """A shop's newest runs, the newest first."""

    shop: str
    runs: list[BatchRun]


@router.get("", summary="The newest batch runs, and what their quality gates said")
async def batch_runs(
    caller: ReadAccess, limit: Annotated[int, Query(ge=1, le=100, description="runs at most")] = 20
) -> BatchRuns:
    """What a gate measured and wanted stands beside its verdict. A run that a gate stopped has published nothing."""
    await caller.program()
    rows = await caller.services.rows(_RUNS, {"shop": caller.shop, "limit": limit})
    return BatchRuns(shop=caller.shop, runs=[BatchRun.of(row) for row in rows])


@router.get(
    "/{run}/report",
    summary="A run's quality as a page",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def report(caller: ReadAccess, run: Annotated[UUID, Path(description="a run's id")]) -> Response:
    """HTML that loads nothing from elsewhere."""
    row: dict[str, Any] | None = await caller.services.row(_RUN, {"shop": caller.shop, "id": run})
    if row is None:
        raise ProblemError(404, "not-found", "There is no such run of this shop.")
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(quality.html(caller.shop, row), media_type="text/html; charset=utf-8", headers=headers)
