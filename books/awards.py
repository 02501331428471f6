"""Awards as the API and the commands see them: those that the sink has stored, and those that were asked for since.

Among them those that were to be taken only if they are there (`check`): these are decided, once, as redemptions are,
and stand beside these, by their name behind `checked/`.

A name stands for what was first asked by it. So whoever asks notes it first, in the database, where every process finds
it: of two that ask at once for different things by one name, one is refused before anything of theirs is published.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from books import claims, persons
from books.claims import Place
from events import awards, instants, names, redeeming
from events.awards import Body
from events.messages import Message
from runtime.database import array
from tables import orders

_BODY: Final = "at, points, reason, source, counts_as_earned"
_CHECKED: Final = f"'{names.CHECKED}'"
_KEY: Final = "shop, customer_id, award_id"
_OF: Final = "shop = %(shop)s AND customer_id = %(customer)s"
_STANDING: Final = f"""
SELECT shop, customer_id, award_id, {_BODY}, false AS checked, voided_at, stored_at,
    NULL AS refused, NULL::bigint AS balance, NULL AS status, NULL AS revision
FROM awards WHERE {{awards}}
UNION ALL
SELECT shop, customer_id, substr(request_id, {len(names.CHECKED) + 1}), decided_at, -cost, coalesce(purpose, ''),
    source, false, true, NULL, stored_at, reason, balance, status, revision
FROM redemptions WHERE reward_id IS NULL AND {{decided}}
"""  # noqa: S608

_CLAIMED: Final = f"SELECT {_BODY}, checked FROM award_claims WHERE {_OF} AND award_id = %(award)s"  # noqa: S608

# Where somebody has claimed it already: what they claimed.
_CLAIM: Final = f"""
INSERT INTO award_claims ({_KEY}, {_BODY}, checked)
VALUES (%(shop)s, %(customer)s, %(award)s, %(at)s, %(points)s, %(reason)s, %(source)s, %(counts_as_earned)s, %(check)s)
ON CONFLICT ({_KEY}) DO UPDATE SET award_id = excluded.award_id RETURNING {_BODY}, checked
"""  # noqa: S608

_ASKED: Final = (
    "unnest(%(shops)s::text[], %(customers)s::text[], %(awards)s::text[]) AS asked (shop, customer_id, award_id)"
)
_FIND: Final = _STANDING.format(
    awards=f"({_KEY}) IN (SELECT {_KEY} FROM {_ASKED})",  # noqa: S608
    decided=f"(shop, customer_id, request_id) IN (SELECT shop, customer_id, {_CHECKED} || award_id FROM {_ASKED})",  # noqa: S608
)
_STORED: Final = claims.let_go("award_claims", _KEY, _FIND)

_OF_CUSTOMER: Final = _STANDING.format(awards=f"{_OF} AND at <= %(at)s", decided=f"{_OF} AND decided_at <= %(at)s")
_PAGE: Final = f"""
SELECT * FROM ({_OF_CUSTOMER}) AS found WHERE (at, award_id) < (%(at)s, %(award)s)
ORDER BY at DESC, award_id DESC LIMIT %(limit)s
"""  # noqa: S608


class Award(NamedTuple):
    """What stands of an award, as far as it is known: `stored_at` None while the sink has not stored it.

    With `check` its points were to be taken only if they are there. Once it is stored that is decided, as of its `at`:
    `refused` says why not, and `balance` what could be spent before it.
    """

    award_id: str
    body: Body
    voided_at: datetime | None = None
    stored_at: datetime | None = None
    check: bool = False
    refused: str | None = None
    balance: int | None = None

    def asked(self, shop: str, customer_id: str, now: int) -> Message:
        """What asks for it, at `now` in microseconds."""
        if not self.check:
            return awards.message(shop, customer_id, self.award_id, self.body, now)
        _, points, reason, source, _ = self.body
        return redeeming.deduction(shop, customer_id, self.award_id, -points, reason, source, now)

    def voided(self, shop: str, customer_id: str, now: int) -> Message:
        """What takes it back, at `now` in microseconds."""
        if not self.check:
            return awards.message(shop, customer_id, self.award_id, self.body, now, voided=True)
        return redeeming.cancellation(shop, customer_id, names.CHECKED + self.award_id, None, now)

    @property
    def over(self) -> bool:
        """Whether nothing is taken by it any more, or never was."""
        return self.voided_at is not None or self.refused is not None


class OtherBodyError(ValueError):
    """Something else was asked for by this name; `standing` is what."""

    def __init__(self, standing: Award) -> None:
        super().__init__("something else was asked for by this name")
        self.standing = standing


class MergedError(ValueError):
    """The customer is somebody else now: `into`."""

    def __init__(self, into: str) -> None:
        super().__init__(f"the customer was merged: they are {into} now")
        self.into = into


async def stored(connection: AsyncConnection[Any], places: Collection[Place]) -> dict[Place, Award]:
    """Of these awards those that are stored: nobody need claim them any more."""
    return await _found(connection, _STORED, places)


async def known(connection: AsyncConnection[Any], shop: str, customer_id: str, award_id: str) -> Award | None:
    """The award that is stored, or that was asked for and is on its way."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_CLAIMED.encode(), _named(shop, customer_id, award_id))
    row = await cursor.fetchone()
    # In this order: a claim goes once the award is stored.
    place = shop, customer_id, award_id
    return (await _found(connection, _FIND, [place])).get(place) or (
        None if row is None else Award(award_id, _body(row), check=row["checked"])
    )


