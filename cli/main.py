"""The `loyalnest` command."""

import gc
import os
import sys
from typing import Annotated, Final

import typer

from cli.commands import common

_HELP: Final = (
    "LoyalNest turns a Shopify store's events into live loyalty points and RFM segments.\n\n"
    "Try it: `loyalnest demo`. Run it: `loyalnest up`, then `loyalnest shops add SHOP`.\n\n"
    "Every option is also a setting, LOYALNEST_*, in the environment or in .env (docs/operations.md)."
)

_TRY: Final = "Try it"
_RUN: Final = "Run it"
_USE: Final = "Use it"

_WORDS: Final = frozenset(
    {
        *("demo", "play", "up", "worker", "sink", "api", "notices", "fulfilment", "migrate", "rebuild", "topics"),
        *("import", "export", "shops", "programs", "points", "keys", "sign-in", "batch", "lake", "sql", "dead-letters"),
        "privacy",
    }
)


def options(
    debug: Annotated[bool, typer.Option("--debug", help="Full logs, and the traceback of an error.")] = False,
) -> None:
    """Options of every command."""
    if debug:
        os.environ["LOYALNEST_LOG_LEVEL"] = "DEBUG"


def command(word: str | None = None) -> typer.Typer:
    """The command with all it can do; with the first word of a call, no more of it than that call needs.

    A process of `up` starts many times, and would load the imports and the demo each time.
    """
    app = typer.Typer(
        name="loyalnest",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        help=_HELP,
    )
    app.callback()(options)
    wanted = {word} if word in _WORDS else _WORDS
    if "demo" in wanted:
        from cli.commands import demo

        app.command(rich_help_panel=_TRY)(demo.demo)
    if "play" in wanted:
        from cli.commands import play

        app.command(rich_help_panel=_TRY)(play.play)
    if wanted & {"up", "rebuild"}:
        from cli.commands import up

        app.command(rich_help_panel=_RUN)(up.up)
        app.command(rich_help_panel=_RUN)(up.rebuild)
    if "notices" in wanted:
        from cli.commands import notices

        app.add_typer(notices.notices_app, name="notices", rich_help_panel=_RUN)
    if "fulfilment" in wanted:
        from cli.commands import fulfilment

        app.add_typer(fulfilment.fulfilment_app, name="fulfilment", rich_help_panel=_RUN)
    if wanted & {"worker", "sink", "api", "migrate", "topics"}:
        from cli.commands import processes

        app.command(rich_help_panel=_RUN)(processes.worker)
        app.command(rich_help_panel=_RUN)(processes.sink)
        app.command(rich_help_panel=_RUN)(processes.api)
        app.command("migrate", rich_help_panel=_RUN)(processes.migrate_database)
        app.add_typer(processes.topics_app, name="topics", rich_help_panel=_RUN)
    if "import" in wanted:
        from cli.commands import importing

        app.command("import", rich_help_panel=_USE)(importing.bring_in)
    if "export" in wanted:
        from cli.commands import exporting

        app.command(rich_help_panel=_USE)(exporting.export)
    if wanted & {"shops", "programs", "keys", "sign-in"}:
        from cli.commands import catalogue, shops

        app.add_typer(shops.shops_app, name="shops", rich_help_panel=_USE)
        app.add_typer(catalogue.programs_app, name="programs", rich_help_panel=_USE)
        app.add_typer(shops.keys_app, name="keys", rich_help_panel=_USE)
        app.command("sign-in", rich_help_panel=_USE)(shops.sign_in)
    if "points" in wanted:
        from cli.commands import points, redeeming

        points.points_app.command("redeem")(redeeming.redeem)
        points.points_app.command("cancel")(redeeming.cancel)
        points.points_app.command("redemptions")(redeeming.show_redemptions)
        app.add_typer(points.points_app, name="points", rich_help_panel=_USE)
    if "batch" in wanted:
        from cli.commands import batch

        app.add_typer(batch.batch_app, name="batch", rich_help_panel=_USE)
    if "lake" in wanted:
        from cli.commands import lake

        app.add_typer(lake.lake_app, name="lake", rich_help_panel=_USE)
    if "sql" in wanted:
        from cli.commands import sql

        app.command(rich_help_panel=_USE)(sql.sql)
    if wanted & {"dead-letters", "privacy"}:
        from cli.commands import books

        app.add_typer(books.letters_app, name="dead-letters", rich_help_panel=_USE)
        app.add_typer(books.privacy_app, name="privacy", rich_help_panel=_USE)
    return app


def main() -> None:
    """Errors end in one sentence on stderr and exit code 1; wrong usage in 2."""
    try:
        command(next((each for each in sys.argv[1:] if not each.startswith("-")), None))()
    except KeyboardInterrupt:  # before a command has begun: those that can go on say how
        sys.exit(130)
    except Exception as error:
        if common.is_debugging():
            raise
        # A terminal breaks a long sentence between words; a log keeps it on its line.
        said = f"loyalnest: {common.sentence(error)}"
        common.err.print(said, markup=False, soft_wrap=not common.err.is_terminal)
        sys.exit(1)
    finally:
        # Else Python looks all it has loaded through for garbage before it goes: a quarter of what a start takes.
        if "duckdb" not in sys.modules:  # which complains of what is still there in the end
            gc.freeze()


if __name__ == "__main__":
    main()
