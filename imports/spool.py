"""Files that wait to be brought in, in the data folder: each in clear, so each goes as soon as it can."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from books import imports as book

FOLDER: Final = "imports"

#: An upload that nobody has written to for so long is broken off (seconds).
STALE: Final = 600.0


def path(folder: Path, ident: UUID) -> Path:
    return folder / f"{ident}.spool"


@contextmanager
def made(at: Path) -> Iterator[IO[bytes]]:
    """A new file that its owner alone can read, durable in the end."""
    at.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(at, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def left(folder: Path) -> list[Path]:
    """What an end without warning has left, the oldest first; uploads that were broken off are removed.

    One that grew within the last STALE seconds may be another process's, under way.
    """
    if not folder.exists():
        return []
    now = time.time()
    for part in (*folder.glob("*.part"), *folder.glob("*.inner")):
        with suppress(FileNotFoundError):
            if now - part.stat().st_mtime > STALE:
                part.unlink()
    return sorted(folder.glob("*.spool"), key=lambda each: each.stat().st_mtime)


async def forget(connection: AsyncConnection[Any], folder: Path, shop: str) -> None:
    """Removes a shop's files; their imports have failed, and go on when the file is sent again."""
    for found in await book.open_imports(connection, shop):
        file = path(folder, found.id)
        if file.exists():
            file.unlink(missing_ok=True)
            await book.end(connection, found.id, "failed", "somebody was redacted meanwhile: send the file again")
