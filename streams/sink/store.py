"""The sink's transaction: a batch's rows and the positions they bring the history to, all or nothing.

Rows go by one statement a table, each column of all of them as one array; keys are sorted, so that two sinks never wait
for each other crosswise. A batch is often small, so what any batch costs counts: statements are planned once.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import psycopg

from books import exports, fulfilment, imports, notices, persons, vault
from events import announcements, codec, instants
from events.errors import BadEvent
from events.programs import Program
from runtime.database import array, copy, of_arrays
from streams.sink import history as sink_history
from streams.sink import ledger, redemptions
from streams.sink.rows import COLUMNS, Row, Rows
from tables.chunks import Received

T = TypeVar("T")

#: (a topic's name on the broker, a partition)
Place = tuple[str, int]

#: The channel on which the API hears of a shop whose results changed; payload: {"shop", "at"}.
CHANNEL: Final = "loyalnest_live"

#: A redaction also reaches the keys made this much after it was asked for: two machines' clocks differ.
_SKEW: Final = timedelta(microseconds=instants.CLOCK_SKEW)


class Fenced(RuntimeError):
    """The stored positions are not where this sink left them: another sink reads the same partitions."""


# --- positions ---------------------------------------------------------------------------------------------------


def positions(connection: psycopg.Connection[Any], incarnation: str, places: Iterable[Place]) -> dict[Place, int]:
    """The stored next offset of each of these partitions that has one."""
    names, numbers = _columns(places)
    rows = connection.execute(
        "SELECT topic, partition, next_offset FROM sink_positions WHERE incarnation = %s"
        " AND (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::int[]))",
        [incarnation, names, numbers],
    )
    return {(topic, partition): offset for topic, partition, offset in rows}


def begin(connection: psycopg.Connection[Any], incarnation: str, starts: dict[Place, int]) -> None:
    """Store where reading begins, for partitions that have no position yet."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO sink_positions (incarnation, topic, partition, next_offset) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            [(incarnation, *place, offset) for place, offset in sorted(starts.items())],
        )


def move(connection: psycopg.Connection[Any], incarnation: str, moves: dict[Place, tuple[int, int]]) -> None:
    """Lock the positions, and move each from where this sink left it to where it is now.

    Raises Fenced where one is elsewhere. Compared is what this sink stored last, not the batch's first offset:
    compaction, retention and transactions leave gaps between the two.
    """
    names, numbers = _columns(moves)
    rows = connection.execute(
        "SELECT topic, partition, next_offset FROM sink_positions WHERE incarnation = %s"
        " AND (topic, partition) IN (SELECT * FROM unnest(%s::text[], %s::int[]))"
        " ORDER BY topic, partition FOR UPDATE",
        [incarnation, names, numbers],
    )
    stored = {(topic, partition): offset for topic, partition, offset in rows}
    for place, (left, _) in moves.items():
        if stored.get(place) != left:
            raise Fenced(
                f"the position of {place[0]} partition {place[1]} is {stored.get(place)}, but this sink left it"
                f" at {left}: another sink reads the same partitions"
            )
    connection.execute(
        "UPDATE sink_positions p SET next_offset = m.next_offset"
        " FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS m (topic, partition, next_offset)"
        " WHERE p.incarnation = %s AND p.topic = m.topic AND p.partition = m.partition",
        [names, numbers, [after for _, after in moves.values()], incarnation],
    )


def _columns(pairs: Iterable[tuple[str, T]]) -> tuple[list[str], list[T]]:
    listed = list(pairs)
    return [first for first, _ in listed], [second for _, second in listed]


# --- rows --------------------------------------------------------------------------------------------------------

