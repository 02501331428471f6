"""Dead letters, and what privacy laws ask for."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from books import dead_letters, privacy
from books.master_keys import master_keys, rotate
from books.vault import Vault
from cli.commands import common, show
from cli.commands.common import AsJson, CommandError, Data, Database, Kafka, Shop
from cli.stack import embedded, home
from events import keys
from events.errors import BadEvent
from imports import spool
from runtime import database
from runtime.database import Pool
from runtime.settings import Settings

letters_app = typer.Typer(no_args_is_help=True, help="Messages that could not be used.")
privacy_app = typer.Typer(no_args_is_help=True, help="What a customer may ask for by law.")

OfShop = Annotated[str | None, typer.Option("--shop", help="Only this shop's.", show_default=False)]
OfError = Annotated[str | None, typer.Option("--error", help="Only those with this error.", show_default=False)]


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    pool = database.pool(settings.database_url(), "loyalnest", size=2)
    await pool.open(wait=True, timeout=15)
    try:
        yield pool
    finally:
        await pool.close()


def _shown(letter: dead_letters.DeadLetterRow) -> dict[str, Any]:
    return {**letter._asdict(), "sealed": letter.sealed is not None}


@letters_app.command("list")
def list_letters(
    shop: OfShop = None,
    error: OfError = None,
    unreplayed: Annotated[bool, typer.Option("--open", help="Only those not replayed yet.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most, newest first.")] = 100,
    as_json: AsJson = False,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Show dead letters, newest first."""

    async def listing(settings: Settings) -> list[dead_letters.DeadLetterRow]:
        async with _pool(settings) as pool:
            name = common.shop_name(shop) if shop else None
            return await dead_letters.listing(pool, shop=name, error=error, unreplayed=unreplayed, limit=limit)

    with common.attached(common.read_settings(database=database_url, data=data)) as settings:
        found = asyncio.run(listing(settings))
    if as_json:
        sys.stdout.write(json.dumps([_shown(each) for each in found], default=str, indent=2) + "\n")
        return
    for each in found:
        _show(each)
    if not found:
        common.out.print("No dead letters.")


def _show(letter: dead_letters.DeadLetterRow) -> None:
    """Its id and its cause whole, whatever the terminal's width: a row of seven columns can be read in none."""
    replayed = f", replayed {show.moment(letter.replayed_at)}" if letter.replayed_at else ""
    show.block(
        Text(f"{show.moment(letter.at)}  {letter.error}"),
        Text(str(letter.id)),
        Text(f"{letter.shop or 'no shop'}, from {letter.source}{replayed}"),
        Text(letter.detail),
    )


