"""The publisher for code that is not asynchronous: one event loop of its own, in a thread, for all of its life."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from events.messages import Message
from runtime.ports import Publisher

#: Returns when its messages are durable; PublishError otherwise.
Publish = Callable[[Sequence[Message]], None]


@contextmanager
def publishing(publisher: Publisher) -> Iterator[Publish]:
    """A function that publishes and waits, from any thread. In the end the publisher is closed with its loop.

    What it holds (a pool, futures) may belong to the loop it was first used on, so it must never see a second one.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="publisher", daemon=True)
    thread.start()

    def publish(messages: Sequence[Message]) -> None:
        asyncio.run_coroutine_threadsafe(publisher.publish(messages), loop).result()

    try:
        yield publish
    finally:
        asyncio.run_coroutine_threadsafe(publisher.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
