"""The one-table job of `make bench` by our own transport, guard and table, its changelog in Kafka.

A worker as it is, but for what its first agent folds: nothing leaves a chunk but the new sums. Started with the file to
write when so many orders are durable: `python one_table.py FILE ORDERS`.
"""

# mypy: disable-error-code="untyped-decorator"
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from events.messages import Message
from runtime.settings import Settings
from streams.worker import main as worker
from streams.worker.app import Worker
from tables.chunks import Received
from tables.state import Writes


class Totals:
    """A chunk of orders by customer (tables.chunks.Chunk)."""

    def __init__(self, table: Mapping[str, bytes]) -> None:
        self.outputs: list[Message] = []
        self.rerouted = self.ignored = 0
        self._table = table
        self._totals: dict[str, float] = {}

    def expect(self, batch: Iterable[Received]) -> None:
        """Nothing is to be known of them before."""

    def take(self, received: Received) -> None:
        """Adds an order to its customer's sum."""
        key = (received.key or b"").decode()
        total = self._totals.get(key)
        if total is None:
            kept = self._table.get(key)
            total = struct.unpack("<d", kept)[0] if kept is not None else 0.0
        self._totals[key] = total + float(orjson.loads(received.value or b"")["payload"]["current_subtotal_price"])

    def finish(self) -> Writes:
        """The sums of the customers who bought."""
        return {key: struct.pack("<d", total) for key, total in self._totals.items()}


class OneTable(Worker):
    """The worker whose table of orders keeps sums."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.orders.make = lambda at: Totals(self.orders.state.partition(at).values)
        done, number = Path(sys.argv[1]), int(sys.argv[2])

        @self.app.timer(0.02)
        async def say_done() -> None:
            # A position is moved once all that was folded before it is on the changelog.
            if sum(self.guard.positions.values()) >= number:
                done.touch()  # noqa: ASYNC240 (once or twice)


if __name__ == "__main__":
    worker.Worker = OneTable  # type: ignore[attr-defined]
    sys.exit(worker.main(Settings()))
