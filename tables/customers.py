"""The customer fold: what orders, customer webhooks and rescores make of one customer.

Contributions are a join by (order, home), the highest revision winning; `now` is a maximum; the standing (digits,
segment) is a cache of (contributions, now, cut-point version). How a customer may be reached is tables/reaching.py.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from msgspec import Struct

from events import instants, keys, links
from events.account_records import AccountAward, CustomerForward, OrderFact
from events.envelopes import Webhook
from events.records import CustomerRow, PointsRecord, RfmUpdated, Standing
from events.webhook_topics import ARCHIVED, NAMING, TELLING, Kind
from tables import account as accounts
from tables import contributions, expired, merging, packing, reaching, rfm
from tables.account import Account, Purse
from tables.expired import Told
from tables.ids import change_id
from tables.reaching import Reachable
from tables.reference import ShopReference


class CustomerState(Reachable):
    """What is kept of one customer, with the tree's root; its nodes are kept beside it."""

    now: int
    known: bool
    standing: Standing | None
    links: dict[str, str]  # whom they ever were merged into, or claimed by: the greatest rank of each
    kept: str  # the greatest rank of a merge that kept them
    claimed: list[str]  # the addresses of which it has been told that they are theirs
    tree: contributions.Node
    next_node: int
    account: Account | None  # None: of whom nothing was ever asked
    filed: int  # the greatest event time of what was told of orders and asked, by the account log
    expired: Told | None  # None: nothing was ever told to have run out


class Filed(Struct, frozen=True):
    """What filing did at one home: the entry before and after."""

    home: int
    before: contributions.Entry | None
    after: contributions.Entry


#: Addresses that a customer is remembered to have claimed; what is not remembered is only told again.
MOST_CLAIMED = 64


def times(state: CustomerState) -> tuple[int, int]:
    """What whoever the customer is now hears of their time: `now` and `filed`."""
    return state["now"], state["filed"]


def initial() -> CustomerState:
    """A customer of whom nothing is known."""
    return {
        "now": 0,
        "known": False,
        "deleted": False,
        "redacted": False,
        "contact": None,
        "contact_key": None,
        "addressed": False,
        "order_contact": None,
        "consent": None,
        "order_consent": None,
        "standing": None,
        "links": {},
        "kept": "",
        "claimed": [],
        "tree": contributions.empty(),
        "next_node": 0,
        "account": None,
        "filed": 0,
        "expired": None,
    }


_INITIAL: Final = cast("dict[str, Any]", initial())
_STANDING: Final[dict[str, Any]] = dict.fromkeys(Standing.__annotations__)


def packed(state: CustomerState) -> bytes:
    """The state as the table keeps it: values in the order of CustomerState's fields, and of Standing's."""
    standing = state["standing"]
    kept: dict[str, Any] = {
        **state,
        "standing": None if standing is None else list(standing.values()),
        "tree": contributions.listed(state["tree"]),
        "account": accounts.listed(state["account"]),
        "expired": expired.listed(state["expired"]),
    }
    return packing.pack(kept.values())


def unpacked(data: bytes) -> CustomerState:
    """The state that `packed` made; BadEvent for what another version did."""
    kept = packing.named(_INITIAL, packing.unpack(data))
    standing = kept["standing"]
    kept["standing"] = None if standing is None else packing.named(_STANDING, standing)
    kept["tree"] = contributions.of_list(kept["tree"])
    kept["account"] = accounts.of_list(kept["account"])
    kept["expired"] = expired.of_list(kept["expired"])
    return cast("CustomerState", kept)


