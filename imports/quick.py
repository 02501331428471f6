"""The dry run of a large file: DuckDB sums up the orders that are plain, the others are read with care, one by one.

Plain is an order of which each field that counts has the one form that Shopify writes, neither a test nor cancelled,
without refunds or gift cards, and the only one of its id. It says nothing that the careful reading would not say.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb

from events import money, orders
from imports import items, text
from imports.bulk import BulkFile
from imports.items import Item, Problem, Reader
from imports.judging import Summary, judge
from imports.order_export import OrderExport
from runtime import duck

#: A file of fewer bytes is read with care as fast.
SMALL: Final = 2_000_000

_MONEY: Final = 'STRUCT("shopMoney" STRUCT(amount VARCHAR, "currencyCode" VARCHAR))'
_WHO: Final = 'STRUCT(id VARCHAR, email VARCHAR, "defaultEmailAddress" STRUCT("emailAddress" VARCHAR))'

#: What of a line of a bulk operation is looked at; JSON keeps apart what is a number and what is a text.
_FIELDS: Final = {
    **dict.fromkeys(
        ("id", "__parentId", "createdAt", "updatedAt", "processedAt", "displayFinancialStatus", "currencyCode"),
        "VARCHAR",
    ),
    **dict.fromkeys(
        ("email", "cancelledAt", "test", "refunds", "lineItems", "quantity", "currentQuantity", "isGiftCard"), "JSON"
    ),
    **dict.fromkeys(("giftCard", "originalUnitPrice", "discountAllocations"), "JSON"),
    **dict.fromkeys(
        ("currentSubtotalPriceSet", "subtotalPriceSet", "originalUnitPriceSet", "totalDiscountSet"), _MONEY
    ),
    "customer": _WHO,
}

#: Refunds of which nothing but the total is told, on days that every month has.
_REFUNDS: Final = (
    r'\[(\{"id":"gid://shopify/Refund/[0-9]{1,20}","createdAt":"2[0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T'
    r'([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z","totalRefundedSet":\{"shopMoney":\{"amount":"[0-9.]{1,20}",'
    r'"currencyCode":"[A-Z]{3}"\}\}\},?)+\]'
)

_BULK: Final = r"""
CREATE TEMP TABLE lines AS SELECT * FROM read_json(
    $path, format = 'newline_delimited', ignore_errors = true, maximum_object_size = 67108864, columns = {fields});

CREATE TEMP TABLE odd AS SELECT DISTINCT "__parentId" AS id FROM lines WHERE "__parentId" IS NOT NULL AND NOT coalesce(
    regexp_full_match(id, 'gid://shopify/LineItem/[0-9]{{1,20}}')
    AND (quantity IS NULL OR regexp_full_match(quantity, '[0-9]{{1,6}}'))
    AND ("currentQuantity" IS NULL OR regexp_full_match("currentQuantity", '[0-9]{{1,6}}'))
    AND coalesce("isGiftCard", 'false') = 'false' AND "giftCard" IS NULL AND "originalUnitPrice" IS NULL
    AND ("originalUnitPriceSet"."shopMoney".amount IS NULL
         OR regexp_full_match("originalUnitPriceSet"."shopMoney".amount, '{amount}'))
    AND ("totalDiscountSet"."shopMoney".amount IS NULL
         OR regexp_full_match("totalDiscountSet"."shopMoney".amount, '{amount}'))
    AND ("discountAllocations" IS NULL OR regexp_full_match("discountAllocations",
        '\[(\{{"allocatedAmountSet":\{{"shopMoney":\{{"amount":"[0-9.]{{1,20}}"(,"currencyCode":"[A-Z]{{3}}")?\}}\}}\}},?)*\]'
    )), false);

