"""Redemptions from the shell: asked for, cancelled, and shown."""

import json
import sys
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

import typer
from psycopg import AsyncConnection

from books import programs, redemptions
from books.redemptions import Asked, OtherBodyError, Redemption, UnknownRewardError, Which
from cli.commands import asking, common, show
from cli.commands.asking import Customer
from cli.commands.common import AsJson, CommandError, Data, Database, Kafka, Shop
from events import redeeming
from events.money import MAX_POINTS
from events.names import NAME_ALONE
from events.redeeming import WORDS
from runtime.settings import Settings

Status = Literal["refused", "reserved", "issued", "used", "returned"]
Name = Annotated[str, typer.Argument(metavar="ID", help="What the redemption is called.", show_default=False)]

#: So many are shown, the newest.
_MOST: Final = 100

_TELLS: Final = "`loyalnest points redemptions` tells when it is"


def redeem(
    shop: Shop,
    customer: Customer,
    reward: Annotated[str, typer.Argument(help="The reward's id.", show_default=False)],
    name: Annotated[
        str | None,
        typer.Option("--id", help="What it is called: asking again by it changes nothing.", show_default="a new one"),
    ] = None,
    cost: Annotated[
        int | None,
        typer.Option(
            "--cost", min=1, max=MAX_POINTS, help="What the customer was told it costs.", show_default="what it costs"
        ),
    ] = None,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Spend a customer's points on a reward: `loyalnest points redeem SHOP CUSTOMER ten-off`."""
    full, whose, name = common.shop_name(shop), asking.customer_id(customer), name or uuid4().hex
    for each in (name, reward):
        asking.check_name(each, NAME_ALONE)
    wanted = Asked(reward, cost)

    async def redeeming_it(settings: Settings, connection: AsyncConnection[Any]) -> Redemption:
        program = await programs.known_async(connection, full)
        if program is None:
            raise CommandError(f"there is no shop {full}; `loyalnest shops list` shows those there are")
        found = await redemptions.claim(connection, full, whose, name, wanted, program, asking.now())
        if found.decided_at is not None:
            return found
        await asking.publish(settings, redeeming.redemption(full, whose, name, found.wanted(), asking.now()))
        stored = await _stored(settings, connection, full, found, None)
        if stored is not None and not wanted.same(stored):
            raise OtherBodyError(stored)
        return stored or found

    try:
        settings, found = asking.run(redeeming_it, kafka=kafka, database=database, data=data)
    except OtherBodyError:
        raise CommandError(f"{name} is called another redemption of {whose}: take another --id") from None
    except UnknownRewardError:
        raise CommandError(f"{full} has no reward {reward} now") from None
    if found.status == "refused":
        raise CommandError(f"refused: {_why(found)}; it is called {name}")
    said = f"{reward} for {found.cost:,} points of {whose}, called {name}: {found.status}"
    common.out.print(f"{said}{f', code {found.code}' if found.code else ''}.", markup=False)
    if found.status == "pending":
        asking.say_durable(settings, _TELLS)


def cancel(
    shop: Shop,
    customer: Customer,
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="One line; nothing that says who somebody is.")] = "",
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Cancel a redemption: its points return, unless an order has used it."""
    full, whose = common.shop_name(shop), asking.customer_id(customer)
    asking.check_name(name, NAME_ALONE)
    asking.check_reason(reason, WORDS)

    async def cancelling(settings: Settings, connection: AsyncConnection[Any]) -> tuple[Redemption, bool]:
        found = await redemptions.known(connection, full, whose, name)
        if found is None:
            raise CommandError(f"{whose} has no redemption called {name}")
        if found.status not in ("pending", "reserved", "issued"):
            return found, True
        said = redeeming.cancellation(full, whose, name, reason or None, asking.now())
        await asking.publish(settings, said)
        stored = await _stored(settings, connection, full, found, ("refused", "used", "returned"))
        return stored or found, stored is not None

    settings, (found, taken_in) = asking.run(cancelling, kafka=kafka, database=database, data=data)
    if found.status == "used":
        raise CommandError(f"an order has used {name}")
    if not taken_in:
        common.out.print(f"{name} is to be cancelled.", markup=False)
        asking.say_durable(settings, _TELLS)
        return
    was = f" ({found.returned_reason})" if found.returned_reason else ""
    common.out.print(f"{name} is {found.status}{was}: it takes no points of {whose}.", markup=False)


def show_redemptions(
    shop: Shop,
    customer: Annotated[str | None, typer.Argument(help="Only this customer's.", show_default=False)] = None,
    status: Annotated[Status | None, typer.Option("--status", help="Only these.")] = None,
    as_json: AsJson = False,
    database: Database = None,
    data: Data = None,
) -> None:
    """Show the newest hundred redemptions, and what became of them."""
    full = common.shop_name(shop)
    whose = None if customer is None else asking.customer_id(customer)

    async def looking(_: Settings, connection: AsyncConnection[Any]) -> list[Redemption]:
        if whose is None:
            first = (redemptions.LAST, "", "")
            return list(await redemptions.of_shop(connection, full, Which(status), first, _MOST))
        listed = await redemptions.of_customer(connection, full, whose, (redemptions.LAST, ""), _MOST)
        return [each for each in listed if status in (None, each.status)]

    _, found = asking.run(looking, database=database, data=data)
    if as_json:
        sys.stdout.write(json.dumps([each._asdict() for each in found], default=str, indent=2) + "\n")
    elif found:
        show.rows([_row(each) for each in found], numbers=("cost",))
    else:
        common.out.print("There are none.")


def _row(found: Redemption) -> dict[str, str]:
    return {
        "decided": "" if found.decided_at is None else show.moment(found.decided_at),
        "customer": found.customer_id,
        "id": found.request_id,
        "reward": found.reward_id,
        "cost": f"{found.cost:,}",
        "status": found.status,
        "because": found.reason or found.returned_reason or ("over" if found.over else ""),
        "code": found.code or "",
    }


def _why(found: Redemption) -> str:
    if found.reason == "insufficient-points":
        return f"it costs {found.cost:,} points, and {found.balance:,} could be spent"
    return found.reason or "without a reason"


async def _stored(
    settings: Settings, connection: AsyncConnection[Any], shop: str, asked: Redemption, ended: tuple[str, ...] | None
) -> Redemption | None:
    """The redemption once it is decided, or has come to one of these ends, if that is soon."""
    named = shop, asked.customer_id, asked.request_id

    async def look() -> Redemption | None:
        found = (await redemptions.stored(connection, [named])).get(named)
        return None if found is None or (ended is not None and found.status not in ended) else found

    return await asking.until(settings, look)
