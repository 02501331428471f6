"""Waiting until everything that came in can be seen."""

from collections.abc import Callable
from typing import Final

import psycopg

from cli.stack.supervisor import Stack, UpError
from runtime import database, patience
from runtime.progress import Gauge, Place
from runtime.settings import Settings
from streams.journal.pump import Pump

_POLL: Final = 0.1


class Settling:
    """Measures what is still on its way through one stack: in the journal, before the worker, before the sink."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._settings: Settings | None = None
        self._gauge: Gauge | None = None
        self._ends: dict[Place, int] = {}

    def behind(self, connection: psycopg.Connection) -> int | None:
        """Messages on their way; None once nothing is and nothing has come since the last look."""
        settings, pump = self._stack.settings, self._stack.pump
        if settings is not self._settings or self._gauge is None:  # a new life, a new broker
            self._settings, self._gauge, self._ends = settings, Gauge(settings), {}
        waiting = self._in_journal(pump, connection)
        progress = self._gauge.read(connection)
        before, self._ends = self._ends, progress.ends
        behind = waiting + progress.worker_lag + progress.sink_lag
        return None if behind == 0 and before == progress.ends else behind

    def _in_journal(self, pump: Pump | None, connection: psycopg.Connection) -> int:
        if pump is not None:
            return pump.remaining(connection) + (not pump.live)
        return 1 if self._stack.settings.journal else 0  # between two lives


def wait(stack: Stack, on_progress: Callable[[int], None] = lambda _: None, seconds: float = 60.0) -> None:
    """Until the worker and the sink have read all. UpError when nothing has moved for so many seconds."""
    settling = Settling(stack)
    with database.connect(stack.settings.database_url(), "loyalnest", autocommit=True) as connection:

        def look() -> int | None:
            behind = settling.behind(connection)
            if behind is not None:
                on_progress(behind)
            return behind

        behind = patience.while_moving(look, seconds, _POLL)
    if behind is not None:
        raise UpError(
            f"nothing has moved for {seconds:.0f} s with {behind:,} messages on their way:"
            f" see {stack.settings.data / 'logs'}"
        )
