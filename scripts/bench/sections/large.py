"""A large shop: in the lake, as a CSV, on the dashboard, and beside the usual ways."""

from lake.manifest import Lake
from scripts.bench import analytics, exporting, lake, pages, report, usual
from scripts.bench.report import Floor, table
from scripts.bench.sections.section import Options, Section, say
from scripts.bench.world import World


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
    sizes = options.usual // 4, options.usual
    rows, times = [], dict[str, float]()
    for orders in sizes:
        say(f"the usual ways, of {orders:,} orders")
        found = usual.measure(place.folder / f"usual-{orders}", orders, options.rounds)
        times = {name: way.seconds / found[usual.OURS].seconds for name, way in found.items()}
        rows += [
            [f"{orders:,}", name, report.seconds(way.seconds), f"{way.cpu:,.1f} s", f"{times[name]:,.1f}"]
            for name, way in found.items()
        ]
    return Section(
        "Beside the usual ways",
        "RFM and segments of a shop, from its snapshots as Parquet to a name for each customer; each alone in a"
        " process, imports left out, in turns. Ours makes points and gives refunds and merges their due; theirs take"
        " the newest revision of each order. Of a larger shop they take more than in proportion. The floors are"
        f" of {options.usual:,} orders.\n\n" + table(["orders", "what", "time", "CPU", "times ours"], rows),
        [
            Floor("pandas' groupby and qcut, beside ours", times[usual.PANDAS], 30, "times", digits=1),
            Floor("pymc-marketing's summary and segments, beside ours", times[usual.PYMC], 30, "times", digits=1),
        ],
    )


def _csv_cells(told: str, found: exporting.Exported) -> list[str]:
    each = 1e6 / found.customers
    return [
        *(told, f"{found.size / 2**20:,.0f} MiB", f"{found.seconds:.1f} s", report.seconds(found.first)),
        *(f"{found.cpu * each:.1f}", f"{found.database_cpu * each:.1f}"),
    ]


def csv_of_a_large_shop(place: World, options: Options) -> Section:
    say(f"CSVs of {options.exported:,} customers")
    plain, found, listed = exporting.exports(place, options.exported)
    middle, late, latest = map(report.seconds, report.spread(found.waited))
    each = 1e6 / found.customers
    return Section(
        "CSV of a large shop",
        f"Everybody of a shop of {found.customers:,} customers through the API, read as fast as it comes; one in a"
        " hundred was merged into another. CPU time in microseconds a row:\n\n"
        + table(
            ["what was told of them", "size", "time", "first byte", "API's processes, µs", "PostgreSQL, µs"],
            [
                _csv_cells("no address, no consent", plain),
                _csv_cells("of seven in ten an address, of five a consent, each sealed with a key of their own", found),
            ],
        )
        + "\n\nThe floor was set when a million rows took 16.8 s; `python -m scripts.bench.before d24adc7 --only csv`"
        " runs that tree and this one in turns. Who asked for the second shop's segments meanwhile was answered in"
        f" {middle} (median), {late} (95 %), {latest} (99 %). Memory is of all the API's processes, beside what the API"
        " had before its first export.\n\n"
        "A list for Google (`preset=google`: whoever agreed, each address once, by the newest consent of anybody with"
        f" it, hashed) has {listed.rows:,} rows of the second shop and took **{listed.seconds:.1f} s**; CPU time a"
        f" customer: {listed.cpu * each:.1f} µs of the API's processes,"
        f" {listed.database_cpu * each:.1f} µs of PostgreSQL.",
        [
            Floor(
                "CSV of 1,000,000 customers of whom nothing sealed is known", plain.seconds * each, 8.0, "s", True, 1
            ),
            Floor(
                "the same with the addresses and consents of most, as it is aimed at",
                found.seconds * each,
                8.0,
                "s",
                True,
                1,
            ),
            Floor("first byte of either", max(plain.first, found.first) * 1000, 100.0, "ms", True),
            Floor(
                "memory that the API's processes grow by", max(plain.memory, found.memory) / 2**20, 100.0, "MiB", True
            ),
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
        " when the page stands, and what the browser's last pages have asked of that is still being worked out when the"
        " first call is asked. Then the pages stay open and a number moves twice a second.\n\n"
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