#: The columns that are no text, by type. A name is of one type in every table whose rows go as arrays.
TYPES: Final = {
    name: kind
    for kind, names in {
        "timestamp with time zone": "now expires_at last_order_at contact_at consent_at processed_at posted_at at"
        " start voided_at requested_at decided_at valid_until",
        "bigint": "balance pending earned spent expired expiring monetary fence total points orders net points_earned"
        " points_reversed customers guest_orders guest_net points_awarded points_redeemed offset cost seq",
        "integer": "recency_days frequency partition attempt",
        "smallint": "r f m",
        "numeric": "score",
        "uuid": "id",
        "date": "day",
        "boolean": "consent_by_order deleted redacted counts_as_earned forced accepted",
    }.items()
    for name in names.split()
}

_TOTALS_KEY: Final = "shop, source, source_id, customer_id, via"
# OFFSET 0: row by row, by the key. A join may be planned as a look through a whole table.
_TOTALS: Final = f"""
SELECT k.shop, k.source, k.source_id, k.customer_id, k.via, t.revision, t.total, t.processed_at::text
FROM {of_arrays(dict.fromkeys(_TOTALS_KEY.split(", "), "text"))} AS k
CROSS JOIN LATERAL (
    SELECT * FROM points_totals t
    WHERE (t.shop, t.source, t.source_id, t.customer_id, t.via) = (k.shop, k.source, k.source_id, k.customer_id, k.via)
    OFFSET 0
) AS t
"""  # noqa: S608


def _names(table: str, prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in COLUMNS[table])


def _given(table: str) -> str:
    """The rows that `_arrays` gives."""
    return f"{of_arrays({name: TYPES.get(name, 'text') for name in COLUMNS[table]})} AS s"


def _arrays(rows: Iterable[Row]) -> list[str]:
    return [array(column) for column in zip(*rows, strict=True)]


def _add(table: str, order: str, where: str = "") -> str:
    names = _names(table)
    return f"INSERT INTO {table} AS t ({names}) SELECT {names} FROM {_given(table)} {where} ORDER BY {order}"  # noqa: S608


def _insert(table: str, conflict: str, order: str, where: str = "") -> str:
    return f"{_add(table, order, where)} ON CONFLICT {conflict}"


def _replace(table: str, key: str) -> str:
    keys = key.split(", ")
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in COLUMNS[table] if name not in keys)
    return f"({key}) DO UPDATE SET {changes}"


# Counts follow by difference, in one statement: `before` sees the rows as they were. A row that stays (its `now` is
# older than the stored one's) is not returned, and so not counted; one of a merged customer counts nowhere.
_CUSTOMERS: Final = f"""
WITH stored AS (
    {_insert("customers", _replace("customers", "shop, customer_id"), "shop, customer_id")},
        stored_at = clock_timestamp()
    WHERE (excluded.fence, excluded.now) >= (t.fence, t.now)
    RETURNING t.shop, t.customer_id, t.segment, t.monetary, t.balance, t.frequency, t.recency_days, t.merged_into
), before AS (
    SELECT c.shop, c.segment, c.monetary, c.balance, c.frequency, c.recency_days
    FROM stored CROSS JOIN LATERAL (
        SELECT * FROM customers c WHERE (c.shop, c.customer_id) = (stored.shop, stored.customer_id) OFFSET 0
    ) AS c WHERE c.merged_into IS NULL
), after AS (
    SELECT shop, segment, monetary, balance, frequency, recency_days FROM stored WHERE merged_into IS NULL
), moved AS (
    SELECT 1 AS sign, * FROM after
    UNION ALL
    SELECT -1, * FROM before
)
INSERT INTO rfm_segment_counts AS t
    (shop, segment, customers, monetary, balance, frequency, recency_days, recent, stored_at)
SELECT shop, segment, sum(sign), sum(sign * monetary), sum(sign * balance::numeric), sum(sign * frequency),
       coalesce(sum(sign * recency_days), 0), coalesce(sum(sign) FILTER (WHERE recency_days IS NOT NULL), 0),
       clock_timestamp()
FROM moved GROUP BY shop, segment ORDER BY shop, segment
ON CONFLICT (shop, segment) DO UPDATE
SET customers = t.customers + excluded.customers, monetary = t.monetary + excluded.monetary,
    balance = t.balance + excluded.balance, frequency = t.frequency + excluded.frequency,
    recency_days = t.recency_days + excluded.recency_days, recent = t.recent + excluded.recent,
    stored_at = excluded.stored_at
"""  # noqa: S608

