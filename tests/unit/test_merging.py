"""An entry that came by several ways, in between: what property tests see only once everything has come."""

from tables import merging
from tables.contributions import COUNTED, EARNED, NET
from tables.merging import OWN, Link

EARLIER, LATER = f"1{0:015x}", f"2{0:015x}"
MERGED = ["0" * 24, "7"]


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
