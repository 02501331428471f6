"""What must come next: a piece is folded only where the last one ended, whatever got lost in between."""

from typing import NamedTuple

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.worker.sequence import Piece, Sequence

HERE, THERE = TP("t", 0), TP("t", 1)


class Record(NamedTuple):
    offset: int


def records(*offsets: int) -> list[Record]:
    return [Record(offset) for offset in offsets]


def fetch(sequence: Sequence, *offsets: int) -> Piece:
    piece = sequence.fetched(HERE, sequence.wanted([HERE], 1000)[HERE], records(*offsets))
    assert piece is not None
    return piece


def begun(at: int = 0) -> Sequence:
    sequence = Sequence()
    sequence.begin({HERE: at})
    return sequence


def test_pieces_follow_each_other() -> None:
    sequence = begun(5)
    first, second = fetch(sequence, 5, 6), fetch(sequence, 7)
    assert [(each.begins, each.ends) for each in (first, second)] == [(5, 7), (7, 8)]
    assert sequence.is_next(HERE, first)
    sequence.folded(HERE, first)
    assert sequence.is_next(HERE, second)
    assert sequence.gaps == 0


def test_what_the_log_does_not_hold_belongs_to_the_next_piece() -> None:
    """Compaction and the control records of transactions leave offsets without a record."""
    sequence = begun(5)
    piece = fetch(sequence, 9, 12)
    assert (piece.begins, piece.ends) == (5, 13)
    assert sequence.is_next(HERE, piece)


def test_a_lost_piece_is_fetched_again_and_what_came_behind_it_is_stale() -> None:
    sequence = begun()
    fetch(sequence, 0, 1)  # lost
    second, third = fetch(sequence, 2), fetch(sequence, 3)
    assert not sequence.is_next(HERE, second)
    assert sequence.gaps == 1
    assert not sequence.is_next(HERE, third)
    assert sequence.gaps == 1, "one gap sends back once"
    again = fetch(sequence, 0, 1, 2, 3)
    assert sequence.is_next(HERE, again)


def test_a_piece_that_was_lost_with_none_behind_it_is_fetched_again() -> None:
    sequence = begun()
    fetch(sequence, 0)
    assert not sequence.go_back_where_nothing_moves()
    assert sequence.go_back_where_nothing_moves() == [HERE]
    again = fetch(sequence, 0)
    assert sequence.is_next(HERE, again)
    sequence.folded(HERE, again)
    assert not sequence.go_back_where_nothing_moves()
    assert not sequence.go_back_where_nothing_moves()


def test_while_partitions_move_nothing_is_fetched_or_folded() -> None:
    sequence = begun()
    asked = sequence.wanted([HERE, THERE], 10)
    piece = fetch(sequence, 0)
    sequence.clear()
    assert not sequence.wanted([HERE], 10)
    assert not sequence.is_next(HERE, piece)
    sequence.begin({HERE: 0})
    assert sequence.fetched(HERE, asked[HERE], records(0)) is None, "what was asked for before is of another run"
    assert not sequence.is_next(HERE, piece)


def test_only_so_much_is_fetched_ahead() -> None:
    sequence = begun()
    fetch(sequence, 0, 1, 2)
    assert not sequence.wanted([HERE], 3)
    assert sequence.wanted([HERE], 4)


@given(st.lists(st.sampled_from(["fetch", "fold", "lose", "move"]), max_size=60))
def test_whatever_is_lost_each_offset_is_folded_once_and_in_order(acts: list[str]) -> None:
    """A move of partitions begins anew where the fold stands, as with everything folded committed."""
    sequence = begun()
    queue: list[Piece] = []
    folded: list[int] = []
    log = list(range(100))
    for act in [*acts, *["fetch", "fold"] * 300]:
        if act == "fetch":
            for tp, asked in sequence.wanted([HERE], 9).items():
                if new := log[asked[1] : asked[1] + 3]:
                    came = sequence.fetched(tp, asked, records(*new))
                    assert came is not None
                    queue.append(came)
        elif act == "fold" and queue:
            piece = queue.pop(0)
            if sequence.is_next(HERE, piece):
                sequence.folded(HERE, piece)
                folded += [each.offset for each in piece.records]
        elif act == "lose" and queue:
            queue.pop(0)
        elif act == "move":
            sequence.begin({HERE: len(folded)})
        if not queue:
            sequence.go_back_where_nothing_moves()
    assert folded == log
