"""`loyalnest up`: the servers and processes of one LoyalNest, started in order, watched, and ended in order.

With real Kafka a process that ended is started again by itself. The embedded broker cannot give a new worker or sink
what the old one had read, so when one of these ends there, both start again with a new broker and a replay of the raw
history. The API, the schedule, and who sends notices and makes discounts need the database alone and go on: webhooks
are taken meanwhile.
"""

import logging
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from books import migrate, notices, schema
from cli.stack import embedded, home
from cli.stack.children import Child
from events import topics
from runtime import database, kafka
from runtime.settings import Settings
from streams.journal.pump import KAFKA, Pump

log = logging.getLogger(__name__)

#: A process that ends this often within a minute has a cause that starting it again will not mend.
MAX_ENDS: Final = 5
_ENDS_WITHIN: Final = 60.0
_WATCH: Final = 0.2
_BACKOFF: Final = 1.0
_READY: Final = 90.0
_GRACE: Final = 15.0
_DATABASE: Final = 60.0

#: A process that has given no sign of life for so long hangs, and is started again (seconds).
HUNG: Final = 30.0

#: The processes that live and die with an embedded broker.
_OF_A_LIFE: Final = ("worker", "sink")


#: Letters that a replay of the raw history makes anew, if their cause is still there.
REFUSED_AGAIN: Final = """
DELETE FROM dead_letters WHERE replayed_at IS NULL AND (source LIKE 'shopify.%' OR source = 'loyalnest.requests')
  AND error IN ('unexpected', 'too_large', 'unknown_shop')
"""


class UpError(RuntimeError):
    """LoyalNest cannot start or go on; the message says why, and where to look."""