def file(state: CustomerState, nodes: contributions.Nodes, fact: OrderFact, shop: ShopReference) -> Iterator[Filed]:
    """Files an order's fact under each of its homes, one at each step, unless a higher revision stands there.

    The order stands at its processed_at; at every other home it ever had stands nothing.
    """
    processed_at = fact["processed_at"]
    state["now"] = max(state["now"], fact["now"])
    state["filed"] = max(state["filed"], fact["now"])
    state["known"] = state["known"] or not keys.is_guest(fact["customer_id"])
    reaching.take_order(state, fact)
    link = decided(state)
    homes = fact["homes"]
    for home in homes if homes == [processed_at] else sorted({*homes, processed_at}):
        before = contributions.find(nodes, state["tree"], home, fact["order_id"])
        if before is not None and merging.own_revision(before) >= fact["revision"]:
            yield Filed(home, before, before)
            continue
        own = _part(fact, home, home == processed_at, shop)
        if before is None and link is None:  # nearly every order's first fact
            entry = [home, fact["order_id"], *own]
        else:
            entry = merging.composed(home, fact["order_id"], merging.with_own(before, own), link)
        state["tree"] = contributions.put(nodes, state["tree"], entry)
        yield Filed(home, before, entry)


def file_forward(
    state: CustomerState, nodes: contributions.Nodes, customer_id: str, forward: CustomerForward
) -> Iterator[Filed]:
    """As `file`, what came from somebody who is this customer now. What came round to where it has been is let fall,
    and nothing is filed where nothing is new."""
    state["now"] = max(state["now"], forward["now"])
    state["filed"] = max(state["filed"], forward.get("filed", 0))
    state["known"] = True
    order_id, revision = forward["order_id"], forward["revision"]
    named = {forward["origin"], *(into for _, into in forward["hops"][:-1])}
    if order_id is None or revision is None or customer_id in named:
        return
    link, debit = decided(state), forward.get("debit", False)
    hops = [list(hop) for hop in forward["hops"]]
    found = []
    for home, *values in sorted(forward["entries"]):
        before = contributions.find(nodes, _tree(state, debit), home, order_id)
        part = [revision, *values, hops, not forward["gone"]]
        found.append((home, before, merging.with_part(before, forward["origin"], part)))
    if all(parts is None for _, _, parts in found):
        return
    for home, before, parts in found:
        entry = before if parts is None else merging.composed(home, order_id, parts, link)
        assert entry is not None, "where there is no entry there is no later part"
        if entry is not before:
            _put(state, nodes, entry, debit)
        yield Filed(home, before, entry)


def file_award(state: CustomerState, nodes: contributions.Nodes, told: AccountAward) -> Iterator[tuple[bool, Filed]]:
    """Files what is told of an award under each of its homes: whether among the debits, and what that did there.

    What it gives is a contribution, what it takes a debit. Nothing is filed where nothing is new.
    """
    state["now"] = max(state["now"], told["now"])
    state["known"] = True
    held, name = account_of(state), accounts.AWARD + told["award_id"]
    known = accounts.recalled(nodes, held, name)
    award = accounts.award(known, told)
    if known is not None and list(award) == known:
        return
    accounts.remember(nodes, held, name, list(award))
    link = decided(state)
    for home in award.homes:
        (at, debit), (points, taken_back) = home, award.points(home)
        before = contributions.find(nodes, _tree(state, bool(debit)), at, name)
        given = points - taken_back if award.given and not debit else 0
        own = [award.revision, given, points, taken_back, 0, int(points > 0)]
        entry = merging.composed(at, name, merging.with_own(before, own), link)
        _put(state, nodes, entry, bool(debit))
        yield bool(debit), Filed(at, before, entry)


def file_debit(
    state: CustomerState,
    nodes: contributions.Nodes,
    name: str,
    at: int,
    number: int,
    taken: int,
    returned: int,
    revision: str,
) -> Filed | None:
    """Files what something of that name has taken, and of that returned; None where that is known already.

    `number` is what it was taken for (tables/redemptions.py). If that is a reward it counts among the debits, returned
    or not: the customer was active.
    """
    before = contributions.find(nodes, _tree(state, True), at, name)
    if before is not None and merging.own_revision(before) >= revision:
        return None
    own = [revision, number, taken, returned, int(number > 0), 1]
    entry = merging.composed(at, name, merging.with_own(before, own), decided(state))
    _put(state, nodes, entry, True)
    return Filed(at, before, entry)


