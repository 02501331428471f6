"""A shop's raw history, folded to columns: each order's newest snapshot, refunds and owners, and who is known.

What is kept is a join: rows may be read in any order and more than once, so a second read takes up where the first
left off without care for overlaps. Memory grows with orders and refunds, not with webhooks: pending rows are merged
into what is kept as soon as they are half as many. Instants are microseconds, amounts minor units.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import polars as pl
from psycopg import Connection

from batch import identity
from events import contacts, envelopes, instants, keys, links, orders, payloads, topics
from events.errors import BadEvent, UnusedTopic
from events.records import MAX_LETTER
from events.webhook_topics import ARCHIVED, NAMING, TELLING, Kind

#: Webhooks fetched, parsed and laid into columns at a time.
CHUNK = 5_000
#: Rows that wait before they are merged, at least: merging fewer costs more than it frees.
PENDING = 100_000

#: Above every amount an order can have, so that whatever is beyond it makes net 0 as it does: it keeps sums in 64 bits.
_LIMIT = 10 * 10**15

_KEY = ("updated_at", "triggered_at", "webhook_id", "digest")
_SNAPSHOT = {
    "order_id": pl.String,
    "updated_at": pl.Int64,
    "triggered_at": pl.Int64,
    "webhook_id": pl.String,
    "digest": pl.String,
    "customer_id": pl.String,
    "processed_at": pl.Int64,
    "base": pl.Int64,
    "gift": pl.Int64,
    "tax": pl.Int64,
    "gross": pl.Int64,
    "gross_tax": pl.Int64,
    "status": pl.String,
    "test": pl.Boolean,
    "refund_ids": pl.List(pl.String),
}
_REFUND = {
    "order_id": pl.String,
    "refund_id": pl.String,
    "created_at": pl.Int64,
    "goods": pl.Int64,
    "goods_tax": pl.Int64,
    "beyond": pl.Int64,
    "paid": pl.Int64,  # orders.UNTOLD: nobody said
}
_EVENT = {"order_id": pl.String, "cancelled": pl.Boolean, "deleted": pl.Boolean, "now": pl.Int64}
_OWNER = {"order_id": pl.String, "customer_id": pl.String}
_PERSON = {"customer_id": pl.String, "now": pl.Int64, "known": pl.Boolean}
_LINK = {"customer_id": pl.String, "into": pl.String, "rank": pl.String}
_KEPT = {"customer_id": pl.String, "rank": pl.String}

_STREAMS = [topics.ORDERS, topics.CUSTOMERS]

# What the stream refused counts nowhere until it is replayed. Refusals of what a message says are made here alike; of
# the others these letters tell. (Of an unknown shop everything is brought in, once it is known: none is left out.)
_REFUSED = """
SELECT source, key, value FROM dead_letters
WHERE shop = %s AND source = ANY(%s) AND error IN ('unexpected', 'too_large') AND replayed_at IS NULL"""

_ALL = """
SELECT stream, key, value FROM raw_events
WHERE shop = %(shop)s AND stream = ANY(%(streams)s) AND triggered_at <= %(until)s::timestamptz"""
_SINCE = _ALL + " AND xid >= %(xid)s::xid8"
_BEYOND = _ALL + " AND (xid >= %(xid)s::xid8 OR triggered_at > %(read_to)s::timestamptz)"


class Kept:
    """Rows of one kind, merged by a join: commutative, associative, idempotent."""

    def __init__(self, schema: dict[str, Any], merge: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self._schema = schema
        self._merge = merge
        self._kept = pl.DataFrame(schema=schema)
        self._pending: list[pl.DataFrame] = []
        self._waiting = 0

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Takes rows in, each a tuple in the schema's order; they are merged once there are many."""
        if not rows:
            return
        columns = dict(zip(self._schema, zip(*rows, strict=True), strict=True))
        self._pending.append(pl.DataFrame(columns, schema=self._schema))
        self._waiting += len(rows)
        if self._waiting >= max(PENDING, self._kept.height // 2):
            self.frame()

    def frame(self) -> pl.DataFrame:
        """Everything added so far, merged."""
        if self._pending:
            self._kept = self._merge(pl.concat([self._kept, *self._pending]))
            self._pending, self._waiting = [], 0
        return self._kept


class Refused:
    """The messages that stand in dead letters: by what they say, or by their key where it is too long for a letter."""

    def __init__(self, letters: Iterable[tuple[str, str | None, str | None]]) -> None:
        self._said: set[tuple[str, str]] = set()
        self._long: set[tuple[str, str | None]] = set()
        for stream, key, value in letters:
            if value is None:
                self._long.add((stream, key))
            else:
                self._said.add((stream, _canonical(value)))

    def __contains__(self, row: tuple[str, str, str]) -> bool:
        stream, key, value = row
        if self._long and len(value) > MAX_LETTER and (stream, key) in self._long:
            return True
        return bool(self._said) and (stream, _canonical(value)) in self._said


def _canonical(value: str) -> str:
    """The same text for two envelopes that say the same, in whatever order."""
    return json.dumps(json.loads(value), sort_keys=True)


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(_KEY).unique("order_id", keep="last", maintain_order=False)


def _greatest(*by: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.group_by(by).agg(pl.all().max())


class History:
    """What a shop's webhooks said, as far as they have been read. `unreadable` counts those that nobody can use."""

    def __init__(self, shop: str, currency: str) -> None:
        self.shop = shop
        self.currency = currency
        self.webhooks = 0
        self.unreadable = 0
        self.snapshots = Kept(_SNAPSHOT, _newest)
        self.refunds = Kept(_REFUND, _greatest("order_id", "refund_id"))
        self.events = Kept(_EVENT, _greatest("order_id"))
        self.owners = Kept(_OWNER, lambda rows: rows.unique())
        self.people = Kept(_PERSON, _greatest("customer_id"))
        self.links = Kept(_LINK, _greatest("customer_id", "into"))
        self.kept = Kept(_KEPT, _greatest("customer_id"))
        self._xid: str | None = None
        self._read_to = "-infinity"

    def read(
        self,
        connection: Connection[Any],
        until: int | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Takes in what has not been read of the webhooks with triggered_at <= `until` (None: all); how many came.

        `until` must not be before that of an earlier read. `on_progress` is told the webhooks read by this call.
        """
        bound = "infinity" if until is None else instants.text(until)
        count = 0
        with connection.transaction():
            xid = _oldest_in_flight(connection)
            query = _ALL if self._xid is None else _SINCE if self._read_to == bound else _BEYOND
            parameters = {
                "shop": self.shop,
                "streams": _STREAMS,
                "until": bound,
                "xid": self._xid,
                "read_to": self._read_to,
            }
            refused = Refused(connection.execute(_REFUSED, (self.shop, _STREAMS)).fetchall())
            with connection.cursor("history", scrollable=False) as cursor:
                cursor.execute(query, parameters)
                while rows := cursor.fetchmany(CHUNK):
                    self.absorb(
                        (stream, value.encode()) for stream, key, value in rows if (stream, key, value) not in refused
                    )
                    count += len(rows)
                    on_progress(count)
        self._xid, self._read_to = xid, bound
        return count

    def absorb(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """Takes in messages, each (topic, value); what cannot be read is skipped, as the agents dead-letter it."""
        chunk = _Chunk(self.currency)
        for stream, value in rows:
            self.webhooks += 1
            try:
                chunk.take(stream, envelopes.read(value, stream))
            except UnusedTopic:
                pass
            except BadEvent:
                self.unreadable += 1
        self.snapshots.add(chunk.snapshots)
        self.refunds.add(chunk.refunds)
        self.events.add(chunk.events)
        self.owners.add(chunk.owners)
        self.people.add(chunk.people)
        self.links.add(chunk.links)
        self.kept.add(chunk.kept)

    def order_states(self) -> pl.DataFrame:
        """One row per order that has a snapshot: the newest, with cancelled, deleted and `now` (the order's own)."""
        return self.snapshots.frame().join(self.events.frame(), on="order_id", how="left")

    def merged(self) -> pl.DataFrame:
        """customer_id, into: of everybody who is somebody else now."""
        return identity.holding(self.links.frame(), self.kept.frame())

    def customers(self) -> pl.DataFrame:
        """Every known customer: customer_id, now, merged_into.

        `now` is the greatest event time of anything that was about them, or about somebody who is or was said to be
        them; `merged_into` whom they are now, if they are not themselves.
        """
        named = (
            self.owners.frame()
            .join(self.events.frame().select("order_id", "now"), on="order_id", how="left")
            .select("customer_id", "now", known=pl.lit(True))
        )
        everyone = _greatest("customer_id")(pl.concat([self.people.frame(), named]))
        told = identity.told(everyone, self.links.frame())
        return (
            everyone.filter("known")
            .select("customer_id")
            .join(told, on="customer_id", how="left")
            .join(self.merged().rename({"into": "merged_into"}), on="customer_id", how="left")
            .sort("customer_id")
        )


def _oldest_in_flight(connection: Connection[Any]) -> str:
    """The oldest transaction that may still add rows: the next read starts at it and misses no late commit."""
    found = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()
    assert found is not None
    xid: str = found[0]
    return xid


class _Chunk:
    """Rows of one chunk, one list per kind."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.snapshots: list[tuple[Any, ...]] = []
        self.refunds: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.owners: list[tuple[Any, ...]] = []
        self.people: list[tuple[Any, ...]] = []
        self.links: list[tuple[Any, ...]] = []
        self.kept: list[tuple[Any, ...]] = []

    def take(self, stream: str, webhook: envelopes.Webhook) -> None:
        kind = webhook.kind
        if kind in ARCHIVED:
            return
        ident = keys.customer_id(payloads.resource_of(webhook.topic, webhook.payload))
        if kind is Kind.MERGE:
            self._merge(webhook)
        elif stream == topics.CUSTOMERS:
            _check_customer(webhook)
            self.people.append((ident, webhook.event_time, kind in NAMING))
            self._claim(ident, webhook.payload.get("address"))
        elif kind is Kind.SNAPSHOT:
            self._snapshot(ident, webhook)
        else:
            if kind is Kind.REFUND:
                self._refund(ident, *orders.refund(webhook.payload, self.currency))
            self.events.append((ident, False, kind is Kind.ORDER_GONE, webhook.event_time))

    def _snapshot(self, order_id: str, webhook: envelopes.Webhook) -> None:
        found, refunds = orders.snapshot(webhook, self.currency)
        for refund_id, refund in refunds.items():
            self._refund(order_id, refund_id, refund)
        if found["customer"] is not None:
            self.owners.append((order_id, found["customer"]))
            self._claim(found["customer"], webhook.payload.get("address"))
        self.events.append((order_id, found["cancelled"], False, webhook.event_time))
        self.snapshots.append(
            (
                order_id,
                *found["key"],
                found["customer"],
                found["processed_at"],
                max(found["base"], -_LIMIT),
                min(found["gift"], _LIMIT),
                found["tax"],
                max(found["gross"], -_LIMIT),
                found["gross_tax"],
                found["status"],
                found["test"],
                found["refund_ids"],
            )
        )

    def _claim(self, customer_id: str, address: Any) -> None:
        if keys.is_by_address(address) and not keys.is_by_address(customer_id):
            self.links.append((address, customer_id, links.claim_rank(customer_id)))

    def _merge(self, webhook: envelopes.Webhook) -> None:
        found = links.merged(webhook.payload)
        if found is None:
            return
        kept, deleted = found
        rank = links.merge_rank(webhook.triggered_at, webhook.webhook_id, kept)
        self.links.append((deleted, kept, rank))
        self.kept.append((kept, rank))
        self.people += [(kept, webhook.event_time, True), (deleted, webhook.event_time, False)]

    def _refund(self, order_id: str, refund_id: str, refund: orders.Refund) -> None:
        self.refunds.append((order_id, refund_id, *refund))


def _check_customer(webhook: envelopes.Webhook) -> None:
    """BadEvent where a time that orders addresses or consents cannot be read: such a webhook is dead-lettered."""
    if webhook.kind in TELLING:
        contacts.address_key(webhook)
        contacts.consent_key(webhook)
