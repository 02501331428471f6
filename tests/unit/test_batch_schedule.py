"""The schedule: a local time once a day in every zone, and jobs that follow the programs."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from batch import frames, schedule
from batch.gates.running import GatesError
from batch.publishing import publishing
from batch.schedule import Schedule
from batch.times import Times
from events.messages import Message
from events.programs import Program
from runtime import patience
from runtime.ports import PublishError
from runtime.settings import Settings
from tests.support import WellPublisher

UNUSED = Settings(database="postgresql://unused")


@pytest.mark.parametrize(
    ("zone", "at", "start"),
    [
        ("UTC", "01:00", datetime(2026, 3, 27, 12, tzinfo=UTC)),
        ("Europe/London", "01:00", datetime(2026, 3, 27, 12, tzinfo=UTC)),  # 01:00 is left out on the 29th
        ("America/New_York", "01:00", datetime(2026, 10, 30, 12, tzinfo=UTC)),  # and comes twice on 1 November
        ("Europe/Berlin", "02:30", datetime(2026, 10, 23, 12, tzinfo=UTC)),
        ("Pacific/Kiritimati", "00:00", datetime(2026, 3, 27, 12, tzinfo=UTC)),
    ],
)
def test_once_on_every_local_date(zone: str, at: str, start: datetime) -> None:
    trigger, previous, now = Times(at, zone), None, start
    dates = []
    for _ in range(6):
        found = trigger.get_next_fire_time(previous, now)
        assert found >= now
        dates.append(found.astimezone(ZoneInfo(zone)).date())
        previous, now = found, found + timedelta(milliseconds=3)
    assert dates == [dates[0] + timedelta(days=day) for day in range(6)]


def test_it_never_names_the_time_it_named_last() -> None:
    found = Times("01:00", "UTC").get_next_fire_time(None, datetime(2026, 3, 1, 1, tzinfo=UTC))
    assert found == datetime(2026, 3, 1, 1, tzinfo=UTC)
    assert Times("01:00", "UTC").get_next_fire_time(found, found) == datetime(2026, 3, 2, 1, tzinfo=UTC)


def test_weekly_and_several_times_a_day() -> None:
    thursday = datetime(2026, 11, 26, 12, tzinfo=UTC)
    weekly = Times("01:00", "Europe/Berlin", weekday="monday")
    assert weekly.get_next_fire_time(None, thursday) == datetime(2026, 11, 30, tzinfo=UTC)
    assert weekly.last(thursday) == datetime(2026, 11, 23, tzinfo=UTC)
    often = Times("01:00", "UTC", every=420)
    found = [datetime(2026, 11, 26, 11, tzinfo=UTC)]
    for _ in range(5):
        found.append(often.get_next_fire_time(found[-1], found[-1]))
    assert [at.hour for at in found[1:]] == [15, 22, 1, 8, 15]  # from 01:00 on, which comes each day
    assert often.last(thursday) == datetime(2026, 11, 26, 8, tzinfo=UTC)
    assert Times("01:00", "UTC").last(thursday) == datetime(2026, 11, 26, 1, tzinfo=UTC)


def test_an_hourly_batch_of_a_day_of_25_hours_has_25_times() -> None:
    hourly, at = Times("00:30", "America/New_York", every=60), datetime(2026, 11, 1, 4, tzinfo=UTC)
    found = set()
    while (at := hourly.get_next_fire_time(at, at)) < datetime(2026, 11, 2, 5, tzinfo=UTC):
        found.add(at)
    assert len(found) == 25


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_weekday": "monday", "batch_every": 60},
        {"batch_at": None, "batch_every": 60},
        {"batch_at": None, "batch_weekday": "monday"},
        {"batch_every": 4},
    ],
)
def test_a_schedule_says_one_thing(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="batch"):
        program("a", **wrong)


def program(shop: str, **changes: Any) -> Program:
    return Program.model_validate({"shop": f"{shop}.myshopify.com", "currency": "USD"} | changes)


def test_jobs_follow_the_programs() -> None:
    made = Schedule(UNUSED, lambda shop, as_of, attempt: pytest.fail("nothing is due"))
    made.start()
    try:
        made.follow([program("a"), program("b", batch_at=None)])
        first = made.next_run("a.myshopify.com")
        assert first is not None
        assert (first.hour, first.minute) == (1, 0)
        assert made.next_run("b.myshopify.com") is None
        made.follow([program("a", batch_at="04:30", zone="Asia/Kolkata"), program("b")])
        moved = made.next_run("a.myshopify.com")
        assert moved is not None
        assert (moved.hour, moved.minute) == (23, 0)
        assert made.next_run("b.myshopify.com") is not None
        made.follow([program("b")])
        assert made.next_run("a.myshopify.com") is None
    finally:
        made.close()


class Recording:
    """A run that is noted with its try."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.tries: list[tuple[str, int]] = []
        self.done = threading.Event()

    def __call__(self, shop: str, as_of: datetime, attempt: int) -> Any:
        self.tries.append((shop.partition(".")[0], attempt))
        self.done.set()
        if self.errors:
            raise self.errors.pop(0)
        return SimpleNamespace(detail=None, customers=1, version="v", rounds=0, seconds=0.1)


