"""Whose standing is asked for: everybody's now, or everybody's as one batch run worked it out for a past time."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from psycopg import sql

from api.context import Caller, Row
from api.models import CutPointsModel, time_text
from api.problems import ProblemError
from events.programs import DEFAULT, CutPoints, Program, default_cut_points

_RUN = sql.SQL("""
SELECT id, as_of, version FROM batch_runs
WHERE shop = %(shop)s AND status = 'done' AND as_of <= %(as_of)s
ORDER BY as_of DESC, started_at DESC LIMIT 1
""")

_NEWEST_CUT_POINTS = sql.SQL("""
SELECT * FROM cut_points WHERE shop = %(shop)s AND as_of <= %(as_of)s ORDER BY as_of DESC, version DESC LIMIT 1
""")

_CUT_POINTS = sql.SQL("""
SELECT * FROM cut_points WHERE shop = %(shop)s AND version = %(version)s ORDER BY as_of DESC LIMIT 1
""")


class Run(NamedTuple):
    """A finished batch run."""

    id: UUID
    as_of: datetime
    version: str


async def run_at(caller: Caller, as_of: datetime) -> Run:
    """The newest finished run whose as_of is not after the one asked; a problem (404) if there is none."""
    row = await caller.services.row(_RUN, {"shop": caller.shop, "as_of": as_of})
    if row is None:
        text = time_text(as_of.astimezone(UTC))
        raise ProblemError(
            404,
            "no-batch-run",
            f"No batch has run for this shop as of {text} or before. "
            f"Make one: loyalnest batch segments --shop {caller.shop} --as-of {text}",
        )
    return Run(row["id"], row["as_of"], row["version"] or DEFAULT)


def _cut_points(row: Row) -> CutPoints:
    return CutPoints(**{name: row[name] for name in CutPoints.model_fields})


async def newest_cut_points(caller: Caller, program: Program, now: datetime) -> CutPointsModel:
    """The cut points in use at `now`: the newest whose as_of is not after it, or the default."""
    row = await caller.services.row(_NEWEST_CUT_POINTS, {"shop": caller.shop, "as_of": now})
    if row is None:
        found = default_cut_points(caller.shop, program.currency, now)
        return CutPointsModel.of(found, program.currency, known=False)
    return CutPointsModel.of(_cut_points(row), program.currency, known=True)


async def cut_points_by_version(caller: Caller, version: str, currency: str) -> CutPointsModel | None:
    """The cut points of a version; None if the history does not hold it (yet)."""
    if version == DEFAULT:
        found = default_cut_points(caller.shop, currency, datetime.now(UTC))
        return CutPointsModel.of(found, currency, known=False)
    row = await caller.services.row(_CUT_POINTS, {"shop": caller.shop, "version": version})
    return None if row is None else CutPointsModel.of(_cut_points(row), currency, known=True)
