"""Shops, and the keys that may ask about them."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import psycopg
import typer

from books import api_keys, sessions, unknown_shops
from cli.commands import common, show
from cli.commands.common import AsJson, CommandError, Data, Database, Kafka, Shop
from cli.commands.programs import Locale, Refunds, Taxes, announce
from events import instants
from events.programs import FIRST_POLICY, Policies, Program
from runtime import database
from runtime.settings import Settings

shops_app = typer.Typer(no_args_is_help=True, help="The shops LoyalNest keeps.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys, each for one shop or several.")

_SCOPE = f"{', '.join(api_keys.SCOPES[:-1])} or {api_keys.SCOPES[-1]}; may be given several times."

#: Seconds until what came before a shop has surely been taken in, unless a long history is being replayed.
_STORED = 120.0


def _bring_in(connection: psycopg.Connection[Any], settings: Settings, shop: str) -> None:
    """What came before the shop was added, and was refused until now."""
    from batch.publishing import publishing

    publisher = common.new_publisher(settings)
    with common.err.status("taking in what came before"), publishing(publisher) as publish:
        sent, seen = unknown_shops.bring_in_and_wait(settings, connection, publish, shop, _STORED)
    if sent:
        common.out.print(f"{sent:,} messages from before have been taken in.")
    if not seen:
        common.err.print("What came before is not all taken in yet; the schedule goes on with it, and so does a batch.")


class _ThereAlready(Exception):
    pass


def ensure(settings: Settings, program: Program) -> bool:
    """Make the shop unless it is there; True if it was made."""

    def first(before: Program | None) -> Program:
        if before is not None:
            raise _ThereAlready
        return program

    try:
        announce(settings, program.shop, first)
    except _ThereAlready:
        return False
    return True


@shops_app.command("add")
def add(
    shop: Shop,
    currency: Annotated[
        str, typer.Option("--currency", help="The shop's currency, ISO 4217. It cannot change.")
    ] = "USD",
    zone: Annotated[str, typer.Option("--zone", help="IANA time zone of its days and of its nightly batch.")] = "UTC",
    locale: Locale = None,
    points_per_unit: Annotated[str, typer.Option("--points-per-unit", help="Points per 1.00 of the currency.")] = "1",
    look_back_days: Annotated[
        int, typer.Option("--look-back-days", min=0, max=36_500, help="Days that RFM looks back; 0: a whole life.")
    ] = 365,
    batch_at: Annotated[str, typer.Option("--batch-at", help="Local time of the nightly batch, HH:MM.")] = "01:00",
    no_batch: Annotated[bool, typer.Option("--no-batch", help="No nightly batch.")] = False,
    refunds: Annotated[
        Refunds, typer.Option("--refunds", help="What a refund takes off an order.")
    ] = Refunds.GOODS_AND_ADJUSTMENTS,
    taxes: Annotated[Taxes, typer.Option("--taxes", help="Whether tax that the prices hold counts.")] = Taxes.AS_PRICED,
    hold_days: Annotated[
        int, typer.Option("--hold-days", min=0, max=365, help="Days that points wait before they can be spent.")
    ] = 0,
    life_days: Annotated[
        int,
        typer.Option("--life-days", min=0, max=36_500, help="Days that points can be spent; 0: without end."),
    ] = 0,
    inactive_days: Annotated[
        int | None,
        typer.Option(
            "--inactive-days", min=30, max=36_500, help="Days without any activity after which they are lost."
        ),
    ] = None,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Add a shop with its first program."""
    program = Program.model_validate(
        {
            "shop": common.shop_name(shop),
            "currency": currency.upper(),
            "zone": zone,
            "locale": locale,
            "look_back_days": look_back_days or None,
            "batch_at": None if no_batch else batch_at,
            "rules": [{"points_per_unit": points_per_unit}],
            "policies": [FIRST_POLICY.model_dump() | {"refunds": refunds.value, "taxes": taxes.value}],
            "holds": [{"hold_days": hold_days}] if hold_days else [],
            "expiry": [
                *([{"life_days": life_days}] if life_days else []),
                *([{"inactive_days": inactive_days}] if inactive_days else []),
            ],
        }
    )
    settings = common.read_settings(kafka=kafka, database=database, data=data)
    with common.connected(settings) as (complete, connection):
        if not ensure(complete, program):
            raise CommandError(f"{program.shop} is there already; change it with `loyalnest programs set`")
        common.out.print(f"Added {program.shop}.")
        if complete.kafka is None:
            common.err.print("It takes effect when `loyalnest up` starts.")
        else:
            _bring_in(connection, complete, program.shop)


@shops_app.command("list")
def list_shops(as_json: AsJson = False, database: Database = None, data: Data = None) -> None:
    """Show every shop with its customers and points, and what its refunds and taxes are now."""
    query = """
        SELECT p.shop, p.program, count(c.customer_id) AS customers, coalesce(sum(c.balance), 0)::bigint AS points
        FROM (
            SELECT DISTINCT ON (shop) shop, program FROM (
                SELECT shop, program, judged_to AS at, 0 AS step FROM programs
                UNION ALL
                SELECT shop, program, announced_at, 1 FROM announcements
            ) AS known ORDER BY shop, at DESC, step
        ) AS p LEFT JOIN customers c USING (shop) GROUP BY 1, 2 ORDER BY 1
    """
    with common.connected(common.read_settings(database=database, data=data)) as (_, connection):
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        rows = [_shop(**row) for row in cursor.execute(query)]
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    if not rows:
        common.out.print("No shops yet: `loyalnest shops add SHOP`, or `loyalnest play`.")
        return
    shown = [
        {
            "shop": row["shop"],
            "currency": row["currency"],
            "zone": row["zone"],
            "batch": _when(row),
            "customers": f"{row['customers']:,}",
            "points": f"{row['points']:,}",
            "refunds": row["refunds"],
            "taxes": row["taxes"],
        }
        for row in rows
    ]
    show.rows(shown, numbers=("customers", "points"))


