"""The peer of `make bench`: the same one table by Bytewax. Run by the Python that has it; imports nothing else.

It is started with Kafka's servers, the topic, and the file to write when the first order has come. It ends by itself
at the topic's end, when its last snapshot is kept.
"""

# mypy: disable-error-code="import-not-found,no-untyped-call"
import json
import sys
from pathlib import Path
from typing import Any

from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from bytewax.testing import TestingSink


def main() -> None:
    servers, topic, ready = sys.argv[1:]
    begun = False

    def amount(message: Any) -> tuple[str, float]:
        nonlocal begun
        if not begun:  # Bytewax does not say when it is ready: its first order does
            begun = True
            Path(ready).touch()
        return message.key.decode(), float(json.loads(message.value)["payload"]["current_subtotal_price"])

    def total(before: float | None, each: float) -> tuple[float, float]:
        now = (before or 0.0) + each
        return now, now

    flow = Dataflow("totals")
    orders = op.input("orders", flow, KafkaSource([servers], [topic], tail=False))
    totals = op.stateful_map("total", op.map("amount", orders, amount), total)
    op.output("out", op.filter("none", totals, lambda _: False), TestingSink([]))
    kept = Path(ready).parent / "bytewax"
    kept.mkdir()
    init_db_dir(kept, 1)
    cli_main(flow, recovery_config=RecoveryConfig(str(kept)))


if __name__ == "__main__":
    main()
