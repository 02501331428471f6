"""An object store (s3://, gs://, az://) that holds a lake: files that never change, and one name that is written over.

Who may read it is told by the store's own variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...), never by its address.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from lake.errors import StoreError

#: A store that does not answer is asked again for so long.
_PATIENCE: Final = timedelta(seconds=20)

#: Bytes of a file that are in memory at a time while it is fetched.
_CHUNK: Final = 8 * 2**20


class Listed(NamedTuple):
    """An object: its path below the lake, its bytes, and when it was written (seconds since 1970)."""

    path: str
    size: int
    written: float


class Objects:
    """The place of one lake in an object store; what is written appears whole. StoreError from every method."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._said():
            self._store: Any = from_url(
                self.url,
                # http where the store's own address says so. What goes on may take its time, what stands still may not.
                client_options={"allow_http": True, "connect_timeout": "5s", "read_timeout": "20s", "timeout": "1h"},
                retry_config={"max_retries": 5, "retry_timeout": _PATIENCE},
            )

    def read(self, path: str) -> bytes | None:
        """What stands there; None where nothing does."""
        with self._said():
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except FileNotFoundError:
                return None

    def fetch(self, path: str, target: Path) -> None:
        """Copies it to a file, which appears whole."""
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{uuid4().hex[:12]}")
        try:
            with self._said():
                found = obstore.get(self._store, path).stream(min_chunk_size=_CHUNK)
                with aside.open("wb") as file:
                    for chunk in found:
                        file.write(chunk)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    def send(self, path: str, source: Path) -> None:
        """Writes a file there."""
        with self._said():
            obstore.put(self._store, path, source)

    def write(self, path: str, content: bytes) -> None:
        """Writes over what stands there."""
        with self._said():
            obstore.put(self._store, path, content)

    def listed(self, prefix: str = "") -> Iterator[Listed]:
        """Everything below a folder (`lists/shop=S`), or all."""
        with self._said():
            for some in obstore.list(self._store, prefix or None):
                for each in some:
                    yield Listed(each["path"], each["size"], each["last_modified"].timestamp())

    def remove(self, paths: Iterable[str]) -> None:
        """Removes them; one that is gone already is no error."""
        if names := list(paths):
            with self._said():
                obstore.delete(self._store, names)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            # What else the store says goes over many lines, and may name who asked.
            said = str(error).partition("\n")[0].partition("<")[0].strip()
            raise StoreError(f"{self.url} does not answer as a lake's store should: {said}") from error
