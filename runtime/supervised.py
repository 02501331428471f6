"""What a process that `up` started was given: a listening socket, and a life line that ends with `up`."""

import os
import signal
import socket
import threading
from typing import Final

#: Tells a child that its standard input is the life line of `up`.
SUPERVISED = "LOYALNEST_SUPERVISED"

#: The number of the listening socket that a child is given. `up` opens it, so that no port is looked for and then
#: taken by another, and so that who connects while a child is started again waits instead of being refused.
LISTENER: Final = "LOYALNEST_LISTENER"

#: Seconds for a farewell once `up` is gone: the embedded servers went with it, so there may be nobody to say it to, and
#: whoever starts `up` again waits for it.
_FAREWELL: Final = 5.0


def inherited() -> socket.socket | None:
    """The listening socket that `up` gave this process; None where it listens by itself."""
    number = os.environ.get(LISTENER)
    return socket.socket(fileno=int(number)) if number and os.environ.get(SUPERVISED) else None


def health_listener(host: str, port: int) -> socket.socket | None:
    """The socket for a process's metrics and health: the one it was given, else one of its own; None for port 0.

    OSError where the port is taken.
    """
    return inherited() or (socket.create_server((host, port)) if port else None)


def die_with_parent() -> None:
    """In a child of `up`: end when `up` is gone, however it went.

    The pipe on standard input closes with the parent, on every platform, kill -9 included.
    """
    if os.environ.get(SUPERVISED):
        threading.Thread(target=_until_gone, name="life line", daemon=True).start()


def _until_gone() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_FAREWELL)
    os._exit(1)
