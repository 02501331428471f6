"""What of an item would count, by the code that the stream reads webhooks with; and a file's sums, for a dry run."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from events import envelopes, instants, keys, orders, payloads
from events.envelopes import Opened
from events.errors import BadEvent
from events.orders import Terms
from events.payloads import Told
from events.webhook_topics import TOPICS, Kind
from imports.items import Item, Problem


class Judged(NamedTuple):
    """An item that can be used: its payload minimised, and the order as the stream will read it (None: it is none)."""

    item: Item
    opened: Opened
    order: Terms | None


def judge(item: Item, shop: str, currency: str) -> Judged | Problem:
    """Whether an item can be used; a Problem says why not."""
    try:
        return _judged(item, shop, currency)
    except BadEvent as error:
        return Problem(item.line, error.detail)


def _judged(item: Item, shop: str, currency: str) -> Judged:
    payload = item.payload
    if TOPICS[item.topic].kind is Kind.AWARD:
        return Judged(item, _award(item, shop), None)
    small = envelopes.checked(item.topic, shop, payload, item.exact or (lambda: payload))
    opened = envelopes.opened(item.topic, shop, small, payload)
    if TOPICS[item.topic].kind is not Kind.SNAPSHOT:
        for name in ("created_at", "updated_at"):
            if small.get(name) is not None:
                instants.parse(small[name])
        return Judged(item, opened, None)
    return Judged(item, opened, orders.terms(item.topic, small, currency)[0])


def _award(item: Item, shop: str) -> Opened:
    """Of whoever is known by their address alone the customer's id is put there when that is sealed."""
    small = payloads.minimise(item.topic, item.payload)
    email = item.payload.get("email")
    key = payloads.key_of(item.topic, shop, small) if email is None else None
    return Opened(small, key, Told(email))


@dataclass
class Summary:
    """What a file would bring in. `money` is minor units of orders that count, by status; days are UTC."""

    orders: int = 0
    guests: int = 0
    first: int | None = None
    last: int | None = None
    by_status: Counter[str] = field(default_factory=Counter)
    money: Counter[str] = field(default_factory=Counter)
    tests: int = 0
    cancelled: int = 0
    customers_told: int = 0
    balances: int = 0
    points: int = 0
    problems: list[Problem] = field(default_factory=list)
    _people: set[int] = field(default_factory=set)

    @property
    def customers(self) -> int:
        """Customers by id, and addresses without one."""
        return len(self._people)

    def add_plain(self, status: str, count: int, minor: int, guests: int, first: int, last: int) -> None:
        """Orders of one status, neither tests nor cancelled, of which so many have no customer."""
        self.orders += count
        self.guests += guests
        self.by_status[status] += count
        if minor:
            self.money[status] += minor
        self._span(first)
        self._span(last)

    def add_people(self, people: Iterable[str]) -> None:
        """Customers by id, or addresses, normalised."""
        self._people.update(map(hash, people))

    def _span(self, at: int) -> None:
        self.first = at if self.first is None or at < self.first else self.first
        self.last = at if self.last is None or at > self.last else self.last

    def add(self, found: Judged | Problem) -> None:
        """One more item, or a line that cannot be read."""
        if isinstance(found, Problem):
            self.problems.append(found)
            return
        if found.order is None:
            award = TOPICS[found.item.topic].kind is Kind.AWARD
            self.customers_told += not award
            self.balances += award
            self.points += found.opened.payload["points"] if award else 0
            key = found.opened.key
            self._people.add(hash(found.opened.told.email if key is None else keys.split(key)[1]))
            return
        order = found.order
        self.orders += 1
        who = order["customer"] or found.opened.told.email
        if who:
            self._people.add(hash(who))
        else:
            self.guests += 1
        self._span(order["processed_at"])
        self.tests += order["test"]
        self.cancelled += order["cancelled"]
        self.by_status[order["status"]] += 1
        if order["status"] in orders.COUNTING and not order["test"] and not order["cancelled"]:
            self.money[order["status"]] += max(order["base"] - order["gift"], 0)
