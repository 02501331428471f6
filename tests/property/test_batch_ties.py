"""The batch against the oracle where everything ties, with redactions among it all, and over the golden files."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from batch import orders, windows
from events import instants
from events.programs import CutPoints, Program
from lake import accounts, rfm, valuing
from tests import oracle
from tests.golden.test_golden import FILES, read
from tests.property import test_batch_oracle as batch
from tests.property.test_order_free import CUT_POINTS, expected_row
from tests.property.webhooks import PROGRAM, SHOP, envelopes, thorough


def compare(sent: list[dict[str, Any]], plain: dict[str, Any]) -> None:
    """One shop's customers, each at their own now, and its windows."""
    program = Program.model_validate({**plain, "shop": SHOP})
    cut = CutPoints.model_validate({**CUT_POINTS, "shop": SHOP, "customers": 50})
    expected = oracle.oracle(sent, {SHOP: plain}, {SHOP: [CUT_POINTS]})[SHOP]
    history = batch._history(sent, program.currency, chunk=5)
    worth = orders.worth(history, program)
    rows = rfm.standings_at_now(
        rfm.values(history.customers(), worth, orders.given(history, program), program), [cut], program
    ).to_dicts()
    assert {row["customer_id"] for row in rows} == set(expected.customers)
    for row in rows:
        wanted = expected_row(expected.customers[row["customer_id"]])
        found = {**row, "standing": {name: row[name] for name in wanted["standing"]}}
        found["now"] = instants.text(row["now"])
        for name in ("last_order_at", "expires_at"):
            found[name] = None if row[name] is None else instants.text(row[name])
        assert {name: found[name] for name in wanted} == wanted
    days = accounts.ran_out(history.customers(), orders.given(history, program), valuing.lots(worth), program)
    assert sorted(days.rows()) == sorted(
        (name, day, points) for name, each in expected.customers.items() for day, points in (+each.expired_on).items()
    )
    sums = {
        (row["size"], instants.to_datetime(row["start"])): {name: row[name] for name in windows.MEASURES if row[name]}
        for row in windows.sums(worth, program.zone, given=orders.given(history, program)).to_dicts()
    }
    assert {key: row for key, row in sums.items() if row} == {key: dict(row) for key, row in expected.windows.items()}


@thorough(60)
@given(sent=envelopes(), plain=PROGRAM)
def test_the_batch_is_the_oracle_whatever_ties(sent: list[dict[str, Any]], plain: dict[str, Any]) -> None:
    compare(sent, plain)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_batch_makes_of_shopifys_oddities_what_the_oracle_does(path: Path) -> None:
    golden = read(path)
    refused = {each["webhook_id"] for each in golden["expected"]["dead_letters"]}
    for shop, plain in golden["programs"].items():
        rules = plain["rules"] or [{"effective_from": None, "points_per_unit": "1"}]
        good = [
            {**each, "shop": SHOP, "payload": exact(_renamed(each["payload"], shop, SHOP))}
            for each in golden["kept"]
            if each["shop"] == shop and each["webhook_id"] not in refused and not each["topic"].startswith("app/")
        ]
        compare(good, {**plain, "rules": rules})


def _renamed(payload: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The payload as the shop of another name would send it, wherever its name stands."""
    renamed: dict[str, Any] = json.loads(json.dumps(payload).replace(old, new))
    return renamed


def exact(value: Any) -> Any:
    """With a float's decimals as text: the oracle takes no float, and JSON knows no other number."""
    if isinstance(value, dict):
        return {name: exact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [exact(each) for each in value]
    return str(value) if isinstance(value, float) else value
