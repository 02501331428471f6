"""`make bench` works, in small, and leaves nothing behind."""

import os
import shutil
from pathlib import Path

import psycopg
import pytest

from scripts.bench import __main__ as bench
from scripts.bench import data
from scripts.bench.world import world
from tests.processes import Forked, module
from tests.sinks import wait

pytestmark = [pytest.mark.server, pytest.mark.slow]

#: By the names that --only takes, in parts that do not wait for one another.
SECTIONS = [
    {
        "orders": "Orders a second, from the topic through both agents and the sink",
        "table": "The one-table job",
        "workers": "Two workers beside one",
        "mixed": "A store's topics as they come",
    },
    {
        "webhooks": "Webhooks a second",
        "delays": "From accepted to visible",
        "redeem": "Redemptions beside orders",
        "steady": "Ten minutes at a steady rate",
        "embedded": "Embedded: one order on an idle machine",
    },
    {
        "past": "A store with a past",
        "lake": "A large shop in the lake",
        "csv": "CSV of a large shop",
    },
    {
        "dashboard": "The dashboard of a large shop",
        "parts": "The parts alone",
        "where": "Where the time goes",
    },
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("sections", SECTIONS, ids=" ".join)
def test_quick_bench_measures_everything(sections: dict[str, str], real_kafka: str, tmp_path: Path) -> None:
    output = tmp_path / "benchmarks.md"
    words = ["--quick", "--without-peers", "--output", str(output), "--only", *sections]
    said, complained = tmp_path / "out", tmp_path / "err"
    mine = ("LOYALNEST_SERVERS",)
    environment = {name: value for name, value in os.environ.items() if "LOYALNEST" not in name or name in mine}
    environment["PATH"] = f"{_browsers(tmp_path)}{os.pathsep}{environment['PATH']}"
    bench = Forked(module, "scripts.bench", words, environment=environment, stdout=said, stderr=complained)
    try:
        assert bench.wait(380) == 0, complained.read_text("utf-8")
    finally:
        bench.terminate()
    text = output.read_text(encoding="utf-8")
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["Floors", *sections.values()]
    assert text in said.read_text("utf-8")
    floors = text.partition("## Floors")[2].partition("\n## ")[0]
    figures = [line for line in floors.splitlines() if line.startswith("| ")][1:]
    assert figures
    assert all(line.rstrip(" |").endswith(("held", "**not held**")) for line in figures)


def _browsers(folder: Path) -> Path:
    """Where `chromium` is its headless shell, if there is one: for a third of the CPU."""
    made = folder / "bin"
    made.mkdir()
    if (shell := shutil.which("chromium-headless-shell")) is not None:
        chromium = made / "chromium"
        chromium.write_text(f'#!/bin/sh\nexec {shell} "$@"\n')
        chromium.chmod(0o755)
    return made


def test_the_quick_benchs_parts_are_all_of_it() -> None:
    assert [name for part in SECTIONS for name in part] == [name for name in bench.SECTIONS if name != "usual"]


def test_a_run_leaves_no_topic_and_no_database(real_kafka: str) -> None:
    with world() as place:
        with place.run("small") as run:
            run.send(f"{run.prefix}shopify.orders", data.by_order(data.orders(10, 3)))
            assert run.records(f"{run.prefix}shopify.orders") == 10
            prefix, name = run.prefix, psycopg.conninfo.conninfo_to_dict(run.settings.database_url())["dbname"]
            admin = run.admin
        # A broker goes on telling of a topic for a moment after the controller has deleted it.
        wait(lambda: not [topic for topic in admin.list_topics(timeout=15).topics if prefix in topic])
        with psycopg.connect(place.database) as connection:
            query = "SELECT count(*) FROM pg_database WHERE datname = %s"
            assert connection.execute(query, [name]).fetchone() == (0,)


def test_orders_are_a_day_in_order_and_the_same_each_time() -> None:
    found = list(data.orders(500, 100))
    assert found == list(data.orders(500, 100))
    values = [order.value for order in found]
    times = [value.split(b'"triggered_at":"')[1][:20] for value in values]
    assert times == sorted(times)
    assert times[0].startswith(b"2026-11-20T00:0")
    assert times[-1] >= b"2026-11-20T23:"
    assert len({order.order_id for order in found}) == 500
