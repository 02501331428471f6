"""Where the folds' time goes: a profile of both agents' folds, in this process, over the same orders.

`python -m scripts.bench.folds [ORDERS]` prints it, with what the sink's reading of the same records takes.
"""

import cProfile
import gc
import pstats
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from events import instants, keys, money, topics
from events.messages import Message
from runtime.kafka import SINK_TOPICS
from scripts.bench import data
from streams.sink.rows import Rows
from streams.worker.main import COLLECTED
from tables import chunks, windows
from tables.reference import Reference
from tables.state import Values, Writes

_PARTITIONS: Final = 8
_CHUNK: Final = 500

#: What is shown: the step, and the functions (file, name) that do it, none of which calls another of the list.
STEPS: Final[tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = (
    ("orders: the envelope read, checked and minimised", (("events/envelopes.py", "read"),)),
    ("orders: the webhook joined to the order's state", (("tables/orders.py", "apply"),)),
    ("orders: the facts it makes", (("tables/orders.py", "facts"),)),
    ("customers: the fact read and checked", (("events/records.py", "read"),)),
    ("customers: the fact filed in the customer's tree", (("tables/customers.py", "file"),)),
    ("customers: windows", (("tables/chunks.py", "_note_windows"), ("tables/chunks.py", "_finish_windows"))),
    ("customers: measured and scored, with what changed", (("tables/chunks.py", "_score"),)),
    ("both: is the key on its partition", (("tables/chunks.py", "_is_ours"),)),
)


class Profile(NamedTuple):
    """Microseconds of CPU an order takes in each fold and in the sink's reading, unprofiled; each step's share of the
    folds' profiled time."""

    orders_us: float
    customers_us: float
    rows_us: float
    shares: list[tuple[str, float]]


class _Folds:
    """Both agents without Kafka between them."""

    def __init__(self) -> None:
        self._reference = Reference()
        self._reference.put_program(data.program())
        self._orders: list[dict[str, bytes]] = [{} for _ in range(_PARTITIONS)]
        self._customers = [Values() for _ in range(_PARTITIONS)]
        self._partial = [windows.Partial() for _ in range(_PARTITIONS)]

    def orders(self, received: list[list[chunks.Received]]) -> list[Message]:
        return self._run(received, self._orders, self._order_chunk)

    def customers(self, received: list[list[chunks.Received]]) -> list[Message]:
        return self._run(received, self._customers, self._customer_chunk)

    def _order_chunk(self, at: int) -> chunks.Chunk:
        return chunks.OrderChunk(self._orders[at], self._reference, at, _PARTITIONS)

    def _customer_chunk(self, at: int) -> chunks.Chunk:
        return chunks.CustomerChunk(self._customers[at], self._reference, at, _PARTITIONS, self._partial[at])

    def _run(
        self,
        received: list[list[chunks.Received]],
        tables: Sequence[dict[str, bytes]],
        make: Callable[[int], chunks.Chunk],
    ) -> list[Message]:
        outputs: list[Message] = []
        for start in range(0, max(map(len, received)), _CHUNK):
            for at, records in enumerate(received):
                batch = records[start : start + _CHUNK]
                chunk = chunks.fold(lambda at=at: make(at), batch, _unforeseen)  # type: ignore[misc]
                writes = chunk.finish()
                outputs += chunk.outputs
                _apply(tables[at], writes)
        return outputs


def _apply(table: dict[str, bytes], writes: Writes) -> None:
    for key, value in writes.items():
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def _unforeseen(_: chunks.Received, error: Exception) -> None:
    raise error


def profile(orders: Sequence[data.Order]) -> Profile:
    gc.set_threshold(*COLLECTED)
    incoming = _by_partition(Message(topics.ORDERS, *each) for each in data.by_order(orders))
    folds = _Folds()
    orders_us, outputs = _timed(folds.orders, incoming)
    facts = _by_partition(each for each in outputs if each.topic == topics.ACCOUNT_FACTS)
    customers_us, results = _timed(folds.customers, facts)
    rows_us, _ = _timed(_rows, [*incoming, *_by_partition(results)])
    profiler = cProfile.Profile()
    again = _Folds()
    profiler.enable()
    again.orders(incoming)
    again.customers(facts)
    profiler.disable()
    number = len(orders)
    return Profile(orders_us / number, customers_us / number, rows_us / number, _shares(profiler))


def _by_partition(messages: Iterable[Message]) -> list[list[chunks.Received]]:
    found: list[list[chunks.Received]] = [[] for _ in range(_PARTITIONS)]
    several = [(each.topic, each.key.encode(), each.value) for each in messages]
    places = keys.partitions_of({key for _, key, _ in several}, _PARTITIONS)
    for topic, raw, value in several:
        at = places[raw]
        found[at].append(chunks.Received(topic, at, len(found[at]), 4_102_444_800_000, raw, value))
    return found


def _rows(received: list[list[chunks.Received]]) -> list[Message]:
    rows = Rows(journal=False)
    for record in chain.from_iterable(received):
        if record.topic in SINK_TOPICS:
            rows.add(record)
    return []


def _timed(fold: Callable[[Any], list[Message]], received: Any) -> tuple[float, list[Message]]:
    for known in (keys.murmur2, instants._minute, instants._to_minute, money._minor):
        known.cache_clear()  # a worker meets each order for the first time
    began = time.process_time()
    outputs = fold(received)
    return (time.process_time() - began) * 1e6, outputs


def _shares(profiler: cProfile.Profile) -> list[tuple[str, float]]:
    """Each step's share of the time in both folds; what is left is the last line."""
    # `stats` is as old as pstats, and not in its stubs.
    stats: dict[Any, Any] = vars(pstats.Stats(profiler))["stats"]
    taken: dict[tuple[str, str], float] = {}
    for (file, _, name), (_, _, _, cumulative, _) in stats.items():
        place = ("/".join(file.split("/")[-2:]), name)
        taken[place] = taken.get(place, 0.0) + cumulative
    total = taken["bench/folds.py", "_run"]
    shares = [(step, sum(taken.get(place, 0.0) for place in places) / total) for step, places in STEPS]
    return [*shares, ("the rest: JSON of what leaves, loops, tables", 1 - sum(share for _, share in shares))]


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 30_000
    found = profile(list(data.orders(number, number // 5)))
    print(
        f"orders {found.orders_us:.1f} µs, customers {found.customers_us:.1f} µs, rows {found.rows_us:.1f} µs an order"
    )
    for step, share in found.shares:
        print(f"{share:5.0%}  {step}")
