"""Keys of our topics, and the one partitioner every producer must agree on.

A key is UTF-8 `shop/id`. All producers use murmur2 (librdkafka's `murmur2_random`, Java's default); an agent uses
`partition_of` to notice a key that someone sent elsewhere.
"""

import re
import zlib
from collections.abc import Collection
from functools import lru_cache
from struct import unpack_from
from typing import Any, Final

from events.errors import BadEvent

#: Orders without a customer are spread over this many keys of the shop, so that no one key is hot.
GUEST_KEYS = 64

_SHOP = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\.myshopify\.com")
_ID = re.compile(r"[0-9]{1,20}")
_BY_ADDRESS = re.compile(r"mail-[0-9a-f]{32}")


def shop_domain(name: object) -> str:
    """The shop's key: its lowercase `*.myshopify.com` domain; BadEvent if it is none."""
    if isinstance(name, str) and _SHOP.fullmatch(shop := name.strip().lower()):
        return shop
    raise BadEvent("bad_shop", "not a *.myshopify.com domain")


def resource_id(value: object) -> str:
    """A Shopify id as text. They are 64-bit integers, beyond what a double holds; GIDs are not ids."""
    if type(value) is int and 0 <= value < 10**20:
        return str(value)
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise BadEvent("bad_id", "not a Shopify id")


def customer_id(value: object) -> str:
    """A customer's id: Shopify's, or that of somebody known by an address alone."""
    return value if isinstance(value, str) and is_by_address(value) else resource_id(value)


def join(shop: str, ident: str) -> str:
    """The key `shop/id`."""
    return f"{shop}/{ident}"


def split(key: str) -> tuple[str, str]:
    """(shop, id) of a key; the id is empty for a key that is a shop alone."""
    shop, _, ident = key.partition("/")
    return shop, ident


def guest(order_id: str) -> str:
    """The customer id under which an order without a customer is kept: one of GUEST_KEYS of its shop."""
    return f"guest-{zlib.crc32(order_id.encode()) % GUEST_KEYS:02d}"


def is_guest(customer_id: str) -> bool:
    """Whether it is one of the ids under which orders without a customer are kept."""
    return customer_id.startswith("guest-")


def is_by_address(customer_id: object) -> bool:
    """Whether it is the id of a customer known by an address alone: `mail-` and a keyed hash (books/vault.py)."""
    if not isinstance(customer_id, str) or customer_id[:5] != "mail-":  # as nearly always
        return False
    return _BY_ADDRESS.fullmatch(customer_id) is not None


#: Of murmur2: the seed that Kafka's producers use, and its multiplier.
_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995


# The keys of what is just being folded: more would cost some 250 bytes each and save next to nothing.
@lru_cache(maxsize=1 << 16)
def murmur2(key: bytes) -> int:
    """MurmurHash2, 32 bits, with the seed Kafka's producers use."""
    mask, m = 0xFFFFFFFF, _M
    length = len(key)
    h = _SEED ^ length
    body = length & ~3
    for word in unpack_from(f"<{body >> 2}I", key):
        k = word * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if body < length:
        h = (h ^ int.from_bytes(key[body:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key among `partitions`, as Kafka's default partitioner has it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


#: Fewer keys are hashed one by one as fast.
_MANY: Final = 24


def partitions_of(found: Collection[bytes], partitions: int) -> dict[bytes, int]:
    """`partition_of` for each of these keys: of many at once it takes an eighth of the time."""
    if len(found) < _MANY:
        return {key: partition_of(key, partitions) for key in found}
    by_length: dict[int, list[bytes]] = {}
    for key in found:
        by_length.setdefault(len(key), []).append(key)
    return {
        key: hashed
        for several in by_length.values()
        for key, hashed in zip(several, ((_murmur2_of(several) & 0x7FFFFFFF) % partitions).tolist(), strict=True)
    }


def _murmur2_of(several: list[bytes]) -> Any:
    """As `murmur2`, an array of keys of one length; what overflows 32 bits is lost, as it should be."""
    import numpy  # the worker alone has chunks to hash: nobody else need load it

    length, m = len(several[0]), numpy.uint32(_M)
    body = length & ~3
    signs = numpy.frombuffer(b"".join(several), numpy.uint8).reshape(len(several), length)
    h: Any = numpy.full(len(several), _SEED ^ length, numpy.uint32)
    for word in numpy.ascontiguousarray(signs[:, :body]).view("<u4").T:
        k = word * m
        h = (h * m) ^ ((k ^ (k >> 24)) * m)
    if body < length:
        rest = numpy.zeros((len(several), 4), numpy.uint8)
        rest[:, : length - body] = signs[:, body:]
        h = (h ^ rest.view("<u4")[:, 0]) * m
    h = (h ^ (h >> 13)) * m
    return h ^ (h >> 15)


def slice_of(key: str, slices: int) -> int:
    """Which of so many slices of a partition a key is in: a batch asks for some customers at a time."""
    return zlib.crc32(key.encode()) % slices
