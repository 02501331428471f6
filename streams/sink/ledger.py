"""The ledger's entries from each source's totals: a pure function, so that a replay finds the rows it wrote before.

A points record says what one source (an order) has posted in all to one customer, with its revision. Here it is set
against the total stored so far; the difference, if any, is the ledger's entry.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from events.records import PointsRecord
from tables.ids import name_id

#: The namespace of the entries' ids. Never to be changed: a replay would write every entry anew.
NAMESPACE: Final = UUID("5d0f7e0a-6f0c-5b0e-9a55-2f6c1c1b7a10").bytes

#: (shop, source, source_id, customer_id, via): what an order has posted to each customer, by way of whom they were
#: merged with ("": their own), is a fact of its own.
Key = tuple[str, str, str, str, str]


class Total(NamedTuple):
    """What a source has posted in all to one customer, and by which revision (text, by code point)."""

    revision: str
    total: int
    processed_at: str


class Entry(NamedTuple):
    """One row of points_transactions. Instants as in the record.

    An order's points above 0 are `earned`, below 0 `reversed`; what is given or taken by hand, and taken back again, is
    `adjusted`; a redemption's are `redeemed`, and `returned` where they come back.
    """

    posted_at: str
    id: str
    shop: str
    customer_id: str
    source: str
    source_id: str
    kind: str
    points: int
    revision: str
    processed_at: str
    via: str


def key_of(record: PointsRecord) -> Key:
    """What the record is the total of."""
    return record["shop"], record["source"], record["source_id"], record["customer_id"], record["via"] or ""


def entry_id(key: Key, kind: str, revision: str) -> str:
    """The id of a ledger entry, a uuid5: the same whenever the same change is posted again."""
    whose = "\n".join(key) if key[-1] else "\n".join(key[:-1])
    return name_id(NAMESPACE, f"{whose}\n{kind}\n{revision}")


def post(stored: Mapping[Key, Total], records: Iterable[PointsRecord]) -> tuple[list[Entry], dict[Key, Total]]:
    """The entries that these records cause, in order, and the totals that changed.

    A revision not above the last one kept is ignored, so that a replayed or overtaken record changes nothing;
    a revision that leaves the total as it is moves the revision and makes no entry.
    """
    entries: list[Entry] = []
    totals: dict[Key, Total] = {}
    for record in records:
        key = key_of(record)
        before = totals.get(key) or stored.get(key)
        if before is not None and record["revision"] <= before.revision:
            continue
        totals[key] = Total(record["revision"], record["total"], record["processed_at"])
        delta = record["total"] - (before.total if before is not None else 0)
        if delta:
            entries.append(_entry(record, key, delta))
    return entries, totals


#: What an entry above 0 is called, and one below, by its source.
_KINDS: Final = {
    "order": ("earned", "reversed"),
    "award": ("adjusted", "adjusted"),
    "deduction": ("adjusted", "adjusted"),
    "redeem": ("returned", "redeemed"),
}


def _entry(record: PointsRecord, key: Key, delta: int) -> Entry:
    above, below = _KINDS[record["source"]]
    kind = above if delta > 0 else below
    return Entry(
        record["changed_at"],
        entry_id(key, kind, record["revision"]),
        record["shop"],
        record["customer_id"],
        record["source"],
        record["source_id"],
        kind,
        delta,
        record["revision"],
        record["processed_at"],
        record["via"] or "",
    )
