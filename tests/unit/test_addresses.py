"""Addresses as others compare them. What Google and Meta say of theirs stands in docs/exports.md."""

from hashlib import sha256

import pytest

from events import addresses


@pytest.mark.parametrize(
    ("told", "compared"),
    [
        ("  Jane.Doe@Example.COM ", "jane.doe@example.com"),
        ("jane.doe+shop@gmail.com", "janedoe@gmail.com"),
        ("Jane.Doe@GoogleMail.com", "janedoe@googlemail.com"),
        ("jane.doe+shop@example.com", "jane.doe+shop@example.com"),  # others' dots and suffixes mean something
        ("j a n e@example.com", "jane@example.com"),
        ("jane\t.doe\u00a0@gmail.com", "janedoe@gmail.com"),
        ("jane@mail.gmail.com", "jane@mail.gmail.com"),
        ('"a@b"@gmail.com', '"a@b"@gmail.com'),
        ("nobody", "nobody"),
    ],
)
def test_google_compares_its_own_without_dots_and_suffix(told: str, compared: str) -> None:
    assert addresses.for_google(told) == compared
    assert addresses.for_google(compared) == compared


def test_everybody_else_compares_them_trimmed_and_lowercased() -> None:
    assert addresses.plain("\t Jane.Doe+Shop@Gmail.COM \n") == "jane.doe+shop@gmail.com"


def test_a_digest_is_lowercase_hex_of_utf_8() -> None:
    assert addresses.hashed("test@example.com") == "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b"
    assert addresses.hashed("é@x") == sha256("é@x".encode()).hexdigest()
