"""`/v1/shops/{shop}/exports`: exports that are made aside, and the list of all.

A job is a row of the book (books/exports.py). One task of each process makes them, one after the other, into the data
folder, and what a crash broke off is begun again. A file goes after a week, and when somebody of its shop is redacted:
whoever does that lets it go in the book, in the same transaction; here the book is looked at all the time, and what was
let go is removed.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path as File
from typing import Annotated, Any, Final
from uuid import UUID

import psycopg
from fastapi import APIRouter, Path, Request
from fastapi.responses import FileResponse, StreamingResponse
from psycopg_pool import PoolTimeout
from pydantic import Field, ValidationError
from starlette.types import Receive, Scope, Send

from api.context import AdminAccess, Caller, ExportAccess, Services, services_of
from api.export_queries import Asker, asker_of, of, prepared
from api.export_streams import Tally, written
from api.exports import MEDIA_TYPE, headers
from api.live.hub import CHANNEL
from api.models import Answer, Time
from api.problems import ProblemError, ProblemModel
from api.questions import Question
from books import exports as book
from events import instants
from runtime import database

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/shops/{shop}/exports", tags=["exports"])

FOLDER: Final = "exports"

#: The name of a job's file, and of one that is being made.
_FILE: Final = re.compile(r"(?P<ident>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(?P<began>[0-9]{1,20})\.(csv|part)")

#: Jobs of one shop that may wait or run at once.
WAITING: Final = 10

#: Seconds between two looks for what others have asked for, and for what nobody may use or makes any more.
LOOK: Final = 2.0

#: Seconds until what a database that is away has broken off is tried again, and between two notes of how far one is.
AGAIN: Final = 5.0
NOTE: Final = 0.5


class ExportModel(Answer):
    """One export: what was asked, and what came of it."""

    id: UUID
    asked_by: str = Field(description="the id of an API key or a session; `shell`: `loyalnest export` without a key")
    way: str = Field(description="stream, job or shell", examples=["job"])
    asked_at: Time
    question: dict[str, Any] = Field(description="what was asked for", examples=[{"segment": ["Loyal"]}])
    addresses: bool = Field(description="whether it takes the scope `pii` to see the file")
    status: str = Field(description="waiting, running, done, failed or broken off", examples=["running"])
    detail: str | None = Field(description="why it failed, or why its file is gone")
    customers: int | None = Field(description="to go through; null until they are counted")
    done: int = Field(description="of them gone through")
    rows: int = Field(description="in the file: in a list of people fewer than were gone through")
    bytes: int
    started_at: Time | None
    finished_at: Time | None
    kept_until: Time | None = Field(description="until then the file can be had; null: not, or not yet")

    @classmethod
    def of(cls, found: book.Export) -> "ExportModel":
        """An export as the book has it."""
        kept = {name: getattr(found, name) for name in cls.model_fields if name != "addresses"}
        return cls(**kept, addresses="pii" in found.scopes)


class ExportsModel(Answer):
    """A shop's exports, the newest first."""

    exports: list[ExportModel]


# --- the task ----------------------------------------------------------------------------------------------------


class _LostError(RuntimeError):
    """A job is not ours any more: somebody was redacted, and it is to be made anew."""


