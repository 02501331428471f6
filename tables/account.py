"""A customer's account beside their orders: what was awarded and taken, and what of their points can be spent.

What is given is filed among the orders' contributions, under the time it was given at; what is taken, in a second tree
of the same make, the debits. A third one keeps what was asked by its name, since a name may be asked for twice.

Of points that run out no lots are kept. As of T, with A(u) the points that had run out by u had nothing been spent, and
D(u) what was taken up to u:

    expired(T) = max(0, A(T) - D(T), the greatest A(t) - D(before t) over the debits t <= T)
    balance(T) = what can be spent, or could once - D(T) - expired(T)

which is first in, first out to the point, whatever the order in which anything was told
(tests/property/test_account.py: against lots kept one by one).

Where points run out for want of activity, all that can be spent is lost at once: the balance falls to 0 at each reset,
unless it is below. With C(r) what could be spent before a reset r, or once, and D(r) what was taken before it:

    expired(T) = max(0, the greatest C(r) - D(r) over the resets r <= T)

Resets are found by two jumps for each life, whatever happened in between.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, cast

from msgspec import Struct
from typing_extensions import TypedDict

from events.account_records import AccountAward
from events.names import CHECKED
from tables import contributions, packing
from tables.contributions import Node, Nodes, Reads
from tables.terms import FOR_EVER, Terms

AWARD: Final = "award:"
REDEMPTION: Final = "redeem:"

#: What is kept of a name is where an order's parts would be.
_KEPT: Final = contributions.PARTS


class Account(TypedDict):
    """What is kept of a customer who was ever awarded anything or asked for it: two trees' roots, and what decisions
    look at (tables/redemptions.py), as far as it came by the account log."""

    debits: Node
    asked: Node
    seq: int  # decisions so far
    decided_at: int  # of the latest
    closed: bool


def empty() -> Account:
    """Of somebody of whom nothing was asked yet."""
    return {
        "debits": contributions.empty(),
        "asked": contributions.empty(),
        "seq": 0,
        "decided_at": 0,
        "closed": False,
    }


def listed(account: Account | None) -> list[Any] | None:
    """An account as it is kept."""
    if account is None:
        return None
    return [*map(contributions.listed, (account["debits"], account["asked"])), *list(account.values())[2:]]


def of_list(kept: list[Any] | None) -> Account | None:
    """The account that was `listed`."""
    if kept is None:
        return None
    debits, asked = map(contributions.of_list, kept[:2])
    return cast("Account", packing.named(cast("dict[str, Any]", empty()), [debits, asked, *kept[2:]]))


def recalled(nodes: Reads, account: Account, name: str) -> Any:
    """What is kept of a name; None where it was never asked for."""
    entry = contributions.find(nodes, account["asked"], _place(name), name)
    return None if entry is None else entry[_KEPT]


def remember(nodes: Nodes, account: Account, name: str, kept: Any) -> None:
    """Keeps something of a name in place of what was kept of it. It sums to nothing."""
    entry = [_place(name), name, "", 0, 0, 0, 0, kept]
    account["asked"] = contributions.put(nodes, account["asked"], entry)


def _place(name: str) -> int:
    """Names are kept in the order of their sums: those of a client may all begin alike, and grow."""
    return zlib.crc32(name.encode())


# --- awards ------------------------------------------------------------------------------------------------------

#: What is said of an award: [at, points, reason, source, whether it counts as earned].
Body = list[Any]

#: Where an award ever stood: [at, whether among the debits].
Home = list[int]


class Award(NamedTuple):
    """What is kept of an award: the greatest body, when it was taken back (0: it was not), and every home it had."""

    body: Body
    voided_at: int
    homes: list[Home]

    @property
    def revision(self) -> str:
        """Sorts as the award grows; tables/orders.py's `changed_at_of` reads when it changed."""
        at, points, *rest = self.body
        changed = max(at, self.voided_at)
        # In hex: a reason may hold any sign, a revision only those of ASCII; the order is that of the words.
        words = " ".join(str(each).encode().hex() for each in rest)
        return f"{changed:015x}b0{self.voided_at > 0:d}{at:015x}{points + (1 << 62):016x}{words}"

    def points(self, home: Home) -> tuple[int, int]:
        """What was given, or taken, at a home, and what of that was taken back."""
        if home != _home(self.body):
            return 0, 0
        points = self.body[1]
        return abs(points), abs(points) if self.voided_at else 0

    @property
    def given(self) -> bool:
        """Whether its points do not count as earned."""
        return not self.body[4]


