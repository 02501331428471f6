"""The `loyalnest` command."""

import os
import sys
from typing import Annotated

import typer

from cli.commands import batch, books, common, demo, importing, play, processes, shops, up

app = typer.Typer(
    name="loyalnest",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=(
        "LoyalNest turns a Shopify store's events into live loyalty points and RFM segments.\n\n"
        "Try it: `loyalnest demo`. Run it: `loyalnest up`, then `loyalnest shops add SHOP`.\n\n"
        "Every option is also a setting, LOYALNEST_*, in the environment or in .env (docs/operations.md)."
    ),
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Full logs, and the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["LOYALNEST_LOG_LEVEL"] = "DEBUG"


_TRY = "Try it"
_RUN = "Run it"
_USE = "Use it"

app.command(rich_help_panel=_TRY)(demo.demo)
app.command(rich_help_panel=_TRY)(play.play)
app.command(rich_help_panel=_RUN)(up.up)
app.command(rich_help_panel=_RUN)(processes.worker)
app.command(rich_help_panel=_RUN)(processes.sink)
app.command(rich_help_panel=_RUN)(processes.api)
app.command("migrate", rich_help_panel=_RUN)(processes.migrate_database)
app.command(rich_help_panel=_RUN)(up.rebuild)
app.add_typer(processes.topics_app, name="topics", rich_help_panel=_RUN)
app.command("import", rich_help_panel=_USE)(importing.bring_in)
app.add_typer(shops.shops_app, name="shops", rich_help_panel=_USE)
app.add_typer(shops.programs_app, name="programs", rich_help_panel=_USE)
app.add_typer(shops.keys_app, name="keys", rich_help_panel=_USE)
app.add_typer(batch.batch_app, name="batch", rich_help_panel=_USE)
app.add_typer(books.letters_app, name="dead-letters", rich_help_panel=_USE)
app.add_typer(books.privacy_app, name="privacy", rich_help_panel=_USE)


def main() -> None:
    """Errors end in one sentence on stderr and exit code 1; wrong usage in 2."""
    try:
        app()
    except Exception as error:
        if common.is_debugging():
            raise
        # A terminal breaks a long sentence between words; a log keeps it on its line.
        said = f"loyalnest: {common.sentence(error)}"
        common.err.print(said, markup=False, soft_wrap=not common.err.is_terminal)
        sys.exit(1)


if __name__ == "__main__":
    main()
