"""DuckDB draws nothing on stdout, which programs read; and nobody goes round the one who sees to that."""

import re
from pathlib import Path

from runtime import duck

ROOT = Path(__file__).parents[2]


def test_it_draws_no_bar(tmp_path: Path) -> None:
    with duck.connected("1GB", tmp_path / "it's here") as connection:
        asked = "SELECT current_setting('enable_progress_bar'), current_setting('temp_directory')"
        assert connection.execute(asked).fetchall() == [(False, str(tmp_path / "it's here"))]


def test_every_connection_is_made_there() -> None:
    rooms = ("events", "tables", "runtime", "books", "imports", "lake", "streams", "batch", "api", "cli", "scripts")
    made = [
        path.relative_to(ROOT).as_posix()
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"duckdb\.connect\(", path.read_text(encoding="utf-8"))
    ]
    assert made == ["runtime/duck.py"]
