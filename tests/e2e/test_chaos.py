"""Moves of `make chaos` with either store: workers that join, leave, die and pause under load, and nothing lost."""

from pathlib import Path

import pytest

from scripts import chaos
from tests.conftest import server_setting


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_partitions_that_move_lose_nothing(tmp_path: Path, store: str) -> None:
    servers, database = server_setting("LOYALNEST_TEST_KAFKA"), server_setting("LOYALNEST_TEST_DATABASE")
    with chaos.world(servers, database, 4, store) as settings:
        chaos.run(settings, tmp_path, rebalances=5, seed={"memory": 7, "rocksdb": 8}[store])
