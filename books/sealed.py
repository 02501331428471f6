"""What is sealed and opened: bytes in, bytes out. Of the house it needs next to nothing, so that a process that does
nothing else is small.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.webhook_topics import SEALED

_VERSION = SEALED

#: base64's letters for URLs, as the others have them: a third of the time of base64.urlsafe_b64decode.
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")

_NONCE: Final = 12
_ID: Final = 4
#: The first byte of a wrapped key that has an id, and the length of that: mark, id, nonce, key, tag.
_MARK: Final = b"\x01"
LENGTH: Final = 1 + _ID + _NONCE + 32 + 16


class VaultError(RuntimeError):
    """The master key is missing, malformed, or not the one these keys were wrapped with."""


def bound(purpose: str, shop: str, customer_id: str) -> bytes:
    """What ciphertext is bound to: it opens for this customer and purpose alone."""
    return f"loyalnest/{purpose}/{shop}/{customer_id}".encode()


def encrypt(cipher: AESGCM, plain: bytes, associated: bytes) -> bytes:
    """A fresh nonce, and the bytes encrypted under it."""
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, plain, associated)


def decrypt(cipher: AESGCM, data: bytes, associated: bytes) -> bytes | None:
    """What `encrypt` was given; None if it was another key, bound to something else, or tampered with."""
    try:
        return cipher.decrypt(data[:_NONCE], data[_NONCE:], associated)
    except (InvalidTag, ValueError):
        return None


class MasterKeys:
    """The first of these 32-byte keys wraps, all of them unwrap."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = tuple(keys)
        self._ciphers = {hashlib.sha256(b"loyalnest/master/" + key).digest()[:_ID]: AESGCM(key) for key in keys}
        self._all = tuple(self._ciphers.values())
        self.prefix = _MARK + next(iter(self._ciphers))

    def wrap(self, shop: str, customer_id: str, key: bytes) -> bytes:
        """A customer's key as it is stored."""
        cipher = self._ciphers[self.prefix[1:]]
        return self.prefix + encrypt(cipher, key, bound("key", shop, customer_id))

    def unwrap(self, shop: str, customer_id: str, wrapped: bytes) -> bytes:
        """The customer's key; VaultError if it was wrapped with a master key that is not here, or for somebody else."""
        associated, ciphers = bound("key", shop, customer_id), self._all
        if len(wrapped) == LENGTH and wrapped.startswith(_MARK):
            known = self._ciphers.get(wrapped[1 : 1 + _ID])
            ciphers, wrapped = () if known is None else (known,), wrapped[1 + _ID :]
        for cipher in ciphers:
            if (key := decrypt(cipher, wrapped, associated)) is not None:
                return key
        raise VaultError("a customer's key does not open with this master key: is it the one it was made with?")


def seal_bytes(cipher: AESGCM, shop: str, customer_id: str, plain: bytes) -> str:
    """Bytes sealed for one customer of one shop, as text."""
    sealed = encrypt(cipher, plain, bound("sealed", shop, customer_id))
    return _VERSION + base64.urlsafe_b64encode(sealed).decode()


def open_bytes(cipher: AESGCM, shop: str, customer_id: str, sealed: str) -> bytes | None:
    """What was sealed; None if it was sealed with another key, for somebody else, or was tampered with."""
    if not sealed.startswith(_VERSION):
        return None
    try:
        data = binascii.a2b_base64(sealed[len(_VERSION) :].encode("ascii").translate(_URL_SAFE))
    except (binascii.Error, ValueError):
        return None
    return decrypt(cipher, data, bound("sealed", shop, customer_id))


class Sealed(NamedTuple):
    """What is to be opened, column by column, a customer at each place: their ids, their wrapped keys, and what of
    theirs was sealed as an address and as a consent (None, or empty: nothing)."""

    customer_ids: list[str]
    wrapped: list[bytes]
    contacts: list[str | None]
    consents: list[str | None]

    def part(self, first: int, end: int) -> "Sealed":
        """Those from one place on, up to another."""
        customer_ids, wrapped, contacts, consents = self
        return Sealed(customer_ids[first:end], wrapped[first:end], contacts[first:end], consents[first:end])


#: By place the addresses and the consents that were sealed; None: none that can be read.
Opened = tuple[list[str | None], list[str | None]]


def open_all(masters: MasterKeys, shop: str, asked: Sealed) -> Opened:
    """What each of them told. VaultError for a key that no master key opens.

    A consent that was sealed with its address, as it once was, counts where no other was told.
    """
    emails: list[str | None] = []
    consents: list[str | None] = []
    for customer_id, wrapped, contact, agreed in zip(*asked, strict=True):
        cipher = AESGCM(masters.unwrap(shop, customer_id, wrapped))
        email = consent = None
        if contact and (plain := open_bytes(cipher, shop, customer_id, contact)) is not None:
            email, consent = orjson.loads(plain)
        if agreed and (plain := open_bytes(cipher, shop, customer_id, agreed)) is not None:
            said, told = orjson.loads(plain)
            email, consent = said if email is None else email, consent if told is None else told
        emails.append(email)
        consents.append(consent)
    return emails, consents
