"""Asking every customer to score themselves, until the stream's rows are what the history says.

A run is a few records: each asks a slice of a partition's customers, some thousand of them. Who differs after that is
asked for by their slice once more.

publish the run ─► wait for the rows ─► compare each as of its own `now` ─► those that differ once more
"""

from collections.abc import Callable
from itertools import count, product
from typing import Any, NamedTuple

import polars as pl
from psycopg import Connection

from batch import standing
from batch.publishing import Publish
from events import codec, instants, keys, topics
from events.messages import Message
from events.programs import CutPoints, Program
from runtime import patience as loop

#: Told (stage, done, total); total None while it is not known.
OnProgress = Callable[[str, int, int | None], None]

#: Of rows (customer_id, now) what they should be, each as of its own `now`, by all that was told before it was asked.
Expected = Callable[[pl.DataFrame], pl.DataFrame]

#: Customers that one record asks, about: their fold must not hold up the worker's others.
SLICE = 1_000


class Patience(NamedTuple):
    """How long a batch asks before it gives up (seconds).

    There are at most `rounds` of asking. One is over when the stream has worked off all it was told: a customer whom it
    had not met yet, since a replay was on its way, is asked again at once. Where it does not come to rest, or cannot be
    asked, a round is over when nothing got better for `stall`, which doubles from round to round: a stream that stands
    still holds up the night's other shops for 75 s. One that moves has all the time it needs.
    """

    rounds: int = 4
    stall: float = 5.0
    poll: float = 0.1


class Outcome(NamedTuple):
    """Customers asked, rounds of asking it took, and whom they did not bring to what the history says."""

    rescored: int
    rounds: int
    differing: pl.Series = pl.Series(dtype=pl.String)


class Rescoring:
    """One run's rounds. The stream may take in new events all the while: rows are compared as of their own `now`."""

    def __init__(
        self,
        connection: Connection[Any],
        expected: Expected,
        program: Program,
        cut_points: CutPoints,
        on_progress: OnProgress,
        patience: Patience,
        partitions: int,
        at_rest: Callable[[], bool],
    ) -> None:
        self._partitions = partitions
        self._at_rest = at_rest
        self._connection = connection
        self._expected = expected
        self._program = program
        self._cut_points = cut_points
        self._as_of = instants.from_datetime(cut_points.as_of)
        self._on_progress = on_progress
        self._patience = patience

    def run(self, publish: Publish, customers: pl.Series) -> Outcome:
        """Asks `customers` (ids) until none of them differs, or patience ends."""
        asked: pl.Series | None = None
        sent = 0
        for round_ in range(1, self._patience.rounds + 1):
            publish(self._requests(customers, asked))
            sent += customers.len() if asked is None else asked.len()
            asked = self._wait(customers, self._patience.stall * 2 ** (round_ - 1))
            if asked.is_empty():
                return Outcome(sent, round_)
        assert asked is not None
        return Outcome(sent, self._patience.rounds, asked)

    def _requests(self, customers: pl.Series, asked: pl.Series | None) -> list[Message]:
        """One for each slice of each partition; where only some are `asked`, for their slices."""
        shop, slices = self._program.shop, -(-customers.len() // (self._partitions * SLICE)) or 1
        wanted = set(product(range(self._partitions), range(slices)))
        if asked is not None:
            wanted = {
                (keys.partition_of(key.encode(), self._partitions), keys.slice_of(key, slices))
                for key in (keys.join(shop, each) for each in asked)
            }
        request = {"shop": shop, "as_of": instants.text(self._as_of), "version": self._cut_points.version}
        return [
            Message(topics.RESCORE, self._key(partition), codec.dumps({**request, "slice": number, "slices": slices}))
            for partition, number in sorted(wanted)
        ]

    def _key(self, partition: int) -> str:
        """A key of the shop's that every producer puts into this partition."""
        made = (keys.join(self._program.shop, f"run.{number}") for number in count())
        return next(key for key in made if keys.partition_of(key.encode(), self._partitions) == partition)

    def _wait(self, customers: pl.Series, stall: float) -> pl.Series:
        """Those who still differ when all are right, or nothing will change, or nothing got better for `stall` s."""
        wrong: pl.Series | None = None

        def look() -> int | None:
            nonlocal wrong
            rested = self._at_rest()  # before the rows: what was worked off by now is among them
            # A full comparison is for when it can succeed, and for the end: it reads every row.
            behind = self._behind(customers.len())
            wrong = None if behind else self._differing(customers)
            behind = behind if wrong is None else wrong.len()
            self._on_progress("rescoring", customers.len() - min(behind, customers.len()), customers.len())
            return None if rested else behind or None

        stalled = loop.while_moving(look, stall, self._patience.poll) is not None
        return self._differing(customers) if stalled or wrong is None else wrong

    def _behind(self, known: int) -> int:
        """At least so many rows have not come as far as as_of; cheap, and 0 does not yet mean that all are right."""
        row = self._connection.execute(
            "SELECT count(*) FROM customers WHERE shop = %s AND now >= %s AND merged_into IS NULL",
            (self._program.shop, self._cut_points.as_of),
        ).fetchone()
        assert row is not None
        return max(known - int(row[0]), 0)

    def _differing(self, customers: pl.Series) -> pl.Series:
        rows = standing.stored(self._connection, self._program.shop).filter(pl.col("now") >= self._as_of)
        # The rows first, then the history: what a row already knows must not be missing from what it is held against.
        wrong = standing.differences(rows, self._expected(rows))["customer_id"]
        arrived = rows["customer_id"]
        return customers.filter(~customers.is_in(arrived.implode()) | customers.is_in(wrong.implode()))
