"""`loyalnest demo`: everything embedded, a generated shop played at it over HTTP, and what came of it."""

import asyncio
import json
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from books import api_keys
from cli.commands import common, shops, show, sql
from cli.commands import play as player
from cli.commands.batch import bar, run_segments
from cli.commands.common import CommandError, Data
from cli.commands.processes import Port
from cli.shop import store_maker
from cli.stack import embedded, home, settled
from cli.stack.supervisor import Stack
from events import instants
from events.programs import Program
from runtime import database, patience
from runtime.settings import Settings

SHOP: Final = "demo.myshopify.com"
_MARK: Final = ".loyalnest-demo"

#: While the demo serves on, an order comes this often (seconds), so that the dashboard moves.
_BETWEEN_ORDERS: Final = 1.5

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
        program = Program.model_validate({"shop": SHOP, "currency": "USD", "zone": "America/New_York"})
        with common.err.status("adding the shop"):
            shops.ensure(self.settings, program)
        return shops.create_key(self.settings, SHOP, "demo", ["read", "export", "pii", "admin"])

    def play(self, until: int, seed: int, customers: int, webhooks: int) -> None:
        from cli.shop.player import Player

        secret = embedded.webhook_secrets(self.settings)[0].get_secret_value()
        store = store_maker.make_store(until, seed=seed, customers=customers, webhooks=webhooks)
        posted = player.post(Player(self.stack.api, SHOP, secret), store, webhooks, f"{webhooks:,} webhooks")
        if posted.accepted != webhooks:
            raise CommandError(f"only {posted.accepted:,} of {webhooks:,} webhooks were accepted: {posted.refused}")
        rate = posted.accepted / max(posted.seconds, 0.001)
        common.err.print(f"posted {posted.accepted:,} webhooks in {posted.seconds:.1f} s ({rate:,.0f}/s)")

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
        show.rows([self._points()], numbers=("points issued", "reversed", "balance of all customers"))
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

    def go_on(self, until: int, seed: int, customers: int, webhooks: int) -> None:
        """An order every second or two, until something fails or Ctrl-C."""
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
        while not patience.until(lambda: self.failed, _BETWEEN_ORDERS, every=0.2):
            asyncio.run(poster.post([next(orders)]))

    def _get(self, path: str, key: str) -> Any:
        asked = urllib.request.Request(f"{self.stack.api}{path}", headers={"Authorization": f"Bearer {key}"})  # noqa: S310
        with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    def _points(self) -> dict[str, str]:
        """Of orders, by the day windows: what the ledger booked in all depends on what came first."""
        query = """
            SELECT coalesce(sum(points_earned), 0)::bigint, coalesce(sum(points_reversed), 0)::bigint,
                   (SELECT coalesce(sum(balance), 0)::bigint FROM customers WHERE shop = %(shop)s)
            FROM shop_windows WHERE shop = %(shop)s AND size = 'day'
        """
        with database.connect(self.settings.database_url(), "loyalnest") as connection:
            row = connection.execute(query, {"shop": SHOP}).fetchone() or (0, 0, 0)
        names = ("points issued", "reversed", "balance of all customers")
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
                run.go_on(until, seed, customers, webhooks)
            if run.failed:
                raise run.failed[0]