def test_what_was_missed_is_made_up_for_once() -> None:
    """By who had a program then, and no run since."""
    now = datetime.now(UTC)
    run = Recording()
    made = Schedule(UNUSED, run)
    long_ago = {"announced_at": now - timedelta(days=30)}
    shops = [
        program("missed", **long_ago),
        program("done", **long_ago),
        program("new", announced_at=now),
        program("never", batch_at=None, **long_ago),
    ]
    made.follow(shops, {"missed.myshopify.com": now - timedelta(days=2), "done.myshopify.com": now})
    made.start()
    try:
        assert run.done.wait(10)
        made.follow(shops, {})
    finally:
        made.close()
    assert run.tries == [("missed", 1)]


@pytest.mark.parametrize("hours", [1, 7, 50])
def test_however_late_a_batch_is_it_runs_once(hours: int) -> None:
    """Others took the night, or the machine slept."""
    run = Recording()
    made = Schedule(UNUSED, run)
    made.follow([program("a", announced_at=datetime.now(UTC))])
    made._scheduler.start(paused=True)
    made._scheduler.modify_job("a.myshopify.com", next_run_time=datetime.now(UTC) - timedelta(hours=hours))
    made._scheduler.resume()
    try:
        assert run.done.wait(10)
        ahead = made.next_run("a.myshopify.com")
        assert ahead is not None
        assert ahead > datetime.now(UTC)
    finally:
        made.close()
    assert run.tries == [("a", 1)]


def test_a_failed_batch_is_tried_again_later_each_time(caplog: pytest.LogCaptureFixture) -> None:
    run = Recording(*(frames.BatchError("no") for _ in range(4)))
    made = Schedule(UNUSED, run)
    made.start()
    try:
        waits = []
        for attempt in (1, 2, 3, 4):
            before = datetime.now(UTC)
            made._batch("a.myshopify.com", attempt)
            job = made._scheduler.get_job("a.myshopify.com again")
            waits.append(round((job.next_run_time - before).total_seconds() / 60))
            assert job.args == ("a.myshopify.com", min(attempt + 1, 4))
        assert waits[:3] == list(schedule.AGAIN)
        assert "to be tried again in 25 min" in caplog.text
        assert "failed for the 4th time" in caplog.text
    finally:
        made.close()


