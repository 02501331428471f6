"""Waiting until the history holds what had come in when a batch was asked for.

With real Kafka the sink writes the raw history a little after the topics; a batch that read at once would miss what is
on its way, and publish thresholds of a shop that never was. With a journal the history is first.
"""

from contextlib import closing
from typing import Any, Final

from psycopg import Connection

from batch.frames import BatchError
from batch.rescoring import OnProgress
from events import topics
from runtime import patience
from runtime.progress import Gauge
from runtime.settings import Settings

_INPUTS: Final = frozenset({topics.ORDERS, topics.CUSTOMERS, topics.SHOPS, topics.PROGRAMS})
_POLL: Final = 0.2


def wait(settings: Settings, connection: Connection[Any], on_progress: OnProgress, seconds: float = 60.0) -> None:
    """Until the sink has stored every input that stood on the topics at the call.

    BatchError when the sink has not moved for so many seconds.
    """
    if settings.journal or settings.kafka is None:
        return
    with closing(Gauge(settings)) as gauge:
        ends = {at: end for at, end in gauge.read(connection).ends.items() if at[0] in _INPUTS}

        def look() -> int | None:
            if left := _left(gauge, connection, ends):
                on_progress("arriving", 0, left)
            return left or None

        left = patience.while_moving(look, seconds, _POLL)
        if left is not None:
            raise BatchError(f"the history lacks {left:,} messages and the sink does not move: is it running?")


def _left(gauge: Gauge, connection: Connection[Any], ends: dict[tuple[str, int], int]) -> int:
    sink = gauge.read(connection).sink
    return sum(max(end - sink.get(at, 0), 0) for at, end in ends.items())
