"""A large shop in the lake: what a recompute costs, beside a bare DuckDB query over the same files.

`python -m scripts.bench.lake KIND FOLDER` measures one of RUNS alone in its process and prints it as JSON.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import polars as pl

from batch import standing
from batch.gates import measuring
from events import instants
from lake import past, people, reading, since, versions
from lake.manifest import Lake, Root, ShopFiles
from lake.reading import Files
from lake.rows import TABLES
from runtime import duck
from scripts.bench import data

_SPAN: Final = 6 * 365 * instants.DAY
BEGIN: Final = instants.parse("2020-01-01T00:00:00Z")
END: Final = BEGIN + _SPAN + 2 * instants.DAY
_SLICE: Final = 2_000_000

#: Below a lake's folder: the rows of one more webhook of each hundredth order.
CHANGED: Final = "changed"


class Cost(NamedTuple):
    """Seconds, CPU seconds, and the most memory (bytes) of a process."""

    seconds: float
    cpu: float
    memory: int


class Large(NamedTuple):
    """A shop of so many orders: bytes of its files, what its versions took, and the median cost of each run."""

    orders: int
    customers: int
    size: int
    built: Cost
    costs: dict[str, Cost]


def _random(seed: int, below: int) -> pl.Expr:
    return (pl.col("i").hash(seed) % below).cast(pl.Int64)


def _orders(first: int, count: int, customers: int) -> pl.DataFrame:
    return pl.DataFrame({"i": pl.int_range(first, first + count, eager=True)}).select(
        "i",
        order_id=(5_600_000_000_000 + 7 * pl.col("i")).cast(pl.String),
        customer_id=(7_100_000_000_000 + _random(1, customers)).cast(pl.String),
        processed_at=BEGIN + _random(2, _SPAN // instants.SECOND) * instants.SECOND,
        base=500 + _random(3, 20_000),
    )


def _snapshots(of: pl.DataFrame, number: int) -> pl.DataFrame:
    """The number-th webhook of each: the day after the one before."""
    told_at = pl.col("processed_at") + (6 * instants.SECOND + number * instants.DAY)
    refunded = pl.col("i") % 20 == 0
    return of.select(
        "order_id",
        "customer_id",
        "processed_at",
        "base",
        updated_at=told_at,
        triggered_at=told_at,
        webhook_id=pl.concat_str("order_id", pl.lit(f"-{number}")),
        digest=pl.col("i").hash(number + 9).cast(pl.String).str.slice(0, 16),
        gift=pl.lit(0, dtype=pl.Int64),
        tax=pl.lit(0, dtype=pl.Int64),
        gross="base",
        gross_tax=pl.lit(0, dtype=pl.Int64),
        status=pl.lit("paid"),
        test=pl.lit(value=False),
        refund_ids=pl.when(refunded & (number > 0))
        .then(pl.concat_list("order_id"))
        .otherwise(pl.lit([], dtype=pl.List(pl.String))),
        told_at=told_at,
    ).select(list(TABLES["snapshots"]))


def _lines(of: pl.DataFrame, told: pl.DataFrame) -> pl.DataFrame:
    """What was in the orders: one to three lines, of a thousand products."""
    lines = 1 + _random(4, 3)
    products = [(8_200_000_000_000 + _random(10 + k, 1000)).cast(pl.String) for k in range(3)]
    each = {
        "product_ids": pl.concat_list(products),
        "variant_ids": pl.concat_list(pl.concat_str(each, pl.lit("1")) for each in products),
        "skus": pl.concat_list(pl.concat_str(pl.lit("S-"), each.str.slice(10)) for each in products),
        "gift_cards": pl.lit([False] * 3),
        "quantities": pl.lit([1, 2, 1], dtype=pl.List(pl.Int64)),
        "left": pl.lit([1, 2, 1], dtype=pl.List(pl.Int64)),
        "prices": pl.concat_list([pl.col("base") // 3] * 3),
        "discounts": pl.lit([0] * 3, dtype=pl.List(pl.Int64)),
    }
    found = of.select(
        "order_id",
        source=pl.lit("web"),
        discount_codes=pl.lit([], dtype=pl.List(pl.String)),
        **{name: value.list.head(lines) for name, value in each.items()},
    )
    keys = told.select("order_id", "updated_at", "triggered_at", "webhook_id", "digest", "told_at")
    return keys.join(found, on="order_id", how="left").select(list(TABLES["lines"]))


def _refunds(of: pl.DataFrame) -> pl.DataFrame:
    at = pl.col("processed_at") + instants.DAY
    return of.select(
        "order_id",
        refund_id="order_id",
        created_at=at,
        goods=pl.lit(300, dtype=pl.Int64),
        goods_tax=pl.lit(0, dtype=pl.Int64),
        beyond=pl.lit(0, dtype=pl.Int64),
        paid=pl.lit(-1, dtype=pl.Int64),
        told_at=at,
    )


def make(folder: Path, number: int) -> tuple[Lake, Cost]:
    """A shop of so many orders by a tenth as many customers, a tenth of them told of twice, one in twenty refunded."""
    lake, files, change = Lake(folder), ShopFiles(data.CURRENCY, ""), 0
    for first in range(0, number, _SLICE):
        change += 1
        found = _orders(first, min(_SLICE, number - first), number // 10)
        again = found.filter(pl.col("i") % 10 == 0)
        told = pl.concat([_snapshots(found, 0), _snapshots(again, 1)])
        rows = {
            **_rows(told),
            "lines": _lines(found, told),
            "refunds": _refunds(found.filter(pl.col("i") % 20 == 0)),
        }
        for name, frame in rows.items():
            files.tables[name] += lake.write(name, data.SHOP, change, frame)
    paths = {name: [folder / part.path for part in parts] for name, parts in files.tables.items()}
    began, before = time.monotonic(), time.process_time()
    whom, ties, target = (lake.place(kind, data.SHOP, change + 1) for kind in ("customers", "ties", "versions"))
    people.build(whom, ties, paths, None, versions.MEMORY)
    versions.build(target, paths, None, whom)
    files.layers, files.customers, files.ties = [lake.layer(target)], lake.layer(whom), lake.layer(ties)
    built = Cost(time.monotonic() - began, time.process_time() - before, most_memory())
    lake.swap(Root(change=change + 1, lists={data.SHOP: lake.write_list(data.SHOP, change + 1, files)}))
    for name, frame in _rows(_snapshots(_orders(0, number, number // 10).filter(pl.col("i") % 100 == 7), 2)).items():
        (folder / CHANGED).mkdir(exist_ok=True)
        frame.with_columns(told_at=pl.lit(END - instants.HOUR)).write_parquet(folder / CHANGED / f"{name}.parquet")
    return lake, built


def _rows(told: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """What snapshots come with."""
    return {
        "snapshots": told,
        "events": told.select("order_id", cancelled=False, deleted=False, now="told_at", told_at="told_at"),
        "owners": told.select("order_id", "customer_id", "told_at"),
    }


# --- each alone --------------------------------------------------------------------------------------------------


def _bare(folder: Path) -> int:
    """The newest revision of each order, grouped by customer: what a recompute does at the least."""
    files = f"read_parquet('{folder}/snapshots/*/*/*.parquet')"
    with duck.connected() as connection:
        row = connection.execute(
            "SELECT count(*) FROM (SELECT customer_id, count(*), sum(base), max(processed_at) FROM ("
            " SELECT order_id, arg_max(customer_id, updated_at) AS customer_id, arg_max(base, updated_at) AS base,"
            f"  arg_max(processed_at, updated_at) AS processed_at FROM {files} GROUP BY order_id)"
            " GROUP BY customer_id)"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _recompute(folder: Path, until: int | None) -> int:
    """Everybody's points, values, digits and segment, and the cut points, as of an instant."""
    found, _ = past.work_out(_files(folder), data.program(), END if until is None else until)
    return found.height