def account_of(state: CustomerState) -> Account:
    """The customer's account; a new one of whom nothing was asked yet."""
    held = state["account"]
    if held is None:
        held = state["account"] = accounts.empty()
    return held


def _tree(state: CustomerState, debit: bool) -> contributions.Node:
    return account_of(state)["debits"] if debit else state["tree"]


def _put(state: CustomerState, nodes: contributions.Nodes, entry: contributions.Entry, debit: bool) -> None:
    if debit:
        held = account_of(state)
        held["debits"] = contributions.put(nodes, held["debits"], entry)
    else:
        state["tree"] = contributions.put(nodes, state["tree"], entry)


def decided(state: CustomerState) -> merging.Link | None:
    """What holds of the customer's links."""
    return merging.decided(state["links"], state["kept"])


def restate(state: CustomerState, nodes: contributions.Nodes, debit: bool = False) -> Iterator[Filed]:
    """Every contribution, or debit, anew, one at each step, after what holds of the links has changed."""
    if debit and state["account"] is None:
        return
    link = decided(state)
    for before in list(contributions.entries(nodes, _tree(state, debit))):
        home, order_id = before[contributions.PROCESSED], before[contributions.ORDER]
        entry = merging.composed(home, order_id, merging.parts(before), link)
        _put(state, nodes, entry, debit)
        yield Filed(home, before, entry)


def debits(state: CustomerState, nodes: contributions.Reads) -> Iterator[contributions.Entry]:
    """Everything that was taken."""
    if state["account"] is not None:
        yield from contributions.entries(nodes, state["account"]["debits"])


def claim(state: CustomerState, addresses: Iterable[str]) -> list[str]:
    """Those of the addresses that the customer has not claimed yet; from now on they have."""
    newly = [address for address in addresses if address not in state["claimed"]]
    if newly:
        newly = sorted(set(newly))
        state["claimed"] = sorted([*state["claimed"], *newly])[:MOST_CLAIMED]
    return newly


def _part(fact: OrderFact, home: int, stands: bool, shop: ShopReference) -> merging.Part:
    earned = due = 0
    if stands and not keys.is_guest(fact["customer_id"]):
        earned = shop.rates.points(fact["gross"], home) if fact["paid"] else 0
        due = shop.rates.points(fact["net"], home) if fact["counted"] else 0
    net, counted = fact["net"] if stands else 0, int(stands and fact["counted"])
    return [fact["revision"], net, earned, earned - due, counted, int(stands)]


def apply(state: CustomerState, webhook: Webhook) -> None:
    """A webhook about the customer: of a merge, the one who is kept. A redaction holds for ever.

    A merge that is not completed is only archived, as other topics are. That it kept them is told on the account log
    (Forwarding): there alone it is sure what came before what.
    """
    kind = webhook.kind
    if kind in ARCHIVED:
        return
    if kind is Kind.MERGE:
        found = links.merged(webhook.payload)
        if found is None:
            return
        state["known"] = True
    if kind in TELLING:
        reaching.take_contact(state, webhook)
    state["now"] = max(state["now"], webhook.event_time)
    state["known"] = state["known"] or kind in NAMING
    state["deleted"] = state["deleted"] or kind is Kind.CUSTOMER_GONE
    state["redacted"] = state["redacted"] or kind is Kind.REDACT
    reaching.forget(state)


class Measured(Struct, frozen=True):
    """A customer as of their now: RFM values, their latest order in the look-back (0: none), and their points."""

    values: rfm.Values
    latest: int
    purse: Purse


