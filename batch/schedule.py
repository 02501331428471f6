"""The scheduled run: each shop's batch at its program's local times, and then its analysts' file; and parity of all.

Programs are looked up again every few seconds, so a new shop or a changed time needs no restart. One batch runs at a
time. What was missed while nobody was here is made up for once; what fails is tried again, later each time.
"""

import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic
from types import MappingProxyType
from typing import Any, Final

import psycopg
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from batch import frames, parity, runs, segments
from batch.analytics import making
from batch.gates.running import GatesError
from batch.publishing import Publish, publishing
from batch.runs import RunReport
from batch.times import Times
from books import dead_letters, imports, unknown_shops
from events.programs import Program
from lake.errors import LakeError
from runtime import health, metrics
from runtime.ports import Publisher, PublishError
from runtime.settings import Settings
from runtime.supervised import health_listener

log = logging.getLogger(__name__)

#: Seconds between two looks at the programs.
LOOK: Final = 5.0
#: Seconds between two looks for dead letters that are old enough to go.
FORGET: Final = 3600.0
#: The loop that looks moves on within the database's own time limits (seconds).
ALIVE: Final = 120.0

#: Minutes after which a batch that failed is tried again, each time later; then its next time is waited for.
AGAIN: Final = (1, 5, 25)

#: Runs a shop's batch as of a time: the how many-th try it is.
Run = Callable[[str, datetime, int], RunReport]

#: Makes a shop's analysts' file.
Analytics = Callable[[str], making.Made]


def main(settings: Settings, publisher: Publisher, stop: threading.Event | None = None) -> int:
    """Runs every shop's batch at its time until SIGTERM or SIGINT (or `stop`); the exit code.

    A run under way is broken off and noted as failed: what it published holds, and the next one asks again.
    """
    ending = stop or threading.Event()
    if stop is None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: ending.set())

    def on_progress(*_: Any) -> None:
        if ending.is_set():
            raise frames.BatchError("the schedule was told to end")

    with publishing(publisher) as publish:
        schedule = Schedule(
            settings,
            lambda shop, as_of, attempt: segments.connected(
                settings, publish, shop, as_of, on_progress=on_progress, attempt=attempt
            ),
            (lambda shop: making.main(settings, shop, on_progress=on_progress)) if settings.batch_analytics else None,
        )
        schedule.start()
        pulse = health.Pulse(ALIVE)
        if (listener := health_listener(settings.worker_host, settings.worker_port)) is not None:
            health.serve(listener, pulse)
        forget_at = 0.0
        try:
            while not ending.is_set() and publisher.failed() is None:
                schedule.look()
                bring_in(settings, publish)
                schedule.run_due()
                if monotonic() >= forget_at:
                    forget(settings)
                    forget_at = monotonic() + FORGET
                pulse.beat()
                pulse.waiting = schedule.waiting
                ending.wait(LOOK)
        finally:
            schedule.close()
    if (why := publisher.failed()) is not None:
        log.critical("the schedule ends, to be started anew: %s", why)
        return 1
    return 0


def bring_in(settings: Settings, publish: Publish) -> None:
    """Takes in what came before its shop was added. What cannot be now is left to the next look."""
    try:
        with frames.connect(settings) as connection:
            for shop in unknown_shops.waiting(connection):
                unknown_shops.bring_in(settings, connection, publish, shop)
    except (psycopg.Error, PublishError) as error:
        log.warning("what came before its shop was added could not be brought in: %s", error)


def forget(settings: Settings) -> None:
    """Removes dead letters that are old enough, sealed bodies first. What cannot be now is left to the next look."""
    now = datetime.now(UTC)
    bodies, letters = (now - timedelta(days) for days in (settings.dead_body_days, settings.dead_letter_days))
    try:
        with frames.connect(settings) as connection:
            found = dead_letters.forget(connection, bodies, letters)
    except psycopg.Error as error:
        log.warning("old dead letters could not be removed: %s", error)
        return
    if any(found):
        log.info("removed %d sealed bodies and %d dead letters for their age", *found)


