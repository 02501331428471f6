"""What an error of the database means, by its SQLSTATE, and how many records may be let go."""

import time
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg import errors

from streams import unreadable
from streams.sink.refusals import MAX_REFUSED, REFUSED_WITHIN, meaning

LIVING: Any = SimpleNamespace(broken=False, closed=False)
BROKEN: Any = SimpleNamespace(broken=True, closed=True)


@pytest.mark.parametrize(
    "error",
    [
        *(errors.ConnectionFailure, errors.SqlclientUnableToEstablishSqlconnection),
        *(errors.DiskFull, errors.OutOfMemory, errors.TooManyConnections),
        *(errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow),
        *(errors.DeadlockDetected, errors.SerializationFailure),
    ],
)
def test_a_database_that_is_away_is_waited_for(error: type[psycopg.Error]) -> None:
    assert meaning(error(), LIVING) == "away"


@pytest.mark.parametrize(
    "error",
    [
        *(errors.ProgramLimitExceeded, errors.TooManyColumns),  # OperationalErrors both
        *(errors.StringDataRightTruncation, errors.NumericValueOutOfRange, errors.UntranslatableCharacter),
        *(errors.NotNullViolation, errors.CheckViolation, errors.CardinalityViolation),
    ],
)
def test_what_a_row_can_be_wrong_with_is_its_content(error: type[psycopg.Error]) -> None:
    assert meaning(error(), LIVING) == "content"


@pytest.mark.parametrize(
    "error", [errors.UndefinedTable, errors.QueryCanceled, errors.ReadOnlySqlTransaction, errors.InternalError_]
)
def test_anything_else_is_for_a_person(error: type[psycopg.Error]) -> None:
    assert meaning(error(), LIVING) == "other"


def test_without_a_state_the_connection_tells() -> None:
    assert meaning(psycopg.OperationalError("server closed the connection"), BROKEN) == "away"
    assert meaning(psycopg.OperationalError("no idea"), LIVING) == "other"
    assert meaning(psycopg.OperationalError("refused"), None) == "away"
    assert meaning(psycopg.DataError("PostgreSQL text fields cannot contain NUL"), LIVING) == "content"
    assert meaning(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), LIVING) == "content"


def test_refusals_have_a_rate_not_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = unreadable.Limit(MAX_REFUSED, REFUSED_WITHIN)
    for _ in range(3):  # a few each minute go on for ever
        assert not any(limit.exceeded() for _ in range(MAX_REFUSED))
        assert limit.exceeded()
        now += REFUSED_WITHIN + 1
