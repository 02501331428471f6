"""One chunk of a partition through a fold: each touched key is read once and written once.

Nothing here does I/O. What a chunk changes is gathered beside the tables and handed over whole: `outputs`, which
must be durable first, then `writes`, the new values of the tables' keys in the order in which they must be kept.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import add, sub
from typing import Any, NamedTuple, Protocol, TypeVar
from zoneinfo import ZoneInfo

from events import account_records, asked, codec, envelopes, instants, keys, letters, payloads, records, topics
from events.errors import BadEvent, UnusedTopic
from events.messages import Message
from events.webhook_topics import Kind
from tables import contributions, customers, expired, merging, packing, windows
from tables import orders as order_fold
from tables.asking import Asking
from tables.reference import Reference, ShopReference
from tables.state import Kept, Writes


class Received(NamedTuple):
    """A message as it came: topic without prefix, and where in it. Not to be sent as it is: see events.messages."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # milliseconds, the broker's
    key: bytes | None
    value: bytes | None
    error: BadEvent | None = None  # set where it could not even be read


class Chunk(Protocol):
    """A chunk being folded."""

    outputs: list[Message]
    rerouted: int
    ignored: int

    def expect(self, batch: Iterable[Received]) -> None:
        """Tells of the messages that will be taken."""

    def take(self, received: Received) -> None:
        """Folds one message. BadEvent or UnusedTopic where it cannot be used."""

    def finish(self) -> Writes:
        """Closes it: the new values of the table's keys, in the order in which they must be kept."""


C = TypeVar("C", bound=Chunk)


class _Base:
    def __init__(self, table: Mapping[str, bytes], reference: Reference, partition: int, partitions: int) -> None:
        self.outputs: list[Message] = []
        self.rerouted = 0
        self.ignored = 0
        self._table = table
        self._reference = reference
        self._partition = partition
        self._partitions = partitions
        self._places: dict[bytes, int] = {}

    def expect(self, batch: Iterable[Received]) -> None:
        """Tells of the messages that will be taken: where their keys belong is worked out for all of them at once."""
        self._places = keys.partitions_of({each.key for each in batch if each.key is not None}, self._partitions)

    def _emit(self, topic: str, key: str, value: Any, partition: int | None = None) -> None:
        self.outputs.append(Message(topic, key, codec.dumps(value), partition))

    def _is_ours(self, received: Received, key: str) -> bool:
        """Whether the message is where its key belongs; if not it is sent there."""
        raw = key.encode()
        if received.key == raw and self._place(raw) == self._partition:
            return True
        self.rerouted += 1
        self.outputs.append(Message(received.topic, key, received.value or b""))
        return False

    def _place(self, key: bytes) -> int:
        place = self._places.get(key)
        return keys.partition_of(key, self._partitions) if place is None else place


