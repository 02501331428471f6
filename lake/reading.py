"""A shop as of any instant, from the lake alone."""

from typing import Any, Final, NamedTuple

import polars as pl
from psycopg import Connection

from events import instants
from lake import filling, versions
from lake.manifest import Lake, ShopFiles
from lake.rows import STREAMS

_NEWER: Final = """
SELECT EXISTS (SELECT FROM raw_events
               WHERE (xid, id) > (%s::text::xid8, %s::bigint) AND shop = %s AND stream = ANY(%s)
                 AND triggered_at <= %s::timestamptz)"""


class ShopThen(NamedTuple):
    """A shop as of an instant: its orders (versions.STATE), who was known, and what tells who is whom.

    `known` has customer_id; `links` and `kept` are as in rows.py. `webhooks` and `unreadable` are of the whole history.
    """

    orders: pl.DataFrame
    known: pl.DataFrame
    links: pl.DataFrame
    kept: pl.DataFrame
    webhooks: int
    unreadable: int


def shop_then(connection: Connection[Any], lake: Lake, shop: str, until: int) -> ShopThen | None:
    """The shop as of `until` (microseconds); None where the lake does not hold all of it yet."""
    root = filling.root_of(connection, lake)
    files = lake.shop(root, shop)
    if files is None or files.told:
        return None
    cursor = connection.execute(
        _NEWER, (str(root.cursor.xid), root.cursor.id, shop, list(STREAMS), instants.text(until))
    )
    if cursor.fetchone() != (False,):
        return None
    known = pl.concat(
        [
            _then(lake, files, "owners", until).select("customer_id"),
            _then(lake, files, "people", until).filter("known").select("customer_id"),
        ]
    )
    return ShopThen(
        versions.as_of([lake.folder / layer.path for layer in files.layers], until).collect(),
        known.unique().sort("customer_id").collect(),
        _then(lake, files, "links", until).group_by("customer_id", "into").agg(pl.col("rank").max()).collect(),
        _then(lake, files, "kept", until).group_by("customer_id").agg(pl.col("rank").max()).collect(),
        files.webhooks,
        files.unreadable,
    )


def _then(lake: Lake, files: ShopFiles, name: str, until: int) -> pl.LazyFrame:
    return lake.scan(files.parts(name, until), name).filter(pl.col("told_at") <= until)