def _when(row: dict[str, Any]) -> str:
    """When its batch runs, by its zone's clocks."""
    if row["batch_at"] is None:
        return "never"
    if row["batch_every"] is not None:
        return f"every {row['batch_every']} min from {row['batch_at']}"
    return " ".join(filter(None, (row["batch_weekday"], row["batch_at"])))


def _shop(shop: str, program: dict[str, Any], customers: int, points: int) -> dict[str, Any]:
    """A row of the list. The policy is the one that holds just now."""
    found = Program.model_validate(program)
    policy = Policies(found).at(instants.from_datetime(datetime.now(UTC)))
    return {
        "shop": shop,
        **found.model_dump(include={"currency", "zone", "batch_at", "batch_weekday", "batch_every"}),
        "customers": customers,
        "points": points,
        **policy.model_dump(include={"refunds", "taxes"}),
    }


def create_key(settings: Settings, shop: str, name: str, scopes: list[str], more_shops: Sequence[str] = ()) -> str:
    """A new API key in full."""

    async def create() -> str:
        async with await database.connect_async(settings.database_url(), "loyalnest", autocommit=True) as connection:
            return await api_keys.create(connection, shop, name, scopes, datetime.now(UTC), more_shops)

    return asyncio.run(create())


@keys_app.command("create")
def create(
    shop: Shop,
    name: Annotated[str, typer.Option("--name", help="What it is for.")] = "unnamed",
    scope: Annotated[list[str], typer.Option("--scope", help=_SCOPE)] = ["read"],  # noqa: B006 - typer copies it
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Another shop that it opens; may be given several times.")
    ] = None,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Make an API key. It is shown once, here."""
    with common.attached(common.read_settings(database=database_url, data=data)) as settings:
        more = [common.shop_name(each) for each in also or ()]
        key = create_key(settings, common.shop_name(shop), name, scope, more)
    common.err.print("Keep it now, it is not shown again:")
    sys.stdout.write(f"{key}\n")


@keys_app.command("list")
def list_keys(
    shop: Annotated[str | None, typer.Argument(help="Only this shop's.", show_default=False)] = None,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Show API keys, without their secrets."""

    async def listing(settings: Settings) -> list[api_keys.ApiKey]:
        async with await database.connect_async(settings.database_url(), "loyalnest", autocommit=True) as connection:
            return await api_keys.listing(connection, common.shop_name(shop) if shop else None)

    with common.attached(common.read_settings(database=database_url, data=data)) as settings:
        found = asyncio.run(listing(settings))
    if not found:
        common.out.print("No keys yet: `loyalnest keys create SHOP`.")
        return
    shown = [
        {
            "id": key.id,
            "shops": ", ".join(key.shops),
            "name": key.name,
            "scopes": ", ".join(key.scopes),
            "created": show.moment(key.created_at),
            "revoked": show.moment(key.revoked_at) if key.revoked_at else "",
        }
        for key in found
    ]
    show.rows(shown)


@keys_app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it, or the key in full.")],
    database_url: Database = None,
    data: Data = None,
) -> None:
    """End an API key, from the next request on."""

    async def revoking(settings: Settings) -> bool:
        async with await database.connect_async(settings.database_url(), "loyalnest", autocommit=True) as connection:
            return await api_keys.revoke(connection, key, datetime.now(UTC))

    with common.attached(common.read_settings(database=database_url, data=data)) as settings:
        if not asyncio.run(revoking(settings)):
            raise CommandError("there is no such key; `loyalnest keys list` shows those there are")
    common.out.print("Revoked.")


def create_link(settings: Settings, shops: Sequence[str], scopes: Sequence[str], api: str) -> str:
    """An address that signs in on the dashboard, once."""

    async def create() -> str:
        async with await database.connect_async(settings.database_url(), "loyalnest", autocommit=True) as connection:
            return await sessions.make_link(connection, shops, scopes, datetime.now(UTC))

    return f"{api}/sign-in#{asyncio.run(create())}"


def sign_in(
    shops: Annotated[list[str], typer.Argument(help="The shop's domain; several may be given.", show_default=False)],
    scope: Annotated[list[str], typer.Option("--scope", help=_SCOPE)] = ["read", "export"],  # noqa: B006 - typer copies it
    address: Annotated[
        str | None, typer.Option("--address", help="Where the dashboard is, such as https://loyalty.example.")
    ] = None,
    database_url: Database = None,
    data: Data = None,
) -> None:
    """Make a link that signs in on the dashboard, once and within 15 minutes."""
    given = common.read_settings(database=database_url, data=data)
    with common.attached(given) as settings:
        link = create_link(settings, [common.shop_name(each) for each in shops], scope, address or common.api_of(given))
    common.err.print("It signs in once, within 15 minutes:")
    sys.stdout.write(f"{link}\n")
