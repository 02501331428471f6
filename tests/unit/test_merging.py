"""An entry that came by several ways, in between: what property tests see only once everything has come."""

from typing import Any

from events import topics
from tables import merging
from tables.contributions import COUNTED, EARNED, NET
from tables.merging import OWN, Link
from tests import harness
from tests.harness import Stream

EARLIER, LATER = f"1{0:015x}", f"2{0:015x}"
MERGED = ["0" * 24, "7"]
SHOP, NOW = "many.myshopify.com", "2026-11-20T10:00:00Z"
PROGRAM: dict[str, Any] = {"currency": "USD", "zone": "UTC", "look_back_days": None, "rules": []}


def test_an_order_that_shopify_moved_too_is_counted_once_before_the_merged_customer_hears_of_it() -> None:
    own = [LATER, 100, 10, 0, 1, 1]
    came = [EARLIER, 100, 10, 0, 1, 1, [MERGED], True]
    entry = merging.composed(5, "1", {OWN: own, "8": came}, None)
    assert (entry[NET], entry[EARNED], entry[COUNTED]) == (100, 10, 1)
    assert merging.composed(5, "1", {"8": came}, None)[NET] == 100


def test_who_forwards_counts_nothing_and_keeps_everything() -> None:
    own = [EARLIER, 100, 10, 0, 1, 1]
    entry = merging.composed(5, "1", {OWN: own}, Link("1" * 24, "9"))
    assert (entry[NET], entry[EARNED], entry[COUNTED]) == (0, 0, 0)
    assert merging.composed(5, "1", merging.parts(entry), None)[NET] == 100


def test_many_customers_with_one_address_cost_as_much_each_as_one_does() -> None:
    """A till may write its shop's own address into every order."""

    def told(customers: int) -> int:
        stream = Stream(harness.reference({SHOP: PROGRAM}))
        for at in range(customers):
            order: Any = {"id": 100 + at, **dict.fromkeys(("created_at", "updated_at", "processed_at"), NOW)}
            order |= dict.fromkeys(("subtotal_price", "current_subtotal_price"), "10.00")
            order |= {"financial_status": "paid", "currency": "USD", "line_items": [], "refunds": []}
            order |= {"customer": {"id": 500 + at}, "address": "mail-" + 32 * "0"}
            envelope: Any = {"topic": "orders/paid", "shop": SHOP, "webhook_id": str(at), "event_id": None}
            envelope |= {"api_version": None, "triggered_at": NOW, "received_at": NOW, "payload": order}
            stream.send(envelope)
        stream.run()
        assert len(stream.sink().rows) == customers
        return len(stream.outputs(topics.ACCOUNT_FACTS))

    # An order's fact and the claim: nothing is known of the address that anybody could be told.
    assert told(120) == 2 * 120


def test_awards_that_two_customers_have_by_one_name_are_two() -> None:
    """Of an order only the parts of the highest revision count, for Shopify may move it; nobody moves an award."""
    parts = {OWN: ["b", 0, 5, 5, 0, 1], "8": ["a", 0, 7, 0, 0, 1, [], True]}
    assert merging.composed(100, "award:one", parts, None)[EARNED] == 12
    assert merging.composed(100, "1001", parts, None)[EARNED] == 5
    entry = merging.composed(100, "award:one", {**parts, "8": [f"{90:015x}b0", *parts["8"][1:]]}, None)
    (posting,) = merging.postings([entry], None, {"8"})
    assert (posting.earned, posting.reversed) == (7, 0)


def test_what_comes_again_by_a_longer_way_is_posted_later_whatever_link_the_customer_has_since() -> None:
    """7 was merged into 8 and that into 9; 7 is kept, so 9 hears that nothing is theirs, and is parted themselves; then
    7 leads to 8, and so to 9, once more."""

    def revision(hops: list[list[str]], alive: bool, link: Link) -> str:
        entry = merging.composed(5, "1", {"7": [f"{90:015x}b0", 100, 10, 0, 1, 1, hops, alive]}, link)
        return next(merging.postings([entry], link, {"7"})).revision

    first, kept, parted, again = (f"{number:024x}" for number in (1, 2, 8, 4))
    alone = Link(parted + "~", "")
    told = [
        revision([[first, "8"], [first, "9"]], True, alone),
        revision([[kept + "~", ""]], False, alone),
        revision([[kept + "~", ""], [again, "9"]], False, alone),
        revision([[kept + "~", ""], [again, "9"]], True, alone),
    ]
    assert told == sorted(told)
    assert len(set(told)) == 4
