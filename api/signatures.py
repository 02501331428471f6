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


class TooLargeError(ValueError):
    """A body beyond HASH_LIMIT, which is refused unread."""


class Body(NamedTuple):
    """A body as it came in: `raw` is None beyond BODY_LIMIT; `macs` are its HMACs, one for each secret."""

    raw: bytes | None
    size: int
    sha256: str
    macs: tuple[bytes, ...]


async def read(stream: AsyncIterable[bytes], secrets: Sequence[bytes]) -> Body:
    """Reads a request's body and works out its HMACs, keeping no more than BODY_LIMIT."""
    chunks: list[bytes] = []
    size = 0
    hashes: list[hmac.HMAC] | None = None
    digest = sha256()
    async for chunk in stream:
        size += len(chunk)
        if size > HASH_LIMIT:
            raise TooLargeError
        chunks.append(chunk)
        if size > BODY_LIMIT:
            hashes = hashes or [hmac.new(secret, digestmod=sha256) for secret in secrets]
            for kept in chunks:
                digest.update(kept)
                for each in hashes:
                    each.update(kept)
            chunks.clear()
    if hashes is not None:
        return Body(None, size, digest.hexdigest(), tuple(each.digest() for each in hashes))
    raw = b"".join(chunks)
    macs = tuple(hmac.digest(secret, raw, "sha256") for secret in secrets)
    return Body(raw, size, sha256(raw).hexdigest(), macs)


def signed(body: Body, signature: str | None) -> bool:
    """Whether one of the secrets made this signature, in a time that tells nothing about them."""
    try:
        given = base64.b64decode(signature or "", validate=True)
    except (binascii.Error, ValueError):
        given = b""
    # Summed, not any(): every secret is compared.
    return sum(hmac.compare_digest(mac, given) for mac in body.macs) > 0
