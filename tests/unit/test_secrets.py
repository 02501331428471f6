"""A secret that is made on first use is one for everybody, however many ask at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cli.stack import embedded
from runtime.settings import Settings


def test_whoever_asks_at_once_gets_the_same_secret_and_never_an_empty_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        for number in range(40):
            settings = Settings(data_dir=tmp_path / str(number))
            found = list(pool.map(embedded.master_key, [settings] * 16))
            assert len({each.get_secret_value() for each in found}) == 1
            assert [each.name for each in settings.data.iterdir()] == ["master.key"]
            assert (settings.data / "master.key").stat().st_mode & 0o777 == 0o600
