"""Errors as RFC 9457 problem details: one shape for every error, `application/problem+json`."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import compile_path

from api.limits import protect
from lake.errors import BehindError
from runtime.ports import PublishError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """An error to be answered as it stands. `code` is stable, for programs; `detail` is for people."""

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers
        self.more = more


class ProblemModel(BaseModel):
    """Problem details (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:loyalnest:problem:no-batch-run",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "No batch has run for this shop as of 2026-11-20T00:00:00Z or before.",
                }
            ]
        }
    )

    type: str = Field(description="a stable name of the kind of problem")
    title: str = Field(description="the HTTP status in words")
    status: int
    detail: str = Field(description="what went wrong and what to do about it")
    errors: list[dict[str, str]] | None = Field(
        default=None, description="for 422: each wrong field (`location`) and what is wrong (`message`)"
    )


def response(problem: ProblemError) -> Response:
    """The problem as an HTTP response."""
    content = {
        "type": f"urn:loyalnest:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **problem.more,
    }
    return JSONResponse(content, problem.status, problem.headers, MEDIA_TYPE)


def _validation(error: RequestValidationError) -> ProblemError:
    # Without the values: they may be personal, and a log may keep the answer.
    errors = [{"location": ".".join(map(str, each["loc"])), "message": str(each["msg"])} for each in error.errors()]
    detail = "; ".join(f"{each['location']}: {each['message']}" for each in errors[:3])
    return ProblemError(422, "invalid", detail, errors=errors)


def problem_of(error: Exception) -> ProblemError:
    """What an error is to be answered with."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, RequestValidationError):
        return _validation(error)
    if isinstance(error, HTTPException):
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        return ProblemError(error.status_code, code, str(error.detail), error.headers)
    if isinstance(error, psycopg.OperationalError | PoolTimeout):
        log.error("the database cannot be reached: %s", type(error).__name__)
        return ProblemError(503, "no-database", "The database cannot be reached just now.", {"Retry-After": "5"})
    if isinstance(error, TimeoutError):
        log.error("the database or Kafka does not answer in time")
        return ProblemError(503, "no-answer", "What it needs does not answer just now.", {"Retry-After": "5"})
    if isinstance(error, BehindError):
        detail = f"This cannot be told just now: {error}."
        return ProblemError(503, "lake-behind", detail, {"Retry-After": "60"})
    if isinstance(error, PublishError):
        log.error("could not publish: %s", error)
        return ProblemError(503, "not-durable", "It could not be made durable just now.", {"Retry-After": "5"})
    return ProblemError(500, "unexpected", "Something unexpected went wrong; it has been logged.")


def _methods(app: FastAPI, path: str) -> list[str]:
    """All methods that a path takes: the router names those of the first route alone. A path that has a name of its own
    (`customers/find`) is not also one with an id in that place."""
    operations = app.openapi()["paths"].items()
    matching = [(template.count("{"), each) for template, each in operations if compile_path(template)[0].match(path)]
    fewest = min((parameters for parameters, _ in matching), default=0)
    return sorted(method.upper() for parameters, each in matching if parameters == fewest for method in each)


def install(app: FastAPI, page: Callable[[Request, ProblemError], Response | None]) -> None:
    """Has every error of the app answered as a problem, or as what `page` makes of it for somebody at a page."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem.status == 405 and (methods := _methods(app, request.url.path)):
            problem.headers = {"Allow": ", ".join(methods)}
        shown = page(request, problem) or response(problem)
        if problem.status == 500:  # given around the limits, which see to all others
            protect(shown.raw_headers, encrypted=request.url.scheme == "https")
        return shown

    for kind in (
        ProblemError,
        RequestValidationError,
        HTTPException,
        psycopg.OperationalError,
        PoolTimeout,
        TimeoutError,
        BehindError,
        PublishError,
        Exception,
    ):
        app.add_exception_handler(kind, answer)
