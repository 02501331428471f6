"""`loyalnest play`: a file of transactions, posted as a shop's webhooks."""

import asyncio
import os
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from books import programs
from cli.commands import common, shops
from cli.commands.batch import bar
from cli.commands.common import CommandError, Data, Database, Kafka
from cli.shop import transactions
from cli.shop.deliveries import Outgoing
from cli.stack import embedded, home
from events.programs import Program
from imports import transactions as reading
from imports.items import NOTES
from imports.transactions import Transaction
from runtime import database
from runtime.settings import Settings

if TYPE_CHECKING:
    from cli.shop.player import Player, Posted

#: Seconds that an `up` which is just starting its processes again may take to answer.
_PATIENCE = 60.0


class Format(StrEnum):
    """What kind of file is played."""

    csv = "csv"
    cdnow = "cdnow"


def post(player: "Player", deliveries: Iterable[Outgoing], total: int, what: str) -> "Posted":
    """Post under a progress bar."""
    with bar() as progress:
        task = progress.add_task(f"posting {what}", total=total)
        return asyncio.run(player.post(deliveries, lambda done: progress.update(task, completed=done)))


def _secret(settings: Settings, secret: str | None) -> str:
    if secret is not None:
        return secret
    if not settings.shopify_secrets and not (settings.data / "webhook.secret").exists():
        raise CommandError(
            "no webhook secret is known here: give --secret (or LOYALNEST_SHOPIFY_SECRETS),"
            " or start LoyalNest with `loyalnest up`, which makes one"
        )
    return embedded.webhook_secrets(settings)[0].get_secret_value()


def _make_shop(settings: Settings, shop: str, currency: str) -> str:
    """A shop without a nightly batch, unless it is there; its currency.

    Its orders may follow at once: its program is durable.
    """
    program = Program.model_validate({"shop": shop, "currency": currency, "batch_at": None})
    with common.attached(settings) as complete:
        if shops.ensure(complete, program):
            common.err.print(f"Added {shop}, without a nightly batch.")
        with database.connect(complete.database_url(), "loyalnest", autocommit=True) as connection:
            return (programs.known(connection, shop) or program).currency


def cannot_count(rows: Iterable[Transaction], currency: str) -> str | None:
    """A word on rows in another currency than the shop's: each becomes a dead letter. None if there are none."""
    others = sum(row.currency != currency for row in rows)
    if not others:
        return None
    return f"{others:,} row{'s are' if others > 1 else ' is'} not in the shop's {currency} and cannot count."


def play(
    file: Annotated[Path, typer.Argument(help="The file of transactions.", exists=True, dir_okay=False)],
    shop: Annotated[str, typer.Option("--shop", help="The shop to post to; made if it is not there.")],
    form: Annotated[
        Format, typer.Option("--format", help="csv: see above. cdnow: the classic CDNOW file.")
    ] = Format.csv,
    currency: Annotated[str, typer.Option("--currency", help="Of rows without a currency, and of a new shop.")] = "USD",
    shuffle: Annotated[
        int | None, typer.Option("--shuffle", help="Post in another order, drawn with this seed.", metavar="SEED")
    ] = None,
    duplicate: Annotated[
        float, typer.Option("--duplicate", help="Post so many of a hundred twice.", min=0, max=100, metavar="PERCENT")
    ] = 0.0,
    url: Annotated[
        str | None, typer.Option("--url", help="LoyalNest's address. Without: the one that runs here.")
    ] = None,
    secret: Annotated[str | None, typer.Option("--secret", help="Its webhook secret.")] = None,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Post a file of transactions to a running LoyalNest, each row as a signed orders/paid webhook.

    A CSV has a header with the columns customer, timestamp and amount, and if you like currency and order; usual other
    names (customer_id, date, order_date, total, ...) are understood. A date (2026-01-31) without a time means 12:00
    UTC; a time without an offset is taken as UTC. Amounts may carry a currency sign, and a decimal comma. Rows of one
    order are added up. What is negative is left out and counted.

    The order's time is the webhook's too, ids are made from the shop and the order, or else all that its row says. So
    playing a file again, or a later one that holds the same rows, posts duplicates and changes nothing.
    """
    name = common.shop_name(shop)
    settings = common.read_settings(kafka=kafka, database=database, data=data)
    read = reading.read(file, form.value, currency.upper())
    address, key = url or common.api_of(settings), _secret(settings, secret)
    # Here, not above: every process of ours would load its HTTP client.
    from cli.shop.player import Player

    player = Player(address, name, key)
    here = home.running(settings.data) is not None
    asyncio.run(player.greet(_PATIENCE if here else 0.0))
    known = None
    if settings.database is not None or here:
        known = _make_shop(settings, name, currency.upper())
    rows = transactions.arrange(read.found, shuffle, duplicate)
    posted = post(player, (transactions.order_paid(name, row) for row in rows), len(rows), os.fspath(file.name))
    customers = len({row.customer for row in read.found})
    rate = posted.accepted / max(posted.seconds, 0.001)
    common.out.print(
        f"{posted.accepted:,} webhooks accepted in {posted.seconds:.1f} s ({rate:,.0f}/s):"
        f" {len(read.found):,} orders of {customers:,} customers."
    )
    if posted.retried:
        common.out.print(f"{posted.retried:,} posts were tried again.")
    if read.negative:
        common.out.print(f"{read.negative:,} orders with negative amounts were left out.")
    if read.problems:
        first = read.problems[0]
        common.out.print(
            f"{len(read.problems):,} lines could not be read and were left out; line {first.line}: {first.reason}.",
            markup=False,
        )
    for note, count in sorted(read.notes.counts.items()):
        if count and note != "negative":
            common.out.print(f"{count:,} {NOTES[note]}.", markup=False)
    if known is not None and (told := cannot_count(read.found, known)) is not None:
        common.out.print(told)
    if posted.refused:
        refused = ", ".join(f"{count:,} with {status}" for status, count in posted.refused.items())
        raise CommandError(f"some webhooks were refused: {refused}")