def measure(state: CustomerState, nodes: contributions.Nodes, shop: ShopReference) -> Measured:
    """RFM values over (now - look-back, now], the points over everything up to now."""
    tree, end = state["tree"], state["now"] + 1
    start = 0 if shop.look_back is None else end - shop.look_back
    span = contributions.sums(nodes, tree, start, end)
    values = rfm.Values(None, 0, 0)
    if span.active:
        values = rfm.Values(rfm.recency_days(state["now"], span.latest), span.active, span.net)
    if shop.terms.endless and state["account"] is None:  # as nearly everywhere: what was earned is there
        points, given = span.points, span.given
        if contributions.oldest(tree) < start:
            older = contributions.sums(nodes, tree, 0, start)
            points, given = points + older.points, given + older.given
        return Measured(values, span.latest, Purse(points, 0, points - given))
    return Measured(values, span.latest, accounts.purse(nodes, tree, state["account"], shop.terms, state["now"]))


def score(
    state: CustomerState, found: rfm.Values, shop: ShopReference, key: tuple[str, str], cause: str
) -> RfmUpdated | None:
    """Scores the customer as of their now; the change, if digits, segment or version are others than before."""
    current = rfm.standing(found, shop.cut_points(state["now"]), shop.program)
    previous = state["standing"]
    if current == previous:
        return None
    state["standing"] = current
    at = instants.text(state["now"])
    return {
        "type": "rfm.updated",
        "id": change_id(*key, at, previous, current),
        "shop": key[0],
        "customer_id": key[1],
        "at": at,
        "currency": shop.program.currency,
        "recency_days": found.recency,
        "frequency": found.frequency,
        "monetary": found.monetary,
        "previous": previous,
        "current": current,
        "cause": cause,
    }


def row(
    state: CustomerState, measured: Measured, shop: ShopReference, key: tuple[str, str], cause: str, fence: int
) -> CustomerRow | None:
    """The customer's absolute row as of their now, and what brought it about; None while nothing has named them."""
    if not state["known"] or state["standing"] is None:
        return None
    found, purse, reach = measured.values, measured.purse, reaching.reach(state)
    return {
        "shop": key[0],
        "customer_id": key[1],
        "now": instants.text(state["now"]),
        "currency": shop.program.currency,
        "balance": purse.balance,
        "pending": purse.pending,
        "earned": purse.earned,
        "spent": purse.spent,
        "expired": purse.expired,
        "expiring": purse.expiring,
        "expires_at": instants.text(purse.expires_at) if purse.expires_at else None,
        "recency_days": found.recency,
        "frequency": found.frequency,
        "monetary": found.monetary,
        "last_order_at": instants.text(measured.latest) if measured.latest else None,
        "standing": state["standing"],
        "contact": reach.contact,
        "contact_at": reach.contact_at,
        "consent": reach.consent,
        "consent_at": reach.consent_at,
        "consent_by_order": reach.consent_by_order,
        "deleted": state["deleted"],
        "redacted": state["redacted"],
        "merged_into": merged_into(state),
        "fence": fence,
        "cause": cause,
    }


def merged_into(state: CustomerState) -> str | None:
    """Whom all that is the customer's went to; None for who is themselves."""
    link = decided(state)
    return link.into or None if link is not None else None


#: What a source's records are called; an order's by whether anything was taken back.
_POSTED: Final = {"award": "points.adjusted", "deduction": "points.adjusted", "redeem": "points.redeemed"}


def points_record(shop: str, customer_id: str, name: str, posting: merging.Posting, debit: bool) -> PointsRecord:
    """What an order, or something else of that name, has posted in all to the customer, of their own or by way of
    somebody they were merged with."""
    source, source_id = accounts.source_of(name, debit)
    earned, taken = posting.earned, posting.reversed
    if debit:
        earned, taken = 0, earned - taken
    record = {
        "type": _POSTED.get(source) or ("points.reversed" if taken else "points.earned"),
        "shop": shop,
        "customer_id": customer_id,
        "source": source,
        "source_id": source_id,
        "via": posting.origin or None,
        "revision": posting.revision,
        "changed_at": instants.text(posting.changed_at),
        "processed_at": instants.text(posting.home),
        "earned": earned,
        "reversed": taken,
        "total": earned - taken,
    }
    return cast("PointsRecord", record)
