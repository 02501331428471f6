"""Why a customer is in their segment: each value beside its cut points, the score's sum, and the cell of the grid."""

from typing import Literal

from pydantic import Field

from api.context import Row
from api.models import Answer, CutPointsModel
from events import money
from events.programs import Program

_WEIGHTS = {"recency": "0.4", "frequency": "0.3", "monetary": "0.3"}


class Metric(Answer):
    """One digit, and where it comes from."""

    metric: Literal["recency", "frequency", "monetary"]
    value: str = Field(description="days, orders, or an amount", examples=["12"])
    cut_points: list[str] = Field(description="t_1 to t_4", examples=[["30", "60", "90", "180"]])
    digit: int = Field(ge=1, le=5)
    weight: str = Field(description="in the score", examples=["0.4"])
    because: str = Field(examples=["12 days is above none of 30, 60, 90, 180: R = 5"])


class Why(Answer):
    """The reasons for one customer's segment."""

    summary: str = Field(examples=["R 5 and FM 4 (from F 4, M 4) are Champions; score 0.4×5 + 0.3×4 + 0.3×4 = 4.4"])
    look_back_days: int | None = Field(description="orders this old or older do not count; null: all count")
    metrics: list[Metric] = Field(description="none for Prospects")
    cut_points: CutPointsModel | None = Field(description="those they were scored with; null if not stored yet")


def _metric(name: Literal["recency", "frequency", "monetary"], row: Row, used: CutPointsModel) -> Metric:
    if name == "recency":
        letter, unit, value = "R", " days", str(row["recency_days"])
        cuts = [str(cut) for cut in used.recency_days]
    elif name == "frequency":
        letter, unit, value = "F", " orders", str(row["frequency"])
        cuts = [str(cut) for cut in used.frequency]
    else:
        letter, unit, value = "M", f" {row['currency']}", money.decimal_text(row["monetary"], row["currency"])
        cuts = [cut.amount for cut in used.monetary]
    digit: int = row[letter.lower()]
    above = 5 - digit if letter == "R" else digit - 1
    how_many = {0: "none", 4: "all"}.get(above, f"{above}")
    because = f"{value}{unit} is above {how_many} of {', '.join(cuts)}: {letter} = {digit}"
    return Metric(metric=name, value=value, cut_points=cuts, digit=digit, weight=_WEIGHTS[name], because=because)


def explain(row: Row, used: CutPointsModel | None, program: Program) -> Why:
    """The reasons for the segment in a customer's row, by the cut points it was scored with."""
    r, f, m = row["r"], row["f"], row["m"]
    look_back = program.look_back_days
    if r is None:
        period = "ever" if look_back is None else f"in the last {look_back} days"
        summary = f"No order that counts {period}: a Prospect has no digits and no score."
        return Why(summary=summary, look_back_days=look_back, metrics=[], cut_points=used)
    summary = (
        f"R {r} and FM {(f + m + 1) // 2} (from F {f}, M {m}) are {row['segment']}; "
        f"score 0.4×{r} + 0.3×{f} + 0.3×{m} = {row['score']}"
    )
    metrics = [] if used is None else [_metric(name, row, used) for name in ("recency", "frequency", "monetary")]
    return Why(summary=summary, look_back_days=look_back, metrics=metrics, cut_points=used)
