"""The R × FM grid as a map: each segment's cells as rectangles, and its colour."""

from collections.abc import Sequence
from typing import Final, NamedTuple

#: How many colours there are: a segment's is that of its place in the grid, best first. More segments begin anew.
COLOURS: Final = 10


class Tile(NamedTuple):
    """A rectangle of one segment: 1-based row and column of its upper left cell, and how far it goes."""

    segment: str
    row: int
    column: int
    rows: int
    columns: int


def tiles(grid: Sequence[Sequence[str]]) -> list[Tile]:
    """The grid's cells, joined to rectangles as wide and then as high as one name goes, row by row."""
    left = {(row, column): name for row, names in enumerate(grid) for column, name in enumerate(names)}
    found = []
    for row, names in enumerate(grid):
        for column, name in enumerate(names):
            if (row, column) not in left:
                continue
            columns = 1
            while left.get((row, column + columns)) == name:
                columns += 1
            rows = 1
            while all(left.get((row + rows, column + each)) == name for each in range(columns)):
                rows += 1
            for down in range(rows):
                for right in range(columns):
                    del left[row + down, column + right]
            found.append(Tile(name, row + 1, column + 1, rows, columns))
    return found


def colour(rank: int | None, prospects: bool = False) -> str:
    """The class of a segment's colour, by its rank in the grid; of one that the grid does not know, that of none."""
    if prospects:
        return "seg-p"
    return "seg-x" if rank is None else f"seg-{rank % COLOURS}"
