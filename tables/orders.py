"""The order fold: an order's state is a join of everything its webhooks said, so arrival order cannot matter.

    state = newest snapshot  x  union of refunds  x  cancelled  x  deleted  x  owners, claims, homes ever  x  now
            x  newest address and consent told of each owner

Each part only grows (the newest by a total order, a union, a maximum), so merging is commutative, associative and
idempotent. What leaves is a function of the state alone: one fact for each customer the order ever had.
"""

from functools import lru_cache
from typing import Any, Final, cast

from typing_extensions import TypedDict

from events import contacts, keys, money, orders
from events.account_records import OrderFact
from events.envelopes import Webhook
from events.programs import Policies, Policy
from events.webhook_topics import Kind
from tables import packing

#: Of one order with one customer; it has one, or two when somebody mended it.
MAX_ADDRESSES = 100

#: Of one order: Shopify takes five.
MAX_CODES = 20


class OrderState(TypedDict):
    """What is kept of one order. Instants in microseconds, amounts in minor units."""

    snapshot: orders.Snapshot | None
    refunds: dict[str, orders.Refund]
    cancelled: bool
    deleted_at: int  # 0: not deleted
    owners: list[str]  # customer ids and guest keys, sorted
    claims: list[list[str]]  # every [customer, address] that a snapshot named together, sorted
    homes: list[int]  # every processed_at it ever had, sorted
    contacts: dict[str, contacts.Key]  # by owner, the newest address told: [placed_at, updated_at, sealed]
    consents: dict[str, contacts.Key]  # by owner, that they agreed: [placed_at, sealed]
    now: int  # the greatest event time seen
    codes: list[str]  # every discount code that it ever bore, sorted


def initial() -> OrderState:
    """An order of which nothing is known."""
    return {
        "snapshot": None,
        "refunds": {},
        "cancelled": False,
        "deleted_at": 0,
        "owners": [],
        "claims": [],
        "homes": [],
        "contacts": {},
        "consents": {},
        "now": 0,
        "codes": [],
    }


_INITIAL: Final = cast("dict[str, Any]", initial())
_SNAPSHOT: Final[dict[str, Any]] = dict.fromkeys(orders.Snapshot.__annotations__)


def packed(state: OrderState) -> bytes:
    """The state as the table keeps it: values in the order of OrderState's fields, and of Snapshot's."""
    snapshot = state["snapshot"]
    told = None if snapshot is None else list(snapshot.values())
    return packing.pack([told, *list(state.values())[1:]])


def unpacked(data: bytes) -> OrderState:
    """The state that `packed` made; BadEvent for what another version did."""
    told, *rest = packing.unpack(data)
    snapshot = None if told is None else packing.named(_SNAPSHOT, told)
    return cast("OrderState", packing.named(_INITIAL, [snapshot, *rest]))


def apply(state: OrderState, webhook: Webhook, currency: str) -> OrderState:
    """The state joined with one webhook of the order; BadEvent, and no change, for one that cannot be used."""
    kind = webhook.kind
    newer: OrderState = {**state}
    newer["now"] = max(state["now"], webhook.event_time)
    if kind is Kind.SNAPSHOT:
        snapshot, refunds = orders.snapshot(webhook, currency)
        _join_refunds(newer, refunds)
        _join_contact(newer, snapshot, webhook)
        claim = orders.claim(snapshot["customer"], webhook.payload)
        if claim is not None:
            newer["claims"] = _added(state["claims"], list(claim))
        for each in webhook.payload.get("discount_codes") or ():
            if each and each.get("code"):
                newer["codes"] = _added(newer["codes"], each["code"])
        _join_snapshot(newer, snapshot, keys.resource_id(webhook.payload.get("id")))
    elif kind is Kind.REFUND:
        _join_refunds(newer, dict([orders.refund(webhook.payload, currency)]))
    elif kind is Kind.ORDER_GONE:
        newer["deleted_at"] = max(state["deleted_at"], webhook.triggered_at)
    return newer  # (orders/edited is a delta; the orders/updated that follows carries the whole order)