_CLOSED: Final = """EXISTS (
    SELECT FROM closed_windows c WHERE (c.shop, c.size, c.zone, c.start) = (s.shop, s.size, s.zone, s.start)
)"""

# A partition whose time is behind may still change a window that the batch has closed: the batch is told to look again.
_REFUSED: Final = f"""
INSERT INTO late_windows (shop, size, zone, start)
SELECT DISTINCT shop, size, zone, start FROM {_given("points_windows")} WHERE {_CLOSED}
ORDER BY shop, size, zone, start
ON CONFLICT (shop, size, zone, start) DO UPDATE SET noted_at = clock_timestamp()
"""  # noqa: S608

_CUT_POINTS: Final = f"""
INSERT INTO cut_points ({_names("cut_points")}) VALUES ({", ".join(["%s"] * len(COLUMNS["cut_points"]))})
ON CONFLICT {_replace("cut_points", "shop, as_of, version")}
"""  # noqa: S608

# Of two bodies the greater stands, column by column and text by code point; taken back is for ever. The stream's join.
_BODY: Final = ("at", "points", "reason", "source", "counts_as_earned")
_GREATER: Final = " > ".join(f"({', '.join(f'{row}.{name}' for name in _BODY)})" for row in ("excluded", "t"))
_AWARDS: Final = f"""
(shop, customer_id, award_id) DO UPDATE
SET {", ".join(f"{name} = CASE WHEN {_GREATER} THEN excluded.{name} ELSE t.{name} END" for name in _BODY)},
    voided_at = greatest(t.voided_at, excluded.voided_at), stored_at = clock_timestamp()
WHERE {_GREATER} OR excluded.voided_at > coalesce(t.voided_at, '-infinity')
"""

# Of sources that nothing is stored of, as of most orders: looking for a conflict would take as long as the rest.
_FIRST_TOTALS: Final = _add("points_totals", _TOTALS_KEY)

