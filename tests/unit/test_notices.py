"""Notices' pure parts: which addresses are public, which URLs are taken, and how long is waited."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from books import notices
from runtime import waits
from runtime.addresses import is_public
from runtime.settings import Settings


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"])
def test_an_address_that_is_everybodys(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2002:a00:1::",
        ),
        *("localhost", "", "1", "127.1", "0x7f000001"),
    ],
)
def test_an_address_that_is_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://example.com/hook",
            "https://example.com:8443/a?b=c",
            "https://8.8.8.8/",
            "https://xn--bcher-kva.example/",
        ),
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
    ],
)
def test_a_url_that_is_taken(url: str) -> None:
    notices.check_url(url, private=False)


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "example.com", "//example.com", "https:///x", "https://"),
        *(
            "https://me:secret@example.com/",
            "https://example.com/#part",
            "https://example.com:99999/",
            "https://exa mple/",
        ),
        *("https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/"),
        *("https://bücher.example/", "https://example.com/\n", "https://[::1", "https://" + "a" * 2000),
    ],
)
def test_a_url_that_is_not(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|address|[Pp]ort"):
        notices.check_url(url, private=False)


def test_where_it_is_allowed_a_private_one_is_taken() -> None:
    for url in ("http://127.0.0.1:9000/hook", "https://[::1]/", "http://localhost/"):
        notices.check_url(url, private=True)


def test_waits_grow_and_three_days_hold_some_twenty_attempts() -> None:
    grown = [waits.before_retry(attempts, 0.5) for attempts in range(1, 40)]
    assert grown[:3] == [timedelta(seconds=5), timedelta(seconds=15), timedelta(seconds=45)]
    assert grown == sorted(grown)
    assert grown[-1] == timedelta(hours=6)
    within = [n for n in range(len(grown)) if sum(grown[:n], timedelta()) < notices.TRIED]
    assert 15 <= len(within) <= 25
    assert waits.before_retry(10_000, 0) == timedelta(hours=4.5)


def test_what_failed_together_does_not_come_together_again() -> None:
    assert waits.before_retry(1, 0) < waits.before_retry(1, 0.5) < waits.before_retry(1, 1)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        *((" 120 ", 120), ("0", None), ("9" * 400, 21_600), ("-5", None), ("1.5", None), ("٣", None)),
        *(("Sat, 21 Nov 2026 09:31:00 GMT", 60), ("Sat, 21 Nov 2026 09:31:00 -0000", 60)),
        *(("Sat, 21 Nov 2026 09:29:00 GMT", None), ("Fri, 31 Dec 9999 23:59:59 GMT", 21_600)),
        *(("soon", None), ("", None), ("Sat, 99 Nov 2026 09:31:00 GMT", None)),
    ],
)
def test_how_long_a_receiver_wants_to_be_left_alone(said: str, seconds: int | None) -> None:
    now = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    assert waits.asked_for(said, now) == (None if seconds is None else timedelta(seconds=seconds))


def test_an_endpoint_rests_longer_each_time() -> None:
    assert waits.rest(waits.FAILURES - 1) is None
    assert waits.rest(waits.FAILURES) == timedelta(minutes=1)
    assert waits.rest(waits.FAILURES + 1) == timedelta(minutes=2)
    assert waits.rest(10_000) == timedelta(hours=1)


def test_days_before_points_run_out_are_listed_with_commas_and_few_enough_to_be_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOYALNEST_EXPIRING_DAYS", "14, 3")
    assert Settings().expiring_days == [14, 3]
    for wrong in ("31", "0", "", "soon"):
        monkeypatch.setenv("LOYALNEST_EXPIRING_DAYS", wrong)
        with pytest.raises(ValidationError):
            Settings()
