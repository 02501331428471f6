"""Redemptions in the history: one row each, and what was decided archived with the first of them."""

from collections.abc import Callable
from typing import Any

import pytest

from events import codec, envelopes, topics
from runtime.settings import Settings
from streams.sink.redemptions import Contradicted
from tests.integration.test_sink_store import Feed, feed, settings  # noqa: F401 - fixtures
from tests.sinks import SHOP, key, rows

pytestmark = pytest.mark.server
Json = dict[str, Any]
Told = Callable[..., tuple[str, str, Json]]


def redemption(**more: Any) -> tuple[str, str, Json]:
    row = {
        "shop": SHOP,
        "customer_id": "7",
        "request_id": "till-1",
        "revision": "a",
        "reward_id": "ten-off",
        "cost": 500,
        "forced": False,
        "seq": 1,
        "requested_at": "2026-11-21T09:30:00Z",
        "decided_at": "2026-11-21T09:30:01.000001Z",
        "accepted": True,
        "reason": None,
        "balance": 720,
        "status": "reserved",
        "points": -500,
        "returned_reason": None,
        "attempt": None,
        "code": None,
        "valid_until": None,
        "archived": False,
    }
    return topics.REDEMPTIONS, key("7"), {**row, **more}


ARCHIVED = "SELECT key, webhook_id, stream, value FROM raw_events"
STORED = "SELECT status, points, revision FROM redemptions ORDER BY request_id"


@pytest.mark.parametrize("journal", [True, False])
def test_what_was_decided_is_archived_once(settings: Settings, feed: Feed, journal: bool) -> None:  # noqa: F811
    """By whatever way inputs come: this one came of ourselves."""
    feed(redemption(), journal=journal)
    feed(redemption(), redemption(revision="b", status="returned", points=0, returned_reason="cancelled"))
    feed(redemption(archived=True), journal=journal)
    ((name, webhook, stream, value),) = rows(settings, ARCHIVED)
    assert (name, webhook, stream) == (key("7"), "decision/till-1", topics.REQUESTS)
    said = envelopes.envelope(value.encode(), topics.REQUESTS)
    assert said == codec.loads(value.encode()), "nothing of it is left out when it is read"
    assert (said["payload"]["cost"], said["payload"]["accepted"], said["payload"]["seq"]) == (500, True, 1)
    assert rows(settings, STORED) == [("returned", 0, "b")]


def test_a_row_of_a_lower_revision_changes_nothing(settings: Settings, feed: Feed) -> None:  # noqa: F811
    feed(redemption(revision="b", status="used"))
    feed(redemption())
    assert rows(settings, STORED) == [("used", -500, "b")]


def test_what_the_history_says_already_is_not_archived_again(settings: Settings, feed: Feed) -> None:  # noqa: F811
    feed(redemption(archived=True))
    assert rows(settings, ARCHIVED) == []
    assert len(rows(settings, STORED)) == 1


def test_one_name_of_two_customers_is_two_requests(settings: Settings, feed: Feed) -> None:  # noqa: F811
    topic, _, row = redemption()
    feed(
        redemption(), (topic, key("8"), {**row, "customer_id": "8", "accepted": False, "reason": "limit", "points": 0})
    )
    assert len(rows(settings, STORED)) == len(rows(settings, ARCHIVED)) == 2


@pytest.mark.parametrize(
    "other", [{"accepted": False, "reason": "limit"}, {"seq": 2}, {"decided_at": "2026-11-21T09:30:02Z"}, {"cost": 1}]
)
@pytest.mark.parametrize("together", [True, False])
def test_a_second_decision_stops_the_sink(settings: Settings, feed: Feed, other: Json, together: bool) -> None:  # noqa: F811
    """Somebody ran a worker on tables that were lost: what was told must not be overwritten by what it makes of it."""
    if not together:
        feed(redemption())
    with pytest.raises(Contradicted, match=r"till-1 of customer 7 .* `loyalnest rebuild"):
        feed(*([redemption()] if together else []), redemption(revision="z", **other))
    assert rows(settings, STORED) == ([] if together else [("reserved", -500, "a")])
