"""When points can be spent and when they run out, by a program's holds and lives (events/programs.py).

Points earned or given at h can be spent from S(h) on, and have run out at X(S(h)). S is h and the hold in force at h,
or a later hold counted from when that took effect, whichever comes first; X the first local midnight (or new year)
after S and the life in force at S, or likewise a later life from when that took effect. Both grow with h, so whatever
was earned first runs out first, and no lots need be kept: asked is only up to which h something has happened.

Where points run out for want of activity, X is of the last activity itself: whoever was active at a, and not since,
loses at X(a) what can be spent then.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from events import instants, programs
from events.programs import Inactivity, Program

#: Before everything, and beyond it (microseconds).
NEVER: Final = -1
FOR_EVER: Final = 1 << 62

_EVER: Final = -(1 << 62)

#: What would run out from here on does not: the calendar has no new year to round it up to.
_LAST: Final = instants.LATEST - 366 * instants.DAY

#: (from when it is in force, how long, to which midnight it is rounded up: none, a day's or a year's)
_Span = tuple[int, int | None, str]


def _spans(*told: _Span) -> list[_Span]:
    """In the order in which they take effect, from the first of all on; of several at one instant the last."""
    return list({span[0]: span for span in told}.values())


class Terms:
    """A program's holds and lives made ready for the fold. `endless`: nothing is held and nothing runs out;
    `by_inactivity`: what runs out, runs out for want of activity."""

    def __init__(self, program: Program) -> None:
        self._zone = ZoneInfo(program.zone)
        holds = ((each.since, each.hold_days * instants.DAY, "") for each in program.holds)
        lives = ((each.since, each.days and each.days * instants.DAY, each.calendar) for each in program.expiry)
        self._holds = _spans((_EVER, 0, ""), *holds)
        self._lives = _spans((_EVER, None, "day"), *lives)
        self.by_inactivity = any(isinstance(each, Inactivity) for each in program.expiry)
        self.lasting = not any(life is not None for _, life, _ in self._lives)
        self.endless = self.lasting and not any(hold for _, hold, _ in self._holds)

    def spendable_until(self, at: int) -> int:
        """The last instant whose points can be spent, or could once, at `at`; NEVER where there is none."""
        return self._inverted(self._holds, at)

    def gone_until(self, at: int) -> int:
        """The last instant whose points have run out at `at`, or whose activity lets nothing live on; NEVER where there
        is none."""
        if self.lasting:
            return NEVER
        last = self._inverted(self._lives, at)
        return last if last == NEVER or self.by_inactivity else self.spendable_until(last)

    def spendable_from(self, earned_at: int) -> int:
        """When points of an instant can be spent."""
        return min(self._ends(self._holds, earned_at))

    def runs_out(self, at: int) -> int:
        """When points of an instant run out, or what can be spent is lost by whoever was active at that instant and is
        not before this one; FOR_EVER: never."""
        begun = at if self.by_inactivity else self.spendable_from(at)
        return min(self._ends(self._lives, begun), default=FOR_EVER)

    def _inverted(self, spans: Sequence[_Span], at: int) -> int:
        """The last instant whose end, under these spans, is not after `at`."""
        before = FOR_EVER
        for since, length, calendar in reversed(spans):
            if length is not None:
                last = (self._midnight_before(at, calendar) - 1 if calendar else at) - length
                if last >= since:
                    return max(min(last, before - 1), NEVER)
            before = since
        return NEVER

    def _ends(self, spans: Sequence[_Span], begun: int) -> list[int]:
        """When what began at an instant ends by the span in force then, and by each later one."""
        found = []
        for (since, length, calendar), (until, _, _) in zip(spans, [*spans[1:], (FOR_EVER, 0, "")], strict=True):
            if until > begun and length is not None:
                end = max(since, begun) + length
                if not calendar:
                    found.append(min(end, instants.LATEST))
                elif end < _LAST:
                    found.append(self._midnight_after(end, calendar))
        return found

    def _midnight_before(self, at: int, calendar: str) -> int:
        """The last local midnight, of a day or a year, that is not after `at`.

        Clocks that go back past midnight have two of them: the first begins the day.
        """
        day = instants.to_datetime(at).astimezone(self._zone).date()
        if calendar == "year":
            return _midnight(date(day.year, 1, 1), self._zone)
        following = _midnight(day + timedelta(days=1), self._zone)
        return following if following <= at else _midnight(day, self._zone)

    def _midnight_after(self, at: int, calendar: str) -> int:
        day = instants.to_datetime(at).astimezone(self._zone).date()
        if calendar == "year":
            return _midnight(date(day.year + 1, 1, 1), self._zone)
        following = _midnight(day + timedelta(days=1), self._zone)
        return following if following > at else _midnight(day + timedelta(days=2), self._zone)


@lru_cache(maxsize=1 << 12)
def _midnight(day: date, zone: ZoneInfo) -> int:
    return programs.local_midnight(day, zone)
