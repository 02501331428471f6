"""The words that the tables of the analysts' file are described in."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

MONEY: Final = "in major units of the shop's currency (about.currency)"
MINOR: Final = "in minor units of the shop's currency, an integer"
UTC: Final = "an instant"
LOCAL: Final = "by the clocks of the shop (about.zone), without a zone of its own"
CUSTOMER: Final = "the customer's id at Shopify; mail-..., in this file only, for who is known by an address alone"


class Table(NamedTuple):
    """A table or a view: what it holds, its columns in order, each with its meaning, and the SQL that fills it.

    One that is temporary is there for those after it, and not in the file. Columns that are `derived` are not stored:
    whoever reads one has it worked out of the others, by this SQL; the query gives those that are left.
    """

    name: str
    means: str
    columns: dict[str, str]
    query: str
    kind: Literal["TABLE", "VIEW", "TEMP TABLE"] = "TABLE"
    derived: Mapping[str, str] = MappingProxyType({})

    @property
    def stored(self) -> list[str]:
        """The columns that the query gives, in order."""
        return [name for name in self.columns if name not in self.derived]


def money(minor: str, digits: int = 18) -> str:
    """SQL that outlives the macros of the making: minor units, of a column, as a decimal number of major units."""
    return f"({minor}::DECIMAL({digits}, 0) * {{unit}})::DECIMAL({digits}, {{decimals}})"


def local(instant: str) -> str:
    """The same of an instant, of a column, by the clocks of the shop."""
    return f"local({instant})"
