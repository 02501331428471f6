"""Receivers of notices on loopback: real HTTP servers that remember what they were sent and answer as they are told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks import Webhook


class Got(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """The message, if it is signed with this secret; else WebhookVerificationError."""
        told: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return told


#: (status, headers, body); called on the thread of the request.
Answer = Callable[[Got], tuple[int, dict[str, str], bytes]]


def well(_: Got) -> tuple[int, dict[str, str], bytes]:
    return 204, {}, b""


class Receiver:
    """What it got, and how it answers (`answer`, from the next request on)."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self._port = server.server_address[1]
        self.got: list[Got] = []
        self.answer: Answer = well

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self._port}{path}"

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            got = Got(self.path, {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(length))
            receiver.got.append(got)
            status, headers, body = receiver.answer(got)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # whoever sent has gone
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
