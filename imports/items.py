"""What a reader makes of a file: orders and customers as Shopify's webhooks have them, awards, and bad lines."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

Json = dict[str, Any]

ORDER: Final = "orders/updated"
CUSTOMER: Final = "customers/update"

#: As much of an address as tells it from a name in a row that has slipped.
ADDRESS: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")


class FileError(ValueError):
    """A file that cannot be read at all; the message says why, and what to do.

    It may repeat the file's own words, and can be written and stored whatever they hold.
    """

    def __init__(self, said: str) -> None:
        super().__init__(said.encode(errors="backslashreplace").decode().replace("\0", "\\x00"))


class ImportingError(RuntimeError):
    """It cannot be brought in just now; the message says why."""


class Item(NamedTuple):
    """One order, customer or award. `line` counts from 1, the header being the first; `triggered_at` in microseconds.

    `payload` has a webhook's shape and is not minimised: the address in it is in clear. `exact` makes it anew with
    JSON's decimals kept, where the file is JSON.
    """

    line: int
    topic: str
    triggered_at: int
    webhook_id: str
    payload: Json
    exact: Callable[[], Json] | None = None


class Problem(NamedTuple):
    """A line that cannot be read, and why, without what stands in it: that may be personal."""

    line: int
    reason: str


@dataclass
class Notes:
    """What a merchant should know of a file beside its lines: a sentence's key, and how often it applies."""

    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, key: str, count: int = 1) -> None:
        """It applies once more, or so many times."""
        self.counts[key] += count


#: The sentences of Notes, each with the number in front.
NOTES: Final = {
    "no_id": "orders have no Id: their ids are made from their names, so webhooks of the same orders cannot be joined"
    " to them and would count them twice",
    "no_offset": "times have no UTC offset and were taken as UTC",
    "no_refunds": "orders are partially refunded, but the file has no column Refunded Amount: they count in full",
    "thousands": "amounts such as 12,500 were read as thousands: no other amount of the file tells what the comma is",
    "not_utf8": "lines are not UTF-8, perhaps Windows-1252: what is wrong in them is left out",
    "repeated": "orders stand in the file more than once, alike, and were taken once",
    "no_points": "customers have no points and were left out",
    "negative": "orders with negative amounts were left out",
    "test": "orders are tests (Payment Method names the bogus gateway) and do not count",
}


class Chunk(NamedTuple):
    """What of a file makes one item: where it begins, and what was read of it. It goes to another process as it is."""

    line: int
    read: Any


class Reader(Protocol):
    """A file of one format. `scan` comes first and tells how many lines it has.

    Then `chunks` cuts it into pieces, one after the other, and `item` makes something of a piece: that is most of the
    work, and may be done by several processes. `chunks` may be asked for again.
    """

    form: str
    notes: Notes

    def scan(self) -> int:
        """How many lines there are."""

    def chunks(self) -> Iterator[Chunk | Problem]:
        """The file in pieces, from its beginning."""

    def item(self, chunk: Chunk) -> Item | Problem:
        """What a piece comes to."""


def items(reader: Reader) -> Iterator[Item | Problem]:
    """All that a file holds."""
    for chunk in reader.chunks():
        yield chunk if isinstance(chunk, Problem) else reader.item(chunk)
