"""Redemptions: what is decided of a request, once, and what comes of it.

`decide` reads what was filed from the account log and the request, and nothing else: no clock, no standing, nothing
that came by another topic. Topics interleave in a replay as they may; the log of one customer does not. So whoever
decides a request, and however often after a crash, decides the same.

What is kept of a redemption is a join of what was said of it; whether its points are taken follows from that.
"""

import zlib
from typing import Any, Final, NamedTuple

from events import instants
from events.account_records import AccountCancel, AccountDecision, AccountFulfilment, AccountRedeem, OrderFact
from events.programs import Program, Reward, reward_at
from events.redeeming import UNUSED
from tables import account as accounts
from tables import contributions, merging, orders
from tables.account import Account
from tables.contributions import Node, Nodes, Reads
from tables.terms import Terms

CODE: Final = "code:"

#: Of one code the newest orders that are remembered: a code of ours is used once.
MOST_ORDERS: Final = 2

#: What is known of an order that bears a code: [its id, its revision, whether it counts, whether it did and no longer
#: does].
Use = list[Any]


class Kept(NamedTuple):
    """What is kept of a redemption: what was decided (None: nothing yet), whether that stands in the history, whether
    it was cancelled, the outcome of the greatest attempt to make its code, when the latest of it was said, and whether
    its time went by unused."""

    decision: list[Any] | None = None
    archived: bool = False
    cancelled: bool = False
    made: list[Any] | None = None  # [attempt, issued, valid_until, code]
    said_at: int = 0
    unused: bool = False


class Code(NamedTuple):
    """What is kept of a code: the requests it was made for, and the orders that bear it, with when one last changed."""

    requests: list[str]
    orders: list[Use]
    changed_at: int


class Decision(NamedTuple):
    """As `Kept.decision` has it."""

    seq: int
    decided_at: int
    requested_at: int
    accepted: bool
    reason: str | None
    reward_id: str | None  # None: points are taken, for no reward
    cost: int
    forced: bool
    balance: int
    purpose: str = ""
    source: str = ""


def kept(nodes: Reads, held: Account, request_id: str) -> Kept:
    """What is kept of a request."""
    found = accounts.recalled(nodes, held, accounts.REDEMPTION + request_id)
    return Kept() if found is None else Kept(*found)


def code_of(nodes: Reads, held: Account, code: str | None) -> Code:
    """What is kept of a code. (Shopify does not tell great letters from small ones.)"""
    found = accounts.recalled(nodes, held, CODE + code.upper()) if code else None
    return Code([], [], 0) if found is None else Code(*found)


def keep(nodes: Nodes, held: Account, request_id: str, have: Kept) -> None:
    """Keeps what is known of a request from now on."""
    accounts.remember(nodes, held, accounts.REDEMPTION + request_id, list(have))


def keep_code(nodes: Nodes, held: Account, code: str, have: Code) -> None:
    """Keeps what is known of a code from now on."""
    accounts.remember(nodes, held, CODE + code.upper(), list(have))


def with_order(have: Code, fact: OrderFact) -> Code:
    """With what is told of an order that bears the code."""
    use = [fact["order_id"], fact["revision"], fact["counted"], fact["paid"] and not fact["counted"]]
    known = {each[0]: each for each in have.orders}
    known[use[0]] = max(use, known.get(use[0], use), key=lambda each: each[1])
    newest = sorted(known.values(), key=lambda each: int(each[0]), reverse=True)[:MOST_ORDERS]
    return have._replace(orders=newest, changed_at=max(have.changed_at, orders.changed_at_of(fact["revision"])))


def with_request(have: Code, request_id: str) -> Code:
    """With a request that the code was made for."""
    return have._replace(requests=sorted({*have.requests, request_id}))


# --- deciding ----------------------------------------------------------------------------------------------------


def decide(
    nodes: Reads,
    tree: Node,
    held: Account,
    request: AccountRedeem,
    program: Program,
    terms: Terms,
    filed: int,
    merged: str | None,
) -> Decision:
    """What is decided of a request, all or nothing: as of the latest that is known, be that the request's own time.

    `filed` is the greatest event time filed from the account log before it, `merged` whom the customer is now.
    """
    asked, cost = request["now"], request["cost"]
    at = max(asked, held["decided_at"], filed)
    # Whatever is taken later than that is taken all the same.
    later = accounts.taken_after(nodes, held, at)
    balance = accounts.purse(nodes, tree, held, terms, at).balance - later
    seq = held["seq"] + 1
    wanted, said = request["reward_id"], (request.get("purpose", ""), request.get("source", ""))
    if request["forced"]:  # it has happened
        return Decision(seq, asked, asked, True, None, wanted, cost, True, balance)
    reward = None if wanted is None else reward_at(program, wanted, at)
    reason = None
    if merged is not None:
        reason = "merged"
    elif held["closed"]:
        reason = "closed"
    elif reward is None and wanted is not None:
        reason = "unknown-reward"
    elif reward is not None and reward.cost != cost:
        reason = "wrong-cost"
    elif reward is not None and _is_limited(nodes, held, reward, at):
        reason = "limit"
    elif balance < cost:
        reason = "insufficient-points"
    return Decision(seq, at, asked, reason is None, reason, wanted, cost, False, balance, *said)


