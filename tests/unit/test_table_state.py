"""How a changelog is read: who owns a partition, and whose records count."""

import pytest

from tables.state import CLAIM, FENCING, PartitionState, TableState, UnreadableChangelog, Values, foreign, token_bytes

Record = tuple[str, bytes | None, list[tuple[str, bytes]] | None]


def claim() -> Record:
    return CLAIM, b"somebody", None


def kept(key: str, value: bytes, token: int) -> Record:
    return key, token_bytes(token) + value, None


def gone(key: str, token: int) -> Record:
    return key, None, [(FENCING, token_bytes(token))]


def read(*records: Record, into: PartitionState | None = None, start: int = 0) -> PartitionState:
    state = into or PartitionState()
    for offset, (key, value, headers) in enumerate(records, start):
        state.read(offset, key.encode(), value, headers)
    return state


def test_the_newest_value_of_a_key_stands_and_a_removed_one_is_gone() -> None:
    state = read(claim(), kept("a", b"\x011", 0), kept("b", b"\x012", 0), kept("a", b"\x013", 0), gone("b", 0))
    assert state.values == {"a": b"\x013"}
    assert (state.offset, state.claim) == (4, 0)


def test_what_an_owner_wrote_before_it_lost_the_partition_counts() -> None:
    state = read(claim(), kept("a", b"\x011", 0), claim(), kept("b", b"\x012", 2))
    assert state.values == {"a": b"\x011", "b": b"\x012"}
    assert not state.strays


@pytest.mark.parametrize("late", [kept("a", b"\x019", 0), gone("a", 0)])
def test_what_it_wrote_afterwards_does_not(late: Record) -> None:
    state = read(claim(), kept("a", b"\x011", 0), claim(), kept("a", b"\x012", 2), late)
    assert state.values == {"a": b"\x012"}
    assert state.strays == {"a"}, "the log has a value last that counts nowhere: it is to be written over"
    read(kept("a", b"\x012", 2), into=state, start=5)
    assert not state.strays


def test_what_is_known_is_not_read_again() -> None:
    state = read(claim(), kept("a", b"\x011", 0))
    state.apply({"a": b"\x012"})
    assert not state.delivered([2], {})
    read(claim(), kept("a", b"\x011", 0), kept("a", b"\x012", 0), into=state)
    assert state.values == {"a": b"\x012"}


def test_a_gap_between_our_own_records_is_somebody_elses() -> None:
    state = read(claim())
    assert state.delivered([1, 2], {}) == []
    assert state.delivered([5, 6, 9], {}) == [range(3, 5), range(7, 9)]
    assert state.suspect
    state.forget()
    assert (state.offset, state.suspect) == (-1, False)


@pytest.mark.parametrize("asked", [False, True])
def test_a_shops_keys_are_those_of_now_whenever_it_was_first_asked_for_them(asked: bool) -> None:
    values = Values({"shop/1": b"", "other/1": b"", "shop/1#node": b""})
    if asked:
        assert (values.of_shop("shop"), values.of_shop("none")) == (["shop/1"], [])
    values["shop/2"] = values["shop/1"] = values["none/1"] = values["shop/2#node"] = b"1"
    values.remove("other/1")
    values.remove("other/2")
    assert [values.of_shop(shop) for shop in ("shop", "other", "none")] == [["shop/1", "shop/2"], [], ["none/1"]]
    values.remove("shop/1")
    values["shop/1"] = b"2"
    assert sorted(values.of_shop("shop")) == ["shop/1", "shop/2"]


def test_who_wrote_a_record() -> None:
    assert foreign(7, b"a", token_bytes(7) + b"\x011", None) is None
    assert foreign(7, b"a", token_bytes(5) + b"\x011", None) == "a"
    assert foreign(7, b"a", None, [(FENCING, token_bytes(5))]) == "a"
    assert foreign(7, CLAIM.encode(), b"me", None) == CLAIM


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"a", b"not ours"),
        (b"a", b""),
        (b"a", token_bytes(0) + b"not JSON"),
        (None, token_bytes(0) + b"\x011"),
        (b"a", None),
    ],
)
def test_what_we_never_wrote_is_an_error(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(UnreadableChangelog):
        PartitionState().read(0, key, value, None)


def test_partitions_that_are_no_longer_ours_are_let_go_of() -> None:
    table = TableState()
    for number in range(3):
        table.partition(number).apply({"a": b"\x011"})
    table.keep_only({1})
    assert list(table.partitions) == [1]
