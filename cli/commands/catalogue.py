"""What is appended to a shop's program besides rules and policies: holds, lives of points, rewards."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from books import programs
from cli.commands import common, show
from cli.commands.common import AsJson, CommandError, Data, Database, Kafka, Shop
from cli.commands.programs import announce, say_when
from cli.commands.programs import programs_app as programs_app
from events import instants
from events.announcements import EXPIRY_NOTICE, NOTICE
from events.programs import Program, Reward, endings, reward_at, rewards_from

From = Annotated[
    str | None,
    typer.Option("--from", help="When it takes effect, RFC 3339. Without: as soon as it may.", show_default=False),
]
RewardId = Annotated[str, typer.Argument(help="The reward's id, such as ten-off.", show_default=False)]


class _Calendar(StrEnum):
    """When in the calendar points run out."""

    DAY = "day"
    YEAR = "year"


class _Kind(StrEnum):
    """What a reward is."""

    AMOUNT = "amount"
    PERCENT = "percent"
    SHIPPING = "shipping"
    PRODUCT = "product"
    STORE_CREDIT = "store_credit"


class _Unused(StrEnum):
    """What becomes of the points of a reward that is not used in time."""

    FORFEIT = "forfeit"
    RETURN = "return"


class _OnVoid(StrEnum):
    """What becomes of them when its order is cancelled or refunded."""

    RETURN = "return"
    KEEP = "keep"


def _starting(text: str | None, notice: int = NOTICE) -> datetime:
    """When it is to take effect: as given, else at the first whole minute that is far enough ahead."""
    if text is not None:
        return common.instant(text)
    soonest = datetime.now(UTC) + timedelta(microseconds=notice + 2 * instants.MINUTE)
    return soonest.replace(second=0, microsecond=0)


def _append(shop: str, field: str, made: Callable[[Program], list[dict[str, Any]]], **servers: Any) -> None:
    """Announce the program with more entries in one of its fields."""
    name = common.shop_name(shop)

    def change(before: Program | None) -> Program:
        if before is None:
            raise CommandError(f"there is no shop {name}; add it with `loyalnest shops add {name}`")
        wanted = before.model_dump(mode="json")
        return Program.model_validate(wanted | {field: [*wanted[field], *made(before)]})

    with common.attached(common.read_settings(**servers)) as settings:
        announce(settings, name, change)
        common.out.print(f"Changed the program of {name}.")
        say_when(settings)


@programs_app.command("hold")
def hold(
    shop: Shop,
    days: Annotated[int, typer.Option("--days", min=0, max=365, help="Days of 24 hours; 0: at once.")],
    effective_from: From = None,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Append a hold: how long points wait before they can be spent. Takes effect 15 minutes ahead at least."""
    said = {"effective_from": _starting(effective_from), "hold_days": days}
    _append(shop, "holds", lambda _: [said], kafka=kafka, database=database, data=data)


