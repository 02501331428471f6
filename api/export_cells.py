"""The cells of an export's file: what each says of a customer's values, and of what they told."""

from collections.abc import Collection, Iterable, Mapping
from itertools import groupby
from typing import Final, NamedTuple

import polars as pl

from api import csv_cells, sql_cells
from api.presets import KLAVIYO_CONSENTS, KLAVIYO_OTHERS
from api.questions import COLUMNS
from events import addresses

#: What of a customer's points is a number of them, and what of a row is an instant.
_POINTS: Final = ("balance", "pending", "earned", "spent", "expired", "expiring")
INSTANTS: Final = ("expires_at", "last_order_at", "as_of")

#: The values of an export's rows. Instants in microseconds.
VALUES: Final = {
    "customer_id": pl.String,
    **dict.fromkeys(("recency_days", "frequency", "monetary"), pl.Int64),
    "currency": pl.String,
    **dict.fromkeys(("r", "f", "m"), pl.Int64),
    **dict.fromkeys(("score", "segment_id", "segment"), pl.String),
    **dict.fromkeys((*_POINTS, *INSTANTS), pl.Int64),
    "cut_points_version": pl.String,
}

#: What was told, beside the values: an address and a consent as they were opened.
TOLD: Final = {"email": pl.String, "consent": pl.String}

#: Cells that are digests, and of which form of the address.
DIGESTS: Final = {"email_sha256": addresses.plain, "email_google_sha256": addresses.for_google}


def cells(currencies: Iterable[str] = (), zone: str = "UTC", *, for_excel: bool = False) -> dict[str, pl.Expr]:
    """Every cell that a file may have, by name. `currencies` are all that the rows hold, `zone` the shop's."""
    plain = {name: pl.col(name) for name in (*COLUMNS, *DIGESTS)}
    return plain | {
        "customer_id": csv_cells.digits("customer_id") if for_excel else pl.col("customer_id"),
        "email": csv_cells.text("email"),
        "email_consent": csv_cells.text("consent"),
        "monetary": csv_cells.amount("monetary", "currency", currencies),
        "segment": csv_cells.text("segment"),
        **{f"points_{name}": pl.col(name) for name in _POINTS},
        "points_expire_at": csv_cells.time("expires_at"),
        "points_last_day": csv_cells.day_before("expires_at", zone),
        "last_order_at": csv_cells.time("last_order_at"),
        "as_of": csv_cells.time("as_of"),
        "cut_points_version": csv_cells.text("cut_points_version"),
        "last_order_day": csv_cells.day("last_order_at", zone),
        "klaviyo_consent": pl.col("consent").replace_strict(KLAVIYO_CONSENTS, default=KLAVIYO_OTHERS),
    }


def in_sql(values: Mapping[str, str]) -> dict[str, str]:
    """By name every cell that PostgreSQL writes, of the values as its query has them: instants as timestamps in UTC."""
    return {
        **{name: values[name] for name in ("frequency", "currency", "segment_id")},
        **{name: sql_cells.plain(values[name]) for name in ("recency_days", "r", "f", "m", "score")},
        "monetary": sql_cells.amount(values["monetary"], values["currency"]),
        "segment": sql_cells.text(values["segment"]),
        **{f"points_{name}": values[name] for name in _POINTS},
        "points_expire_at": sql_cells.time(values["expires_at"]),
        "last_order_at": sql_cells.time(values["last_order_at"]),
        "as_of": sql_cells.time(values["as_of"]),
        "cut_points_version": sql_cells.text(values["cut_points_version"]),
    }


_IN_SQL: Final = frozenset(in_sql({name: name for name in VALUES}))


class Part(NamedTuple):
    """Cells that stand beside each other: `text` is the column of the text that PostgreSQL writes of all of them; None:
    they are made here, for their values are wanted otherwise, or are not told to PostgreSQL."""

    text: str | None
    cells: tuple[str, ...]


def parts(names: Iterable[str]) -> list[Part]:
    """A row's cells, in their order."""
    grouped = groupby(names, _IN_SQL.__contains__)
    return [Part(f"text_{at}" if texts else None, tuple(cells)) for at, (texts, cells) in enumerate(grouped)]


#: By cell the values, and what was told, that it is made of.
_MADE_OF: Final = {name: frozenset(cell.meta.root_names()) for name, cell in cells(["USD"]).items()}


def needed(names: Collection[str]) -> list[str]:
    """The values that these cells are made of, in the order of VALUES; the customer's id always."""
    roots = {"customer_id"}.union(*(_MADE_OF[name] for name in names))
    return [name for name in VALUES if name in roots]


def tell(names: Collection[str]) -> bool:
    """Whether any of these cells says what somebody told."""
    return any(_MADE_OF[name] & (TOLD.keys() | DIGESTS.keys()) for name in names)