def _join_refunds(state: OrderState, refunds: dict[str, orders.Refund]) -> None:
    if not refunds:
        return
    known = dict(state["refunds"])
    for refund_id, refund in refunds.items():
        # Copies of one refund are equal, or one says less; where two differ the greater stands, so that order cannot
        # matter.
        have = known.get(refund_id)
        known[refund_id] = refund if have is None else [max(pair) for pair in zip(have, refund, strict=True)]
    state["refunds"] = known


def _join_snapshot(state: OrderState, snapshot: orders.Snapshot, order_id: str) -> None:
    have = state["snapshot"]
    if have is None or have["key"] < snapshot["key"]:
        state["snapshot"] = snapshot
    state["cancelled"] = state["cancelled"] or snapshot["cancelled"]
    state["owners"] = _added(state["owners"], snapshot["customer"] or keys.guest(order_id))
    state["homes"] = _added(state["homes"], snapshot["processed_at"])


def _join_contact(state: OrderState, snapshot: orders.Snapshot, webhook: Webhook) -> None:
    """What the snapshot told of its customer, or of whom its address alone names: the newest that is told stands."""
    contact, consent = webhook.payload.get("contact"), webhook.payload.get("consent")
    owner = snapshot["customer"] or webhook.payload.get("address")
    if owner is None or not (contact or consent):
        return
    placed_at = contacts.placed_at(webhook, snapshot["processed_at"])
    if contact:
        state["contacts"] = _newer(state["contacts"], owner, [placed_at, snapshot["key"][0], contact])
    if consent:
        state["consents"] = _newer(state["consents"], owner, [placed_at, consent])


def _newer(have: dict[str, contacts.Key], owner: str, key: contacts.Key) -> dict[str, contacts.Key]:
    return {**have, owner: max(have.get(owner, []), key)}


def _added(have: list[Any], value: Any) -> list[Any]:
    return have if value in have else sorted([*have, value])


def net(state: OrderState, snapshot: orders.Snapshot, policy: Policy) -> int:
    """The newest snapshot's value less the refunds it does not know of and less gift cards; minor units, >= 0.

    A refund takes what the policy says, and so do taxes. A refunded order has none, whatever amounts it shows.
    """
    if snapshot["status"] == "refunded":
        return 0
    goods_left, tax, beyond = snapshot["base"] - snapshot["gift"], snapshot["tax"], 0
    for refund_id, refund in state["refunds"].items():
        created_at, goods, goods_tax, *_ = refund
        if not _knows(snapshot, refund_id, created_at):
            goods_left -= goods
            tax -= goods_tax
        beyond += _taken(refund, policy) - goods
    value = min(max(goods_left - beyond, 0), money.MAX_MINOR)
    if policy.taxes == "as_priced":
        return value
    if goods_left <= 0:  # what is left is no goods' price: it holds tax as the order did when it was placed
        goods_left, tax = max(snapshot["gross"], 0), snapshot["gross_tax"]
    return value - orders.share(min(max(tax, 0), goods_left), value, goods_left)


def _knows(snapshot: orders.Snapshot, refund_id: str, created_at: int) -> bool:
    """Whether a refund's goods are off the snapshot's value already."""
    known = snapshot["refund_ids"]
    if known is None:
        updated_at: int = snapshot["key"][0]
        return created_at <= updated_at
    return refund_id in known


def _taken(refund: orders.Refund, policy: Policy) -> int:
    """What a refund takes off an order's net; minor units."""
    _, goods, _, beyond, paid = refund
    if policy.refunds == "goods":
        return goods
    if policy.refunds == "money" and paid != orders.UNTOLD:
        return paid
    return goods + beyond


def gross(snapshot: orders.Snapshot, policy: Policy) -> int:
    """The order's value as it was placed; minor units."""
    return snapshot["gross"] - (snapshot["gross_tax"] if policy.taxes == "excluded" else 0)