@programs_app.command("expiry")
def expiry(
    shop: Shop,
    days: Annotated[
        int | None, typer.Option("--days", min=0, max=36_500, help="Days of 24 hours; 0: points do not run out.")
    ] = None,
    inactive_days: Annotated[
        int | None,
        typer.Option("--inactive-days", min=30, max=36_500, help="Days without any activity, in place of --days."),
    ] = None,
    calendar: Annotated[
        _Calendar, typer.Option("--calendar", help="At the next local midnight after it, or the next new year.")
    ] = _Calendar.DAY,
    effective_from: From = None,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Append a life of points: how long they last, or how long their customer may be inactive.

    It takes effect 30 days ahead at least.
    """
    if (days is None) == (inactive_days is None):
        raise CommandError("say --days or --inactive-days, one of the two")
    said: dict[str, Any] = {"effective_from": _starting(effective_from, EXPIRY_NOTICE)}
    if inactive_days is None:
        said |= {"life_days": days or None, "calendar": calendar.value}
    elif calendar is _Calendar.DAY:
        said |= {"inactive_days": inactive_days}
    else:
        raise CommandError("what is lost for want of activity is lost at a midnight: --calendar is of --days alone")
    _append(shop, "expiry", lambda _: [said], kafka=kafka, database=database, data=data)


@programs_app.command("reward")
def reward(
    shop: Shop,
    reward_id: RewardId,
    cost: Annotated[int | None, typer.Option("--cost", min=1, help="Points.")] = None,
    kind: Annotated[_Kind | None, typer.Option("--kind", help="What it is.")] = None,
    value: Annotated[
        str | None, typer.Option("--value", help="Money off in the shop's currency, or a percentage.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What it is called.")] = None,
    name_in: Annotated[
        list[str] | None, typer.Option("--name-in", help="In another language: de=10 weniger; several times.")
    ] = None,
    product: Annotated[str | None, typer.Option("--product", help="The product's id, for a product.")] = None,
    min_order: Annotated[str | None, typer.Option("--min-order", help="What an order must be worth.")] = None,
    limit: Annotated[
        str | None, typer.Option("--limit", help="How often a customer may have it: times/days, such as 1/30.")
    ] = None,
    valid_days: Annotated[
        int | None, typer.Option("--valid-days", min=1, max=3_650, help="Days that it can be used.")
    ] = None,
    unused: Annotated[
        _Unused | None, typer.Option("--unused", help="What becomes of the points of one not used in time.")
    ] = None,
    on_void: Annotated[
        _OnVoid | None, typer.Option("--on-void", help="And of one whose order is cancelled or refunded.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="When it ends, RFC 3339.", show_default=False)] = None,
    effective_from: From = None,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Append a reward, or change one: what is not given stays as it is. Takes effect 15 minutes ahead at least."""
    at = _starting(effective_from)
    given: dict[str, Any] = {"cost": cost, "kind": kind and kind.value, "value": value, "name": name}
    given |= {"product_id": product, "min_order": min_order, "limit": _limit(limit), "valid_days": valid_days}
    given |= {"unused": unused and unused.value, "on_void": on_void and on_void.value}
    given["until"] = None if until is None else common.instant(until)
    said = {field: each for field, each in given.items() if each is not None}
    names = dict(map(_named, name_in or ()))

    def made(before: Program) -> list[dict[str, Any]]:
        held = reward_at(before, reward_id, instants.from_datetime(at))
        kept = {} if held is None else held.model_dump(mode="json")
        if said.get("kind", kept.get("kind")) != kept.get("kind"):
            kept |= {"value": None, "product_id": None}  # these were of what it was
        told = {"names": kept.get("names", {}) | names} if names else {}
        return [kept | said | told | {"reward_id": reward_id, "effective_from": at}]

    _append(shop, "rewards", made, kafka=kafka, database=database, data=data)


def _limit(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    count, found, days = text.partition("/")
    if not found:
        raise typer.BadParameter("a limit is times/days, such as 1/30", param_hint="--limit")
    return {"count": count, "days": days}


def _named(text: str) -> tuple[str, str]:
    language, found, name = text.partition("=")
    if not found:
        raise typer.BadParameter("a name in another language is such as de=10 weniger", param_hint="--name-in")
    return language, name


@programs_app.command("end-reward")
def end_reward(
    shop: Shop,
    reward_id: RewardId,
    at: Annotated[
        str | None, typer.Option("--at", help="When, RFC 3339. Without: as soon as it may.", show_default=False)
    ] = None,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """End a reward, 15 minutes ahead at least: nobody can have it from then on."""
    when = _starting(at)

    def made(before: Program) -> list[dict[str, Any]]:
        found = endings(before, reward_id, when)
        if not found:
            raise CommandError(
                f"there is no reward {reward_id} then; `loyalnest programs rewards` shows those there are"
            )
        return [each.model_dump(mode="json") for each in found]

    _append(shop, "rewards", made, kafka=kafka, database=database, data=data)


@programs_app.command("rewards")
def list_rewards(shop: Shop, as_json: AsJson = False, database: Database = None, data: Data = None) -> None:
    """Show the rewards that can be had now, and those to come."""
    name = common.shop_name(shop)
    with common.connected(common.read_settings(database=database, data=data)) as (_, connection):
        program = programs.known(connection, name)
    if program is None:
        raise CommandError(f"there is no shop {name}; `loyalnest shops list` shows those there are")
    found = rewards_from(program, instants.from_datetime(datetime.now(UTC)))
    if as_json:
        sys.stdout.write(json.dumps([each.model_dump(mode="json") for each in found], indent=2) + "\n")
    elif found:
        show.rows([_row(each, program.currency) for each in found], numbers=("cost",))
    else:
        common.out.print("No rewards yet: `loyalnest programs reward SHOP ID`.")


def _row(found: Reward, currency: str) -> dict[str, str]:
    unit = "%" if found.kind == "percent" else f" {currency}"
    return {
        "reward": found.reward_id,
        "name": found.name,
        "cost": f"{found.cost:,}",
        "kind": found.kind,
        "worth": found.product_id or "" if found.value is None else f"{found.value}{unit}",
        "from": "since ever" if found.effective_from is None else show.moment(found.effective_from),
        "until": "" if found.until is None else show.moment(found.until),
    }
