"""What the tests of the dashboard have: a browser for each file, and a world without a program."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browsers import started
from tests.integration.api_world import World, opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started() as running:
        yield running


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        yield running
