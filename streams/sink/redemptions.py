"""Redemptions into the history: their rows, and once, with the first of them, what was decided.

Whoever waits for a decision reads it here. So nobody is ever told of one that does not stand in the raw history, and a
rebuild never decides it anew.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import psycopg

from events import codec, instants, keys, topics
from events.records import Redemption
from streams.sink.rows import COLUMNS as TABLES

Key = tuple[str, str, str]

COLUMNS: Final = TABLES["redemptions"]

#: What was decided, as a row has it.
_DECISION: Final = (
    *("reward_id", "cost", "forced", "seq", "requested_at", "decided_at", "accepted", "reason", "balance"),
    *("purpose", "source"),
)

_STORED: Final = """
SELECT r.shop, r.customer_id, r.request_id, reward_id, cost, forced, seq,
       (extract(epoch FROM requested_at) * 1000000)::bigint, (extract(epoch FROM decided_at) * 1000000)::bigint,
       accepted, reason, balance, purpose, r.source
FROM unnest(%s::text[], %s::text[], %s::text[]) AS k (shop, customer_id, request_id)
JOIN redemptions r USING (shop, customer_id, request_id)
"""


class Contradicted(RuntimeError):
    """One request was decided in two ways: a worker has lost what it knew, and somebody must look."""


def newest(told: Mapping[Key, Iterable[Redemption]]) -> dict[Key, Redemption]:
    """Of each redemption the row of the highest revision."""
    return {key: max(rows, key=lambda row: row["revision"]) for key, rows in told.items()}


def first_seen(cursor: psycopg.Cursor[Any], told: Mapping[Key, Iterable[Redemption]]) -> list[Redemption]:
    """A row of each redemption of which none is stored yet. Contradicted where one says something else was decided."""
    whose = [list(column) for column in zip(*told, strict=True)]
    cursor.execute(_STORED.encode(), whose)
    stored = {(row[0], row[1], row[2]): tuple(row[3:]) for row in cursor}
    fresh = []
    for key, rows in told.items():
        known = stored.get(key)
        for row in rows:
            decided = _decided(row)
            if known is None:
                known = decided
                fresh.append(row)
            if decided != known:
                raise Contradicted(
                    f"request {key[2]} of customer {key[1]} of {key[0]} was decided in two ways: a worker ran on tables"
                    " that it had lost. End it, and run `loyalnest rebuild`"
                )
    return fresh


def _decided(row: Redemption) -> tuple[Any, ...]:
    times = ("requested_at", "decided_at")
    told: dict[str, Any] = {**row}
    return tuple(instants.parse(told[name]) if name in times else told.get(name) for name in _DECISION)


def archived(row: Redemption) -> tuple[Any, ...]:
    """What was decided, as a row of raw_events: an input from now on."""
    told: dict[str, Any] = {**row}
    shop, key = row["shop"], keys.join(row["shop"], row["customer_id"])
    names = ("customer_id", "request_id", *(name for name in _DECISION if told.get(name) is not None))
    at, topic, name = row["decided_at"], "account/decision", f"decision/{row['request_id']}"
    envelope = {
        "topic": topic,
        "shop": shop,
        "webhook_id": name,
        "event_id": None,
        "api_version": None,
        "triggered_at": at,
        "received_at": at,
        "payload": {each: told[each] for each in names},
    }
    return at, topics.REQUESTS, key, shop, topic, name, at, codec.dumps(envelope).decode()


def row_of(row: Redemption) -> tuple[Any, ...]:
    """A redemption as the table has it."""
    told: dict[str, Any] = {**row}
    return tuple(told.get(name) for name in COLUMNS)
