"""What processes do that tests kill: small steps, so that a moment falls between any two of them.

Here and not beside their tests: a forked process would load all that those load.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from events.messages import Message
from fulfilment.discounts import Wanted
from lake import filling, manifest
from lake.manifest import Lake
from runtime.settings import Settings
from tests.processes import Forked
from tests.support import WellPublisher
from tests.workers import wait


def begun(folder: Path, work: Callable[..., None], *args: Any) -> Forked:
    """A process that has begun its work, or ended; what it says stands in the folder."""
    said = folder / f"{uuid4()}.out"
    process = Forked(work, *args, environment=os.environ, stdout=said, stderr=said)
    wait(lambda: process.poll() is not None or (said.exists() and "begins" in said.read_text()))
    return process


def fill(url: str, folder: str, store: str | None = None) -> None:
    """Fills the lake in a folder, or in a store with its copies there, once it has said that it begins."""
    for name, value in {"SLICE": 7, "SWAP": 20, "FEW": 1}.items():
        setattr(filling, name, value)
    lake = manifest.of(Settings(lake_dir=Path(folder), lake_url=store, data_dir=Path(folder)))
    with psycopg.connect(url, autocommit=True) as connection:
        print("begins", flush=True)
        filling.fill(connection, lake)


def make(url: str, folder: str, shop: str, path: str, until: int) -> None:
    """Makes a shop's analytics file from the lake in a folder, once it has said that it begins."""
    from batch.analytics import making

    with psycopg.connect(url, autocommit=True) as connection:
        print("begins", flush=True)
        making.make(connection, Lake(Path(folder)), shop, Path(path), until)


def sink() -> None:
    """The sink, by the settings of the environment."""
    from streams.sink import main

    sys.exit(main.main(Settings()))


def notify() -> None:
    """The sender of notices, by the settings of the environment."""
    from notices import main

    print("begins", flush=True)
    sys.exit(main.main(Settings()))


class FilePublisher(WellPublisher):
    """Writes what it is given into a file, a line each, or kills its process at the first word (`deadly`)."""

    def __init__(self, file: Path, *, deadly: bool) -> None:
        self._file = file
        self._deadly = deadly

    async def publish(self, messages: Sequence[Message]) -> None:
        if self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        with self._file.open("ab") as file:
            file.writelines(message.value + b"\n" for message in messages)


def fulfil(told: str, deadly: str) -> None:
    """Makes discounts, by the settings of the environment. `deadly`: killed at `making` or `telling`."""
    from fulfilment import main, making

    if deadly == "making":
        make = making.Maker.make

        async def last(self: making.Maker, wanted: Wanted) -> making.Result:
            result = await make(self, wanted)
            os.kill(os.getpid(), signal.SIGKILL)
            return result

        making.Maker.make = last  # type: ignore[method-assign]
    print("begins", flush=True)
    sys.exit(main.main(Settings(), FilePublisher(Path(told), deadly=deadly == "telling")))
