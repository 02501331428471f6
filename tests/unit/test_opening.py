"""What is sealed is opened by place, the same in processes as here."""

import asyncio

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from books.opening import Openers
from books.sealed import MasterKeys, Sealed, VaultError, open_all, seal_bytes

SHOP = "demo.myshopify.com"
MASTERS = MasterKeys([bytes(32)])

Told = tuple[str | None, str | None]


def sealed(*told: tuple[Told | None, Told | None]) -> Sealed:
    """Customers 0, 1, ...: what was sealed of each as an address, and as a consent."""
    found = Sealed([], [], [], [])
    for at, both in enumerate(told):
        key = AESGCM.generate_key(256)
        found.customer_ids.append(str(at))
        found.wrapped.append(MASTERS.wrap(SHOP, str(at), key))
        for column, each in zip((found.contacts, found.consents), both, strict=True):
            column.append(None if each is None else seal_bytes(AESGCM(key), SHOP, str(at), orjson.dumps(each)))
    return found


def test_the_first_address_and_the_last_consent_count() -> None:
    asked = sealed(
        (("a@example.com", None), (None, "subscribed")),
        (("b@example.com", "subscribed"), None),  # both in one, as it once was
        (("c@example.com", "subscribed"), (None, "unsubscribed")),
        (("d@example.com", None), ("e@example.com", None)),
        (None, (None, "pending")),
        (None, None),
        ((None, None), None),
    )
    emails, consents = open_all(MASTERS, SHOP, asked)
    assert emails == ["a@example.com", "b@example.com", "c@example.com", "d@example.com", None, None, None]
    assert consents == ["subscribed", "subscribed", "unsubscribed", None, "pending", None, None]


def test_what_was_sealed_for_another_is_not_told() -> None:
    asked = sealed((("a@example.com", None), None), (("b@example.com", None), (None, "subscribed")))
    asked.contacts[:] = reversed(asked.contacts)
    assert open_all(MASTERS, SHOP, asked) == ([None, None], [None, "subscribed"])


@pytest.mark.parametrize("number", [1, 2, 3, 1001])
def test_processes_answer_in_the_order_of_who_was_asked_for(number: int) -> None:
    asked = sealed(*(((f"{at}@example.com", None), (None, "subscribed") if at % 2 else None) for at in range(number)))
    openers = Openers(MASTERS)
    try:
        assert asyncio.run(openers.open(SHOP, asked)) == open_all(MASTERS, SHOP, asked)
        asked.wrapped[-1] = MasterKeys([bytes([1] * 32)]).wrap(SHOP, str(number - 1), bytes(32))
        with pytest.raises(VaultError):
            asyncio.run(openers.open(SHOP, asked))
    finally:
        openers.close()