class Exporter:
    """Makes the files that were asked for, one after the other. `start` and `stop` it with the app."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.folder = services.settings.data / FOLDER
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins with what an end without warning has left. Within the app's loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """What is under way is begun anew at the next start, by whoever starts first."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def put(self) -> None:
        """Something was asked for."""
        self._asked.set()

    def path(self, job: book.Export) -> File:
        """Where a job's file is kept (_FILE). Each time it is begun it is another: two may make it, if one was lost."""
        assert job.started_at is not None
        return self.folder / f"{job.id}.{instants.from_datetime(job.started_at)}.csv"

    async def _run(self) -> None:
        sweeping = asyncio.create_task(self._sweep())
        try:
            while True:
                self._asked.clear()
                try:
                    while await self._one():
                        pass
                except (psycopg.Error, PoolTimeout, OSError) as error:
                    log.warning("exports wait: %s", database.first_line(error))
                    await asyncio.sleep(AGAIN)
                except Exception:
                    log.exception("an export failed")
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        await self._asked.wait()
        finally:
            sweeping.cancel()

    async def _sweep(self) -> None:
        while True:
            try:
                await self.sweep()
            except (psycopg.Error, PoolTimeout, OSError) as error:
                log.warning("files of exports that are over may still be there: %s", database.first_line(error))
            except Exception:
                # Not the end of it: files of whoever is redacted later would stay for ever.
                log.exception("files of exports that are over may still be there")
            await asyncio.sleep(LOOK)

    async def sweep(self) -> None:
        """Removes the files that nobody may use any more, and frees what nobody makes any more."""
        async with self._services.pool.connection() as connection:
            await book.sweep(connection)
            for path in [*self.folder.glob("*.csv"), *self.folder.glob("*.part")]:
                if (named := _FILE.fullmatch(path.name)) is None:  # somebody's own: none of the book's
                    continue
                async with connection.transaction():
                    kept = await book.kept_of(connection, UUID(named["ident"]))
                    if kept is None or instants.from_datetime(kept) != int(named["began"]):
                        path.unlink(missing_ok=True)

    async def _one(self) -> bool:
        """Makes the file that waits longest; False where none does."""
        async with self._services.pool.connection() as connection:
            if not await book.any_waits(connection):
                return False
        url = self._services.settings.database_url()
        connection = await database.connect_async(url, "loyalnest export job", autocommit=True)
        async with connection:
            job = await book.claim(connection)
            if job is None:
                return False
            await book.tell(connection, job, CHANNEL)
            part = self.path(job).with_suffix(".part")
            try:
                await self._make(connection, job, part)
            except _LostError:
                log.info("export %s is made anew: somebody was redacted meanwhile", job.id)
            except ProblemError as problem:
                await self._end(connection, job, problem.status, problem.detail)
            except ValidationError:  # of another version of the house
                await book.end(connection, job, "failed", detail="this cannot be asked any more")
            except (psycopg.Error, TimeoutError, OSError) as error:
                log.warning("export %s is tried again: %s", job.id, database.first_line(error))
                await self._again(job, database.first_line(error))
            except Exception:
                log.exception("export %s failed", job.id)
                await book.end(connection, job, "failed", detail="something unexpected went wrong; it has been logged")
            finally:
                part.unlink(missing_ok=True)
            await book.tell(connection, job, CHANNEL)
        return True

    async def _end(self, connection: psycopg.AsyncConnection[Any], job: book.Export, status: int, detail: str) -> None:
        """A problem of a while (the lake is being filled) passes; any other stays."""
        if status == 503:
            await book.again(connection, job, detail)
            await asyncio.sleep(AGAIN)
        else:
            await book.end(connection, job, "failed", detail=detail)

    async def _again(self, job: book.Export, detail: str) -> None:
        """On another connection: what went wrong may have been the one it was claimed on."""
        await asyncio.sleep(AGAIN)
        async with self._services.pool.connection() as connection:
            await book.again(connection, job, detail)

    async def _make(self, connection: psycopg.AsyncConnection[Any], job: book.Export, part: File) -> None:
        asker = Asker(self._services, job.shop, frozenset(job.scopes), job.asked_by)
        export = await prepared(asker, Question.model_validate(job.question))
        customers, tally = await of(export), Tally()
        loop = asyncio.get_running_loop()
        noted = loop.time()
        part.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            async with aclosing(written(export, tally, lambda: None)) as pieces:
                async for piece in pieces:
                    file.write(piece)
                    if loop.time() - noted >= NOTE:
                        noted = loop.time()
                        if not await book.move(connection, job, customers, tally.done, tally.rows, tally.size):
                            raise _LostError
                        await book.tell(connection, job, CHANNEL)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        # Before the book says that it is there. If it is not to be, who sweeps removes it.
        await asyncio.to_thread(part.replace, self.path(job))
        if not await book.end(
            connection, job, "done", customers=customers, done=tally.done, rows=tally.rows, size=tally.size
        ):
            self.path(job).unlink(missing_ok=True)
            raise _LostError


# --- the routes --------------------------------------------------------------------------------------------------


