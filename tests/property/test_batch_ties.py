"""The batch against the oracle where everything ties: few instants, few ids, every topic, redactions among them."""

from typing import Any

from hypothesis import given

from batch import orders, rfm, windows
from events import instants
from events.programs import CutPoints, Program
from tests import oracle
from tests.property import test_batch_oracle as batch
from tests.property.test_order_free import CUT_POINTS, expected_row
from tests.property.webhooks import PROGRAM, SHOP, envelopes, thorough


@thorough(60)
@given(sent=envelopes(), plain=PROGRAM)
def test_the_batch_is_the_oracle_whatever_ties(sent: list[dict[str, Any]], plain: dict[str, Any]) -> None:
    program = Program.model_validate({**plain, "shop": SHOP})
    cut = CutPoints.model_validate({**CUT_POINTS, "shop": SHOP, "customers": 50})
    expected = oracle.oracle(sent, {SHOP: plain}, {SHOP: [CUT_POINTS]})[SHOP]
    history = batch._history(sent, "USD", chunk=5)
    worth = orders.worth(history, program)
    rows = rfm.standings_at_now(
        rfm.values(history.customers(), worth, program.look_back_days), [cut], program
    ).to_dicts()
    assert {row["customer_id"] for row in rows} == set(expected.customers)
    for row in rows:
        wanted = expected_row(expected.customers[row["customer_id"]])
        found = {**row, "standing": {name: row[name] for name in wanted["standing"]}}
        found["now"] = instants.text(row["now"])
        found["last_order_at"] = None if row["last_order_at"] is None else instants.text(row["last_order_at"])
        assert {name: found[name] for name in wanted} == wanted
    sums = {
        (row["size"], instants.to_datetime(row["start"])): {name: row[name] for name in windows.MEASURES if row[name]}
        for row in windows.sums(worth, program.zone).to_dicts()
    }
    assert {key: row for key, row in sums.items() if row} == {key: dict(row) for key, row in expected.windows.items()}
