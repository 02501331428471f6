"""Discounts to be made in Shopify for accepted redemptions: the stores that have it on, and how far each one is.

What is to be made stands in `redemptions`, which a rebuild empties; what was tried and told in `fulfilment_work`, which
none does, and for ever: while history is told anew an old redemption looks as if its discount were still to be made.
Whoever works takes a row for a while (SKIP LOCKED), and notes what came of it before it is told. By the database's
clock alone. docs/decisions/0033-fulfilment.md says why it is so.
"""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any, Final, Literal, LiteralString, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

#: The version of Shopify's Admin API that the documents in fulfilment/discounts.py are written for.
API_VERSION: Final = "2026-10"

#: Why a store rests. `refused` stays until the store takes something again, or is set anew.
Why = Literal["failures", "throttled", "refused", "token"]

#: A shop's stores and work of until then go; parameters: `shop`, and when that was `asked` (a replay asks it again).
FORGET: Final = """
WITH gone AS (DELETE FROM fulfilment_shops WHERE shop = %(shop)s AND set_at <= %(asked)s)
DELETE FROM fulfilment_work WHERE shop = %(shop)s AND created_at <= %(asked)s
"""


def admin_api(shop: str) -> str:
    """Where a store's Admin API is."""
    return f"https://{shop}/admin/api/{API_VERSION}/graphql.json"


# --- stores ------------------------------------------------------------------------------------------------------


class Store(NamedTuple):
    """A store as it is shown, and how many of its redemptions wait, are tried again, untold, issued and failed; and how
    many discounts are still to be withdrawn."""

    shop: str
    endpoint: str
    enabled: bool
    set_at: datetime
    rests_until: datetime | None
    rests_why: str | None
    failures: int
    last_error: str | None
    waiting: int
    retried: int
    untold: int
    issued: int
    failed: int
    withdrawing: int


_STORES: Final = """
SELECT s.shop, endpoint, enabled, set_at, CASE WHEN rests_until > clock_timestamp() THEN rests_until END AS rests_until,
    rests_why, failures, s.last_error, coalesce(waiting, 0) AS waiting, coalesce(retried, 0) AS retried,
    coalesce(untold, 0) AS untold, coalesce(issued, 0) AS issued, coalesce(failed, 0) AS failed,
    coalesce(withdrawing, 0) AS withdrawing
FROM fulfilment_shops s
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE w.failing_since IS NULL) AS waiting,
        count(*) FILTER (WHERE w.failing_since IS NOT NULL) AS retried
    FROM redemptions r LEFT JOIN fulfilment_work w USING (shop, customer_id, request_id)
    WHERE r.shop = s.shop AND r.status = 'reserved' AND w.outcome IS NULL
) open ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE NOT told) AS untold,
        count(*) FILTER (WHERE told AND outcome = 'issued') AS issued,
        count(*) FILTER (WHERE told AND outcome = 'failed') AS failed,
        count(*) FILTER (WHERE withdrawal = 'due') AS withdrawing
    FROM fulfilment_work w CROSS JOIN LATERAL (SELECT finished_at IS NOT NULL OR withdrawal IS NOT NULL) AS of (told)
    WHERE w.shop = s.shop AND (w.outcome IS NOT NULL OR w.withdrawal IS NOT NULL)
) done ON true
WHERE %(shop)s::text IS NULL OR s.shop = %(shop)s
ORDER BY s.shop
"""

_SET: Final = """
INSERT INTO fulfilment_shops (shop, endpoint, token, enabled) VALUES (%s, %s, %s, true)
ON CONFLICT (shop) DO UPDATE SET endpoint = excluded.endpoint, token = excluded.token, enabled = true,
    set_at = clock_timestamp(), rests_until = NULL, rests_why = NULL, failures = 0, failing_since = NULL,
    last_error = NULL
"""
_NOW: Final = """
UPDATE fulfilment_work SET due_at = clock_timestamp() WHERE shop = %s AND finished_at IS NULL
"""
_OFF: Final = "UPDATE fulfilment_shops SET enabled = false, token = NULL WHERE shop = %s"


