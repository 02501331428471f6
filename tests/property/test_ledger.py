"""Whatever order and however often an order's totals arrive, its ledger sums to the highest revision's total."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from events.records import PointsRecord
from streams.sink.ledger import Entry, Key, Total, post

SHOP = "demo.myshopify.com"

#: A fact: which account, its revision, and the total that goes with that revision.
FACTS = st.dictionaries(
    st.tuples(st.sampled_from(["1", "2"]), st.sampled_from(["7", "8"]), st.text("AZaz09é😀￿", min_size=1, max_size=3)),
    st.integers(-50, 500),
    max_size=20,
)


def _record(account: tuple[str, str, str], total: int) -> PointsRecord:
    order, customer, revision = account
    return {
        "type": "points.earned" if total >= 0 else "points.reversed",
        "shop": SHOP,
        "customer_id": customer,
        "source": "order",
        "source_id": order,
        "via": None,
        "revision": revision,
        "changed_at": "2026-11-21T09:30:00Z",
        "processed_at": "2026-11-20T08:00:00Z",
        "earned": max(total, 0),
        "reversed": max(-total, 0),
        "total": total,
    }


@given(facts=FACTS, data=st.data())
def test_the_ledger_sums_to_the_highest_revision(facts: dict[tuple[str, str, str], int], data: st.DataObject) -> None:
    records = [_record(account, total) for account, total in facts.items()]
    doubles = data.draw(st.lists(st.sampled_from(records), max_size=20)) if records else []
    arrived = data.draw(st.permutations(records + doubles))
    stored: dict[Key, Total] = {}
    ledger: list[Entry] = []
    at = 0
    while at < len(arrived):
        size = data.draw(st.integers(1, len(arrived) - at))
        entries, totals = post(stored, arrived[at : at + size])
        stored.update(totals)
        ledger += entries
        at += size

    highest: dict[tuple[str, str], tuple[str, int]] = {}
    for (order, customer, revision), total in facts.items():
        last = highest.get((order, customer))
        if last is None or revision > last[0]:
            highest[order, customer] = revision, total
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for entry in ledger:
        sums[entry.source_id, entry.customer_id] += entry.points
        assert (entry.points > 0) == (entry.kind == "earned")
        assert entry.points != 0
    assert {key: sums.get(key, 0) for key in highest} == {key: total for key, (_, total) in highest.items()}
    assert len({entry.id for entry in ledger}) == len(ledger)
    # All of it again, whole: nothing is posted twice.
    assert post(stored, arrived) == ([], {})
