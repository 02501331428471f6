"""The account log is folded whole, or not at all."""

from typing import Any

import pytest

from events import codec, topics
from events.messages import Message
from events.programs import Program
from tables import chunks
from tables.chunks import Received
from tables.reference import Reference
from tests.harness import Stream


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


SHOP = "a.myshopify.com"


class _Behind:
    """A reader that looked for the shop in vain a moment ago; it is there by now."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def apply(self) -> None: ...

    def is_worth_reading(self, missed: Any) -> bool:
        return False

    async def catch_up(self, missed: Any) -> None:
        self._reference.put_program(Program(shop=SHOP, currency="USD"))


def test_of_a_shop_that_is_there_by_now_nothing_on_the_account_log_is_refused() -> None:
    """Whoever wrote it knew the shop; and nobody would bring a fact in again."""
    stream = Stream(Reference(), workers=1, losses=0)
    (worker,) = stream.workers
    worker.folder.reader = _Behind(stream.reference)
    at = 1_795_253_400_000_000
    award = {"type": "account.award", "shop": SHOP, "customer_id": "7", "award_id": "a", "at": at, "now": at}
    award |= {"points": 5, "reason": "", "source": "", "counts_as_earned": False, "voided_at": 0}
    stream.put(topics.ACCOUNT_FACTS, f"{SHOP}/7", codec.dumps(award))
    stream.run()
    assert stream.outputs(topics.DEAD_LETTERS) == []
    assert [row["balance"] for row in stream.outputs(topics.CUSTOMER_ROWS)] == [5]
