"""When a shop's batch is run: local times, whatever clocks do in between."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger

from events.programs import Program

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Times(BaseTrigger):  # type: ignore[misc]
    """A local time `HH:MM` of every day, or of one day of the week, once each, also of a day of 23 or 25 hours.

    With `every` (minutes) so often from that time on, until it comes again. Ours because APScheduler's cron trigger
    (3.11.3) names the second 01:00 of a 25-hour day again and again, for ever.
    """

    def __init__(self, at: str, zone: str, weekday: str | None = None, every: int | None = None) -> None:
        self._time = time.fromisoformat(at)
        self._zone = ZoneInfo(zone)
        self._weekday = None if weekday is None else _DAYS.index(weekday)
        self._every = None if every is None else timedelta(minutes=every)

    @classmethod
    def of(cls, program: Program) -> "Times | None":
        """A program's; None for one without a batch."""
        if program.batch_at is None:
            return None
        return cls(program.batch_at, program.zone, program.batch_weekday, program.batch_every)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """The first such time (UTC) from `now` on that is after `previous`; one that a zone leaves out moves on."""
        start = now.astimezone(self._zone).date() - timedelta(days=2)
        return next(at for at in self._from(start) if at >= now and (previous is None or at > previous))

    def last(self, now: datetime) -> datetime:
        """The newest such time (UTC) that is not after `now`."""
        found = now
        for at in self._from(now.astimezone(self._zone).date() - timedelta(days=9)):
            if at > now:
                break
            found = at
        return found

    def _from(self, day: date) -> Iterator[datetime]:
        """Every such time of this day and later."""
        while True:
            at, end = (self._of(each) for each in (day, day + timedelta(days=1)))
            if self._weekday in (None, day.weekday()):
                yield at
                while self._every is not None and (at := at + self._every) < end:
                    yield at
            day += timedelta(days=1)

    def _of(self, day: date) -> datetime:
        return datetime.combine(day, self._time, self._zone).astimezone(UTC)