CREATE TEMP TABLE found AS SELECT
    id AS name, lower("displayFinancialStatus") AS status, try_cast(coalesce("processedAt", "createdAt") AS TIMESTAMPTZ)
    AS placed, try_cast("currentSubtotalPriceSet"."shopMoney".amount AS DECIMAL(18, 3)) AS amount,
    coalesce(nullif(regexp_extract(customer.id, '[0-9]+$'), ''), nullif(lower(trim(email->>'$')), '')) AS who,
    coalesce(
        regexp_full_match(id, 'gid://shopify/Order/[0-9]{{1,20}}') AND id NOT IN (FROM odd)
        AND regexp_full_match("createdAt", '{time}') AND try_cast("createdAt" AS TIMESTAMPTZ) IS NOT NULL
        AND coalesce(regexp_full_match("updatedAt", '{time}'), true)
        AND ("updatedAt" IS NULL OR try_cast("updatedAt" AS TIMESTAMPTZ) IS NOT NULL)
        AND coalesce(regexp_full_match("processedAt", '{time}'), true)
        AND lower("displayFinancialStatus") IN {statuses}
        AND "currencyCode" = '{currency}' AND "lineItems" IS NULL
        AND coalesce("cancelledAt", 'null') = 'null' AND coalesce(test, 'false') IN ('false', 'null')
        AND (coalesce(refunds, '[]') IN ('[]', 'null') OR regexp_full_match(refunds, '{refunds}'))
        AND regexp_full_match("currentSubtotalPriceSet"."shopMoney".amount, '{amount}')
        AND regexp_full_match("subtotalPriceSet"."shopMoney".amount, '{amount}')
        AND coalesce("currentSubtotalPriceSet"."shopMoney"."currencyCode", '{currency}') = '{currency}'
        AND coalesce("subtotalPriceSet"."shopMoney"."currencyCode", '{currency}') = '{currency}'
        AND (customer IS NULL OR regexp_full_match(customer.id, 'gid://shopify/Customer/[0-9]{{1,20}}'))
        AND (email IS NULL OR email = 'null' OR starts_with(email, '"')), false) AS plain
FROM lines WHERE "__parentId" IS NULL;

UPDATE found SET plain = false WHERE name IN (SELECT name FROM found GROUP BY name HAVING count(*) > 1);

CREATE TEMP TABLE strays AS SELECT "__parentId" AS name FROM lines
WHERE "__parentId" IS NOT NULL AND "__parentId" NOT IN (SELECT name FROM found WHERE name IS NOT NULL);
"""

#: Cells of the orders export by our own names; those that a file has not are empty.
_EXPORT: Final = r"""
CREATE TEMP TABLE cells AS SELECT {cells} FROM read_csv(
    $path, header = false, skip = {skip}, delim = '{delimiter}', quote = '"', escape = '"',
    columns = {columns}, auto_detect = false, strict_mode = true, null_padding = false, ignore_errors = false,
    max_line_size = 4000000);

CREATE TEMP TABLE lines AS FROM cells;

