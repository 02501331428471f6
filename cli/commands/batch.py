"""The batches: segments of one shop as of a time, the nightly schedule, and the comparison of stream and history."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from psycopg.rows import dict_row
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from books import quality
from cli.commands import common, history, processes, show
from cli.commands.common import AsJson, CommandError, Data, Database, Kafka
from runtime.settings import Settings

batch_app = typer.Typer(no_args_is_help=True, help="The batches over a shop's history.")
batch_app.command("schedule")(processes.schedule)
batch_app.command("movement")(history.movement)
batch_app.command("cohorts")(history.cohorts)

_STAGES = {
    "arriving": "waiting for the sink",
    "reading": "reading the history",
    "scoring": "scoring",
    "checking": "checking quality",
    "rescoring": "rescoring",
}


def bar() -> Progress:
    """A progress bar on stderr, which goes when the work is done; nothing where stderr is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=common.err,
        transient=True,
        disable=not common.err.is_terminal,
    )


def run_segments(
    settings: Settings, shop: str, as_of: datetime, publish: bool | None = None, *, despite: bool = False
) -> Any:
    """One batch under a progress bar; its report."""
    with bar() as progress:
        task = progress.add_task("starting", total=None)

        def on_progress(stage: str, done: int, total: int | None) -> None:
            progress.update(task, description=_STAGES.get(stage, stage), completed=done, total=total)

        publisher = common.new_publisher(settings)
        from batch import segments as program

        return program.main(settings, publisher, shop, as_of, publish, on_progress, despite=despite)


@batch_app.command("segments")
def segments(
    shop: Annotated[str, typer.Option("--shop", help="The shop's domain.", show_default=False)],
    as_of: Annotated[
        str, typer.Option("--as-of", help="Of which time: 2026-01-31T00:00:00Z, a date (its midnight, UTC) or now.")
    ] = "now",
    publish: Annotated[
        bool | None,
        typer.Option(
            "--publish/--no-publish",
            help="Publish cut points and have everybody rescored. Without: unless a later time was published already.",
            show_default=False,
        ),
    ] = None,
    despite_gates: Annotated[
        bool, typer.Option("--despite-gates", help="Publish although a quality gate fails; the run notes it.")
    ] = False,
    as_json: AsJson = False,
    kafka: Kafka = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Work out a shop's segments as of a time, and bring the live ones to it."""
    when = common.instant(as_of)
    settings = common.read_settings(kafka=kafka, database=database, data=data)
    with common.attached(settings) as complete:
        if complete.kafka is None and publish is not False:
            raise CommandError("nobody would rescore: start LoyalNest with `loyalnest up`, or give --no-publish")
        report = run_segments(complete, common.shop_name(shop), when, publish, despite=despite_gates)
    if as_json:
        sys.stdout.write(json.dumps(report._asdict(), default=str, indent=2) + "\n")
        return
    common.out.print(f"{report.shop} as of {show.moment(when)}", markup=False)
    if report.segments:
        counts = [{"segment": name, "customers": f"{count:,}"} for name, count in report.segments.items()]
        show.rows(counts, numbers=("customers",))
    done = f"published as {report.version}; {report.rescored:,} rescored" if report.published else "not published"
    if report.detail is not None:
        common.out.print(report.detail, style="yellow", markup=False)
    common.out.print(f"{report.customers:,} customers from {report.webhooks:,} webhooks, {done}.")
    common.out.print(f"run {report.run_id}")


@batch_app.command("analytics")
def analytics(
    shop: Annotated[
        str | None, typer.Option("--shop", help="The shop's domain. Without: every shop.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to make, of one shop.", show_default="in the data folder")
    ] = None,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="The same as Parquet too: a file a table, in a folder beside.")
    ] = False,
    addresses: Annotated[
        bool, typer.Option("--with-addresses", help="With addresses and consents: needs --out and LOYALNEST_API_KEY.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="LOYALNEST_API_KEY", help="An API key of the shop, scopes export and pii.", show_default=False
        ),
    ] = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Make the analysts' file: all of a shop as DuckDB tables. `loyalnest sql` asks it.

    Whoever has it open keeps the old one. It holds no addresses, unless asked. Each scheduled batch makes it anew.
    """
    if out is not None and shop is None:
        raise CommandError("--out is one shop's file: give --shop too")
    if addresses and (out is None or key is None):
        raise CommandError(
            "a file with addresses is made where you say, for whoever may see them: give --out, and in"
            " LOYALNEST_API_KEY an API key of the shop with the scopes export and pii"
        )
    with common.attached(common.read_settings(database=database, data=data)) as settings:
        failed = [
            name
            for name in _shops(settings, shop)
            if not _make_file(settings, name, out, parquet, key if addresses else None)
        ]
    if failed:
        raise CommandError(f"no file was made of {', '.join(failed)}")


def _shops(settings: Settings, shop: str | None) -> list[str]:
    if shop is not None:
        return [common.shop_name(shop)]
    from batch import frames

    with frames.connect(settings) as connection:
        return [each.shop for each in frames.programs(connection)]


def _make_file(settings: Settings, shop: str, out: Path | None, parquet: bool, key: str | None) -> bool:
    """Whether it was made: what stops one shop's stops no other's."""
    from batch.analytics import making

    with bar() as progress:
        task = progress.add_task(f"the analysts' file of {shop}", total=None)
        try:
            made = making.main(
                settings,
                shop,
                out,
                parquet,
                lambda _, done, total: progress.update(task, completed=done, total=total),
                key,
            )
        except Exception as error:
            if common.is_debugging():
                raise
            common.err.print(f"{shop}: {common.sentence(error)}", markup=False, soft_wrap=True)
            return False
    common.out.print(
        f"{shop}: {made.rows['customers']:,} customers, {made.rows['orders']:,} orders in"
        f" {made.size / 2**20:,.1f} MiB, made in {made.seconds:.1f} s",
        markup=False,
    )
    common.out.print(str(made.path), markup=False, soft_wrap=True)
    return True


@batch_app.command("parity")
def parity(
    shop: Annotated[
        str | None, typer.Option("--shop", help="The shop's domain. Without: every shop.", show_default=False)
    ] = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Compare the stream's tables with a recomputation from the history; exit code 1 if they differ."""
    given = common.read_settings(database=database, data=data)
    with common.attached(given) as settings:
        differing = [name for name in _shops(settings, shop) if not _is_at_par(settings, name)]
    if differing:
        raise CommandError(f"the stream and the history of {', '.join(differing)} differ")
    common.out.print("The stream's tables are what the history says.")


