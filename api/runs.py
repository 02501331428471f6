"""Whose standing is asked for: everybody's now, or as of a past instant.

That is worked out from the lake. Where it cannot tell, the newest batch run that is not after the instant does, and the
answer says so.
"""

from datetime import UTC, datetime
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from psycopg import sql

from api.context import Caller
from api.models import Answer, CutPointsModel, Time, time_text
from api.problems import ProblemError
from api.reading import Reading, Row
from events.programs import DEFAULT, CutPoints, Program, default_cut_points
from lake.errors import BehindError
from lake.past import Standings

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


#: Where an answer comes from: the customers' rows as they are now, the lake, or a batch run.
Source = Literal["live", "lake", "run"]


class Asking(Protocol):
    """Whoever asks for a shop: a caller of the API, or what goes on without one."""

    @property
    def services(self) -> Reading:
        """What it works with."""

    @property
    def shop(self) -> str:
        """Whose standings are asked for."""


class Run(NamedTuple):
    """A finished batch run."""

    id: UUID
    as_of: datetime
    version: str


class RunModel(Answer):
    """The batch run that an answer about the past comes from."""

    id: UUID
    as_of: Time

    @classmethod
    def of(cls, run: Run) -> "RunModel":
        """A run as the batch has noted it."""
        return cls(id=run.id, as_of=run.as_of)


async def newest_run(caller: Asking, as_of: datetime) -> Run | None:
    """The newest finished run whose as_of is not after the one asked."""
    row = await caller.services.row(_RUN, {"shop": caller.shop, "as_of": as_of})
    return None if row is None else Run(row["id"], row["as_of"], row["version"] or DEFAULT)


class Side(NamedTuple):
    """Everybody's standing as of an instant: of the lake (`standings`), or else of a run."""

    at: datetime
    standings: Standings | None = None
    run: Run | None = None

    @property
    def source(self) -> Source:
        """Where it comes from."""
        return "lake" if self.standings is not None else "run"


async def side(caller: Asking, program: Program, as_of: datetime) -> Side:
    """Everybody's standing as of that very instant, from the lake; where it cannot tell, as the newest run not after it
    had it. A problem (503) where there is none either."""
    try:
        return Side(as_of, standings=await caller.services.past.standings(program, as_of))
    except BehindError as error:
        run = await newest_run(caller, as_of)
        if run is not None:
            return Side(run.as_of, run=run)
        text = time_text(as_of.astimezone(UTC))
        detail = f"This cannot be told just now: {error}. No batch has run as of {text} or before, either."
        raise ProblemError(503, "lake-behind", detail, {"Retry-After": "60"}) from None


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
