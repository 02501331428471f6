"""Redemptions whose time went by and that nobody has used: those of which the reward says that their points come back.

What a reward says is what it said when the redemption was decided (events.programs.reward_at), by the program as the
sink has stored it: what was in force then was announced before. By the database's clock alone.
"""

from datetime import timedelta
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row

#: How long after its end a redemption is left alone. Orders from before it come late: an offline till's by minutes, a
#: webhook that is tried again by more (whatever comes later still has used it, and takes the points again). And for as
#: long after its row was written: what is stored while history is told anew may not be all that is known of it.
GRACE: Final = timedelta(hours=1)

# Of the entries of one reward each holds until the next begins, be that at once, or until its own end; a program has
# them in that order.
_OVER: Final = """
WITH spans AS (
    SELECT shop, reward_id, since, least(ends, next) AS until FROM (
        SELECT shop, e ->> 'reward_id' AS reward_id, e ->> 'unused' AS unused,
            coalesce((e ->> 'effective_from')::timestamptz, '-infinity') AS since,
            coalesce((e ->> 'until')::timestamptz, 'infinity') AS ends,
            coalesce(lead((e ->> 'effective_from')::timestamptz)
                OVER (PARTITION BY shop, e ->> 'reward_id' ORDER BY n), 'infinity') AS next
        FROM programs, jsonb_array_elements(program -> 'rewards') WITH ORDINALITY AS rewards (e, n)
    ) AS entries WHERE unused = 'return'
)
SELECT r.shop, r.customer_id, r.request_id FROM spans t CROSS JOIN LATERAL (
    SELECT * FROM redemptions r
    WHERE (r.shop, r.reward_id) = (t.shop, t.reward_id) AND r.status = 'issued'
      AND r.valid_until < clock_timestamp() - %(grace)s AND r.stored_at < clock_timestamp() - %(grace)s
      AND r.decided_at >= t.since AND r.decided_at < t.until
    ORDER BY r.valid_until LIMIT %(most)s
) AS r
ORDER BY r.valid_until LIMIT %(most)s
"""


class Over(NamedTuple):
    """A redemption that is over, unused."""

    shop: str
    customer_id: str
    request_id: str


async def over(connection: AsyncConnection[Any], most: int) -> list[Over]:
    """So many of those that are over, of all shops, the ones of longest ago; be their codes handed out by whom they
    may."""
    cursor = connection.cursor(row_factory=class_row(Over))
    await cursor.execute(_OVER, {"grace": GRACE, "most": most})
    return await cursor.fetchall()
