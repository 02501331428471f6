"""What many shops take is plain arithmetic over measured figures."""

from pathlib import Path

from scripts.bench import report
from scripts.bench.sections import scale

FIGURES = {
    **dict.fromkeys(("worker", "sink", "Kafka", "PostgreSQL"), 100e-6),
    "API": 250e-6,
    "webhooks": 4.0,
    "database": 9_000.0,
    "recovery": 100_000.0,
    "customer": 1_000.0,
    "order": 500.0,
}


def test_cores_and_bytes_are_rates_times_costs() -> None:
    text = scale.reckoned(FIGURES).text
    # 10^9 orders a year: a thirtieth on the day, a tenth of that in an hour, twice as fast in a minute.
    assert "| worker | 100 | 0.04 | 0.09 | 0.19 |" in text
    assert "| API | 1000 | 0.39 | 0.93 | 1.85 |" in text
    assert "| in all | 1400 | 0.5 | 1.3 | 2.6 |" in text
    assert "250 GB of customers and 500 GB of a year's orders" in text
    assert "3.5 h" in text
    assert "9.0 TB a year" in text


def test_a_kept_section_has_its_figures_again(tmp_path: Path) -> None:
    found = {"mixed": report.Measured("A title", "2026-11-30", "text", [("a", "1", "2", "held")], {"webhooks": 3.5})}
    path = tmp_path / "kept.json"
    report.write(path, found)
    assert report.read(path)["mixed"].figures == {"webhooks": 3.5}
