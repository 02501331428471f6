"""Products: what sold of each in the look-back, to whom, and who came back, as of the last analysts' file."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from psycopg import sql
from pydantic import Field

from api import cursors, models
from api.context import ReadAccess, Row, Statement
from api.cursors import CursorQuery, LimitQuery
from api.models import Answer, Money, Time
from api.problems import ProblemError

router = APIRouter(prefix="/v1/shops/{shop}/products", tags=["products"])

Sort = Literal[
    "item",
    "recency_days",
    "-recency_days",
    "frequency",
    "-frequency",
    "monetary",
    "-monetary",
    "buyers",
    "-buyers",
    "repeat_buyers",
    "-repeat_buyers",
    "came_back",
    "-came_back",
]


class Product(Answer):
    """A product, or a variant of one, over the look-back: orders that count and are worth more than 0."""

    item: str = Field(description="what products are told apart by: product_id, without one `sku:...`")
    variant: str | None = Field(description="the variant's id, without one `sku:...`; null: the whole product")
    product_id: str | None = Field(examples=["8200000000017"])
    sku: str | None = Field(description="of its latest order", examples=["NEST-017"])
    recency_days: int = Field(description="whole days since the latest order with it")
    last_order_at: Time
    frequency: int = Field(description="orders with it")
    pieces: int = Field(description="pieces in them that were kept")
    monetary: Money = Field(description="what these are worth")
    buyers: int = Field(description="distinct customers")
    repeat_buyers: int = Field(description="of these, who have it in two orders or more")
    repeat_rate: float = Field(description="repeat_buyers / buyers, 0 to 1")
    first_orders: int = Field(description="customers whose first order of all had it")
    came_back: int = Field(description="of these, who have ordered anything again since")
    segments: dict[str, int] = Field(description="buyers by the segment they are in; empty for a variant")

    @classmethod
    def of(cls, row: Row) -> "Product":
        """From a row of `product_rfm`."""
        worked_out: dict[str, Any] = {
            "variant": row["variant"] or None,
            "monetary": models.amount(row["monetary"], row["currency"]),
            "repeat_rate": row["repeat_buyers"] / row["buyers"],
        }
        own = {name: row[name] for name in cls.model_fields if name not in worked_out}
        return cls(**own, **worked_out)


class Products(Answer):
    """A page of products."""

    as_of: Time | None = Field(description="as of when they were worked out; null: nothing has been, or nothing sold")
    items: list[Product]
    next: str | None = Field(description="the next page's cursor; null on the last")


def _page(sort: Sort, variants: bool, cursor: str | None) -> tuple[sql.Composed, Row]:
    where: list[Statement] = [
        sql.SQL("shop = %(shop)s"),
        sql.SQL("variant <> ''") if variants else sql.SQL("variant = ''"),
    ]
    parameters: Row = {}
    sign, direction = (sql.SQL("<"), sql.SQL("DESC")) if sort.startswith("-") else (sql.SQL(">"), sql.SQL("ASC"))
    column: Statement = sql.SQL("0::int") if sort == "item" else sql.Composed([sql.Identifier(sort.lstrip("-"))])
    if cursor is not None:
        came_by, parameters["value"], parameters["item"], parameters["variant"] = cursors.read(
            cursor, str, int, str, str
        )
        if came_by != f"{sort} {variants}" or "\x00" in parameters["item"] + parameters["variant"]:
            raise ProblemError(400, "bad-cursor", "This cursor belongs to another sort: begin again without one.")
        beyond = sql.SQL("({column}, item, variant) {sign} (%(value)s, %(item)s, %(variant)s)")
        where.append(beyond.format(column=column, sign=sign))
    page = sql.SQL(
        "SELECT *, {column} AS sorted_by FROM product_rfm WHERE {where}"
        " ORDER BY {column} {direction}, item {direction}, variant {direction} LIMIT %(limit)s + 1"
    ).format(column=column, where=sql.SQL(" AND ").join(where), direction=direction)
    return page, parameters


@router.get("", summary="Products: what sells, to whom, and who comes back")
async def products(
    caller: ReadAccess,
    sort: Annotated[Sort, Query(description="`-` for descending; ties by item")] = "-monetary",
    variants: Annotated[bool, Query(description="each variant for itself")] = False,
    cursor: CursorQuery = None,
    limit: LimitQuery = 100,
) -> Products:
    """A page of products, as of the last analysts' file (`loyalnest batch analytics`, after each scheduled batch).

    Gift cards and what came back are left out. Made anew between two pages, the second is of the newer: see `as_of`.
    """
    page, parameters = _page(sort, variants, cursor)
    rows = await caller.services.rows(page, {**parameters, "shop": caller.shop, "limit": limit})
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = cursors.write(f"{sort} {variants}", int(last["sorted_by"]), last["item"], last["variant"])
    return Products(
        as_of=rows[0]["as_of"] if rows else None, items=[Product.of(row) for row in rows[:limit]], next=following
    )
