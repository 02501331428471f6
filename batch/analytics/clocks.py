"""The clocks of a zone as SQL.

DuckDB, Polars and PostgreSQL each bring rules of time zones of their own, older or newer ones than those by which the
stream says what day an order is of. So the rules go into the SQL: whatever reads it says the same.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from events import instants

#: Rules are written down for so many years from now on, and hold for ever as they are then.
_YEARS: Final = 50

#: From an instant on (microseconds), how far the clocks are ahead of UTC (microseconds).
Change = tuple[int, int]


def local(instant: str, zone: str, now: int) -> str:
    """SQL: an instant, from 1970 on, by the clocks of a zone, as a timestamp without one. `now` is in microseconds."""
    return f"make_timestamp(epoch_us({instant}) + {_ahead(instant, changes(zone, instants.to_datetime(now).year))})"


def _ahead(instant: str, found: Sequence[Change]) -> str:
    """A tree, so that a row is held against a few of them."""
    if len(found) == 1:
        return str(found[0][1])
    middle = len(found) // 2
    before, after = (_ahead(instant, some) for some in (found[:middle], found[middle:]))
    return f"CASE WHEN {instant} < make_timestamptz({found[middle][0]}) THEN {before} ELSE {after} END"


@lru_cache(maxsize=64)
def changes(zone: str, year: int) -> list[Change]:
    """When a zone's clocks are put forward or back, from 1970 to _YEARS after a year, ascending."""
    clocks = ZoneInfo(zone)
    at, end = datetime(1970, 1, 1, tzinfo=UTC), datetime(year + _YEARS, 1, 1, tzinfo=UTC)
    found = [(instants.from_datetime(at), _of(at, clocks))]
    while at < end:
        if _of(at + timedelta(days=1), clocks) != found[-1][1]:
            # Within this day: once, as no clocks are put twice a day.
            low, high = 0, 86_400
            while high - low > 1:
                middle = (low + high) // 2
                if _of(at + timedelta(seconds=middle), clocks) == found[-1][1]:
                    low = middle
                else:
                    high = middle
            changed = at + timedelta(seconds=high)
            found.append((instants.from_datetime(changed), _of(changed, clocks)))
        at += timedelta(days=1)
    return found


def _of(at: datetime, clocks: ZoneInfo) -> int:
    return at.astimezone(clocks).utcoffset() // timedelta(microseconds=1)  # type: ignore[operator] # it has a zone
