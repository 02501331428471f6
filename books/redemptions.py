"""Redemptions as the API and the commands see them: those decided, and those that were asked for since. (What else is
decided, deductions that were asked for, stands in the same table without a reward, and is in books/awards.py.)

The stream decides, and what it decided stands in `redemptions` once it is archived. Before that a name stands for what
was first asked by it: whoever asks notes it in the database, where every process finds it, and publishes what is noted.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from books import claims
from books.claims import Place
from events import instants
from events.programs import Program, reward_at
from events.redeeming import Wanted
from runtime.database import array, of_arrays

#: Where a list begins: nothing is newer.
LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)

_WHERE: Final = "shop = %(shop)s AND customer_id = %(customer)s AND request_id = %(request)s"
_KEY: Final = "shop, customer_id, request_id"
_COLUMNS: Final = """
customer_id, request_id, reward_id, cost, forced, requested_at, status, decided_at, reason, balance, points,
returned_reason, attempt, code, valid_until, stored_at
"""

_FIND: Final = f"SELECT {_COLUMNS} FROM redemptions WHERE {_WHERE}"  # noqa: S608
_CLAIM_COLUMNS: Final = """
customer_id, request_id, reward_id, cost, forced_at IS NOT NULL AS forced,
coalesce(forced_at, claimed_at) AS requested_at, program_at
"""
_CLAIMED: Final = f"SELECT {_CLAIM_COLUMNS} FROM redemption_claims WHERE {_WHERE}"  # noqa: S608

# Where somebody has claimed it already: what they claimed.
_CLAIM: Final = f"""
INSERT INTO redemption_claims (shop, customer_id, request_id, reward_id, cost, program_at, forced_at)
VALUES (%(shop)s, %(customer)s, %(request)s, %(reward_id)s, %(cost)s, %(program_at)s, %(forced_at)s)
ON CONFLICT ({_KEY}) DO UPDATE SET request_id = excluded.request_id RETURNING {_CLAIM_COLUMNS}
"""  # noqa: S608

_STORED: Final = claims.let_go(
    "redemption_claims",
    _KEY,
    f"""
    SELECT shop, {_COLUMNS} FROM redemptions
    JOIN {of_arrays(dict.fromkeys(_KEY.split(", "), "text"))} AS asked USING ({_KEY})
    """,  # noqa: S608
)

_OF_CUSTOMER: Final = f"""
SELECT {_COLUMNS} FROM redemptions
WHERE shop = %(shop)s AND customer_id = %(customer)s AND reward_id IS NOT NULL
    AND (decided_at, request_id) < (%(at)s, %(request)s)
ORDER BY decided_at DESC, request_id DESC LIMIT %(limit)s
"""  # noqa: S608
_OF_SHOP: Final = f"""
SELECT {_COLUMNS} FROM redemptions
WHERE shop = %(shop)s AND reward_id IS NOT NULL{{}}
    AND (decided_at, customer_id, request_id) < (%(at)s, %(customer)s, %(request)s)
ORDER BY decided_at DESC, customer_id DESC, request_id DESC LIMIT %(limit)s
"""  # noqa: S608
# Each way by an index of its own: one condition with OR would be held against everything that was ever redeemed.
_NAMED: Final = """
 AND (customer_id, request_id) IN (
    SELECT customer_id, request_id FROM redemptions WHERE shop = %(shop)s AND customer_id = %(named)s
    UNION SELECT customer_id, request_id FROM redemptions WHERE shop = %(shop)s AND request_id = %(named)s
    UNION SELECT customer_id, request_id FROM redemptions WHERE shop = %(shop)s AND upper(code) = upper(%(named)s)
)"""
_STATUS: Final = " AND status = %(status)s"
_REWARD: Final = " AND reward_id = %(reward)s"
_TOTALS: Final = """
SELECT status, count(*) AS redemptions, sum(cost)::bigint AS cost FROM redemptions
WHERE shop = %(shop)s AND reward_id IS NOT NULL{}
GROUP BY status
"""


class Which(NamedTuple):
    """Those of a shop's redemptions that are asked for; None: whatever it is. `named`: a customer's id, a redemption's
    name, or a code."""

    status: str | None = None
    reward_id: str | None = None
    named: str | None = None


class Redemption(NamedTuple):
    """What is known of a redemption. `pending` while no decision is stored; `requested_at` is then when it was noted.

    `balance` is what could be spent before it, `points` what it takes from the account now: -cost, or 0.
    """

    customer_id: str
    request_id: str
    reward_id: str
    cost: int
    forced: bool
    requested_at: datetime
    status: str = "pending"
    decided_at: datetime | None = None
    reason: str | None = None
    balance: int | None = None
    points: int = 0
    returned_reason: str | None = None
    attempt: int | None = None
    code: str | None = None
    valid_until: datetime | None = None
    stored_at: datetime | None = None
    program_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether its time has gone by, and nobody has used it."""
        return self.status == "issued" and self.valid_until is not None and self.valid_until <= datetime.now(UTC)

    def wanted(self) -> Wanted:
        """As it is published."""
        announced = None if self.program_at is None else instants.from_datetime(self.program_at)
        forced_at = instants.from_datetime(self.requested_at) if self.forced else None
        return Wanted(self.reward_id, self.cost, announced, forced_at)


