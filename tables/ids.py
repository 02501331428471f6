"""Ids that are functions of what they name, so that a replay finds the same ones."""

from hashlib import sha1
from uuid import UUID

from events.records import Standing

_NAMESPACE = UUID("6f1d7a52-0d4e-5f0b-9c55-6c6f79616c6e").bytes


def name_id(namespace: bytes, name: str) -> str:
    """The uuid5 of a name, as text. Python's own makes an object on the way, which takes longer than the hash."""
    text = sha1(namespace + name.encode(), usedforsecurity=False).hexdigest()
    # Version 5, and the variant of RFC 9562.
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


#: A UUID's 17th digit by the hash's: its two highest bits are 10.
_VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}


def _text(standing: Standing | None) -> str:
    if standing is None:
        return "-"
    return f"{standing['segment_id']} {standing['segment']} {standing['cut_points_version']}"


def change_id(shop: str, customer_id: str, at: str, previous: Standing | None, current: Standing) -> str:
    """The id of an rfm.updated record."""
    return name_id(_NAMESPACE, f"{shop}/{customer_id} {at} {_text(previous)} > {_text(current)}")
