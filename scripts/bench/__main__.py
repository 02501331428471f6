"""python -m scripts.bench: measure everything, print it, and write docs/benchmarks.md."""

import argparse
import importlib.metadata
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import confluent_kafka
import psutil
import psycopg

from lake.manifest import Lake
from scripts.bench import (
    alone,
    analytics,
    data,
    embedded,
    exporting,
    folds,
    lake,
    pages,
    past,
    peers,
    report,
    through,
    usual,
    web,
)
from scripts.bench.report import Floor, number, table
from scripts.bench.world import ROOT, BenchError, World, world
from scripts.serving.kafka import kafka_jars
from scripts.serving.server import ServerError

FAUST, QUIX, OURS = "plain Faust", "Quix Streams", "LoyalNest"

#: Floors of docs and issues; a figure may be better, and says so itself.
WEBHOOKS, DELAY, RECOVERY = 500, 1.0, 100_000
TRIED, BROUGHT_IN = 50_000, 5_000


class Options(NamedTuple):
    orders: int
    rounds: int
    history: int  # orders of the one customer
    webhooks: int
    seconds: float  # at RATE orders a second
    past: int  # orders of the file that is brought in
    lake: int  # orders of the large shop
    exported: int  # customers of the CSV
    demo: int  # customers of the demo store
    calls: int  # how often each of the dashboard's is asked
    usual: int  # orders that others work out as well; 0: not asked
    quix: bool
    output: Path | None
    only: Sequence[str] = ()  # names of SECTIONS; none: all of them


RATE = 100.0


class Section(NamedTuple):
    title: str
    text: str
    floors: list[Floor]


def say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr, flush=True)


# --- orders a second ---------------------------------------------------------------------------------------------

_WHO = {
    OURS: "both agents (order state, then points, RFM, windows), every record out delivered before its state,"
    " and all of it stored in PostgreSQL by the sink",
    FAUST: "`table[customer] += amount` in one agent, Faust's default settings, changelog to Kafka",
    QUIX: "`state[customer] += amount`, Quix Streams' default settings, RocksDB and a changelog to Kafka",
}


