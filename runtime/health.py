"""Liveness, readiness and metrics of a process that speaks no HTTP otherwise: /healthz, /readyz, /metrics; else 404.

The loop that does the work gives the signs of life (`Pulse.beat`) and says what it waits for; the thread that answers
only reads them. So a loop that hangs is told, though the thread goes on.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

log = logging.getLogger(__name__)

#: A loop that has not moved for so long does not keep up, though it may live (seconds).
SLOW: Final = 10.0

#: Records by which a reader may be behind the ends of its logs and still keep up.
READY_LAG: Final = 10_000

_BEAT: Final = 1.0


class Pulse:
    """The signs of a loop's life. It lives as long as its last sign is no older than `limit` seconds.

    `waiting` is why it does not keep up, in words, as the loop itself said last; empty when it does.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.waiting: Sequence[str] = ("it starts",)
        self._at = time.monotonic()

    def beat(self) -> None:
        """Called by the loop, whenever it comes round."""
        self._at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last sign."""
        return time.monotonic() - self._at

    def follow(self, loop: Any, look: Callable[[], Sequence[str]]) -> None:
        """Beats from within an asyncio loop, once a second, and has it `look` what it waits for."""
        self.beat()
        self.waiting = look()
        loop.call_later(_BEAT, self.follow, loop, look)

    def behind(self) -> list[str]:
        """Why it is not ready."""
        age = self.age
        return [*self.waiting, *([f"its loop has not moved for {age:.0f} s"] if age > SLOW else [])]


def serve(listener: socket.socket, pulse: Pulse, probes: Sequence[Callable[[], str | None]] = ()) -> None:
    """Answers on a listening socket, on threads of its own, until the process ends.

    Each of `probes` is asked for readiness: it says what does not answer, or None, within a few seconds.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._send(200, generate_latest(), CONTENT_TYPE_LATEST)
            elif path == "/healthz":
                alive = pulse.age <= pulse.limit
                self._say(alive, "ok" if alive else "stuck", [f"its loop moved {pulse.age:.0f} s ago"])
            elif path == "/readyz":
                because = pulse.behind() + [said for probe in probes if (said := probe()) is not None]
                self._say(not because, "not ready" if because else "ready", because)
            else:
                self._send(404, b"", "text/plain")

        def _say(self, well: bool, status: str, because: list[str]) -> None:
            body = json.dumps({"status": status, "because": because}).encode()
            self._send(200 if well else 503, body, "application/json")

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nobody wants a line for each question of an orchestrator's."""

    server = ThreadingHTTPServer(listener.getsockname()[:2], Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
