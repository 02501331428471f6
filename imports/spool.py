"""Files that wait to be brought in, in the data folder: each in clear, so each goes as soon as it can."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from books import imports as book

log = logging.getLogger(__name__)

FOLDER: Final = "imports"

#: An upload that nobody has written to for so long is broken off (seconds).
STALE: Final = 600.0


def path(folder: Path, ident: UUID) -> Path:
    """Where the file of an import waits."""
    return folder / f"{ident}.spool"


@contextmanager
def made(at: Path) -> Iterator[IO[bytes]]:
    """A new file that its owner alone can read, durable in the end."""
    at.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(at, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def left(folder: Path) -> list[UUID]:
    """Of which imports files are there, the oldest first."""
    found = []
    for each in folder.glob("*.spool"):
        with suppress(FileNotFoundError, ValueError):
            found.append((each.stat().st_mtime, UUID(each.stem)))
    return [ident for _, ident in sorted(found)]


def _drop_broken_off(folder: Path) -> None:
    now = time.time()
    for part in (*folder.glob("*.part"), *folder.glob("*.inner")):
        with suppress(FileNotFoundError):
            if now - part.stat().st_mtime > STALE:
                part.unlink()


async def sweep(connection: AsyncConnection[Any], folder: Path) -> None:
    """Removes what nobody may use any more: files whose imports are over, uploads that were broken off.

    Several processes may share the folder. An upload that grew within the last STALE seconds may be under way.
    """
    _drop_broken_off(folder)
    for ident in left(folder):
        # Locked: a file that is sent anew just now comes after its import waits again.
        async with connection.transaction():
            if await book.spooled_since(connection, ident, locked=True) is None:
                path(folder, ident).unlink(missing_ok=True)
                log.info("the file of import %s is removed", ident)
