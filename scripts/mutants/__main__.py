"""`make mutants`."""

import argparse
import sys
import time

from rich.console import Console
from rich.table import Table

from scripts.mutants import MUTANTS
from scripts.mutants.trying import Stale, check_fit, run


def main() -> int:
    parser = argparse.ArgumentParser(description="Break the code in known ways; the tests must notice each.")
    parser.add_argument("-k", metavar="WORD", default="", help="only mutants whose name holds this")
    parser.add_argument("--list", action="store_true", help="name the mutants and end")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    mutants = [mutant for mutant in MUTANTS if arguments.k in mutant.name]
    if arguments.list:
        for mutant in mutants:
            console.print(f"{mutant.name} [dim]({mutant.file})[/dim]")
        return 0
    started = time.monotonic()
    try:
        check_fit(mutants)
        found = run(mutants, console)
    except Stale as error:
        console.print(f"[red]{error}[/red]")
        return 2
    table = Table("mutant", "file", "verdict", "s")
    for mutant in mutants:
        verdict, seconds = found[mutant.name]
        style = "" if verdict.startswith("noticed") else "red"
        table.add_row(mutant.name, mutant.file, verdict, f"{seconds:.0f}", style=style)
    console.print(table)
    lost = [name for name, (verdict, _) in found.items() if not verdict.startswith("noticed")]
    console.print(f"{len(mutants) - len(lost)} of {len(mutants)} noticed in {time.monotonic() - started:.0f} s")
    return 1 if lost or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
