"""Who is the same person, as the customers' rows have it: one rule for whoever reads and whoever forgets.

A row with `merged_into` leads to somebody else, be it because the two were merged or because an address was claimed
(docs/decisions/0021). Rows are stored in any order, so for a while a way may end nowhere, or lead in a circle.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row

#: A customer's row, or some of its columns; `customer_id` and `merged_into` at least.
Row = Mapping[str, Any]

#: Goes on from the first rows of a recursive `same (shop, customer_id)`: everybody who leads to one of them.
LEADING: Final = """
UNION
SELECT same.shop, led.customer_id FROM same CROSS JOIN LATERAL (
    SELECT customer_id FROM customers c
    WHERE c.shop = same.shop AND c.merged_into = same.customer_id AND c.merged_into IS NOT NULL
    OFFSET 0 -- by the index: PostgreSQL expects ten times as many rows of each step, and would read the table
) AS led
"""

#: Whose row is stored may become the same person as somebody who is being forgotten: neither must miss the other. A
#: redaction waits for such batches of the sink, and they for it; they do not wait for each other.
#: Parameters: shops, and of each whether something of it is forgotten.
LOCK: Final = """
SELECT CASE WHEN forgotten THEN pg_advisory_xact_lock(name)::text ELSE pg_advisory_xact_lock_shared(name)::text END
FROM (SELECT forgotten, hashtextextended('loyalnest persons ' || shop, 0) AS name
      FROM unnest(%s::text[], %s::boolean[]) AS asked (shop, forgotten)) AS locks
"""

_FIND: Final = "SELECT {} FROM customers WHERE shop = %s AND customer_id = ANY(%s)"
_LED: Final = "SELECT {} FROM customers WHERE shop = %s AND merged_into = ANY(%s) AND merged_into IS NOT NULL"
# Many, as one text: a list is looked through id by id for what an array must quote.
_FOLLOWED: Final = """
SELECT merged_into FROM customers
WHERE shop = %s AND merged_into = ANY(string_to_array(%s, ',')) AND merged_into IS NOT NULL
"""
_ANY_LED: Final = "SELECT EXISTS (SELECT FROM customers WHERE shop = %s AND merged_into IS NOT NULL)"


async def related(
    connection: AsyncConnection[Any], shop: str, rows: Mapping[str, Row], columns: Collection[str]
) -> dict[str, Row]:
    """These rows, by customer, and those of all who are the same persons.

    A query for those who lead to them, and one more for each step that any way has beyond.
    """
    found: dict[str, Row] = dict(rows)
    names = set(found)
    while missing := {row["merged_into"] for row in found.values()} - names - {None}:
        names |= missing
        found |= await find(connection, shop, missing, columns)
    return found | await led(connection, shop, names, columns)


async def followed(connection: AsyncConnection[Any], shop: str, customer_ids: Sequence[str]) -> set[str]:
    """Which of these customers anybody leads to. Most lead nowhere, and nobody to them: for those there is no more to
    find out."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(_ANY_LED, (shop,))
    if await cursor.fetchone() != (True,):
        return set()
    await cursor.execute(_FOLLOWED, (shop, ",".join(customer_ids)))
    return {into for (into,) in await cursor.fetchall()}


async def find(
    connection: AsyncConnection[Any], shop: str, customer_ids: Collection[str], columns: Collection[str]
) -> dict[str, Row]:
    """The rows of these customers that are stored."""
    return await _read(connection, _FIND, shop, customer_ids, columns)


async def led(
    connection: AsyncConnection[Any], shop: str, customer_ids: Collection[str], columns: Collection[str]
) -> dict[str, Row]:
    """The rows, by customer, of all who are one of these now, on and on; without their own."""
    found: dict[str, Row] = {}
    names = set(customer_ids)
    level: Collection[str] = names
    while level:
        read = await _read(connection, _LED, shop, level, columns)
        level = read.keys() - names
        names |= level
        found |= {each: read[each] for each in level}
    return found


async def _read(
    connection: AsyncConnection[Any], query: str, shop: str, names: Collection[str], columns: Collection[str]
) -> dict[str, Row]:
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(query.format(", ".join(columns)).encode(), (shop, list(names)))
    return {row["customer_id"]: row for row in await cursor.fetchall()}


def ends(rows: Mapping[str, Row]) -> dict[str, str]:
    """Who each of these customers is in the end; of a circle all have the same end."""
    found = {customer_id: customer_id for customer_id, row in rows.items() if row["merged_into"] is None}
    for customer_id in rows.keys() - found.keys():
        way = [customer_id]
        while (end := way[-1]) not in found and end in rows and (into := rows[end]["merged_into"]) is not None:
            if into in way:
                end = min(way[way.index(into) :])
                break
            way.append(into)
        found |= dict.fromkeys(way, found.get(end, end))
    return found


async def merged_into(connection: AsyncConnection[Any], shop: str, customer_id: str) -> str | None:
    """Who a customer is now, where that is somebody else."""
    columns = ("customer_id", "merged_into")
    rows = await find(connection, shop, [customer_id], columns)
    if not rows or rows[customer_id]["merged_into"] is None:
        return None
    return ends(await related(connection, shop, rows, columns))[customer_id]
