"""Customers: where each of them stands, why, and how they came there."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, HTTPException, Path, Query
from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from api import cursors, models, why
from api.context import Caller, ReadAccess, Row, Services, Statement
from api.cursors import CursorQuery, LimitQuery
from api.limits import READ_SECONDS, within
from api.models import Answer, Money, Time
from api.problems import ProblemError
from api.runs import cut_points_by_version
from books import persons
from events import instants
from lake import orders

router = APIRouter(prefix="/v1/shops/{shop}/customers", tags=["customers"])

CustomerPath = Annotated[
    str,
    Path(
        description="Shopify's customer id, or `mail-...` for somebody known by an address alone",
        pattern="^([0-9]{1,20}|mail-[0-9a-f]{32})$",
        examples=["207119551"],
    ),
]
SegmentQuery = Annotated[
    str | None, Query(description="only this segment, by name", pattern=r"^[^\x00]{1,100}$", examples=["Loyal"])
]
Sort = Literal[
    "customer_id",
    "recency_days",
    "-recency_days",
    "frequency",
    "-frequency",
    "monetary",
    "-monetary",
    "points_balance",
    "-points_balance",
    "score",
    "-score",
]

#: Integers all of them, so that a cursor holds them exactly. Prospects have no recency and no score: last, and least.
#: Each has an index (shop, this, customer_id), which serves the query only while it is written in the same way.
_SORTED_BY = {
    "recency_days": sql.SQL("coalesce(recency_days, 2147483647)"),
    "frequency": sql.SQL("frequency"),
    "monetary": sql.SQL("monetary"),
    "points_balance": sql.SQL("balance"),
    "score": sql.SQL("(coalesce(score, 0) * 10)::int"),
}

_CUSTOMER = sql.SQL("SELECT * FROM customers WHERE shop = %(shop)s AND customer_id = %(customer)s")


class Standing(Answer):
    """Values, digits and segment. Prospects have no digits, no recency and no score."""

    segment: str = Field(examples=["Champions"])
    segment_id: str = Field(examples=["seg_543"])
    r: int | None
    f: int | None
    m: int | None
    score: str | None = Field(description="0.4 R + 0.3 F + 0.3 M", examples=["4.3"])
    recency_days: int | None = Field(description="whole days since the latest order that counts")
    frequency: int = Field(description="orders that count, over the look-back")
    monetary: Money = Field(description="their summed net")
    cut_points_version: str

    @classmethod
    def values(cls, row: Row, currency: str) -> dict[str, Any]:
        """Our fields from a row that has them as columns."""
        taken = {name: row[name] for name in Standing.model_fields if name != "monetary"}
        taken["score"] = None if row["score"] is None else str(row["score"])
        return {**taken, "monetary": models.amount(row["monetary"], currency)}


class Customer(Standing):
    """A customer as of `now`. E-mail is only in the CSV export."""

    customer_id: str = Field(examples=["207119551"])
    now: Time = Field(description="the time as of which the values hold: their latest event, or a later batch")
    points_balance: int = Field(description="points that can be spent; below 0: owed, the next ones pay it first")
    points_pending: int = Field(description="points that cannot be spent yet")
    points_earned: int = Field(
        description="ever earned, less what was reversed; spending and running out leave it as it is"
    )
    points_spent: int = Field(description="points that were taken: redeemed, or deducted by hand")
    points_expired: int = Field(description="points that have run out")
    points_expiring: int = Field(description="points that run out next, should nothing happen before")
    points_expire_at: Time | None = Field(description="when these do; null: none do")
    last_order_at: Time | None
    deleted: bool = Field(description="the shop has deleted this customer")
    redacted: bool = Field(description="the customer's personal data has been erased")
    merged_into: str | None = Field(description="whom all that was theirs went to; such a customer is in no list")
    stored_at: Time

    @classmethod
    def fields_of(cls, row: Row) -> dict[str, Any]:
        """The model's fields from a row of `customers`."""
        points = ("balance", "pending", "earned", "spent", "expired", "expiring")
        own = ("customer_id", "now", "last_order_at", "deleted", "redacted", "merged_into", "stored_at")
        return {
            **Standing.values(row, row["currency"]),
            **{name: row[name] for name in own},
            **{f"points_{name}": row[name] for name in points},
            "points_expire_at": row["expires_at"],
        }


