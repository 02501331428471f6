"""The peer of `make bench`: the same one table by Quix Streams. Run by the Python that has Quix; imports nothing else.

It is started with Kafka's servers, the group, the topic, the file to write when it begins, and the number of orders:
after so many it ends by itself, when its last checkpoint (state, changelog, positions) is done.
"""

# mypy: disable-error-code="import-not-found,no-untyped-call"
import sys
from pathlib import Path
from typing import Any

from quixstreams import Application


def main() -> None:
    servers, name, topic, ready, orders = sys.argv[1:]
    app = Application(
        broker_address=servers,
        consumer_group=name,
        auto_offset_reset="earliest",
        state_dir=str(Path(ready).parent / "state"),
        loglevel="WARNING",
    )
    rows = app.dataframe(app.topic(topic, key_deserializer="str", value_deserializer="json"))
    begun = False

    def total(order: dict[str, Any], state: Any) -> float:
        nonlocal begun
        if not begun:  # Quix does not say when it is ready: its first order does
            begun = True
            Path(ready).touch()
        amount = float(state.get("total", 0.0)) + float(order["payload"]["current_subtotal_price"])
        state.set("total", amount)
        return amount

    rows.apply(total, stateful=True)
    app.run(count=int(orders))


if __name__ == "__main__":
    main()
