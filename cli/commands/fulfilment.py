"""Fulfilment: in which stores the discounts of redemptions are made, and how far that is."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from psycopg import AsyncConnection
from rich.text import Text

from books import fulfilment, notices, programs
from books.fulfilment import Store
from books.master_keys import master_keys
from books.vault import Vault
from cli.commands import common, processes, show
from cli.commands.common import AsJson, CommandError, Data, Database, Shop
from runtime import database
from runtime.settings import Settings

fulfilment_app = typer.Typer(
    no_args_is_help=True, help="The discounts of redemptions in Shopify: in which stores they are made, and how far."
)

#: No token of Shopify's is longer.
_LONGEST: Final = 500

_NONE: Final = "nothing is made in {shop}; `loyalnest fulfilment set SHOP --token-file FILE` has it made"

_WHY: Final = {
    "failures": "after failures in a row",
    "throttled": "for it is busy",
    "refused": "for it does not let us in: set its token anew",
    "token": "for its token cannot be read: set it anew",
}


def _read_token(file: Path) -> str:
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not token or len(token) > _LONGEST or not token.isprintable() or " " in token:
        raise CommandError(f"{file} holds no token: one line, such as shpat_..., and nothing else")
    return token


@fulfilment_app.command("run")
def run(kafka_servers: processes.RealKafka = None, database_url: processes.RealDatabase = None) -> None:
    """Make the discounts of accepted redemptions in the stores that are set. Several share the work."""
    settings = processes.of_its_own(common.read_settings(kafka=kafka_servers, database=database_url))
    from fulfilment import main as program

    raise typer.Exit(program.main(settings, common.new_publisher(settings)))


@fulfilment_app.command("set")
def set_store(
    shop: Shop,
    token_file: Annotated[
        Path, typer.Option("--token-file", help="A file with the access token of its Admin API.", show_default=False)
    ],
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", help="Its Admin API, if it is not where the shop's domain says.", show_default=False
        ),
    ] = None,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Have the discounts of a shop's redemptions made in its store, from now on; or set its token anew.

    The token is kept sealed and never shown. It needs the scopes write_discounts, read_discounts, read_customers and
    read_products.
    """
    name = common.shop_name(shop)
    address = endpoint or fulfilment.admin_api(name)
    token = _read_token(token_file)

    async def setting(settings: Settings, connection: AsyncConnection[Any]) -> None:
        try:
            notices.check_url(address, private=settings.fulfilment_private)
        except ValueError as error:
            raise CommandError(f"that is no Admin API: {error}") from None
        if await programs.known_async(connection, name) is None:
            raise CommandError(f"there is no shop {name}; `loyalnest shops list` shows those there are")
        async with database.pool(settings.database_url(), "loyalnest", size=1) as pool:
            sealed = await Vault(master_keys(settings), pool).seal_token(name, token)
        if sealed is None:
            raise CommandError(f"{name} has been forgotten")
        await fulfilment.set_store(connection, name, address, sealed)

    common.asked(database_url, data, setting)
    common.out.print(f"Discounts of {name} are made at {address} from now on.", markup=False, soft_wrap=True)


@fulfilment_app.command("off")
def off(shop: Shop, database_url: Database = None, data: Data = None) -> None:
    """Make no more discounts in a shop's store, and forget its token. Redemptions wait until it is set again."""
    name = common.shop_name(shop)
    if not common.asked(database_url, data, lambda _, connection: fulfilment.off(connection, name)):
        raise CommandError(_NONE.format(shop=name))
    common.out.print("Off.")


@fulfilment_app.command("show")
def show_stores(
    shop: Annotated[str | None, typer.Argument(help="One shop alone.", show_default=False)] = None,
    as_json: AsJson = False,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Show in which stores discounts are made, whether one rests and why, and how many wait, were made, and failed."""
    name = None if shop is None else common.shop_name(shop)
    found: list[Store] = common.asked(database_url, data, lambda _, connection: fulfilment.stores(connection, name))
    if as_json:
        sys.stdout.write(json.dumps([each._asdict() for each in found], default=str, indent=2) + "\n")
        return
    for each in found:
        show.block(
            Text(each.shop),
            Text(each.endpoint if each.enabled else f"{each.endpoint} (off)"),
            Text(f"{each.waiting:,} wait, {each.retried:,} are tried again, {each.untold:,} are to be told"),
            Text(f"{each.withdrawing:,} were cancelled, and their discounts are to be withdrawn"),
            Text(f"{each.issued:,} made, {each.failed:,} failed, {each.failures} failures in a row{_rest(each)}"),
        )
    if not found:
        common.out.print(_NONE.format(shop=name or "any store"))


def _rest(store: Store) -> str:
    if store.rests_until is None:
        return ""
    why = _WHY.get(store.rests_why or "", "")
    error = f" ({store.last_error})" if store.last_error else ""
    return f", rests until {show.moment(store.rests_until)} {why}{error}"
