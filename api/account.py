"""A customer's account: what of their points can be spent, and what became of the others."""

from datetime import date
from typing import Final

from fastapi import APIRouter
from psycopg import sql
from pydantic import Field

from api.context import ReadAccess, Row
from api.customers import CustomerPath, find
from api.models import Answer, Time

router = APIRouter(prefix="/v1/shops/{shop}/customers/{customer_id}/account", tags=["points"])


class Expiring(Answer):
    """What runs out next, should nothing happen until then."""

    points: int = Field(examples=[120])
    at: Time


class RanOut(Answer):
    """What ran out on one day."""

    day: date = Field(description="in the shop's zone")
    points: int = Field(examples=[70])


#: Days that are listed at most; the ledger has all of them.
_DAYS: Final = 100

_RAN_OUT: Final = sql.SQL("""
SELECT day, points FROM points_expired WHERE shop = %(shop)s AND customer_id = %(customer)s AND points > 0
ORDER BY at DESC, day DESC LIMIT %(limit)s
""")


class Account(Answer):
    """A customer's points as of an instant."""

    customer_id: str
    as_of: Time = Field(description="the time as of which they hold: the customer's latest event, or a later batch")
    balance: int = Field(description="what can be spent; below 0, what is owed", examples=[350])
    spendable: int = Field(description="the balance, or 0 where points are owed", examples=[350])
    owed: int = Field(description="what is owed: whatever comes next pays it first")
    pending: int = Field(description="given, and cannot be spent yet")
    earned: int = Field(description="ever earned, with what is pending or was spent; without what was a gift")
    spent: int = Field(description="taken: redeemed, or by an adjustment below 0")
    expired: int = Field(description="ran out")
    ran_out: list[RanOut] = Field(description=f"of that the newest {_DAYS} days, newest first; the ledger has them all")
    expiring: Expiring | None = Field(description="null: nothing that is there runs out")
    merged_into: str | None = Field(description="whom all that was theirs went to")

    @classmethod
    def of(cls, row: Row, days: list[Row]) -> "Account":
        """From a row of `customers`, and the days on which points ran out."""
        own = ("customer_id", "balance", "pending", "earned", "spent", "expired", "merged_into")
        runs_out = row["expires_at"]
        return cls(
            **{name: row[name] for name in own},
            as_of=row["now"],
            spendable=max(0, row["balance"]),
            ran_out=[RanOut(**each) for each in days],
            owed=max(0, -row["balance"]),
            expiring=None if runs_out is None else Expiring(points=row["expiring"], at=runs_out),
        )


@router.get("", summary="A customer's account")
async def account(caller: ReadAccess, customer_id: CustomerPath) -> Account:
    """The balance, what waits, what was earned, spent and ran out, and what runs out next."""
    row = await find(caller, customer_id)
    asked = {"shop": caller.shop, "customer": customer_id, "limit": _DAYS}
    return Account.of(row, await caller.services.rows(_RAN_OUT, asked))
