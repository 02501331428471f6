"""The words that the tables of the analysts' file are described in."""

from typing import Final, Literal, NamedTuple

MONEY: Final = "in major units of the shop's currency (about.currency)"
MINOR: Final = "in minor units of the shop's currency, an integer"
UTC: Final = "an instant"
LOCAL: Final = "by the clocks of the shop (about.zone), without a zone of its own"
CUSTOMER: Final = "the customer's id at Shopify; mail-..., in this file only, for who is known by an address alone"


class Table(NamedTuple):
    """A table or a view: what it holds, its columns in order, each with its meaning, and the SQL that fills it.

    One that is temporary is there for those after it, and not in the file.
    """

    name: str
    means: str
    columns: dict[str, str]
    query: str
    kind: Literal["TABLE", "VIEW", "TEMP TABLE"] = "TABLE"
