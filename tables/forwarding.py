"""Customers who are one (tables/merging.py): who hears of it, and what goes to whom, as records.

A part of a customer's chunk (tables/chunks.py), which keeps the states, notes the windows and scores.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from events import account_records, envelopes, keys, links, topics
from tables import contributions, customers, merging


class Forwarding(ABC):
    """Of a chunk of customers: links between them, and what of an order is forwarded along these."""

    _partition: int

    @abstractmethod
    def _emit(self, topic: str, key: str, value: Any, partition: int | None = None) -> None: ...

    @abstractmethod
    def _state(self, ident: tuple[str, str]) -> tuple[customers.CustomerState, contributions.Nodes]: ...

    @abstractmethod
    def _noted(
        self, ident: tuple[str, str], steps: Iterable[customers.Filed], debit: bool = False
    ) -> list[contributions.Entry]: ...

    @abstractmethod
    def _score(self, ident: tuple[str, str], cause: str) -> None: ...

    def _take_forward(self, ident: tuple[str, str], forward: account_records.CustomerForward) -> None:
        state, nodes = self._state(ident)
        was, origin, debit = customers.times(state), forward["origin"], forward.get("debit", False)
        steps = customers.file_forward(state, nodes, ident[1], forward)
        found = self._noted(ident, steps, debit)
        if found:  # what is known goes no further: two who were ever led to each other would send it for ever
            self._post(ident, found, {origin}, debit)
            self._forward(ident, found, {origin}, debit=debit)
        self._score(ident, f"merged {origin}")
        self._tell_now(ident, was)

    def _take_link(self, ident: tuple[str, str], link: account_records.CustomerLink) -> None:
        state, _ = self._state(ident)
        times, was, known = customers.times(state), customers.decided(state), state["links"]
        state["now"] = max(state["now"], link["now"])
        state["links"] = merging.added(known, link["into"], link["rank"])
        if customers.decided(state) != was:
            self._stand(ident)
        else:
            self._introduce(ident, set(state["links"]) - set(known))
            self._tell_now(ident, times)
        if state["known"]:
            self._score(ident, f"merged into {link['into']}")

    def _link(self, ident: tuple[str, str], webhook: envelopes.Webhook) -> None:
        """Tells the one who was deleted by a merge whom they are now, and the other that they were kept."""
        found = links.merged(webhook.payload)
        if found is not None:
            rank = links.merge_rank(webhook.triggered_at, webhook.webhook_id, ident[1])
            self._emit_link(ident, found[1], rank, webhook.event_time)
            kept: account_records.AccountKept = {
                "type": "account.kept",
                "shop": ident[0],
                "customer_id": ident[1],
                "rank": rank,
                "now": webhook.event_time,
            }
            self._emit(topics.ACCOUNT_FACTS, keys.join(*ident), kept)

    def _take_kept(self, ident: tuple[str, str], said: account_records.AccountKept) -> None:
        """(When it was, the webhook itself has told.)"""
        state, _ = self._state(ident)
        was = customers.decided(state)
        state["kept"] = max(state["kept"], said["rank"])
        if customers.decided(state) != was:
            self._stand(ident)
            if state["known"]:
                self._score(ident, "customers/merge")

    def _claim(self, ident: tuple[str, str], addresses: Iterable[str]) -> None:
        """Tells an address whose it is: somebody's who has an id."""
        if keys.is_by_address(ident[1]):
            return
        for address in customers.claim(self._state(ident)[0], addresses):
            self._emit_link(ident, address, links.claim_rank(ident[1]), 0)

    def _emit_link(self, ident: tuple[str, str], of: str, rank: str, now: int) -> None:
        link: account_records.CustomerLink = {
            "type": "customer.link",
            "shop": ident[0],
            "customer_id": of,
            "into": ident[1],
            "rank": rank,
            "now": now,
        }
        self._emit(topics.ACCOUNT_FACTS, keys.join(ident[0], of), link)

    def _stand(self, ident: tuple[str, str]) -> None:
        """Another link holds now: everybody who was ever led to hears what of each order is theirs, and what is not."""
        state, nodes = self._state(ident)
        link = customers.decided(state)
        others = {into for into in state["links"] if link is None or into != link.into}
        theirs = set(state["links"]) - others
        taken = list(_by_order(self._noted(ident, customers.restate(state, nodes, debit=True), debit=True)))
        given = list(_by_order(self._noted(ident, customers.restate(state, nodes))))
        # Nobody must ever seem to have what is spent already: what was taken comes before what was given, and goes
        # after it.
        for debit, several, to in ((False, given, others), (True, taken, others | theirs), (False, given, theirs)):
            for entries, origins in several:
                self._forward(ident, entries, origins, to, debit)
        for debit, several in ((True, taken), (False, given)):
            for entries, origins in several:
                self._post(ident, entries, origins, debit)
        self._tell_now(ident, None)

    def _introduce(self, ident: tuple[str, str], to: set[str]) -> None:
        """A link has come that does not hold: whom it leads to hears that nothing is theirs. The others know.

        Many customers may be seen with one address: each of them costs what one does.
        """
        if not to:
            return
        state, nodes = self._state(ident)
        for debit, several in (  # what goes, in the order in which it goes: it may have come by way of somebody else
            (False, contributions.entries(nodes, state["tree"])),
            (True, customers.debits(state, nodes)),
        ):
            for entries, origins in _by_order(several):
                self._forward(ident, entries, origins, to, debit)
        self._tell_now(ident, None, to)

    def _post(
        self, ident: tuple[str, str], found: list[contributions.Entry], origins: set[str], debit: bool = False
    ) -> None:
        """What these origins have posted of an order, or of what else it is."""
        link, name = customers.decided(self._state(ident)[0]), found[0][contributions.ORDER]
        for posting in merging.postings(found, link, origins):
            record = customers.points_record(*ident, name, posting, debit)
            self._emit(topics.POINTS, keys.join(*ident), record, self._partition)

    def _forward(
        self,
        ident: tuple[str, str],
        found: list[contributions.Entry],
        origins: set[str],
        to: set[str] | None = None,
        debit: bool = False,
    ) -> None:
        """What these origins have of an order, to everybody whom the customer was ever led to (or to these of them)."""
        state, _ = self._state(ident)
        link = customers.decided(state)
        if link is None:
            return
        for each in merging.forwarded(ident[1], found, set(state["links"]) if to is None else to, link, origins):
            self._emit_forward(ident, each, customers.times(state), debit)

    def _tell_now(self, ident: tuple[str, str], was: tuple[int, int] | None, to: set[str] | None = None) -> None:
        """A customer's times are of whoever they are, or once were said to be (or of these of them)."""
        state, _ = self._state(ident)
        link = customers.decided(state)
        times = customers.times(state)
        if link is None or times == was or not state["now"]:  # 0: of an address that nobody but its owner has told of
            return
        for into in sorted(state["links"] if to is None else to):
            told = merging.Forwarded(into, ident[1], [link.hop], into != link.into, None, None, [])
            self._emit_forward(ident, told, times)

    def _emit_forward(
        self, ident: tuple[str, str], of: merging.Forwarded, times: tuple[int, int], debit: bool = False
    ) -> None:
        record = {
            "type": "customer.forward",
            "shop": ident[0],
            "customer_id": of.into,
            **{name: getattr(of, name) for name in ("origin", "hops", "gone", "order_id", "revision", "entries")},
            "now": times[0],
            "filed": times[1],
        }
        if debit:
            record["debit"] = True
        self._emit(topics.ACCOUNT_FACTS, keys.join(ident[0], of.into), record)


def _by_order(found: Iterable[contributions.Entry]) -> Iterator[tuple[list[contributions.Entry], set[str]]]:
    """The entries of each order, and the origins that have a part in them."""
    orders: dict[str, list[contributions.Entry]] = {}
    for entry in found:
        orders.setdefault(entry[contributions.ORDER], []).append(entry)
    for entries in orders.values():
        yield entries, {origin for entry in entries for origin in merging.parts(entry)}
