"""Rows of an export as they stand in its file: values of customers, and what their contacts tell, as CSV."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import polars as pl

from api import csv_cells
from api.export_queries import Export
from api.presets import KLAVIYO_CONSENTS, KLAVIYO_OTHERS
from api.questions import COLUMNS
from api.reading import Row
from books import contacts
from events import addresses, instants
from events.payloads import Contact

#: What of a customer's points is a number of them, and what of a row is an instant.
_POINTS: Final = ("balance", "pending", "earned", "spent", "expired", "expiring")
_INSTANTS: Final = ("expires_at", "last_order_at", "as_of")

#: The columns of an export's rows behind what they tell of contact and consent. Instants in microseconds.
VALUES: Final = {
    "customer_id": pl.String,
    **dict.fromkeys(("recency_days", "frequency", "monetary"), pl.Int64),
    "currency": pl.String,
    **dict.fromkeys(("r", "f", "m"), pl.Int64),
    **dict.fromkeys(("score", "segment_id", "segment"), pl.String),
    **dict.fromkeys((*_POINTS, *_INSTANTS), pl.Int64),
    "cut_points_version": pl.String,
}

#: What PostgreSQL's timestamps count from (microseconds since the epoch).
_EPOCH_2000: Final = instants.parse("2000-01-01T00:00:00Z")


class Chunk(NamedTuple):
    """Some of an export's rows: their values (VALUES), and their contacts by customer."""

    values: pl.DataFrame
    contacts: Mapping[str, Contact]


def _addresses(found: Iterable[Contact | None]) -> Iterator[str | None]:
    for contact in found:
        yield None if contact is None or contact.email is None else addresses.plain(contact.email)


def _consents(found: Iterable[Contact | None]) -> Iterator[str | None]:
    """Whose consent nobody told has not given it; of somebody without an address only what was told is said."""
    for contact in found:
        if contact is None or (contact.email is None and contact.consent is None):
            yield None
        else:
            yield contact.consent or "not_subscribed"


#: Cells that are digests, each of another form of the address.
_DIGESTS: Final = {"email_sha256": addresses.plain, "email_google_sha256": addresses.for_google}


def _told(export: Export, chunk: Chunk) -> pl.DataFrame:
    """The chunk's values with what its contacts tell: `email`, those of its digests that are asked for, `consent`."""
    found = [chunk.contacts.get(customer_id) for customer_id in chunk.values["customer_id"]]
    emails = [*_addresses(found)]
    told = {"email": pl.Series(emails, dtype=pl.String), "consent": pl.Series([*_consents(found)], dtype=pl.String)}
    for name in _DIGESTS.keys() & export.layout.values():
        digests = [None if email is None else addresses.hashed(_DIGESTS[name](email)) for email in emails]
        told[name] = pl.Series(digests, dtype=pl.String)
    return chunk.values.with_columns(**told)


def _agreeing(export: Export, chunk: Chunk) -> Chunk:
    """Of the chunk who stands in the file: of a list of people who is reached, and whose consent is asked for."""
    wanted, reached = export.question.wanted_consent, export.question.preset is not None
    if wanted is None and not reached:
        return chunk
    found = [chunk.contacts.get(customer_id) for customer_id in chunk.values["customer_id"]]
    agree = [
        wanted in (None, consent) and not (reached and contact is None)
        for contact, consent in zip(found, _consents(found), strict=True)
    ]
    return chunk._replace(values=chunk.values.filter(pl.Series(agree, dtype=pl.Boolean)))


def file_rows(export: Export, chunk: Chunk) -> tuple[bytes, int]:
    """What of the chunk stands in the file, and how many rows that is."""
    chosen = _agreeing(export, chunk)
    return (lines(export, chosen), chosen.values.height) if chosen.values.height else (b"", 0)


def lines(export: Export, chunk: Chunk) -> bytes:
    """The chunk's rows as they stand in the file."""
    values = _told(export, chunk)
    plain: dict[str, pl.Expr] = {name: pl.col(name) for name in (*COLUMNS, *_DIGESTS) if name in values.columns}
    cells = plain | {
        "customer_id": csv_cells.digits("customer_id") if export.question.for_excel else pl.col("customer_id"),
        "email": csv_cells.text("email"),
        "email_consent": csv_cells.text("consent"),
        "monetary": csv_cells.amount("monetary", "currency", values["currency"].unique()),
        "segment": csv_cells.text("segment"),
        **{f"points_{name}": pl.col(name) for name in _POINTS},
        "points_expire_at": csv_cells.time("expires_at"),
        "points_last_day": csv_cells.day_before("expires_at", export.zone),
        "last_order_at": csv_cells.time("last_order_at"),
        "as_of": csv_cells.time("as_of"),
        "cut_points_version": csv_cells.text("cut_points_version"),
        "last_order_day": csv_cells.day("last_order_at"),
        "klaviyo_consent": pl.col("consent").replace_strict(KLAVIYO_CONSENTS, default=KLAVIYO_OTHERS),
    }
    return csv_cells.lines(values.select(**{name: cells[cell] for name, cell in export.layout.items()}))


def split(rows: list[tuple[Any, ...]]) -> tuple[pl.DataFrame, list[contacts.Told]]:
    """The values of rows that an export's query has, and what they tell."""
    columns = list(zip(*rows, strict=True))
    told = len(contacts.COLUMNS)
    found = dict(zip(VALUES, (columns[0], *columns[told:]), strict=True))
    values = pl.DataFrame(found, schema=VALUES).with_columns(pl.col(_INSTANTS) + _EPOCH_2000)
    return values, [*map(contacts.Told._make, zip(*columns[:told], strict=True))]


def of_lake(frame: pl.DataFrame, parameters: Row) -> pl.DataFrame:
    """A slice of the lake's standings, as the values of such rows."""
    at = instants.from_datetime(parameters["as_of"])
    common = {"currency": parameters["currency"], "as_of": at, "cut_points_version": parameters["version"]}
    return frame.with_columns(**{name: pl.lit(value) for name, value in common.items()}).select(
        pl.col(name).cast(kind) for name, kind in VALUES.items()
    )
