"""`/v1/shops/{shop}/imports`: a file of a store's past taken in, and how far each import is.

A body is spooled to the data folder and brought in by a task of this process, one file at a time; what a crash broke
off goes on at the next start. The spooled file holds what the merchant's file holds: it goes when the import is over,
and when somebody of its shop is redacted. Whoever does that lets it go in the book, in the same transaction; here the
book is looked at all the time, and what was let go is removed.
"""

import asyncio
import hashlib
import logging
import mmap
import re
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path as File
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import psycopg
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field
from starlette.requests import ClientDisconnect

from api.context import AdminAccess, Caller, Services, services_of
from api.limits import IMPORT_BYTES
from api.models import Answer, Time
from api.problems import ProblemError
from books import imports as book
from imports import spool
from imports.importing import Bringing, ForgottenError
from imports.items import FileError, ImportingError
from imports.pace import BATCH, Pace
from runtime import database
from runtime.ports import PublishError

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/shops/{shop}/imports", tags=["imports"])

#: Imports of one shop that may wait or run at once.
WAITING: Final = 10

#: Seconds until what a database or broker that is away has broken off is tried again.
AGAIN: Final = 30.0

#: Seconds between two looks for files that nobody may use any more.
SWEEP: Final = 2.0

PATH: Final = re.compile(r"/v1/shops/[^/]+/imports")
_NAME: Final = re.compile(r'filename="([^"\r\n]{1,200})"')


class Rejected(Answer):
    """A line that could not be read."""

    line: int = Field(description="of the file, from 1")
    reason: str


class ImportModel(Answer):
    """One import of one file."""

    id: UUID
    file: str = Field(description="its name", examples=["orders_export.csv"])
    format: str | None = Field(description="null until it has been read", examples=["orders CSV"])
    status: str = Field(description="waiting, running, done or failed", examples=["running"])
    detail: str | None = Field(description="why it failed")
    lines: int = Field(description="of the file")
    line: int = Field(description="the last one that is durable")
    orders: int
    customers: int
    rejected: int = Field(description="lines that could not be read")
    problems: list[Rejected] = Field(description="the first hundred of them")
    notes: dict[str, int] = Field(description="what was noticed beside, by kind: how often")
    lines_per_second: float
    seconds_left: float | None = Field(description="null while that cannot be said, and once it is over")
    started_at: Time
    updated_at: Time
    finished_at: Time | None

    @classmethod
    def of(cls, found: book.Import) -> "ImportModel":
        """An import as the book has it."""
        kept = {name: getattr(found, name) for name in cls.model_fields if hasattr(found, name)}
        kept["problems"] = [Rejected(line=line, reason=reason) for line, reason in found.problems]
        return cls(**kept, lines_per_second=round(found.rate, 1))


class ImportsModel(Answer):
    """A shop's imports, the newest first."""

    imports: list[ImportModel]


# --- the task ----------------------------------------------------------------------------------------------------


