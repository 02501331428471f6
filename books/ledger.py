"""A customer's ledger as it is read: the entries that somebody made, and what ran out on each day."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

#: Where the first page begins: nothing is newer.
NEWEST: Final[dict[str, Any]] = {"at": datetime(9999, 12, 31, tzinfo=UTC), "id": UUID(int=2**128 - 1)}

#: A page, newest first; parameters: shop, customer, limit, and `at` and `id` of the entry before it.
# Each part is cut to a page by its own index before the two are put together. The first condition on a time says
# nothing new: it is what lets TimescaleDB leave out the chunks that are newer. A day's id is made of whose it is and of
# the day, so it is the same whenever it is told again.
PAGE: Final = """
WITH entries AS (
    SELECT posted_at, id, kind, points, source, source_id, processed_at, via FROM points_transactions
    WHERE shop = %(shop)s AND customer_id = %(customer)s
      AND posted_at <= %(at)s AND (posted_at, id) < (%(at)s, %(id)s)
    ORDER BY posted_at DESC, id DESC LIMIT %(limit)s + 1
), days AS (
    SELECT at AS posted_at, md5(concat_ws(' ', shop, customer_id, day))::uuid AS id, 'expired' AS kind,
        -points AS points, 'expiry' AS source, day::text AS source_id, at AS processed_at, '' AS via
    FROM points_expired
    WHERE shop = %(shop)s AND customer_id = %(customer)s AND points > 0 AND at <= %(at)s
      AND (at, md5(concat_ws(' ', shop, customer_id, day))::uuid) < (%(at)s, %(id)s)
    ORDER BY at DESC, id DESC LIMIT %(limit)s + 1
)
SELECT * FROM entries UNION ALL SELECT * FROM days ORDER BY posted_at DESC, id DESC LIMIT %(limit)s + 1
"""
