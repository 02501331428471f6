"""Who is whom, over a shop's whole history: of each customer's links the one that holds, followed to its end.

Written apart from the stream's forwarding on purpose: there orders travel from customer to customer, here each is
put down to whom it is in the end.
"""

import polars as pl


def holding(links: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """customer_id, into: of everybody who is somebody else now, the link that holds; one row each.

    `links` has customer_id, into, rank; `kept` customer_id, rank: of the newest merge that kept them.
    """
    return (
        links.sort("rank", "into")
        .unique("customer_id", keep="last", maintain_order=False)
        .join(kept.rename({"rank": "kept"}), on="customer_id", how="left")
        .filter(pl.col("kept").is_null() | (pl.col("rank") > pl.col("kept")))
        .select("customer_id", "into")
        .sort("customer_id")
    )


def resolved(links: pl.DataFrame) -> pl.DataFrame:
    """customer_id, owner: who each of them is in the end. No links that hold lead round in a circle."""
    step = dict(links.iter_rows())
    ends = []
    for owner in step:
        while owner in step:
            owner = step[owner]
        ends.append(owner)
    return pl.DataFrame(
        {"customer_id": list(step), "owner": ends}, schema={"customer_id": pl.String, "owner": pl.String}
    )


def owned(frame: pl.DataFrame, owners: pl.DataFrame) -> pl.DataFrame:
    """The frame with its customer_id replaced by who each is in the end."""
    if owners.is_empty():
        return frame
    return (
        frame.join(owners, on="customer_id", how="left", maintain_order="left")
        .with_columns(customer_id=pl.coalesce("owner", "customer_id"))
        .drop("owner")
    )


def told(people: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """customer_id, now: a customer's event time is also that of whoever a link, be it one that holds no longer, ever
    led from them to."""
    edges = links.select("customer_id", "into")
    known = people.select("customer_id", "now")
    wave = known
    while wave.height:
        reached = (
            edges.join(wave, on="customer_id", how="inner")
            .group_by(customer_id="into")
            .agg(pl.col("now").max())
            .join(known, on="customer_id", how="left", suffix="_known")
            .filter(pl.col("now_known").is_null() | (pl.col("now") > pl.col("now_known")))
            .select("customer_id", "now")
        )
        known = pl.concat([known, reached]).group_by("customer_id").agg(pl.col("now").max())
        wave = reached
    return known
