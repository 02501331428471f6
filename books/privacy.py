"""A customer's data: all of it for the customer (customers/data_request), and its end (customers/redact)."""

from datetime import datetime
from decimal import Decimal
from typing import Any, Final, LiteralString
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from books import contacts, persons, schema
from books.vault import Vault
from events import codec, instants, keys, money, orders, payloads, topics
from events.errors import BadEvent
from events.messages import Message
from runtime.database import Pool
from runtime.ports import Publisher

Row = dict[str, Any]

#: What each table of a customer's rows is called in the answer, and how it is asked for: oldest row first.
_OWN: Final = {
    "customers": ("customer", "*", "now"),
    "points_transactions": ("points", "*", "posted_at, id"),
    "points_totals": ("points_by_source", "*", "processed_at, source, source_id"),
    "points_expired": ("points_expired", "*", "day"),
    "rfm_score_history": ("rfm_history", "*", "at, id"),
    "rfm_segment_deltas": ("segment_changes", "*", "at, id"),
    "awards": ("awards", "*", "at, award_id"),
    "award_claims": ("awards_asked_for", "*", "claimed_at, award_id"),
    "redemption_claims": ("redemptions_asked_for", "*", "claimed_at, request_id"),
    "redemptions": ("redemptions", "*", "decided_at, request_id"),
    "fulfilment_work": (
        "discounts",
        "request_id, code, valid_until, outcome, reason, attempts, created_at, finished_at, withdrawal",
        "created_at, request_id",
    ),
    "batch_segments": ("batch_standings", "*", "run_id"),
    "notices": ("notices", "message, event, body, status, created_at, finished_at", "id"),
    "notice_marks": ("told_before_rebuild", "at", "at"),
    "customer_keys": ("key", "created_at, destroyed_at", "created_at"),
}


def _queries() -> dict[str, str]:
    """By its name in the answer, the query of each table that has rows of one customer."""
    queries = {}
    for table in schema.TABLES:
        if table.personal == "customer":
            name, columns, order = _OWN[table.name]
            queries[name] = (
                f"SELECT {columns} FROM {table.name} WHERE shop = %(shop)s AND customer_id = %(id)s"  # noqa: S608
                f" ORDER BY {order}"
            )
    # By the shop's runs, each of which is asked for the one customer: no index by customer is needed.
    queries["batch_standings"] = (
        "SELECT b.*, r.as_of FROM batch_runs r JOIN batch_segments b ON b.run_id = r.id AND b.customer_id = %(id)s"
        " WHERE r.shop = %(shop)s ORDER BY r.as_of, r.id"
    )
    return queries


# Whatever holds the id's digits somewhere: told apart below, where the JSON is read.
_ORDERS = """
SELECT key, value FROM raw_events
WHERE shop = %(shop)s AND stream = %(orders)s AND position(%(id)s IN value) > 0
"""

_EVENTS = """
SELECT received_at, stream, key, webhook_topic, webhook_id, triggered_at, value FROM raw_events
WHERE shop = %(shop)s AND (key = ANY(%(keys)s) OR (stream = %(customers)s AND position(%(id)s IN value) > 0))
ORDER BY received_at, id
"""

_DEAD_LETTERS = """
SELECT at, id, source, key, error, detail, value FROM dead_letters
WHERE shop = %(shop)s AND (key = ANY(%(keys)s) OR position(%(id)s IN value) > 0) ORDER BY at, id
"""


def _names(value: str | None, customer_id: str) -> bool:
    """Whether an envelope names this customer."""
    try:
        envelope = codec.loads((value or "").encode())
        topic, payload = envelope["topic"], envelope["payload"]
        if topic.startswith("orders/"):
            return orders.owner(payload) == customer_id
        named = [payloads.resource_of(topic, payload)] if topic.startswith("customers") else []
        if topic == "customers/merge":
            named.append(str(payload.get("admin_graphql_api_customer_deleted_id")).rpartition("/")[2])
        return customer_id in map(str, named)
    except (BadEvent, TypeError, KeyError, AttributeError):
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return instants.text(instants.from_datetime(value))
    if isinstance(value, UUID | Decimal):
        return str(value)
    return value


async def _rows(connection: AsyncConnection[Any], query: LiteralString, parameters: Row) -> list[Row]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query, parameters)
    return [{name: _plain(value) for name, value in row.items()} for row in await cursor.fetchall()]


