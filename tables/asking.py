"""What is asked of a customer's account: awards, redemptions and what comes of these, as records.

A part of a customer's chunk (tables/chunks.py), as tables/forwarding.py is.

While history is told anew (`replay`) nothing is decided: what was decided stands in it. A request without a decision
waits; once history is over (`live`) it is decided, in the order in which the requests came. Both words go to a whole
partition, which keeps them.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal

from events import account_records, instants, keys, records, topics
from tables import account as accounts
from tables import customers, merging, packing, redemptions
from tables.forwarding import Forwarding
from tables.redemptions import Decision, Kept
from tables.reference import Reference
from tables.state import Kept as Values
from tables.state import Writes

#: Where a partition keeps that history is being told, and the requests that wait. No customer's key looks so.
_REPLAY: Final = "#replay"


class Asking(Forwarding):
    """Of a chunk of customers: what is asked of their accounts."""

    _table: Values
    _reference: Reference
    _waiting: list[list[Any]] | None  # [shop, customer, request]: None while everything is decided at once
    _was_waiting: list[list[Any]] | None

    def _read_mode(self) -> None:
        kept = self._table.get(_REPLAY)
        self._waiting = None if kept is None else packing.unpack(kept)[0]
        self._was_waiting = None if self._waiting is None else list(self._waiting)

    def _mode_writes(self) -> Writes:
        if self._waiting == self._was_waiting:
            return {}
        return {_REPLAY: None if self._waiting is None else packing.pack([self._waiting])}

    def _take_mode(self, mode: Literal["replay", "live"]) -> None:
        waiting, self._waiting = self._waiting or [], None
        if mode == "replay":
            self._waiting = waiting
            return
        for shop, customer_id, request in waiting:
            self._take_asked((shop, customer_id), request)

    def _take_closed(self, ident: tuple[str, str]) -> None:
        customers.account_of(self._state(ident)[0])["closed"] = True

    def _take_asked(self, ident: tuple[str, str], said: account_records.Asked) -> None:
        state, _ = self._state(ident)
        was = customers.times(state)
        state["now"] = max(state["now"], said["now"])
        if said["type"] == "account.award":
            self._take_award(ident, said)
        elif said["type"] == "account.redeem":
            self._take_redeem(ident, said)
        elif said["type"] == "account.decision":
            self._take_decision(ident, said)
        elif said["type"] == "account.cancel":
            self._take_cancel(ident, said)
        elif said["type"] == "account.fulfilment":
            self._take_outcome(ident, said)
        state["filed"] = max(state["filed"], said["now"])
        if state["known"]:
            self._score(ident, _cause(said))
        self._tell_now(ident, was)

    def _take_award(self, ident: tuple[str, str], told: account_records.AccountAward) -> None:
        state, nodes = self._state(ident)
        filed = list(customers.file_award(state, nodes, told))
        for debit in (True, False):
            found = self._noted(ident, [each for of_debits, each in filed if of_debits == debit], debit)
            if found:
                self._post(ident, found, {merging.OWN}, debit)
                self._forward(ident, found, {merging.OWN}, debit=debit)

    def _take_redeem(self, ident: tuple[str, str], request: account_records.AccountRedeem) -> None:
        shop = self._reference[ident[0]]
        state, nodes = self._state(ident)
        held = customers.account_of(state)
        if redemptions.kept(nodes, held, request["request_id"]).decision is not None:
            return
        if self._waiting is not None:
            self._waiting.append([*ident, dict(request)])
            return
        self._reference.expect_program(ident[0], request["program"])
        link = customers.decided(state)
        decision = redemptions.decide(
            *(nodes, state["tree"], held, request, shop.program, shop.terms),
            *(state["filed"], link.into or None if link is not None else None),
        )
        self._decide(ident, request["request_id"], decision, archived=False)

    def _take_decision(self, ident: tuple[str, str], said: account_records.AccountDecision) -> None:
        request_id = said["request_id"]
        if self._waiting is not None:
            self._waiting = [
                each for each in self._waiting if [*each[:2], each[2]["request_id"]] != [*ident, request_id]
            ]
        self._decide(ident, request_id, redemptions.decided(said), archived=True)

    def _decide(self, ident: tuple[str, str], request_id: str, decision: Decision, archived: bool) -> None:
        held = customers.account_of(self._state(ident)[0])
        held["seq"] = max(held["seq"], decision.seq)
        held["decided_at"] = max(held["decided_at"], decision.decided_at)
        self._change(ident, request_id, lambda have: redemptions.with_decision(have, decision, archived))

    def _take_cancel(self, ident: tuple[str, str], said: account_records.AccountCancel) -> None:
        self._change(ident, said["request_id"], lambda have: redemptions.with_cancel(have, said))

    def _take_outcome(self, ident: tuple[str, str], said: account_records.AccountFulfilment) -> None:
        state, nodes = self._state(ident)
        held, request_id = customers.account_of(state), said["request_id"]
        code = redemptions.code_of(nodes, held, said["code"])
        if said["code"]:
            redemptions.keep_code(nodes, held, said["code"], redemptions.with_request(code, request_id))
        self._change(ident, request_id, lambda have: redemptions.with_use(redemptions.with_outcome(have, said), code))

    def _take_codes(self, ident: tuple[str, str], fact: account_records.OrderFact) -> None:
        """The codes that an order bears: those of redemptions are used by it.

        From before the shop's first reward there are none; a rebuild, which knows of it all along, says the same.
        """
        rewards = self._reference[ident[0]].program.rewards
        if not rewards or fact["processed_at"] < rewards[0].since:
            return
        state, nodes = self._state(ident)
        held = customers.account_of(state)
        for name in fact.get("codes", ()):
            code = redemptions.with_order(redemptions.code_of(nodes, held, name), fact)
            redemptions.keep_code(nodes, held, name, code)
            for request_id in code.requests:
                self._change(ident, request_id, partial(redemptions.with_use, code=code))

    def _change(self, ident: tuple[str, str], request_id: str, change: Callable[[Kept], Kept]) -> None:
        """Something was said of a redemption; once it has been decided, what has become of it is told."""
        state, nodes = self._state(ident)
        held = customers.account_of(state)
        before = redemptions.kept(nodes, held, request_id)
        have: Kept = change(before)
        if have != before:
            redemptions.keep(nodes, held, request_id, have)
        if have.decision is None:
            return
        shop, decision = self._reference[ident[0]], Decision(*have.decision)
        code = redemptions.code_of(nodes, held, have.made[3] if have.made is not None else None)
        found = redemptions.state_of(have, code, redemptions.reward_of(shop.program, have))
        if decision.accepted:
            returned = decision.cost if found.returned else 0
            name, at = accounts.REDEMPTION + request_id, decision.decided_at
            number = redemptions.number_of(decision.reward_id)
            filed = customers.file_debit(state, nodes, name, at, number, decision.cost, returned, found.revision)
            if filed is None:
                return
            entries = self._noted(ident, [filed], debit=True)
            self._post(ident, entries, {merging.OWN}, debit=True)
            self._forward(ident, entries, {merging.OWN}, debit=True)
        elif before.decision is not None:
            return
        self._emit(topics.REDEMPTIONS, keys.join(*ident), _row(ident, request_id, have, found), self._partition)


def _row(ident: tuple[str, str], request_id: str, have: Kept, found: redemptions.State) -> records.Redemption:
    assert have.decision is not None
    decision = Decision(*have.decision)
    made = have.made if decision.accepted else None
    attempt, _, until, code = made or [None, False, 0, ""]
    row: records.Redemption = {
        "shop": ident[0],
        "customer_id": ident[1],
        "request_id": request_id,
        "revision": found.revision,
        "reward_id": decision.reward_id,
        "cost": decision.cost,
        "forced": decision.forced,
        "seq": decision.seq,
        "requested_at": instants.text(decision.requested_at),
        "decided_at": instants.text(decision.decided_at),
        "accepted": decision.accepted,
        "reason": decision.reason,
        "balance": decision.balance,
        "status": found.status,  # type: ignore[typeddict-item]
        "points": -decision.cost if decision.accepted and not found.returned else 0,
        "returned_reason": found.returned,
        "attempt": attempt,
        "code": code or None,
        "valid_until": instants.text(until) if until else None,
        "archived": have.archived,
    }
    if decision.purpose:
        row["purpose"] = decision.purpose
    if decision.source:
        row["source"] = decision.source
    return row


def _cause(said: Mapping[str, Any]) -> str:
    """What brought a customer's row about."""
    kind = said["type"].removeprefix("account.")
    name = said.get("award_id") or said.get("request_id")
    return f"{kind} {name}" if name else kind
