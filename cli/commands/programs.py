"""A shop's program: shown, and changed from a file or by options."""

import asyncio
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from books import programs
from cli.commands import common
from cli.commands.common import CommandError, Data, Database, Kafka, Shop
from events import instants
from events.errors import BadEvent
from events.programs import Policies, Program
from runtime import database
from runtime.settings import Settings

programs_app = typer.Typer(no_args_is_help=True, help="A shop's program: point rules, look-back, grid, zone, rewards.")


Locale = Annotated[
    str | None,
    typer.Option("--locale", help="How its numbers, money and dates are written, such as de-DE.", show_default=False),
]


class Refunds(StrEnum):
    """How a refund counts."""

    GOODS = "goods"
    GOODS_AND_ADJUSTMENTS = "goods_and_adjustments"
    MONEY = "money"


class Taxes(StrEnum):
    """Whether net holds the tax that prices hold."""

    AS_PRICED = "as_priced"
    EXCLUDED = "excluded"


def say_when(settings: Settings) -> None:
    """That nothing is running that would take a change in, where that is so."""
    if settings.kafka is None:
        common.err.print("It takes effect when `loyalnest up` starts.")


def announce(settings: Settings, shop: str, change: programs.Change) -> None:
    """Announce what `change` makes of the shop's program; CommandError if it may not follow."""

    async def announcing() -> None:
        async with (
            await database.connect_async(settings.database_url(), "loyalnest", autocommit=True) as connection,
            common.publishing(settings) as publisher,
        ):
            await programs.announce(connection, publisher, shop, change)

    try:
        asyncio.run(announcing())
    except BadEvent as error:
        raise CommandError(f"{error.detail}") from None


@programs_app.command("get")
def get_program(shop: Shop, database: Database = None, data: Data = None) -> None:
    """Print a shop's program as JSON."""
    with common.connected(common.read_settings(database=database, data=data)) as (_, connection):
        program = programs.known(connection, common.shop_name(shop))
    if program is None:
        raise CommandError(f"there is no shop {common.shop_name(shop)}; `loyalnest shops list` shows those there are")
    sys.stdout.write(json.dumps(program.model_dump(mode="json"), indent=2) + "\n")


@programs_app.command("set")
def set_program(
    shop: Shop,
    file: Annotated[
        Path | None, typer.Argument(help="A program as `programs get` prints it; - reads stdin.", show_default=False)
    ] = None,
    points_per_unit: Annotated[
        str | None, typer.Option("--points-per-unit", help="Append a rule: points per 1.00 of the currency.")
    ] = None,
    effective_from: Annotated[
        str | None,
        typer.Option("--from", help="When what is appended takes effect: RFC 3339, 15 minutes ahead at least."),
    ] = None,
    refunds: Annotated[
        Refunds | None, typer.Option("--refunds", help="Append a policy: what a refund takes off an order.")
    ] = None,
    taxes: Annotated[
        Taxes | None, typer.Option("--taxes", help="Append a policy: whether tax that the prices hold counts.")
    ] = None,
    zone: Annotated[str | None, typer.Option("--zone", help="IANA time zone.")] = None,
    locale: Locale = None,
    look_back_days: Annotated[
        int | None, typer.Option("--look-back-days", min=0, max=36_500, help="Days; 0: a whole life.")
    ] = None,
    batch_at: Annotated[str | None, typer.Option("--batch-at", help="Local time of the batch, HH:MM.")] = None,
    weekday: Annotated[
        str | None, typer.Option("--batch-weekday", help="Its day of the week, such as monday; any: every day.")
    ] = None,
    every: Annotated[
        int | None, typer.Option("--batch-every", min=0, help="Minutes: so often from that time on; 0: once.")
    ] = None,
    no_batch: Annotated[bool, typer.Option("--no-batch", help="No nightly batch.")] = False,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Change a shop's program: from a file, or by options. Rules and policies are only ever appended.

    Holds, expiry and rewards have commands of their own.
    """
    changes: dict[str, Any] = {"zone": zone, "locale": locale, "batch_at": batch_at}
    changes = {name: value for name, value in changes.items() if value is not None}
    if look_back_days is not None:
        changes["look_back_days"] = look_back_days or None
    if weekday is not None:
        changes["batch_weekday"] = None if weekday == "any" else weekday
    if every is not None:
        changes["batch_every"] = every or None
    if no_batch:
        changes |= dict.fromkeys(("batch_at", "batch_weekday", "batch_every"))
    policy = {name: each.value for name, each in (("refunds", refunds), ("taxes", taxes)) if each is not None}
    if (points_per_unit is None and not policy) != (effective_from is None):
        raise typer.BadParameter("a rule (--points-per-unit) or a policy (--refunds, --taxes) needs --from")
    name = common.shop_name(shop)
    given = _read(file) if file is not None else None

    def change(before: Program | None) -> Program:
        if before is None:
            raise CommandError(f"there is no shop {name}; add it with `loyalnest shops add {name}`")
        if given is not None and given.get("id") not in (None, str(before.id)):
            raise CommandError("somebody has changed the program since that file was printed: get it anew")
        wanted = (given or before.model_dump(mode="json")) | changes
        if points_per_unit is not None:
            rule = {"effective_from": common.instant(effective_from), "points_per_unit": points_per_unit}
            wanted["rules"] = [*wanted["rules"], rule]
        if policy:
            at = common.instant(effective_from)
            before_it = Policies(before).at(instants.from_datetime(at)).model_dump(mode="json")
            listed = wanted.get("policies", before.model_dump(mode="json")["policies"])
            wanted["policies"] = [*listed, before_it | policy | {"effective_from": at}]
        newer = Program.model_validate(wanted)
        if newer.shop != name:
            raise CommandError(f"the program is that of {newer.shop}, not of {name}")
        return newer

    with common.attached(common.read_settings(kafka=kafka, database=database, data=data)) as settings:
        announce(settings, name, change)
        common.out.print(f"Changed the program of {name}.")
        say_when(settings)


def _read(file: Path) -> dict[str, Any]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise CommandError(f"{file} holds no program: print one with `loyalnest programs get`")
    return found
