"""Rows of an export as they stand in its file: values of customers, and what they told, as CSV."""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from api import csv_cells, export_cells
from api.export_cells import INSTANTS, VALUES
from api.export_queries import Export
from api.reading import Row
from events import addresses, instants

#: What PostgreSQL's timestamps count from (microseconds since the epoch).
_EPOCH_2000: Final = instants.parse("2000-01-01T00:00:00Z")


def _consent() -> pl.Expr:
    """Whose consent nobody told has not given it; of somebody without an address only what was told is said."""
    told = pl.col("consent")
    silent = pl.col("email").is_null() & told.is_null()
    return pl.when(silent).then(None).otherwise(told.replace("", None).fill_null("not_subscribed"))


def _told(export: Export, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with each consent as it is said, each address in the form that is compared, and the digests of those
    that are asked for."""
    emails = rows["email"].to_list()
    told = {}
    if "email" in export.layout.values():
        told["email"] = [None if email is None else addresses.plain(email) for email in emails]
    for name in export_cells.DIGESTS.keys() & export.layout.values():
        form = export_cells.DIGESTS[name]
        told[name] = [None if email is None else addresses.hashed(form(email)) for email in emails]
    series = [pl.Series(name, values, dtype=pl.String) for name, values in told.items()]
    return rows.with_columns(consent=_consent()).with_columns(series)


def _agreeing(export: Export, rows: pl.DataFrame) -> pl.DataFrame:
    """Of the rows those that stand in the file: in a list of people who is reached, and whose consent is asked for."""
    if (wanted := export.question.wanted_consent) is not None:
        rows = rows.filter(_consent() == wanted)
    if export.question.preset is not None:
        rows = rows.filter(pl.any_horizontal(pl.col("email", "consent").is_not_null()))
    return rows


def with_told(rows: pl.DataFrame, emails: Sequence[str | None], consents: Sequence[str | None]) -> pl.DataFrame:
    """The rows with what each customer told, as it was opened (TOLD of api/export_cells.py)."""
    told = {"email": emails, "consent": consents}
    return rows.with_columns(pl.Series(name, told[name], dtype=kind) for name, kind in export_cells.TOLD.items())


def file_rows(export: Export, rows: pl.DataFrame) -> tuple[bytes, int]:
    """What of the rows stands in the file, and how many that is."""
    chosen = _agreeing(export, rows)
    return (lines(export, chosen), chosen.height) if chosen.height else (b"", 0)


def lines(export: Export, rows: pl.DataFrame) -> bytes:
    """Rows as they stand in the file: the values that it needs, or the texts of its parts, and, where it tells, the
    address and consent of each as they were opened (VALUES, Part and TOLD of api/export_cells.py)."""
    rows = _told(export, rows) if "email" in rows.columns else rows
    currencies = rows["currency"].unique() if "currency" in rows.columns else ()
    cells = export_cells.cells(currencies, export.zone, for_excel=export.question.for_excel)
    chosen: list[pl.Expr] = []
    for part in export.parts:
        if part.text is not None and part.text in rows.columns:
            chosen.append(pl.col(part.text))
        else:
            chosen += [cells[cell] for cell in part.cells]
    return csv_cells.lines(rows.select(cell.alias(str(at)) for at, cell in enumerate(chosen)))


def split(export: Export, found: list[tuple[Any, ...]]) -> tuple[pl.DataFrame, list[tuple[Any, ...]]]:
    """The values and texts of rows that an export's query has, and the columns of what they tell."""
    columns = list(zip(*found, strict=True))
    schema = {name: VALUES[name] for name in export.values}
    schema |= {part.text: pl.String for part in export.parts if part.text is not None}
    frame = pl.DataFrame(dict(zip(schema, columns, strict=False)), schema=schema)
    return frame.with_columns(pl.col(set(INSTANTS) & schema.keys()) + _EPOCH_2000), columns[len(schema) :]


def of_lake(frame: pl.DataFrame, parameters: Row) -> pl.DataFrame:
    """A slice of the lake's standings, as the values of such rows."""
    at = instants.from_datetime(parameters["as_of"])
    common = {"currency": parameters["currency"], "as_of": at, "cut_points_version": parameters["version"]}
    return frame.with_columns(**{name: pl.lit(value) for name, value in common.items()}).select(
        pl.col(name).cast(kind) for name, kind in VALUES.items()
    )
