"""How long is waited: before somebody else's server is tried again, and while it rests. Pure functions."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

#: After so many failures in a row a server rests.
FAILURES: Final = 5

_FIRST: Final = timedelta(seconds=5)
_LONGEST: Final = timedelta(hours=6)
_REST: Final = timedelta(minutes=1)
_LONGEST_REST: Final = timedelta(hours=1)

#: What is multiplied so often is longer than any limit.
_MANY: Final = 20


def before_retry(attempts: int, chance: float) -> timedelta:
    """The wait after so many failed attempts, from 1: 5 s, three times as long each time, at most 6 h.

    `chance`, from 0 to 1, makes it a quarter shorter or longer: what failed together does not come together again.
    """
    times: int = 3 ** min(attempts - 1, _MANY)
    return min(_LONGEST, _FIRST * times) * (0.75 + chance / 2)


def rest(failures: int) -> timedelta | None:
    """How long a server rests after so many failures in a row: a minute, twice as long each time, at most an hour.

    None while it does not rest.
    """
    if failures < FAILURES:
        return None
    times: int = 2 ** min(failures - FAILURES, _MANY)
    return min(_LONGEST_REST, _REST * times)


def asked_for(retry_after: str, now: datetime) -> timedelta | None:
    """How long a receiver wants to be left alone (Retry-After: seconds, or a date), at most 6 h; None if it says
    neither."""
    said = retry_after.strip()
    if said.isascii() and said.isdigit():
        return min(timedelta(seconds=int(said[:9])), _LONGEST) or None
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000": of no zone that is told
        until = until.replace(tzinfo=UTC)
    return min(until - now, _LONGEST) if until > now else None