CREATE TEMP TABLE found AS SELECT
    name, lower(status) AS status, try_strptime(created, '%Y-%m-%d %H:%M:%S %z') AS placed,
    greatest(try_cast(subtotal AS DECIMAL(18, 3)) - coalesce(try_cast(nullif(refunded, '') AS DECIMAL(18, 3)), 0), 0)
    AS amount, nullif(lower(trim(email)), '') AS who,
    coalesce(
        regexp_full_match(name, '[ -~]+') AND regexp_full_match(id, '''?[0-9]{{1,20}}')
        AND lower(status) IN {statuses}
        AND regexp_full_match(created, '{local}') AND try_strptime(created, '%Y-%m-%d %H:%M:%S %z') IS NOT NULL
        AND (paid = '' OR regexp_full_match(paid, '{local}') AND try_strptime(paid, '%Y-%m-%d %H:%M:%S %z') IS NOT NULL)
        AND (fulfilled = '' OR regexp_full_match(fulfilled, '{local}')
             AND try_strptime(fulfilled, '%Y-%m-%d %H:%M:%S %z') IS NOT NULL)
        AND cancelled = '' AND currency IN ('{currency}', '')
        AND regexp_full_match(subtotal, '{amount}')
        AND (refunded = '' OR regexp_full_match(refunded, '{amount}'))
        AND (taxes = '' OR regexp_full_match(taxes, '{amount}'))
        AND (shipping = '' OR regexp_full_match(shipping, '{amount}'))
        AND (total = '' OR regexp_full_match(total, '{amount}'))
        AND {refunds_told}
        AND NOT regexp_matches(payment, '(?i)bogus|testing'), false) AS plain
FROM cells WHERE trim(subtotal) <> '' OR trim(status) <> '';

UPDATE found SET plain = false WHERE name IN (SELECT name FROM found GROUP BY name HAVING count(*) > 1);
UPDATE found SET plain = false WHERE name IN (
    SELECT name FROM cells WHERE ltrim(id, '''') IN (
        SELECT ltrim(id, '''') FROM cells WHERE trim(subtotal) <> '' OR trim(status) <> ''
        GROUP BY 1 HAVING count(*) > 1));

CREATE TEMP TABLE strays AS SELECT name FROM cells
WHERE NOT (trim(subtotal) <> '' OR trim(status) <> '') AND name NOT IN (SELECT name FROM found);
"""

_SUMS: Final = """
SELECT status, count(*), sum(amount * {scale})::BIGINT, count(*) FILTER (who IS NULL),
    epoch_us(min(placed)), epoch_us(max(placed))
FROM found WHERE plain GROUP BY status
"""


def summary(reader: Reader, path: Path, shop: str, currency: str) -> tuple[int, Summary]:
    """(lines, what the file would bring in): as judging.summary, many times as fast."""
    if path.stat().st_size > SMALL and isinstance(reader, BulkFile | OrderExport):
        with duck.connected() as connection:
            if (found := _quick(connection, reader, path, shop, currency)) is not None:
                return found
    lines = reader.scan()
    return lines, _add(Summary(), items.items(reader), shop, currency)


def _add(made: Summary, found: Iterator[Item | Problem], shop: str, currency: str) -> Summary:
    for each in found:
        made.add(each if isinstance(each, Problem) else judge(each, shop, currency))
    return made


def _quick(
    connection: duckdb.DuckDBPyConnection, reader: BulkFile | OrderExport, path: Path, shop: str, currency: str
) -> tuple[int, Summary] | None:
    """None for a file that DuckDB cannot read as a whole."""
    try:
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        for statement in _statements(reader, path, currency).split(";\n"):
            if statement.strip():
                connection.execute(statement, {"path": str(path)} if "$path" in statement else None)
        strays = connection.execute("SELECT count(*) FROM strays").fetchone()
        careful = {row[0] for row in connection.execute("SELECT DISTINCT name FROM found WHERE NOT plain").fetchall()}
        sums = connection.execute(_SUMS.format(scale=10 ** money.exponent(currency))).fetchall()
        lines = connection.execute("SELECT count(*) FROM lines").fetchone()
    except duckdb.Error:
        return None
    made = Summary()
    if careful or (strays and strays[0]):
        reader.scan()
        _add(made, _of(reader, careful), shop, currency)
    for status, count, minor, guests, first, last in sums:
        made.add_plain(status, count, minor if status in orders.COUNTING else 0, guests, first, last)
    plain = connection.execute("SELECT DISTINCT who FROM found WHERE plain AND who IS NOT NULL").fetchall()
    made.add_people(row[0] for row in plain)
    return (lines[0] if lines else 0) + isinstance(reader, OrderExport), made


def _of(reader: BulkFile | OrderExport, careful: set[Any]) -> Iterator[Item | Problem]:
    """The items of these orders alone, and every line that cannot be read."""
    for chunk in reader.chunks():
        if isinstance(chunk, Problem):
            yield chunk
        elif (name := reader.name_of(chunk)) is None or name in careful:
            yield reader.item(chunk)


def _statements(reader: BulkFile | OrderExport, path: Path, currency: str) -> str:
    places = money.exponent(currency)
    known = {
        "amount": rf"[0-9]{{1,10}}(\.[0-9]{{1,{places}}}0*)?" if places else r"[0-9]{1,10}(\.0+)?",
        "time": r"(19[7-9][0-9]|2[0-9]{3})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})",
        "refunds": _REFUNDS,
        "local": r"(19[7-9][1-9]|2[0-9]{3})-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}",
        "statuses": "(" + ", ".join(f"'{each}'" for each in sorted(orders.KNOWN_STATUSES)) + ")",
        "currency": currency,
    }
    if isinstance(reader, BulkFile):
        fields = ", ".join(f"'{name}': '{kind}'" for name, kind in _FIELDS.items())
        return _BULK.format(fields=f"{{{fields}}}", **known)
    header, delimiter, skip = text.header_lines(path)
    there = reader.columns
    cells = ", ".join(
        f"coalesce(c{there[name]}, '') AS {name}" if name in there else f"'' AS {name}" for name in order_cells()
    )
    columns = {f"c{at}": "VARCHAR" for at in range(len(header))}
    told = "true" if "refunded" in there else "lower(status) <> 'partially_refunded'"
    return _EXPORT.format(cells=cells, skip=skip, delimiter=delimiter, columns=columns, refunds_told=told, **known)


def order_cells() -> tuple[str, ...]:
    """The cells of an orders export that the query names."""
    return (
        *("name", "email", "status", "paid", "fulfilled", "currency", "subtotal", "shipping", "taxes", "total"),
        *("created", "cancelled", "payment", "refunded", "id"),
    )
