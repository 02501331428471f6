"""What a table keeps, as bytes: a version, and a list of values without names in an order that never changes.

MessagePack takes a quarter less than JSON, and is quicker to read. A value that a newer version adds stands at the
list's end, so that what was kept before is read with the values' beginning. Whatever cannot be read like that gets
another version, and its reader here.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final

import msgspec

from events.errors import BadEvent

VERSION: Final = 1

_BEGINS: Final = bytes([VERSION])
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


def pack(values: Iterable[Any]) -> bytes:
    """The values as they are kept."""
    return _BEGINS + _encode(list(values))


def unpack(data: bytes) -> list[Any]:
    """The values of what `pack` made. BadEvent for what another version did."""
    check(data)
    try:
        return _decode(data[len(_BEGINS) :])
    except msgspec.MsgspecError:
        raise BadEvent("bad_packing", "what is kept cannot be read") from None


def check(data: bytes) -> None:
    """BadEvent unless it begins as what we keep does: read it need not be for that."""
    if not data.startswith(_BEGINS):
        raise BadEvent("other_version", "kept by another version of LoyalNest")


def named(fields: Mapping[str, Any], values: Iterable[Any]) -> dict[str, Any]:
    """The values by the names of the fields, those that were not kept yet as they are in `fields`."""
    found = dict(zip(fields, values))  # noqa: B905 (to say that it is not strict takes a fifth of the time)
    return found if len(found) == len(fields) else {**deepcopy(fields), **found}
