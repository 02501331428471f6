"""Shopify's signature: base64 of HMAC-SHA256 over the raw body, with the app's client secret.

The body is read here, because one too large to keep is still hashed to its end: whether Shopify signed it decides
between 401 and a dead letter.
"""

import base64
import binascii
import hmac
from collections.abc import AsyncIterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

#: Bodies up to here are taken (bytes).
BODY_LIMIT: Final = 10 * 1024 * 1024

#: Nobody's signature is worth hashing more than this (bytes).
HASH_LIMIT: Final = 64 * 1024 * 1024


#: What all bodies that are being read may take together (bytes): nobody has signed them yet.
HELD_LIMIT: Final = 256 * 1024 * 1024


class TooLargeError(ValueError):
    """A body beyond HASH_LIMIT, which is refused unread."""


class BusyError(RuntimeError):
    """The bodies that are being read take HELD_LIMIT already."""


class Body(NamedTuple):
    """A body as it came in: `raw` is None beyond BODY_LIMIT; `macs` are its HMACs, one for each secret."""

    raw: bytes | None
    size: int
    macs: tuple[bytes, ...]
    #: The SHA-256 of a body that was not kept.
    hashed: str = ""

    @property
    def sha256(self) -> str:
        """In hexadecimal digits."""
        return self.hashed if self.raw is None else sha256(self.raw).hexdigest()

    @property
    def name(self) -> bytes | str:
        """What no other body has, as far as this process is asked: an HMAC, since one is at hand."""
        return self.macs[0] if self.macs else self.sha256


class Reader:
    """Reads bodies and works out their HMACs, keeping no more than BODY_LIMIT of one and HELD_LIMIT of all."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._held = 0

    async def read(self, stream: AsyncIterable[bytes]) -> Body:
        """TooLargeError or BusyError if it is not read to its end."""
        chunks: list[bytes] = []
        size = held = 0
        try:
            async for chunk in stream:
                size += len(chunk)
                chunks.append(chunk)
                if size > BODY_LIMIT:
                    return await self._hashed(chunks, stream)
                held += len(chunk)
                self._held += len(chunk)
                if self._held > HELD_LIMIT:
                    raise BusyError
        finally:
            self._held -= held
        raw = b"".join(chunks)
        macs = tuple(hmac.digest(secret, raw, "sha256") for secret in self._secrets)
        return Body(raw, size, macs)

    async def _hashed(self, chunks: list[bytes], rest: AsyncIterable[bytes]) -> Body:
        """The same of a body that is not kept."""
        hashes = [hmac.new(secret, digestmod=sha256) for secret in self._secrets]
        digest = sha256()
        size = 0

        def hash_in(chunk: bytes) -> None:
            digest.update(chunk)
            for each in hashes:
                each.update(chunk)

        while chunks:
            size += len(chunks[0])
            hash_in(chunks.pop(0))
        async for chunk in rest:
            size += len(chunk)
            if size > HASH_LIMIT:
                raise TooLargeError
            hash_in(chunk)
        return Body(None, size, tuple(each.digest() for each in hashes), digest.hexdigest())


def signed(body: Body, signature: str | None) -> bool:
    """Whether one of the secrets made this signature, in a time that tells nothing about them."""
    try:
        given = base64.b64decode(signature or "", validate=True)
    except (binascii.Error, ValueError):
        given = b""
    # Summed, not any(): every secret is compared.
    return sum(hmac.compare_digest(mac, given) for mac in body.macs) > 0
