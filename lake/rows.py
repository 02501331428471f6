"""What webhooks come to as rows of the lake: each webhook's own, whatever came before or after it.

Rows of one table are joined by whoever reads them: of an order's snapshots the newest counts, of everything else the
greatest, so a row that stands there twice changes nothing. `told_at` is the triggered_at of the webhook that a row is
from: the history as of T is the rows with told_at <= T. Instants are microseconds, amounts minor units of the shop's
currency.
"""

from collections.abc import Iterable
from typing import Any, Final

import polars as pl

from events import asked, contacts, envelopes, keys, links, orders, payloads, topics
from events.errors import BadEvent, UnusedTopic
from events.redeeming import UNUSED
from events.webhook_topics import ARCHIVED, NAMING, TELLING, Kind

#: What webhooks stand on.
STREAMS: Final = (topics.ORDERS, topics.CUSTOMERS, topics.REQUESTS)

#: Above every amount an order can have, so that whatever is beyond it makes net 0 as it does: it keeps sums in 64 bits.
_LIMIT: Final = 10 * 10**15

Schema = dict[str, Any]

#: Each table's columns, those first by which its files are sorted.
TABLES: Final[dict[str, Schema]] = {
    "snapshots": {
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
        "told_at": pl.Int64,
    },
    # What was in the order, a row a snapshot: lists with an element for each line (events/orders.py: Line).
    "lines": {
        "order_id": pl.String,
        "updated_at": pl.Int64,
        "triggered_at": pl.Int64,
        "webhook_id": pl.String,
        "digest": pl.String,
        "source": pl.String,
        "discount_codes": pl.List(pl.String),
        "product_ids": pl.List(pl.String),
        "variant_ids": pl.List(pl.String),
        "skus": pl.List(pl.String),
        "gift_cards": pl.List(pl.Boolean),
        "quantities": pl.List(pl.Int64),
        "left": pl.List(pl.Int64),
        "prices": pl.List(pl.Int64),
        "discounts": pl.List(pl.Int64),
        "told_at": pl.Int64,
    },
    "refunds": {
        "order_id": pl.String,
        "refund_id": pl.String,
        "created_at": pl.Int64,
        "goods": pl.Int64,
        "goods_tax": pl.Int64,
        "beyond": pl.Int64,
        "paid": pl.Int64,  # orders.UNTOLD: nobody said
        "told_at": pl.Int64,
    },
    "events": {
        "order_id": pl.String,
        "cancelled": pl.Boolean,
        "deleted": pl.Boolean,
        "now": pl.Int64,
        "told_at": pl.Int64,
    },
    "owners": {"order_id": pl.String, "customer_id": pl.String, "told_at": pl.Int64},
    "people": {"customer_id": pl.String, "now": pl.Int64, "known": pl.Boolean, "told_at": pl.Int64},
    "links": {"customer_id": pl.String, "into": pl.String, "rank": pl.String, "told_at": pl.Int64},
    "kept": {"customer_id": pl.String, "rank": pl.String, "told_at": pl.Int64},
    "awards": {
        "customer_id": pl.String,
        "award_id": pl.String,
        "at": pl.Int64,
        "points": pl.Int64,
        "reason": pl.String,
        "source": pl.String,
        "counts_as_earned": pl.Boolean,
        "voided": pl.Boolean,
        "told_at": pl.Int64,
    },
    "decisions": {
        "customer_id": pl.String,
        "request_id": pl.String,
        "decided_at": pl.Int64,
        "accepted": pl.Boolean,
        "reward_id": pl.String,
        "cost": pl.Int64,
        "told_at": pl.Int64,
    },
    # `unused`: its time went by, and nobody had used it.
    "cancels": {"customer_id": pl.String, "request_id": pl.String, "unused": pl.Boolean, "told_at": pl.Int64},
    # What became of making a redemption's code; `valid_until` 0: for ever.
    "outcomes": {
        "customer_id": pl.String,
        "request_id": pl.String,
        "attempt": pl.Int64,
        "issued": pl.Boolean,
        "valid_until": pl.Int64,
        "code": pl.String,
        "told_at": pl.Int64,
    },
    # The discount codes that orders bore, as Shopify compares them: in capitals.
    "codes": {"order_id": pl.String, "code": pl.String, "told_at": pl.Int64},
}


