"""python -m scripts.bench: measure everything, print it, and write docs/benchmarks.md."""

import argparse
import importlib.metadata
import platform
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import confluent_kafka
import psutil
import psycopg

from scripts.bench import peers, report
from scripts.bench.sections import doors, large, scale, stream
from scripts.bench.sections.section import Options, Section, say
from scripts.bench.world import ROOT, BenchError, World, world
from scripts.serving.kafka import kafka_jars
from scripts.serving.server import ServerError


def machine(place: World) -> list[tuple[str, str]]:
    with psycopg.connect(place.database) as connection:
        postgres, timescale, license_ = connection.execute(
            "SELECT split_part(current_setting('server_version'), ' ', 1),"
            " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),"
            " current_setting('timescaledb.license', true)"
        ).fetchone() or ("", "", "")
    edition = "community" if license_ == "timescale" else "apache"
    versions = {name: importlib.metadata.version(name) for name in ("faust-streaming", "aiokafka", "confluent-kafka")}
    clients = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        ("cores, memory", f"{psutil.cpu_count()}, {psutil.virtual_memory().total / 2**30:.0f} GB"),
        ("Python", platform.python_version()),
        ("Apache Kafka", f"{_kafka_version()}, one node"),
        ("PostgreSQL", f"{postgres}, TimescaleDB {timescale} ({edition} edition)"),
        ("clients", f"{clients}, librdkafka {confluent_kafka.libversion()[0]}"),
        ("Quix Streams", _quix_version()),
    ]


def _kafka_version() -> str:
    names = [path.name for path in kafka_jars().glob("kafka_*.jar")]
    found = re.fullmatch(r"kafka_[\d.]+-(.+)\.jar", names[0]) if names else None
    return found[1] if found else "of unknown version"


def _quix_version() -> str:
    names = "('quixstreams', 'confluent-kafka')"
    ask = f"from importlib.metadata import version; print(' on confluent-kafka '.join(map(version, {names})))"
    try:
        python = peers.HOME / "bench-quix" / "bin" / "python"
        return subprocess.check_output([str(python), "-c", ask], text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "not measured"


#: Everything small, to see that it works; and as it is measured.
QUICK: Final = Options(
    orders=500,
    rounds=1,
    history=200,
    webhooks=100,
    seconds=1.0,
    busy=1.0,
    steady=8.0,
    mixed=300,
    past=1000,
    lake=2000,
    exported=3000,
    demo=60,
    calls=10,
)
WHOLE: Final = Options(
    orders=100_000,
    rounds=3,
    history=50_000,
    webhooks=20_000,
    seconds=30.0,
    busy=60.0,
    steady=600.0,
    mixed=40_000,
    past=100_000,
    lake=10_000_000,
    exported=1_000_000,
    demo=2000,
    calls=100,
)


#: What is measured, in the document's order, by the names that --only takes.
SECTIONS: Final[dict[str, Callable[[World, Options], Section]]] = {
    "orders": stream.orders_a_second,
    "table": stream.one_table,
    "workers": stream.two_workers,
    "mixed": stream.store_of_all_topics,
    "webhooks": doors.webhooks,
    "delays": doors.delays,
    "redeem": doors.redemptions,
    "steady": doors.steady_load,
    "embedded": doors.first_try,
    "past": doors.store_with_a_past,
    "lake": large.large_shop,
    "csv": large.csv_of_a_large_shop,
    "dashboard": large.dashboard,
    "usual": large.usual_ways,
    "parts": stream.parts,
    "where": stream.where,
}

#: The section that is reckoned from others.
SCALE: Final = "scale"


def measure(options: Options) -> str:
    """The document; with --only, the sections that were not asked for are those of the file, if one is written.

    Each section is kept beside the file as soon as it is measured: who ends a long bench early goes on with --only.
    """
    wanted = options.only or [name for name in SECTIONS if name != "usual" or options.usual]
    kept = options.output.with_suffix(".json") if options.output is not None else None
    found = report.read(kept) if kept is not None and options.only else {}
    with world() as place:
        for name, made in SECTIONS.items():
            if name in wanted:
                found[name] = _measured(made(place, options), f"{datetime.now(UTC):%Y-%m-%d}")
                if kept is not None:
                    report.write(kept, found)
        facts = machine(place)
    if all(name in found and found[name].figures for name in scale.OF):
        figures = {name: value for of in scale.OF for name, value in found[of].figures.items()}
        found[SCALE] = _measured(scale.reckoned(figures), min(found[of].day for of in scale.OF))
    return report.document(facts, [found[name] for name in (*SECTIONS, SCALE) if name in found])


def _measured(section: Section, day: str) -> report.Measured:
    cells = [floor.cells() for floor in section.floors]
    return report.Measured(section.title, day, section.text, cells, section.figures)


def read_options(words: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--orders", type=int, default=WHOLE.orders, help="orders of each run through it all")
    parser.add_argument("--past", type=int, default=WHOLE.past, help="orders of the file that is brought in")
    parser.add_argument("--lake", type=int, default=WHOLE.lake, help="orders of the large shop in the lake")
    parser.add_argument("--exported", type=int, default=WHOLE.exported, help="customers of the large shop's CSV")
    parser.add_argument("--rounds", type=int, default=WHOLE.rounds, help="turns of each contestant")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it works")
    parser.add_argument("--without-peers", action="store_true", help="leave out who is installed apart")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SECTIONS,
        default=[],
        help="these sections; no file is written without --output, where the others stay",
    )
    parser.add_argument("--output", type=Path, help="the file to write; docs/benchmarks.md, and none with --quick")
    found = parser.parse_args(words)
    peers_too = not found.without_peers
    only = tuple(found.only)
    rest = {"quix": peers_too, "output": found.output, "only": only}
    if found.quick:
        return QUICK._replace(usual=8000 * peers_too, **rest)
    if not only and found.output is None:
        rest["output"] = ROOT / "docs" / "benchmarks.md"
    given = {name: getattr(found, name) for name in ("orders", "rounds", "past", "lake", "exported")}
    return WHOLE._replace(usual=4_000_000 * peers_too, **given, **rest)


def main() -> int:
    options = read_options()
    # As by Ctrl-C: the processes, topics and databases of a run go with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    try:
        text = measure(options)
    except (BenchError, ServerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
    say(f"done in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
