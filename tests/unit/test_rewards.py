"""The catalogue: which rewards can be had at an instant, and what no reward, hold or life may say."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from events import instants
from events.envelopes import explain
from events.programs import MAX_RULES, Program, Reward, endings, reward_at, rewards_at, rewards_from

T = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
AT = instants.from_datetime(T)
Json = dict[str, Any]


def said(since: int | None = None, until: int | None = None, **changes: Any) -> Json:
    """A reward that holds from so many days after T on."""
    times = {"effective_from": since, "until": until}
    found = {name: None if days is None else T + timedelta(days=days) for name, days in times.items()}
    return {"reward_id": "ten-off", "cost": 500, "kind": "amount", "value": "10", "name": "10 off", **found, **changes}


def program(*rewards: Json, currency: str = "USD", **changes: Any) -> Program:
    told = {"shop": "nest.myshopify.com", "currency": currency, "rewards": list(rewards)} | changes
    return Program.model_validate(told)


def cost(found: Program, at: int, reward_id: str = "ten-off") -> int | None:
    """By both helpers, which must agree."""
    held = reward_at(found, reward_id, at)
    listed = {each.reward_id: each for each in rewards_at(found, at)}
    assert listed.get(reward_id) == held
    return None if held is None else held.cost


def test_a_reward_holds_from_its_very_microsecond_until_its_end() -> None:
    found = program(said(0, 2))
    last = AT + 2 * instants.DAY - 1
    assert [cost(found, at) for at in (AT - 1, AT, last, last + 1)] == [None, 500, 500, None]
    assert cost(program(said()), 0) == 500, "since ever"
    assert cost(found, AT, "another") is None


def test_the_latest_entry_holds_and_once_ended_no_older_one_comes_back() -> None:
    found = program(said(), said(1, cost=600), said(2, 2, cost=600), said(4, cost=700))
    days = [AT + day * instants.DAY for day in range(5)]
    assert [cost(found, at) for at in days] == [500, 600, None, None, 700]


def test_of_two_at_one_instant_the_one_that_ends_sooner_holds_then_the_dearer() -> None:
    assert cost(program(said(0, cost=600), said(0, cost=500)), AT) == 600
    assert cost(program(said(0, 5, cost=600), said(0, 4, cost=500), said(0, cost=700)), AT) == 500
    assert cost(program(said(0, 0), said(0)), AT) is None


def test_the_catalogue_is_by_cost() -> None:
    found = program(said(reward_id="b"), said(reward_id="a"), said(reward_id="c", cost=1), said(1, reward_id="later"))
    assert [each.reward_id for each in rewards_at(found, AT)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reward_id": "Ten off"}, "reward_id"),
        ({"reward_id": "-x"}, "reward_id"),
        ({"reward_id": "x" * 65}, "reward_id"),
        ({"cost": 0}, "cost"),
        ({"cost": 10**13 + 1}, "cost"),
        ({"cost": "1.5"}, "cost"),
        ({"kind": "cake"}, "kind"),
        ({"value": None}, "value"),
        ({"value": "0"}, "value"),
        ({"value": "-1"}, "value"),
        ({"value": "9.999"}, "value"),
        ({"value": "1234567890123"}, "value"),
        ({"value": "999999999999"}, "value"),
        ({"value": "NaN"}, "value"),
        ({"kind": "percent", "value": "100.1"}, "value"),
        ({"kind": "percent", "value": "0"}, "value"),
        ({"kind": "percent", "value": None}, "value"),
        ({"kind": "store_credit", "value": None}, "value"),
        ({"kind": "shipping", "value": "9.999"}, "value"),
        ({"kind": "product", "value": None}, "product_id"),
        ({"kind": "product", "value": None, "product_id": "mug"}, "product_id"),
        ({"product_id": "7"}, "product_id"),
        ({"min_order": "-1"}, "min_order"),
        ({"min_order": "9.999"}, "min_order"),
        ({"limit": {"count": 0, "days": 1}}, "limit"),
        ({"limit": {"count": 1, "days": 36_501}}, "limit"),
        ({"limit": {"count": 1}}, "limit"),
        ({"valid_days": 0}, "valid_days"),
        ({"valid_days": 3_651}, "valid_days"),
        ({"unused": "keep"}, "unused"),
        ({"on_void": "forfeit"}, "on_void"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"names": {"d": "Ab"}}, "names"),
        ({"names": {"de": ""}}, "names"),
        ({"names": {f"x{letter}": "Ab" for letter in "abcdefghijklmnopqrstu"}}, "names"),
        ({"effective_from": "2026-11-21T09:30:00"}, "effective_from"),
        ({"effective_from": "2026-11-22T09:30:00Z", "until": "2026-11-22T09:29:59Z"}, "until"),
        ({"tiers": ["gold"]}, "tiers"),
    ],
)
def test_no_reward(changes: Json, field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        program(said() | changes)
    told = explain(refused.value)
    assert told.startswith("rewards")
    assert field in told


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "percent", "value": "100"},
        {"kind": "percent", "value": "12.345"},
        {"kind": "shipping", "value": None},
        {"kind": "product", "value": None, "product_id": "632910392"},
        {"kind": "store_credit", "value": "0.01", "min_order": "0", "limit": {"count": 1, "days": 36_500}},
        {"effective_from": T, "until": T},
        {"valid_days": 3_650, "unused": "return", "on_void": "keep", "names": {"de": "10 weniger", "pt-BR": "menos"}},
    ],
)
def test_a_reward_that_is_one_comes_back_as_it_was(changes: Json) -> None:
    found = program(said() | changes)
    assert Program.model_validate_json(found.model_dump_json()) == found


def test_money_of_a_reward_has_the_currencys_decimals() -> None:
    assert program(said(value="9.999", min_order="1.5"), currency="KWD").rewards[0].value is not None
    with pytest.raises(ValidationError, match=r"value of ten-off: more decimals than the currency's 0 \(JPY\)"):
        program(said(value="9.5"), currency="JPY")


def test_a_currency_that_is_none_is_told_of_alone() -> None:
    with pytest.raises(ValidationError) as refused:
        program(said(value="9.999"), currency="usd")
    assert [each["loc"] for each in refused.value.errors()] == [("currency",)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"holds": [{"hold_days": 366}]}, "hold_days"),
        ({"holds": [{"hold_days": -1}]}, "hold_days"),
        ({"holds": [{}]}, "hold_days"),
        ({"holds": [{"hold_days": 1}, {"hold_days": 2}]}, "holds"),
        ({"holds": [{"hold_days": 1}] * (MAX_RULES + 1)}, "holds"),
        ({"expiry": [{"life_days": 0}]}, "life_days"),
        ({"expiry": [{"life_days": 36_501}]}, "life_days"),
        ({"expiry": [{"calendar": "year"}]}, "life_days"),
        ({"expiry": [{"life_days": 1, "calendar": "month"}]}, "calendar"),
        ({"expiry": [{"life_days": 1}, {"life_days": None}]}, "expiry"),
        ({"expiry": [{"inactive_days": 29}]}, "inactive_days"),
        ({"expiry": [{"inactive_days": 36_501}]}, "inactive_days"),
        ({"expiry": [{"inactive_days": None}]}, "inactive_days"),
        ({"expiry": [{"inactive_days": 30, "calendar": "year"}]}, "calendar"),
        ({"expiry": [{"inactive_days": 30, "life_days": None}]}, "life_days"),
        ({"expiry": [{"inactive_days": 30}, {"inactive_days": 31}]}, "expiry"),
        ({"expiry": [{"inactive_days": 30}, {"life_days": 30, "effective_from": T.isoformat()}]}, "inactive_days"),
        ({"rewards": [said()] * (MAX_RULES + 1)}, "rewards"),
    ],
)
def test_no_hold_and_no_life(changes: Json, field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        program(**changes)
    assert field in explain(refused.value)


def test_what_lasts_longer_comes_last_of_one_instant() -> None:
    at = T.isoformat()
    lives = [{"life_days": days, "calendar": calendar} for days in (None, 2, 1) for calendar in ("year", "day")]
    found = program(
        holds=[{"hold_days": days, "effective_from": at} for days in (3, 1, 2)],
        expiry=[each | {"effective_from": at} for each in lives],
    )
    assert [each.hold_days for each in found.holds] == [1, 2, 3]
    assert [(each.days, each.calendar) for each in found.expiry] == [
        *((1, "day"), (1, "year"), (2, "day"), (2, "year")),
        *((None, "day"), (None, "year")),
    ]


def test_what_lasts_longer_comes_last_of_inactivity_too() -> None:
    at = T.isoformat()
    said: list[Json] = [{"life_days": None}, {"inactive_days": 31}, {"inactive_days": 30}]
    found = program(expiry=[each | {"effective_from": at} for each in said])
    assert [each.days for each in found.expiry] == [30, 31, None]
    assert Program.model_validate_json(found.model_dump_json()) == found


def test_a_rewards_hash_is_of_what_it_says() -> None:
    one, other = (Reward.model_validate(said(names={"de": name})) for name in ("Ab", "Weg"))
    assert len({one, other, one.model_copy()}) == 2


@pytest.mark.parametrize(
    ("language", "name"),
    [("de-AT", "Servus"), ("de-ch", "Ab"), ("DE", "Ab"), ("pt", "10 off"), ("pt-BR", "Menos"), ("", "10 off")],
)
def test_a_reward_is_called_by_its_nearest_name(language: str, name: str) -> None:
    found = Reward.model_validate(said(names={"de": "Ab", "de-AT": "Servus", "pt-BR": "Menos"}))
    assert found.called(language) == name
    assert found.called(None) == "10 off"


def test_an_end_is_of_what_would_have_begun_later_too() -> None:
    found = program(said(), said(2, cost=600), said(4, 4), said(2, reward_id="mug"))
    ends = endings(found, "ten-off", T + timedelta(days=1))
    assert [(each.effective_from, each.until, each.cost) for each in ends] == [
        (T + timedelta(days=1), T + timedelta(days=1), 500),
        (T + timedelta(days=2), T + timedelta(days=2), 600),
    ]
    ended = found.model_copy(
        update={
            "rewards": Program.model_validate(
                found.model_dump() | {"rewards": [each.model_dump() for each in (*found.rewards, *ends)]}
            ).rewards
        }
    )
    days = [AT + day * instants.DAY for day in range(6)]
    assert [cost(ended, at) for at in days] == [500, None, None, None, None, None]
    assert cost(ended, days[2], "mug") == 500
    assert endings(ended, "ten-off", T + timedelta(days=1)) == ()
    assert endings(found, "unknown", T) == ()


def test_what_is_to_come_follows_the_catalogue_each_with_its_announced_end() -> None:
    found = program(
        said(),
        said(2, cost=600),
        said(4, 4),
        said(4, cost=700),
        said(0, 9, reward_id="mug", cost=7),
        said(8, 8, reward_id="mug"),
        said(3, 5, reward_id="bag"),
        said(6, reward_id="bag"),
        said(-9, -8, reward_id="gone"),
    )
    listed = rewards_from(found, AT)
    ends = [None if each.until is None else (each.until - T).days for each in listed]
    assert [(each.reward_id, each.cost, end) for each, end in zip(listed, ends, strict=True)] == [
        ("mug", 7, 8),
        ("ten-off", 500, None),
        ("ten-off", 600, 4),
        ("bag", 500, 5),
        ("bag", 500, None),
    ]
