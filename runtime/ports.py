"""What the rooms above ask of each other without importing each other; the command hands the real thing in."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Message(NamedTuple):
    """A message for a topic: `topic` is the name in events.topics, without the prefix."""

    topic: str
    key: str
    value: bytes


class PublishError(RuntimeError):
    """A message could not be made durable; nobody may be told that it was."""


class Publisher(Protocol):
    """The way in. Returns when every message is durable (acks=all, or committed to the journal).

    Raises PublishError otherwise. Messages of one key keep their order.
    """

    async def publish(self, messages: Sequence[Message]) -> None: ...

    def healthy(self) -> bool:
        """Whether it can publish, as far as it knows."""
        ...