class OrderChunk(_Base):
    """A chunk of shopify.orders: the order fold, and a fact for each customer of each order touched.

    Or one of requests, which go on to the account log as they are: there alone is decided what comes before what.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._states: dict[str, order_fold.OrderState] = {}

    def take(self, received: Received) -> None:
        """Joins a webhook into its order, and tells what the order contributes now."""
        webhook = envelopes.read(received.value, received.topic, received.timestamp)
        shop = self._reference[webhook.shop]
        if received.topic == topics.REQUESTS:
            self._pass_on(received, asked.record(webhook))
            return
        order_id = keys.resource_id(payloads.resource_of(webhook.topic, webhook.payload))
        key = keys.join(webhook.shop, order_id)
        if not self._is_ours(received, key):
            return
        state = self._states.get(key)
        if state is None:
            kept = self._table.get(key)
            state = order_fold.initial() if kept is None else order_fold.unpacked(kept)
        currency = shop.program.currency
        self._states[key] = state = order_fold.apply(state, webhook, currency)
        for fact in order_fold.facts(webhook.shop, order_id, currency, state, shop.policies):
            self._emit(topics.ACCOUNT_FACTS, keys.join(webhook.shop, fact["customer_id"]), fact)

    def _pass_on(self, received: Received, record: account_records.Asked) -> None:
        key = keys.join(record["shop"], record["customer_id"])
        if self._is_ours(received, key):
            self._emit(topics.ACCOUNT_FACTS, key, record)

    def finish(self) -> Writes:
        """The states of the orders that were touched."""
        return {key: order_fold.packed(state) for key, state in self._states.items()}


class _Nodes:
    """One customer's nodes: read through to the table, changes gathered."""

    def __init__(self, table: Mapping[str, bytes], key: str, state: customers.CustomerState) -> None:
        self._table = table
        self._key = key
        self._state = state
        self._nodes: dict[int, contributions.Node] = {}
        self._new: set[int] = set()
        self._dropped: set[int] = set()

    def get(self, number: int) -> contributions.Node:
        node = self._nodes.get(number)
        if node is None:
            node = self._nodes[number] = contributions.unpacked(self._table[f"{self._key}#{number}"])
        return node

    def put(self, number: int, node: contributions.Node) -> int:
        if number in self._new:
            return number
        self.drop(number)
        return self.add(node)

    def add(self, node: contributions.Node) -> int:
        number = self._state["next_node"]
        self._state["next_node"] = number + 1
        self._nodes[number] = node
        self._new.add(number)
        return number

    def drop(self, number: int) -> None:
        self._new.discard(number)
        self._dropped.add(number)

    @property
    def changed(self) -> bool:
        """Whether anything but the root did."""
        return bool(self._new or self._dropped)

    def below_the_root(self) -> Writes:
        """New nodes: nothing that is kept names them yet, so their order does not matter."""
        return {f"{self._key}#{number}": contributions.packed(self._nodes[number]) for number in sorted(self._new)}

    def removed(self) -> Writes:
        return {f"{self._key}#{number}": None for number in self._dropped if f"{self._key}#{number}" in self._table}


#: After these nothing is given to a customer any more.
_CLOSING = frozenset({Kind.CUSTOMER_GONE, Kind.REDACT})


def _run_key(shop: str) -> str:
    """Where a partition keeps the as_of of a shop's newest batch run. No customer's key looks so."""
    return f"{shop}#run"