async def set_store(connection: AsyncConnection[Any], shop: str, endpoint: str, token: str) -> None:
    """Has discounts made in a store, with its token (sealed). What waits is tried now: who sets it has mended it."""
    async with connection.transaction():
        await connection.execute(_SET, (shop, endpoint, token))
        await connection.execute(_NOW, (shop,))


async def off(connection: AsyncConnection[Any], shop: str) -> bool:
    """Has none made any more, and forgets the token; False if the store was never set."""
    cursor = await connection.execute(_OFF, (shop,))
    return cursor.rowcount == 1


async def stores(connection: AsyncConnection[Any], shop: str | None = None) -> list[Store]:
    """The stores that were ever set, or one of them."""
    cursor = connection.cursor(row_factory=class_row(Store))
    await cursor.execute(_STORES, {"shop": shop})
    return await cursor.fetchall()


async def enabled(connection: AsyncConnection[Any], shop: str) -> bool:
    """Whether a shop's discounts are made in its store."""
    cursor = await connection.execute("SELECT FROM fulfilment_shops WHERE shop = %s AND enabled", (shop,))
    return await cursor.fetchone() is not None


# --- work --------------------------------------------------------------------------------------------------------


class Open(NamedTuple):
    """A store with something due, as it was set at `set_at`. `token` is sealed."""

    shop: str
    endpoint: str
    token: str | None
    set_at: datetime


class Work(NamedTuple):
    """A redemption that somebody works on, and nobody else meanwhile.

    `attempt` counts from 1. With an `outcome` it is to be told; without, its discount to be made. With a `withdrawal`
    its discount is to be withdrawn, whatever came of making it.
    """

    shop: str
    customer_id: str
    request_id: str
    reward_id: str
    decided_at: datetime
    attempt: int
    outcome: Literal["issued", "failed"] | None
    reason: str | None
    code: str | None
    valid_until: datetime | None
    withdrawal: Literal["due", "done", "failed"] | None


_ENLIST: Final = """
INSERT INTO fulfilment_work (shop, customer_id, request_id)
SELECT shop, customer_id, request_id FROM fulfilment_shops s JOIN redemptions r USING (shop)
LEFT JOIN fulfilment_work w USING (shop, customer_id, request_id)
WHERE s.enabled AND r.status = 'reserved' AND w.shop IS NULL
LIMIT %s ON CONFLICT DO NOTHING
"""

#: Of a redemption that was cancelled, or that nobody used in time, its discount is to go, once what came of it was
#: told; or if it was ever tried.
_TO_GO: Final = """
w.withdrawal IS NULL AND coalesce(w.held_until <= clock_timestamp(), true)
AND (w.finished_at IS NOT NULL AND w.code IS NOT NULL OR w.outcome IS NULL AND w.attempts > 0)
"""

# From the few that were cancelled to their work (OFFSET keeps it so): of all that was ever made most would be to go.
_WITHDRAW: Final = f"""
WITH gone AS MATERIALIZED (
    SELECT work.* FROM fulfilment_shops s JOIN redemptions r USING (shop) CROSS JOIN LATERAL (
        SELECT shop, customer_id, request_id FROM fulfilment_work w
        WHERE (w.shop, w.customer_id, w.request_id) = (r.shop, r.customer_id, r.request_id) AND {_TO_GO} OFFSET 0
    ) work
    WHERE s.enabled AND r.returned_reason IN ('cancelled', 'unused')
    LIMIT %s
)
UPDATE fulfilment_work w SET withdrawal = 'due', attempts = 0, due_at = clock_timestamp(), finished_at = NULL,
    failing_since = NULL, last_error = NULL
FROM gone WHERE (w.shop, w.customer_id, w.request_id) = (gone.shop, gone.customer_id, gone.request_id) AND {_TO_GO}
"""  # noqa: S608

#: What can be done now: an outcome told, whatever the store does; a discount made or withdrawn where the store is on
#: and rests not. (Who has used what was cancelled has used it: that is not withdrawn.)
_DUE: Final = """
w.finished_at IS NULL AND w.due_at <= clock_timestamp() AND coalesce(w.held_until <= clock_timestamp(), true)
AND (w.outcome IS NOT NULL AND w.withdrawal IS NULL
     OR s.enabled AND coalesce(s.rests_until <= clock_timestamp(), true)
        AND r.status = CASE WHEN w.withdrawal IS NULL THEN 'reserved' ELSE 'returned' END)
"""