class Stack:
    """All of one LoyalNest. `say` is told what happens, in words for its user.

    `rebuilding`: a worker and a sink alone, fed from the raw history, on real Kafka too (cli.stack.rebuilding).
    """

    def __init__(
        self, settings: Settings, say: Callable[[str], None], *, schedule: bool = True, rebuilding: bool = False
    ) -> None:
        self._given = settings
        self._say = say
        self._schedule = schedule
        self._rebuilding = rebuilding
        self._lock = home.Lock(settings.data)
        self._database: embedded.EmbeddedDatabase | None = None
        self._broker: embedded.EmbeddedBroker | None = None
        self._children: list[Child] = []
        self._ends: deque[float] = deque()
        self._ready_by = 0.0
        self._listeners: dict[str, socket.socket] = {}
        self._ending = threading.Event()
        self._changing = threading.Lock()
        self.pump: Pump | None = None
        self.settings = settings

    # --- starting ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Everything, until it is ready. UpError, EmbeddedError or MigrationError if it cannot be."""
        if not self._lock.take(5):
            raise UpError(f"another LoyalNest uses {self._given.data}; end it, or choose another --data")
        settings = home.changed(
            self._given,
            master_key=embedded.master_key(self._given),
            shopify_secrets=embedded.webhook_secrets(self._given),
        )
        settings = home.changed(settings, api_port=self._listen(settings))
        if settings.database is None:
            self._say("starting PostgreSQL")
            self._database = embedded.EmbeddedDatabase(settings.data / "postgres")
            settings = home.changed(settings, database=SecretStr(self._database.start()))
        migrate.migrate(settings.database_url())
        self.settings = home.changed(settings, journal=True) if self._rebuilding else settings
        self._live()
        self._wait_until_ready()

    def _listen(self, settings: Settings) -> int:
        """Open the sockets that the processes answer on; the API's port.

        Here and once: a port that was looked for and found free may be another's by the time a process wants it.
        """
        for name in ("worker", "sink", "schedule", "notices", "fulfilment"):
            port = settings.worker_port if name == "worker" else 0
            self._listeners[name] = self._socket(settings.worker_host, port, "LOYALNEST_WORKER_PORT")
        if self._rebuilding:
            return settings.api_port
        self._listeners["api"] = api = self._socket(settings.api_host, settings.api_port, "--port")
        return int(api.getsockname()[1])

    def _socket(self, host: str, port: int, option: str) -> socket.socket:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family, backlog=2048)
        except OSError:
            raise UpError(f"port {port} on {host} is taken: choose another with {option}") from None

    def _live(self) -> None:
        """One life: a broker, the pump that feeds it, and the processes around it."""
        if self._given.kafka is None:
            self._say("starting the broker")
            self._broker = embedded.EmbeddedBroker(self._given.topic_prefix)
            self.settings = home.changed(
                self.settings,
                kafka=self._broker.servers,
                incarnation=self._broker.incarnation,
                partitions=self._broker.partitions,
                journal=True,
            )
        kafka.create_topics(self.settings)
        self._clear()
        self.pump = self._new_pump()
        if self.pump is not None:
            self.pump.start()
        self._ready_file.unlink(missing_ok=True)
        kept = {child.name for child in self._children}
        made = [child for child in self._new_children() if child.name not in kept]
        self._say(f"starting {', '.join(child.name for child in made)}")
        self._children = sorted([*self._children, *made], key=lambda child: child.name)
        for child in made:
            child.start()
        home.announce(self.settings.data, self._running())
        self._ready_by = time.monotonic() + _READY

    def _new_pump(self) -> Pump | None:
        if self._broker is not None:
            return Pump(self.settings, self._broker.partitions)
        if self._rebuilding:
            # Programs and cut points are on their topics for ever; dead letters are not derived.
            inputs = (topics.ORDERS, topics.CUSTOMERS, topics.SHOPS, topics.REQUESTS, topics.RESCORE)
            skip = [name for name in topics.BY_NAME if name not in inputs]
            return Pump(self.settings, self.settings.partitions, skip, KAFKA)
        return None

    def _clear(self) -> None:
        """Positions of brokers that are gone; and what `rebuild` asked to have made anew."""
        self._mend_database()
        url = self.settings.database_url()
        connection = database.wait_until_up(url, "loyalnest up", stop=self._ending, seconds=_DATABASE)
        if connection is None:
            return
        with connection:
            if self._broker is not None:
                connection.execute("DELETE FROM sink_positions WHERE incarnation LIKE 'embedded-%'")
                connection.execute(REFUSED_AGAIN)
                if home.rebuild_asked(self.settings.data):
                    self._say("emptying the derived tables for a rebuild")
                    connection.execute(notices.REMEMBER.encode())
                    connection.execute(f"TRUNCATE {', '.join(schema.DERIVED)}".encode())
        home.rebuild_begun(self.settings.data)

    @property
    def _ready_file(self) -> Path:
        return self.settings.data / "worker.ready"

    def _new_children(self) -> list[Child]:
        names: list[tuple[str, tuple[str, ...]]] = [("worker", ("worker",)), ("sink", ("sink",))]
        if not self._rebuilding:
            names += [("api", ("api",)), ("notices", ("notices",)), ("fulfilment", ("fulfilment", "run"))]
        if self._schedule and not self._rebuilding:
            names.append(("schedule", ("batch", "schedule")))
        # A lasting name: after a kill it comes back to its partitions at once, not after the session has timed out.
        lasting = self.settings.worker_id or f"up-{sha256(str(self.settings.data).encode()).hexdigest()[:12]}"
        worker = home.changed(self.settings, ready_file=self._ready_file, worker_id=lasting)
        return [
            Child(
                name,
                words,
                home.environment(worker if name == "worker" else self.settings),
                self.settings.data / "logs" / f"{name}.log",
                self._listeners[name],
            )
            for name, words in names
        ]

    def _running(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "kafka": self.settings.kafka_servers(),
            "database": self.settings.database_url(),
            "incarnation": self.settings.incarnation,
            "partitions": self.settings.partitions,
            "journal": self.settings.journal,
            "api": self.api,
            "children": {child.name: child.pid for child in self._children},
        }

    @property
    def api(self) -> str:
        """The API's address."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.settings.api_host, self.settings.api_host)  # noqa: S104
        return f"http://{host}:{self.settings.api_port}"

    def _wait_until_ready(self) -> None:
        while not self._ending.is_set() and not (self._ready_file.exists() and self._api_ready()):
            broken = next((child for child in self._children if (child.exit_code or 0) > 0), None)
            if broken is not None:  # it will not do better next time
                raise UpError(self._ended(broken))
            self._look()
            if time.monotonic() > self._ready_by:
                raise UpError(f"the API did not get ready in {_READY:.0f} s: see {self.settings.data / 'logs'}")
            self._ending.wait(0.05)

    def _api_ready(self) -> bool:
        if self._rebuilding:
            return True
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{self.api}/readyz", timeout=2):  # noqa: S310
            return True
        return False

    # --- watching ------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Until `end` is called. UpError when something keeps ending."""
        while not self._ending.wait(_WATCH):
            with self._changing:
                if not self._ending.is_set():
                    self._look()

    def _look(self) -> None:
        for child in self._children:
            if child.silent > HUNG and child.exit_code is None:
                self._say(f"the {child.name} has given no sign of life for {HUNG:.0f} s")
                child.kill()
        self._mend_database()
        if self.pump is not None and self.pump.error is not None:
            self._again(f"the journal stopped ({self.pump.error})")
        elif self._broker is not None and home.rebuild_asked(self.settings.data):
            self._again("a rebuild was asked for", counts=False)
        else:
            ended = next((child for child in self._children if child.exit_code is not None), None)
            if ended is not None:
                self._mend(ended)
            elif time.monotonic() > self._ready_by and not self._ready_file.exists():
                raise UpError(f"the worker did not get ready in {_READY:.0f} s: see {self.settings.data / 'logs'}")

    def _mend_database(self) -> None:
        if self._database is not None and not self._database.alive():
            self._say("PostgreSQL ended: starting it again")
            self._count("PostgreSQL keeps ending")
            self._database.start()

    def _mend(self, child: Child) -> None:
        if self._broker is not None and child.name in _OF_A_LIFE:
            self._again(self._ended(child))
        else:
            self._count(self._ended(child))
            self._say(f"{self._ended(child)}: starting it again")
            self._ending.wait(_BACKOFF)
            child.wait(0)
            child.start()
            home.announce(self.settings.data, self._running())

    def _again(self, why: str, *, counts: bool = True) -> None:
        """A new life, embedded: what the broker held is gone with it, and comes again from the raw history."""
        if counts:
            self._count(why)
        self._say(f"{why}: starting worker and sink again and replaying the raw history")
        self._end_life(_OF_A_LIFE)
        self._live()

    def _count(self, why: str) -> None:
        now = time.monotonic()
        self._ends.append(now)
        while self._ends[0] < now - _ENDS_WITHIN:
            self._ends.popleft()
        if len(self._ends) > MAX_ENDS:
            raise UpError(f"{why}; that was {len(self._ends)} times in a minute")

    def _ended(self, child: Child) -> str:
        code = child.exit_code or 0
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        said = f", saying: {child.last_line()[:300]}" if code > 0 and child.last_line() else ""
        return f"the {child.name} {how} (see {child.log}){said}"

    # --- ending --------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Ask `watch` and `start` to return; safe in a signal handler."""
        self._ending.set()

    @property
    def ending(self) -> bool:
        """Whether it was asked to end."""
        return self._ending.is_set()

    def stop(self) -> None:
        """End every process and server that this one started."""
        self._ending.set()
        with self._changing:
            self._end_life(("api", "schedule", "fulfilment"), _OF_A_LIFE, ("notices",))
            if self._database is not None:
                self._database.stop()
            for listener in self._listeners.values():
                listener.close()
            self._listeners = {}
            if self._lock.held:  # else the folder is another's
                home.retract(self._given.data)
                self._lock.give_back()

    def _end_life(self, *rounds: tuple[str, ...]) -> None:
        """Ends processes, round by round (who takes things in before who works them off), and the broker."""
        for names in rounds:
            ending = [child for child in self._children if child.name in names]
            for child in ending:
                child.terminate()
            for child in ending:
                child.wait(_GRACE)
            self._children = [child for child in self._children if child not in ending]
        if self.pump is not None:
            self.pump.stop()
            self.pump = None
        if self._broker is not None:
            self._broker.close()
            self._broker = None
