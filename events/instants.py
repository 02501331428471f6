"""Instants as integers: microseconds since the Unix epoch, UTC.

Integers compare, add and serialise exactly; a naive datetime never becomes one. On our topics and over HTTP an
instant is written in RFC 3339 with `Z`.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from events.errors import BadEvent

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

#: How far a sender's clock may run ahead of ours before we stop believing it.
CLOCK_SKEW = 5 * MINUTE

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

#: Short of the calendar's end, so that a zone's offset, a window's end or a retention never leaves it.
LATEST = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND - 1


def from_datetime(when: datetime) -> int:
    """Microseconds since the epoch of an aware datetime; BadEvent for a naive one."""
    if when.tzinfo is None:
        raise BadEvent("naive_time", f"{when.isoformat()} has no UTC offset")
    return _since(when)


def _since(when: datetime) -> int:
    """As (when - _EPOCH) // _MICROSECOND, without the division of long integers."""
    since = when - _EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds


def to_datetime(us: int) -> datetime:
    """The aware UTC datetime of an instant."""
    return _EPOCH + timedelta(microseconds=us)


def parse(text: object) -> int:
    """Microseconds since the epoch of an RFC 3339 string of 1970 to 9998; BadEvent unless it names its offset."""
    if not isinstance(text, str):
        raise BadEvent("bad_time", f"a {type(text).__name__} is not an RFC 3339 time")
    try:  # as nearly all are written; of each minute many
        at, rest = _minute(text[:16]) + _SECONDS[text[16:19]], text[19:]
        at += _OFFSETS[rest] if rest in _OFFSETS else _fraction(rest)
    except (ValueError, KeyError):
        return _parse(text)
    return at if 0 <= at <= LATEST else _parse(text)


@lru_cache(maxsize=1 << 12)
def _minute(text: str) -> int:
    """The instant of `2026-11-21T09:30` in UTC; ValueError where it is written otherwise."""
    if text[4:11:3] != "--T" or text[13:14] != ":":
        raise ValueError(text)
    return _since(datetime.fromisoformat(f"{text}:00Z"))


_SECONDS = {f":{second:02d}": second * SECOND for second in range(60)}


def _fraction(text: str) -> int:
    """The microseconds of `.123456Z`; ValueError where it is written otherwise."""
    if not _FRACTION.fullmatch(text):
        raise ValueError(text)
    return int(text[1:7])


#: What an offset adds to an instant: every quarter of an hour that any zone is off.
_OFFSETS = {
    f"{sign}{quarter // 4:02d}:{quarter % 4 * 15:02d}": towards * quarter * 15 * MINUTE
    for sign, towards in (("-", 1), ("+", -1))
    for quarter in range(15 * 4)
} | {"Z": 0}
_FRACTION = re.compile(r"\.[0-9]{6}Z")


def _parse(text: str) -> int:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise BadEvent("bad_time", "not an RFC 3339 time") from None
    if when.tzinfo is None:
        raise BadEvent("naive_time", "a time without a UTC offset")
    us = _since(when)
    if us < 0:
        raise BadEvent("bad_time", "a time before 1970")
    if us > LATEST:
        raise BadEvent("bad_time", "a time after 9998")
    return us


def text(us: int) -> str:
    """RFC 3339 in UTC: `2026-11-21T09:30:00Z`, with microseconds only where there are any."""
    minute, rest = divmod(us, MINUTE)
    second, part = divmod(rest, SECOND)
    if part:
        return f"{_to_minute(minute)}:{second:02d}.{part:06d}Z"
    return _to_minute(minute) + _ENDS[second]


@lru_cache(maxsize=1 << 12)
def _to_minute(minute: int) -> str:
    return to_datetime(minute * MINUTE).isoformat()[:16]


_ENDS = tuple(f":{second:02d}Z" for second in range(60))


def of_kafka(milliseconds: int) -> int:
    """The instant of a record's timestamp, kept within the calendar: a producer may have written any 64 bits."""
    return min(max(milliseconds, 0) * 1000, LATEST)


def believed(received_at: int, timestamp: int) -> int:
    """When a sender says it received something: not after its record's timestamp (the broker's, milliseconds)."""
    at = of_kafka(timestamp)
    return received_at if received_at < at + 1000 else at


def event_time(triggered_at: int, received_at: int) -> int:
    """When an event happened, as far as it can be believed: a sender's clock cannot push us into the future."""
    return min(triggered_at, received_at + CLOCK_SKEW)