_OPEN: Final = f"""
SELECT shop, endpoint, token, set_at FROM fulfilment_shops s
WHERE shop <> ALL(%s) AND EXISTS (
    SELECT FROM fulfilment_work w JOIN redemptions r USING (shop, customer_id, request_id)
    WHERE w.shop = s.shop AND {_DUE})
ORDER BY random() LIMIT %s
"""  # noqa: S608

_TAKE: Final = f"""
WITH next AS (
    SELECT w.shop, w.customer_id, w.request_id, r.reward_id, r.decided_at FROM fulfilment_shops s
    JOIN fulfilment_work w USING (shop) JOIN redemptions r USING (shop, customer_id, request_id)
    WHERE s.shop = %(shop)s AND {_DUE}
    ORDER BY w.due_at LIMIT 1 FOR NO KEY UPDATE OF w SKIP LOCKED
)
UPDATE fulfilment_work w SET held_by = %(me)s, held_until = clock_timestamp() + %(lease)s,
    attempts = attempts + CASE WHEN outcome IS NULL OR withdrawal IS NOT NULL THEN 1 ELSE 0 END
FROM next WHERE (w.shop, w.customer_id, w.request_id) = (next.shop, next.customer_id, next.request_id)
RETURNING w.shop, w.customer_id, w.request_id, reward_id, decided_at, attempts AS attempt, outcome, reason, code,
    valid_until, withdrawal
"""  # noqa: S608

_MINE: Final = """
WHERE shop = %(shop)s AND customer_id = %(customer)s AND request_id = %(request)s AND held_by = %(me)s
    AND finished_at IS NULL
"""

_NOTE: Final = f"""
UPDATE fulfilment_work SET outcome = %(outcome)s, reason = %(reason)s, code = %(code)s, valid_until = %(valid_until)s,
    held_until = clock_timestamp() + %(lease)s, last_error = NULL
{_MINE} AND outcome IS NULL
"""  # noqa: S608
_WELL: Final = """
UPDATE fulfilment_shops SET failures = 0, failing_since = NULL, rests_until = NULL, rests_why = NULL, last_error = NULL
WHERE shop = %(shop)s AND (failures > 0 OR rests_why IS NOT NULL)
"""
_FINISH: Final = f"""
UPDATE fulfilment_work SET finished_at = clock_timestamp(), held_by = NULL, held_until = NULL, last_error = NULL {_MINE}
"""  # noqa: S608
_WITHDRAWN: Final = f"""
UPDATE fulfilment_work SET withdrawal = %(withdrawal)s, finished_at = clock_timestamp(), held_by = NULL,
    held_until = NULL, last_error = %(error)s
{_MINE}
"""  # noqa: S608
_UNTOLD: Final = f"""
UPDATE fulfilment_work SET due_at = clock_timestamp() + %(wait)s, held_by = NULL, held_until = NULL,
    last_error = 'untold' {_MINE}
"""  # noqa: S608

#: Put back as if nobody had taken it.
_BACK: Final = f"""
UPDATE fulfilment_work SET attempts = attempts - 1, due_at = clock_timestamp() + %(wait)s, held_by = NULL,
    held_until = NULL, last_error = %(error)s, failing_since = CASE WHEN %(forgiven)s THEN NULL ELSE failing_since END
{_MINE}
"""  # noqa: S608
_REST: Final = """
UPDATE fulfilment_shops SET rests_until = clock_timestamp() + %(rest)s, rests_why = %(why)s, last_error = %(error)s
WHERE shop = %(shop)s AND set_at = coalesce(%(set_at)s, set_at)
"""

#: It failed once more: given up if it has failed for long enough.
_FAILED: Final = f"""
UPDATE fulfilment_work SET last_error = %(error)s, failing_since = coalesce(failing_since, clock_timestamp()),
    outcome = CASE WHEN failing_since <= clock_timestamp() - %(tried)s THEN 'failed' END,
    reason = CASE WHEN failing_since <= clock_timestamp() - %(tried)s THEN 'gave_up' END, code = %(code)s,
    due_at = clock_timestamp() + CASE WHEN failing_since <= clock_timestamp() - %(tried)s THEN '0' ELSE %(wait)s END,
    held_by = NULL, held_until = NULL
{_MINE} AND outcome IS NULL
"""  # noqa: S608

