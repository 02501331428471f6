"""The vault's pure part: who can open what, and whom nobody else can be made to be."""

import base64

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from books import master_keys
from books import sealed as sealed_
from books.sealed import MasterKeys, VaultError
from runtime.settings import Settings

MASTER = bytes(range(32))
KEYS = MasterKeys([MASTER])
SHOP = "nest.myshopify.com"


def test_a_key_opens_only_with_the_master_key_that_wrapped_it() -> None:
    key = AESGCM.generate_key(256)
    wrapped = KEYS.wrap(SHOP, "1", key)
    assert key not in wrapped
    assert KEYS.unwrap(SHOP, "1", wrapped) == key
    with pytest.raises(VaultError, match="master key"):
        MasterKeys([bytes(32)]).unwrap(SHOP, "1", wrapped)


def test_while_one_is_rotated_the_newest_wraps_and_all_open() -> None:
    key, both = AESGCM.generate_key(256), MasterKeys([bytes(32), MASTER])
    assert both.unwrap(SHOP, "1", KEYS.wrap(SHOP, "1", key)) == key
    assert MasterKeys([bytes(32)]).unwrap(SHOP, "1", both.wrap(SHOP, "1", key)) == key
    with pytest.raises(VaultError):
        KEYS.unwrap(SHOP, "1", both.wrap(SHOP, "1", key))


def test_what_was_wrapped_before_master_keys_had_ids_opens() -> None:
    key = AESGCM.generate_key(256)
    for start in range(20):  # one in 256 begins as one with an id does
        nonce = bytes([start]) + bytes(11)
        old = nonce + AESGCM(MASTER).encrypt(nonce, key, f"loyalnest/key/{SHOP}/1".encode())
        assert MasterKeys([bytes(32), MASTER]).unwrap(SHOP, "1", old) == key


@pytest.mark.parametrize(("shop", "customer"), [(SHOP, "2"), ("other.myshopify.com", "1")])
def test_a_key_and_what_it_sealed_belong_to_one_customer_of_one_shop(shop: str, customer: str) -> None:
    cipher = AESGCM(AESGCM.generate_key(256))
    sealed = sealed_.seal_bytes(cipher, SHOP, "1", b"secret")
    assert sealed_.open_bytes(cipher, SHOP, "1", sealed) == b"secret"
    assert sealed_.open_bytes(cipher, shop, customer, sealed) is None
    with pytest.raises(VaultError):
        KEYS.unwrap(shop, customer, KEYS.wrap(SHOP, "1", AESGCM.generate_key(256)))


def test_the_same_text_is_sealed_differently_each_time() -> None:
    cipher = AESGCM(AESGCM.generate_key(256))
    assert sealed_.seal_bytes(cipher, SHOP, "1", b"a") != sealed_.seal_bytes(cipher, SHOP, "1", b"a")


@pytest.mark.parametrize("change", [lambda s: s[:-4], lambda s: s[3:], lambda s: "v1.", lambda s: "v1.é", lambda s: ""])
def test_what_was_tampered_with_does_not_open(change: object) -> None:
    cipher = AESGCM(AESGCM.generate_key(256))
    assert callable(change)
    assert sealed_.open_bytes(cipher, SHOP, "1", change(sealed_.seal_bytes(cipher, SHOP, "1", b"secret"))) is None


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(bytes(16)).decode(), "é" * 44, "!" * 44])
def test_a_master_key_is_32_bytes_of_base64(text: str) -> None:
    with pytest.raises(VaultError, match="32 bytes"):
        master_keys.parse(text)


def test_a_master_key_in_either_alphabet() -> None:
    key = b"\xfb\xff" * 16
    assert master_keys.parse(base64.b64encode(key).decode() + "\n") == key
    assert master_keys.parse(base64.urlsafe_b64encode(key).decode()) == key
    with pytest.raises(VaultError, match="not set"):
        master_keys.master_keys(Settings())
    two = f"{base64.b64encode(key).decode()}, {base64.b64encode(MASTER).decode()}"
    found = master_keys.master_keys(Settings(master_key=SecretStr(two)))
    assert found.prefix == MasterKeys([key]).prefix
    assert found.unwrap(SHOP, "1", KEYS.wrap(SHOP, "1", bytes(32))) == bytes(32)
