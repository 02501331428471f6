"""The data folder: who holds it, what runs from it, and how a command reaches the servers of it."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from pydantic import SecretStr

from books import migrate
from cli.stack import embedded
from runtime import patience
from runtime.settings import Settings

_RUNNING = "running.json"
_REBUILD = "rebuild"
_PATIENCE = 30.0  # seconds: for a starting `up` to say where its servers are


class HomeError(RuntimeError):
    """The data folder cannot be used; the message says why."""


def changed(settings: Settings, **changes: Any) -> Settings:
    """A copy of the settings with some changed, checked like any others."""
    kept = {name: getattr(settings, name) for name in Settings.model_fields}
    return Settings(**{**kept, **changes})


def environment(settings: Settings) -> dict[str, str]:
    """This process's environment with exactly these settings in it: how a child gets them, secrets included.

    A command line can be read by every user of the machine, an environment only by the owner.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith("LOYALNEST_")}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if value is not None:
            found[f"LOYALNEST_{name.upper()}"] = _text(value)
    return found


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def port_is_free(host: str, port: int) -> bool:
    """Whether somebody could listen there now."""
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True


class Lock:
    """One `up` to a data folder. The kernel lets go of it however its holder ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._file: IO[str] | None = None

    def take(self, seconds: float = 0.0) -> bool:
        """True if it is ours now; tries for so many seconds."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w")
        step = partial(fcntl.flock, self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            patience.retried(step, BlockingIOError, seconds, every=0.1)
        except BlockingIOError:
            self.give_back()
            return False
        return True

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._file is not None

    def give_back(self) -> None:
        """Lets another LoyalNest have the folder. Twice is harmless."""
        if self._file is not None:
            self._file.close()
            self._file = None


def announce(folder: Path, running: dict[str, Any]) -> None:
    """Say where the servers of this folder are; only its owner can read it, for a database's URL may be secret."""
    path = folder / _RUNNING
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
        json.dump(running, file)
    fresh.replace(path)


def retract(folder: Path) -> None:
    """Nothing runs in this folder any more."""
    (folder / _RUNNING).unlink(missing_ok=True)


def running(folder: Path) -> dict[str, Any] | None:
    """What a running `up` announced; None if none runs."""
    if not (folder / _RUNNING).exists():  # the folder need not be ours, nor there at all
        return None
    lock = Lock(folder)
    if lock.take():
        lock.give_back()
        return None
    with suppress(FileNotFoundError, json.JSONDecodeError):
        found: dict[str, Any] = json.loads((folder / _RUNNING).read_text(encoding="utf-8"))
        return found
    return None


@contextmanager
def attach(settings: Settings) -> Iterator[Settings]:
    """Settings whose database can be reached: as given, else of the running `up`, else embedded for the time being.

    `journal` is set where inputs go by the raw history. HomeError or EmbeddedError if nothing can be reached.
    """
    if settings.database is not None:
        yield _complete(settings, running(settings.data) or {})
        return
    lock = Lock(settings.data)
    there: dict[str, Any] | None = None

    def look() -> bool:
        nonlocal there
        if lock.take():
            return True
        there = running(settings.data)
        return there is not None

    if not patience.until(look, _PATIENCE, every=0.2):
        raise HomeError(f"another LoyalNest holds {settings.data} but does not say where its database is")
    if there is not None:
        yield _complete(settings, there)
        return
    database = embedded.EmbeddedDatabase(settings.data / "postgres")
    try:
        url = database.start()
        migrate.migrate(url)
        yield _complete(settings, {"database": url})
    finally:
        database.stop()
        lock.give_back()


def _complete(settings: Settings, there: dict[str, Any]) -> Settings:
    """The settings, with what they leave open as the running `up` has it."""
    changes: dict[str, Any] = {}
    if settings.master_key is None and (there or (settings.data / "master.key").exists()):
        changes["master_key"] = embedded.master_key(settings)
    if settings.database is None:
        changes["database"] = SecretStr(there["database"])
    if settings.kafka is None:
        changes["journal"] = there.get("journal", True)
        changes |= {name: there[name] for name in ("kafka", "incarnation", "partitions") if name in there}
    return changed(settings, **changes)


def ask_for_rebuild(folder: Path) -> Path:
    """Leave word that the derived tables are to be emptied and made again; the file goes when that has begun."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _REBUILD
    path.touch()
    return path


def rebuild_asked(folder: Path) -> bool:
    """Whether a rebuild was asked for that has not begun."""
    return (folder / _REBUILD).exists()


def rebuild_begun(folder: Path) -> None:
    """The rebuild that was asked for has begun."""
    (folder / _REBUILD).unlink(missing_ok=True)
