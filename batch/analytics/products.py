"""Product RFM: which products sell, to whom, who comes back for them, and which are bought together.

Definitions stand in docs/meaning.md. Each of the tables is of the orders in the look-back; what products are told apart
by is order_lines.item.
"""

from pathlib import Path
from typing import Any, Final

import duckdb
from psycopg import Connection

from batch.analytics.words import MINOR, MONEY, UTC, Table
from books import schema
from runtime import duck

#: Baskets of more products than this are nobody's shopping, and would make a square of pairs each.
LARGEST_BASKET: Final = 100
#: Pairs of products bought together: those that at least so many orders hold, and so many of them at most.
LEAST_PAIRS: Final = 3
MOST_PAIRS: Final = 1000

_VALUES: Final = {
    "recency_days": "whole days of 86,400 seconds from the latest order with it to about.made_at",
    "last_order_at": f"that order, {UTC}",
    "frequency": "orders with it",
    "pieces": "pieces in them that were kept",
    "monetary": f"what these pieces are worth in sum, {MONEY}",
    "monetary_minor": f"monetary {MINOR}",
    "buyers": "distinct customers",
    "repeat_buyers": "of these, who have it in two orders or more",
    "repeat_rate": "repeat_buyers / buyers, 0 to 1",
    "first_orders": "customers whose first order of all had it",
    "came_back": "of these, who have ordered anything again since",
    "came_back_rate": "came_back / first_orders, 0 to 1; null: nobody's first order had it",
}


def _buyers(by: str) -> str:
    """The SQL of what each customer bought, grouped by these columns; `nth` tells a customer's orders apart."""
    return f"""
        SELECT {by}, customer_id, max(product_id), arg_max(sku, processed), max(processed), count(*),
               sum(pieces)::BIGINT, sum(amount), bool_or(nth = 1), bool_or(again)
        FROM (
            SELECT {by}, customer_id, nth, max(product_id) AS product_id, arg_max(sku, processed) AS sku,
                   max(processed) AS processed, sum(pieces) AS pieces, sum(amount) AS amount, bool_or(again) AS again
            FROM sold GROUP BY {by}, customer_id, nth
        ) GROUP BY {by}, customer_id
        """


_BUYER: Final = dict.fromkeys(
    ("customer_id", "product_id", "sku", "last", "orders", "pieces", "amount", "first", "again"), ""
)


def _values(by: str, of: str) -> str:
    """The SQL of _VALUES: what is sold, grouped by these columns, of the table of who bought it."""
    return f"""
        SELECT {by}, product_id, sku, date_diff('microsecond', last, {{made_at}}) // 86400000000, last, orders, pieces,
               total(amount), amount, buyers, repeat_buyers, repeat_buyers / buyers, first_orders, came_back,
               came_back / nullif(first_orders, 0)
        FROM (
            SELECT {by}, max(product_id) AS product_id, arg_max(sku, last) AS sku, max(last) AS last,
                   sum(orders) AS orders, sum(pieces) AS pieces, sum(amount)::BIGINT AS amount, count(*) AS buyers,
                   count(*) FILTER (WHERE orders > 1) AS repeat_buyers, count(*) FILTER (WHERE first) AS first_orders,
                   count(*) FILTER (WHERE first AND again) AS came_back
            FROM {of} GROUP BY {by}
        )
        """