class _Whole(FileResponse):
    """A file, never a part of it: what is wrong with a range would be answered as no problem of ours is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        told = [(name, value) for name, value in scope["headers"] if name not in (b"range", b"if-range")]
        await super().__call__({**scope, "headers": told}, receive, send)


ExportPath = Annotated[UUID, Path(description="as the POST answered it")]


@router.post("", summary="Have an export made", status_code=202)
async def post_export(caller: ExportAccess, question: Question) -> ExportModel:
    """For large ones: the same question as `segments.csv` takes it, as JSON, and the same bytes in the end. The
    answer's `id` is what to ask for; it goes on when the API is started anew.
    """
    exporter = caller.services.exporter
    export = await prepared(asker_of(caller), question)
    async with caller.services.pool.connection() as connection:
        if await book.waiting(connection, caller.shop) >= WAITING:
            raise ProblemError(429, "too-many", "Too many exports of the shop wait already.", {"Retry-After": "60"})
        row = await book.begin(connection, caller.shop, caller.key.id, "job", question.said(), export.scopes)
    exporter.put()
    return ExportModel.of(row)


@router.get("", summary="Who exported what")
async def get_exports(caller: AdminAccess) -> ExportsModel:
    """The newest hundred, however they were asked for: who, when, what, how many rows, and whether it ended."""
    async with caller.services.pool.connection() as connection:
        found = await book.listing(connection, caller.shop)
    return ExportsModel(exports=[ExportModel.of(each) for each in found])


async def _job(caller: Caller, ident: UUID) -> book.Export:
    async with caller.services.pool.connection() as connection:
        found = await book.find(connection, ident, caller.shop)
    if found is None:
        raise ProblemError(404, "no-export", "There is no such export of this shop.")
    return found


@router.get("/{export_id}", summary="How far an export is")
async def get_export(caller: ExportAccess, export_id: ExportPath) -> ExportModel:
    """Of one that was asked for by POST: `done` of `customers`."""
    return ExportModel.of(await _job(caller, export_id))


async def _events(caller: Caller, ident: UUID) -> AsyncIterator[bytes]:
    async def read() -> bytes:
        return ExportModel.of(await _job(caller, ident)).model_dump_json().encode()

    yield b"retry: 2000\n\n"
    watching = caller.services.live.watch(str(ident), read, caller.credentials, caller.still_allowed)
    async with aclosing(watching) as told:
        async for data in told:
            yield b": heartbeat\n\n" if data is None else b"event: export\ndata: " + data + b"\n\n"
            if data is not None and ExportModel.model_validate_json(data).status not in ("waiting", "running"):
                return


@router.get(
    "/{export_id}/events",
    summary="How far an export is, as it goes on",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events of the type `export`; a comment every 15 s when nothing changes",
            "model": ExportModel,
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: export\ndata: {"status": "running", "done": 5000, "customers": 20000, ...}\n\n',
                }
            },
        }
    },
)
async def get_events(caller: ExportAccess, export_id: ExportPath) -> StreamingResponse:
    """The export at once, and again whenever it has moved on (twice a second at most); the stream ends with it. Each
    event is whole: who comes back has missed nothing.
    """
    await _job(caller, export_id)
    told = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(caller, export_id), media_type="text/event-stream", headers=told)


@router.get(
    "/{export_id}/file",
    summary="An export's file",
    response_class=FileResponse,
    responses={
        200: {
            "description": "the bytes that `segments.csv` would have answered as the export was made",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        },
        409: {"model": ProblemModel, "description": "it is not done (yet)"},
    },
)
async def get_file(caller: ExportAccess, export_id: ExportPath) -> FileResponse:
    """Kept for a week, and no longer than until somebody of the shop is redacted. With addresses in it, it takes the
    scope `pii` as asking for it did.
    """
    job = await _job(caller, export_id)
    missing = sorted({*job.scopes} - caller.key.scopes)
    if missing:
        raise ProblemError(403, "no-scope", f"For this file the API key lacks the scope '{missing[0]}'.")
    if job.status != "done":
        raise ProblemError(409, "not-done", f"The export is not done: it is {job.status}.")
    path = caller.services.exporter.path(job)
    if job.kept_until is None or job.kept_until <= datetime.now(UTC) or not path.exists():
        raise ProblemError(404, "no-file", job.detail or "The file is not kept here.")
    question = Question.model_validate(job.question)
    told = {**headers(caller.shop, question), "Accept-Ranges": "none"}
    return _Whole(path, media_type=MEDIA_TYPE, headers=told)


async def forget(request: Request) -> None:
    """Somebody has been forgotten: no file may stay that was let go with them."""
    with suppress(psycopg.Error, OSError):  # then the exporter's own look removes it
        await services_of(request).exporter.sweep()
