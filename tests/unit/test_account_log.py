"""The account log is folded whole, or not at all."""

from typing import Any

import pytest

from events import codec, topics
from events.messages import Message
from tables import chunks
from tables.chunks import Received


class _Stumbling:
    """A chunk whose fold has a fault that nobody foresaw, at one message."""

    def __init__(self) -> None:
        self.outputs: list[Message] = []
        self.rerouted = self.ignored = 0
        self.taken: list[int] = []

    def expect(self, batch: list[Received]) -> None: ...

    def take(self, received: Received) -> None:
        if received.offset == 1:
            raise ZeroDivisionError
        self.taken.append(received.offset)

    def finish(self) -> dict[str, bytes | None]:
        return {}


STUMBLING: Any = _Stumbling


def batch(topic: str) -> list[Received]:
    return [Received(topic, 0, offset, 0, b"k", codec.dumps({})) for offset in range(3)]


def forgive(_received: Received, _error: Exception) -> None: ...


def test_no_message_of_the_account_log_is_skipped() -> None:
    """What comes after it would be decided in two ways, should the next run not stumble."""
    with pytest.raises(ZeroDivisionError):
        chunks.fold(STUMBLING, batch(topics.ACCOUNT_FACTS), forgive)


def test_another_topics_is() -> None:
    made = chunks.fold(STUMBLING, batch(topics.CUSTOMERS), forgive)
    assert made.taken == [0, 2]
    assert [each.topic for each in made.outputs] == [topics.DEAD_LETTERS]