def _is_at_par(settings: Settings, shop: str) -> bool:
    """Says every difference of a shop, and of each kind what most likely brought it about."""
    from batch import parity as program

    with common.err.status(f"recomputing {shop} from its history"):
        differences = program.main(settings, shop)
    if differences:
        common.out.print(shop, style="bold", markup=False)
    for each in differences:
        common.out.print(each, markup=False)
    for kind in dict.fromkeys(each.partition(":")[0] for each in differences):
        common.out.print(f"{kind}: most likely {program.KINDS[kind]}", style="yellow", markup=False)
    return not differences


@batch_app.command("runs")
def runs(
    shop: Annotated[str, typer.Option("--shop", help="The shop's domain.", show_default=False)],
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Runs at most, the newest first.")] = 20,
    as_json: AsJson = False,
    database: Database = None,
    data: Data = None,
) -> None:
    """A shop's batch runs: when, what came of them, and which quality gates they did not pass."""
    name = common.shop_name(shop)
    with common.connected(common.read_settings(database=database, data=data)) as (_, connection):
        cursor = connection.cursor(row_factory=dict_row)
        found = cursor.execute(quality.RUNS, (name, limit)).fetchall()
    if as_json:
        sys.stdout.write(json.dumps(found, default=str, indent=2) + "\n")
    elif not found:
        common.out.print(f"No batch of {name} has run yet.", markup=False)
    else:
        show.rows([_run_row(each) for each in found], numbers=("customers", "seconds", "try"))


def _run_row(run: dict[str, Any]) -> dict[str, str]:
    done = "published" if run["published"] else run["status"]
    return {
        "run": str(run["id"]),
        "as of": show.moment(run["as_of"]),
        "outcome": done,
        "try": str(run["attempt"]),
        "customers": "" if run["customers"] is None else f"{run['customers']:,}",
        "seconds": "" if run["seconds"] is None else f"{run['seconds']:.1f}",
        "gates failed": ", ".join(quality.failed(run["quality"])),
        "detail": run["detail"] or "",
    }


@batch_app.command("report")
def report(
    shop: Annotated[str, typer.Option("--shop", help="The shop's domain.", show_default=False)],
    run: Annotated[
        str | None, typer.Option("--run", help="A run's id. Without: the newest.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("batch-report.html"),
    database: Database = None,
    data: Data = None,
) -> None:
    """Write a run's quality as a page: what it measured, and every gate with its verdict."""
    name = common.shop_name(shop)
    with common.connected(common.read_settings(database=database, data=data)) as (_, connection):
        cursor = connection.cursor(row_factory=dict_row)
        asked = (quality.RUNS, (name, 1)) if run is None else (quality.RUN, (name, _uuid(run)))
        found = cursor.execute(*asked).fetchone()
    if found is None:
        raise CommandError(f"there is no such run of {name}; see `loyalnest batch runs --shop {name}`")
    out.write_text(quality.html(name, found), encoding="utf-8")
    common.out.print(str(out), markup=False, soft_wrap=True)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a run's id") from None