def _is_limited(nodes: Reads, held: Account, reward: Reward, at: int) -> bool:
    """Whether the customer, or whoever was merged into them, has had the reward as often as they may."""
    if reward.limit is None:
        return False
    since, number = at - reward.limit.days * instants.DAY, number_of(reward.reward_id)
    had = sum(
        merging.taken(entry, number)
        for entry in contributions.entries(nodes, held["debits"], since + 1)
        if entry[contributions.ORDER].startswith(accounts.REDEMPTION)
    )
    return had >= reward.limit.count


def number_of(reward_id: str | None) -> int:
    """What stands for a reward where its points were taken: it goes with them to whoever the customer is in the end. 0
    where they were taken for none."""
    return 0 if reward_id is None else zlib.crc32(reward_id.encode())


# --- what is said of one -----------------------------------------------------------------------------------------


def with_decision(have: Kept, decision: Decision, archived: bool) -> Kept:
    """With what was decided. What was decided first stands: a second decision that differs is somebody's mistake, which
    the sink refuses."""
    found = have._replace(decision=have.decision or list(decision), archived=have.archived or archived)
    return _said(found, decision.decided_at)


def decided(said: AccountDecision) -> Decision:
    """What the history says was decided."""
    return Decision(**{name: said[name] for name in Decision._fields if name in said})  # type: ignore[literal-required]


def with_cancel(have: Kept, said: AccountCancel) -> Kept:
    """With the word that it is cancelled, or that nobody used it in time."""
    unused = said["reason"] == UNUSED
    return _said(have._replace(cancelled=have.cancelled or not unused, unused=have.unused or unused), said["now"])


def with_outcome(have: Kept, said: AccountFulfilment) -> Kept:
    """With what became of making its code: the greatest attempt's, of one attempt the code before the failure."""
    made = [said["attempt"], said["state"] == "issued", said["valid_until"] or 0, said["code"] or ""]
    return _said(have._replace(made=max(made, have.made or made)), said["now"])


def with_use(have: Kept, code: Code) -> Kept:
    """With what is known of a code that was ever made for it: when its orders changed, the redemption may have."""
    return _said(have, code.changed_at)


def _said(have: Kept, at: int) -> Kept:
    return have._replace(said_at=max(have.said_at, at))


class State(NamedTuple):
    """What has become of a redemption that was decided: its status, why its points were returned, and its revision."""

    status: str
    returned: str | None
    revision: str


def state_of(have: Kept, code: Code, reward: Reward | None) -> State:
    """A function of what is kept. Who has bought with it has used it, be it cancelled before or after."""
    assert have.decision is not None
    decision = Decision(*have.decision)
    if not decision.accepted:  # whatever is said of it, nothing comes of it
        alone = Kept(have.decision, said_at=decision.decided_at)
        return State("refused", None, _revision(alone, Code([], [], 0)))
    revision = _revision(have, code)
    if decision.reward_id is None:
        back = have.cancelled or have.unused
        return State("returned", "cancelled", revision) if back else State("taken", None, revision)
    if any(counts for _, _, counts, _ in code.orders):
        return State("used", None, revision)
    if have.cancelled:
        return State("returned", "cancelled", revision)
    if have.made is not None and not have.made[1]:
        return State("returned", "failed", revision)
    if any(gone for *_, gone in code.orders):
        keeps = reward is not None and reward.on_void == "keep"
        return State("used", None, revision) if keeps else State("returned", "void", revision)
    if have.unused:  # and no order ever used it: one that comes late says so above
        return State("returned", UNUSED, revision)
    handed_out = decision.forced or have.made is not None
    return State("issued" if handed_out else "reserved", None, revision)


def _revision(have: Kept, code: Code) -> str:
    """Sorts as what is kept grows: each part only grows, and the first that differs decides. tables/orders.py's
    `changed_at_of` reads when it changed."""
    attempt, issued, until, name = have.made or [0, False, 0, ""]
    made = f"{have.made is not None:d}{attempt:08x}{issued:d}{until:015x}{name.encode().hex()}"
    of_orders = " ".join(f"{order_id:>20} {revision}" for order_id, revision, *_ in code.orders)
    return f"{have.said_at:015x}b0{2 * have.cancelled + have.unused:d}{made} {len(code.orders)}{of_orders}"


def reward_of(program: Program, have: Kept) -> Reward | None:
    """The reward as it stood when it was decided."""
    if have.decision is None:
        return None
    decision = Decision(*have.decision)
    return None if decision.reward_id is None else reward_at(program, decision.reward_id, decision.decided_at)