class Schedule:
    """The shops' jobs, one each, kept in step with the programs."""

    def __init__(self, settings: Settings, run: Run, analytics: Analytics | None = None) -> None:
        self._settings = settings
        self._run = run
        self._analytics = analytics
        self._at: dict[str, tuple[Any, ...]] = {}
        self._ending = False
        #: Held by whoever adds a job from a batch's thread, or ends them: APScheduler's own lock is held for as long as
        #: that takes, and whoever waits for it would be waited for.
        self._adding = threading.Lock()
        #: Shops whose past has come in, each with when the last of it did: their batch runs, or waits to.
        self._due: dict[str, datetime] = {}
        #: Why it does not keep up with the programs, in words.
        self.waiting: list[str] = []
        self._scheduler: Any = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(1), "parity": ThreadPoolExecutor(1)},
            # However late, each once: a night's batches wait for each other, and a machine may have slept meanwhile.
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def start(self) -> None:
        """Begins to run batches, in a thread of its own; parity is compared in another."""
        if self._settings.parity_hours:
            every = IntervalTrigger(hours=self._settings.parity_hours, timezone=UTC)
            self._scheduler.add_job(compare, every, args=(self._settings,), id="parity", executor="parity")
        self._scheduler.start()

    def close(self) -> None:
        """Returns when the run under way has ended; those that wait for it do not begin."""
        with self._adding:
            self._ending = True
        self._scheduler.remove_all_jobs()
        self._scheduler.shutdown(wait=True)

    def look(self) -> None:
        """Reads the programs; a database that is away for a while only delays what is new."""
        self.waiting = []
        if self._scheduler.running:
            self._scheduler.wakeup()  # it waits by a clock that stands still while the machine sleeps
        try:
            with frames.connect(self._settings) as connection:
                self.follow(frames.programs(connection), runs.last_begun(connection))
        except psycopg.Error as error:
            self.waiting = ["the database does not answer"]
            log.warning("the schedule could not read the programs: %s", error)

    def run_due(self) -> None:
        """The batch, once, of each shop whose past has come in. Until it is done it is due for whoever starts next."""
        try:
            with frames.connect(self._settings) as connection:
                due = imports.batches_due(connection)
        except psycopg.Error as error:
            log.warning("whether a batch is due cannot be read: %s", error)
            return
        for shop, ended in due.items():
            if self._due.get(shop) != ended:
                self._due[shop] = ended
                self._scheduler.add_job(self._batch, args=(shop,), id=f"{shop} once", replace_existing=True)

    def _is_done(self, shop: str, ended: datetime) -> None:
        """The batch that was due since then has run."""
        try:
            with frames.connect(self._settings) as connection:
                imports.batch_done(connection, shop, ended)
        except psycopg.Error as error:
            log.warning("that the batch of %s has run could not be noted: %s", shop, error)

    def follow(self, programs: list[Program], begun: Mapping[str, datetime] = MappingProxyType({})) -> None:
        """Adds, moves and removes jobs so that each shop with a `batch_at` has one, at its local times.

        `begun` is when each shop's newest published run began. A shop met for the first time whose last time was
        missed, though its program held by then, has its batch at once.
        """
        wanted = {each.shop: each for each in programs if each.batch_at is not None}
        for shop in self._at.keys() - wanted.keys():
            self._scheduler.remove_job(shop)
            del self._at[shop]
        for shop, program in wanted.items():
            at = (program.batch_at, program.zone, program.batch_weekday, program.batch_every)
            if self._at.get(shop) == at:
                continue
            trigger = Times.of(program)
            assert trigger is not None
            known = shop in self._at
            self._scheduler.add_job(self._batch, trigger, args=(shop,), id=shop, replace_existing=True)
            self._at[shop] = at
            log.info("the batch of %s runs at %s", shop, " ".join(str(each) for each in at if each is not None))
            if not known and _missed(program, trigger.last(datetime.now(UTC)), begun.get(shop)):
                log.info("the batch of %s was missed, and is run now", shop)
                self._scheduler.add_job(self._batch, args=(shop,), id=f"{shop} once", replace_existing=True)

    def next_run(self, shop: str) -> datetime | None:
        """When the shop's batch runs next, None if it has none."""
        job = self._scheduler.get_job(shop)
        found: datetime | None = None if job is None else job.next_run_time
        return found

    def _batch(self, shop: str, attempt: int = 1) -> None:
        as_of = datetime.now(UTC).replace(second=0, microsecond=0)
        due = self._due.get(shop)
        try:
            report = self._run(shop, as_of, attempt)
        except GatesError as error:
            # What went in must change first: another try would find the same.
            metrics.BATCHES.labels("stopped").inc()
            log.error("the batch of %s: %s", shop, error)
        except (frames.BatchError, PublishError, psycopg.Error) as error:
            log.error("the batch of %s failed%s: %s", shop, self._again(shop, attempt), error)
        except Exception:
            log.exception("the batch of %s failed%s", shop, self._again(shop, attempt))
        else:
            metrics.BATCHES.labels("done").inc()
            if due is not None:
                self._is_done(shop, due)
            if report.detail is not None:
                log.warning("the batch of %s: %s", shop, report.detail)
            log.info(
                "the batch of %s: %d customers, cut points %s, %d rounds, %.1f s",
                shop,
                report.customers,
                report.version,
                report.rounds,
                report.seconds,
            )
            self._make_file(shop)

    def _again(self, shop: str, attempt: int) -> str:
        """Has a batch that failed tried once more; that, in words."""
        metrics.BATCHES.labels("failed").inc()
        with self._adding:
            if self._ending:
                return " as this process ends; the next one makes up for it"
            if attempt > len(AGAIN):
                return f" for the {attempt}th time"
            minutes = AGAIN[attempt - 1]
            at = datetime.now(UTC) + timedelta(minutes=minutes)
            self._scheduler.add_job(
                self._batch, "date", run_date=at, args=(shop, attempt + 1), id=f"{shop} again", replace_existing=True
            )
        return f", to be tried again in {minutes} min"

    def _make_file(self, shop: str) -> None:
        """The shop's file for analysts. Without it the batch is as good: the one of the day before stands."""
        if self._analytics is None:
            return
        try:
            made = self._analytics(shop)
        except (frames.BatchError, LakeError, psycopg.Error) as error:
            log.error("the analysts' file of %s could not be made: %s", shop, error)
        except Exception:
            log.exception("the analysts' file of %s could not be made", shop)
        else:
            log.info("the analysts' file of %s: %d bytes, %.1f s", shop, made.size, made.seconds)


def _missed(program: Program, last: datetime, begun: datetime | None) -> bool:
    if program.announced_at is not None and program.announced_at > last:
        return False
    return begun is None or begun < last


def compare(settings: Settings) -> None:
    """Holds every shop's tables against its history, and says what differs; one shop's failure stops no other."""
    kinds: Counter[str] = Counter()
    try:
        with frames.connect(settings) as connection:
            shops = [each.shop for each in frames.programs(connection)]
    except psycopg.Error as error:
        log.warning("the programs could not be read: %s", error)
        return
    for shop in shops:
        try:
            found = parity.main(settings, shop)
        except (frames.BatchError, LakeError, psycopg.Error) as error:
            log.error("parity of %s could not be compared: %s", shop, error)
            continue
        for line in found:
            log.error("parity of %s: %s", shop, line)
            kinds[line.partition(":")[0]] += 1
    for kind in parity.KINDS:
        metrics.PARITY_DIFFERENCES.labels(kind).set(kinds[kind])
    metrics.PARITY_AT.set_to_current_time()
