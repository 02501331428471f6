"""The history of standings: whatever is replayed in whatever order, it leads to where the row stands."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.records import Standing
from streams.sink.standings import Told
from tests.harness import Standings
from tests.property.webhooks import thorough
from tests.sinks import standing

KEY = ("a.myshopify.com", "7")
NAMES = ("Champions", "Loyal", "Active", "Dormant")


def told(now: int, name: str, fence: int = 0, **more: Any) -> Told:
    found: Standing = standing(name, **more)  # type: ignore[assignment]
    return Told(fence, now, found, 3, 2, 12_000, "order 1")


def after(*batches: list[Told]) -> Standings:
    kept = Standings()
    for batch in batches:
        kept.take({KEY: batch})
    return kept


def path(kept: Standings) -> list[tuple[int, str | None, str]]:
    return [
        (each.at, each.previous and each.previous["segment"], each.standing["segment"]) for each in kept.changes[KEY]
    ]


def check(kept: Standings) -> None:
    changes = kept.changes[KEY]
    assert changes[-1].standing == kept.rows[KEY].standing
    assert changes[0].previous is None
    for one, two in pairwise(changes):
        assert one.at < two.at
        assert two.previous == one.standing != two.standing


def test_a_change_is_from_one_standing_to_the_next() -> None:
    kept = after([told(10, "Active"), told(20, "Active")], [told(30, "Loyal"), told(40, "Loyal")])
    assert path(kept) == [(10, None, "Active"), (30, "Active", "Loyal")]


def test_a_row_says_something_else_by_its_version_alone() -> None:
    kept = after([told(10, "Active")], [told(20, "Active", cut_points_version="v2")])
    assert path(kept) == [(10, None, "Active"), (20, "Active", "Active")]


def test_two_changes_of_one_instant_are_ordered_by_their_time() -> None:
    kept = after([told(10, "Active"), told(10, "Loyal")], [told(10, "Champions")], [told(11, "Dormant")])
    assert [at for at, _, _ in path(kept)] == [10, 11, 12, 13]
    check(kept)


def test_what_a_replay_repeats_changes_nothing() -> None:
    rows = [told(10, "Active"), told(20, "Loyal"), told(20, "Champions"), told(20, "Dormant")]
    kept = after(rows)
    before = kept.changes[KEY]
    for row in rows:
        kept.take({KEY: [row]})
        check(kept)
    assert kept.changes[KEY] == before


def test_what_was_told_before_a_crash_and_does_not_come_again_is_led_away_from() -> None:
    """A rescore first, then the order: Dormant at 20. In the replay the order first: Loyal at 15, and still at 20."""
    kept = after([told(10, "Active")], [told(20, "Dormant")], [told(15, "Loyal"), told(20, "Loyal")])
    assert path(kept) == [(10, None, "Active"), (20, "Active", "Dormant"), (21, "Dormant", "Loyal")]


def test_a_change_taken_back_at_its_own_instant_was_none() -> None:
    kept = after([told(10, "Active")], [told(20, "Dormant")], [told(20, "Active")])
    assert path(kept) == [(10, None, "Active")]


def test_a_new_owner_takes_back_what_the_former_told_of_later() -> None:
    kept = after([told(10, "Active"), told(20, "Loyal")], [told(30, "Dormant"), told(30, "Champions")])
    kept.take({KEY: [told(10, "Active", fence=1)]})
    assert path(kept) == [(10, None, "Active")]
    kept.take({KEY: [told(40, "Dormant"), told(30, "Loyal", fence=1)]})  # the first is of the former owner
    assert path(kept) == [(10, None, "Active"), (30, "Active", "Loyal")]


NOWS = st.sampled_from([10, 11, 12, 13, 500, 2000])
ROWS = st.lists(st.builds(told, NOWS, st.sampled_from(NAMES), st.sampled_from([0, 0, 1, 2])), min_size=1)


@thorough(300)
@given(first=ROWS, replays=st.lists(st.tuples(ROWS, st.integers(1, 5)), max_size=4), size=st.integers(1, 5))
def test_the_last_change_leads_to_the_rows_standing(
    first: list[Told], replays: list[tuple[list[Told], int]], size: int
) -> None:
    kept = Standings()
    for rows, most in [(first, size), *replays]:
        for at in range(0, len(rows), most):
            kept.take({KEY: rows[at : at + most]})
            check(kept)