async def _event(row: Row, vault: Vault, shop: str, customer_id: str) -> Row:
    """A raw event with its message parsed, and what was sealed in it opened."""
    try:
        message = codec.loads(row["value"].encode())
        for name in ("contact", "consent"):
            if isinstance(sealed := message["payload"].get(name), str):
                found = await vault.open(shop, customer_id, sealed)
                message["payload"][name] = found and found._asdict()
    except KeyError:
        pass
    except (BadEvent, TypeError, AttributeError):
        message = row["value"]
    return {**row, "value": message}


async def export(pool: Pool, vault: Vault, shop: str, customer_id: str) -> dict[str, Any]:
    """Everything we hold on a customer, ready to be written as JSON, with what is sealed opened.

    `contact` is the person's; what is held on those who were merged into the customer, or are known by an address of
    theirs alone, stands in `merged`. Reads the shop's raw orders from end to end: seconds for a large shop. ValueError
    for a shop or an id that is none.
    """
    shop, customer_id = keys.shop_domain(shop), keys.customer_id(customer_id)
    async with pool.connection() as connection:
        reached = await contacts.opened_of(vault, connection, shop, customer_id)
        merged = await persons.led(connection, shop, [customer_id], ("customer_id", "merged_into"))
    return {
        "shop": shop,
        "customer_id": customer_id,
        "contact": reached and reached._asdict(),
        **await _held(pool, vault, shop, customer_id),
        "merged": [{"customer_id": each, **await _held(pool, vault, shop, each)} for each in sorted(merged)],
    }


async def _held(pool: Pool, vault: Vault, shop: str, customer_id: str) -> Row:
    """What we hold under one id."""
    asked: Row = {
        "shop": shop,
        "id": customer_id,
        "orders": topics.ORDERS,
        "customers": topics.CUSTOMERS,
    }
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        found = {name: await _rows(connection, query, asked) for name, query in _queries().items()}
        theirs = {row["key"] for row in await _rows(connection, _ORDERS, asked) if _names(row["value"], customer_id)}
        posted = (row["source_id"] for row in found["points_by_source"] if row["source"] == "order")
        theirs |= {keys.join(shop, order_id) for order_id in posted}
        asked["keys"] = [keys.join(shop, customer_id), *sorted(theirs)]
        raw = await _rows(connection, _EVENTS, asked)
        dead = await _rows(connection, _DEAD_LETTERS, asked)
    own = set(asked["keys"])
    events = [
        await _event(row, vault, shop, customer_id)
        for row in raw
        if _mine(row["stream"], row["key"], theirs, shop, customer_id) or _names(row["value"], customer_id)
    ]
    customer = found.pop("customer")
    row = customer[0] if customer else None
    if row is not None:
        del row["contact"], row["consent"]
        row["monetary"] = money.decimal_text(row["monetary"], row["currency"])
    return {
        "customer": row,
        **found,
        "events": events,
        "dead_letters": [each for each in dead if each["key"] in own or _names(each["value"], customer_id)],
    }


def _mine(stream: str, key: str, theirs: set[str], shop: str, customer_id: str) -> bool:
    """An order and a customer may share an id: a key says whose only together with its topic."""
    return key in theirs if stream == topics.ORDERS else key == keys.join(shop, customer_id)


async def redact(vault: Vault, publisher: Publisher, shop: str, customer_id: str, now: datetime) -> None:
    """Forgets a customer as customers/redact would: the key first, then the webhook that tells everybody else.

    ValueError for a shop or an id that is none; PublishError when the rest could not be told (do it again).
    """
    shop, customer_id = keys.shop_domain(shop), keys.customer_id(customer_id)
    await contacts.forget(vault, shop, customer_id, None, now)
    at = instants.text(instants.from_datetime(now))
    by_address = keys.is_by_address(customer_id)
    named: Row = {"address": customer_id} if by_address else {"customer": {"id": int(customer_id)}}
    envelope = {
        "topic": "customers/redact",
        "shop": shop,
        "webhook_id": f"operator-{uuid4()}",
        "event_id": None,
        "api_version": None,
        "triggered_at": at,
        "received_at": at,
        "payload": {"shop_domain": shop, **named},
    }
    key = keys.join(shop, customer_id)
    await publisher.publish([Message(topics.CUSTOMERS, key, codec.dumps(envelope))])
