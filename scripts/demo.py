"""The demo store, served as `make demo` serves it, for what looks at it: pictures and the bench."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
SHOP: Final = "demo.myshopify.com"

#: How long it may take until it serves (seconds).
_PATIENCE: Final = 600.0


class Demo(NamedTuple):
    """Where its API is, a key that may do everything, and an address that signs in once."""

    api: str
    key: str
    link: str


@contextmanager
def serving(*words: str) -> Iterator[Demo]:
    """`loyalnest demo` with these options, in a folder of its own, while this lasts. RuntimeError if it ends."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        with output.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "demo", "--data", f"{folder}/demo", "--port", "0", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        try:
            deadline = time.monotonic() + _PATIENCE
            while "Serving on" not in (said := output.read_text()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the demo did not come up:\n{said}")
                time.sleep(0.5)
            api, key, link = (
                re.search(pattern, said)[1]  # type: ignore[index]
                for pattern in (r"API +(http\S+)", r"API key +(ln_\S+)", r"(http\S+/sign-in#\S+)")
            )
            yield Demo(api, key, link)
        finally:
            process.terminate()
            process.wait(60)