#: As _FAILED, of a discount that is to be withdrawn.
_THERE_STILL: Final = f"""
UPDATE fulfilment_work SET last_error = %(error)s, failing_since = coalesce(failing_since, clock_timestamp()),
    withdrawal = CASE WHEN failing_since <= clock_timestamp() - %(tried)s THEN 'failed' ELSE withdrawal END,
    finished_at = CASE WHEN failing_since <= clock_timestamp() - %(tried)s THEN clock_timestamp() END,
    due_at = clock_timestamp() + %(wait)s, held_by = NULL, held_until = NULL
{_MINE}
"""  # noqa: S608
_UNWELL: Final = """
UPDATE fulfilment_shops SET failures = failures + 1, failing_since = coalesce(failing_since, clock_timestamp()),
    last_error = %(error)s
WHERE shop = %(shop)s RETURNING failures
"""

#: Of a store that has failed for so long one is tried at a time: all that has waited for so long is given up with it,
#: but for what was tried by somebody who did not come back to say under which code.
_GIVE_UP: Final = """
UPDATE fulfilment_work w SET outcome = 'failed', reason = 'gave_up', due_at = clock_timestamp()
FROM fulfilment_shops s
WHERE s.shop = %(shop)s AND s.failing_since <= clock_timestamp() - %(tried)s AND w.shop = s.shop
  AND w.outcome IS NULL AND w.withdrawal IS NULL AND w.finished_at IS NULL
  AND w.created_at <= clock_timestamp() - %(tried)s
  AND coalesce(w.held_until <= clock_timestamp(), true) AND (w.attempts = 0 OR w.code IS NOT NULL)
"""

_LOAD: Final = """
SELECT (SELECT count(*) FROM fulfilment_shops s JOIN redemptions r USING (shop)
        LEFT JOIN fulfilment_work w USING (shop, customer_id, request_id)
        WHERE s.enabled AND r.status = 'reserved' AND w.finished_at IS NULL),
       (SELECT count(*) FROM fulfilment_shops WHERE enabled AND rests_why <> 'throttled')
"""

#: Stores that do not let us in, or whose token cannot be read: somebody must set them anew.
STOPPED: Final = "SELECT count(*) AS stopped FROM fulfilment_shops WHERE enabled AND rests_why IN ('refused', 'token')"


async def enlist(connection: AsyncConnection[Any], most: int) -> int:
    """Makes work of redemptions that are to be fulfilled and are none yet; how many."""
    return (await connection.execute(_ENLIST, (most,))).rowcount


async def withdraw(connection: AsyncConnection[Any], most: int) -> None:
    """Makes work of the discounts of redemptions that were cancelled or are over, in the stores that are on."""
    await connection.execute(_WITHDRAW.encode(), (most,))


async def due(connection: AsyncConnection[Any], others: Collection[str], most: int) -> list[Open]:
    """Shops with something due, but for those `others`; in no order, so that none is always last."""
    cursor = connection.cursor(row_factory=class_row(Open))
    await cursor.execute(_OPEN.encode(), (list(others), most))
    return await cursor.fetchall()


