"""`loyalnest up`: everything at once, and `rebuild`, which starts it afresh from the raw history."""

import signal
from typing import Annotated, Any

import typer
from rich.markup import escape

from cli.commands import common
from cli.commands.batch import bar
from cli.commands.common import CommandError, Data, Database, Kafka
from cli.commands.processes import Host, Port
from cli.stack import embedded, home, rebuilding
from cli.stack.supervisor import Stack
from runtime import patience
from runtime.settings import Settings

_STARTED = 60.0


def end_on_signals(stack: Stack) -> None:
    """Ctrl-C and SIGTERM end it in order; once is enough."""

    def end(*_: Any) -> None:
        stack.end()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, end)


def describe(settings: Settings, stack: Stack) -> str:
    """Where everything is, for somebody who has just started it."""
    broker = settings.kafka or "embedded, ends with this command"
    database = "the one given" if settings.database else "embedded, kept"
    secret = "those given" if settings.shopify_secrets else str(settings.data / "webhook.secret")
    lines = [
        f"API       {stack.api}   docs: /docs   metrics: /metrics",
        f"webhooks  POST {stack.api}/webhooks/shopify",
        f"secret    {secret}",
        f"Kafka     {broker}",
        f"database  {database}",
        f"data      {settings.data}",
        f"logs      {settings.data / 'logs'}",
    ]
    return "\n".join(lines)


def up(
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
    host: Host = None,
    port: Port = None,
    no_schedule: Annotated[bool, typer.Option("--no-schedule", help="Do not run the nightly batches.")] = False,
) -> None:
    """Start LoyalNest: servers (embedded, or those given), worker, sink, API and the nightly batches.

    Everything runs until Ctrl-C. With an embedded broker the raw history is replayed at each start.
    """
    settings = common.read_settings(kafka=kafka, database=database, data=data, api_host=host, api_port=port)
    common.quiet_logs(settings)
    stack = Stack(settings, lambda text: common.err.print(f"[dim]{escape(text)}[/dim]"), schedule=not no_schedule)
    end_on_signals(stack)
    try:
        stack.start()
        if not stack.ending:
            common.out.print(describe(settings, stack), soft_wrap=True, markup=False)
            common.out.print("\nLoyalNest is up. Next: `loyalnest shops add SHOP`. Ctrl-C ends it.")
        stack.watch()
    finally:
        common.err.print("[dim]ending[/dim]")
        stack.stop()


def rebuild(
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Empty the derived tables and have them made again from the raw history.

    Customers, points, RFM history, windows and counts are made anew; the raw history, programs, cut points, batch
    runs, dead letters and keys stay.

    Embedded, a running `up` begins at once, else the next one does. With a real Kafka (--kafka and --database), end
    all workers, sinks and the API first: this command runs a worker and a sink of its own until all is made again.
    The number of partitions stays as it is.
    """
    settings = common.read_settings(kafka=kafka, database=database, data=data)
    common.quiet_logs(settings)
    there = home.running(settings.data)
    if settings.kafka is not None:
        _rebuild_real(settings, yes=yes)
    elif there is not None and not there.get("journal", False):
        raise CommandError("with a real Kafka, end `loyalnest up`, and give --kafka and --database")
    else:
        _rebuild_embedded(settings, runs=there is not None)


def _rebuild_embedded(settings: Settings, *, runs: bool) -> None:
    asked = home.ask_for_rebuild(settings.data)
    if not runs:
        common.out.print("The next `loyalnest up` empties the derived tables and makes them again.")
        return
    with common.err.status("waiting for `loyalnest up` to begin"):
        if not patience.until(lambda: not asked.exists(), _STARTED, every=0.1):
            raise CommandError(f"`loyalnest up` did not begin within {_STARTED:.0f} s: see its terminal")
    common.out.print("The derived tables are empty, and the raw history is being replayed.")


def _rebuild_real(settings: Settings, *, yes: bool) -> None:
    if settings.database is None:
        raise CommandError("which database? With --kafka, give --database too, or set LOYALNEST_DATABASE")
    if not yes:
        typer.confirm("Empty the derived tables and make them again, with everything else ended?", abort=True)
    settings = home.changed(settings, master_key=embedded.master_key(settings))
    with bar() as progress:
        task = progress.add_task("rebuilding", total=None)
        most = 0

        def on_progress(behind: int) -> None:
            nonlocal most
            most = max(most, behind)
            progress.update(task, total=most, completed=most - behind)

        taken = rebuilding.rebuild(settings, lambda text: progress.update(task, description=escape(text)), on_progress)
    common.out.print(f"Made again from {taken:,} messages of the raw history. LoyalNest may be started again.")
