"""Notices: the process that sends them, and, beside it, who is told and what did not arrive."""

import json
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import typer
from psycopg import AsyncConnection
from rich.text import Text

from books import notices, programs
from books.master_keys import master_keys
from books.vault import Vault
from cli.commands import common, processes, show
from cli.commands.common import AsJson, CommandError, Data, Database, Shop
from runtime import database
from runtime.settings import Settings

notices_app = typer.Typer(help="Send notices: what happened in a shop, to its integrators' endpoints; and set these.")

Endpoint = Annotated[UUID, typer.Argument(help="An endpoint's id, as `notices list` shows it.", show_default=False)]

_NONE: Final = "there is no such endpoint of this shop; `loyalnest notices list` shows those there are"


class _Status(StrEnum):
    """How far a message is."""

    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"


@notices_app.callback(invoke_without_command=True)
def send(context: typer.Context, database_url: processes.RealDatabase = None) -> None:
    """Send notices: what happened in a shop, to the endpoints that its integrators have set. Several share the work.

    With a word behind it: set these endpoints, try them, and send again what did not arrive.
    """
    if context.invoked_subcommand is not None:
        return
    settings = processes.of_its_own(common.read_settings(database=database_url), kafka=False)
    from notices import main as program

    raise typer.Exit(program.main(settings))


def _print(found: list[Any]) -> None:
    sys.stdout.write(json.dumps([each._asdict() for each in found], default=str, indent=2) + "\n")


@notices_app.command("list")
def list_endpoints(shop: Shop, as_json: AsJson = False, database_url: Database = None, data: Data = None) -> None:
    """Show a shop's endpoints, and whether messages arrive there."""
    name = common.shop_name(shop)
    found = common.asked(database_url, data, lambda _, connection: notices.listing(connection, name))
    if as_json:
        _print(found)
        return
    for each in found:
        rests = f", rests until {show.moment(each.rests_until)}" if each.rests_until else ""
        show.block(
            Text(each.url),
            Text(str(each.id)),
            Text(f"{', '.join(each.events)}, since {show.moment(each.created_at)}"),
            Text(f"{each.waiting:,} waiting, {each.dead:,} given up, {each.failures} failures in a row{rests}"),
        )
    if not found:
        common.out.print("Nobody is told yet: `loyalnest notices add SHOP URL`.")


@notices_app.command("add")
def add(
    shop: Shop,
    url: Annotated[str, typer.Argument(help="Where to tell it: https, a public address.", show_default=False)],
    event: Annotated[
        list[str] | None,
        typer.Option(
            "--event", help=f"Of what: {', '.join(notices.EVENTS)}; may be given several times. Without: all."
        ),
    ] = None,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Tell an endpoint from now on. Its secret is shown once, here."""
    name, events = common.shop_name(shop), sorted(set(event or notices.EVENTS))
    if not set(events) <= set(notices.EVENTS):
        raise typer.BadParameter(f"events are {', '.join(notices.EVENTS)}")

    async def adding(settings: Settings, connection: AsyncConnection[Any]) -> tuple[UUID, str]:
        try:
            notices.check_url(url, private=settings.notices_private)
        except ValueError as error:
            raise CommandError(f"that is no address to send to: {error}") from None
        if await programs.known_async(connection, name) is None:
            raise CommandError(f"there is no shop {name}; `loyalnest shops list` shows those there are")
        endpoint = uuid4()
        async with database.pool(settings.database_url(), "loyalnest", size=1) as pool:
            secret = await Vault(master_keys(settings), pool).notice_secret(name, endpoint)
        if secret is None:
            raise CommandError(f"{name} has been forgotten")
        if not await notices.create(connection, endpoint, name, url, events, datetime.now(UTC)):
            raise CommandError(f"{name} has {notices.MOST} endpoints: remove one first")
        return endpoint, notices.secret_text(secret)

    endpoint, secret = common.asked(database_url, data, adding)
    common.err.print(f"{endpoint} is told from now on. Keep its secret now, it is not shown again:")
    sys.stdout.write(f"{secret}\n")


@notices_app.command("remove")
def remove(shop: Shop, endpoint: Endpoint, database_url: Database = None, data: Data = None) -> None:
    """Tell an endpoint no more. What waits for it is dropped."""
    name = common.shop_name(shop)
    if not common.asked(database_url, data, lambda _, connection: notices.remove(connection, name, endpoint)):
        raise CommandError(_NONE)
    common.out.print("Removed.")


@notices_app.command("test")
def try_endpoint(shop: Shop, endpoint: Endpoint, database_url: Database = None, data: Data = None) -> None:
    """Send an endpoint a message of the type test, within a second. One that rests is woken."""
    name = common.shop_name(shop)

    async def testing(_: Settings, connection: AsyncConnection[Any]) -> notices.Notice:
        await _check(connection, name, endpoint)
        return await notices.test(connection, name, endpoint, datetime.now(UTC))

    made = common.asked(database_url, data, testing)
    common.out.print(f"Delivery {made.id} waits to be sent: `loyalnest notices deliveries` tells what became of it.")


async def _check(connection: AsyncConnection[Any], shop: str, endpoint: UUID) -> None:
    if not await notices.exists(connection, shop, endpoint):
        raise CommandError(_NONE)


@notices_app.command("deliveries")
def deliveries(
    shop: Shop,
    endpoint: Endpoint,
    status: Annotated[_Status | None, typer.Option("--status", help="Only these.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most, newest first.")] = 100,
    as_json: AsJson = False,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Show what an endpoint was told, what waits, and what was given up (--status dead), newest first."""
    name = common.shop_name(shop)

    async def listing(_: Settings, connection: AsyncConnection[Any]) -> list[notices.Notice]:
        await _check(connection, name, endpoint)
        return await notices.deliveries(connection, endpoint, status and status.value, notices.NEWEST, limit)

    found = common.asked(database_url, data, listing)
    if as_json:
        _print(found)
        return
    for each in found:
        why = f": {each.error}{f' {each.code}' if each.code else ''}" if each.error else ""
        show.block(
            Text(f"{each.id}  {each.event}, {each.status}"),
            Text(str(each.message)),
            Text(f"since {show.moment(each.created_at)}, {each.attempts} attempts{why}"),
        )
    if not found:
        common.out.print("None.")


@notices_app.command("replay")
def replay(
    shop: Shop,
    endpoint: Endpoint,
    ids: Annotated[list[int] | None, typer.Argument(help="Ids, as `notices deliveries` shows them.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that were given up.")] = False,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Send deliveries again, under their old ids and for three days more. An endpoint that rests is woken."""
    if bool(ids) == dead:
        raise typer.BadParameter("which ones? Give ids, or --dead")
    name = common.shop_name(shop)

    async def replaying(_: Settings, connection: AsyncConnection[Any]) -> tuple[int, int]:
        await _check(connection, name, endpoint)
        chosen = list(ids or ())
        if dead:
            given_up = await notices.deliveries(connection, endpoint, "dead", notices.NEWEST, 1_000_000)
            chosen = [each.id for each in reversed(given_up)]
        done = [await notices.replay(connection, endpoint, each) for each in chosen]
        return sum(each is not None for each in done), len(chosen)

    done, asked = common.asked(database_url, data, replaying)
    common.out.print(f"{done:,} of {asked:,} are sent again.")
