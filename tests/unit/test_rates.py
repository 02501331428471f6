"""Quotas by the minute: as many at once, then as they come back; and a bounded memory."""

import pytest

from api.rates import Quota, address

SECOND = 1_000_000_000


def test_a_quota_may_be_used_at_once_and_comes_back_one_by_one() -> None:
    quota = Quota("key", 60)
    taken = [quota.take("a", 0) for _ in range(60)]
    assert all(each.allowed for each in taken)
    assert [each.left for each in taken] == list(range(59, -1, -1))
    assert taken[-1].seconds == 60, "until all of it is there again"
    assert quota.take("a", 0) == (False, 0, 1)
    assert quota.take("a", SECOND - 1) == (False, 0, 1), "a refusal takes nothing and puts nothing off"
    assert quota.take("a", SECOND) == (True, 0, 60)
    assert not quota.take("a", SECOND).allowed
    assert quota.take("b", SECOND).left == 59, "another's quota is another's"
    assert quota.take("a", 200 * SECOND) == (True, 59, 1)


def test_over_any_minute_nobody_gets_more_than_twice_their_quota() -> None:
    quota = Quota("key", 30)
    allowed = [at for at in range(0, 180 * SECOND, SECOND // 10) if quota.take("a", at).allowed]
    for begin in range(120):
        within = [at for at in allowed if begin * SECOND <= at < (begin + 60) * SECOND]
        assert len(within) <= 60
    assert len([at for at in allowed if at >= 120 * SECOND]) == 30


def test_memory_is_bounded_and_who_asked_longest_ago_goes_first() -> None:
    quota = Quota("address", 2, most=3)
    for who in ("a", "b", "c", "a", "d"):
        assert quota.take(who, 0).allowed
    assert not quota.take("a", 0).allowed
    assert quota.take("b", 0).left == 1, "b made room for d"
    for number in range(1000):
        quota.take(str(number), 0)
    assert len(quota._whole_at) == 3


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("not:an:address", "not:an:address"),
    ],
)
def test_an_ipv6_customer_counts_by_the_network_they_are_given(host: str, counted: str) -> None:
    assert address(host) == counted
