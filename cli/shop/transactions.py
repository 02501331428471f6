"""Transactions of a file (imports/transactions.py) as webhooks to post, in some order. Pure."""

from collections.abc import Iterable
from random import Random

from cli.shop.deliveries import Outgoing
from imports import transactions
from imports.transactions import Transaction


def order_paid(shop: str, transaction: Transaction) -> Outgoing:
    """It as orders/paid; playing it again gives the same ids, wherever in whatever file it then stands."""
    delivery = f"play-{transactions.delivery(shop, transaction)}"
    return Outgoing("orders/paid", transaction.at, delivery, delivery, transactions.order(shop, transaction))


def arrange(
    rows: Iterable[Transaction], shuffle: int | None = None, duplicate_percent: float = 0.0
) -> list[Transaction]:
    """The rows in the order in which they are posted: shuffled by a seed, so many of a hundred posted twice."""
    random = Random(shuffle or 0)  # noqa: S311 - the same seed must give the same order
    ordered = list(rows)
    if shuffle is not None:
        random.shuffle(ordered)
    again = random.sample(range(len(ordered)), round(len(ordered) * duplicate_percent / 100))
    places = [(float(at), row) for at, row in enumerate(ordered)]
    places += [(at + random.uniform(0.5, 200), ordered[at]) for at in again]
    return [row for _, row in sorted(places, key=lambda place: place[0])]