_STATEMENTS: Final[dict[str, str]] = {
    "points_totals": _insert(
        "points_totals",
        _replace("points_totals", _TOTALS_KEY) + " WHERE excluded.revision > t.revision",
        _TOTALS_KEY,
    ),
    "points_transactions": _insert("points_transactions", "DO NOTHING", "shop, customer_id, posted_at, id"),
    "points_expired": _insert(
        "points_expired",
        _replace("points_expired", "shop, customer_id, day") + " WHERE excluded.fence >= t.fence",
        "shop, customer_id, day",
    ),
    "customers": _CUSTOMERS,
    "awards": _insert("awards", _AWARDS, "shop, customer_id, award_id"),
    "redemptions": _insert(
        "redemptions",
        _replace("redemptions", "shop, customer_id, request_id")
        + ", stored_at = clock_timestamp() WHERE excluded.revision > t.revision",
        "shop, customer_id, request_id",
    ),
    "rfm_score_history": _insert("rfm_score_history", "DO NOTHING", "shop, customer_id, at, id"),
    "rfm_segment_deltas": _insert("rfm_segment_deltas", "DO NOTHING", "shop, at, id"),
    "points_windows": _insert(
        "points_windows",
        _replace("points_windows", "shop, size, zone, start, partition") + " WHERE excluded.fence >= t.fence",
        "shop, size, zone, start, partition",
        # One that the batch closed is the batch's alone.
        f"WHERE NOT {_CLOSED}",
    ),
    "late_windows": _insert(
        # Noted anew: the batch removes what was noted before it read, and no more.
        "late_windows",
        "(shop, size, zone, start) DO UPDATE SET noted_at = clock_timestamp()",
        "shop, size, zone, start",
    ),
    "dead_letters": _insert("dead_letters", "DO NOTHING", "at, id"),
}


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Have this session plan each statement once. Its plans must do for tables of any size: they go by an index."""
    connection.prepare_threshold = 1
    connection.execute("SET enable_seqscan = off")
    connection.execute("SET jit = off")
    connection.commit()


def write(cursor: psycopg.Cursor[Any], rows: Rows) -> Counter[str]:
    """Write a batch's rows in the caller's transaction; how many went to each table."""
    _lock_persons(cursor, rows)
    _join_programs(cursor, rows)
    entries, first, later = _ledger(cursor, rows)
    history, deltas = sink_history.changes(cursor, rows.told)
    redeemed = redemptions.newest(rows.redemptions)
    if redeemed:
        fresh = redemptions.first_seen(cursor, rows.redemptions)
        rows.raw_events += [redemptions.archived(row) for row in fresh if not row["archived"]]
    if rows.raw_events:
        copy(cursor, "raw_events", COLUMNS["raw_events"], rows.raw_events)
    if rows.cut_points:
        cursor.executemany(_CUT_POINTS.encode(), [row for _, row in sorted(rows.cut_points.items())])
    apart = {"raw_events": rows.raw_events, "programs": rows.programs, "cut_points": rows.cut_points}
    counts = Counter({table: len(values) for table, values in apart.items()})
    several: dict[str, Collection[Row]] = {
        "points_totals": later,
        "points_transactions": entries,
        "points_expired": rows.expired.values(),
        "awards": rows.award_rows(),
        "redemptions": [redemptions.row_of(row) for row in redeemed.values()],
        "rfm_score_history": history,
        "rfm_segment_deltas": deltas,
        "points_windows": rows.windows.values(),
        "late_windows": rows.late,
        "dead_letters": rows.dead_letters,
        # Last: the counts of a segment are rows that every sink wants.
        "customers": rows.customers.values(),
    }
    if first:
        cursor.execute(_FIRST_TOTALS.encode(), _arrays(first))
    listened = (entries or deltas or rows.expired) and notices.somebody_listens(cursor, rows.shops)
    for table, values in several.items():
        if values:
            statement, given = _STATEMENTS[table], _arrays(values)
            cursor.execute((notices.telling(table, statement) if listened else statement).encode(), given)
            if table == "points_windows" and cursor.rowcount < len(values):  # of those left out some may be closed
                cursor.execute(_REFUSED.encode(), given)
            counts[table] = len(values)
    counts["points_totals"] += len(first)
    _redact(cursor, rows)
    _notify(cursor, rows.shops)
    return counts


_JOIN_PROGRAM: Final = """
INSERT INTO programs AS t (shop, program, updated_at, judged_to) VALUES (%s, %s, %s, %s)
ON CONFLICT (shop) DO UPDATE SET program = excluded.program, updated_at = excluded.updated_at,
    judged_to = greatest(t.judged_to, excluded.judged_to)
