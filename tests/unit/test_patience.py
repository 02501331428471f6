"""The loop of patience: it looks at once, gives up in time, and says what it saw last."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from runtime import patience


def answers(*given: Any) -> Callable[[], Any]:
    """The answers one by one, the last for ever; an exception is raised."""
    left = list(given)

    def answer() -> Any:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return answer


def test_until_gives_what_was_waited_for_or_what_it_saw_last() -> None:
    assert patience.until(answers([], [], [7]), 5, every=0.001) == [7]
    assert patience.until(answers([7]), 0, every=1) == [7]
    assert patience.until(answers([7]), -1, every=1) == [7]
    assert patience.until(answers([]), 0.02, every=0.001) == []


def test_what_a_look_raises_is_the_callers() -> None:
    with pytest.raises(OSError, match="broken"):
        patience.until(answers(None, OSError("broken")), 5, every=0.001)
    with pytest.raises(OSError, match="broken"):
        patience.while_moving(answers(1, OSError("broken")), 5, every=0.001)


def test_what_moves_is_waited_for_longer_than_what_stands_still() -> None:
    began = time.monotonic()
    falling = iter(range(40, 0, -1))
    assert patience.while_moving(lambda: next(falling, None), 0.05, every=0.005) is None
    assert time.monotonic() - began > 0.05
    assert patience.while_moving(answers(3, 2, 2, 5, 2), 0.05, every=0.001) == 2


def test_a_step_is_tried_again_on_its_own_errors_alone() -> None:
    assert patience.retried(answers(OSError("once"), 7), OSError, 5, every=0.001) == 7
    with pytest.raises(ValueError, match="other"):
        patience.retried(answers(ValueError("other"), 7), OSError, 5, every=0.001)
    with pytest.raises(OSError, match="always"):
        patience.retried(answers(OSError("always")), OSError, 0.02, every=0.001)
    with pytest.raises(OSError, match="first"):
        patience.retried(answers(OSError("first"), 7), OSError, 5, every=0.001, hopeless=lambda: True)
