"""Programs are joined: in any order, with any repetition, and any number of them, no rule is lost."""

import random
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from events import instants
from events.announcements import accept, completed, fold, join, read, read_cut_points, succeed, tag
from events.errors import BadEvent
from events.programs import (
    FIRST_POLICY,
    MAX_PROGRAM,
    MAX_RULES,
    Hold,
    Inactivity,
    Life,
    Policies,
    Policy,
    Program,
    Rates,
    Reward,
    Rule,
    default_cut_points,
    is_mixed,
)
from tests.property.webhooks import thorough

SHOP = "nest.myshopify.com"
T = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

RULES = st.builds(
    Rule,
    effective_from=st.none() | st.integers(0, 4).map(lambda hours: T + timedelta(hours=hours)),
    points_per_unit=st.sampled_from(["1", "2", "2.5", "10"]),
)
POLICIES = st.builds(
    Policy,
    effective_from=st.none() | st.integers(0, 2).map(lambda hours: T + timedelta(hours=hours)),
    refunds=st.sampled_from(["goods", "goods_and_adjustments", "money"]),
    taxes=st.sampled_from(["as_priced", "excluded"]),
)
SINCE = st.none() | st.integers(0, 2).map(lambda days: T + timedelta(days=30 * days))
HOLDS = st.builds(Hold, effective_from=SINCE, hold_days=st.integers(0, 2))
LIVES = st.builds(
    Life,
    effective_from=SINCE,
    life_days=st.none() | st.integers(1, 2),
    calendar=st.sampled_from(["day", "year"]),
)
INACTIVITIES = st.builds(Inactivity, effective_from=SINCE, inactive_days=st.integers(30, 31))
REWARDS = st.builds(
    Reward,
    reward_id=st.sampled_from(["ten-off", "mug"]),
    effective_from=SINCE,
    until=st.none() | st.integers(60, 61).map(lambda days: T + timedelta(days=days)),
    cost=st.integers(1, 2),
    kind=st.just("amount"),
    value=st.sampled_from(["10", "10.00", "5.5"]),
    name=st.just("Off"),
    names=st.sampled_from([{}, {"de": "Ab", "fr": "Moins"}, {"fr": "Moins", "de": "Ab"}]),
)


