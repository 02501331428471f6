"""The vault's pure part: who can open what, and whom nobody else can be made to be."""

import base64

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from books import vault
from runtime.settings import Settings

MASTER = bytes(range(32))
SHOP = "nest.myshopify.com"


def test_a_key_opens_only_with_the_master_key_that_wrapped_it() -> None:
    key = AESGCM.generate_key(256)
    wrapped = vault.wrap(MASTER, SHOP, "1", key)
    assert key not in wrapped
    assert vault.unwrap(MASTER, SHOP, "1", wrapped) == key
    with pytest.raises(vault.VaultError, match="master key"):
        vault.unwrap(bytes(32), SHOP, "1", wrapped)


@pytest.mark.parametrize(("shop", "customer"), [(SHOP, "2"), ("other.myshopify.com", "1")])
def test_a_key_and_what_it_sealed_belong_to_one_customer_of_one_shop(shop: str, customer: str) -> None:
    cipher = AESGCM(AESGCM.generate_key(256))
    sealed = vault.seal_bytes(cipher, SHOP, "1", b"secret")
    assert vault.open_bytes(cipher, SHOP, "1", sealed) == b"secret"
    assert vault.open_bytes(cipher, shop, customer, sealed) is None
    with pytest.raises(vault.VaultError):
        vault.unwrap(MASTER, shop, customer, vault.wrap(MASTER, SHOP, "1", AESGCM.generate_key(256)))


def test_the_same_text_is_sealed_differently_each_time() -> None:
    cipher = AESGCM(AESGCM.generate_key(256))
    assert vault.seal_bytes(cipher, SHOP, "1", b"a") != vault.seal_bytes(cipher, SHOP, "1", b"a")


@pytest.mark.parametrize("change", [lambda s: s[:-4], lambda s: s[3:], lambda s: "v1.", lambda s: "v1.é", lambda s: ""])
def test_what_was_tampered_with_does_not_open(change: object) -> None:
    cipher = AESGCM(AESGCM.generate_key(256))
    assert callable(change)
    assert vault.open_bytes(cipher, SHOP, "1", change(vault.seal_bytes(cipher, SHOP, "1", b"secret"))) is None


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(bytes(16)).decode(), "é" * 44, "!" * 44])
def test_a_master_key_is_32_bytes_of_base64(text: str) -> None:
    with pytest.raises(vault.VaultError, match="32 bytes"):
        vault.parse_master_key(text)


def test_a_master_key_in_either_alphabet() -> None:
    key = b"\xfb\xff" * 16
    assert vault.parse_master_key(base64.b64encode(key).decode() + "\n") == key
    assert vault.parse_master_key(base64.urlsafe_b64encode(key).decode()) == key
    with pytest.raises(vault.VaultError, match="not set"):
        vault.master_key(Settings())
    assert vault.master_key(Settings(master_key=SecretStr(base64.b64encode(key).decode()))) == key
