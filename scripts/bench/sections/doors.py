"""The doors: webhooks, what is seen of them and when, and a past that is brought in."""

from api.webhooks.front_door import DELIVERIES_REMEMBERED
from scripts.bench import embedded, past, redeeming, report, steady, web
from scripts.bench.report import Floor, number, table
from scripts.bench.sections.section import Options, Section, say
from scripts.bench.world import World

#: Floors of docs and issues, a second or in seconds; a figure may be better, and says so itself.
WEBHOOKS, DELAY = 500, 1.0
TRIED, BROUGHT_IN = 50_000, 5_000

#: Orders a second.
RATE, BUSY = 100.0, 500.0
#: What a machine of two cores holds with everything on it.
STEADY = 200.0
#: Milliseconds.
BUSY_DELAY = REDEMPTION_DELAY = 500
#: Redemptions a second; orders and redemptions of a large account.
REDEEMED = 50.0
LARGE = 50_000, 5_000


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
        {"API": found.api_cpu / found.number},
    )


def delays(place: World, options: Options) -> Section:
    rows, floors = [], []
    for rate, seconds in ((RATE, options.seconds), (BUSY, options.busy)):
        say(f"delay from accepted to visible, at {rate:.0f} orders a second")
        found = web.delay(place, rate, seconds)
        seen, asked = report.spread(found.seen), report.spread(found.asked)
        at = f"at {rate:.0f} a second for {seconds:.0f} s"
        rows += [
            [f"{at}: the customer's row is there", f"{len(found.seen):,}", *map(report.seconds, seen)],
            [f"{at}: `GET customers/{{id}}` shows it", f"{len(found.asked):,}", *map(report.seconds, asked)],
        ]
        floors.append((seen, asked))
    (seen, asked), (busy, busy_asked) = floors
    return Section(
        "From accepted to visible",
        "Orders sent on schedule, each by a new customer, through API, Kafka, worker and sink. The clock runs from the"
        " 200 to the moment when the customer's row can be read: every row is looked up on the notice that the sink's"
        " commit gives (LISTEN), and every 20th customer is asked for through the API every 10 ms from the 200 on.\n\n"
        + table(["until", "orders", "median", "95 %", "99 %"], rows),
        [
            Floor("delay from accepted to visible, 95 %", max(seen[1], asked[1]), DELAY, "s", ceiling=True, digits=2),
            Floor(
                f"the same at {BUSY:.0f} orders a second, 99 %",
                max(busy[2], busy_asked[2]) * 1000,
                BUSY_DELAY,
                "ms",
                ceiling=True,
            ),
        ],
    )


def redemptions(place: World, options: Options) -> Section:
    say(f"{REDEEMED:.0f} redemptions a second beside {BUSY:.0f} orders")
    found = redeeming.redeemed(place, REDEEMED, BUSY, options.seconds)
    answered, bought = report.spread(found.took), report.spread(found.orders)
    small, large = redeeming.decided(10, 10), redeeming.decided(*LARGE)
    return Section(
        "Redemptions beside orders",
        f"{REDEEMED:.0f} redemptions a second for {options.seconds:.0f} s, by {redeeming.CUSTOMERS} customers in turns,"
        f" beside {BUSY:.0f} orders a second: each answered once what was decided stands in the history.\n\n"
        + table(
            ["until it is answered", "requests", "median", "95 %", "99 %"],
            [
                ["a redemption", f"{len(found.took):,}", *map(report.seconds, answered)],
                ["an order's webhook", f"{len(found.orders):,}", *map(report.seconds, bought)],
            ],
        )
        + f"\n\nThe decision itself, where points live for a year: {small * 1000:.2f} ms in an account of ten orders"
        f" and ten redemptions, {large * 1000:.2f} ms in one of {LARGE[0]:,} and {LARGE[1]:,}.",
        [Floor("redemption asked to answered, 95 %", answered[1] * 1000, REDEMPTION_DELAY, "ms", ceiling=True)],
    )


def steady_load(place: World, options: Options) -> Section:
    say(f"a steady {STEADY:.0f} orders a second for {options.steady:.0f} s")
    found = steady.steady(place, STEADY, options.steady)
    picture = ""
    if options.quix and options.output is not None:
        file = options.output.parent / "pictures" / "steady.svg"
        steady.draw(found, file)
        picture = f"![Rate, lag and memory over time]({file.relative_to(options.output.parent)})\n\n"
    # The first tenth is everybody's start.
    looks = found.looks[len(found.looks) // 10 :]
    first, last = looks[0], looks[-1]
    spent = last.at - first.at
    rows = [
        [
            name,
            *(f"{look.memory[name] / 2**20:,.0f}" for look in (first, looks[len(looks) // 2], last)),
            f"{(last.cpu[name] - first.cpu[name]) / spent:.0%}",
        ]
        for name in first.memory
    ]
    behind = sorted(look.behind for look in looks)
    late = report.spread(found.took)
    return Section(
        "Ten minutes at a steady rate",
        f"{STEADY:.0f} orders a second for {options.steady:.0f} s by {steady.CUSTOMERS:,} customers who buy again and"
        " again, through API, Kafka, worker, sink and PostgreSQL."
        f" {(last.stored - first.stored) / spent:,.0f} records a second were stored; {behind[len(behind) // 2]:,} were"
        f" not yet (median; {behind[-1]:,} at most); webhooks were answered in {report.seconds(late[0])} (median),"
        f" {report.seconds(late[2])} (99 %). What grows is the worker's state (each order is kept), and what"
        f" the API remembers, until that is full: its last {DELIVERIES_REMEMBERED:,} deliveries.\n\n"
        + picture
        + table(["memory, MiB", "after the start", "half-way", "at the end", "CPU, of a core"], rows),
        [],
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
