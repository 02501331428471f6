"""Shopify's signature over the raw body, with one secret or two, and bodies too large to keep."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator

import pytest

from api.webhooks import signatures

SECRETS = (b"new", b"old")


def sign(body: bytes, secret: bytes = b"new") -> str:
    return base64.b64encode(hmac.new(secret, body, hashlib.sha256).digest()).decode()


def read(body: bytes, chunk: int = 65536, secrets: tuple[bytes, ...] = SECRETS) -> signatures.Body:
    async def stream() -> AsyncIterator[bytes]:
        for at in range(0, len(body), chunk):
            yield body[at : at + chunk]

    return asyncio.run(signatures.Reader(secrets).read(stream()))


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("body", [b"", b"{}", "ü".encode() * 100_000])
def test_either_secret_holds(secret: bytes, body: bytes) -> None:
    taken = read(body)
    assert taken.raw == body
    assert taken.sha256 == hashlib.sha256(body).hexdigest()
    assert signatures.signed(taken, sign(body, secret))


@pytest.mark.parametrize(
    "signature",
    [None, "", "x", "not base64!", "ä", sign(b"{}", b"older"), sign(b"{ }"), sign(b"{}")[:-4], sign(b"{}").lower()],
)
def test_nothing_else_does(signature: str | None) -> None:
    assert not signatures.signed(read(b"{}"), signature)


def test_a_secret_that_was_rotated_out_holds_no_more() -> None:
    assert not signatures.signed(read(b"{}", secrets=(b"new",)), sign(b"{}", b"old"))


def test_without_a_secret_nothing_is_signed() -> None:
    taken = read(b"{}", secrets=())
    assert not signatures.signed(taken, sign(b"{}", b""))
    assert not signatures.signed(taken, None)


def test_the_limit_is_exact() -> None:
    assert read(bytes(signatures.BODY_LIMIT)).raw is not None
    assert read(bytes(signatures.BODY_LIMIT + 1)).raw is None


@pytest.mark.parametrize("chunk", [65536, 1 << 24])
def test_a_body_too_large_is_hashed_to_its_end_and_not_kept(chunk: int) -> None:
    body = bytes(range(256)) * 4096 * 11
    taken = read(body, chunk)
    assert (taken.raw, taken.size, taken.sha256) == (None, len(body), hashlib.sha256(body).hexdigest())
    assert signatures.signed(taken, sign(body, b"old"))
    assert not signatures.signed(taken, sign(body[:-1], b"old"))


def test_a_body_beyond_reason_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "BODY_LIMIT", 100)
    monkeypatch.setattr(signatures, "HASH_LIMIT", 1000)
    assert read(bytes(1000), 10).size == 1000
    with pytest.raises(signatures.TooLargeError):
        read(bytes(1001), 10)


def test_bodies_together_take_only_so_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "HELD_LIMIT", 1000)
    reader = signatures.Reader(SECRETS)

    async def stream(body: bytes, wait: asyncio.Event) -> AsyncIterator[bytes]:
        yield body
        await wait.wait()

    async def two_at_once() -> None:
        done = asyncio.Event()
        first = asyncio.create_task(reader.read(stream(bytes(600), done)))
        await asyncio.sleep(0)
        with pytest.raises(signatures.BusyError):
            await reader.read(stream(bytes(600), done))
        done.set()
        assert (await first).size == 600
        assert (await reader.read(stream(bytes(1000), done))).size == 1000

    asyncio.run(two_at_once())
