"""What the lake tells of a shop's past: who moved between segments, and who came back after their first order."""

import json
import sys
from typing import Annotated, Any

import typer

from cli.commands import common, show
from cli.commands.common import AsJson, CommandError, Data, Database
from events import instants, money
from events.programs import PROSPECTS, Program

_Shop = Annotated[str, typer.Option("--shop", help="The shop's domain.", show_default=False)]

#: Who was, or is, not known to the shop.
_NOBODY = "-"


def movement(
    shop: _Shop,
    since: Annotated[
        str, typer.Option("--from", help="As of when they stood before: a time, or a date (its midnight, UTC).")
    ],
    until: Annotated[str, typer.Option("--to", help="As of when they stand after, likewise.")] = "now",
    as_json: AsJson = False,
    database: Database = None,
    data: Data = None,
) -> None:
    """Show how many went from which segment to which between two instants, and what they were worth.

    Both are worked out from the history as of then. Those who stayed are there too; `-` is who was not known.
    """
    times = [instants.from_datetime(common.instant(each)) for each in (since, until)]
    with common.connected(common.read_settings(database=database, data=data)) as (settings, connection):
        from batch import frames
        from lake import manifest, past
        from lake.movement import STANDING, moves

        program, lake = frames.program(connection, common.shop_name(shop)), manifest.of(settings)
        before, after = (past.standings(connection, lake, program, at).read(*STANDING) for at in times)
    place = _places(program)
    found = sorted(
        moves(before, after).iter_rows(named=True), key=lambda each: (place(each["previous"]), place(each["current"]))
    )
    for each in found:
        for name in ("revenue_before", "revenue_after"):
            each[name] = money.decimal_text(each[name], program.currency)
    _shown(found, as_json, ("customers", "revenue_before", "revenue_after"))


def _places(program: Program) -> Any:
    """Where a segment stands among them, the best first; none of them last."""
    names = [*dict.fromkeys([*(name for row in program.grid for name in row), PROSPECTS])]
    return lambda name: (len(names) + (name is None), "") if name not in names else (names.index(name), name)


def cohorts(
    shop: _Shop,
    as_of: Annotated[
        str, typer.Option("--as-of", help="Of which time: 2026-01-31T00:00:00Z, a date (its midnight, UTC) or now.")
    ] = "now",
    as_json: AsJson = False,
    database: Database = None,
    data: Data = None,
) -> None:
    """Show of those whose first order fell into a month how many came back, month by month since.

    Months are the shop's. `repeat_rate` is of the cohort who had a second order by the end of the month.
    """
    at = instants.from_datetime(common.instant(as_of))
    with common.connected(common.read_settings(database=database, data=data)) as (settings, connection):
        from batch import frames
        from lake import cohorts as program_
        from lake import manifest

        program = frames.program(connection, common.shop_name(shop))
        found = program_.cohorts(connection, manifest.of(settings), program, at)
    rows = [
        {
            "month": f"{each.month:%Y-%m}",
            "months_since": since,
            "size": each.customers,
            "customers": month["customers"],
            "orders": month["orders"],
            "net": money.decimal_text(month["net"], program.currency),
            "repeat_rate": round(month["repeated"] / each.customers, 6),
        }
        for each in found
        for since, month in enumerate(each.months)
    ]
    _shown(rows, as_json, ("months_since", "size", "customers", "orders", "net", "repeat_rate"))


def _shown(rows: list[dict[str, Any]], as_json: bool, numbers: tuple[str, ...]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif not rows:
        raise CommandError("the shop had nobody then")
    else:
        show.rows([{name: _cell(value) for name, value in row.items()} for row in rows], numbers)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value or _NOBODY