TABLES: Final = (
    Table(
        "sold",
        "",
        {
            **dict.fromkeys(("order_id", "customer_id", "processed", "nth", "again", "item", "variant"), ""),
            **dict.fromkeys(("product_id", "sku", "pieces", "amount"), ""),
        },
        """
        SELECT o.order_id, o.customer_id, o.processed_at, o.nth, c.again, l.item,
               coalesce(l.variant_id, 'sku:' || l.sku), l.product_id, l.sku, l.pieces, l.amount_minor
        FROM order_lines AS l JOIN orders AS o USING (order_id) JOIN (
            SELECT customer_id, max(nth) > 1 AS again FROM orders WHERE processed_at <= {made_at} GROUP BY customer_id
        ) AS c USING (customer_id)
        WHERE o.nth IS NOT NULL AND o.processed_at > {look_back_from} AND o.processed_at <= {made_at}
          AND l.item IS NOT NULL AND l.pieces > 0
        """,
        kind="TEMP TABLE",
    ),
    Table("buyers", "", {"item": "", **_BUYER}, _buyers("item"), kind="TEMP TABLE"),
    Table(
        "products",
        "What was sold of each product in the look-back, and to how many.",
        {
            "item": "the product: product_id, without one sku:...",
            "product_id": "the product's id at Shopify; null: not told",
            "sku": "the merchant's own number, of its latest order; null: not told",
            **_VALUES,
        },
        _values("item", "buyers"),
    ),
    Table("variant_buyers", "", {"item": "", "variant": "", **_BUYER}, _buyers("item, variant"), kind="TEMP TABLE"),
    Table(
        "variants",
        "As products, of each variant of them.",
        {
            "item": "the product: product_id, without one sku:...",
            "variant": "the variant: variant_id, without one sku:...; null: not told",
            "product_id": "the product's id at Shopify; null: not told",
            "sku": "the merchant's own number, of its latest order; null: not told",
            **_VALUES,
        },
        _values("item, variant", "variant_buyers"),
    ),
    Table(
        "product_segments",
        "Who buys each product: its buyers in the look-back by the segment that they are in now.",
        {
            "item": "the product (products.item)",
            "segment": "the segment that the buyers are in now; null: they were not scored yet",
            "buyers": "distinct customers",
            "frequency": "their orders with it",
            "monetary": f"what they kept of it is worth in sum, {MONEY}",
        },
        """
        SELECT item, c.segment, count(*), sum(b.orders)::BIGINT, total(sum(amount)::BIGINT)
        FROM buyers AS b LEFT JOIN customers AS c USING (customer_id) GROUP BY item, c.segment ORDER BY item, c.segment
        """,
    ),
    Table(
        "product_pairs",
        f"Products bought together in the look-back: the {MOST_PAIRS} pairs of most orders, {LEAST_PAIRS} or more each;"
        f" orders of more than {LARGEST_BASKET} products are left out.",
        {
            "item": "a product (products.item)",
            "other": "another; each pair stands here once",
            "orders": "orders with both",
            "support": "orders / all orders with any product, 0 to 1",
            "confidence": "orders / those with item: how often who buys the one has the other too, 0 to 1",
            "lift": "how many times as often as if they had nothing to do with each other; 1: as often",
        },
        """
        WITH filled AS (
            SELECT DISTINCT order_id, item FROM sold
        ), baskets AS (
            SELECT order_id, item FROM filled ANTI JOIN (
                SELECT order_id FROM filled GROUP BY order_id HAVING count(*) > {largest_basket}) USING (order_id)
        ), counts AS (
            SELECT item, count(*) AS orders FROM baskets GROUP BY item
        ), pairs AS (
            SELECT one.item AS item, other.item AS other, count(*) AS orders
            FROM baskets AS one JOIN baskets AS other ON one.order_id = other.order_id AND one.item < other.item
            GROUP BY 1, 2 HAVING count(*) >= {least_pairs}
            ORDER BY orders DESC, item, other LIMIT {most_pairs}
        ), everything AS (
            SELECT count(DISTINCT order_id) AS orders FROM baskets
        )
        SELECT p.item, p.other, p.orders, p.orders / e.orders, p.orders / one.orders,
               p.orders * e.orders / (one.orders * other.orders)
        FROM pairs AS p JOIN counts AS one ON one.item = p.item JOIN counts AS other ON other.item = p.other
        CROSS JOIN everything AS e ORDER BY p.orders DESC, p.item, p.other
        """,
    ),
)


# A variant that nobody told of is its product.
_ROWS: Final = """
SELECT (SELECT shop FROM about), p.item, p.variant, p.product_id, p.sku, (SELECT made_at FROM about),
       (SELECT currency FROM about), p.recency_days, p.last_order_at, p.frequency, p.pieces, p.monetary_minor, p.buyers,
       p.repeat_buyers, p.first_orders, p.came_back, coalesce(s.segments, '{}')
FROM (
    SELECT item, '' AS variant, * EXCLUDE (item) FROM products
    UNION ALL BY NAME SELECT * FROM variants WHERE variant IS NOT NULL
) AS p LEFT JOIN (
    SELECT item, json_group_object(segment, buyers) AS segments FROM product_segments WHERE segment IS NOT NULL
    GROUP BY item
) AS s ON s.item = p.item AND p.variant = ''
"""

_COLUMNS: Final = schema.BY_NAME["product_rfm"].columns


def store(connection: Connection[Any], made: duckdb.DuckDBPyConnection, shop: str, folder: Path) -> None:
    """Puts the products of a file that has been made into the database, for the API, in place of those before."""
    path = folder / "products.csv"
    made.execute(f"COPY ({_ROWS}) TO '{duck.quoted(path)}' (FORMAT csv, HEADER false, NULLSTR '', FORCE_QUOTE *)")
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM product_rfm WHERE shop = %s", (shop,))
        statement = f"COPY product_rfm ({', '.join(_COLUMNS)}) FROM STDIN (FORMAT csv)"
        with cursor.copy(statement.encode()) as stream, path.open("rb") as file:
            while block := file.read(1 << 20):
                stream.write(block)
