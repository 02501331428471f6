"""RFM over whole columns: values as of a time, cut points, digits, score and segment."""

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from itertools import product

import polars as pl

from events import codec, instants
from events.programs import MIN_CUSTOMERS, PROSPECTS, CutPoints, Program, default_cut_points
from lake import accounts, valuing


def values(customers: pl.DataFrame, orders: pl.DataFrame, given: pl.DataFrame, program: Program) -> pl.DataFrame:
    """Each customer's values as of their own column `now` (microseconds).

    `customers` has customer_id and now; `orders` is what valuing.valued gives, `given` their awards (accounts.awards).
    Adds recency_days (null for a Prospect), frequency, monetary (minor units), last_order_at (microseconds), `deserved`
    (the orders' points) and what the account comes to (accounts.COLUMNS).
    """
    look_back_days = program.look_back_days
    theirs = orders.join(customers.select("customer_id", "now"), on="customer_id", how="inner").filter(
        pl.col("processed_at") <= pl.col("now")
    )
    inside = pl.col("counted") & (pl.col("net") > 0)
    if look_back_days is not None:
        inside &= pl.col("processed_at") > pl.col("now") - look_back_days * instants.DAY
    sums = theirs.group_by("customer_id").agg(
        deserved=pl.col("total").sum(),
        frequency=inside.sum().cast(pl.Int64),
        monetary=pl.col("net").filter(inside).sum(),
        last_order_at=pl.col("processed_at").filter(inside).max(),
    )
    found = (
        customers.join(sums, on="customer_id", how="left", maintain_order="left")
        .with_columns(pl.col("deserved", "frequency", "monetary").fill_null(0))
        .with_columns(recency_days=(pl.col("now") - pl.col("last_order_at")) // instants.DAY)
    )
    return accounts.settled(found, given, lambda: valuing.lots(orders), program)


def find_cut_points(found: pl.DataFrame, program: Program, as_of: datetime) -> CutPoints:
    """The thresholds over the customers who are not Prospects: the values at positions ceil(k n / 5), k = 1..4."""
    scored = found.filter(pl.col("recency_days").is_not_null())
    count = scored.height
    if count < MIN_CUSTOMERS:
        return default_cut_points(program.shop, program.currency, as_of, count)
    recency, frequency, monetary = (_quintiles(scored[column]) for column in ("recency_days", "frequency", "monetary"))
    return CutPoints(
        shop=program.shop,
        version=_version(as_of, recency, frequency, monetary),
        as_of=as_of,
        customers=count,
        recency=recency,
        frequency=frequency,
        monetary=monetary,
    )


def _quintiles(metric: pl.Series) -> tuple[int, int, int, int]:
    ascending = metric.sort()
    first, second, third, fourth = (ascending[-(-k * metric.len() // 5) - 1] for k in (1, 2, 3, 4))
    return first, second, third, fourth


def _version(as_of: datetime, *thresholds: Sequence[int]) -> str:
    """A name by what it names: equal values as of one second make one version."""
    return f"{as_of:%Y%m%dT%H%M%SZ}-{sha256(codec.dumps(thresholds)).hexdigest()[:6]}"


def standings(found: pl.DataFrame, cut_points: CutPoints, program: Program) -> pl.DataFrame:
    """Adds r, f, m (1..5), score (text, one decimal), segment_id, segment and cut_points_version.

    A Prospect has no digits and no score.
    """
    prospect = pl.col("recency_days").is_null()
    placed = found.with_columns(
        r=5 - _above(pl.col("recency_days"), cut_points.recency),
        f=pl.when(~prospect).then(1 + _above(pl.col("frequency"), cut_points.frequency)),
        m=pl.when(~prospect).then(1 + _above(pl.col("monetary"), cut_points.monetary)),
    )
    told = _by_digits(program)
    # Of a Prospect the place is null, and so is what stands there.
    place = placed.select(25 * (pl.col("r") - 1) + 5 * (pl.col("f") - 1) + pl.col("m") - 1).to_series()
    return placed.with_columns(
        score=told["score"].gather(place),
        segment_id=told["segment_id"].gather(place).fill_null("seg_000"),
        cut_points_version=pl.lit(cut_points.version),
        segment=told["segment"].gather(place).fill_null(PROSPECTS),
    )


def _by_digits(program: Program) -> pl.DataFrame:
    """score, segment_id and segment of each of the 125 triples of digits, in their order."""
    rows = []
    for r, f, m in product(range(1, 6), repeat=3):
        tenths = 4 * r + 3 * f + 3 * m  # whole digits make it exact to one decimal: nothing is left to round
        segment = program.grid[5 - r][5 - (f + m + 1) // 2]
        rows.append((f"{tenths // 10}.{tenths % 10}", f"seg_{r}{f}{m}", segment))
    return pl.DataFrame(rows, schema=dict.fromkeys(("score", "segment_id", "segment"), pl.String), orient="row")


def _above(metric: pl.Expr, thresholds: Sequence[int]) -> pl.Expr:
    """How many thresholds lie strictly below the value; null for a null value."""
    return pl.sum_horizontal((metric > threshold).cast(pl.Int64) for threshold in thresholds).pipe(
        lambda total: pl.when(metric.is_not_null()).then(total)
    )


def standings_at_now(found: pl.DataFrame, published: Sequence[CutPoints], program: Program) -> pl.DataFrame:
    """As `standings`, each customer under the newest cut points whose as_of is not after their `now`.

    `published` in the order of publication: of two with one as_of the later is the newer.
    """
    ordered = [
        default_cut_points(program.shop, program.currency, instants.to_datetime(0)),
        *sorted(published, key=lambda each: each.as_of),
    ]
    starts = pl.Series([0, *(instants.from_datetime(each.as_of) for each in ordered[1:])], dtype=pl.Int64)
    version = starts.search_sorted(found["now"], side="right").cast(pl.Int64) - 1
    parts = found.with_columns(version_at=version).partition_by("version_at")
    done = [standings(part.drop("version_at"), ordered[part["version_at"][0]], program) for part in parts]
    return pl.concat(done) if done else standings(found, ordered[0], program)