def _home(body: Body) -> Home:
    return [body[0], int(body[1] < 0)]


def award(known: Any, told: AccountAward) -> Award:
    """The award joined with what is told of it: in whatever order, the same."""
    body = [told["at"], told["points"], told["reason"], told["source"], told["counts_as_earned"]]
    if known is None:
        return Award(body, told["voided_at"], [_home(body)])
    kept, voided_at, homes = known
    homes = homes if _home(body) in homes else sorted([*homes, _home(body)])
    return Award(max(kept, body), max(voided_at, told["voided_at"]), homes)


# --- what can be spent -------------------------------------------------------------------------------------------


class Purse(Struct, frozen=True):
    """A customer's points as of an instant.

    `balance` can be spent, below 0 it is owed; `pending` cannot be spent yet; `earned` is all that ever counted as
    earned; `spent` is what was taken, `expired` what has run out; `expiring` runs out next, at `expires_at` (0: never).
    """

    balance: int
    pending: int = 0
    earned: int = 0
    spent: int = 0
    expired: int = 0
    expiring: int = 0
    expires_at: int = 0


def purse(nodes: Reads, tree: Node, account: Account | None, terms: Terms, at: int) -> Purse:
    """What stands as of `at` (microseconds), of the contributions and the account."""
    everything = contributions.sums(nodes, tree, 0, at + 1)
    earned = everything.points - everything.given
    if terms.endless and account is None:
        return Purse(everything.points, earned=earned)
    active = everything.points
    if not terms.endless:
        active = contributions.sums(nodes, tree, 0, terms.spendable_until(at) + 1).points
    debits = contributions.empty() if account is None else account["debits"]
    spent = contributions.sums(nodes, debits, 0, at + 1).points
    expired = expiring = expires_at = 0
    if terms.by_inactivity and everything.points:
        expired = _lapsed(nodes, tree, debits, terms, at)
        expiring, expires_at = _lapsing(nodes, tree, debits, terms, at, spent + expired)
    elif not (terms.by_inactivity or terms.lasting):
        expired = _expired(nodes, tree, debits, terms, at, spent)
        expiring, expires_at = _expiring(nodes, tree, terms, at, spent + expired)
    left = active - spent - expired
    return Purse(left, everything.points - active, earned, spent, expired, expiring, expires_at)


def _gone(nodes: Reads, tree: Node, terms: Terms) -> Callable[[int], int]:
    """What tells the points that had run out by an instant, had none been spent."""
    known: dict[int, int] = {}

    def gone(when: int) -> int:
        last = terms.gone_until(when)
        if last not in known:
            known[last] = contributions.sums(nodes, tree, 0, last + 1).points
        return known[last]

    return gone


def _expired(nodes: Reads, tree: Node, debits: Node, terms: Terms, at: int, spent: int) -> int:
    gone = _gone(nodes, tree, terms)
    return contributions.greatest(nodes, debits, gone, at, least=max(0, gone(at) - spent))


def running_out(
    nodes: Reads, tree: Node, account: Account | None, terms: Terms, after: int, expired: int, until: int
) -> Iterator[tuple[int, int]]:
    """Each instant after `after` and up to `until` at which points ran out, in order, and how many had by then in all.

    `expired` had by `after`. Found by jumps from one to the next, whatever lies between them.
    """
    if terms.lasting:
        return
    debits = contributions.empty() if account is None else account["debits"]
    if terms.by_inactivity:
        for reset, could in _resets(nodes, tree, debits, terms, after, until):
            if could > expired:
                expired = could
                yield reset, expired
        return
    gone = _gone(nodes, tree, terms)
    taken = contributions.sums(nodes, debits, 0, until + 1).points
    while True:
        # Between two debits nothing is taken and what is gone grows: more than `expired` has run out by the first
        # debit of which that holds, and not by the one before it.
        spent = contributions.before_exceeding(nodes, debits, gone, expired, after, until)
        if spent is None:
            spent = taken
            if gone(until) - spent <= expired:
                return
        after = terms.runs_out(contributions.reaching(nodes, tree, expired + spent))
        expired = gone(after) - spent
        yield after, expired


