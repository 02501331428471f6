"""Pieces of a file into what can be published."""

from collections.abc import Generator
from itertools import islice
from typing import Any, Final, NamedTuple

from events import codec, envelopes, instants
from events.envelopes import Personal
from imports.items import Chunk, Item, Problem, Reader
from imports.judging import judge

#: A file of fewer lines is made in this process: others take a second to begin.
SMALL: Final = 5_000


class Made(NamedTuple):
    """An item that can be used, as bytes: another process has less to hand over.

    `head` is its envelope up to the payload; `payload` lacks what has yet to be sealed.
    """

    line: int
    personal: Personal
    head: bytes
    payload: bytes

    def sealed(self, fields: dict[str, Any]) -> bytes:
        """The envelope, with what was sealed in its payload."""
        return self.head + codec.joined(self.payload, fields) + b"}"


Batch = list[Made | Problem]


class Maker:
    """Makes what a reader's chunks come to, for one shop."""

    def __init__(self, reader: Reader, shop: str, currency: str, received_at: int) -> None:
        self.reader = reader
        self._shop, self._currency = shop, currency
        self._received_at = instants.text(received_at)

    def make(self, chunks: list[Chunk | Problem]) -> Batch:
        """What these pieces come to, in their order."""
        return [each if isinstance(each, Problem) else self._one(each) for each in chunks]

    def _one(self, chunk: Chunk) -> Made | Problem:
        item = self.reader.item(chunk)
        if isinstance(item, Problem):
            return item
        found = judge(item, self._shop, self._currency)
        if isinstance(found, Problem):
            return found
        return Made(
            item.line,
            envelopes.personal(item.topic, found.opened),
            codec.dumps(self._head(item))[:-1] + b',"payload":',
            codec.dumps(found.opened.payload),
        )

    def _head(self, item: Item) -> dict[str, Any]:
        return {
            "topic": item.topic,
            "shop": self._shop,
            "webhook_id": item.webhook_id,
            "event_id": None,
            "api_version": None,
            "triggered_at": instants.text(item.triggered_at),
            "received_at": self._received_at,
        }


def batches(reader: Reader, size: int, skip: int) -> Generator[list[Chunk | Problem]]:
    """A file's chunks, so many at a time, without the first `skip`."""
    chunks = islice(reader.chunks(), skip, None)
    while found := list(islice(chunks, size)):
        yield found