class Customers(Answer):
    """A page of customers."""

    items: list[Customer]
    next: str | None = Field(description="the next page's cursor; null on the last")


class CustomerWithWhy(Customer):
    """A customer, and why they are where they are."""

    merged_from: list[str] = Field(
        description="whose orders and points came to them, by way of others too; `mail-...`: known by an address alone"
    )
    why: why.Why


class Change(Standing):
    """The customer's digits, segment or cut-point version changed."""

    id: UUID
    at: Time
    cause: str = Field(examples=["order 450789469", "rescore"])


class History(Answer):
    """A page of changes, newest first."""

    items: list[Change]
    next: str | None = Field(description="the next page's cursor; null on the last")


class CustomersOrder(Answer):
    """An order of a customer's, and whether it counts."""

    order_id: str = Field(examples=["450789469"])
    processed_at: Time
    status: str = Field(description="its financial status", examples=["paid"])
    net: Money = Field(description="after refunds, without gift cards")
    points: int = Field(description="what it deserves now")
    reason: orders.Reason = Field(
        description="whether it counts, or why not; `too_old` has its points, and is outside the look-back of RFM"
    )


class CustomersOrders(Answer):
    """A customer's orders, the newest first."""

    customer_id: str
    as_of: Time
    items: list[CustomersOrder]
    more: bool = Field(description="there are older ones")


def _page(sort: Sort, segment: str | None, cursor: str | None) -> tuple[sql.Composed, Row]:
    """(SQL, parameters) of one page; keyset, so that a page costs the same however far down it is.

    With a segment it costs as many rows as there are of all segments between its first and its last; PostgreSQL
    sorts the segment instead where that is small.
    """
    where: list[Statement] = [sql.SQL("shop = %(shop)s AND merged_into IS NULL")]
    parameters: Row = {"segment": segment}
    if segment is not None:
        where.append(sql.SQL("segment = %(segment)s"))
    sign, direction = (sql.SQL("<"), sql.SQL("DESC")) if sort.startswith("-") else (sql.SQL(">"), sql.SQL("ASC"))
    by_id = sort == "customer_id"
    column = _SORTED_BY.get(sort.lstrip("-"), sql.SQL("0"))
    if cursor is not None:
        came_by, parameters["value"], parameters["id"] = cursors.read(cursor, str, int, str)
        if came_by != sort or "\x00" in parameters["id"]:
            raise ProblemError(400, "bad-cursor", "This cursor belongs to another sort: begin again without one.")
        beyond = "customer_id {sign} %(id)s" if by_id else "({column}, customer_id) {sign} (%(value)s, %(id)s)"
        where.append(sql.SQL(beyond).format(column=column, sign=sign))
    order = sql.SQL("customer_id" if by_id else "{column} {direction}, customer_id")
    page = sql.SQL(
        "SELECT *, {column} AS sorted_by FROM customers WHERE {where} ORDER BY {order} {direction} LIMIT %(limit)s + 1"
    ).format(
        column=column,
        where=sql.SQL(" AND ").join(where),
        order=order.format(column=column, direction=direction),
        direction=direction,
    )
    return page, parameters


@router.get("", summary="Customers, by segment")
async def customers(
    caller: ReadAccess,
    segment: SegmentQuery = None,
    sort: Annotated[Sort, Query(description="`-` for descending; ties by customer_id")] = "customer_id",
    cursor: CursorQuery = None,
    limit: LimitQuery = 100,
) -> Customers:
    """A page of customers. What changes between two pages is seen as it is when its page is read."""
    page, parameters = _page(sort, segment, cursor)
    rows = await caller.services.rows(page, {**parameters, "shop": caller.shop, "limit": limit})
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = cursors.write(sort, int(last["sorted_by"]), last["customer_id"])
    return Customers(items=[Customer(**Customer.fields_of(row)) for row in rows[:limit]], next=following)


