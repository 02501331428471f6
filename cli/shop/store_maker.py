"""A shop that never was: a seeded year of webhooks, as Shopify would have sent them. Pure.

The year ends at `until`. Customers differ as real ones do: how much each buys is heavy-tailed, most fall silent
after a while, some never buy. Among the orders are guests, tests, cancellations, partial and full refunds, gift
cards, discounts and foreign presentment currencies; of the deliveries 5 % come twice and 5 % late. E-mail addresses
are in domains reserved for examples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, count
from random import Random
from typing import Any, Final

from cli.shop import store_payloads
from cli.shop.deliveries import Outgoing
from cli.shop.store_payloads import Line, Order, Person, Refund
from events import money
from events.instants import DAY, HOUR, MINUTE, SECOND

DUPLICATES: Final = 0.05
LATE: Final = 0.05

_YEAR = 365 * DAY
_PROSPECTS = 0.12
_GUESTS, _TESTS, _CANCELLED = 0.06, 0.015, 0.04
_PARTLY_REFUNDED, _REFUNDED = 0.07, 0.03
_GIFT_CARDS, _DISCOUNTED, _ABROAD = 0.03, 0.12, 0.04
_LATER_NAMED = 0.15  # of the guests' orders: attached to a customer afterwards

_FIRST = "Ada Bela Cleo Dina Enno Fay Gil Hana Ivo Jun Kai Lea Mio Nia Oda Pia Quin Rae Sol Tia Uma Vic Wen Yara Zoe"
_LAST = "Abel Boer Costa Dietz Egede Fink Grau Holm Ito Jansen Kern Lund Meyer Novak Okoye Perez Roth Silva Tanaka"
_CONSENT = ("subscribed", "subscribed", "subscribed", "not_subscribed", "unsubscribed", "pending")
_DOMAINS = ("example.com", "example.net", "example.org")

#: A webhook that is to be sent: (when, topic, what it is about).
_Event = tuple[int, str, Order | Person, Refund | None]


@dataclass
class _Shopper:
    """A customer's habits: how much they buy, and from when to when."""

    person: Person
    weight: float
    begins: int
    ends: int
    products: list[int] = field(default_factory=list)


def make_store(
    until: int, *, seed: int = 1, customers: int = 2000, webhooks: int = 20_000, currency: str = "USD"
) -> Iterator[Outgoing]:
    """Exactly `webhooks` deliveries in the order in which they arrive, all triggered in the year before `until`.

    `until` in microseconds. The same arguments give the same deliveries, byte for byte.
    """
    random = Random(f"{seed}/{customers}/{webhooks}")  # noqa: S311 - the same seed must give the same shop
    return _Maker(random, until, currency).deliveries(customers, webhooks)


def live_orders(
    until: int,
    now: Callable[[], int],
    *,
    seed: int = 1,
    customers: int = 2000,
    webhooks: int = 20_000,
    currency: str = "USD",
) -> Iterator[Outgoing]:
    """Orders that go on coming, without end, from the customers of `make_store` with the same arguments.

    Each is paid the instant that it is asked for, by `now` (microseconds).
    """
    random = Random(f"{seed}/{customers}/{webhooks}")  # noqa: S311 - the same seed must give the same shop
    return _Maker(random, until, currency).goes_on(customers, webhooks, now)


