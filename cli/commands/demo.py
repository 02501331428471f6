"""`loyalnest demo`: everything embedded, a generated shop played at it over HTTP, and what came of it."""

import asyncio
import json
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from books import api_keys
from cli.commands import common, shops, show, sql
from cli.commands import play as player
from cli.commands.batch import bar, run_segments
from cli.commands.common import CommandError, Data
from cli.commands.processes import Port
from cli.shop import account, store_maker
from cli.shop.deliveries import Outgoing
from cli.stack import embedded, home, settled
from cli.stack.supervisor import Stack
from events import codec, instants
from events.messages import Message
from events.programs import Program
from runtime import database, patience
from runtime.settings import Settings

if TYPE_CHECKING:
    from cli.shop.player import Posted

SHOP: Final = "demo.myshopify.com"
_MARK: Final = ".loyalnest-demo"

#: While the demo serves on, an order comes this often (seconds), so that the dashboard moves; and after so many of them
#: somebody redeems.
_BETWEEN_ORDERS: Final = 1.5
_ORDERS_TO_A_WISH: Final = 8

#: What the analysts' file is asked, to begin with.
_QUERY: Final = """\
SELECT sku, first_orders, came_back, round(100 * came_back_rate) AS percent
FROM products ORDER BY first_orders DESC, sku LIMIT 5"""


def _fresh(folder: Path) -> None:
    """An empty folder. Only what a demo made is ever deleted."""
    lock = home.Lock(folder)
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise CommandError(f"{folder} is not empty and was not made by a demo: choose another --data")
        if not lock.take():
            raise CommandError(f"a demo is running in {folder}: end it, or choose another --data")
        if (folder / "postgres" / "postmaster.pid").exists():  # a killed demo left its server behind
            left = embedded.EmbeddedDatabase(folder / "postgres")
            with suppress(embedded.EmbeddedError):
                left.start()
            left.stop()
        shutil.rmtree(folder)
        lock.give_back()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()


def _settings(data: Path | None, port: int | None) -> Settings:
    given = common.read_settings()
    folder = (data or given.data / "demo").expanduser().resolve()
    settings = home.changed(
        given,
        kafka=None,
        database=None,
        data_dir=folder,
        master_key=None,
        shopify_secrets=[],
        journal=False,
        api_host="127.0.0.1",
        api_port=given.api_port if port is None else port,
    )
    if port is None and not home.port_is_free(settings.api_host, settings.api_port):
        settings = home.changed(settings, api_port=0)
    return settings


