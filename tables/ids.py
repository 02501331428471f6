"""Ids that are functions of what they name, so that a replay finds the same ones."""

from hashlib import sha1
from uuid import UUID

from events.records import Standing

_NAMESPACE = UUID("6f1d7a52-0d4e-5f0b-9c55-6c6f79616c6e")


def name_id(namespace: UUID, name: str) -> str:
    """The uuid5 of a name, as text. Python's own makes an object on the way, which takes longer than the hash."""
    data = bytearray(sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    data[6] = data[6] & 0x0F | 0x50  # version 5
    data[8] = data[8] & 0x3F | 0x80  # of RFC 9562
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _text(standing: Standing | None) -> str:
    if standing is None:
        return "-"
    return f"{standing['segment_id']} {standing['segment']} {standing['cut_points_version']}"


def change_id(shop: str, customer_id: str, at: str, previous: Standing | None, current: Standing) -> str:
    """The id of an rfm.updated record."""
    return name_id(_NAMESPACE, f"{shop}/{customer_id} {at} {_text(previous)} > {_text(current)}")
