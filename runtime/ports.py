"""What the rooms above ask of each other without importing each other; the command hands the real thing in."""

from collections.abc import Sequence
from typing import Protocol

from events.messages import Message


class PublishError(RuntimeError):
    """A message could not be made durable; nobody may be told that it was."""


class Publisher(Protocol):
    """The way in. Returns when every message is durable (acks=all, or committed to the journal).

    Raises PublishError otherwise. Messages of one key keep their order.
    """

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when every message is durable; PublishError if one could not be made so.

        A caller who is cancelled is let go at once, whatever the other side does; some messages may be durable then.
        """

    def failed(self) -> str | None:
        """Why nothing can be published any more by this process, which must end; None while it can go on."""
        ...

    async def ready(self) -> bool:
        """Whether a message would be made durable now, as far as the other side says within a few seconds."""
        ...

    async def close(self) -> None:
        """Wait for what is on its way, and end, on the loop that it was used on. Twice is harmless."""
        ...