"""


_VERSION: Final = """
INSERT INTO program_versions (shop, announced_at, tag, program) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
"""


def _join_programs(cursor: psycopg.Cursor[Any], rows: Rows) -> None:
    """Join what was announced to the stored programs; what may not be joined becomes a dead letter."""
    by_shop: dict[str, list[tuple[Received, Program]]] = {}
    for received, announced in rows.programs:
        by_shop.setdefault(announced.shop, []).append((received, announced))
    for shop, several in sorted(by_shop.items()):
        row = cursor.execute("SELECT program FROM programs WHERE shop = %s FOR UPDATE", [shop]).fetchone()
        known = None if row is None else Program.model_validate(row[0])
        for received, announced in several:
            try:
                known = announcements.accept(known, announced)
                said = known.model_dump_json()
                cursor.execute(_VERSION, [shop, announced.announced_at, announcements.tag(announced), said])
            except BadEvent as error:
                rows.refuse(received, error)
        assert known is not None, "the first program is accepted"
        received, _ = several[-1]
        judged = max(announced.announced_at for _, announced in several if announced.announced_at is not None)
        at = instants.to_datetime(instants.of_kafka(received.timestamp))
        cursor.execute(_JOIN_PROGRAM, [shop, known.model_dump_json(), at, judged])


def _ledger(cursor: psycopg.Cursor[Any], rows: Rows) -> tuple[list[ledger.Entry], list[Row], list[Row]]:
    """The ledger's entries, and the totals: those of which none is stored, and those that are others than stored.

    Nobody else stores one meanwhile: this transaction holds the positions of its customer's partition.
    """
    if not rows.points:
        return [], [], []
    keys = {ledger.key_of(each) for each in rows.points}
    cursor.execute(_TOTALS.encode(), _arrays(keys))
    stored = {(row[0], row[1], row[2], row[3], row[4]): ledger.Total(*row[5:]) for row in cursor}
    entries, totals = ledger.post(stored, rows.points)
    first = [(*key, *total) for key, total in totals.items() if key not in stored]
    later = [(*key, *total) for key, total in totals.items() if key in stored]
    return entries, first, later


_UNREACHED: Final = (
    "UPDATE customers SET contact = NULL, contact_at = NULL, consent = NULL, consent_at = NULL,"
    " consent_by_order = false WHERE shop = %s"
)


def _lock_persons(cursor: psycopg.Cursor[Any], rows: Rows) -> None:
    """Before any row is locked: nobody is forgotten meanwhile without those whom this batch makes one with them."""
    forgotten = {shop for shop, _ in rows.redacted}
    shops = sorted(forgotten | {shop for shop, _ in rows.merged})
    if shops:
        cursor.execute(persons.LOCK, [shops, [shop in forgotten for shop in shops]])


def _redact(cursor: psycopg.Cursor[Any], rows: Rows) -> None:
    """Destroy keys; what was sealed with them cannot be read any more, wherever it has been copied.

    Also of whom only this batch makes the same person as somebody who was forgotten before.
    """
    if rows.redacted:
        cursor.execute(vault.DESTROY.encode(), _columns(sorted(rows.redacted)))
    if rows.merged:
        late = cursor.execute(vault.LATECOMERS, _columns(sorted(rows.merged))).fetchall()
        if late:
            # Another sink may just be storing who leads to them: it is waited for. (Of two who wait for each other
            # one is told so, and starts over.)
            shops = sorted({shop for shop, _ in late})
            cursor.execute(persons.LOCK, [shops, [True] * len(shops)])
            cursor.execute(vault.DESTROY.encode(), _columns(late))
    for (shop, customer_id), asked in sorted(rows.redacted.items()):
        cursor.execute(vault.FORGET_BODIES, [shop, _until(asked)])
        cursor.execute(f"{_UNREACHED} AND customer_id = %s", [shop, customer_id])
    for shop, asked in sorted(rows.redacted_shops.items()):
        for statement in (vault.FORGET_BODIES, vault.FORGET_OWN, vault.DESTROY_SHOP):
            cursor.execute(statement, [shop, _until(asked)])
        for forget in (notices.FORGET, fulfilment.FORGET):
            cursor.execute(forget, {"shop": shop, "asked": _until(asked)})
        cursor.execute(f"{_UNREACHED} AND (contact IS NOT NULL OR consent IS NOT NULL)", [shop])
    for shop, heard in sorted(rows.let_go.items()):
        for statement in (imports.FORGET, exports.FORGET):
            cursor.execute(statement, [shop, _until(heard)])


def _until(asked: str) -> datetime:
    return instants.to_datetime(instants.parse(asked)) + _SKEW


def _notify(cursor: psycopg.Cursor[Any], shops: set[str]) -> None:
    if shops:
        at = instants.text(instants.from_datetime(datetime.now(UTC)))
        told = [codec.dumps({"shop": shop, "at": at}).decode() for shop in sorted(shops)]
        cursor.execute("SELECT pg_notify(%s, told) FROM unnest(%s::text[]) AS told", [CHANNEL, told])
