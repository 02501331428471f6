"""Serving the API: uvicorn, and an end that leaves no client hanging."""

import gc
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from api.app import create_app
from runtime.ports import Publisher
from runtime.settings import Settings
from runtime.supervised import inherited

log = logging.getLogger(__name__)

#: What is still being answered gets this long when the process is asked to end (seconds).
_GRACE = 10


class Server(uvicorn.Server):
    """uvicorn's server, which says where it listens, and ends the live streams before it waits for everybody."""

    def __init__(
        self,
        config: uvicorn.Config,
        live_close: Callable[[], None],
        listening: Callable[[str], None],
        failed: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._live_close = live_close
        self._listening = listening
        self._failed = failed

    async def on_tick(self, counter: int) -> bool:
        """Also ends, so that somebody starts it anew, when nothing can be published any more by this process."""
        return await super().on_tick(counter) or self._failed() is not None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and says on which addresses it listens."""
        await super().startup(sockets)
        for server in self.servers if self.started else ():
            for each in server.sockets:
                host, port = each.getsockname()[:2]
                self._listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, after the live streams, which would never end by themselves."""
        self._live_close()
        await super().shutdown(sockets)


@contextmanager
def _signals_taken() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more, which would end us before our caller has tidied up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _log_address(address: str) -> None:
    log.info("the API listens at %s", address)


def main(settings: Settings, publisher: Publisher, listening: Callable[[str], None] = _log_address) -> int:
    """Serves until SIGINT or SIGTERM, or until the publisher has failed for good; the exit code.

    `listening` is told the address, once it takes requests.

    ValueError or VaultError for settings it cannot work with.
    """
    app = create_app(settings, publisher)
    # An export makes many short-lived containers and no cycles: the collector's default pace costs a quarter of it.
    gc.set_threshold(50_000, 20, 50)
    gc.freeze()  # what is here by now stays: it need not be looked through again
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        log_level=settings.log_level.lower(),
        access_log=False,  # a path or a query may say who somebody is
        server_header=False,
        forwarded_allow_ips=settings.api_proxies,
        timeout_graceful_shutdown=_GRACE,
        lifespan="on",
    )
    server = Server(config, app.state.services.live.close, listening, publisher.failed)
    if not settings.shopify_secrets:
        log.warning("no Shopify secret is set (LOYALNEST_SHOPIFY_SECRETS): every webhook will get 401")
    given = inherited()
    with _signals_taken():
        server.run(None if given is None else [given])
    if (why := publisher.failed()) is not None:
        log.critical("the API ends, to be started anew: %s", why)
        return 1
    return 0 if server.started else 1
