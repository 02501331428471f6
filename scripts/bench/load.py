"""The load of `make bench`: sends requests made before, over raw keep-alive connections, from a process of its own.

    python load.py HOST PORT REQUESTS CONNECTIONS RATE KEY

REQUESTS is a pickled list of (customer id, request, path). With a RATE above 0, so many are sent each second on
schedule, whatever the answers take, and where a path is given it is asked with KEY until it answers 200. Prints JSON.
"""

import asyncio
import json
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

Request = tuple[str, bytes, str | None]

#: How often the API is asked for a customer who is awaited (seconds), and after so much of the time waited already:
#: whoever is late must not become later by the asking.
_ASK = 0.01
_ASK_AGAIN = 0.05
_GIVE_UP = 120.0


class Load:
    """What was sent and what came of it; times as time.time() has them."""

    def __init__(self, host: str, port: int, requests: list[Request], key: str) -> None:
        self._address = host, port
        self._requests = iter(enumerate(requests))
        self._number = len(requests)
        self._ask = f" HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n"
        self._asking: list[asyncio.Task[None]] = []
        self.refused = 0
        self.accepted: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        self.took: list[float] = []

    async def run(self, connections: int, rate: float) -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(self._send(began, rate) for _ in range(connections)))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        await asyncio.gather(*self._asking)
        return {
            "sent": self._number,
            "refused": self.refused,
            "seconds": seconds,
            "cpu": cpu,
            "took": self.took,
            "accepted": self.accepted,
            "answered": self.answered,
        }

    async def _send(self, began: float, rate: float) -> None:
        """One connection's share: the next request, until there is none."""
        reader, writer = await asyncio.open_connection(*self._address)
        for number, (customer, request, path) in self._requests:
            if rate:
                await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
            sent = time.perf_counter()
            writer.write(request)
            if await _status(reader) not in (200, 201):
                self.refused += 1
                continue
            self.took.append(time.perf_counter() - sent)
            self.accepted[customer] = time.time()
            if path is not None:
                self._asking.append(asyncio.create_task(self._await_customer(customer, path)))
        writer.close()

    async def _await_customer(self, customer: str, path: str) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        began = time.perf_counter()
        while (waited := time.perf_counter() - began) < _GIVE_UP:
            writer.write(f"GET {path}{self._ask}".encode())
            if await _status(reader) == 200:
                self.answered[customer] = time.time()
                break
            await asyncio.sleep(max(_ASK, waited * _ASK_AGAIN))
        writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    """The next response's status, its body read and dropped."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, _, rest = head.lower().partition(b"content-length:")
    length = int(rest.partition(b"\r\n")[0] or 0)
    if length:
        await reader.readexactly(length)
    return int(head[9:12])


def main() -> None:
    host, port, file, connections, rate, key = sys.argv[1:]
    requests: list[Request] = pickle.loads(Path(file).read_bytes())
    load = Load(host, int(port), requests, key)
    print(json.dumps(uvloop.run(load.run(int(connections), float(rate)))))


if __name__ == "__main__":
    main()