def _files(folder: Path) -> Files:
    """The lake's."""
    lake = Lake(folder)
    files = lake.shop(lake.root(), data.SHOP)
    assert files is not None
    assert files.customers is not None
    assert files.ties is not None
    layers, whom, ties = [folder / layer.path for layer in files.layers], files.customers.path, files.ties.path
    rows = {name: [folder / part.path for part in parts] for name, parts in files.tables.items()}
    return Files(layers, folder / whom, folder / ties, rows, 0, 0, "0", "", reading.newest(files))


def _run(files: Files) -> int:
    """What a run does of itself that publishes: standings, what its gates ask, and each row held against versions."""
    program = data.program()
    found, cut_points = past.work_out(files, program, END)
    assert past.newest_event(files, END)
    orders = measuring.orders_in(past.orders(files, program, END), found, program, END)
    measured = measuring.standings_out(found, orders, cut_points, program)
    assert not measured["revenue_unaccounted"]
    assert not orders.measured["orders_twice"]
    # One in a hundred was told of since, and stands a moment later.
    rows = found.select("customer_id", now=END + (pl.col("customer") % 100 == 0).cast(pl.Int64))
    same = since.same(files, since.known(files, found, END), pl.Series(dtype=pl.String))
    should_be = standing.expected_of(files, rows, [cut_points], program, same)
    assert should_be["segment"].equals(found["segment"])
    return found.height


