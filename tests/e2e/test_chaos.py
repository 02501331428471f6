"""Moves of `make chaos` with either store: workers that join, leave, die and pause under load, and nothing lost."""

import subprocess
from pathlib import Path

import pytest

from scripts.chaos import runs
from tests.conftest import server_setting
from tests.processes import popen


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_partitions_that_move_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one store after the other: four workers each are enough for a machine."""
    monkeypatch.setattr(subprocess, "Popen", popen)
    servers, database = server_setting("LOYALNEST_TEST_KAFKA"), server_setting("LOYALNEST_TEST_DATABASE")
    for seed, store in ((7, "memory"), (8, "rocksdb")):
        folder = tmp_path / store
        folder.mkdir()
        with runs.world(servers, database, 4, store) as settings:
            runs.run(settings, folder, rebalances=5, seed=seed, rebuild=store == "memory")