class Importer:
    """Brings spooled files in, one after the other. `start` and `stop` it with the app."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.folder = services.settings.data / spool.FOLDER
        self._queue: asyncio.Queue[UUID] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        #: Uploads under way, by shop: one at a time.
        self.uploads: set[str] = set()

    def start(self) -> None:
        """Begins with what an end without warning has left. Within the app's loop."""
        for ident in spool.left(self.folder):
            self.put(ident)
        self._tasks = [asyncio.create_task(each) for each in (self._run(), self._sweep())]

    async def stop(self) -> None:
        """What is under way stays `running`, and goes on at the next start."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def put(self, ident: UUID) -> None:
        """An import's file is there: it is brought in after those that wait."""
        self._queue.put_nowait(ident)

    def path(self, ident: UUID) -> File:
        """Where an import's file is spooled."""
        return spool.path(self.folder, ident)

    async def _run(self) -> None:
        while True:
            ident = await self._queue.get()
            try:
                await self._one(ident)
            except (psycopg.Error, PublishError, OSError) as error:
                log.warning("import %s is tried again: %s", ident, database.first_line(error))
                self._later(ident)
            except ForgottenError as error:
                log.warning("import %s was ended: %s", ident, error)
            except (FileError, ImportingError) as error:
                log.warning("import %s failed: %s", ident, error)
                await self._let_go(ident)
            except Exception:
                log.exception("import %s failed", ident)
                await self._let_go(ident)

    async def _sweep(self) -> None:
        """What a redaction let go is gone within some seconds, whoever was told of it."""
        while True:
            try:
                if self.folder.exists():
                    await self.sweep()
            except (psycopg.Error, OSError) as error:
                log.warning("files of imports that are over may still be there: %s", database.first_line(error))
            except Exception:
                # Not the end of it: files of whoever is redacted later would stay for ever.
                log.exception("files of imports that are over may still be there")
            await asyncio.sleep(SWEEP)

    async def sweep(self) -> None:
        """Removes the files that nobody may use any more."""
        async with self._services.pool.connection() as connection:
            await spool.sweep(connection, self.folder)

    async def _let_go(self, ident: UUID) -> None:
        self.path(ident).unlink(missing_ok=True)
        with suppress(psycopg.Error):  # nothing waits any more, whatever the book says
            async with self._services.pool.connection() as connection:
                await book.let_go(connection, ident)

    async def _one(self, ident: UUID) -> None:
        settings, path = self._services.settings, self.path(ident)
        connection = await database.connect_async(settings.database_url(), "loyalnest import", autocommit=True)
        async with connection:
            found = await book.find(connection, ident)
            if path.exists() and found is not None and found.spooled_at is not None:
                async with book.held(connection, found.shop, found.sha256) as ours:
                    if not ours:  # another process has it, or one that was cut off has not let it go yet
                        self._later(ident)
                        return
                    await self._bring(connection, path, found)
            path.unlink(missing_ok=True)

    async def _bring(self, connection: psycopg.AsyncConnection[Any], path: File, found: book.Import) -> None:
        settings = self._services.settings
        program = await self._services.program(found.shop)
        if program is None:
            raise ImportingError("the shop has no program yet")
        tell = partial(log.warning, "import %s %s", found.id)
        pace = Pace(settings, tell) if settings.kafka is not None else None
        try:
            await Bringing(
                path=path,
                shop=found.shop,
                currency=program.currency,
                vault=self._services.vault,
                publisher=self._services.publisher,
                pace=pace,
                batch=BATCH,
                batch_due=True,
            ).run(connection, found)
        finally:
            if pace is not None:
                pace.close()

    def _later(self, ident: UUID) -> None:
        asyncio.get_running_loop().call_later(AGAIN, self._queue.put_nowait, ident)


# --- the routes --------------------------------------------------------------------------------------------------

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            },
        },
    }
}


@router.post(
    "",
    summary="Bring a file in",
    status_code=202,
    openapi_extra=_BODY,
    responses={200: {"model": ImportModel, "description": "This content was brought in before"}},
)
async def post_import(
    request: Request,
    response: Response,
    caller: AdminAccess,
    file: Annotated[str, Query(description="the file's name, for the list", max_length=200)] = "upload",
    again: Annotated[bool, Query(description="also what was brought in before; it changes nothing")] = False,
) -> ImportModel:
    """Takes the file as the body, or as the file of a form: Shopify's bulk operations (JSONL), the order or the
    customer export of its admin, a CSV of transactions or of balances. The answer's `id` is what to ask for.

    **200** instead of 202: this content was brought in before, and nothing is done.
    """
    await caller.program()
    importer = caller.services.importer
    if caller.shop in importer.uploads:
        raise ProblemError(503, "busy", "Another file of the shop is being sent just now.", {"Retry-After": "5"})
    importer.uploads.add(caller.shop)
    fresh = importer.folder / f"{uuid4()}.part"
    try:
        name, digest, size = await _spooled(request, fresh, file)
        found = await _begun(caller, name, digest, size, again)
        if found.status == "done":
            response.status_code = 200
        else:  # over what may be there: it is the same, or was let go
            fresh.rename(importer.path(found.id))
            importer.put(found.id)
        return ImportModel.of(found)
    except ClientDisconnect:
        raise ProblemError(400, "broken-off", "The file broke off.") from None
    finally:
        importer.uploads.discard(caller.shop)
        fresh.unlink(missing_ok=True)