def orders_a_second(place: World, options: Options) -> Section:
    orders = list(data.orders(options.orders, options.orders // 5))
    if options.rounds > 1:
        say("warming up the servers")
        through.through(place, orders[: options.orders // 5])
    rates: dict[str, list[float]] = {OURS: [], FAUST: []}
    ours: list[through.Through] = []
    theirs: dict[str, list[peers.Peer]] = {FAUST: []}
    if options.quix:
        peers.python_with("peers")
        rates[QUIX], theirs[QUIX] = [], []
    for at in range(options.rounds):
        say(f"orders a second, round {at + 1} of {options.rounds}: LoyalNest")
        ours.append(through.through(place, orders))
        rates[OURS].append(options.orders / ours[-1].stored)
        for who in theirs:
            say(f"orders a second, round {at + 1} of {options.rounds}: {who}")
            theirs[who].append((peers.quix if who == QUIX else peers.plain_faust)(place, orders))
            rates[who].append(options.orders / theirs[who][-1].seconds)
    return Section(
        "Orders a second, from the topic through both agents and the sink",
        "\n\n".join([_intro(orders), _rates(rates, ours), _cpu(ours, theirs)]),
        [
            Floor("orders/s through all of it, beside plain Faust", _ratio(rates), 1.0, "times", digits=2),
            Floor("the same, as it is aimed at", _ratio(rates), 2.0, "times", digits=2),
        ],
    )


def _ratio(rates: dict[str, list[float]]) -> float:
    return median(rates[OURS]) / median(rates[FAUST])


def _intro(orders: Sequence[data.Order]) -> str:
    size = sum(len(order.value) for order in orders) / len(orders)
    customers = len({order.customer_id for order in orders})
    return (
        f"{len(orders):,} `orders/paid` of one day, as our front door writes them ({size:,.0f} bytes), by {customers:,}"
        " customers, lie on a topic of 8 partitions before the clock starts. LoyalNest runs one worker and one sink;"
        " its clock runs from the worker's being ready until every record is stored, and its sums are checked. The"
        " peers read the same messages, keyed by customer; plain Faust's clock runs from its being ready to its last"
        " changelog record, Quix Streams' from its first order to its last checkpoint. They take turns, each alone"
        " with Kafka."
    )


def _rates(rates: dict[str, list[float]], ours: Sequence[through.Through]) -> str:
    rows = []
    for who, found in rates.items():
        each = ", ".join(map(number, found))
        rows.append([f"**{who}**: {_WHO[who]}", each, number(median(found)), f"{_beside(rates, who):.2f}"])
    published = number(median(each.orders / each.published for each in ours))
    rows[0][0] += f" (to the last points record on its topic: {published})"
    return table(["who, and what it does", "each round", "median", "beside plain Faust"], rows)


def _beside(rates: dict[str, list[float]], who: str) -> float:
    return median(rates[who]) / median(rates[FAUST])


def _cpu(ours: Sequence[through.Through], theirs: dict[str, list[peers.Peer]]) -> str:
    names = ("worker", "sink", "Kafka", "PostgreSQL")
    rows = [[OURS, *(_us(ours, name) for name in names), _us(ours, *names)]]
    for who, found in theirs.items():
        rows.append([who, _us(found, "itself"), "", _us(found, "Kafka"), "", _us(found, "itself", "Kafka")])
    return "CPU time an order takes, in microseconds:\n\n" + table(["", "agents", *names[1:], "in all"], rows)


def _us(runs: Sequence[through.Through] | Sequence[peers.Peer], *names: str) -> str:
    return f"{median(sum(run.cpu[name] for name in names) / run.orders for run in runs) * 1e6:.0f}"


# --- the front door ----------------------------------------------------------------------------------------------


def webhooks(place: World, options: Options) -> Section:
    say("webhooks a second")
    found = web.accepted(place, options.webhooks)
    rate = found.number / found.seconds
    middle, late, latest = map(report.seconds, report.spread(found.took))
    return Section(
        "Webhooks a second",
        f"One API process with the Kafka publisher takes {found.number:,} signed `orders/paid` webhooks (requests of"
        f" {found.size:,.0f} bytes) over 32 keep-alive connections, each sent when the last one was answered 200, that"
        f" is, when Kafka had it: **{number(rate)} a second**; answered in {middle} (median), {late} (95 %), {latest}"
        f" (99 %). The API process used {found.api_cpu / found.seconds:.0%} of a core, the client"
        f" {found.client_cpu / found.seconds:.0%}: it is not the client that is measured.",
        [Floor("webhooks/s accepted by one API process", rate, WEBHOOKS, "/s")],
    )


def store_with_a_past(place: World, options: Options) -> Section:
    say("a store with a past")
    file = place.folder / "past.jsonl"
    past.write(file, options.past)
    lines, seconds = past.tried(file)
    rows, found = [], {}
    for where, journal in (("Kafka", False), ("the raw history (embedded)", True)):
        say(f"bringing it in to {where}")
        each = found[where] = past.brought_in(place, file, journal=journal)
        cpu = f"{each.cpu / each.orders * 1e6:,.0f}"
        rows.append([f"durable in {where}", number(each.orders / each.seconds), cpu])
    say("delay from accepted to visible, while it is brought in")
    late = report.spread(web.delay(place, RATE, options.seconds, file).seen)
    return Section(
        "A store with a past",
        f"A bulk operation's file of {options.past:,} orders ({lines:,} lines, {file.stat().st_size / 2**20:,.0f} MiB)."
        f" The **dry run** reads {number(lines / seconds)} lines a second. Brought in with nothing else running"
        " (`--at-once`), e-mail sealed with each customer's key:\n\n"
        + table(["until it is", "orders/s", "CPU of the import, µs an order"], rows)
        + f"\n\nBrought in beside {RATE:.0f} live webhooks a second through API, Kafka, worker and sink, at the pace"
        " that it takes then, a webhook's customer can be seen after"
        f" {report.seconds(late[0])} (median), {report.seconds(late[1])} (95 %), {report.seconds(late[2])} (99 %).",
        [
            Floor("lines/s of a dry run", lines / seconds, TRIED, "/s"),
            Floor("orders/s brought in until durable", _slowest(found), BROUGHT_IN, "/s"),
            Floor("delay from accepted to visible while a past comes in, 95 %", late[1], DELAY, "s", True, 2),
        ],
    )


def _slowest(found: dict[str, past.Brought]) -> float:
    return min(each.orders / each.seconds for each in found.values())


def large_shop(place: World, options: Options) -> Section:
    say(f"a shop of {options.lake:,} orders in the lake")
    found = lake.measure(place.folder / "lake", options.lake, options.rounds)
    with place.run("analytics") as run:
        file = analytics.measure(run.settings.database_url(), Lake(place.folder / "lake"), found.orders)
    rows = [
        [kind, report.seconds(cost.seconds), f"{cost.cpu:,.1f} s", f"{cost.memory / 2**30:,.1f} GiB"]
        for kind, cost in {**found.costs, "the analysts' file": file.cost}.items()
    ]
    bare, now, past_, run_, night = (
        found.costs[kind] for kind in (lake.BARE, lake.NOW, lake.PAST, lake.RUN, lake.NIGHT)
    )
    return Section(
        "A large shop in the lake",
        f"{found.orders:,} orders of {found.customers:,} customers over six years, a tenth told of twice, one in twenty"
        f" refunded: {found.size / 2**20:,.0f} MiB of Parquet; all versions of all orders were made of it in"
        f" {found.built.seconds:,.0f} s ({found.built.cpu:,.0f} s of CPU). The DuckDB query takes the newest revision"
        " of each order and groups them by customer;"
        " the next two work out points, RFM values, cut points, digits and segment of everybody. A run that publishes"
        " also measures what its gates ask (their judging aside) and holds everybody's row against the history, of"
        " whom one in a hundred was told of since; in the one after it an order in a hundred is made anew as a layer"
        " beside. A full one makes all versions first; the raw history's webhooks, the database and the stream are in"
        " neither. Each alone in a"
        f" process, in turns. The analysts' file has {file.rows:,} rows in {file.size / 2**20:,.0f} MiB.\n\n"
        + table(["what", "time", "CPU", "memory"], rows),
        [
            Floor(
                "recompute from the lake, beside a bare DuckDB query", now.seconds / bare.seconds, 2, "times", True, 2
            ),
            Floor(
                "a nightly run when 1 % of orders changed, beside a full one that makes all versions",
                night.cpu / (found.built.cpu + run_.cpu),
                0.2,
                "of its CPU",
                True,
                2,
            ),
            Floor("memory of it", now.memory / 2**30, 4.0, "GiB", True, 1),
            Floor("everybody as of a past instant", past_.seconds, 3.0, "s", True, 2),
            Floor("the analysts' file of the large shop", file.cost.seconds, 60.0, "s", True, 1),
        ],
    )


def usual_ways(place: World, options: Options) -> Section:
    say(f"the usual ways, of {options.usual:,} orders")
    found = usual.measure(place.folder / "usual", options.usual, options.rounds)
    ours, by_pandas, by_pymc = (found[name].seconds for name in (usual.OURS, usual.PANDAS, usual.PYMC))
    rows = [
        [name, report.seconds(way.seconds), f"{way.cpu:,.1f} s", f"{way.seconds / ours:,.1f}"]
        for name, way in found.items()
    ]
    return Section(
        "Beside the usual ways",
        f"RFM and segments of a shop of {options.usual:,} orders, from its snapshots as Parquet to a name for each"
        " customer; each alone in a process, imports left out, in turns. Ours makes points and gives refunds and"
        " merges their due; theirs take the newest revision of each order.\n\n"
        + table(["what", "time", "CPU", "times ours"], rows),
        [
            Floor("pandas' groupby and qcut, beside ours", by_pandas / ours, 30, "times", digits=1),
            Floor("pymc-marketing's summary and segments, beside ours", by_pymc / ours, 30, "times", digits=1),
        ],
    )


def csv_of_a_large_shop(place: World, options: Options) -> Section:
    say(f"a CSV of {options.exported:,} customers")
    found = exporting.export(place, options.exported)
    middle, late, latest = map(report.seconds, report.spread(found.waited))
    each, listed = 1e6 / found.customers, found.listed
    return Section(
        "CSV of a large shop",
        f"Everybody of a shop of {found.customers:,} customers through the API, {found.size / 2**20:,.0f} MiB, read as"
        " fast as it comes: seven of ten have an address and five told a consent, each sealed with a key of their own;"
        f" one in a hundred was merged into another. It took **{found.seconds:.1f} s**, its first byte"
        f" {report.seconds(found.first)}; CPU time a row: {found.cpu * each:.1f} µs of the API's processes,"
        f" {found.database_cpu * each:.1f} µs of PostgreSQL. Who asked for the shop's segments meanwhile was answered"
        f" in {middle} (median), {late} (95 %), {latest} (99 %). Memory is of all the API's processes, beside"
        " what the API had before its first export.\n\n"
        "A list for Google (`preset=google`: whoever agreed, each address once, by the newest consent of anybody with"
        f" it, hashed) has {listed.rows:,} rows of the same shop and took **{listed.seconds:.1f} s**; CPU time a"
        f" customer: {listed.cpu * each:.1f} µs of the API's processes,"
        f" {listed.database_cpu * each:.1f} µs of PostgreSQL.",
        [
            Floor("CSV of a large shop, for 1,000,000 customers", found.seconds * each, 8.0, "s", True, 1),
            Floor("its first byte", found.first * 1000, 100.0, "ms", True),
            Floor("memory that the API's processes grow by", found.memory / 2**20, 100.0, "MiB", True),
        ],
    )


def dashboard(place: World, options: Options) -> Section:
    say(f"the dashboard of a shop of {options.exported:,} customers")
    found = pages.pages(place, options.exported, options.calls)
    say(f"the dashboard of the demo store, of {options.demo:,} customers")
    store = pages.store(options.demo, options.calls)
    rows = _asked(found.asked) + _loads(found.usable)
    moved, meanwhile = report.spread(found.moved), report.spread(found.meanwhile)
    rows.append([f"a change, until each of {pages.OPEN} open pages has it", *map(report.seconds, moved)])
    rows.append(["`segments`, while these are open", *map(report.seconds, meanwhile)])
    return Section(
        "The dashboard of a large shop",
        f"What the overview of a shop of {found.customers:,} customers asks of one API process, one call after another."
        " Who moved and who came back are worked out from the lake, which the shop of this part has none of: they come"
        " when the page stands. Then the pages stay open and a number moves twice a second.\n\n"
        + table(["what", "median", "95 %", "99 %"], rows)
        + f"\n\nThe demo store (`make demo`: everything embedded, {store.customers:,} customers, an order every second"
        " or two meanwhile) has a lake.\n\n"
        + table(["what", "median", "95 %", "99 %"], _asked(store.asked) + _loads(store.usable)),
        [
            Floor(
                "what the dashboard's overview asks, 95 % of the slowest call",
                _slowest_call(found.asked),
                50,
                "ms",
                True,
            ),
            Floor("the same of the demo store, movement and cohorts too", _slowest_call(store.asked), 50, "ms", True),
            *_usable("of the large shop", found.usable),
            *_usable("of the demo store", store.usable),
            Floor(f"a change on each of {pages.OPEN} open pages, 95 %", moved[1], 2.0, "s", True, 2),
            Floor("the API meanwhile, 95 %", meanwhile[1] * 1000, 50, "ms", True),
        ],
    )


def _asked(found: dict[str, list[float]]) -> list[list[str]]:
    return [[name, *map(report.seconds, report.spread(times))] for name, times in found.items()]


def _slowest_call(found: dict[str, list[float]]) -> float:
    """Milliseconds, 95 %."""
    return 1000 * max(report.spread(times)[1] for times in found.values())


def _loads(usable: list[float]) -> list[list[str]]:
    """Without a browser there are none."""
    what = "the overview in Chromium, from the navigation until it is drawn and works"
    return [[what, *map(report.seconds, report.spread(usable))]] if usable else []


def _usable(whose: str, found: list[float]) -> list[Floor]:
    if not found:
        return []
    return [Floor(f"the overview {whose} in a browser, usable, 95 %", report.spread(found)[1], 1.0, "s", True, 2)]


def delays(place: World, options: Options) -> Section:
    say("delay from accepted to visible")
    found = web.delay(place, RATE, options.seconds)
    seen, asked = report.spread(found.seen), report.spread(found.asked)
    rows = [
        ["the customer's row is there", f"{len(found.seen):,}", *map(report.seconds, seen)],
        ["`GET customers/{id}` shows it", f"{len(found.asked):,}", *map(report.seconds, asked)],
    ]
    return Section(
        "From accepted to visible",
        f"{RATE:.0f} orders a second for {options.seconds:.0f} s, sent on schedule, each by a new customer, through"
        " API, Kafka, worker and sink. The clock runs from the 200 to the moment when the customer's row can be read:"
        " every row is looked up on the notice that the sink's commit gives (LISTEN), and every 20th customer is asked"
        " for through the API every 10 ms from the 200 on.\n\n"
        + table(["until", "orders", "median", "95 %", "99 %"], rows),
        [Floor("delay from accepted to visible, 95 %", max(seen[1], asked[1]), DELAY, "s", ceiling=True, digits=2)],
    )


def first_try(place: World, options: Options) -> Section:
    say("a lone order, embedded")
    found = embedded.lone_orders(place.folder, max(int(options.seconds), 3))
    spread = report.spread(found)
    rows = [["the customer's row is there", f"{len(found)}", *map(report.seconds, spread)]]
    return Section(
        "Embedded: one order on an idle machine",
        "`loyalnest up` without any server, and orders that come singly, each after a silence.\n\n"
        + table(["until", "orders", "median", "95 %", "99 %"], rows),
        [Floor("delay of a lone order, embedded, 95 %", spread[1], DELAY, "s", ceiling=True, digits=2)],
    )


# --- the parts alone ---------------------------------------------------------------------------------------------


def parts(place: World, options: Options) -> Section:
    say("replay, recovery, state and the sink, each alone")
    found = alone.alone(place, list(data.orders(options.orders, options.orders // 5)))
    say(f"one customer with {options.history:,} orders")
    one, state = alone.one_customer(place, options.history)
    recovery = found.recovery.records / found.recovery.seconds
    sink, replay = found.sink, found.replay
    rows = [
        [
            f"**replay**: a worker alone, from nothing, on {replay.orders:,} orders",
            f"{number(replay.orders / replay.seconds)} orders/s, {number(replay.records / replay.seconds)} records/s",
        ],
        [
            f"**recovery**: a worker's tables from {found.recovery.records:,} changelog records",
            f"{number(recovery)} records/s",
        ],
        [
            f"**sink** alone: {sink.records:,} records into {sink.rows:,} rows",
            f"{number(sink.rows / sink.seconds)} rows/s, {number(sink.records / sink.seconds)} records/s",
        ],
        [
            f"**one customer** with {one.orders:,} orders, a worker alone",
            f"{number(one.orders / one.seconds)} orders/s, largest value {state.largest:,} bytes",
        ],
    ]
    return Section(
        "The parts alone",
        table(["what", ""], rows) + "\n\n" + _state(found),
        [Floor("recovery of tables from their changelogs", recovery, RECOVERY, "records/s")],
    )


def _state(found: alone.Alone) -> str:
    orders, customers = found.states["orders"], found.states["customers"]
    each = (orders.size + customers.size) / found.customers
    return (
        f"**State**, as compaction leaves the changelogs (keys and values): {customers.size / found.customers:,.0f}"
        f" bytes a customer in the customers' table, {orders.size / orders.keys:,.0f} bytes an order in the orders'"
        f" table; in all {each:,.0f} bytes a customer, who has {orders.keys / found.customers:.1f} orders."
    )


def where(_: World, options: Options) -> Section:
    say("where the folds' time goes")
    orders = min(options.orders, 20_000)
    found = folds.profile(list(data.orders(orders, orders // 5)))
    rows = [[step, f"{share:.0%}"] for step, share in found.shares]
    return Section(
        "Where the time goes",
        f"Most of the worker's time is the folds': {found.orders_us:.0f} µs an order in the order agent and"
        f" {found.customers_us:.0f} µs in the customer agent, run in one process without Kafka. Their profile"
        " (cProfile, which makes small functions look dearer than they are):\n\n"
        + table(["step", "share"], rows)
        + "\n\n"
        + report.TRIED.read_text(encoding="utf-8").strip(),
        [],
    )


# --- the whole ---------------------------------------------------------------------------------------------------


def machine(place: World) -> list[tuple[str, str]]:
    with psycopg.connect(place.database) as connection:
        postgres, timescale = connection.execute(
            "SELECT split_part(current_setting('server_version'), ' ', 1),"
            " (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
        ).fetchone() or ("", "")
    versions = {name: importlib.metadata.version(name) for name in ("faust-streaming", "aiokafka", "confluent-kafka")}
    clients = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [
        ("cores, memory", f"{psutil.cpu_count()}, {psutil.virtual_memory().total / 2**30:.0f} GB"),
        ("Python", platform.python_version()),
        ("Apache Kafka", f"{_kafka_version()}, one node"),
        ("PostgreSQL", f"{postgres}, TimescaleDB {timescale} ({place.timescale} edition)"),
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
        python = peers.HOME / "bench-peers" / "bin" / "python"
        return subprocess.check_output([str(python), "-c", ask], text=True).strip()
    except (OSError, subprocess.CalledProcessError):
        return "not measured"


#: What is measured, in the document's order, by the names that --only takes.
SECTIONS: Final[dict[str, Callable[[World, Options], Section]]] = {
    "orders": orders_a_second,
    "webhooks": webhooks,
    "delays": delays,
    "embedded": first_try,
    "past": store_with_a_past,
    "lake": large_shop,
    "csv": csv_of_a_large_shop,
    "dashboard": dashboard,
    "usual": usual_ways,
    "parts": parts,
    "where": where,
}


def measure(options: Options) -> str:
    """The document; with --only, the sections that were not asked for are those of the file, if one is written."""
    wanted = options.only or [name for name in SECTIONS if name != "usual" or options.usual]
    kept = options.output.with_suffix(".json") if options.output is not None else None
    found = report.read(kept) if kept is not None and options.only else {}
    with world() as place:
        for name, made in SECTIONS.items():
            if name in wanted:
                section = made(place, options)
                cells = [floor.cells() for floor in section.floors]
                found[name] = report.Measured(section.title, f"{datetime.now(UTC):%Y-%m-%d}", section.text, cells)
        facts = machine(place)
    found = {name: found[name] for name in SECTIONS if name in found}
    if kept is not None:
        report.write(kept, found)
    return report.document(facts, list(found.values()))


def read_options(words: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--orders", type=int, default=100_000, help="orders of each run through it all")
    parser.add_argument("--past", type=int, default=100_000, help="orders of the file that is brought in")
    parser.add_argument("--lake", type=int, default=10_000_000, help="orders of the large shop in the lake")
    parser.add_argument("--exported", type=int, default=1_000_000, help="customers of the large shop's CSV")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant")
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
    if found.quick:
        return Options(500, 1, 200, 100, 1.0, 1000, 2000, 3000, 60, 10, 2000 * peers_too, peers_too, found.output, only)
    output = found.output or (None if only else ROOT / "docs" / "benchmarks.md")
    return Options(
        *(found.orders, found.rounds, 50_000, 20_000, 30.0, found.past, found.lake, found.exported, 2000, 100),
        *(1_000_000 * peers_too, peers_too, output, only),
    )


def main() -> int:
    options = read_options()
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
