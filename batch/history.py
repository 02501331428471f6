"""A shop's raw history, folded to columns: each order's newest snapshot, refunds and owners, and who is known.

What is kept is a join: rows may be read in any order and more than once, so a second read takes up where the first
left off without care for overlaps. Memory grows with orders and refunds, not with webhooks: pending rows are merged
into what is kept as soon as they are half as many. Instants are microseconds, amounts minor units.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import polars as pl
from psycopg import Connection

from events import instants
from events.programs import Program
from lake import accounts, filling, identity, redemptions, refusals
from lake.errors import LakeError, StoreError
from lake.manifest import Lake
from lake.rows import STREAMS, TABLES, Rows

log = logging.getLogger(__name__)

#: Webhooks fetched, parsed and laid into columns at a time.
CHUNK = 5_000
#: Rows that wait before they are merged, at least: merging fewer costs more than it frees.
PENDING = 100_000

#: Tables of the lake that a run stands on; what was in an order it does not ask.
_ASKED = tuple(name for name in TABLES if name != "lines")

_KEY = ("updated_at", "triggered_at", "webhook_id", "digest")

#: What is kept as it was told, each row once.
_TOLD = ("awards", "decisions", "cancels", "outcomes", "codes")

_STREAMS = list(STREAMS)

_ALL = """
SELECT stream, key, value FROM raw_events
WHERE shop = %(shop)s AND stream = ANY(%(streams)s) AND triggered_at <= %(until)s::timestamptz"""
_SINCE = _ALL + " AND xid >= %(xid)s::xid8"
_BEYOND = _ALL + " AND (xid >= %(xid)s::xid8 OR triggered_at > %(read_to)s::timestamptz)"


class Kept:
    """Rows of one kind, merged by a join: commutative, associative, idempotent. (`told_at` is only for the lake.)"""

    def __init__(self, name: str, merge: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self._merge = merge
        self._kept = pl.DataFrame(schema={column: kind for column, kind in TABLES[name].items() if column != "told_at"})
        self._pending: list[pl.DataFrame] = []
        self._waiting = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Takes rows in, with the table's columns at least; they are merged once there are many."""
        if rows.is_empty():
            return
        self._pending.append(rows.select(self._kept.columns))
        self._waiting += rows.height
        if self._waiting >= max(PENDING, self._kept.height // 2):
            self.frame()

    def frame(self) -> pl.DataFrame:
        """Everything added so far, merged."""
        if self._pending:
            self._kept = self._merge(pl.concat([self._kept, *self._pending]))
            self._pending, self._waiting = [], 0
        return self._kept


def _newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort(_KEY).unique("order_id", keep="last", maintain_order=False)


def _greatest(*by: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.group_by(by).agg(pl.all().max())


class History:
    """What a shop's webhooks said, as far as they have been read. `unreadable` counts those that nobody can use.

    With a `lake` the first read is of its files, once it has been filled, and of the raw history only what is newer.
    """

    def __init__(self, shop: str, currency: str, lake: Lake | None = None) -> None:
        self.shop = shop
        self.currency = currency
        self.webhooks = 0
        self.unreadable = 0
        self.snapshots = Kept("snapshots", _newest)
        self.refunds = Kept("refunds", _greatest("order_id", "refund_id"))
        self.events = Kept("events", _greatest("order_id"))
        self.owners = Kept("owners", lambda rows: rows.unique())
        self.people = Kept("people", _greatest("customer_id"))
        self.links = Kept("links", _greatest("customer_id", "into"))
        self.kept = Kept("kept", _greatest("customer_id"))
        for name in _TOLD:
            setattr(self, name, Kept(name, lambda rows: rows.unique()))
        self._lake = lake
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
        if self._lake is not None and self._xid is None:
            self._load(connection, self._lake, until, on_progress)
            self._read_to = bound
        with connection.transaction():
            xid = filling.oldest_in_flight(connection)
            query = _ALL if self._xid is None else _SINCE if self._read_to == bound else _BEYOND
            parameters = {
                "shop": self.shop,
                "streams": _STREAMS,
                "until": bound,
                "xid": self._xid,
                "read_to": self._read_to,
            }
            refused = refusals.of_shop(connection, self.shop)
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

    def absorb(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Takes in messages, each (topic, value); what cannot be read is skipped, as the agents dead-letter it."""
        rows = Rows(self.currency)
        rows.take(messages)
        self.webhooks += rows.webhooks
        self.unreadable += rows.unreadable
        for name in _ASKED:
            self._kept(name).add(rows.frame(name))

    def _kept(self, name: str) -> Kept:
        found: Kept = getattr(self, name)
        return found

    def _load(
        self, connection: Connection[Any], lake: Lake, until: int | None, on_progress: Callable[[int], None]
    ) -> None:
        """What the lake holds, filled before; the raw history has the rest, from the lake's last transaction on."""
        with suppress(LakeError):  # another process fills it: as it stands it will do, the rest is read here
            filling.fill(connection, lake, on_progress)
        self._xid = "0"
        try:
            root = filling.root_of(connection, lake)
            files = lake.shop(root, self.shop)
        except StoreError as error:
            log.warning("the whole raw history is read: %s", error)
            return
        if files is None:
            return
        self._xid = str(root.cursor.xid)
        self.webhooks += files.webhooks
        self.unreadable += files.unreadable
        for name in _ASKED:
            found = lake.scan(files.parts(name, until), name)
            if until is not None:
                found = found.filter(pl.col("told_at") <= until)
            self._kept(name).add(found.collect())

    def order_states(self) -> pl.DataFrame:
        """One row per order that has a snapshot: the newest, with cancelled, deleted and `now` (the order's own)."""
        return self.snapshots.frame().join(self.events.frame(), on="order_id", how="left")

    def merged(self) -> pl.DataFrame:
        """customer_id, into: of everybody who is somebody else now."""
        return identity.holding(self.links.frame(), self.kept.frame())

    def given(self, program: Program, states: pl.DataFrame) -> pl.DataFrame:
        """What was given and taken (accounts.NONE), of whoever their customers are in the end; `states` as
        batch/orders.py has them."""
        told = {name: self._kept(name).frame() for name in _TOLD}
        stood = accounts.awards(told["awards"])
        if told["decisions"].height:
            said = (told["decisions"], told["cancels"], told["outcomes"], told["codes"], self.owners.frame())
            of_orders = redemptions.states(states, program)
            stood = accounts.with_redemptions(stood, redemptions.taken(*said, lambda _: of_orders, program))
        return identity.owned(stood, identity.resolved(self.merged()))

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