async def _spooled(request: Request, path: File, name: str) -> tuple[str, str, int]:
    """The body, or the file in it, under `path`: (its name, SHA-256, bytes)."""
    digest, size = hashlib.sha256(), 0
    with spool.made(path) as out:
        async for chunk in request.stream():
            size += len(chunk)
            if size > IMPORT_BYTES:
                raise ProblemError(413, "too-large", f"At most {IMPORT_BYTES} bytes.", {"Connection": "close"})
            digest.update(chunk)
            out.write(chunk)
    kind = request.headers.get("content-type", "")
    boundary = re.search(r'boundary="?([^";]{1,70})"?', kind)
    if kind.startswith("multipart/form-data") and boundary is not None:
        told = await asyncio.to_thread(_unwrapped, path, boundary[1].encode())
        if told is None:
            raise ProblemError(422, "no-file", "The form has no file.")
        return told[0] or name, told[1], told[2]
    if not size:
        raise ProblemError(422, "no-file", "The body is empty.")
    return name, digest.hexdigest(), size


def _unwrapped(path: File, boundary: bytes) -> tuple[str, str, int] | None:
    """Leaves of a form its first file alone; None where there is none."""
    inner = path.with_suffix(".inner")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            at = view.find(b"--" + boundary)
            while at >= 0:
                begins = view.find(b"\r\n\r\n", at)
                ends = view.find(b"\r\n--" + boundary, begins)
                if begins < 0 or ends < 0:
                    return None
                head = view[at : min(begins, at + 8192)].decode(errors="replace")
                if "filename=" in head:
                    with spool.made(inner) as out:
                        for start in range(begins + 4, ends, 1 << 20):
                            out.write(view[start : min(start + (1 << 20), ends)])
                    break
                at = ends + 2
            else:
                return None
        with inner.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        inner.replace(path)
        found = _NAME.search(head)
        return found[1] if found else "", digest, path.stat().st_size
    except ValueError:  # an empty file cannot be mapped
        return None
    finally:
        inner.unlink(missing_ok=True)


async def _begun(caller: Caller, name: str, digest: str, size: int, again: bool) -> book.Import:
    plain = "".join(sign for sign in File(name).name if sign.isprintable()) or "upload"
    async with caller.services.pool.connection() as connection:
        waiting = await book.spooled(connection, caller.shop)
        if len(waiting) >= WAITING and all(each.sha256 != digest for each in waiting):
            raise ProblemError(503, "busy", "Too many files of the shop wait already.", {"Retry-After": "60"})
        now = datetime.now(UTC)
        return await book.begin_or_find(connection, caller.shop, plain, digest, size, now, again=again, spooled=True)


@router.get("", summary="The shop's imports")
async def get_imports(caller: AdminAccess) -> ImportsModel:
    """The newest hundred."""
    async with caller.services.pool.connection() as connection:
        found = await book.listing(connection, caller.shop)
    return ImportsModel(imports=[ImportModel.of(each) for each in found])


@router.get("/{import_id}", summary="How far an import is")
async def get_import(
    caller: AdminAccess, import_id: Annotated[UUID, Path(description="as the POST answered it")]
) -> ImportModel:
    """Its counts and state; `problems` says why rows were left out, by line."""
    async with caller.services.pool.connection() as connection:
        found = await book.find(connection, import_id, caller.shop)
    if found is None:
        raise ProblemError(404, "no-import", "There is no such import of this shop.")
    return ImportModel.of(found)


async def forget(request: Request) -> None:
    """Somebody has been forgotten: no file may stay that was let go with them."""
    with suppress(psycopg.Error, OSError):  # then the importer's own look removes it
        await services_of(request).importer.sweep()