class Address(BaseModel):
    """An e-mail address that is looked for."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(min_length=3, max_length=320, examples=["ada@example.com"])


class FoundCustomer(Answer):
    """Whose an address is."""

    customer_id: str = Field(description="who they are in the end, whoever was merged into whom")


@router.post("/find", summary="The customer of an e-mail address")
async def find_by_address(caller: ReadAccess, asked: Address) -> FoundCustomer:
    """By the exact address, in any case: of whoever was seen with it, in a customer's webhook or an order's.

    In a body, because addresses in a URL end in logs. Where two customers share it, the older account. 404 for nobody.
    """
    found = await within(READ_SECONDS, _whose(caller.services, caller.shop, asked.email))
    if found is None:
        raise ProblemError(404, "no-customer", "Nobody of the shop's was seen with this address.")
    return FoundCustomer(customer_id=found)


@router.get("/find", include_in_schema=False)
async def find_by_get(caller: ReadAccess) -> None:
    """A 405: without this, `find` would be read as somebody's id."""
    raise HTTPException(405)


async def _whose(services: Services, shop: str, email: str) -> str | None:
    address = await services.vault.address(shop, email)
    if address is None:
        return None
    columns = ("customer_id", "merged_into")
    async with services.pool.connection() as connection:
        rows = await persons.find(connection, shop, [address], columns)
        rows = await persons.related(connection, shop, rows, columns)
    return persons.ends(rows).get(address)


async def find(caller: Caller, customer_id: str) -> Row:
    """The customer's row; a problem (404) if the shop has no such customer."""
    row = await caller.services.row(_CUSTOMER, {"shop": caller.shop, "customer": customer_id})
    if row is None:
        raise ProblemError(404, "no-customer", "The shop has no such customer (or no event of theirs has come yet).")
    return row


@router.get("/{customer_id}", summary="A customer, and why they are in their segment")
async def customer(caller: ReadAccess, customer_id: CustomerPath) -> CustomerWithWhy:
    """Balance, digits and segment, with the customer's values beside the cut points they were scored with."""
    row = await find(caller, customer_id)
    program = await caller.program()
    used = await cut_points_by_version(caller, row["cut_points_version"], row["currency"])
    merged = await within(READ_SECONDS, _merged_into(caller, customer_id))
    return CustomerWithWhy(**Customer.fields_of(row), merged_from=merged, why=why.explain(row, used, program))


async def _merged_into(caller: Caller, customer_id: str) -> list[str]:
    """Everybody who is this customer now."""
    async with caller.services.pool.connection() as connection:
        return sorted(await persons.led(connection, caller.shop, [customer_id], ("customer_id", "merged_into")))


_HISTORY = cursors.newest_first("rfm_score_history", "at")


@router.get("/{customer_id}/rfm", summary="A customer's RFM history")
async def history(
    caller: ReadAccess, customer_id: CustomerPath, cursor: CursorQuery = None, limit: LimitQuery = 100
) -> History:
    """Every change of digits, segment or cut-point version, newest first."""
    row = await find(caller, customer_id)
    rows = await caller.services.rows(
        _HISTORY, {"shop": caller.shop, "customer": customer_id, "limit": limit, **cursors.time_and_id(cursor)}
    )
    last = rows[limit - 1] if len(rows) > limit else None
    return History(
        items=[
            Change(**Standing.values(each, row["currency"]), id=each["id"], at=each["at"], cause=each["cause"])
            for each in rows[:limit]
        ],
        next=None if last is None else cursors.write(last["at"], str(last["id"])),
    )


@router.get("/{customer_id}/orders", summary="A customer's orders, and which of them count")
async def customers_orders(caller: ReadAccess, customer_id: CustomerPath, limit: LimitQuery = 100) -> CustomersOrders:
    """All that is theirs, of whomever was merged into them too, with the reason where one does not count.

    RFM values are the sums of those that count. Worked out from the lake.
    """
    row = await find(caller, customer_id)
    program = await caller.program()
    now = datetime.now(UTC)
    at, past = instants.from_datetime(now), caller.services.past
    found = await past.work(lambda: past.connected(orders.of_customer, past.lake, program, customer_id, at))
    return CustomersOrders(
        customer_id=customer_id,
        as_of=now,
        items=[
            CustomersOrder(
                order_id=each["order_id"],
                processed_at=instants.to_datetime(each["processed_at"]),
                status=each["status"],
                net=models.amount(each["net"], row["currency"]),
                points=each["points"],
                reason=each["reason"],
            )
            for each in found.head(limit).to_dicts()
        ],
        more=found.height > limit,
    )
