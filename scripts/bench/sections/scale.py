"""What many shops take on their busiest day, reckoned from what the other sections measured."""

from collections.abc import Mapping
from typing import Final

from scripts.bench import through
from scripts.bench.report import number, table
from scripts.bench.sections.section import Section

#: The shops, and how their customers buy.
SHOPS: Final = 5_000
CUSTOMERS: Final = 50_000
ORDERS_A_YEAR: Final = 4

#: The busiest day has a thirtieth of the year's orders, its busiest hour a tenth of them, and its busiest minute goes
#: twice as fast.
DAY: Final = 1 / 30
HOUR: Final = 1 / 10
MINUTE: Final = 2

#: Whose figures are needed.
OF: Final = ("webhooks", "mixed", "parts")


def reckoned(figures: Mapping[str, float]) -> Section:
    """CPU in seconds an order (by process) or a webhook (API), bytes, and webhooks an order: of OF's sections."""
    year = SHOPS * CUSTOMERS * ORDERS_A_YEAR
    day = year * DAY
    rates = {"the day": day / 86_400, "its busiest hour": day * HOUR / 3600}
    rates["its busiest minute"] = rates["its busiest hour"] * MINUTE
    costs = {name: figures[name] for name in through.NAMES} | {"API": figures["API"] * figures["webhooks"]}
    rows = [
        [name, f"{cost * 1e6:.0f}", *(f"{rate * cost:.2f}" for rate in rates.values())] for name, cost in costs.items()
    ]
    rows.append(
        [
            "in all",
            f"{sum(costs.values()) * 1e6:.0f}",
            *(f"{rate * sum(costs.values()):.1f}" for rate in rates.values()),
        ]
    )
    tables = SHOPS * CUSTOMERS * figures["customer"], year * figures["order"]
    return Section(
        "What many shops take",
        f"Reckoned from the sections above: {SHOPS:,} shops of {CUSTOMERS:,} customers who buy {ORDERS_A_YEAR} times a"
        f" year, {number(year)} orders, each with {figures['webhooks']:.1f} webhooks. On the busiest day there are"
        f" {number(day)} ({number(rates['the day'])} a second), in its busiest hour"
        f" {number(rates['its busiest hour'])} a second, in its busiest minute {number(rates['its busiest minute'])}."
        " Cores of this machine, used to the full:\n\n"
        + table(["", "µs an order", *rates], rows)
        + f"\n\nThe worker's tables have {tables[0] / 1e9:,.0f} GB of customers and {tables[1] / 1e9:,.0f} GB of a"
        f" year's orders, which one process would read back in"
        f" {(SHOPS * CUSTOMERS + year) / figures['recovery'] / 3600:,.1f} h. The database grows by"
        f" {year * figures['database'] / 1e12:,.1f} TB a year, uncompressed, {day * figures['database'] / 1e9:,.0f} GB"
        " of it on that day.",
        [],
    )
