"""What the commands print for people, so that it can be read in a terminal of 80 columns: no cell is cut or broken."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli.commands import common

#: Wider than any table; a table of its natural width is measured and, into a pipe, printed within it.
_ANY_WIDTH = 10_000


def moment(at: datetime) -> str:
    """An instant in UTC to the second, such as 2026-11-21 09:30:00Z."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def rows(found: Sequence[Mapping[str, str]], numbers: Sequence[str] = ()) -> None:
    """A table of rows with the same columns, `numbers` to the right; where it is too wide, a row a block.

    Into a pipe it is a table of any width, so that a line is a row.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in found[0]:
        table.add_column(name, no_wrap=True, justify="right" if name in numbers else "left")
    for row in found:
        table.add_row(*map(Text, row.values()))
    wide = common.out.options.update(width=_ANY_WIDTH)
    natural = Measurement.get(common.out, wide, table).maximum
    if natural <= common.out.width:
        common.out.print(table)
    elif not common.out.is_terminal:
        Console(width=natural, highlight=False).print(table)
    else:
        for row in found:
            first, *others = ((name, value) for name, value in row.items() if value)
            block(Text(first[1]), *(Text(f"{name}: {value}") for name, value in others))


def block(heading: Text, *lines: Text) -> None:
    """A heading, and under it lines that may be long: they are broken between words, indented."""
    common.out.print(heading, style="bold", soft_wrap=True)
    for line in lines:
        common.out.print(Padding(line, (0, 0, 0, 2)))