class Holder:
    """Takes work, and notes what came of it. `me` holds it for a `lease`; it is given up after `tried`."""

    def __init__(self, me: UUID, lease: timedelta, tried: timedelta) -> None:
        self._me = me
        self._lease = lease
        self._tried = tried

    async def take(self, connection: AsyncConnection[Any], shop: str) -> Work | None:
        """What of a shop has been due for longest and nobody holds; None if there is nothing."""
        cursor = connection.cursor(row_factory=class_row(Work))
        await cursor.execute(_TAKE.encode(), {"shop": shop, "me": self._me, "lease": self._lease})
        return await cursor.fetchone()

    async def note(self, connection: AsyncConnection[Any], work: Work, *, well: bool) -> bool:
        """Its outcome is known, and to be told; False if it is not ours any more. `well`: the store answered as it
        should, so what failed before counts no more."""
        outcome = {"outcome": work.outcome, "reason": work.reason, "code": work.code, "valid_until": work.valid_until}
        async with connection.transaction():
            ours = await self._on(connection, _NOTE, work, **outcome, lease=self._lease)
            if well:
                await connection.execute(_WELL, {"shop": work.shop})
        return ours

    async def finish(self, connection: AsyncConnection[Any], work: Work) -> None:
        """It has been told."""
        await self._on(connection, _FINISH, work)

    async def withdrawn(self, connection: AsyncConnection[Any], work: Work, error: str | None) -> None:
        """Its discount is of no use any more; or, with an `error`, never will be withdrawn."""
        async with connection.transaction():
            withdrawal = "done" if error is None else "failed"
            await self._on(connection, _WITHDRAWN, work, withdrawal=withdrawal, error=error)
            await connection.execute(_WELL, {"shop": work.shop})

    async def untold(self, connection: AsyncConnection[Any], work: Work, wait: timedelta) -> None:
        """It could not be told: again after `wait`, for as long as it takes."""
        await self._on(connection, _UNTOLD, work, wait=wait)

    async def rest(
        self, connection: AsyncConnection[Any], store: Open, work: Work, why: Why, rest: timedelta, error: str
    ) -> None:
        """The store is not to be asked for so long, unless it was set anew meanwhile; the attempt counts as none.

        What failed before counts no more where the store lets nobody in, and goes on where it is busy.
        """
        async with connection.transaction():
            forgiven = why != "throttled"
            wait = timedelta()
            await self._on(connection, _BACK, work, wait=wait, error=error, forgiven=forgiven)
            said = {"rest": rest, "why": why, "error": error}
            await connection.execute(_REST, {"shop": work.shop, "set_at": store.set_at, **said})

    async def failed(
        self,
        connection: AsyncConnection[Any],
        work: Work,
        error: str,
        wait: timedelta,
        rest: Callable[[int], timedelta | None],
    ) -> timedelta | None:
        """It is due again after `wait`, or given up, and may then exist under its code all the same. So a withdrawal.

        `rest` says how long the store rests after so many failures in a row: that is answered.
        """
        tried = {"tried": self._tried}
        async with connection.transaction():
            statement = _FAILED if work.withdrawal is None else _THERE_STILL
            await self._on(connection, statement, work, error=error, wait=wait, code=work.code, **tried)
            cursor = await connection.execute(_UNWELL, {"shop": work.shop, "error": error})
            row = await cursor.fetchone()
            rests = None if row is None else rest(row[0])
            if rests is not None:
                why: Why = "failures"
                said = {"rest": rests, "why": why, "error": error}
                await connection.execute(_REST, {"shop": work.shop, "set_at": None, **said})
                await connection.execute(_GIVE_UP, {"shop": work.shop, **tried})
        return rests

    async def _on(self, connection: AsyncConnection[Any], statement: LiteralString, work: Work, **more: Any) -> bool:
        whose = {"shop": work.shop, "customer": work.customer_id, "request": work.request_id}
        asked = {**whose, "me": self._me, **more}
        return (await connection.execute(statement, asked)).rowcount == 1


class Making(NamedTuple):
    """How far the making of one redemption's discount is: tried so many times, the last time with that error, its
    outcome and why it failed; and whether it is `due` to be withdrawn, `done` or `failed`."""

    attempts: int
    last_error: str | None
    outcome: Literal["issued", "failed"] | None
    reason: str | None
    withdrawal: Literal["due", "done", "failed"] | None


_MAKING: Final = """
SELECT attempts, last_error, outcome, reason, withdrawal FROM fulfilment_work
WHERE shop = %s AND customer_id = %s AND request_id = %s
"""


async def making(connection: AsyncConnection[Any], shop: str, customer_id: str, request_id: str) -> Making | None:
    """How far a redemption's discount is; None while nobody has begun."""
    cursor = connection.cursor(row_factory=class_row(Making))
    await cursor.execute(_MAKING, (shop, customer_id, request_id))
    return await cursor.fetchone()


async def load(connection: AsyncConnection[Any]) -> tuple[int, int]:
    """(redemptions that wait for their discount, stores that rest after failures or because they do not let us in)"""
    cursor = await connection.execute(_LOAD)
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]
