"""When points run out, at the calendar's edges: by the stream and by the batch alike."""

from zoneinfo import ZoneInfo

import polars as pl
import pytest

from events import instants
from events.programs import Program
from lake import accounts
from tables.terms import FOR_EVER, Terms

ANY = "since ever"


def program(zone: str, since: str, days: int, calendar: str) -> Program:
    said = {"effective_from": None if since == ANY else since, "life_days": days, "calendar": calendar}
    return Program.model_validate({"shop": "a.myshopify.com", "currency": "USD", "zone": zone, "expiry": [said]})


def both(of: Program, begun: int) -> int:
    """When what can be spent from an instant on runs out, by the stream; the batch says the same."""
    lives = [(each.since, each.days, each.calendar) for each in of.expiry]
    (batch,) = accounts._end(pl.Series([begun]), [(-FOR_EVER, None, "day"), *lives], ZoneInfo(of.zone))
    found = Terms(of).runs_out(begun)
    assert batch == found
    return found


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("calendar", ["day", "year"])
@pytest.mark.parametrize("since", ["9997-06-01T00:00:00Z", "9998-12-31T23:59:59Z"])
@pytest.mark.parametrize("days", [1, 36_500])
def test_a_life_of_the_end_of_all_time_ends_nothing_or_in_time(zone: str, calendar: str, since: str, days: int) -> None:
    """A shop may announce it; no worker must end of it, and no row be of a time that cannot be stored."""
    ends = both(program(zone, since, days, calendar), instants.parse("2026-11-20T10:00:00Z"))
    assert ends == FOR_EVER or instants.parse(since) < ends <= instants.LATEST


@pytest.mark.parametrize(
    ("begun", "ends"),
    [
        # A minute after midnight clocks went back to 23:01, so that the day before had its last hour twice.
        ("2010-11-06T02:29:30Z", "2010-11-07T02:30:00Z"),
        ("2010-11-06T02:30:30Z", "2010-11-08T03:30:00Z"),
        ("2010-11-06T02:31:30Z", "2010-11-08T03:30:00Z"),
        ("2010-11-06T03:29:00Z", "2010-11-08T03:30:00Z"),
        ("2010-11-06T03:30:00Z", "2010-11-08T03:30:00Z"),
    ],
)
def test_a_midnight_that_comes_twice_is_the_first(begun: str, ends: str) -> None:
    of = program("America/St_Johns", ANY, 1, "day")
    assert instants.text(both(of, instants.parse(begun))) == ends


def test_what_has_run_out_stays_so_though_clocks_go_back() -> None:
    terms = Terms(program("America/St_Johns", ANY, 1, "day"))
    begin = instants.parse("2010-11-07T02:00:00Z")
    gone = [terms.gone_until(begin + minutes * instants.MINUTE) for minutes in range(120)]
    assert gone == sorted(gone)
    for begun in range(instants.parse("2010-11-05T20:00:00Z"), instants.parse("2010-11-06T10:00:00Z"), instants.MINUTE):
        for at in (begin + minutes * instants.MINUTE for minutes in range(0, 120, 7)):
            assert (terms.runs_out(begun) <= at) == (begun <= terms.gone_until(at))
