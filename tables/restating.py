"""A partition's windows made anew from its customers' entries: after a recovery, and when a shop changes its zone.

Both are generators of small steps: whoever drives them may do other things between two steps, but must fold no chunk
of the partition until the last.

The customers' table keeps the zone under which a shop's days stand in a partition (windows.zone_key). It is written
with the first entry, and again once every day has left under another zone, never before: so after any crash it tells
whether the days have to be stated again.
"""

from collections.abc import Iterable, Iterator, Mapping
from zoneinfo import ZoneInfo

from events import codec, keys, topics
from events.messages import Message
from tables import contributions, customers, windows
from tables.state import Writes
from tables.windows import Partial, Sums, Window

#: Entries read between two steps, of a customer who has many.
_ENTRIES = 500


class Stored:
    """One customer's nodes in a table, to be read."""

    def __init__(self, table: Mapping[str, bytes], key: str) -> None:
        self._table = table
        self._key = key

    def get(self, number: int) -> contributions.Node:
        """The node of this number, as it is kept."""
        return contributions.unpacked(self._table[f"{self._key}#{number}"])


def rebuilding(table: Mapping[str, bytes], partial: Partial) -> Iterator[None]:
    """Fills an empty Partial with what a partition's entries sum to: what a recovery leaves the stream with."""
    zones: dict[str, ZoneInfo | None] = {}
    for key in list(table):
        if (shop := windows.shop_of_zone_key(key)) is not None:
            partial.hear_of(shop)  # perhaps of a zone alone: a crash may have kept nothing more
        value = None if "#" in key else table.get(key)
        if value is not None:
            state = customers.unpacked(value)
            shop, customer_id = keys.split(key)
            partial.advance(shop, state["now"])
            if shop not in zones:
                zones[shop] = windows.standing_zone(table, shop)
            zone = zones[shop]
            if zone is not None:
                now = partial.time(shop)
                oldest = now - windows.LONGEST
                for debit, entries in _trees(Stored(table, key), state, oldest):
                    changes = _changes(entries, customer_id, zone, now, debit)
                    for at, (window, change) in enumerate(changes, start=1):
                        partial.add(shop, window, change)
                        if at % _ENTRIES == 0:
                            yield
        yield


def rebuild(table: Mapping[str, bytes]) -> Partial:
    """As `rebuilding`, at once."""
    partial = Partial()
    for _ in rebuilding(table, partial):
        pass
    return partial


def _trees(
    stored: Stored, state: customers.CustomerState, since: int = 0
) -> Iterator[tuple[bool, Iterator[contributions.Entry]]]:
    """The entries of what a customer was given since an instant, and (True) of what was taken: of nearly nobody any."""
    yield False, contributions.entries(stored, state["tree"], since)
    if state["account"] is not None:
        yield True, contributions.entries(stored, state["account"]["debits"], since)


def _changes(
    entries: Iterable[contributions.Entry], customer_id: str, zone: ZoneInfo, now: int, debit: bool
) -> Iterator[tuple[Window, tuple[int, ...]]]:
    """What one customer's entries add to each window that is open at a stream time."""
    guest = keys.is_guest(customer_id)
    seen: dict[str, int] = {}
    for entry in entries:
        change = windows.contribution(entry, guest, debit)
        for window in windows.open_at(entry[contributions.PROCESSED], zone, now):
            yield window, _with_customer(change, window, seen, guest)


def _with_customer(change: tuple[int, ...], window: Window, seen: dict[str, int], guest: bool) -> tuple[int, ...]:
    """The change, and the customer in it if it is their first counted order in the window. Entries come in the order of
    time: `seen` has of each size when the last window began in which there was one."""
    if guest or not change[windows.ORDERS] or seen.get(window.size) == window.start:
        return change
    seen[window.size] = window.start
    return (*change[: windows.CUSTOMERS], 1, *change[windows.CUSTOMERS + 1 :])


class Restatement:
    """A shop's days in one partition under another zone: first `steps` to its end, then `outputs` and `writes`.

    Every window that an entry falls into is stated, be its sums nothing: it may have had a row when the shop stood
    under the zone before. Entries never go, so no row can be older than they are. What is past its retention
    is told to be late, and the batch rebuilds it.
    """

    def __init__(self, table: Mapping[str, bytes], shop: str, zone: ZoneInfo) -> None:
        self._table = table
        self._shop = shop
        self._zone = zone
        self._sums: Sums = {}

    def steps(self) -> Iterator[None]:
        """Walks the shop's customers."""
        prefix = f"{self._shop}/"
        for key in list(self._table):
            value = self._table.get(key) if key.startswith(prefix) and "#" not in key else None
            if value is not None:
                guest, seen = keys.is_guest(key.removeprefix(prefix)), dict[str, int]()
                for debit, entries in _trees(Stored(self._table, key), customers.unpacked(value)):
                    for at, entry in enumerate(entries, start=1):
                        window = windows.window("day", entry[contributions.PROCESSED], self._zone)
                        change = windows.contribution(entry, guest, debit)
                        windows.add_to(self._sums, window, _with_customer(change, window, seen, guest))
                        if at % _ENTRIES == 0:
                            yield
            yield

    def outputs(self, partition: int, currency: str, now: int, fence: int) -> list[Message]:
        """The days' rows, for the shop's stream time `now`, under their owner's fence."""
        key = f"{self._shop}/{partition}"
        made = []
        for window in sorted(self._sums):
            values = tuple(self._sums[window]) if windows.is_open(window, now) else None
            row = windows.row(self._shop, window, partition, currency, values, fence)
            made.append(Message(topics.WINDOWS, key, codec.dumps(row)))
        return made

    def writes(self) -> Writes:
        """What the table keeps once all outputs have left."""
        return {windows.zone_key(self._shop): windows.packed_zone(self._zone)}

    def apply(self, partial: Partial, now: int) -> None:
        """The days take the place of those under the zone before."""
        days = {window: sums for window, sums in self._sums.items() if windows.is_open(window, now)}
        partial.replace_days(self._shop, days)