async def page(
    connection: AsyncConnection[Any], shop: str, customer_id: str, before: tuple[datetime, str], limit: int
) -> Sequence[Award]:
    """A customer's stored awards before (at, award_id), the newest first."""
    at, award_id = before
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(_PAGE.encode(), _named(shop, customer_id, award_id) | {"at": at, "limit": limit})
    return [_award(row) for row in await cursor.fetchall()]


async def claim(
    connection: AsyncConnection[Any],
    shop: str,
    customer_id: str,
    award_id: str,
    wanted: Body,
    *,
    at_will: bool,
    check: bool = False,
) -> Award:
    """The award of this name from now on. One that is not stored yet is to be published; twice does no harm.

    `check`: it is to be taken only if it is there, as of then. `at_will`: nobody said when, so that the time of what
    stands is right. OtherBodyError where something else stands, MergedError for somebody new to it who is somebody else
    now. The connection commits by itself.
    """
    place = shop, customer_id, award_id
    standing = (await stored(connection, [place])).get(place)
    if standing is None:
        into = await persons.merged_into(connection, shop, customer_id)
        if into is not None:
            raise MergedError(into)
        cursor = connection.cursor(row_factory=dict_row)
        values = wanted._asdict() | {"at": instants.to_datetime(wanted.at), "check": check}
        await cursor.execute(_CLAIM.encode(), _named(shop, customer_id, award_id) | values)
        row = await cursor.fetchone()
        assert row is not None, "it was inserted, or there"
        claimed = Award(award_id, _body(row), check=row["checked"])
        # Anew: whoever claimed it before may have seen it stored, and let go of it.
        standing = (await stored(connection, [place])).get(place, claimed)
    same = standing.body._replace(at=wanted.at) if at_will else standing.body
    if (wanted, check) != (same, standing.check):
        raise OtherBodyError(standing)
    return standing


async def _found(connection: AsyncConnection[Any], query: str, places: Collection[Place]) -> dict[Place, Award]:
    cursor = connection.cursor(row_factory=dict_row)
    columns = zip(("shops", "customers", "awards"), zip(*places, strict=True), strict=True)
    await cursor.execute(query.encode(), {name: array(column) for name, column in columns})
    return {(row["shop"], row["customer_id"], row["award_id"]): _award(row) for row in await cursor.fetchall()}


def _named(shop: str, customer_id: str, award_id: str) -> dict[str, Any]:
    return {"shop": shop, "customer": customer_id, "award": award_id}


def _body(row: dict[str, Any]) -> Body:
    said = {name: row[name] for name in Body._fields}
    return Body(**said | {"at": instants.from_datetime(row["at"])})


def _award(row: dict[str, Any]) -> Award:
    voided_at = row["voided_at"]
    if row["status"] == "returned":
        voided_at = instants.to_datetime(orders.changed_at_of(row["revision"]))
    decided = row["checked"], row["refused"], row["balance"]
    return Award(row["award_id"], _body(row), voided_at, row["stored_at"], *decided)