def test_it_ends_while_a_batch_that_has_failed_is_noted_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Recording(frames.BatchError("no"))
    made = Schedule(UNUSED, run)
    made.start()
    noting, ending, add = threading.Event(), threading.Event(), made._scheduler.add_job

    def slowly(*words: Any, **named: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            noting.set()
            ending.wait(0.5)  # meanwhile it ends, or waits for us
        return add(*words, **named)

    monkeypatch.setattr(made._scheduler, "add_job", slowly)
    made._scheduler.add_job(made._batch, args=("a.myshopify.com",))
    assert noting.wait(10)
    over = threading.Thread(target=made.close, daemon=True)
    over.start()
    over.join(20)
    assert not over.is_alive()


def test_what_the_end_breaks_off_is_not_said_to_be_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    begun, ending = threading.Event(), threading.Event()

    def fail(shop: str, as_of: datetime, attempt: int) -> Any:
        begun.set()
        assert ending.wait(10)
        raise frames.BatchError("the worker is gone")

    made = Schedule(UNUSED, fail)
    made.start()
    made.follow([program("a", announced_at=datetime.now(UTC) - timedelta(days=30))])
    assert begun.wait(10)
    closing = threading.Thread(target=made.close)
    closing.start()
    assert patience.until(lambda: made._ending, 10, every=0.01)
    ending.set()
    closing.join(10)
    assert "failed as this process ends; the next one makes up for it: the worker is gone" in caplog.text


def test_what_a_gate_stopped_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    made = Schedule(UNUSED, Recording(GatesError("nothing was published: revenue is 99")))
    made._batch("a.myshopify.com")
    assert made._scheduler.get_jobs() == []
    assert "nothing was published: revenue is 99" in caplog.text


def test_a_failed_batch_is_told_and_the_schedule_lives(caplog: pytest.LogCaptureFixture) -> None:
    def fail(shop: str, as_of: datetime, attempt: int) -> Any:
        raise frames.BatchError(f"{shop} as of {as_of.second} s")

    made = Schedule(UNUSED, fail)
    made._batch("a.myshopify.com")
    assert "the batch of a.myshopify.com failed, to be tried again in 1 min: a.myshopify.com as of 0 s" in caplog.text


def test_each_batch_is_followed_by_the_shops_file_and_one_that_fails_stops_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made: list[str] = []

    def run(shop: str, as_of: datetime, attempt: int) -> Any:
        if shop.startswith("a"):
            raise frames.BatchError("no batch")
        return SimpleNamespace(detail=None, customers=1, version="v", rounds=0, seconds=0.1)

    def analytics(shop: str) -> Any:
        made.append(shop)
        if shop.startswith("b"):
            raise OSError("the disk is full")
        return SimpleNamespace(size=7, seconds=0.1)

    schedule_ = Schedule(UNUSED, run, analytics)
    for shop in ("a", "b", "c"):
        schedule_._batch(shop)
    assert made == ["b", "c"]
    assert "the analysts' file of b could not be made" in caplog.text
    assert "the disk is full" in caplog.text
    Schedule(UNUSED, run)._batch("c")
    assert made == ["b", "c"]


class OneLoop(WellPublisher):
    """A publisher that belongs to the loop it was first used on, as a pool of connections does."""

    def __init__(self) -> None:
        self.loop: Any = None
        self.closed = False
        self.sent: list[Message] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.loop = self.loop or asyncio.get_running_loop()
        assert self.loop is asyncio.get_running_loop()
        self.sent += messages

    async def close(self) -> None:
        assert self.loop in (None, asyncio.get_running_loop())
        self.closed = True


def test_a_publisher_sees_one_loop_whatever_thread_publishes() -> None:
    publisher = OneLoop()
    with publishing(publisher) as publish:
        for key in ("a", "b"):
            thread = threading.Thread(target=publish, args=([Message("t", key, b"")],))
            thread.start()
            thread.join()
    assert [message.key for message in publisher.sent] == ["a", "b"]
    assert publisher.closed


def test_what_the_publisher_raises_reaches_the_caller() -> None:
    class Failing(WellPublisher):
        async def publish(self, messages: Sequence[Message]) -> None:
            raise PublishError("not durable")

    with publishing(Failing()) as publish, pytest.raises(PublishError, match="not durable"):
        publish([])


def test_it_ends_when_told_and_a_missing_database_does_not_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    looks: list[int] = []

    def look(self: Schedule) -> None:
        looks.append(1)
        if len(looks) == 3:
            stop.set()

    monkeypatch.setattr(schedule, "LOOK", 0.01)
    monkeypatch.setattr(Schedule, "look", look)
    publisher = OneLoop()
    assert schedule.main(UNUSED, publisher, stop) == 0
    assert len(looks) == 3
    assert publisher.closed


def test_it_ends_when_nothing_can_be_published_any_more() -> None:
    class Broken(OneLoop):
        def failed(self) -> str | None:
            return "fenced"

    assert schedule.main(UNUSED, Broken(), threading.Event()) == 1


def test_a_database_that_is_away_only_delays(caplog: pytest.LogCaptureFixture) -> None:
    Schedule(
        Settings(database="host=/nonexistent connect_timeout=1"), lambda shop, as_of, attempt: pytest.fail("none")
    ).look()
    assert "could not read the programs" in caplog.text