@contextmanager
def _changed(files: Files, changed: Path) -> Iterator[Files]:
    """The files with one more layer, of the rows in a folder, as a filling makes it."""
    told = {path.stem: [path] for path in changed.iterdir()}
    rows = {name: [*files.rows[name], *told.get(name, ())] for name in TABLES}
    with tempfile.TemporaryDirectory(dir=changed.parent) as made:
        whom, ties, target = (Path(made) / f"{name}.parquet" for name in ("customers", "ties", "versions"))
        people.build(whom, ties, told, (files.customers, files.ties), versions.MEMORY)
        versions.build(target, rows, told, whom)
        yield files._replace(layers=[*files.layers, target], customers=whom, ties=ties, rows=rows)


def _night(folder: Path) -> int:
    """A run of the night in which one order in a hundred was told of once more."""
    with _changed(_files(folder), folder / CHANGED) as files:
        return _run(files)


BARE, NOW, PAST = "a bare DuckDB query", "everybody as of now", "everybody as of two years before"
RUN, NIGHT = "a run that publishes", "the same, one order in a hundred changed"
RUNS: Final[dict[str, Callable[[Path], int]]] = {
    BARE: _bare,
    NOW: lambda folder: _recompute(folder, None),
    PAST: lambda folder: _recompute(folder, END - 2 * 365 * instants.DAY),
    RUN: lambda folder: _run(_files(folder)),
    NIGHT: _night,
}


def most_memory() -> int:
    """This process's own peak: what getrusage says is also that of whoever started it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) * 1024


def measure(folder: Path, number: int, rounds: int) -> Large:
    """Each run in a process of its own, in turns."""
    lake, built = make(folder, number)
    costs: dict[str, list[Cost]] = {kind: [] for kind in RUNS}
    for _ in range(rounds):
        for kind, found in costs.items():
            words = [sys.executable, "-m", "scripts.bench.lake", kind, str(folder)]
            told: dict[str, Any] = json.loads(subprocess.check_output(words, text=True))
            assert told.pop("customers")
            found.append(Cost(**told))
    size = sum(path.stat().st_size for path in lake.folder.rglob("*.parquet"))
    middle = {kind: Cost(*(median(each) for each in zip(*found, strict=True))) for kind, found in costs.items()}
    return Large(number, number // 10, size, built, middle)


if __name__ == "__main__":
    began, before = time.monotonic(), time.process_time()
    customers = RUNS[sys.argv[1]](Path(sys.argv[2]))
    cost = Cost(time.monotonic() - began, time.process_time() - before, most_memory())
    print(json.dumps({"customers": customers, **cost._asdict()}))
