"""A customer's tree of orders is a sorted list, kept in bounded pieces that change whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables import chunks, contributions, customers
from tests.property.webhooks import thorough

KEY = "tree.myshopify.com/7"


@contextmanager
def small(leaf: int, fan: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contributions, "LEAF", leaf)
        patch.setattr(contributions, "FAN", fan)
        yield


class Kept:
    """A customer's row and chunks as a table keeps them, through bytes."""

    def __init__(self) -> None:
        self.table: dict[str, bytes] = {KEY: customers.packed(customers.initial())}

    def open(self) -> tuple[customers.CustomerState, Any]:
        state = customers.unpacked(self.table[KEY])
        return state, chunks._Nodes(self.table, KEY, state)

    def writes(self, entries: list[contributions.Entry]) -> list[tuple[str, bytes | None]]:
        """What putting these entries writes, in order."""
        state, nodes = self.open()
        for entry in entries:
            state["tree"] = contributions.put(nodes, state["tree"], list(entry))
        return [*nodes.below_the_root().items(), (KEY, customers.packed(state)), *nodes.removed().items()]

    def lay(self, writes: list[tuple[str, bytes | None]]) -> None:
        for key, value in writes:
            if value is None:
                self.table.pop(key, None)
            else:
                self.table[key] = value

    def put(self, *entries: contributions.Entry) -> None:
        self.lay(self.writes(list(entries)))

    def entries(self, start: int = 0) -> list[contributions.Entry]:
        state, nodes = self.open()
        return list(contributions.entries(nodes, state["tree"], start))

    def reachable(self) -> set[str]:
        """The keys that the row names, whose nodes are within their bounds."""
        state, nodes = self.open()
        found = {KEY}

        def walk(node: contributions.Node) -> int:
            if "e" in node:
                assert len(node["e"]) <= contributions.LEAF
                return 0
            assert (contributions.FAN + 1) // 2 <= len(node["c"]) <= contributions.FAN
            below = set()
            for line in node["c"]:
                found.add(f"{KEY}#{line[contributions._NODE]}")
                below.add(walk(nodes.get(line[contributions._NODE])))
            assert below == {node["h"] - 1}, "every leaf is as deep as every other"
            return node["h"]

        walk(state["tree"])
        return found


def entry(at: int, order: int, revision: int = 1, net: int = 0, counted: bool = True) -> contributions.Entry:
    earned, reversed_ = (net + 3, 3) if counted or net else (0, 0)
    return [at, str(order), f"r{revision}", net * counted, earned, reversed_, int(counted), 1]


# Few instants and few orders: ties of processed_at are the rule, and so are entries put again.
ENTRY = st.builds(entry, st.integers(0, 6), st.integers(1, 40), st.integers(1, 3), st.integers(0, 9), st.booleans())


def plain_sums(entries: list[contributions.Entry], start: int, end: int) -> tuple[int, ...]:
    inside = [each for each in entries if start <= each[0] < end]
    active = [each for each in inside if each[6] and each[3] > 0]
    return (
        sum(each[6] for each in inside),
        len(active),
        sum(each[3] for each in active),
        sum(each[4] - each[5] for each in inside),
        max((each[0] for each in active), default=0),
        sum(each[3] for each in inside if not each[6]),
    )


@thorough(200)
@given(
    entries=st.lists(ENTRY, max_size=90),
    batch=st.integers(1, 30),
    leaf=st.integers(1, 4),
    fan=st.integers(2, 4),
)
def test_a_tree_is_a_sorted_list(entries: list[contributions.Entry], batch: int, leaf: int, fan: int) -> None:
    with small(leaf, fan):
        kept = Kept()
        known: dict[tuple[int, str], contributions.Entry] = {}
        for first in range(0, len(entries), batch):
            part = entries[first : first + batch]
            kept.put(*part)
            known.update({(each[0], each[1]): each for each in part})
            assert kept.reachable() == set(kept.table), "no chunk is lost, and none is left behind"
        wanted = [known[key] for key in sorted(known)]
        assert kept.entries() == wanted
        state, nodes = kept.open()
        assert contributions.oldest(state["tree"]) == (wanted[0][0] if wanted else contributions._FOR_EVER)
        for at in range(8):
            assert kept.entries(at) == [each for each in wanted if each[0] >= at]
            for order in range(42):
                assert contributions.find(nodes, state["tree"], at, str(order)) == known.get((at, str(order)))
            for counting in (True, False):
                acts = [each[0] for each in wanted if each[6] or (each[4] and not counting)]
                first = min((when for when in acts if when >= at), default=contributions._FOR_EVER)
                assert contributions.first_from(nodes, state["tree"], at, counting) == first
                last = max((when for when in acts if when < at), default=-1)
                assert contributions.last_before(nodes, state["tree"], at, counting) == last
            for end in range(9):
                assert tuple(contributions.sums(nodes, state["tree"], at, end)) == plain_sums(wanted, at, end)


@thorough(60)
@given(before=st.lists(ENTRY, max_size=40), after=st.lists(ENTRY, min_size=1, max_size=12), fan=st.integers(2, 3))
def test_wherever_the_writes_are_cut_off_a_whole_tree_is_there(
    before: list[contributions.Entry], after: list[contributions.Entry], fan: int
) -> None:
    with small(2, fan):
        kept = Kept()
        kept.put(*before)
        old = kept.entries()
        writes = kept.writes(after)
        table = dict(kept.table)
        kept.lay(writes)
        new = kept.entries()
        for count in range(len(writes) + 1):
            cut = Kept()
            cut.table = dict(table)
            cut.lay(writes[:count])
            row_is_kept = any(key == KEY for key, _ in writes[:count])
            assert cut.entries() == (new if row_is_kept else old)
            assert cut.reachable() <= set(cut.table)
            # The same again, in pieces of any size, as a replay has them: the same tree, and still whole.
            for each in after:
                cut.put(each)
            assert cut.entries() == new
            state, nodes = cut.open()
            assert tuple(contributions.sums(nodes, state["tree"], 0, 99)) == plain_sums(new, 0, 99)


def test_no_value_grows_with_history() -> None:
    """Twenty thousand orders of one customer: every value stays short, and an order writes a handful of them."""
    kept = Kept()
    state, nodes = kept.open()
    for number in range(20_000):
        at = 1_700_000_000_000_000 + (number * 7919) % 20_000
        state["tree"] = contributions.put(
            nodes, state["tree"], [at, str(10**18 + number), "r" * 120, 1000, 10, 0, 1, 1]
        )
    kept.lay([*nodes.below_the_root().items(), (KEY, customers.packed(state)), *nodes.removed().items()])
    assert max(map(len, kept.table.values())) < 8192
    state, nodes = kept.open()
    assert contributions.sums(nodes, state["tree"], 0, 1 << 60)[:3] == (20_000, 20_000, 20_000_000)
    writes = kept.writes([entry(1_700_000_000_012_000, 1)])
    assert len(writes) < 12
