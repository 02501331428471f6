"""The batch of segments: everyone's values as of T, cut points, digits for all, and the stream brought to them.

    history as of T ─► values ─► cut points ─► standings ─► batch_segments (kept whole)
                                     │ published, once its gates hold
                                     └─► loyalnest.cut-points, loyalnest.rescore ─► rounds until none differ

An `as_of` before the last published one is a question: its run is stored, and nothing is published.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import polars as pl
from psycopg import Connection

from batch import arrival, frames, orders, rescoring, runs, standing, windows
from batch.gates import running as gates
from batch.history import History
from batch.publishing import Publish, publishing
from batch.rescoring import OnProgress, Patience
from batch.runs import RunReport
from batch.windows import Late
from books import unknown_shops
from events import instants, keys, topics
from events.messages import Message
from events.programs import CutPoints, Program
from lake import filling, manifest, past, reading, rfm, since
from lake.errors import BehindError, LakeError
from lake.manifest import Lake
from lake.reading import Files
from runtime.ports import Publisher
from runtime.settings import Settings

#: A sink is never this far apart in its topics without being noticed. With a journal the history is always first.
SETTLED = timedelta(minutes=5)


class Gating(NamedTuple):
    """Whether a run that publishes is held against its gates, and goes on although one fails."""

    on: bool = False
    despite: bool = False


def _silent(_stage: str, _done: int, _total: int | None) -> None:
    pass


def main(
    settings: Settings,
    publisher: Publisher,
    shop: str,
    as_of: datetime,
    publish: bool | None = None,
    on_progress: OnProgress = _silent,
    patience: Patience = Patience(),  # noqa: B008 - immutable
    despite: bool = False,
) -> RunReport:
    """Runs the batch of one shop.

    `publish` None: unless `as_of` is before the last published one. With `despite` it publishes although gates fail.
    BatchError (a GatesError too), PublishError and psycopg.Error say what went wrong; the run is then noted as failed.
    The publisher must be fresh, and is closed in the end. `on_progress` is told (stage, done, total or None) and may
    raise, to end the run.
    """
    with publishing(publisher) as durably:
        return connected(settings, durably, shop, as_of, publish, on_progress, patience, despite)


def connected(
    settings: Settings,
    publish: Publish,
    shop: str,
    as_of: datetime,
    wanted: bool | None = None,
    on_progress: OnProgress = _silent,
    patience: Patience = Patience(),  # noqa: B008 - immutable
    despite: bool = False,
    attempt: int = 1,
) -> RunReport:
    """As `main`, with a function that returns when its messages are durable; `attempt`: the how many-th try it is."""
    settled = timedelta(0) if settings.journal else SETTLED
    with frames.connect(settings) as connection:
        arrival.wait(settings, connection, on_progress)
        if wanted is not False:
            unknown_shops.bring_in(settings, connection, publish, shop)
        with closing(arrival.Rest(settings, connection)) as rest:
            return run(
                connection,
                publish,
                shop,
                as_of,
                wanted,
                on_progress,
                patience,
                settled,
                settings.partitions,
                settings.batch_runs,
                manifest.of(settings),
                Gating(settings.batch_gates, despite),
                attempt,
                rest.reached,
                settings.expiring_days,
            )


def run(
    connection: Connection[Any],
    publish: Publish,
    shop: str,
    as_of: datetime,
    wanted: bool | None = None,
    on_progress: OnProgress = _silent,
    patience: Patience = Patience(),  # noqa: B008 - immutable
    settled: timedelta = timedelta(0),
    partitions: int = 8,
    kept: int = 60,
    lake: Lake | None = None,
    gating: Gating = Gating(),  # noqa: B008 - immutable
    attempt: int = 1,
    at_rest: Callable[[], bool] = lambda: False,
    expiring_days: Sequence[int] = (),
) -> RunReport:
    """As `connected`, over an autocommit connection. `settled`: see windows.rebuild_late; `kept` runs stay.

    Without a lake the whole raw history is read. `at_rest`: see arrival.Rest, `expiring_days`: runs.finish.
    """
    program = frames.program(connection, shop)
    runs.lock(connection, shop)
    try:
        published = frames.published(connection, shop)
        publishes = _decide(wanted, as_of, frames.last_as_of(published))
        run_id = runs.begin(connection, shop, as_of, attempt)
        try:
            batch = _Run(connection, publish, program, as_of, on_progress, settled, partitions, lake, gating, at_rest)
            report = batch.report(run_id, published if publishes else None, patience, expiring_days)
            runs.forget(connection, shop, kept)
            return report
        except BaseException as error:
            if not connection.closed:
                runs.fail(connection, run_id, error)
            raise
    finally:
        if not connection.closed:
            runs.unlock(connection, shop)


def _decide(wanted: bool | None, as_of: datetime, last: datetime | None) -> bool:
    """Whether to publish; BatchError for publishing what is yet to come."""
    publishes = wanted if wanted is not None else last is None or as_of >= last
    if publishes and as_of > datetime.now(UTC):
        raise frames.BatchError(
            f"{instants.text(instants.from_datetime(as_of))} is yet to come: publishing would move every customer there"
        )
    return publishes


class _Run:
    """One run's steps, and what they share."""

    def __init__(
        self,
        connection: Connection[Any],
        publish: Publish,
        program: Program,
        as_of: datetime,
        on_progress: OnProgress,
        settled: timedelta,
        partitions: int,
        lake: Lake | None,
        gating: Gating,
        at_rest: Callable[[], bool],
    ) -> None:
        self.gating = gating
        self.at_rest = at_rest
        self.partitions = partitions
        self.connection = connection
        self.publish = publish
        self.program = program
        self.as_of = as_of
        self.on_progress = on_progress
        self.settled = settled
        self.lake = lake
        self.from_lake = (0, 0)  # webhooks that an answer from the lake is made of, and the unreadable of them
        self.history = History(program.shop, program.currency, lake)
        self.worth: pl.DataFrame | None = None
        self.known: since.Known | None = None
        self.published: list[CutPoints] = []

    def report(
        self, run_id: UUID, published: list[CutPoints] | None, patience: Patience, expiring_days: Sequence[int]
    ) -> RunReport:
        """Does everything. `published` None: nothing is to be published."""
        began = time.monotonic()
        found, cut_points = self.score(run_id if published is not None and self.gating.on else None)
        shop = self.program.shop
        runs.store(self.connection, run_id, shop, self.as_of, cut_points.version, found)
        outcome = rescoring.Outcome(0, 0)
        if published is not None:
            value = cut_points.model_dump_json().encode()
            self.publish([Message(topics.CUT_POINTS, keys.join(shop, cut_points.version), value)])
            runs.note_published(self.connection, run_id)
            self.published = [*published, cut_points]
            asking = rescoring.Rescoring(
                *(self.connection, self.expected, self.program, cut_points),
                *(self.on_progress, patience, self.partitions, self.at_rest),
            )
            outcome = asking.run(self.publish, found["customer_id"])
        rebuilt = windows.rebuild_late(self.connection, self.told_in, self.program, self.settled)
        differ, detail = outcome.differing.len(), None
        if differ:
            detail = (
                f"{differ} of {found.height} customers are not as the history says after {outcome.rounds} rounds of"
                f" asking (for one, {outcome.differing[0]}): is the worker running, and the sink?"
            )
        counts = found["segment"].value_counts(sort=True)
        report = RunReport(
            run_id=run_id,
            shop=shop,
            as_of=self.as_of,
            version=cut_points.version,
            published=published is not None,
            customers=found.height,
            scored=cut_points.customers,
            segments=dict(counts.iter_rows()),
            rescored=outcome.rescored,
            differ=differ,
            detail=detail,
            rounds=outcome.rounds,
            windows=rebuilt,
            webhooks=self.history.webhooks or self.from_lake[0],
            unreadable=self.history.unreadable or self.from_lake[1],
            seconds=time.monotonic() - began,
        )
        runs.finish(self.connection, report, expiring_days)
        return report

    def score(self, run_id: UUID | None) -> tuple[pl.DataFrame, CutPoints]:
        """Everyone's standing as of the run's time, under cut points made from it: from the lake, where it holds all of
        that time.

        GatesError where a run that is held against its gates (its id) does not pass them.
        """
        at = instants.from_datetime(self.as_of)
        if self.lake is not None:
            with suppress(LakeError):  # another process fills it
                filling.fill(self.connection, self.lake, lambda done: self.on_progress("reading", done, None))
        with self.files(at) as files:
            if files is None:
                return self.score_history(run_id, at)
            self.on_progress("scoring", 0, None)
            self.from_lake = files.webhooks, files.unreadable
            found, cut_points = past.work_out(files, self.program, at)
            self.known = since.known(files, found, at)
            if run_id is not None:
                self.check(run_id, gates.Taken.of_files(files, self.program, at), found, cut_points)
            return found, cut_points

    def score_history(self, run_id: UUID | None, at: int) -> tuple[pl.DataFrame, CutPoints]:
        """As `score`, from the whole history joined in memory: where there is no lake, or one that is behind."""
        self.history.read(self.connection, at, lambda done: self.on_progress("reading", done, None))
        self.on_progress("scoring", 0, None)
        everyone = self.history.customers().filter(pl.col("merged_into").is_null()).select("customer_id")
        customers = everyone.with_columns(now=pl.lit(at, dtype=pl.Int64))
        worth = orders.worth(self.history, self.program)
        values = rfm.values(customers, worth, orders.given(self.history, self.program), self.program)
        cut_points = rfm.find_cut_points(values, self.program, self.as_of)
        found = rfm.standings(values, cut_points, self.program)
        if run_id is not None:
            self.check(run_id, gates.Taken.of_history(self.history, worth), found, cut_points)
        return found, cut_points

    def check(self, run_id: UUID, taken: gates.Taken, found: pl.DataFrame, cut_points: CutPoints) -> None:
        """Holds the run against its gates; GatesError where one fails."""
        self.on_progress("checking", 0, None)
        gates.hold(
            *(self.connection, run_id, self.program, self.as_of, taken, found, cut_points),
            despite=self.gating.despite,
        )

    @contextmanager
    def files(self, until: int) -> Iterator[Files | None]:
        """The lake's files for `until`, with what was told since; None without a lake, or where it lacks too much."""
        with ExitStack() as stack:
            found = None
            if self.lake is not None:
                try:
                    found = stack.enter_context(reading.told_until(self.connection, self.lake, self.program, until))
                except BehindError:  # more came in while customers were asked than a reader takes in
                    with suppress(BehindError, LakeError):
                        filling.fill(self.connection, self.lake)
                        found = stack.enter_context(reading.told_until(self.connection, self.lake, self.program, until))
            yield found

    def expected(self, rows: pl.DataFrame) -> pl.DataFrame:
        """What rows (customer_id, now) should be, each as of its own `now`, by all that has been told."""
        with self.files(reading.EVER) as files:
            if files is not None:
                return standing.expected_of(files, rows, self.published, self.program, self.same(files))
        return standing.expected(rows, self.everything(), self.history, self.published, self.program)

    def same(self, files: Files) -> pl.DataFrame | None:
        """Whose values stand as this run has worked them out, by all that `files` hold."""
        if self.known is None:
            return None
        # After the files were read: who is left out for what they do not know yet is only summed anew.
        told = reading.orders_told_since(self.connection, self.program, self.known.edge)
        return since.same(files, self.known, told)

    def told_in(self, late: Sequence[Late]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """What the orders of these windows are worth by all that has been told, and what else was given and taken."""
        with self.files(reading.EVER) as files:
            if files is not None:
                worth = orders.worth_of(files, self.program, [each.start for each in late])
                return worth, past.given(files, self.program, reading.EVER)
        return self.everything(), orders.given(self.history, self.program)

    def everything(self) -> pl.DataFrame:
        """What each order is worth by the whole history, joined in memory."""
        if self.history.read(self.connection) or self.worth is None:
            self.worth = orders.worth(self.history, self.program)
        return self.worth