class _Demo:
    """The steps, over a stack that is up."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.failed: list[BaseException] = []

    @property
    def settings(self) -> Settings:
        return self.stack.settings

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The stack is watched meanwhile."""

        def watch() -> None:
            try:
                self.stack.watch()
            except BaseException as error:
                self.failed.append(error)

        watching = threading.Thread(target=watch, name="watch", daemon=True)
        watching.start()
        try:
            yield
        except Exception as error:
            # Where the stack fell, that is the cause; a refused connection is only what one sees of it.
            if self.failed:
                raise self.failed[0] from error
            raise
        finally:
            self.stack.end()
            watching.join(timeout=60)

    def add_shop(self) -> str:
        """The shop, and an API key for it."""
        said = {"shop": SHOP, "currency": "USD", "zone": "America/New_York"}
        program = Program.model_validate({**said, "expiry": account.EXPIRY, "rewards": account.REWARDS})
        with common.err.status("adding the shop"):
            shops.ensure(self.settings, program)
        return shops.create_key(self.settings, SHOP, "demo", list(api_keys.SCOPES))

    def play(self, until: int, seed: int, customers: int, webhooks: int) -> None:
        """The year, in stages: at the end of each some redeem, and what becomes of that goes on in the next."""
        store = store_maker.make_store(until, seed=seed, customers=customers, webhooks=webhooks)
        out: dict[str, str] = {}
        accepted, seconds = 0, 0.0
        for stage, deliveries in enumerate(account.stages(store, until)):
            account.with_codes(deliveries, out)
            posted = self._post(deliveries, f"{len(deliveries):,} webhooks")
            accepted, seconds = accepted + posted.accepted, seconds + posted.seconds
            self.settle()
            out = self.redeem(stage, until - account.STAGES[stage], seed)
        common.err.print(f"posted {accepted:,} webhooks in {seconds:.1f} s ({accepted / max(seconds, 0.001):,.0f}/s)")

    def _post(self, deliveries: list[Outgoing], words: str) -> "Posted":
        from cli.shop.player import Player

        secret = embedded.webhook_secrets(self.settings)[0].get_secret_value()
        posted = player.post(Player(self.stack.api, SHOP, secret), iter(deliveries), len(deliveries), words)
        if posted.accepted != len(deliveries):
            raise CommandError(
                f"only {posted.accepted:,} of {len(deliveries):,} webhooks were accepted: {posted.refused}"
            )
        return posted

    def redeem(self, stage: int, at: int, seed: int) -> dict[str, str]:
        """Rewards asked for, cancelled and handed out, and points given by hand, at an instant of the year; the codes
        that are out, by customer."""
        balances = self._balances(at)
        found = account.wishes(balances, stage, at, seed)
        self._publish([*account.by_hand(SHOP, balances, stage, at, seed), *account.asked(SHOP, found)])
        self.settle()
        granted = self._granted()
        accepted = [wish for wish in found if (wish.customer_id, wish.request_id) in granted]
        said, out = account.answered(SHOP, accepted, stage, seed)
        self._publish(said)
        self.settle()
        return out

    def _balances(self, at: int) -> dict[str, int]:
        """What each customer can spend, but for those of whom some has run out since their last event."""
        query = """
            SELECT customer_id, balance FROM customers
            WHERE shop = %s AND merged_into IS NULL AND (expires_at IS NULL OR expires_at > %s)
        """
        with database.connect(self.settings.database_url(), "loyalnest") as connection:
            return dict(connection.execute(query, (SHOP, instants.to_datetime(at))).fetchall())

    def _granted(self) -> set[tuple[str, str]]:
        query = "SELECT customer_id, request_id FROM redemptions WHERE shop = %s AND accepted"
        with database.connect(self.settings.database_url(), "loyalnest") as connection:
            return {(customer, request) for customer, request in connection.execute(query, (SHOP,)).fetchall()}

    def _publish(self, messages: list[Message]) -> None:
        async def publishing() -> None:
            async with common.publishing(home.changed(self.settings, journal=True)) as publisher:
                await publisher.publish(messages)

        asyncio.run(publishing())

    def settle(self) -> None:
        with bar() as progress:
            task = progress.add_task("waiting until everything is visible", total=None)
            most = 0

            def on_progress(behind: int) -> None:
                nonlocal most
                most = max(most, behind)
                progress.update(task, total=most, completed=most - behind)

            settled.wait(self.stack, on_progress)

    def batches(self, until: int) -> None:
        now = instants.to_datetime(until)
        for ago in (2, 1, 0):
            as_of = now - timedelta(days=ago)
            report = run_segments(self.settings, SHOP, as_of)
            common.err.print(
                f"batch as of {as_of:%Y-%m-%d %H:%M} UTC: {report.scored:,} customers scored,"
                f" {report.rescored:,} rescored in {report.seconds:.1f} s"
            )
        self.settle()

    def analysts(self) -> Path:
        """The analysts' file."""
        from batch.analytics import making

        with common.err.status("making the analysts' file"):
            return making.main(self.settings, SHOP).path

    def show(self, key: str, file: Path) -> None:
        segments = self._get(f"/v1/shops/{SHOP}/segments", key)
        show_segments(segments)
        points = self._points()
        show.rows([points], numbers=tuple(points))
        common.out.print(f"Which products do people begin with, and come back from?\n\n{_QUERY}", markup=False)
        sql.ask(file, _QUERY)
        data = self.settings.data
        common.out.print(
            f"\n[bold]Open     {self._link()}[/bold]\n"
            f"         (the dashboard; it signs in once. Again: loyalnest sign-in {SHOP} --data {data})\n"
            f"API      {self.stack.api}   docs: {self.stack.api}/docs\n"
            f"API key  {key}\n"
            f'try      curl -H "Authorization: Bearer {key}" {self.stack.api}/v1/shops/{SHOP}/segments\n'
            f"data     {data}   logs: {data / 'logs'}\n"
            f"SQL      loyalnest sql --shop demo --data {data}   (docs/analysts.md)",
            soft_wrap=True,
        )

    def _link(self) -> str:
        return shops.create_link(self.settings, [SHOP], api_keys.SCOPES, self.stack.api)

    def go_on(self, until: int, key: str, seed: int, customers: int, webhooks: int) -> None:
        """An order every second or two, and now and then a reward redeemed, until something fails or Ctrl-C."""
        from cli.shop.player import Player

        secret = embedded.webhook_secrets(self.settings)[0].get_secret_value()
        orders = store_maker.live_orders(
            until,
            lambda: instants.from_datetime(datetime.now(UTC)),
            seed=seed,
            customers=customers,
            webhooks=webhooks,
        )
        poster = Player(self.stack.api, SHOP, secret)
        for number in count(1):
            if patience.until(lambda: self.failed, _BETWEEN_ORDERS, every=0.2):
                return
            asyncio.run(poster.post([next(orders)]))
            if number % _ORDERS_TO_A_WISH == 0:
                self._wish(key, number)

    def _wish(self, key: str, number: int) -> None:
        """Hands out what waits longest, and has one of the richest redeem, by the API as a till would."""
        waiting = self._get(f"/v1/shops/{SHOP}/redemptions?status=reserved&limit=1000", key)["items"]
        if waiting:
            oldest = waiting[-1]
            place = f"/v1/shops/{SHOP}/customers/{oldest['customer_id']}/redemptions/{oldest['request_id']}"
            code = account.code_of(oldest["request_id"])
            self._get(f"{place}/fulfilment", key, {"attempt": 1, "state": "issued", "code": code})
        rich = self._get(f"/v1/shops/{SHOP}/customers?sort=-points_balance&limit=50", key)["items"]
        whose = rich[number % len(rich)]["customer_id"]
        reward = account.REWARDS[number // _ORDERS_TO_A_WISH % len(account.REWARDS)]["reward_id"]
        path = f"/v1/shops/{SHOP}/customers/{whose}/redemptions"
        with suppress(urllib.error.HTTPError):  # refused: as often as they may
            self._get(path, key, {"reward_id": reward}, **{"Idempotency-Key": f"shop-live-{number}"})

    def _get(self, path: str, key: str, body: object = None, **headers: str) -> Any:
        """What the API answers; with a body, to a POST."""
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
        data = None if body is None else codec.dumps(body)
        asked = urllib.request.Request(f"{self.stack.api}{path}", data, sent)  # noqa: S310
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def _points(self) -> dict[str, str]:
        """Of orders, by the day windows: what the ledger booked in all depends on what came first. Each row sums up."""
        query = """
            SELECT issued, reversed, given, -(spent), -(expired), balance
            FROM (SELECT coalesce(sum(points_earned), 0)::bigint AS issued,
                         -coalesce(sum(points_reversed), 0)::bigint AS reversed
                  FROM shop_windows WHERE shop = %(shop)s AND size = 'day') AS of_orders,
                 (SELECT coalesce(sum(points), 0)::bigint AS given FROM awards
                  WHERE shop = %(shop)s AND points > 0 AND voided_at IS NULL) AS by_hand,
                 (SELECT coalesce(sum(spent), 0)::bigint AS spent, coalesce(sum(expired), 0)::bigint AS expired,
                         coalesce(sum(balance), 0)::bigint AS balance FROM customers WHERE shop = %(shop)s) AS accounts
        """
        with database.connect(self.settings.database_url(), "loyalnest") as connection:
            row = connection.execute(query, {"shop": SHOP}).fetchone() or (0,) * 6
        names = ("points issued", "reversed", "given by hand", "spent", "run out", "balance of all customers")
        return {name: f"{value:,}" for name, value in zip(names, row, strict=True)}


def show_segments(found: Any) -> None:
    """What the API says of a shop's segments, as a table: days, orders and money are means, R, F and M."""
    common.out.print(f"\n{found['shop']}: {found['customers']:,} customers", markup=False)
    rows = [
        {
            "segment": each["segment"],
            "customers": f"{each['customers']:,}",
            "share": f"{each['share']:.1%}",
            "revenue": f"{float(each['revenue']['amount']):,.0f}",
            "R days": "" if each["mean_recency_days"] is None else f"{each['mean_recency_days']:.0f}",
            "F": f"{each['mean_frequency']:.1f}",
            "M": f"{float(each['mean_monetary']['amount']):,.0f}",
            "points": f"{each['points_balance']:,}",
        }
        for each in found["segments"]
    ]
    show.rows(rows, numbers=("customers", "share", "revenue", "R days", "F", "M", "points"))


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the table, instead of serving on.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Another seed is another shop.")] = 1,
    customers: Annotated[int, typer.Option("--customers", min=1, help="Customers of the shop.")] = 2000,
    webhooks: Annotated[int, typer.Option("--webhooks", min=1, help="Webhooks that it sends.")] = 20_000,
    data: Data = None,
    port: Port = None,
) -> None:
    """Try LoyalNest: start everything embedded, play a generated shop at it, show its segments and points.

    The shop's year ends today. Its data go into a folder of their own, made afresh each time.
    """
    began = time.monotonic()
    settings = _settings(data, port)
    common.quiet_logs(settings)
    _fresh(settings.data)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with common.err.status("starting") as status:
        stack = Stack(settings, lambda text: status.update(escape(text)), schedule=not once)
        try:
            stack.start()
            status.stop()
            common.err.print(f"LoyalNest is up at {stack.api} after {time.monotonic() - began:.1f} s")
            _run(stack, seed, customers, webhooks, once=once, began=began)
        finally:
            status.stop()
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, signal.SIG_IGN)
            stack.stop()


def _run(stack: Stack, seed: int, customers: int, webhooks: int, *, once: bool, began: float) -> None:
    until = instants.from_datetime(datetime.now(UTC))
    run = _Demo(stack)
    with run.watched():
        key = run.add_shop()
        run.play(until, seed, customers, webhooks)
        run.settle()
        run.batches(until)
        run.show(key, run.analysts())
        common.err.print(f"all that took {time.monotonic() - began:.0f} s")
        if not once:
            common.out.print("\nServing on, with an order now and then. Ctrl-C ends it.")
            with suppress(KeyboardInterrupt):
                run.go_on(until, key, seed, customers, webhooks)
            if run.failed:
                raise run.failed[0]