class _Maker:
    def __init__(self, random: Random, until: int, currency: str) -> None:
        self.random = random
        self.until = until
        self.currency = currency
        self.unit = 10 ** money.exponent(currency)
        self._ids = {"order": 5_600_000_000_000, "customer": 7_100_000_000_000, "line": 14_000_000_000_000}
        self._prices = [round(random.lognormvariate(3.3, 0.7) * 2) * self.unit // 2 for _ in range(60)]
        self._orders = 1000

    def _id(self, kind: str) -> int:
        self._ids[kind] += self.random.randrange(1, 40_000)
        return self._ids[kind]

    # --- what happens --------------------------------------------------------------------------------------------

    def deliveries(self, customers: int, webhooks: int) -> Iterator[Outgoing]:
        wanted = round(webhooks * (1 - DUPLICATES))
        shoppers = [self._shopper(number) for number in range(customers)]
        events: list[_Event] = [(each.person.created_at, "customers/create", each.person, None) for each in shoppers]
        del events[wanted:]
        weights = list(accumulate(each.weight for each in shoppers))
        while len(events) < wanted:
            shopper = self.random.choices(shoppers, cum_weights=weights)[0]
            events += self._order_events(shopper)[: wanted - len(events)]
        events.sort(key=lambda event: event[0])
        for number in self._arrivals(len(events), webhooks - len(events)):
            yield self._outgoing(number, *events[number])

    def goes_on(self, customers: int, webhooks: int, now: Callable[[], int]) -> Iterator[Outgoing]:
        shoppers = [self._shopper(number) for number in range(customers)]
        weights = list(accumulate(each.weight for each in shoppers))
        # Beyond every number of the year's.
        self._orders += webhooks
        for kind in self._ids:
            self._ids[kind] += 100_000 * (customers + webhooks)
        for number in count(webhooks):
            order = self._order(self.random.choices(shoppers, cum_weights=weights)[0])
            order.placed_at = order.paid_at = at = now()
            yield self._outgoing(number, at, "orders/paid", order, None)

    def _shopper(self, number: int) -> _Shopper:
        random = self.random
        begins = self.until - round(_YEAR * random.random() ** 0.7)
        person = Person(
            ident=self._id("customer"),
            first=random.choice(_FIRST.split()),
            last=random.choice(_LAST.split()),
            domain=random.choice(_DOMAINS),
            consent=random.choice(_CONSENT),
            created_at=max(begins - round(random.expovariate(1 / HOUR)), self.until - _YEAR),
            number=number,
        )
        # Somebody must buy: the first customer always does.
        weight = 0.0 if random.random() < _PROSPECTS and number > 0 else random.lognormvariate(0, 1.1)
        # Half stay; the others are gone after some weeks or months.
        stays = _YEAR if random.random() < 0.45 else round(random.expovariate(1 / (75 * DAY)))
        liked = random.sample(range(len(self._prices)), 6)
        return _Shopper(person, weight, begins, min(begins + stays, self.until), liked)

    def _order_events(self, shopper: _Shopper) -> list[_Event]:
        """Everything that is sent about one order, as far as it has happened."""
        random = self.random
        order = self._order(shopper)
        events: list[_Event] = [(order.placed_at, "orders/create", order, None)]
        if order.paid_at is not None:
            events.append((order.paid_at, "orders/paid", order, None))
            events += self._afterwards(order)
        if random.random() < _CANCELLED:
            order.cancelled_at = order.placed_at + random.randrange(5 * MINUTE, 20 * HOUR)
            events.append((order.cancelled_at, "orders/cancelled", order, None))
        if order.named_at is not None:
            events.append((order.named_at, "orders/updated", order, None))
        return [event for event in events if event[0] <= self.until]

    def _order(self, shopper: _Shopper) -> Order:
        random = self.random
        placed = shopper.begins + round((shopper.ends - shopper.begins) * random.random())
        placed = min(placed, self.until - SECOND)
        guest = random.random() < _GUESTS
        self._orders += 1
        paid = random.random() < 0.97
        return Order(
            ident=self._id("order"),
            number=self._orders,
            person=shopper.person,
            named_at=(placed + 2 * HOUR if random.random() < _LATER_NAMED else None) if guest else None,
            guest=guest,
            placed_at=placed,
            paid_at=placed + random.randrange(SECOND, 40 * SECOND) if paid else None,
            lines=self._lines(shopper),
            test=random.random() < _TESTS,
            currency=self.currency,
            presentment="EUR" if random.random() < _ABROAD and self.currency != "EUR" else self.currency,
        )

    def _lines(self, shopper: _Shopper) -> list[Line]:
        random = self.random
        lines = []
        discount = random.choice((10, 15, 20)) if random.random() < _DISCOUNTED else 0
        for product in random.sample(shopper.products, random.choice((1, 1, 1, 2, 2, 3))):
            price, quantity = self._prices[product], random.choice((1, 1, 1, 1, 2, 3))
            off = price * quantity * discount // 100
            lines.append(Line(self._id("line"), product, price, quantity, off, gift_card=False))
        if random.random() < _GIFT_CARDS:
            price = random.choice((25, 50, 100)) * self.unit
            lines.append(Line(self._id("line"), 0, price, 1, 0, gift_card=True))
        return lines

    def _afterwards(self, order: Order) -> list[_Event]:
        random = self.random
        shipped = order.placed_at + random.randrange(8 * HOUR, 3 * DAY)
        events: list[_Event] = [(shipped, "orders/updated", order, None)] if random.random() < 0.4 else []
        chance = random.random()
        if chance < _PARTLY_REFUNDED + _REFUNDED:
            whole = chance < _REFUNDED
            at = order.placed_at + random.randrange(2 * DAY, 30 * DAY)
            for refund in self._refunds(order, at, whole=whole):
                order.refunds.append(refund)
                events += [
                    (refund.at, "refunds/create", order, refund),
                    (refund.at + SECOND, "orders/updated", order, None),
                ]
        return events

    def _refunds(self, order: Order, at: int, *, whole: bool) -> list[Refund]:
        """The goods that come back: all of them, at once or in two parcels, or a piece of one line."""
        if not whole:
            return [Refund(self._id("order"), at, [(0, 1)])]
        parts = [(number, line.quantity) for number, line in enumerate(order.lines)]
        if len(parts) > 1 and self.random.random() < 0.5:
            return [Refund(self._id("order"), at, parts[:1]), Refund(self._id("order"), at + 4 * DAY, parts[1:])]
        return [Refund(self._id("order"), at, parts)]

    # --- how it arrives ------------------------------------------------------------------------------------------

    def _arrivals(self, count: int, duplicates: int) -> list[int]:
        """Which event arrives when: in order, but for those that come late, and those that come again."""
        random = self.random
        places = [float(number) for number in range(count)]
        for number in random.sample(range(count), round(count * LATE)):
            places[number] += random.uniform(3, 400)
        arrivals = [(place, number) for number, place in enumerate(places)]
        again = random.sample(range(count), min(duplicates, count))
        arrivals += [(places[number] + random.uniform(1, 300), number) for number in again]
        return [number for _, number in sorted(arrivals)]

    def _outgoing(self, number: int, at: int, topic: str, about: Order | Person, refund: Refund | None) -> Outgoing:
        payload: dict[str, Any]
        if isinstance(about, Person):
            payload = store_payloads.customer(about)
        elif refund is not None:
            payload = store_payloads.refund(about, refund)
        else:
            payload = store_payloads.order(about, at)
        # What one merchant action causes shares an event id; each delivery has a webhook id of its own.
        event = f"{topic.partition('/')[0]}-{about.ident}-{at // (10 * SECOND)}"
        return Outgoing(topic, at, f"store-{number:08x}-{at % 1_000_003:06x}", event, payload)
