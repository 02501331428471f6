"""What a table keeps, as bytes: a JSON list of a version and of values without names, in an order that never changes.

A value that a newer version adds stands at the end, so that what was kept before is read with the value's beginning.
Whatever cannot be read like that gets another version, and its reader here.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from events import codec
from events.errors import BadEvent

VERSION: Final = 1

_BEGINS: Final = f"[{VERSION},".encode()


def pack(values: Iterable[Any]) -> bytes:
    """The values as they are kept."""
    return codec.dumps([VERSION, *values])


def unpack(data: bytes) -> list[Any]:
    """The values of what `pack` made. BadEvent for what another version did."""
    check(data)
    values: list[Any] = codec.loads(data)
    return values[1:]


def check(data: bytes) -> None:
    """BadEvent unless it begins as what we keep does: read it need not be for that."""
    if not data.startswith(_BEGINS):
        raise BadEvent("other_version", "kept by another version of LoyalNest")


def named(fields: Mapping[str, Any], values: Iterable[Any]) -> dict[str, Any]:
    """The values by the names of the fields, those that were not kept yet as they are in `fields`."""
    found = dict(zip(fields, values, strict=False))
    return found if len(found) == len(fields) else {**fields, **found}
