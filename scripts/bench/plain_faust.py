"""The peer of `make bench`: a plain one-table Faust agent with Faust's default settings. A program of its own.

It is started with Kafka's servers, the app's id, the topic and the file to write when it is ready.
"""

# mypy: disable-error-code="untyped-decorator"
import sys
from pathlib import Path
from typing import Any

import faust


def main() -> None:
    servers, name, topic = sys.argv[1:4]
    ready = Path(sys.argv[4])
    app = faust.App(name, broker=f"kafka://{servers}", web_enabled=False)
    orders = app.topic(topic)
    totals = app.Table("totals", default=float)

    @app.agent(orders)
    async def total(stream: Any) -> None:
        async for customer, order in stream.items():
            totals[customer] += float(order["payload"]["current_subtotal_price"])

    @app.timer(0.1)
    async def say_ready() -> None:
        if app.tables.actives_ready:
            ready.touch()  # noqa: ASYNC240 (once)

    app.Worker(loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main()
