"""Instants as integers: microseconds since the Unix epoch, UTC.

Integers compare, add and serialise exactly; a naive datetime never becomes one. On our topics and over HTTP an
instant is written in RFC 3339 with `Z`.
"""

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
    return _parse(text)


# One webhook names the same instant in several fields, and its order's facts name it again.
@lru_cache(maxsize=1 << 16)
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


@lru_cache(maxsize=1 << 16)
def text(us: int) -> str:
    """RFC 3339 in UTC: `2026-11-21T09:30:00Z`, with microseconds only where there are any."""
    days, rest = divmod(us, DAY)
    minute, rest = divmod(rest, MINUTE)
    second, part = divmod(rest, SECOND)
    return (
        f"{_day(days)}T{_MINUTES[minute]}:{second:02d}.{part:06d}Z"
        if part
        else f"{_day(days)}T{_MINUTES[minute]}:{second:02d}Z"
    )


@lru_cache(maxsize=1 << 12)
def _day(days: int) -> str:
    return to_datetime(days * DAY).date().isoformat()


_MINUTES = tuple(f"{at // 60:02d}:{at % 60:02d}" for at in range(24 * 60))


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
