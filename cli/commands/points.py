"""A customer's points: given and taken by hand, taken back, and shown."""

import json
import sys
from typing import Annotated, Any, Final
from uuid import uuid4

import typer
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from rich.text import Text

from books import awards, ledger, programs
from books.awards import Award, MergedError, OtherBodyError
from cli.commands import asking, common, show
from cli.commands.asking import Customer
from cli.commands.common import AsJson, CommandError, Data, Database, Kafka, Shop
from events import instants
from events.awards import WORDS, Body
from events.money import MAX_POINTS
from events.names import NAME_ALONE
from runtime.settings import Settings

points_app = typer.Typer(no_args_is_help=True, help="A customer's points: give, take, redeem, look.")

Name = Annotated[str, typer.Argument(metavar="ID", help="What the adjustment is called.", show_default=False)]

#: What asks for what a command asks for.
_SOURCE: Final = "manual"

#: So many of the ledger's entries are shown.
_LATEST: Final = 10

_CUSTOMER: Final = b"""
SELECT now, balance, pending, earned, spent, expired, expiring, expires_at, merged_into FROM customers
WHERE shop = %s AND customer_id = %s
"""


@points_app.command("adjust", context_settings={"ignore_unknown_options": True})  # -50 is no option
def adjust(
    shop: Shop,
    customer: Customer,
    points: Annotated[int, typer.Argument(help="Above 0 given, below 0 taken.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="One line; nothing that says who somebody is.")] = "",
    name: Annotated[
        str | None,
        typer.Option("--id", help="What it is called: asking again by it changes nothing.", show_default="a new one"),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="When they are given: RFC 3339 or a date.", show_default="now")
    ] = None,
    earned: Annotated[bool, typer.Option("--earned", help="They count among what was ever earned.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Take them only if so many can be spent: all of them, or none.")
    ] = False,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Give a customer points, or take some: `loyalnest points adjust SHOP CUSTOMER -50`."""
    full, whose, name = common.shop_name(shop), asking.customer_id(customer), name or uuid4().hex
    wanted = _wanted(points, reason, name, at, earned)
    if check and (points > 0 or at is not None or earned):
        raise typer.BadParameter("--check is of points below 0, without --at and --earned")

    async def giving(settings: Settings, connection: AsyncConnection[Any]) -> tuple[Award, bool]:
        if await programs.known_async(connection, full) is None:
            raise CommandError(f"there is no shop {full}; `loyalnest shops list` shows those there are")
        standing = await awards.claim(connection, full, whose, name, wanted, at_will=at is None, check=check)
        known = standing.stored_at is not None
        if not known:
            await asking.publish(settings, standing.asked(full, whose, asking.now()))
            standing = await _stored(settings, connection, full, whose, standing, voided=False)
        return standing, known

    try:
        settings, (standing, known) = asking.run(giving, kafka=kafka, database=database, data=data)
    except OtherBodyError:
        raise CommandError(f"{name} is called another adjustment of {whose}: take another --id") from None
    except MergedError as merged:
        raise CommandError(f"{whose} was merged: they are {merged.into} now") from None
    if standing.refused is not None:
        raise CommandError(f"refused: {_why(standing)}; it is called {name}")
    done = "gave" if points > 0 else "took"
    if check and standing.stored_at is None:
        done = "to take"
    said = f"{abs(points):,} points {'to' if points > 0 else 'from'} {whose}, called {name}"
    there = f"it was taken back {show.moment(standing.voided_at)}" if standing.voided_at else "it is there already"
    common.out.print(f"Nothing to do, {there}: {said}." if known else f"{done.capitalize()} {said}.", markup=False)
    _say_stored(settings, standing)


def _wanted(points: int, reason: str, name: str, at: str | None, earned: bool) -> Body:
    now = asking.now()
    when = now if at is None else instants.from_datetime(common.instant(at))
    if points == 0 or abs(points) > MAX_POINTS:
        raise typer.BadParameter(f"points are other than 0, and {MAX_POINTS} at most")
    if not 0 <= when <= now:
        raise typer.BadParameter("--at is a time that has been")
    asking.check_name(name, NAME_ALONE)
    asking.check_reason(reason, WORDS)
    return Body(when, points, reason, _SOURCE, earned)


@points_app.command("void")
def void(
    shop: Shop,
    customer: Customer,
    name: Name,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Take an adjustment back, for ever: its points are as if they had never been."""
    full, whose = common.shop_name(shop), asking.customer_id(customer)
    asking.check_name(name, NAME_ALONE)

    async def voiding(settings: Settings, connection: AsyncConnection[Any]) -> tuple[Award, bool]:
        found = await awards.known(connection, full, whose, name)
        if found is None:
            raise CommandError(f"{whose} has no adjustment called {name}")
        if found.over:
            return found, True
        await asking.publish(settings, found.voided(full, whose, asking.now()))
        return await _stored(settings, connection, full, whose, found, voided=True), False

    settings, (standing, known) = asking.run(voiding, kafka=kafka, database=database, data=data)
    if standing.refused is not None:
        common.out.print(f"Nothing to do: {name} was refused.", markup=False)
        return
    if known:
        at = show.moment(standing.voided_at) if standing.voided_at else ""
        common.out.print(f"Nothing to do: {name} was taken back {at}.", markup=False)
        return
    common.out.print(f"Took {name} back: {standing.body.points:,} points of {whose}.", markup=False)
    _say_stored(settings, standing)


@points_app.command("show")
def show_points(
    shop: Shop, customer: Customer, as_json: AsJson = False, database: Database = None, data: Data = None
) -> None:
    """Show a customer's account, and the latest entries of their ledger."""
    full, whose = common.shop_name(shop), asking.customer_id(customer)

    async def looking(_: Settings, connection: AsyncConnection[Any]) -> tuple[dict[str, Any] | None, list[Any]]:
        cursor = connection.cursor(row_factory=dict_row)
        await cursor.execute(_CUSTOMER, (full, whose))
        row = await cursor.fetchone()
        asked = {"shop": full, "customer": whose, "limit": _LATEST - 1, **ledger.NEWEST}
        await cursor.execute(ledger.PAGE, asked)
        names = ("posted_at", "kind", "points", "source", "source_id")
        return row, [{name: each[name] for name in names} for each in await cursor.fetchall()]

    _, (row, entries) = asking.run(looking, database=database, data=data)
    if row is None:
        raise CommandError(f"{full} has no customer {whose} (or no event of theirs has come yet)")
    if as_json:
        sys.stdout.write(json.dumps({**row, "ledger": entries}, default=str, indent=2) + "\n")
        return
    show.block(Text(f"{whose} of {full}, as of {show.moment(row['now'])}"), *_account(row))
    if entries:
        shown = [
            {
                "posted": show.moment(each["posted_at"]),
                "points": f"{each['points']:+,}",
                "kind": each["kind"],
                "of": f"{each['source']} {each['source_id']}",
            }
            for each in entries
        ]
        show.rows(shown, numbers=("points",))


def _account(row: dict[str, Any]) -> list[Text]:
    balance = row["balance"]
    lines = [f"{balance:,} points can be spent" if balance >= 0 else f"{-balance:,} points are owed"]
    if row["pending"]:
        lines.append(f"{row['pending']:,} cannot be spent yet")
    lines.append(f"{row['earned']:,} ever earned, {row['spent']:,} taken, {row['expired']:,} ran out")
    if row["expires_at"] is not None:
        lines.append(f"{row['expiring']:,} run out at {show.moment(row['expires_at'])}")
    if row["merged_into"] is not None:
        lines.append(f"merged into {row['merged_into']}, who has all of it")
    return [Text(line) for line in lines]


def _why(found: Award) -> str:
    if found.refused == "insufficient-points":
        return f"{-found.body.points:,} points were to be taken, and {found.balance:,} could be spent"
    return f"the customer is {found.refused}"


async def _stored(
    settings: Settings, connection: AsyncConnection[Any], shop: str, customer_id: str, award: Award, *, voided: bool
) -> Award:
    """The award as it is stored, if that is soon."""
    named = shop, customer_id, award.award_id

    async def look() -> Award | None:
        found = (await awards.stored(connection, [named])).get(named)
        return None if found is None or (voided and not found.over) else found

    return await asking.until(settings, look) or award._replace(stored_at=None)


def _say_stored(settings: Settings, award: Award) -> None:
    if award.stored_at is None:
        asking.say_durable(settings, "`loyalnest points show` tells when it is")
