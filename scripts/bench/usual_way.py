"""RFM as analysts usually work it out, over a shop's snapshots as Parquet: run by the Python of the peers alone.

    python usual_way.py pandas|pymc FOLDER

The newest revision of each order, then either pandas' groupby with a function for each value, and qcut; or
pymc-marketing's rfm_summary and rfm_segments. Prints seconds, CPU seconds and customers as JSON.
"""

import json
import sys
import time
from pathlib import Path

import pandas as pd


def orders(folder: Path) -> pd.DataFrame:
    """The newest revision of each order: order_id, customer_id, at, amount."""
    names = ["order_id", "customer_id", "processed_at", "base", "updated_at"]
    told = pd.read_parquet(folder / "snapshots", columns=names)
    found = told.sort_values("updated_at").drop_duplicates("order_id", keep="last")
    found["at"] = pd.to_datetime(found["processed_at"], unit="us")
    found["amount"] = found["base"] / 100
    return found


def by_pandas(found: pd.DataFrame) -> int:
    """Values by a function each, quintiles by qcut over ranks, and a name for each pair of digits."""
    end = found["at"].max() + pd.Timedelta(days=1)
    recent = found[found["at"] > end - pd.Timedelta(days=365)]
    table = recent.groupby("customer_id").agg(
        recency=("at", lambda at: (end - at.max()).days),
        frequency=("order_id", lambda ids: ids.nunique()),
        monetary=("amount", lambda amount: amount.sum()),
    )
    for name, labels in (("recency", [5, 4, 3, 2, 1]), ("frequency", [1, 2, 3, 4, 5]), ("monetary", [1, 2, 3, 4, 5])):
        table[name[0]] = pd.qcut(table[name].rank(method="first"), 5, labels=labels).astype(int)
    table["segment"] = table.apply(lambda row: f"{row['r']:.0f}{(row['f'] + row['m']) / 2:.0f}", axis=1)
    return len(table)


def by_pymc(found: pd.DataFrame) -> int:
    """As its documentation does it: a summary, and segments of quartiles."""
    from pymc_marketing.clv import rfm_segments, rfm_summary

    asked = {"customer_id_col": "customer_id", "datetime_col": "at", "monetary_value_col": "amount"}
    summary = rfm_summary(found, **asked, include_first_transaction=True)
    segments = rfm_segments(found, **asked)
    assert len(summary) == len(segments)
    return len(segments)


WAYS = {"pandas": by_pandas, "pymc": by_pymc}

if __name__ == "__main__":
    if sys.argv[1] == "pymc":
        import pymc_marketing.clv  # noqa: F401 - what it costs to import is nobody's figure
    began, before = time.perf_counter(), time.process_time()
    customers = WAYS[sys.argv[1]](orders(Path(sys.argv[2])))
    print(
        json.dumps(
            {"seconds": time.perf_counter() - began, "cpu": time.process_time() - before, "customers": customers}
        )
    )
