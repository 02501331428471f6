"""What most of these tests stand on: a connection to a database of their own, and the API over it."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from runtime import kafka
from runtime.settings import Settings
from tests.integration.api_world import World, opened


@pytest.fixture
def connection(database: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(database, autocommit=True, options="-c timezone=UTC") as found:
        yield found


@pytest.fixture
def world(database: str) -> Iterator[World]:
    """The API over a database that holds nothing yet. A test that wants more in it has its own."""
    with opened(database) as running:
        yield running


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.server)])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Either broker, with its topics. A test that wants something else of it has its own."""
    found: Settings = request.getfixturevalue(request.param)
    if request.param == "real":
        kafka.create_topics(found)
    return found
