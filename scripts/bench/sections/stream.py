"""The stream: orders a second, the parts alone, and where the time goes."""

from collections.abc import Callable, Sequence
from statistics import median

from scripts.bench import abreast, alone, data, folds, mixed, peers, report, through
from scripts.bench.report import Floor, number, table
from scripts.bench.sections.section import Options, Section, say
from scripts.bench.world import World

FAUST, QUIX, BYTEWAX, OURS = "plain Faust", "Quix Streams", "Bytewax", "LoyalNest"
PARTS = "LoyalNest's parts"

#: Records a second.
RECOVERY = 100_000

#: The one-table job has so many times the orders: of fewer it makes little more than a beginning and an end.
_LONGER = 3

_WHO = {
    OURS: "both agents (order state, then points, RFM, windows), every record out delivered before its state,"
    " and all of it stored in PostgreSQL by the sink",
    FAUST: "`table[customer] += amount` in one agent, Faust's default settings, changelog to Kafka",
    QUIX: "`state[customer] += amount`, Quix Streams' default settings, RocksDB and a changelog to Kafka",
}

_JOBS = {
    PARTS: "our transport, guard and table, a changelog in Kafka",
    QUIX: "Quix Streams' default settings, RocksDB and a changelog to Kafka",
    BYTEWAX: "Bytewax's default settings, snapshots in SQLite",
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
        peers.python_with("quix")
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
            Floor("the same, as it is aimed at", _ratio(rates), 2.2, "times", digits=2),
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
    names = through.NAMES
    rows = [[OURS, *(_us(ours, name) for name in names), _us(ours, *names)]]
    for who, found in theirs.items():
        rows.append([who, _us(found, "itself"), "", _us(found, "Kafka"), "", _us(found, "itself", "Kafka")])
    return "CPU time an order takes, in microseconds:\n\n" + table(["", "agents", *names[1:], "in all"], rows)


def _us(runs: Sequence[through.Through] | Sequence[peers.Peer], *names: str) -> str:
    return f"{median(sum(run.cpu[name] for name in names) / run.orders for run in runs) * 1e6:.0f}"


def one_table(place: World, options: Options) -> Section:
    """The peers' job by our own parts."""
    wanted = _LONGER * options.orders
    orders = list(data.orders(wanted, wanted // 5))
    doing: dict[str, Callable[[World, list[data.Order]], peers.Peer]] = {PARTS: peers.one_table}
    if options.quix:
        for name in ("quix", "bytewax"):
            peers.python_with(name)
        doing |= {QUIX: peers.quix, BYTEWAX: peers.bytewax}
    found: dict[str, list[peers.Peer]] = {who: [] for who in doing}
    for at in range(options.rounds):
        for who, does in doing.items():
            say(f"the one-table job, round {at + 1} of {options.rounds}: {who}")
            found[who].append(does(place, orders))
    rates = {who: [each.orders / each.seconds for each in runs] for who, runs in found.items()}
    ours = median(rates[PARTS])
    rows = [
        [
            f"**{who}**: {_JOBS[who]}",
            ", ".join(map(number, rates[who])),
            number(median(rates[who])),
            *(_us(runs, name) for name in ("itself", "Kafka")),
            f"{ours / median(rates[who]):.2f}",
        ]
        for who, runs in found.items()
    ]
    head = [
        "who, and what it does",
        "orders/s, each round",
        "median",
        "CPU, µs an order",
        "Kafka, µs",
        "ours beside it",
    ]
    return Section(
        "The one-table job",
        f"`table[customer] += amount` over {len(orders):,} orders, keyed by customer: what the peers were made"
        " for. Ours runs from its being ready until every sum is on the changelog, and the sums are checked; the peers"
        " run from their first order until they have ended by themselves, their last checkpoint done.\n\n"
        + table(head, rows),
        [
            Floor(f"the one-table job, beside {who}", ours / median(rates[who]), 2.0, "times", digits=2)
            for who in found
            if who != PARTS
        ],
    )


def two_workers(place: World, options: Options) -> Section:
    orders = list(data.orders(options.orders, options.orders // 5))
    found: dict[int, list[abreast.Abreast]] = {1: [], 2: []}
    for at in range(options.rounds):
        for workers, runs in found.items():
            say(f"workers side by side, round {at + 1} of {options.rounds}: {workers}")
            runs.append(abreast.abreast(place, orders, workers))
    rates = {workers: [each.orders / each.seconds for each in runs] for workers, runs in found.items()}
    rows = [
        [
            str(workers),
            ", ".join(map(number, rates[workers])),
            number(median(rates[workers])),
            f"{median(each.cpu / each.orders for each in runs) * 1e6:.0f}",
        ]
        for workers, runs in found.items()
    ]
    ratio = median(rates[2]) / median(rates[1])
    return Section(
        "Two workers beside one",
        f"{len(orders):,} orders are sent to workers that share the 8 partitions and wait; from the first order sent to"
        " the last points record. No sink runs; who sends, and Kafka, share the cores with the workers.\n\n"
        + table(["workers", "orders/s, each round", "median", "CPU of the workers, µs an order"], rows),
        [Floor("two workers beside one", ratio, 1.5, "times", digits=2)],
    )


def store_of_all_topics(place: World, options: Options) -> Section:
    say("a store's topics as they come")
    found = mixed.mixed(place, options.mixed // 10, options.mixed)
    names = [f"{count:,} `{name}`" for name, count in found.came.most_common()]
    rows = [
        [each, *(f"{found.cpu[name] / count * 1e6:.0f}" for name in through.NAMES)]
        for each, count in (("a webhook", found.webhooks), ("an order", found.orders))
    ]
    return Section(
        "A store's topics as they come",
        f"A generated store's {found.webhooks:,} webhooks ({', '.join(names)}; some of them twice) of"
        f" {found.orders:,} orders, sealed and written by the front door, lie on the topics before the clock starts;"
        f" then one worker and one sink take **{number(found.webhooks / found.seconds)} webhooks a second** until the"
        " last row is stored. CPU time in microseconds:\n\n" + table(["", "agents", *through.NAMES[1:]], rows),
        [],
        {
            **{name: found.cpu[name] / found.orders for name in through.NAMES},
            "webhooks": found.webhooks / found.orders,
            "database": found.size / found.orders,
        },
    )


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
            (
                f"{number(sink.rows / sink.seconds)} rows/s, {number(sink.records / sink.seconds)} records/s;"
                f" {sink.size / replay.orders:,.0f} bytes an order in the database, indexes and all"
            ),
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
        {
            "recovery": recovery,
            "customer": found.states["customers"].size / found.customers,
            "order": found.states["orders"].size / found.states["orders"].keys,
        },
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