def ending(nodes: Reads, tree: Node, account: Account | None, terms: Terms, after: int, until: int) -> Iterator[int]:
    """Each instant after `after` and up to `until` at which points would run out if none were spent, in order; also one
    at which none are left to. Where they do for want of activity, if there was none since any one thing filed."""
    if terms.lasting:
        return
    trees = [tree] if account is None or not terms.by_inactivity else [tree, account["debits"]]
    while True:
        entries = [contributions.first(nodes, each, terms.gone_until(after) + 1) for each in trees]
        after = min((terms.runs_out(entry) for entry in entries if entry is not None), default=FOR_EVER)
        if after > until:
            return
        yield after


def taken_after(nodes: Reads, account: Account, at: int) -> int:
    """What is taken later than an instant."""
    return contributions.sums(nodes, account["debits"], at + 1, FOR_EVER).points


def _expiring(nodes: Reads, tree: Node, terms: Terms, at: int, used: int) -> tuple[int, int]:
    """How many of the points that are left run out next, and when; (0, 0) where none do."""
    oldest = contributions.reaching(nodes, tree, used)
    if oldest > at:
        return 0, 0
    ends = terms.runs_out(oldest)
    if ends >= FOR_EVER:
        return 0, 0
    last = min(terms.gone_until(ends), at)
    return contributions.sums(nodes, tree, 0, last + 1).points - used, ends


def _lapsed(nodes: Reads, tree: Node, debits: Node, terms: Terms, at: int) -> int:
    """What was lost for want of activity up to an instant."""
    return max([0, *(could for _, could in _resets(nodes, tree, debits, terms, -1, at))])


def _lapsing(nodes: Reads, tree: Node, debits: Node, terms: Terms, at: int, used: int) -> tuple[int, int]:
    """How much would be lost, and when, if the customer is not active again; (0, 0) where nothing would."""
    last = _active_before(nodes, tree, debits, at + 1)
    ends = terms.runs_out(last) if last >= 0 else FOR_EVER
    if ends <= at or ends >= FOR_EVER:
        return 0, 0
    could = contributions.sums(nodes, tree, 0, min(terms.spendable_until(ends - 1), at) + 1).points
    return (could - used, ends) if could > used else (0, 0)


def _resets(nodes: Reads, tree: Node, debits: Node, terms: Terms, after: int, until: int) -> Iterator[tuple[int, int]]:
    """When what could be spent was lost, later than `after` and up to `until`, in order; and how much could be spent
    before, or once, less what was taken.

    From an activity to the last one within its life, and on from there, until there is none.
    """
    active = _active_before(nodes, tree, debits, after + 1)
    if active < 0 or terms.runs_out(active) <= after:
        active = _active_from(nodes, tree, debits, after + 1)
    while active <= until:
        ends = terms.runs_out(active)
        last = _active_before(nodes, tree, debits, min(ends, until + 1))
        if last > active:
            active = last
        elif ends <= until:
            could = contributions.sums(nodes, tree, 0, terms.spendable_until(ends - 1) + 1).points
            yield ends, could - contributions.sums(nodes, debits, 0, ends).points
            active = _active_from(nodes, tree, debits, ends)
        else:
            return


def _active_from(nodes: Reads, tree: Node, debits: Node, start: int) -> int:
    """When the customer was first active at or after an instant: an order or award that brought anything, however much
    of that was taken back; a redemption, returned or not."""
    brought = contributions.first_from(nodes, tree, start, counting=False)
    return min(brought, contributions.first_from(nodes, debits, start, counting=True))


def _active_before(nodes: Reads, tree: Node, debits: Node, end: int) -> int:
    """When the customer was last active before an instant; -1: never."""
    brought = contributions.last_before(nodes, tree, end, counting=False)
    return max(brought, contributions.last_before(nodes, debits, end, counting=True))


def source_of(name: str, debit: bool) -> tuple[str, str]:
    """What an entry of this name is of, and what that is called: ("order", its id), ("award", its name), ..."""
    kind, named, rest = name.partition(":")
    if not named:
        return "order", kind
    by_hand = kind == "award" or rest.startswith(CHECKED)
    return ("deduction" if debit and by_hand else kind), rest
