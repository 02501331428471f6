"""The gates judged by Great Expectations: each a column of one row, and what is expected of it."""

import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from batch.gates.asking import Gate


class Judged(NamedTuple):
    """A gate, and whether what it asks holds; None where it was not asked."""

    gate: Gate
    passed: bool | None

    def as_json(self) -> dict[str, Any]:
        """As it is kept with its run."""
        return {**self.gate._asdict(), "passed": self.passed}


def judge(gates: Sequence[Gate]) -> list[Judged]:
    """Every gate with its verdict, in their order. It says nothing to anybody outside."""
    asked = {gate.name: gate for gate in gates if gate.why is None}
    verdicts = _validated(asked) if asked else {}
    return [Judged(gate, verdicts.get(gate.name)) for gate in gates]


def _validated(asked: dict[str, Gate]) -> dict[str, bool]:
    # Before its import: it would tell its makers of each use. Here, because it takes seconds.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # It makes itself heard, whatever the level of the rest.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    row = pd.DataFrame({name: [gate.value] for name, gate in asked.items()}, dtype="float64")
    batch = context.data_sources.add_pandas("run").add_dataframe_asset("measured")
    whole = batch.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": row})
    expected: list[Any] = []
    for name, gate in asked.items():
        # What was not measured would be in any range.
        expected.append(gx.expectations.ExpectColumnValuesToNotBeNull(column=name))
        expected.append(
            gx.expectations.ExpectColumnValuesToBeBetween(column=name, min_value=gate.low, max_value=gate.high)
        )
    found = whole.validate(gx.ExpectationSuite(name="gates", expectations=expected))
    verdicts = dict.fromkeys(asked, True)
    for each in found.results:
        verdicts[each.expectation_config.kwargs["column"]] &= bool(each.success)
    return verdicts
