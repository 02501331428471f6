"""Everybody's standing as of any instant, worked out from the lake, and kept there for whoever asks again.

    lake/past/shop=S/1767225600000000.json              of which instant, what it was made of, its cut points
    lake/past/shop=S/1767225600000000-1f0c….parquet     everyone's standing, by customer_id

What is kept counts for as long as it is what would be worked out anew: nothing more was told of that time, nothing
else is refused, and the program is the same.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import polars as pl
from psycopg import Connection

from events import instants
from events.programs import CutPoints, Program
from lake import accounts, filling, identity, people, reading, redemptions, rfm, valuing, versions
from lake.manifest import PAST, Lake, settle
from lake.reading import Files
from lake.rows import TABLES

#: Of what is kept: of another shape it counts for nothing.
VERSION: Final = 2

#: Instants of a shop that are kept: those asked for last. (The analysts' file asks for 13, each time.)
KEPT: Final = 32

#: Rows that are written, and read, at a time.
_GROUP: Final = 100_000

#: A standing's columns; amounts in minor units, instants in microseconds.
COLUMNS: Final = (
    *("customer_id", *accounts.COLUMNS),
    *("recency_days", "frequency", "monetary", "last_order_at"),
    *("r", "f", "m", "score", "segment_id", "segment"),
)

#: What of a program says nothing of a standing.
_ASIDE: Final = {"announced_at", "id", "translations", "locale", "rewards"}

#: What a customer's orders sum to; `deserved` are the points of all of them.
VALUES: Final = ("deserved", "frequency", "monetary", "last_order_at")

_SUMMED: Final = {"customer": pl.Int32, **dict.fromkeys(VALUES, pl.Int64)}
_VALUED: Final = {"customer_id": pl.String, **dict.fromkeys(("now", *VALUES), pl.Int64)}

#: Versions of orders that count for somebody.
MINE: Final = valuing.COUNTED & pl.col("customer").is_not_null()
_SPAN: Final = ("valid_from", "valid_to")
_LOTS: Final = {"customer": pl.Int32, "at": pl.Int64, "points": pl.Int64, "active": pl.Boolean}

#: What of an order `valuing.amounts` needs.
_AMOUNTS: Final = (
    *("order_id", "customer", "processed_at", "status", "test", "cancelled", "deleted"),
    *("left", "tax", "gross", "gross_tax", "beyond", "money_beyond"),
)


class Standings(NamedTuple):
    """Everybody's standing as of an instant: a Parquet file (COLUMNS, by customer_id), whole and in memory.

    `name` is its own: what is worked out anew has another. `segments` has of each segment its customers and their sums:
    customers, monetary, balance, frequency, recency_days, and `recent`, how many of them have any.
    """

    name: str
    at: int
    cut_points: CutPoints
    content: bytes
    segments: list[dict[str, Any]]

    def read(self, *columns: str) -> pl.DataFrame:
        """Some columns of everybody."""
        return pl.read_parquet(self.content, columns=list(columns))

    def count(self, chosen: pl.Expr) -> int:
        """How many are chosen."""
        return int(pl.scan_parquet(self.content).filter(chosen).select(pl.len()).collect().item())

    def slices(self, size: int, chosen: pl.Expr | None = None) -> Iterator[pl.DataFrame]:
        """Everybody, or who is chosen, in frames of `size` rows or fewer."""
        for first in range(0, sum(each["customers"] for each in self.segments), _GROUP):
            found = pl.scan_parquet(self.content).slice(first, _GROUP)
            if chosen is not None:
                found = found.filter(chosen)
            yield from found.collect().iter_slices(size)


def standings(connection: Connection[Any], lake: Lake, program: Program, at: int) -> Standings:
    """As of `at` (microseconds): as kept, else worked out and kept. BehindError if the lake lacks too much of then."""
    (found,) = standings_of(connection, lake, program, [at])
    return found


def standings_of(
    connection: Connection[Any], lake: Lake, program: Program, times: Sequence[int]
) -> Iterator[Standings]:
    """As `standings`, of several instants, in no order: what is kept of none of them is read once for all."""
    missing = []
    for at in times:
        found = kept(connection, lake, program, at)
        if found is None:
            missing.append(at)
        else:
            yield found
    if not missing:
        return
    with reading.told_until(connection, lake, program, max(missing)) as files:
        made_of = {**_made_of(program, filling.database_of(connection)), **_read_from(files)}
        worked_out = work_out_all(files, program, missing) if len(missing) > 1 else [work_out(files, program, *missing)]
        for at, (frame, cut_points) in zip(missing, worked_out, strict=True):
            yield _keep(lake, program, at, frame, cut_points, made_of)


class Tried(NamedTuple):
    """What a program would make of everybody: segments as in Standings, and the cut points."""

    segments: list[dict[str, Any]]
    cut_points: CutPoints


def tried(connection: Connection[Any], lake: Lake, programs: Sequence[Program], at: int) -> list[Tried]:
    """As of `at` (microseconds) under each of some programs of a shop; nothing is kept. BehindError as `standings`."""
    found = []
    with reading.told_until(connection, lake, programs[0], at) as files:
        for program in programs:
            frame, cut_points = work_out(files, program, at)
            found.append(Tried(_by_segment(frame), cut_points))
    return found


def work_out(files: Files, program: Program, at: int) -> tuple[pl.DataFrame, CutPoints]:
    """Everybody's standing by customer_id (COLUMNS, cut_points_version, and `customer`, their number), under cut points
    made from them.

    Orders are summed slice by slice: memory grows with customers, not with orders.
    """
    wanted = versions.holding(files.until(at)) & MINE & (pl.col("processed_at") <= at)
    parts = [
        _sums(valuing.deserved(rows, program), program, pl.lit(at))
        for rows in versions.scans(files.layers, wanted, needed(program))
    ]
    return _standing(files, program, at, parts)


def work_out_all(files: Files, program: Program, times: Sequence[int]) -> Iterator[tuple[pl.DataFrame, CutPoints]]:
    """As `work_out`, of each of several instants: versions are read, and valued, once for all of them."""
    parts: list[list[pl.DataFrame]] = [[] for _ in times]
    columns = [*needed(program), *_SPAN]
    for found in versions.every(files.layers, MINE & (pl.col("processed_at") <= max(times)), columns):
        worth = valuing.deserved(found, program).with_columns(found.select(_SPAN)).lazy()
        for at, sums in zip(times, parts, strict=True):
            then = worth.filter(versions.holding(files.until(at)) & (pl.col("processed_at") <= at))
            sums.append(_sums(then, program, pl.lit(at)))
    for at, sums in zip(times, parts, strict=True):
        yield _standing(files, program, at, sums)


def needed(program: Program) -> list[str]:
    """What of the versions in MINE `valuing.deserved` needs."""
    return ["customer", *valuing.needed(program)]


def _standing(files: Files, program: Program, at: int, parts: list[pl.DataFrame]) -> tuple[pl.DataFrame, CutPoints]:
    """Of the sums over each slice of everybody's orders: see `work_out`."""
    owners, sums = owners_of(files, at), _together(parts)
    if owners.height:
        sums = _summed(owned(sums, owners).lazy())
    found = (
        people.known(files.customers, at)
        .collect()
        .join(owners, on="customer", how="anti", maintain_order="left")
        .join(sums, on="customer", how="left", maintain_order="left")
        .with_columns(pl.col("deserved", "frequency", "monetary").fill_null(0))
        .with_columns(recency_days=(at - pl.col("last_order_at")) // instants.DAY, now=pl.lit(at, dtype=pl.Int64))
    )
    found = accounts.settled(found, given(files, program, at), lambda: _lots(files, program, at, found), program)
    cut_points = rfm.find_cut_points(found, program, instants.to_datetime(at))
    return rfm.standings(found, cut_points, program), cut_points


def given(files: Files, program: Program, at: int) -> pl.DataFrame:
    """What was given and taken (accounts.NONE) as of an instant, of whoever their customers were in the end."""

    def rows(name: str) -> pl.DataFrame:
        told = versions.scan(files.rows[name]) if files.rows[name] else pl.LazyFrame(schema=TABLES[name])
        return told.filter(pl.col("told_at") <= at).collect()

    def states(ids: pl.Series) -> pl.DataFrame:
        columns, mine = ("customer_id", *_AMOUNTS), versions.of_orders(ids)
        found = [] if ids.is_empty() else versions.slices(files.layers, files.until(at), mine, columns)
        none = pl.DataFrame(schema={name: versions.SCHEMA[name] for name in ("customer_id", *_AMOUNTS)})
        return redemptions.states(pl.concat([none, *found]), program)

    stood = accounts.awards(rows("awards"))
    decisions = rows("decisions")
    if decisions.height:
        cancels, outcomes, codes, owners = (rows(name) for name in ("cancels", "outcomes", "codes", "owners"))
        taken = redemptions.taken(decisions, cancels, outcomes, codes, owners, states, program)
        stood = accounts.with_redemptions(stood, taken)
    return identity.owned(stood, owner_ids(files, at)) if stood.height else stood


def _lots(files: Files, program: Program, at: int, found: pl.DataFrame) -> pl.DataFrame:
    """customer_id, at, points and `active` (lake/accounts.py) of the orders that matter, as of an instant, of those in
    `found`."""
    owners = owners_of(files, at)
    parts = [pl.DataFrame(schema=_LOTS), *(owned(part, owners) for part in _told_lots(files, program, at))]
    return pl.concat(parts).join(found.select("customer_id", "customer"), on="customer", how="inner")


def _told_lots(files: Files, program: Program, at: int) -> Iterator[pl.DataFrame]:
    if accounts.by_inactivity(program):
        mine = valuing.PAID & pl.col("customer").is_not_null()
        for part in versions.slices(files.layers, files.until(at), mine, _AMOUNTS):
            yield valuing.lots_of(part, program).filter("active")
        return
    for found in versions.scans(files.layers, versions.holding(files.until(at)) & MINE, needed(program)):
        rows = valuing.deserved(found, program).filter(pl.col("total") > 0)
        yield rows.select("customer", at="processed_at", points="total", active=pl.lit(value=True)).collect()


def values_at_now(
    files: Files, program: Program, customers: pl.DataFrame, same: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Each customer's values and points as of their own column `now`, by all that the files hold: as `values` of
    lake/rfm.py.

    Whose `now` is that of `same` (since.py) has the values there; of the others the orders are summed.
    """
    held = pl.DataFrame(schema=_VALUED) if same is None else same
    found = customers.join(held.rename({"now": "at"}), on="customer_id", how="left", maintain_order="left")
    found = found.with_columns(pl.when(pl.col("now") == pl.col("at")).then(pl.col(VALUES)).name.keep()).drop("at")
    others = found.filter(pl.col("frequency").is_null()).select("customer_id", "now")
    if others.height:
        summed = found.select("customer_id").join(
            _summed_at_now(files, program, others), on="customer_id", how="left", maintain_order="left"
        )
        found = found.with_columns(pl.coalesce(name, summed[name]) for name in VALUES)
    found = found.with_columns(pl.col("deserved", "frequency", "monetary").fill_null(0)).with_columns(
        recency_days=(pl.col("now") - pl.col("last_order_at")) // instants.DAY
    )
    numbers = pl.scan_parquet(files.customers).select("customer_id", "customer").collect()
    ever = reading.EVER
    return accounts.settled(found, given(files, program, ever), lambda: _lots(files, program, ever, numbers), program)


def _summed_at_now(files: Files, program: Program, customers: pl.DataFrame) -> pl.DataFrame:
    """customer_id and VALUES, as of their own `now`, of those of the customers who have orders."""
    numbered = pl.scan_parquet(files.customers).select("customer_id", "customer").collect()
    numbered = numbered.join(customers, on="customer_id", how="inner")
    owners, times = owners_of(files, reading.EVER), numbered.select("customer", "now")
    whose = pl.concat([times["customer"], owners.join(times, left_on="owner", right_on="customer")["customer"]])
    wanted = MINE & pl.col("customer").is_in(whose.implode())
    parts = [
        _sums(
            owned(valuing.deserved(found, program), owners)
            .join(times, on="customer", how="inner")
            .filter(pl.col("processed_at") <= pl.col("now"))
            .lazy(),
            program,
            pl.col("now"),
        )
        for found in versions.slices(files.layers, None, wanted, needed(program))
    ]
    return numbered.join(_together(parts), on="customer", how="inner").select("customer_id", *VALUES)


def orders(files: Files, program: Program, at: int) -> Iterator[pl.DataFrame]:
    """Every order as of an instant, whether it counts or not, slice by slice: what `amounts` of lake/valuing.py says of
    it, with `customer`, by number, who its owner is in the end."""
    owners = owners_of(files, at)
    for found in versions.slices(files.layers, files.until(at), pl.lit(value=True), _AMOUNTS):
        yield owned(valuing.amounts(found, program, "customer"), owners)


def newest_event(files: Files, at: int) -> int:
    """The greatest event time (microseconds) of anything that was told up to an instant; 0: of nothing."""
    found = [
        pl.scan_parquet(list(files.rows[name]), hive_partitioning=False)
        .filter(pl.col("told_at") <= at)
        .select(pl.col("now").max())
        for name in ("events", "people")
        if files.rows[name]
    ]
    return max((frame.item() or 0 for frame in pl.collect_all(found)), default=0)


def owners_of(files: Files, at: int) -> pl.DataFrame:
    """`customer` and `owner`, by their numbers, of whoever was somebody else in the end as of an instant."""
    return _ends(files, at).select("customer", owner="into")


def owner_ids(files: Files, at: int) -> pl.DataFrame:
    """As `owners_of`, by their ids: `customer_id` and `owner`. Numbers may be others in a lake that was made anew."""
    return _ends(files, at).select("customer_id", "owner")


def _ends(files: Files, at: int) -> pl.DataFrame:
    owners = identity.resolved(identity.holding(*people.told(files.ties, at)))
    named = pl.concat([owners["customer_id"], owners["owner"]]).unique()
    numbers = (
        pl.scan_parquet(files.customers)
        .filter(pl.col("customer_id").is_in(named.implode()))
        .select("customer_id", "customer")
        .collect()
    )
    return owners.join(numbers, on="customer_id", how="inner").join(
        numbers.rename({"customer": "into"}), left_on="owner", right_on="customer_id", how="inner"
    )


def owned(frame: pl.DataFrame, owners: pl.DataFrame) -> pl.DataFrame:
    """The frame with its `customer` replaced by who each is in the end (customer, owner)."""
    if owners.is_empty():
        return frame
    return (
        frame.join(owners, on="customer", how="left")
        .with_columns(customer=pl.coalesce("owner", "customer"))
        .drop("owner")
    )


def _sums(orders: pl.LazyFrame, program: Program, at: pl.Expr) -> pl.DataFrame:
    """Of each customer the sums over these orders, none of which is later than `at`."""
    inside = pl.col("net") > 0
    if program.look_back_days is not None:
        inside &= pl.col("processed_at") > at - program.look_back_days * instants.DAY
    return _summed(
        orders.select(
            "customer",
            deserved="total",
            frequency=inside.cast(pl.Int64),
            monetary=pl.when(inside).then("net").otherwise(0),
            last_order_at=pl.when(inside).then("processed_at"),
        )
    )


def _together(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The sums of all slices: those of one are what they are."""
    if len(parts) == 1:
        return parts[0]
    return _summed(pl.concat(parts).lazy()) if parts else pl.DataFrame(schema=_SUMMED)


def _summed(parts: pl.LazyFrame) -> pl.DataFrame:
    # Lazily: by Polars' streaming engine, which takes a third of the other's time where a customer's rows are together.
    sums = pl.col("deserved", "frequency", "monetary").sum()
    return parts.group_by("customer").agg(sums, pl.col("last_order_at").max()).collect()


# --- kept --------------------------------------------------------------------------------------------------------


def kept(connection: Connection[Any], lake: Lake, program: Program, at: int) -> Standings | None:
    """What is kept of an instant, if it still counts."""
    folder = _folder(lake, program.shop)
    try:
        told = json.loads((folder / f"{at}.json").read_bytes())
        made_of = told["made_of"]
        if any(made_of[name] != said for name, said in _made_of(program, filling.database_of(connection)).items()):
            return None
        if not reading.is_still_all(connection, program.shop, at, made_of["edge"], made_of["refused"]):
            return None
        path = folder / told["file"]
        content = path.read_bytes()
    except (OSError, ValueError):  # not there, or what a crash of the machine has left
        return None
    if len(content) != told["bytes"]:
        return None
    with suppress(OSError):  # who may only read asks all the same
        os.utime(folder / f"{at}.json")
    return Standings(told["file"], at, CutPoints.model_validate(told["cut_points"]), content, told["segments"])


def _made_of(program: Program, database: str) -> dict[str, Any]:
    said = program.model_dump_json(exclude=_ASIDE)
    return {"version": VERSION, "database": database, "program": sha256(said.encode()).hexdigest()}


def _read_from(files: Files) -> dict[str, Any]:
    return {"edge": files.edge, "refused": files.refused}


def _keep(
    lake: Lake, program: Program, at: int, frame: pl.DataFrame, cut_points: CutPoints, made_of: dict[str, Any]
) -> Standings:
    """Keeps it where the folder can be written to; each file appears whole, and the one that names the other last."""
    folder, name = _folder(lake, program.shop), f"{at}-{uuid4().hex[:12]}.parquet"
    content = _content(frame.select(COLUMNS))
    segments = _by_segment(frame)
    told = {
        "file": name,
        "bytes": len(content),
        "made_of": made_of,
        "cut_points": cut_points.model_dump(mode="json"),
        "segments": segments,
    }
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        settle(folder / name)  # before it is named: a crash of the machine may leave a file as long, and nothing in it
        aside = folder / f".{name}.json"
        aside.write_text(json.dumps(told), encoding="utf-8")
        settle(aside)
        aside.replace(folder / f"{at}.json")
        _forget(folder)
    return Standings(name, at, cut_points, content, segments)


def _content(frame: pl.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="lz4", row_group_size=_GROUP)
    return buffer.getvalue()


def _by_segment(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return (
        frame.group_by("segment")
        .agg(
            *(pl.col(name).sum() for name in ("monetary", "balance", "frequency", "recency_days")),
            customers=pl.len(),
            recent=pl.col("recency_days").count(),
        )
        .to_dicts()
    )


def _forget(folder: Path) -> None:
    """Whatever is not among the instants asked for last. Whoever reads one has it in memory."""
    newest = sorted(folder.glob("[0-9]*.json"), key=lambda path: path.stat().st_mtime, reverse=True)[:KEPT]
    stay = {path.name for path in newest}
    for path in newest:
        with suppress(ValueError):  # what a crash of the machine has left names nothing
            stay.add(json.loads(path.read_bytes())["file"])
    for path in folder.iterdir():
        # One that is being written by another process is not named yet.
        if path.name not in stay and path.stat().st_mtime < newest[-1].stat().st_mtime:
            path.unlink(missing_ok=True)


def _folder(lake: Lake, shop: str) -> Path:
    return lake.folder / PAST / f"shop={shop}"
