"""Asking every customer to score themselves, until the stream's rows are what the history says.

publish rescores ─► wait for the rows ─► compare each as of its own `now` ─► those that differ once more
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl
from psycopg import Connection

from batch import orders, standing
from batch.history import History
from batch.publishing import Publish
from events import codec, instants, keys, topics
from events.programs import CutPoints, Program
from runtime.ports import Message

#: Told (stage, done, total); total None while it is not known.
OnProgress = Callable[[str, int, int | None], None]

_AT_ONCE = 2_000


class Patience(NamedTuple):
    """How long a batch asks before it gives up (seconds).

    There are at most `rounds` of asking. One is over when nothing got better for `stall`, which doubles from round to
    round: a customer whom the stream had not met yet is soon asked again, and a stream that stands still holds up the
    night's other shops for 75 s. One that moves has all the time it needs.
    """

    rounds: int = 4
    stall: float = 5.0
    poll: float = 0.1


class Outcome(NamedTuple):
    """Rescores sent, rounds of asking it took, and whom they did not bring to what the history says."""

    rescored: int
    rounds: int
    differing: pl.Series = pl.Series(dtype=pl.String)


class Rescoring:
    """One run's rounds. The stream may take in new events all the while: rows are compared as of their own `now`."""

    def __init__(
        self,
        connection: Connection[Any],
        history: History,
        program: Program,
        cut_points: CutPoints,
        published: Sequence[CutPoints],
        on_progress: OnProgress,
        patience: Patience,
    ) -> None:
        self._connection = connection
        self._history = history
        self._program = program
        self._cut_points = cut_points
        self._published = [*published, cut_points]
        self._as_of = instants.from_datetime(cut_points.as_of)
        self._on_progress = on_progress
        self._patience = patience
        self._worth: pl.DataFrame | None = None

    def run(self, publish: Publish, customers: pl.Series) -> Outcome:
        """Asks `customers` (ids) until none of them differs, or patience ends."""
        asked, sent = customers, 0
        for count in range(1, self._patience.rounds + 1):
            for messages in self._requests(asked):
                publish(messages)
                sent += len(messages)
            asked = self._wait(customers, self._patience.stall * 2 ** (count - 1))
            if asked.is_empty():
                return Outcome(sent, count)
        return Outcome(sent, self._patience.rounds, asked)

    def _requests(self, customers: pl.Series) -> Iterator[list[Message]]:
        shop, as_of = self._program.shop, instants.text(self._as_of)
        for at in range(0, customers.len(), _AT_ONCE):
            yield [
                Message(
                    topics.RESCORE,
                    keys.join(shop, each),
                    codec.dumps(
                        {"shop": shop, "customer_id": each, "as_of": as_of, "version": self._cut_points.version}
                    ),
                )
                for each in customers.slice(at, _AT_ONCE)
            ]

    def _wait(self, customers: pl.Series, stall: float) -> pl.Series:
        """Those who still differ when all are right, or when nothing has got better for `stall` seconds."""
        least, differ, since = customers.len() + 1, customers, time.monotonic()
        while True:
            began = time.monotonic()
            behind = self._behind(customers.len())
            # A full comparison is for when it can succeed, and for the end: it reads every row.
            stalled = time.monotonic() - since > stall
            if behind == 0 or stalled:
                differ = self._differing(customers)
                behind = differ.len()
            self._on_progress("rescoring", customers.len() - min(behind, customers.len()), customers.len())
            if behind == 0 or stalled:
                return differ if behind else differ.clear()
            if behind < least:
                least, since = behind, time.monotonic()
            # At most half of the time goes into looking, however large the shop.
            time.sleep(max(self._patience.poll, time.monotonic() - began))

    def _behind(self, known: int) -> int:
        """At least so many rows have not come as far as as_of; cheap, and 0 does not yet mean that all are right."""
        row = self._connection.execute(
            "SELECT count(*) FROM customers WHERE shop = %s AND now >= %s",
            (self._program.shop, self._cut_points.as_of),
        ).fetchone()
        assert row is not None
        return max(known - int(row[0]), 0)

    def _differing(self, customers: pl.Series) -> pl.Series:
        rows = standing.stored(self._connection, self._program.shop).filter(pl.col("now") >= self._as_of)
        # The rows first, then the history: what a row already knows must not be missing from what it is held against.
        if self._history.read(self._connection) or self._worth is None:
            self._worth = orders.worth(self._history, self._program)
        should_be = standing.expected(rows, self._worth, self._published, self._program)
        wrong = standing.differences(rows, should_be)["customer_id"]
        arrived = rows["customer_id"]
        return customers.filter(~customers.is_in(arrived.implode()) | customers.is_in(wrong.implode()))