class Asked(NamedTuple):
    """What somebody asks for. `cost` None: what the reward costs; `at` (microseconds) None: now, if it is `forced`."""

    reward_id: str
    cost: int | None = None
    forced: bool = False
    at: int | None = None

    def same(self, standing: Redemption) -> bool:
        """Whether it is what stands. What is not said is as it stands."""
        at = self.at if self.forced else None
        return (
            (self.reward_id, self.forced) == (standing.reward_id, standing.forced)
            and self.cost in (None, standing.cost)
            and at in (None, instants.from_datetime(standing.requested_at))
        )


class OtherBodyError(ValueError):
    """Something else was asked for by this name; `standing` is what."""

    def __init__(self, standing: Redemption) -> None:
        super().__init__("something else was asked for by this name")
        self.standing = standing


class UnknownRewardError(ValueError):
    """Nobody said what the reward costs, and the program has none of this name now."""


async def known(connection: AsyncConnection[Any], shop: str, customer_id: str, request_id: str) -> Redemption | None:
    """The redemption that was decided, or that was asked for and is on its way."""
    claimed = await _one(connection, _CLAIMED, shop, customer_id, request_id)
    # In this order: a claim goes once the decision is stored.
    return await _one(connection, _FIND, shop, customer_id, request_id) or claimed


async def of_customer(
    connection: AsyncConnection[Any], shop: str, customer_id: str, before: tuple[datetime, str], limit: int
) -> Sequence[Redemption]:
    """A customer's decided redemptions before (decided_at, request_id), the newest first."""
    at, request_id = before
    cursor = connection.cursor(row_factory=class_row(Redemption))
    await cursor.execute(_OF_CUSTOMER.encode(), _named(shop, customer_id, request_id) | {"at": at, "limit": limit})
    return await cursor.fetchall()


async def of_shop(
    connection: AsyncConnection[Any], shop: str, which: Which, before: tuple[datetime, str, str], limit: int
) -> Sequence[Redemption]:
    """A shop's decided redemptions before (decided_at, customer_id, request_id), the newest first."""
    at, customer_id, request_id = before
    cursor = connection.cursor(row_factory=class_row(Redemption))
    said = zip(which, (_STATUS, _REWARD, _NAMED), strict=True)
    query = _OF_SHOP.format("".join(condition for value, condition in said if value is not None))
    asked = {"status": which.status, "reward": which.reward_id, "named": which.named, "at": at, "limit": limit}
    await cursor.execute(query.encode(), _named(shop, customer_id, request_id) | asked)
    return await cursor.fetchall()


async def totals(connection: AsyncConnection[Any], shop: str, reward_id: str | None) -> dict[str, dict[str, int]]:
    """How many redemptions of a shop (None: of any reward) have a status, and what they cost in points, by status."""
    cursor = connection.cursor(row_factory=dict_row)
    query = _TOTALS.format("" if reward_id is None else _REWARD)
    await cursor.execute(query.encode(), {"shop": shop, "reward": reward_id})
    return {row.pop("status"): row for row in await cursor.fetchall()}


async def claim(
    connection: AsyncConnection[Any],
    shop: str,
    customer_id: str,
    request_id: str,
    asked: Asked,
    program: Program,
    now: int,
) -> Redemption:
    """The redemption of this name from now on; a `pending` one is to be published, which twice does no harm.

    OtherBodyError where something else stands; UnknownRewardError for one new, without its cost, of a reward that
    cannot be had at `now` (microseconds). The connection commits by itself.
    """
    place = shop, customer_id, request_id
    try:
        values = _wanted(asked, program, now)._asdict()
    except UnknownRewardError:
        standing = await known(connection, *place)
        if standing is None:
            raise
    else:
        for name in ("program_at", "forced_at"):
            values[name] = None if values[name] is None else instants.to_datetime(values[name])
        claimed = await _one(connection, _CLAIM, *place, **values)
        assert claimed is not None, "it was inserted, or there"
        # After it: whoever claimed it before may have seen it stored, and let go of it.
        standing = (await stored(connection, [place])).get(place, claimed)
    if not asked.same(standing):
        raise OtherBodyError(standing)
    return standing


def _wanted(asked: Asked, program: Program, now: int) -> Wanted:
    """What is asked for, as the program offers it."""
    at = now if asked.at is None else asked.at
    reward = reward_at(program, asked.reward_id, at if asked.forced else now)
    cost = asked.cost if reward is None or asked.cost is not None else reward.cost
    if cost is None:
        raise UnknownRewardError(asked.reward_id)
    announced = None if program.announced_at is None else instants.from_datetime(program.announced_at)
    return Wanted(asked.reward_id, cost, announced, at if asked.forced else None)


async def stored(connection: AsyncConnection[Any], places: Collection[Place]) -> dict[Place, Redemption]:
    """Of these redemptions those that were decided: nobody need claim them any more."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_STORED.encode(), [array(column) for column in zip(*places, strict=True)])
    found = [(row.pop("shop"), Redemption(**row)) for row in await cursor.fetchall()]
    return {(shop, each.customer_id, each.request_id): each for shop, each in found}


async def _one(
    connection: AsyncConnection[Any], query: str, shop: str, customer_id: str, request_id: str, **values: Any
) -> Redemption | None:
    cursor = connection.cursor(row_factory=class_row(Redemption))
    await cursor.execute(query.encode(), _named(shop, customer_id, request_id) | values)
    return await cursor.fetchone()


def _named(shop: str, customer_id: str, request_id: str) -> dict[str, Any]:
    return {"shop": shop, "customer": customer_id, "request": request_id}