def changed_at(state: OrderState, snapshot: orders.Snapshot) -> int:
    """When the state came about (microseconds): the latest of snapshot, refunds and deletion."""
    latest: int = max(snapshot["key"][0], state["deleted_at"])
    if state["refunds"]:
        latest = max(latest, *(created_at for created_at, *_ in state["refunds"].values()))
    return latest


def revision(state: OrderState, snapshot: orders.Snapshot) -> str:
    """The state as text that sorts by code point as the state grows.

    Every part only grows with a join while those before it stay, and the first that differs decides. A webhook id is
    followed by a space, which sorts before anything it may hold, so that one being another's beginning does no harm.
    """
    updated_at, triggered_at, webhook_id, digest = snapshot["key"]
    # With their number, all that a join can change of refunds: each part only grows.
    refunds = sum(map(sum, state["refunds"].values())) if state["refunds"] else 0
    return (
        f"{updated_at:015x}{_ordered(changed_at(state, snapshot) - updated_at)}{triggered_at:015x}{webhook_id} {digest}"
        f"{_ordered(len(state['refunds']))}{_ordered(refunds)}{state['cancelled']:d}{state['deleted_at'] > 0:d}"
    )


@lru_cache(maxsize=1 << 10)
def _ordered(number: int) -> str:
    """A number of up to 25 hex digits as text that sorts as numbers do: how many digits, as a letter, then they."""
    digits = f"{number:x}"
    return f"{chr(ord('a') + len(digits))}{digits}"


def changed_at_of(revision: str) -> int:
    """`changed_at` as a revision tells it (microseconds)."""
    end = 16 + ord(revision[15]) - ord("a")
    return int(revision[:15], 16) + int(revision[16:end], 16)


def facts(shop: str, order_id: str, currency: str, state: OrderState, policies: Policies) -> list[OrderFact]:
    """What the order now contributes to each customer it ever had; nothing before its first snapshot."""
    snapshot = state["snapshot"]
    if snapshot is None:
        return []
    owner = snapshot["customer"] or keys.guest(order_id)
    alive = not (snapshot["test"] or state["cancelled"] or state["deleted_at"])
    counted = alive and snapshot["status"] in orders.COUNTING
    paid = not snapshot["test"] and snapshot["status"] in orders.PAID_ONCE
    policy = policies.at(snapshot["processed_at"])
    value = net(state, snapshot, policy)
    base: OrderFact = {
        "type": "order.fact",
        "shop": shop,
        "order_id": order_id,
        "customer_id": owner,
        "revision": revision(state, snapshot),
        "now": state["now"],
        "processed_at": snapshot["processed_at"],
        "homes": state["homes"],
        "currency": currency,
        "counted": counted,
        "paid": paid,
        "net": value if counted else 0,
        "gross": max(value, gross(snapshot, policy)) if paid else 0,
    }
    told = [base if each == owner else _nothing(base, each) for each in state["owners"]]
    return [_reaching(fact, state) for fact in told]


def _nothing(fact: OrderFact, customer_id: str) -> OrderFact:
    """Of somebody whose the order was once."""
    return {**fact, "customer_id": customer_id, "counted": False, "paid": False, "net": 0, "gross": 0}


def _reaching(fact: OrderFact, state: OrderState) -> OrderFact:
    """The fact with what the order told of its customer: addresses by their ids, the newest sealed, and consent."""
    owner = fact["customer_id"]
    addresses = [address for of, address in state["claims"] if of == owner][:MAX_ADDRESSES]
    if state["codes"]:
        fact["codes"] = state["codes"][:MAX_CODES]
    if addresses:
        fact["addresses"] = addresses
    if owner in state["contacts"]:
        placed_at, updated_at, sealed = state["contacts"][owner]
        fact["contact"] = {"sealed": sealed, "placed_at": placed_at, "updated_at": updated_at}
    if owner in state["consents"]:
        placed_at, sealed = state["consents"][owner]
        fact["consent"] = {"sealed": sealed, "placed_at": placed_at}
    return fact
