"""Shops, their programs, and the keys that may ask about them."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from books import api_keys, programs, sessions, unknown_shops
from cli.commands import common, show
from cli.commands.common import AsJson, CommandError, Data, Database, Kafka, Shop
from events import instants
from events.errors import BadEvent
from events.programs import FIRST_POLICY, Policies, Program
from runtime import database
from runtime.settings import Settings

shops_app = typer.Typer(no_args_is_help=True, help="The shops LoyalNest keeps.")
programs_app = typer.Typer(no_args_is_help=True, help="A shop's program: point rules, look-back, grid, zone.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys, each for one shop or several.")


Locale = Annotated[
    str | None,
    typer.Option("--locale", help="How its numbers, money and dates are written, such as de-DE.", show_default=False),
]


class _Refunds(StrEnum):
    """How a refund counts."""

    GOODS = "goods"
    GOODS_AND_ADJUSTMENTS = "goods_and_adjustments"
    MONEY = "money"


class _Taxes(StrEnum):
    """Whether net holds the tax that prices hold."""

    AS_PRICED = "as_priced"
    EXCLUDED = "excluded"


def _say_when(settings: Settings) -> None:
    if settings.kafka is None:
        common.err.print("It takes effect when `loyalnest up` starts.")


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


def _announce(settings: Settings, shop: str, change: programs.Change) -> None:
    async def announce() -> None:
        async with (
            await database.connect_async(settings.database_url(), "loyalnest", autocommit=True) as connection,
            common.publishing(settings) as publisher,
        ):
            await programs.announce(connection, publisher, shop, change)

    try:
        asyncio.run(announce())
    except BadEvent as error:
        raise CommandError(f"{error.detail}") from None


class _ThereAlready(Exception):
    pass


def ensure(settings: Settings, program: Program) -> bool:
    """Make the shop unless it is there; True if it was made."""

    def first(before: Program | None) -> Program:
        if before is not None:
            raise _ThereAlready
        return program

    try:
        _announce(settings, program.shop, first)
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
        _Refunds, typer.Option("--refunds", help="What a refund takes off an order.")
    ] = _Refunds.GOODS_AND_ADJUSTMENTS,
    taxes: Annotated[
        _Taxes, typer.Option("--taxes", help="Whether tax that the prices hold counts.")
    ] = _Taxes.AS_PRICED,
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
        _Refunds | None, typer.Option("--refunds", help="Append a policy: what a refund takes off an order.")
    ] = None,
    taxes: Annotated[
        _Taxes | None, typer.Option("--taxes", help="Append a policy: whether tax that the prices hold counts.")
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
    """Change a shop's program: from a file, or by options. Rules and policies are only ever appended."""
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
        _announce(settings, name, change)
        common.out.print(f"Changed the program of {name}.")
        _say_when(settings)


def _read(file: Path) -> dict[str, Any]:
    text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"{file} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise CommandError(f"{file} holds no program: print one with `loyalnest programs get`")
    return found


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
    scope: Annotated[
        list[str], typer.Option("--scope", help="read, export, pii or admin; may be given several times.")
    ] = ["read"],  # noqa: B006 - typer copies it
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
    scope: Annotated[
        list[str], typer.Option("--scope", help="read, export, pii or admin; may be given several times.")
    ] = ["read", "export"],  # noqa: B006 - typer copies it
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