@letters_app.command("show")
def show_letter(
    ident: Annotated[str, typer.Argument(metavar="ID", help="An id, as `dead-letters list` shows it.")],
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Print a dead letter as JSON. A sealed body is opened with the master key: it may hold anybody's data."""

    async def showing(settings: Settings) -> dict[str, Any] | None:
        async with _pool(settings) as pool:
            found = await dead_letters.listing(pool, ids=[_uuid(ident)])
            if not found:
                return None
            body = None
            if found[0].sealed is not None:
                body = await dead_letters.opened(Vault(master_keys(settings), pool), found[0])
            return {**_shown(found[0]), "body": body and body.decode(errors="backslashreplace")}

    with common.attached(common.read_settings(database=database_url, data=data)) as settings:
        letter = asyncio.run(showing(settings))
    if letter is None:
        raise CommandError(f"there is no dead letter {ident}")
    sys.stdout.write(json.dumps(letter, default=str, indent=2, ensure_ascii=False) + "\n")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise typer.BadParameter("an id is a UUID, as `dead-letters list` shows it") from None


@letters_app.command("replay")
def replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids, as `dead-letters list` shows them.")] = None,
    shop: OfShop = None,
    error: OfError = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    renamed: Annotated[
        bool,
        typer.Option("--renamed", help="Their shop took another name: believe the header, not an order's page."),
    ] = False,
    kafka: Kafka = None,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Send dead letters again to where they came from, once the cause is gone. Twice does no harm."""
    if not (ids or shop or error or everything):
        raise typer.BadParameter("which ones? Give ids, --shop, --error or --all")
    chosen = [_uuid(each) for each in ids] if ids else None

    async def replaying(settings: Settings) -> list[dead_letters.Replayed]:
        async with _pool(settings) as pool, common.publishing(settings) as publisher:
            found = await dead_letters.listing(
                pool,
                shop=common.shop_name(shop) if shop else None,
                error=error,
                ids=chosen,
                unreplayed=chosen is None,
                limit=1_000_000,
            )
            vault = Vault(master_keys(settings), pool) if settings.master_key is not None else None
            now = datetime.now(UTC)
            return await dead_letters.replay(pool, vault, publisher, found, now, page=not renamed)

    settings = common.read_settings(kafka=kafka, database=database_url, data=data)
    with common.attached(settings) as complete, common.err.status("replaying"):
        outcomes = asyncio.run(replaying(complete))
    for outcome in outcomes:
        if outcome.problem is not None:
            common.out.print(f"{outcome.letter.id} was not replayed: {outcome.problem}", markup=False)
    done = sum(outcome.problem is None for outcome in outcomes)
    common.out.print(f"{done} of {len(outcomes)} dead letters replayed.")


@privacy_app.command("export")
def export(
    shop: Shop,
    customer: Annotated[str, typer.Argument(help="The customer's id.", show_default=False)],
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Print all that is kept of a customer as JSON (customers/data_request)."""

    async def exporting(settings: Settings) -> dict[str, Any]:
        async with _pool(settings) as pool:
            vault = Vault(master_keys(settings), pool)
            return await privacy.export(pool, vault, common.shop_name(shop), customer)

    with common.attached(common.read_settings(database=database_url, data=data)) as settings:
        found = asyncio.run(exporting(settings))
    if found["customer"] is None and not found["events"]:
        raise CommandError(f"nothing is kept of customer {customer} of {common.shop_name(shop)}")
    sys.stdout.write(json.dumps(found, indent=2, default=str) + "\n")


@privacy_app.command("redact")
def redact(
    shop: Shop,
    customer: Annotated[str, typer.Argument(help="The customer's id.", show_default=False)],
    kafka: Kafka = None,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Forget a customer for good, as customers/redact does: their address can never be read again."""
    try:
        ident = keys.customer_id(customer)
    except BadEvent:
        raise typer.BadParameter(
            "a customer's id is a number, or mail-... of who is known by an address alone"
        ) from None

    async def redacting(settings: Settings) -> None:
        async with _pool(settings) as pool, common.publishing(settings) as publisher:
            vault = Vault(master_keys(settings), pool)
            name = common.shop_name(shop)
            await privacy.redact(vault, publisher, name, ident, datetime.now(UTC))
            async with pool.connection() as connection:
                await spool.sweep(connection, settings.data / spool.FOLDER)

    settings = common.read_settings(kafka=kafka, database=database_url, data=data)
    with common.attached(settings) as complete:
        asyncio.run(redacting(complete))
    common.out.print(f"Customer {ident} of {common.shop_name(shop)} is forgotten.")


@privacy_app.command("rotate-master")
def rotate_master(database_url: Database = None, data: Data = None) -> None:
    """Wrap every customer's key with a new master key; broken off, it goes on when given again.

    Set LOYALNEST_MASTER_KEY to the new and the old one, comma separated, in every process first. Where there is none,
    embedded, a new one is made: end `loyalnest up` before.
    """
    settings = common.read_settings(database=database_url, data=data)
    kept = settings.master_key is None
    if kept and home.running(settings.data) is not None:
        raise CommandError("`loyalnest up` knows only the master key that there is: end it first")
    if kept and not embedded.begin_rotation(settings.data):
        raise CommandError("LOYALNEST_MASTER_KEY is not set: give the new and the old one, comma separated")
    with common.connected(settings) as (complete, connection), common.err.status("wrapping keys anew") as status:
        found = rotate(connection, master_keys(complete), lambda done: status.update(f"{done:,} keys wrapped anew"))
    if found.unreadable:
        raise CommandError(
            f"{found.unreadable:,} keys open with none of these master keys; {found.rewrapped:,} were done"
        )
    if kept:
        embedded.end_rotation(settings.data)
    common.out.print(f"{found.rewrapped:,} keys wrapped anew: nothing needs the old master key any more.")
