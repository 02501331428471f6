"""The lake: filled by whoever reads it; here it is filled, made anew and looked at by hand."""

from typing import Annotated, Any

import typer

from cli.commands import common, show
from cli.commands.batch import bar
from cli.commands.common import CommandError, Data, Database
from runtime.settings import Settings

lake_app = typer.Typer(no_args_is_help=True, help="The history as Parquet files, which the batches read.")


def _fill(settings: Settings, anew: bool) -> None:
    from batch import frames
    from lake import filling, manifest

    lake = manifest.of(settings)
    with bar() as progress, frames.connect(settings) as connection:
        task = progress.add_task("filling the lake", total=None)
        found: Any = (filling.rebuild if anew else filling.fill)(
            connection, lake, lambda done: progress.update(task, completed=done)
        )
    common.out.print(f"{found.webhooks:,} webhooks taken in; {lake.where}", markup=False)


@lake_app.command("fill")
def fill(database: Database = None, data: Data = None) -> None:
    """Take in what has come since. Batches do so by themselves."""
    with common.attached(common.read_settings(database=database, data=data)) as settings:
        _fill(settings, anew=False)


@lake_app.command("rebuild")
def rebuild(database: Database = None, data: Data = None) -> None:
    """Make all of it anew from the history. Whoever reads keeps the old one until this one is whole."""
    with common.attached(common.read_settings(database=database, data=data)) as settings:
        _fill(settings, anew=True)


@lake_app.command("status")
def status(
    shop: Annotated[str | None, typer.Option("--shop", help="Of this shop alone.", show_default=False)] = None,
    data: Data = None,
) -> None:
    """Show what the lake holds, a shop a line."""
    from lake import manifest

    lake = manifest.of(common.read_settings(data=data))
    root = lake.root()
    wanted = [common.shop_name(shop)] if shop is not None else sorted(root.lists)
    rows = []
    for name in wanted:
        files = lake.shop(root, name)
        if files is None:
            raise CommandError(f"the lake holds nothing of {name}")
        parts = [part for parts in files.tables.values() for part in parts]
        size = sum(part.size for part in parts)
        rows.append(
            {
                "shop": name,
                "webhooks": f"{files.webhooks:,}",
                "files": f"{len(parts):,}",
                "rows": f"{sum(part.rows for part in parts):,}",
                "MiB": f"{size / 2**20:,.1f}",
            }
        )
    if rows:
        show.rows(rows, numbers=("webhooks", "files", "rows", "MiB"))
    else:
        common.out.print(f"{lake.where} holds nothing yet: `loyalnest lake fill`, or the next batch.", markup=False)
