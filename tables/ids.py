"""Ids that are functions of what they name, so that a replay finds the same ones."""

from uuid import UUID, uuid5

from events.records import Standing

_NAMESPACE = UUID("6f1d7a52-0d4e-5f0b-9c55-6c6f79616c6e")


def _text(standing: Standing | None) -> str:
    if standing is None:
        return "-"
    return f"{standing['segment_id']} {standing['segment']} {standing['cut_points_version']}"


def change_id(shop: str, customer_id: str, at: str, previous: Standing | None, current: Standing) -> str:
    """The id of an rfm.updated record."""
    return str(uuid5(_NAMESPACE, f"{shop}/{customer_id} {at} {_text(previous)} > {_text(current)}"))
