"""The CSV of a large shop through the API: how long, how soon, how much memory, and who else waits meanwhile."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any, Final, NamedTuple

import orjson
import psutil
import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from books import api_keys
from books.sealed import MasterKeys, seal_bytes
from scripts.bench import data, web
from scripts.bench.world import BenchError, Process, Run, World

#: Columns of `customers` that are filled.
NAMES: Final = (
    *("shop", "customer_id", "now", "currency", "balance", "recency_days", "frequency", "monetary", "last_order_at"),
    *("r", "f", "m", "score", "segment_id", "segment", "cut_points_version", "contact", "contact_at", "consent"),
    *("consent_at", "deleted", "redacted", "merged_into"),
)
_NOW: Final = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
_SEGMENTS: Final = ("Champions", "Loyal", "Active", "Needs attention", "At risk")

#: How often somebody else asks meanwhile (seconds).
_PAUSE: Final = 0.05


class Listed(NamedTuple):
    """A list of people for somebody's system, of the same shop: rows, seconds, CPU seconds as of an export."""

    rows: int
    seconds: float
    cpu: float
    database_cpu: float


class Exported(NamedTuple):
    """One export: seconds until its first byte and its last, CPU seconds of the API's processes and of PostgreSQL.

    `memory`: bytes by which the API's processes grew at the most. `waited`: each answer's seconds that others got.
    """

    customers: int
    size: int
    first: float
    seconds: float
    cpu: float
    database_cpu: float
    memory: int
    waited: list[float]


def customers(number: int, told: bool = True) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...] | None]]:
    """Rows of `customers` (as NAMES) and `customer_keys`: one in a hundred was merged into the one before, another one
    in a hundred was forgotten. Where anything was told, of ten customers seven have an address, and five a consent.
    """
    master, shop = MasterKeys([bytes(32)]), data.SHOP
    for at in range(number):
        ident = str(7_100_000_000_000 + at)
        contact = consent = wrapped = None
        merged = str(7_100_000_000_000 + at - 1) if at % 100 == 50 else None
        redacted = at % 100 == 60
        if told and at % 10 < 7:
            key = AESGCM.generate_key(256)
            wrapped, cipher = master.wrap(shop, ident, key), AESGCM(key)
            contact = seal_bytes(cipher, shop, ident, orjson.dumps((f"somebody.{ident}@example.com", None)))
            if at % 10 < 5:
                said = "unsubscribed" if at % 10 == 4 else "subscribed"
                consent = seal_bytes(cipher, shop, ident, orjson.dumps((None, said)))
        yield (
            (
                *(shop, ident, _NOW, data.CURRENCY, at % 5000, at % 365, 1 + at % 9, at % 90_000, _NOW),
                *(1 + at % 5, 1 + at % 4, 1 + at % 3, "2.5", "seg_333", _SEGMENTS[at % 5], "default"),
                *(contact, contact and _NOW, consent, consent and _NOW, False, redacted, merged),
            ),
            None if wrapped is None else (shop, ident, None if redacted else wrapped),
        )


def fill(url: str, number: int, told: bool = True) -> None:
    """A shop of so many customers."""
    keys = []
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        program = data.program()
        connection.execute(
            "INSERT INTO programs (shop, program, updated_at) VALUES (%s, %s, %s)",
            (program.shop, program.model_dump_json(), _NOW),
        )
        with cursor.copy(f"COPY customers ({', '.join(NAMES)}) FROM STDIN".encode()) as copy:
            for row, key in customers(number, told):
                copy.write_row(row)
                if key is not None:
                    keys.append(key)
        with cursor.copy(b"COPY customer_keys (shop, customer_id, wrapped) FROM STDIN") as copy:
            for key in keys:
                copy.write_row(key)
        connection.execute("VACUUM ANALYZE")


def exports(world: World, number: int) -> tuple[Exported, Exported, Listed]:
    """Everybody of a shop of so many customers, of whom nothing sealed is known, and of one where most have an address;
    then a list of the second.
    """
    with _shop(world, number, told=False) as asked:
        plain = _export(world, number, *asked)
    with _shop(world, number, told=True) as asked:
        return plain, _export(world, number, *asked), _listed(world, *asked)


@contextmanager
def _shop(world: World, number: int, told: bool) -> Iterator[tuple[Process, int, str]]:
    with world.run("export") as run:
        fill(run.settings.database_url(), number, told)
        api, port = web.api(run)
        yield api, port, asyncio.run(key_of(run))


def _export(world: World, number: int, api: Process, port: int, key: str) -> Exported:
    """Read as fast as it comes by a client that keeps nothing."""
    watch = _Watch(api, port, key)
    _read(port, key, "?segment=Champions")  # what is loaded at the first is there
    _, before = world.server_cpu()
    own = _cpu(api)
    with watch:
        size, rows, first, seconds = _read(port, key, "")
    if rows != 1 + number - (number + 49) // 100:
        raise BenchError(f"{rows} lines are not everybody")
    used = world.server_cpu()[1] - before
    return Exported(number, size, first, seconds, _cpu(api) - own, used, watch.grown, watch.waited)


def _listed(world: World, api: Process, port: int, key: str) -> Listed:
    """Everybody who agreed, for Google."""
    own, before = _cpu(api), world.server_cpu()[1]
    _, rows, _, seconds = _read(port, key, "?preset=google")
    return Listed(rows - 1, seconds, _cpu(api) - own, world.server_cpu()[1] - before)


def _read(port: int, key: str, query: str) -> tuple[int, int, float, float]:
    """Bytes, lines, and the seconds until the first byte and the last."""
    client = HTTPConnection("127.0.0.1", port, timeout=120)
    began = time.monotonic()
    client.request("GET", f"/v1/shops/{data.SHOP}/exports/segments.csv{query}", headers=_bearer(key))
    answer = client.getresponse()
    if answer.status != 200:
        raise BenchError(f"the export was answered {answer.status}")
    size = rows = 0
    first = None
    while got := answer.read1(1 << 20):
        first = first or time.monotonic() - began
        size, rows = size + len(got), rows + got.count(b"\n")  # \r and \n may come apart
    client.close()
    return size, rows, first or 0.0, time.monotonic() - began


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class _Watch:
    """Asks the API for segments again and again, and looks how large its processes are."""

    def __init__(self, api: Process, port: int, key: str) -> None:
        self._api, self._port, self._key = api, port, key
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._before = self._size()
        self.grown = 0
        self.waited: list[float] = []

    def _size(self) -> int:
        """What several share is counted once."""
        return sum(each.memory_full_info().pss for each in _processes(self._api))

    def _ask(self) -> None:
        client = HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._over.wait(_PAUSE) or len(self.waited) < 2:
            began = time.monotonic()
            client.request("GET", f"/v1/shops/{data.SHOP}/segments", headers=_bearer(self._key))
            client.getresponse().read()
            self.waited.append(time.monotonic() - began)
            self.grown = max(self.grown, self._size() - self._before)
        client.close()

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _processes(api: Process) -> list[psutil.Process]:
    return [api.seen, *api.seen.children(recursive=True)]


def _cpu(api: Process) -> float:
    total = 0.0
    for each in _processes(api):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
    return total


async def key_of(run: Run) -> str:
    """An API key that reads and exports."""
    async with await psycopg.AsyncConnection.connect(run.settings.database_url(), autocommit=True) as connection:
        return await api_keys.create(connection, data.SHOP, "bench", ["read", "export"], datetime.now(UTC))