class CustomerChunk(_Base, Asking):
    """A chunk of account-facts, customer webhooks or rescores: the customer fold and the windows.

    `fence` is the owner's fencing token (tables/state.py): rows carry it, so that a former owner's are told apart.
    """

    def __init__(
        self,
        table: Kept,
        reference: Reference,
        partition: int,
        partitions: int,
        partial: windows.Partial,
        fence: int = 0,
    ) -> None:
        super().__init__(table, reference, partition, partitions)
        self._table: Kept = table
        self._runs: dict[str, int] = {}
        self._partial = partial
        self._fence = fence
        self._open: dict[tuple[str, str], tuple[customers.CustomerState, _Nodes]] = {}
        self._measured: dict[tuple[str, str], customers.Measured] = {}
        self._moved: dict[tuple[str, str], expired.Moved | None] = {}
        self._causes: dict[tuple[str, str], str] = {}  # of the last record, until the row is emitted
        self._changes: dict[tuple[str, int, bool], Sequence[int]] = {}  # by shop and minute: see _note_windows
        self._zones: dict[str, ZoneInfo] = {}
        self._read_mode()

    def take(self, received: Received) -> None:
        """Folds an order-fact, a link, a forward, a rescore or a customer's webhook."""
        if received.topic == topics.ACCOUNT_FACTS:
            self._take_account(received, records.read(account_records.ACCOUNT_RECORD, received.value))
        elif received.topic == topics.RESCORE:
            self._take_rescore(records.read_rescore(received.value, received.timestamp))
        else:
            self._take_webhook(received, envelopes.read(received.value, received.topic, received.timestamp))

    def _take_account(self, received: Received, record: account_records.AccountRecord) -> None:
        if record["type"] == "account.mode":
            self._take_mode(record["mode"])
            return
        shop = self._reference[record["shop"]]
        ident = (record["shop"], record["customer_id"])
        if not self._is_ours(received, keys.join(*ident)):
            return
        if record["type"] == "order.fact":
            self._take_fact(ident, record, shop)
        elif record["type"] == "customer.link":
            self._take_link(ident, record)
        elif record["type"] == "customer.forward":
            self._take_forward(ident, record)
        elif record["type"] == "account.kept":
            self._take_kept(ident, record)
        elif record["type"] == "account.closed":
            self._take_closed(ident)
        else:
            self._take_asked(ident, record)

    def _take_fact(self, ident: tuple[str, str], fact: account_records.OrderFact, shop: ShopReference) -> None:
        state, nodes = self._state(ident)
        was = customers.times(state)
        found = self._noted(ident, customers.file(state, nodes, fact, shop))
        if keys.is_guest(ident[1]):
            return
        linked = bool(state["links"])  # of nearly nobody: who has no links forwards nothing
        if all(merging.own_revision(entry) == fact["revision"] for entry in found):
            self._post(ident, found, {merging.OWN})
            if linked:
                self._forward(ident, found, {merging.OWN})
        if "codes" in fact:
            self._take_codes(ident, fact)
        if "addresses" in fact:
            self._claim(ident, fact["addresses"])
        self._score(ident, f"order {fact['order_id']}")
        if linked:
            self._tell_now(ident, was)

    def _take_webhook(self, received: Received, webhook: envelopes.Webhook) -> None:
        self._reference[webhook.shop]
        customer_id = keys.customer_id(payloads.resource_of(webhook.topic, webhook.payload))
        ident = (webhook.shop, customer_id)
        if not self._is_ours(received, keys.join(*ident)):
            return
        state, _ = self._state(ident)
        was = customers.times(state)
        customers.apply(state, webhook)
        if webhook.kind in _CLOSING:
            closed = {"type": "account.closed", "shop": ident[0], "customer_id": ident[1], "now": webhook.event_time}
            self._emit(topics.ACCOUNT_FACTS, keys.join(*ident), closed)
        if webhook.kind is Kind.MERGE:
            self._link(ident, webhook)
        address = webhook.payload.get("address")
        if address is not None and keys.is_by_address(address):
            self._claim(ident, [address])
        if state["known"]:
            self._score(ident, webhook.topic)
        self._tell_now(ident, was)

    def _noted(
        self, ident: tuple[str, str], steps: Iterable[customers.Filed], debit: bool = False
    ) -> list[contributions.Entry]:
        """The entries after each step, noted in the windows, each in the days that were told of.

        At once: an order may move between two homes of one window, and either may be the customer's only one.
        """
        state, nodes = self._state(ident)
        found = []
        for filed in steps:
            self._note_windows(ident, state, nodes, filed, debit)
            if state["expired"] is not None:  # of nearly nobody anything runs out
                change = (filed.home, filed.before, filed.after, debit)
                self._moved[ident] = expired.moved(
                    state["expired"], self._reference[ident[0]], *change, self._moved.get(ident)
                )
            found.append(filed.after)
        return found

    def _take_rescore(self, request: records.Rescore) -> None:
        """The customers of a slice, each as of the run's time; whoever is named later begins there too."""
        shop, as_of = request["shop"], instants.parse(request["as_of"])
        self._reference.expect(shop, request["version"], as_of)
        self._runs[shop] = max(as_of, self._as_of(shop))
        opened = (keys.join(*ident) for ident in self._open if ident[0] == shop)
        for key in dict.fromkeys((*self._table.of_shop(shop), *opened)):
            if keys.slice_of(key, request["slices"]) == request["slice"]:
                ident = keys.split(key)
                if self._state(ident)[0]["known"]:
                    self._score(ident, "rescore")

    def _as_of(self, shop: str) -> int:
        """Of the shop's newest run that this partition has heard of; 0 before the first."""
        found = self._runs.get(shop)
        if found is None:
            kept = self._table.get(_run_key(shop))
            found = self._runs[shop] = 0 if kept is None else packing.unpack(kept)[0]
        return found

    def _state(self, ident: tuple[str, str]) -> tuple[customers.CustomerState, _Nodes]:
        found = self._open.get(ident)
        if found is None:
            key = keys.join(*ident)
            kept = self._table.get(key)
            state = customers.initial() if kept is None else customers.unpacked(kept)
            found = self._open[ident] = (state, _Nodes(self._table, key, state))
        return found

    def _score(self, ident: tuple[str, str], cause: str) -> None:
        state, nodes = self._open[ident]
        shop = self._reference[ident[0]]
        state["now"] = max(state["now"], self._as_of(ident[0]))
        self._measured[ident] = measured = customers.measure(state, nodes, shop)
        if state["expired"] is not None or not shop.terms.lasting:  # of nearly nobody anything runs out
            self._tell_expired(ident, shop, measured.purse.expired)
        change = customers.score(state, measured.values, shop, ident, cause)
        self._causes[ident] = cause
        if change is not None:
            self._emit(topics.RFM, keys.join(*ident), change, self._partition)
            self._emit_row(ident)  # at once: of rows the history is made

    def _emit_row(self, ident: tuple[str, str]) -> None:
        """The customer's row as of their last record, unless it has been emitted since."""
        cause = self._causes.pop(ident, None)
        if cause is None:
            return
        state, _ = self._open[ident]
        row = customers.row(state, self._measured[ident], self._reference[ident[0]], ident, cause, self._fence)
        if row is not None:
            self._emit(topics.CUSTOMER_ROWS, keys.join(*ident), row, self._partition)

    def _zone(self, shop: str) -> ZoneInfo:
        """The zone under which the shop's days stand here. A change of it is stated between chunks, not by them."""
        zone = self._zones.get(shop)
        if zone is None:
            zone = windows.standing_zone(self._table, shop) or self._reference[shop].zone
            self._zones[shop] = zone
        return zone

    def _note_windows(
        self,
        ident: tuple[str, str],
        state: customers.CustomerState,
        nodes: _Nodes,
        filed: customers.Filed,
        debit: bool,
    ) -> None:
        """What the filing changes in the three windows its home falls into, worked out while the tree is so."""
        before, after = filed.before, filed.after
        guest = keys.is_guest(ident[1])
        change = windows.contribution(after, guest, debit)
        if before is not None:
            change = tuple(map(sub, change, windows.contribution(before, guest, debit)))
        turned = 0
        if not (guest or debit):
            turned = after[contributions.COUNTED] - (before[contributions.COUNTED] if before is not None else 0)
        found = windows.windows(filed.home, self._zone(ident[0]))[::-1]
        came = [turned * alone for alone in _alone(state["tree"], nodes, after, turned, found)] if turned else (0, 0, 0)
        # What is in one minute is in the same hour and day. Whether it changes anything is told apart: it may sum to
        # nothing, too.
        noted, minute = (*change, *came), (ident[0], filed.home // instants.MINUTE, any(change))
        known = self._changes.get(minute)
        self._changes[minute] = noted if known is None else list(map(add, known, noted))

    def finish(self) -> Writes:
        """Closes the chunk: rows and windows join the outputs; the tables' new values in their order."""
        # First the zones: an entry that is kept must not be without the zone under which it was counted.
        writes: Writes = {
            windows.zone_key(shop): windows.packed_zone(zone)
            for shop, zone in self._zones.items()
            if windows.zone_key(shop) not in self._table
        }
        writes |= {
            _run_key(shop): packing.pack([as_of])
            for shop, as_of in self._runs.items()
            if as_of and self._table.get(_run_key(shop)) != packing.pack([as_of])
        }
        writes |= self._mode_writes()
        removed: Writes = {}
        for ident, (state, nodes) in self._open.items():
            self._partial.advance(ident[0], state["now"])
            if nodes.changed:  # of nearly nobody
                writes |= nodes.below_the_root()
                removed |= nodes.removed()
            writes[keys.join(*ident)] = customers.packed(state)
            self._emit_row(ident)
        self._finish_windows()
        return {**writes, **removed}

    def _tell_expired(self, ident: tuple[str, str], shop: ShopReference, gone: int) -> None:
        """The days whose points that ran out have to be told, `gone` in all."""
        state, nodes = self._open[ident]
        state["expired"], differ = expired.told_now(
            *(nodes, state["tree"], state["account"], state["expired"], shop, state["now"], gone),
            self._moved.pop(ident, None),
        )
        for record in expired.records(*ident, shop.zone, differ, self._fence):
            self._emit(topics.POINTS, keys.join(*ident), record, self._partition)

    def _finish_windows(self) -> None:
        changes: dict[tuple[str, windows.Window], Sequence[int]] = {}
        for (shop, minute, changed), (*change, of_day, of_hour, of_minute) in self._changes.items():
            found = windows.windows(minute * instants.MINUTE, self._zone(shop))
            for window, came in zip(reversed(found), (of_day, of_hour, of_minute), strict=True):
                change[windows.CUSTOMERS] = came
                known = changes.get((shop, window))
                if known is not None:
                    changes[shop, window] = list(map(add, known, change))
                elif changed or self._partial.is_open(shop, window):  # one that is closed and stays is not told of
                    changes[shop, window] = list(change)
        for (shop, window), summed in changes.items():
            values = self._partial.add(shop, window, summed)
            currency = self._reference[shop].program.currency
            row = windows.row(shop, window, self._partition, currency, values, self._fence)
            self._emit(topics.WINDOWS, f"{shop}/{self._partition}", row)


def _alone(
    tree: contributions.Node,
    nodes: contributions.Reads,
    entry: contributions.Entry,
    turned: int,
    of: Iterable[windows.Window],
) -> list[bool]:
    """Whether an order that has come to count (`turned` 1), or does no longer (-1), is the customer's only one that
    counts in each of these windows, from the longest to the shortest."""
    near = contributions.neighbours(tree, entry)
    if near is not None:
        return [near[0] < each.start and each.end <= near[1] for each in of]
    found: list[bool] = []
    lone: windows.Window | None = None
    for each in of:
        # Whose order is alone in a window is alone in those inside it. (An hour need not lie inside a day: there are
        # zones half an hour apart.)
        if not (lone and lone.start <= each.start and each.end <= lone.end):
            counted = contributions.sums(nodes, tree, each.start, each.end).counted
            lone = each if counted == max(turned, 0) else None
        found.append(lone is not None)
    return found


def dead_letter(received: Received, error: BadEvent) -> Message:
    """A message that could not be used, as a dead letter."""
    letter = letters.of_message(*received[:6], error)
    return Message(topics.DEAD_LETTERS, letter["key"] or "", codec.dumps(letter))


def fold(make: Callable[[], C], batch: list[Received], spend: Callable[[Received, Exception], None]) -> C:
    """A whole chunk through its fold, ready to be finished.

    What cannot be used becomes a dead letter, what we have no use for is counted. An exception that nobody foresaw is
    handed to `spend`, which raises once its budget is gone; until then the chunk is folded anew without the message,
    so that nothing is left half done. On the account log none is: what is skipped in one run and not in the next would
    have what comes after it decided in two ways.
    """
    poisoned = {at: received.error for at, received in enumerate(batch) if received.error is not None}
    while True:
        chunk = make()
        chunk.expect(batch)
        for at, received in enumerate(batch):
            if at in poisoned:
                chunk.outputs.append(dead_letter(received, poisoned[at]))
                continue
            try:
                chunk.take(received)
            except UnusedTopic:
                chunk.ignored += 1
            except BadEvent as error:
                chunk.outputs.append(dead_letter(received, error))
            except Exception as error:
                if received.topic == topics.ACCOUNT_FACTS:
                    raise
                spend(received, error)
                poisoned[at] = BadEvent("unexpected", type(error).__name__)
                break
        else:
            return chunk
