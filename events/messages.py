"""A message to send: what folds put out, the guard and the publishers send, and the batch asks with."""

from msgspec import Struct


class Message(Struct, frozen=True):
    """A message for a topic: `topic` is the name in events.topics, without the prefix.

    Partition None leaves it to the key. How a message came is `tables.chunks.Received`: it has an offset, a time, and
    perhaps no key or value.
    """

    topic: str
    key: str
    value: bytes
    partition: int | None = None