class Rows:
    """Rows of some webhooks of one shop, one list for each table. `unreadable` counts those that nobody can use."""

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.webhooks = 0
        self.unreadable = 0
        self.tables: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}

    def take(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Takes in messages, each (topic, value); what cannot be read is skipped, as the agents dead-letter it."""
        for stream, value in messages:
            self.webhooks += 1
            try:
                self._take(stream, envelopes.read(value, stream))
            except UnusedTopic:
                pass
            except BadEvent:
                self.unreadable += 1

    def frame(self, name: str) -> pl.DataFrame:
        """A table's rows."""
        rows, schema = self.tables[name], TABLES[name]
        columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
        return pl.DataFrame(dict(zip(schema, columns, strict=True)), schema=schema)

    def _add(self, name: str, *values: Any) -> None:
        self.tables[name].append(values)

    def _take(self, stream: str, webhook: envelopes.Webhook) -> None:
        kind, at = webhook.kind, webhook.triggered_at
        if kind in ARCHIVED:
            return
        ident = keys.customer_id(payloads.resource_of(webhook.topic, webhook.payload))
        if kind is Kind.MERGE:
            self._merge(webhook)
        elif stream == topics.REQUESTS:
            self._asked(ident, webhook)
        elif stream == topics.CUSTOMERS:
            _check_customer(webhook)
            self._add("people", ident, webhook.event_time, kind in NAMING, at)
            self._claim(ident, webhook)
        elif kind is Kind.SNAPSHOT:
            self._snapshot(ident, webhook)
        else:
            if kind is Kind.REFUND:
                refund_id, refund = orders.refund(webhook.payload, self.currency)
                self._add("refunds", ident, refund_id, *refund, at)
            self._add("events", ident, False, kind is Kind.ORDER_GONE, webhook.event_time, at)

    def _snapshot(self, order_id: str, webhook: envelopes.Webhook) -> None:
        at = webhook.triggered_at
        found, refunds = orders.snapshot(webhook, self.currency)
        for refund_id, refund in refunds.items():
            self._add("refunds", order_id, refund_id, *refund, at)
        if found["customer"] is not None:
            self._add("owners", order_id, found["customer"], at)
            self._claim(found["customer"], webhook)
        self._add("events", order_id, found["cancelled"], False, webhook.event_time, at)
        self._add(
            "snapshots",
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
            at,
        )
        codes = [code for each in webhook.payload.get("discount_codes") or [] if each and (code := each.get("code"))]
        for code in codes:
            self._add("codes", order_id, code.upper(), at)
        self._add(
            "lines",
            order_id,
            *found["key"],
            webhook.payload.get("source_name"),
            codes,
            *_columns(orders.lines(webhook.payload, self.currency)),
            at,
        )

    def _asked(self, customer_id: str, webhook: envelopes.Webhook) -> None:
        told, at = asked.record(webhook), webhook.triggered_at
        self._add("people", customer_id, webhook.event_time, told["type"] == "account.award", at)
        if told["type"] == "account.decision":
            decided = told["decided_at"], told["accepted"], told["reward_id"], told["cost"]
            self._add("decisions", customer_id, told["request_id"], *decided, at)
        elif told["type"] == "account.cancel":
            self._add("cancels", customer_id, told["request_id"], told["reason"] == UNUSED, at)
        elif told["type"] == "account.fulfilment":
            made = told["attempt"], told["state"] == "issued", told["valid_until"] or 0, told["code"] or ""
            self._add("outcomes", customer_id, told["request_id"], *made, at)
        elif told["type"] == "account.award":
            body = told["at"], told["points"], told["reason"], told["source"], told["counts_as_earned"]
            self._add("awards", customer_id, told["award_id"], *body, told["voided_at"] > 0, at)

    def _claim(self, customer_id: str, webhook: envelopes.Webhook) -> None:
        address = webhook.payload.get("address")
        if keys.is_by_address(address) and not keys.is_by_address(customer_id):
            self._add("links", address, customer_id, links.claim_rank(customer_id), webhook.triggered_at)

    def _merge(self, webhook: envelopes.Webhook) -> None:
        found = links.merged(webhook.payload)
        if found is None:
            return
        (kept, deleted), at = found, webhook.triggered_at
        rank = links.merge_rank(at, webhook.webhook_id, kept)
        self._add("links", deleted, kept, rank, at)
        self._add("kept", kept, rank, at)
        self._add("people", kept, webhook.event_time, True, at)
        self._add("people", deleted, webhook.event_time, False, at)


def _columns(lines: list[orders.Line]) -> list[list[Any]]:
    """A list for each field of a line."""
    return [list(each) for each in zip(*lines, strict=True)] or [[] for _ in orders.Line._fields]


def _check_customer(webhook: envelopes.Webhook) -> None:
    """BadEvent where a time that orders addresses or consents cannot be read: such a webhook is dead-lettered."""
    if webhook.kind in TELLING:
        contacts.address_key(webhook)
        contacts.consent_key(webhook)