def _several(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(of, max_size=2, unique_by=lambda each: each.effective_from).map(tuple)


PROGRAMS = st.builds(
    Program,
    shop=st.just(SHOP),
    currency=st.just("USD"),
    zone=st.sampled_from(["UTC", "Europe/Berlin"]),
    look_back_days=st.sampled_from([None, 30, 365]),
    translations=st.sampled_from([{}, {"de": {"Loyal": "Treu"}, "fr": {}}, {"fr": {}, "de": {"Loyal": "Treu"}}]),
    locale=st.sampled_from([None, "de-DE"]),
    rules=st.lists(RULES.filter(lambda rule: rule.effective_from is not None), max_size=4).flatmap(
        lambda later: st.sampled_from(["1", "3"]).map(lambda rate: (Rule(points_per_unit=rate), *later))
    ),
    policies=st.lists(POLICIES, max_size=3, unique_by=lambda policy: policy.effective_from).map(tuple),
    holds=_several(HOLDS),
    expiry=_several(LIVES) | _several(INACTIVITIES),
    rewards=st.lists(REWARDS, max_size=2).map(tuple),
    announced_at=st.none() | st.integers(0, 2).map(lambda late: T + late * MINUTE),
    id=st.none() | st.integers(0, 2).map(lambda number: UUID(int=number)),
)


MONTH = 30 * 24 * 60


def program(*later: Rule, at: datetime = T, **changes: Any) -> Program:
    rules = (changes.pop("ever", Rule()), *later)
    return Program(shop=SHOP, currency="USD", rules=rules, announced_at=at, id=UUID(int=1)).model_copy(update=changes)


def policy(minutes: int | None, refunds: str = "money", taxes: str = "as_priced") -> Policy:
    at = None if minutes is None else T + minutes * MINUTE
    return Policy.model_validate({"effective_from": at, "refunds": refunds, "taxes": taxes})


def hold(minutes: int | None, days: int = 14) -> Hold:
    return Hold(effective_from=None if minutes is None else T + minutes * MINUTE, hold_days=days)


def life(minutes: int | None, days: int | None = 365) -> Life:
    return Life(effective_from=None if minutes is None else T + minutes * MINUTE, life_days=days)


def inactivity(minutes: int | None, days: int = 180) -> Inactivity:
    return Inactivity(effective_from=None if minutes is None else T + minutes * MINUTE, inactive_days=days)


def reward(minutes: int | None, until: int | None = None, **changes: Any) -> Reward:
    ends = {} if until is None else {"until": T + until * MINUTE}
    since = None if minutes is None else T + minutes * MINUTE
    said = {"reward_id": "ten-off", "cost": 500, "kind": "amount", "value": "10", "name": "10 off"}
    return Reward.model_validate(said | ends | {"effective_from": since} | changes)


def rule(minutes: int, rate: str = "2") -> Rule:
    return Rule.model_validate({"effective_from": T + minutes * MINUTE, "points_per_unit": rate})


@thorough(300)
@given(PROGRAMS, PROGRAMS, PROGRAMS)
def test_joining_is_commutative_associative_and_idempotent(one: Program, other: Program, third: Program) -> None:
    assert tag(join(one, other)) == tag(join(other, one))
    assert tag(join(join(one, other), third)) == tag(join(one, join(other, third)))
    assert join(one, one) == one
    assert join(join(one, other), other) == join(one, other)


@thorough(200)
@given(st.lists(PROGRAMS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_what_is_joined_is_a_program_with_every_rule(several: list[Program], chance: random.Random) -> None:
    shuffled = several * 2
    chance.shuffle(shuffled)
    joined = reduce(join, shuffled)
    assert tag(joined) == tag(reduce(join, several))
    if not is_mixed(joined.expiry):  # which nobody accepts
        assert Program.model_validate_json(joined.model_dump_json()) == joined
    ever = {found for each in several for found in each.rules if found.effective_from is None}
    later = {found for each in several for found in each.rules} - ever
    assert set(joined.rules) == later | {max(ever, key=lambda found: found.points_per_unit)}
    of_ever = {found for each in several for found in each.policies if found.effective_from is None}
    of_later = {found for each in several for found in each.policies} - of_ever
    most = sorted(of_ever, key=lambda found: (found.refunds, found.taxes))[-1:]
    assert set(joined.policies) == of_later | set(most)
    assert set(joined.rewards) == {found for each in several for found in each.rewards}
    for field in ("holds", "expiry"):
        entries = {found for each in several for found in getattr(each, field)}
        since_ever = sorted((each for each in entries if each.effective_from is None), key=lambda each: each.rank)
        assert set(getattr(joined, field)) == entries - set(since_ever[:-1])


def test_of_two_rules_at_one_instant_the_higher_holds() -> None:
    joined = join(program(rule(60, "3")), program(rule(60, "2")))
    assert [str(found.points_per_unit) for found in joined.rules] == ["1", "2", "3"]
    assert Rates(joined).points(100, instants.from_datetime(T + 60 * MINUTE)) == 3


def test_a_rule_is_what_it_says() -> None:
    """However it was written, it is one rule."""
    said = ("2", "2.0", "2.000000", 2)
    found = {
        Rule.model_validate({"effective_from": at, "points_per_unit": rate})
        for rate in said
        for at in ("2026-11-21T10:00:00Z", "2026-11-21T11:00:00+01:00", "2026-11-21T10:00:00.000000Z")
    }
    assert {each.model_dump_json() for each in found} == {
        '{"effective_from":"2026-11-21T10:00:00Z","points_per_unit":"2"}'
    }
    assert Rule.model_validate({"points_per_unit": "1E+1"}).model_dump_json().endswith('"10"}')


def test_two_shops_or_two_currencies_cannot_be_joined() -> None:
    for other in (program(shop="other.myshopify.com"), program(currency="EUR")):
        with pytest.raises(ValueError, match="cannot be joined"):
            join(program(), other)


# What may be joined


@pytest.mark.parametrize(
    ("newer", "reason"),
    [
        (program(currency="JPY"), "other_currency"),
        (program(ever=Rule.model_validate({"points_per_unit": "1000"})), "rules_rewritten"),
        (program(rule(14)), "rule_too_soon"),
        (program(rule(-60 * 24)), "rule_too_soon"),
        (program(policies=(policy(None),)), "rules_rewritten"),
        (program(policies=(policy(14),)), "rule_too_soon"),
        (program(holds=(hold(None),)), "rules_rewritten"),
        (program(holds=(hold(14),)), "rule_too_soon"),
        (program(expiry=(life(None),)), "rules_rewritten"),
        (program(expiry=(life(MONTH - 1),)), "rule_too_soon"),
        (program(expiry=(inactivity(MONTH - 1),)), "rule_too_soon"),
        (program(rewards=(reward(None),)), "rules_rewritten"),
        (program(rewards=(reward(14),)), "rule_too_soon"),
        (program(rewards=(reward(-60, until=-30),)), "rule_too_soon"),
    ],
)
def test_what_is_refused(newer: Program, reason: str) -> None:
    assert accept(None, newer) == newer, "the first program may say anything"
    with pytest.raises(BadEvent) as refused:
        accept(program(), newer)
    assert refused.value.reason == reason
    assert fold([program(), newer]) == program()


def test_no_more_rules_than_a_program_may_have() -> None:
    known, newer = program(rule(20, "3")), program(*(rule(number) for number in range(15, 14 + MAX_RULES)))
    with pytest.raises(BadEvent, match="at most 1000"):
        accept(known, newer)


def test_a_replay_in_the_same_order_accepts_and_refuses_the_same() -> None:
    first, second = program(), program(rule(20), at=T + MINUTE)
    forged = program(rule(-5, "99"), at=T + 2 * MINUTE, zone="Asia/Tokyo")
    third = program(rule(20), rule(60), at=T + 3 * MINUTE, zone="Europe/Berlin")
    once = fold([first, second, forged, third])
    assert once == third
    # A sink that has stored it reads everything once more.
    assert fold([third, first, second, forged, third]) == once


def test_two_that_were_made_from_one_lose_nothing() -> None:
    base = program()
    for several in permutations([program(rule(20, "2"), at=T + MINUTE), program(rule(30, "3"), at=T + MINUTE)]):
        joined = fold([base, *several])
        assert joined is not None
        assert set(joined.rules) == {Rule(), rule(20, "2"), rule(30, "3")}


def test_who_means_the_whole_program_names_every_rule() -> None:
    with pytest.raises(BadEvent, match="append-only"):
        succeed(program(rule(20)), program(at=T + MINUTE))


# Policies


def test_a_policy_may_follow_as_a_rule_may_and_what_says_nothing_changes_none() -> None:
    goods = Policy(refunds="goods", taxes="as_priced")
    older, made_today = program(), program(policies=(FIRST_POLICY,))
    assert accept(older, program(policies=(policy(15),))).policies == (policy(15),)
    assert accept(older, program(policies=(goods,))).policies == (goods,), "it says what holds already"
    for said in ((), (FIRST_POLICY,)):
        assert accept(made_today, program(policies=said, at=T + MINUTE)).policies == (FIRST_POLICY,)
    with pytest.raises(BadEvent, match="append-only"):
        accept(made_today, program(policies=(goods,)))
    with pytest.raises(BadEvent, match="append-only"):
        succeed(made_today, program(policies=()))
    many = tuple(policy(number) for number in range(15, 15 + MAX_RULES))
    with pytest.raises(BadEvent, match="as many policies"):
        accept(made_today, program(policies=many))


def test_a_new_shop_takes_goodwill_back_and_an_older_one_keeps_goods() -> None:
    unsaid = Program.model_validate({"shop": SHOP, "currency": "USD"})
    said = Program.model_validate({"shop": SHOP, "currency": "USD", "policies": []})
    assert Policies(unsaid).at(0) == Policy(refunds="goods", taxes="as_priced")
    assert completed(None, unsaid).policies == (FIRST_POLICY,)
    assert completed(None, said).policies == ()
    assert completed(program(policies=(policy(60),)), unsaid).policies == (policy(60),)
    assert completed(program(), unsaid).policies == ()


def test_a_tag_is_of_what_a_program_says_in_whatever_order() -> None:
    """PostgreSQL keeps an object's names in an order of its own."""
    said = {"de": {"Loyal": "Treu", "Champions": "Beste"}, "fr": {}}
    turned = {"fr": {}, "de": {"Champions": "Beste", "Loyal": "Treu"}}
    assert tag(program(translations=said)) == tag(program(translations=turned))
    assert len(tag(program())) == 32


def test_the_policy_of_an_order_holds_from_its_very_microsecond() -> None:
    later = [policy(60, "goods_and_adjustments", "excluded"), policy(60), policy(60, "goods", "excluded")]
    found = Policies(Program.model_validate(program(policies=tuple(later)).model_dump()))
    at = instants.from_datetime(T + 60 * MINUTE)
    assert found.at(at - 1) == Policy(refunds="goods", taxes="as_priced")
    assert found.at(at) == policy(60), "of one instant the last by its words"


def test_at_most_one_policy_holds_since_ever() -> None:
    with pytest.raises(ValidationError, match="at most one"):
        Program(shop=SHOP, currency="USD", policies=(policy(None), FIRST_POLICY))


# Holds, expiry and rewards


def test_what_is_announced_in_time_is_appended() -> None:
    said: dict[str, Any] = {"holds": (hold(15),), "expiry": (life(MONTH),), "rewards": (reward(15),)}
    found = accept(program(), program(**said))
    assert {field: getattr(found, field) for field in said} == said
    assert accept(found, program(at=T + MINUTE)) == found.model_copy(update={"announced_at": T + MINUTE})
    for field in said:
        with pytest.raises(BadEvent, match="append-only") as refused:
            succeed(found, found.model_copy(update={field: ()}))
        assert refused.value.reason == "rules_rewritten"
        unsaid = completed(found, Program.model_validate({"shop": SHOP, "currency": "USD"}))
        assert getattr(unsaid, field) == said[field]


def test_a_first_program_may_say_anything_and_what_it_says_stays() -> None:
    said: dict[str, Any] = {"holds": (hold(None),), "expiry": (life(None), life(5))}
    said["rewards"] = (reward(None), reward(-60, until=5))
    first = program(**said)
    assert accept(None, first) == first
    assert accept(first, program(at=T + MINUTE, **said)).rewards == said["rewards"]
    for newer in (program(holds=(hold(None, 3),)), program(expiry=(life(None, None),))):
        with pytest.raises(BadEvent, match="since ever"):
            accept(first, newer)


def test_points_run_out_in_one_way_for_all_time() -> None:
    """`null` ends either; two who announce at once get one of the two, the first that is read."""
    ended = program(expiry=(life(MONTH, None),))
    for one, other in ((life(None), inactivity(MONTH)), (inactivity(None), life(MONTH))):
        first = accept(program(expiry=(one,)), ended)
        with pytest.raises(BadEvent, match="one program") as refused:
            accept(first, program(expiry=(other,)))
        assert refused.value.reason == "mixed_expiry"
        assert fold([first, program(expiry=(other,))]) == first
    assert accept(ended, program(expiry=(inactivity(MONTH),))).expiry == (inactivity(MONTH), life(MONTH, None))


def test_an_end_or_another_cost_of_a_reward_is_one_more_entry() -> None:
    dearer, ended = reward(15, cost=600), reward(30, until=30, cost=600)
    first = program(rewards=(reward(None),))
    found = accept(first, program(rewards=(ended, dearer)))
    assert found.rewards == (reward(None), dearer, ended)
    with pytest.raises(BadEvent, match="15 minutes"):
        accept(first, program(rewards=(reward(14, until=30),)))


@pytest.mark.parametrize(
    "said",
    [
        {"holds": tuple(hold(number) for number in range(15, 16 + MAX_RULES))},
        {"expiry": tuple(life(MONTH + number) for number in range(MAX_RULES + 1))},
        {"rewards": tuple(reward(number) for number in range(15, 16 + MAX_RULES))},
    ],
)
def test_no_more_of_them_than_a_program_may_have(said: dict[str, Any]) -> None:
    with pytest.raises(BadEvent, match="too_many_rules"):
        accept(program(), program(**said))


def test_no_larger_than_its_way_carries() -> None:
    """Judged where a record is read, so that of a shop's programs the first that can be read is taken."""
    names = {f"x{letter}": "\N{GRINNING FACE}" * 100 for letter in "abcdefghijklmnopqrst"}
    rewards = tuple(reward(number, names=names) for number in range(15, 15 + MAX_PROGRAM // 8000))
    large, half, others = (program(rewards=each) for each in (rewards, rewards[::2], rewards[1::2]))
    with pytest.raises(BadEvent, match="too_large"):
        record(large, T)
    with pytest.raises(BadEvent, match="too_large"):
        succeed(None, large)
    with pytest.raises(BadEvent, match="too_large"):
        accept(half, others)
    assert accept(None, record(half, T)).rewards == half.rewards


def test_a_program_that_says_nothing_of_them_keeps_its_tag() -> None:
    """As it was named before there were any: a merchant's If-Match, and the versions that are kept."""
    assert tag(program()) == "db8390465e422aa1756e6194efb5ab7b"
    others = [program(holds=(hold(60),)), program(expiry=(life(MONTH),)), program(rewards=(reward(60),))]
    assert len({tag(each) for each in (program(), *others)}) == 4


def test_however_a_reward_was_written_it_is_one() -> None:
    said = reward(60, value="10.00", min_order="20.0", names={"fr": "Moins", "de": "Ab"})
    again = reward(60, value="1E+1", min_order="20", names={"de": "Ab", "fr": "Moins"})
    assert {said} == {again}
    assert said.model_dump_json() == again.model_dump_json()
    assert tag(program(rewards=(said,))) == tag(program(rewards=(again,)))


# What is read


def record(found: Program, timestamp: datetime, key: bytes = SHOP.encode()) -> Program:
    return read(key, found.model_dump_json().encode(), instants.from_datetime(timestamp) // 1000)


def test_a_time_of_announcement_is_believed_as_far_as_the_brokers_allows() -> None:
    skew = timedelta(microseconds=instants.CLOCK_SKEW)
    assert record(program(), T).announced_at == T
    assert record(program(at=T + 3 * MINUTE), T).announced_at == T + 3 * MINUTE
    assert record(program(at=datetime(9998, 1, 1, tzinfo=UTC)), T).announced_at == T + skew
    assert record(program(at=datetime(1999, 1, 1, tzinfo=UTC)), T).announced_at == T - skew


def test_a_rule_of_the_past_cannot_be_announced_as_one_of_long_ago() -> None:
    backdated = record(program(rule(-600, "99"), at=T - timedelta(days=1)), T)
    with pytest.raises(BadEvent, match="15 minutes"):
        accept(program(at=T - timedelta(days=2)), backdated)


def test_a_program_written_by_hand_gets_time_and_id_of_its_record() -> None:
    by_hand = b'{"shop": "nest.myshopify.com", "currency": "USD"}'
    found = read(SHOP.encode(), by_hand, 1_795_253_400_123)
    assert found.announced_at == instants.to_datetime(1_795_253_400_123_000)
    assert found == read(SHOP.encode(), by_hand, 1_795_253_400_123)
    assert found.id is not None


@pytest.mark.parametrize("key", [None, b"", b"other.myshopify.com", b"nest.myshopify.com/1"])
def test_a_programs_key_is_its_shop(key: bytes | None) -> None:
    with pytest.raises(BadEvent, match="wrong_key"):
        read(key, program().model_dump_json().encode(), 0)


@pytest.mark.parametrize("timestamp", [-1, 0, 1 << 62])
def test_any_timestamp_can_be_read(timestamp: int) -> None:
    assert read(SHOP.encode(), program().model_dump_json().encode(), timestamp).announced_at is not None


def test_cut_points_of_a_time_to_come_are_refused() -> None:
    value = default_cut_points(SHOP, "USD", T).model_dump_json().encode()
    at = instants.from_datetime(T) // 1000
    assert read_cut_points(value, at).as_of == T
    assert read_cut_points(value, at - 300_000).as_of == T
    with pytest.raises(BadEvent, match="yet to come"):
        read_cut_points(value, at - 300_001)
