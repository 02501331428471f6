"""The history of standings in the database: what is read for streams.sink.standings, and what that makes of it."""

from collections.abc import Mapping
from typing import Any, Final

import psycopg

from events import instants
from events.records import Standing
from runtime.database import array, of_arrays
from streams.sink import standings

Row = tuple[Any, ...]

_STANDING: Final = "r, f, m, score::text, segment_id, segment, cut_points_version"

_STORED: Final = f"""
SELECT c.shop, c.customer_id, fence, (extract(epoch FROM now) * 1000000)::bigint, {_STANDING}
FROM {of_arrays({"shop": "text", "customer_id": "text"})} AS k CROSS JOIN LATERAL (
    SELECT * FROM customers c WHERE (c.shop, c.customer_id) = (k.shop, k.customer_id) OFFSET 0
) AS c
""".encode()  # noqa: S608

# From an instant of each customer's on, and the one change before it.
_NEAR: Final = f"""
SELECT k.shop, k.customer_id, (extract(epoch FROM at) * 1000000)::bigint, id, {_STANDING}
FROM unnest(%s::text[], %s::text[], %s::timestamptz[]) AS k (shop, customer_id, now)
CROSS JOIN LATERAL (
    SELECT h.* FROM rfm_score_history h WHERE h.shop = k.shop AND h.customer_id = k.customer_id AND h.at >= k.now
    UNION ALL
    (SELECT h.* FROM rfm_score_history h WHERE h.shop = k.shop AND h.customer_id = k.customer_id AND h.at < k.now
     ORDER BY h.at DESC LIMIT 1)
) AS h
ORDER BY at
""".encode()  # noqa: S608

_TAKE_BACK: Final = """
DELETE FROM {table} t
USING unnest(%s::text[], %s::text[], %s::timestamptz[], %s::uuid[]) AS r (shop, customer_id, at, id)
WHERE (t.shop, t.customer_id, t.at, t.id) = (r.shop, r.customer_id, r.at, r.id)
"""


def changes(
    cursor: psycopg.Cursor[Any], told: Mapping[standings.Key, list[standings.Told]]
) -> tuple[list[Row], list[Row]]:
    """The changes of standing that these customers' rows make, for rfm_score_history and rfm_segment_deltas.

    What they take back is removed here. Must come before the customers' rows are written.
    """
    if not told:
        return [], []
    paths = _paths(cursor, told)
    history: list[Row] = []
    deltas: list[Row] = []
    gone: list[tuple[str, str, str, str]] = []
    for key, rows in told.items():
        added, removed = standings.follow(key, paths.get(key), rows)
        gone += [(*key, instants.text(each.at), each.id) for each in removed]
        for each in added:
            history.append(_change_row(key, each))
            left = None if each.previous is None else each.previous["segment"]
            if left != each.standing["segment"]:
                assert each.told is not None
                at = instants.text(each.at)
                deltas.append((at, each.id, *key, left, each.standing["segment"], each.told.cause))
    if gone:
        columns = [list(column) for column in zip(*gone, strict=True)]
        for table in ("rfm_score_history", "rfm_segment_deltas"):
            cursor.execute(_TAKE_BACK.format(table=table).encode(), columns)
    return history, deltas


def _change_row(key: standings.Key, change: standings.Change) -> Row:
    told, found = change.told, change.standing
    assert told is not None
    return (
        *(instants.text(change.at), change.id, *key, told.recency_days, told.frequency, told.monetary),
        *(found["r"], found["f"], found["m"], found["score"], found["segment_id"], found["segment"]),
        *(found["cut_points_version"], told.cause),
    )


def _paths(
    cursor: psycopg.Cursor[Any], told: Mapping[standings.Key, list[standings.Told]]
) -> dict[standings.Key, standings.Path]:
    """Where each of these customers' histories has come to; nothing for one who has no row yet."""
    cursor.execute(_STORED, [array(column) for column in zip(*told, strict=True)])
    paths: dict[standings.Key, standings.Path] = {}
    near: dict[standings.Key, int] = {}
    for shop, customer_id, fence, now, *found in cursor:
        key = shop, customer_id
        paths[key] = standings.at_rest(fence, now, _standing(found))
        start = standings.read_from(paths[key], told[key])
        if start is not None:
            near[key] = start
    if near:
        names = [list(column) for column in zip(*near, strict=True)]
        cursor.execute(_NEAR, [*names, [instants.to_datetime(start) for start in near.values()]])
        steps: dict[standings.Key, list[standings.Change]] = {key: [] for key in near}
        for shop, customer_id, at, ident, *values in cursor:
            steps[shop, customer_id].append(standings.Change(at, str(ident), None, _standing(values)))
        paths |= {key: paths[key]._replace(changes=found) for key, found in steps.items()}
    return paths


def _standing(found: list[Any]) -> Standing:
    return {
        "r": found[0],
        "f": found[1],
        "m": found[2],
        "score": found[3],
        "segment_id": found[4],
        "segment": found[5],
        "cut_points_version": found[6],
    }
