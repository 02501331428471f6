"""What a measurement stands on: real servers, topics and a database of its own, processes, and their CPU time."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psutil
import psycopg
from confluent_kafka import ConsumerGroupState, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from psycopg import sql
from pydantic import SecretStr

from books import migrate
from cli.stack import home
from events import topics
from events.programs import Program
from runtime import kafka
from runtime.settings import Settings
from scripts import servers
from scripts.bench import data
from scripts.serving.database import Database
from scripts.serving.kafka import Kafka
from scripts.serving.server import STATE, locked, tail

ROOT = Path(__file__).resolve().parents[2]

#: No step of the bench waits longer for anything (seconds).
PATIENCE = 600.0


class BenchError(RuntimeError):
    """The bench cannot go on; one clear sentence."""


def wait(what: str, done: Callable[[], bool], *, pause: float = 0.05, seconds: float = PATIENCE) -> None:
    """Waits until it is done; BenchError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)


# --- processes ---------------------------------------------------------------------------------------------------


class Process:
    """A process of ours with its log; ended by its id."""

    def __init__(self, words: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        # Elsewhere than in the checkout: a developer's own .env must not reach it.
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                words,
                env=environment,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.seen = psutil.Process(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> bool:
        """True; BenchError with the end of its log if it has died."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(f"{self.log.stem} ended with {code}:\n{tail(self.log)}")
        return True

    def finished(self) -> bool:
        """Whether it has ended well; BenchError if it ended otherwise."""
        return self._process.poll() == 0 or not self.check()

    def cpu(self) -> float:
        """CPU seconds it has used so far."""
        times = self.seen.cpu_times()
        return float(times.user + times.system)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        with suppress(ProcessLookupError):
            self.go_on()
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


# --- a run -------------------------------------------------------------------------------------------------------


class Run:
    """Topics, a database, a folder and processes that are gone when the run is over."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.prefix = settings.topic_prefix
        self.admin: Any = AdminClient({"bootstrap.servers": settings.kafka_servers(), "log_level": 2})
        self.database = psycopg.connect(settings.database_url(), autocommit=True)
        self._processes: list[Process] = []

    def start(self, name: str, **changes: Any) -> Process:
        """`loyalnest <name>`, its settings changed as given."""
        words = [sys.executable, "-m", "cli.main", name]
        return self.spawn(name, words, home.environment(home.changed(self.settings, **changes)))

    def spawn(self, name: str, words: list[str], environment: dict[str, str]) -> Process:
        made = Process(words, environment, self.folder / f"{name}-{len(self._processes)}.log")
        self._processes.append(made)
        return made

    def worker(self, words: list[str] | None = None) -> Process:
        """A worker whose tables are recovered and which is about to read."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        words = words or [sys.executable, "-m", "cli.main", "worker"]
        worker = self.spawn("worker", words, home.environment(home.changed(self.settings, ready_file=ready)))
        wait("the worker", lambda: worker.check() and ready.exists(), pause=0.01, seconds=60)
        return worker

    def workers(self, number: int) -> list[Process]:
        """So many workers that share the partitions and are about to read."""
        ready = [self.folder / f"ready-{at}" for at in range(number)]
        started = [
            self.start("worker", ready_file=file, data_dir=self.folder / f"worker-{at}")
            for at, file in enumerate(ready)
        ]
        wait(
            "the workers",
            lambda: (
                all(each.check() for each in started) and all(file.exists() for file in ready) and self._shared(number)
            ),
            pause=0.1,
            seconds=120,
        )
        return started

    def _shared(self, number: int) -> bool:
        """Whether the group is at rest with so many members, each of which has partitions."""
        group = f"{self.settings.topic_prefix}{self.settings.group}"
        found = self.admin.describe_consumer_groups([group], request_timeout=15)[group].result(15)
        shares = [len(each.assignment.topic_partitions) for each in found.members]
        return found.state == ConsumerGroupState.STABLE and len(shares) == number and all(shares)

    def sink(self) -> Process:
        """A sink that has taken its positions and waits, stopped, until it is told to go on."""
        # As long as a group lets a member stand still.
        sink = self.start("sink", session_timeout=60.0)
        count = "SELECT count(*) FROM sink_positions"
        wait("the sink", lambda: sink.check() and self.number(count) > 0, pause=0.02, seconds=60)
        sink.pause()
        return sink

    def number(self, query: str, *parameters: Any) -> int:
        row = self.database.execute(query.encode(), parameters).fetchone()
        return int(row[0] or 0) if row is not None else 0

    def stored(self, topic: str) -> int:
        """How many of a topic's records the sink has stored."""
        query = "SELECT sum(next_offset) FROM sink_positions WHERE topic = %s"
        return self.number(query, self.settings.topic(topic))

    def stored_in_all(self) -> int:
        return self.number("SELECT sum(next_offset) FROM sink_positions")

    def records(self, *names: str) -> int:
        """How many records these topics have, by their names on the broker."""
        return sum(self.ends(*names).values())

    def ends(self, *names: str) -> dict[tuple[str, int], int]:
        known = self.admin.list_topics(timeout=15).topics
        places = [TopicPartition(name, at) for name in names if name in known for at in known[name].partitions]
        answers = self.admin.list_offsets(dict.fromkeys(places, OffsetSpec.latest()), request_timeout=15)
        return {(at.topic, at.partition): answer.result(15).offset for at, answer in answers.items()}

    def send(self, topic: str, messages: Iterable[tuple[str, bytes]]) -> None:
        """Puts messages on a topic (its name on the broker), all of them durable on return."""
        producer: Any = Producer({**kafka.producer_config(self.settings), "linger.ms": 50})
        for key, value in messages:
            while True:
                try:
                    producer.produce(topic, value, key)
                    break
                except BufferError:
                    producer.poll(0.1)
        if producer.flush(60):
            raise BenchError(f"{topic} could not be filled within a minute")

    def announce(self, program: Program) -> None:
        self.send(self.settings.topic(topics.PROGRAMS), [(program.shop, program.model_dump_json().encode())])

    def close(self) -> None:
        for each in reversed(self._processes):
            each.end()
        self.database.close()
        # Quix names its topics its own way, with ours in the middle.
        ours = [name for name in self.admin.list_topics(timeout=15).topics if self.prefix in name]
        for answer in self.admin.delete_topics(ours).values() if ours else ():
            with suppress(Exception):
                answer.result(15)


class World:
    """The real servers, and what is known of the machine."""

    def __init__(self) -> None:
        kafka_server, database_server = Kafka(), Database()
        self.kafka = f"127.0.0.1:{kafka_server.port()}"
        self.database = database_server.url("loyalnest")
        self.broker = psutil.Process(kafka_server.pid())
        self.postmaster = psutil.Process(database_server.pid())
        self.folder = Path(tempfile.mkdtemp(prefix="loyalnest-bench-"))

    def server_cpu(self) -> tuple[float, float]:
        """CPU seconds so far of Kafka and of PostgreSQL, ended backends included."""
        times = self.broker.cpu_times()
        return float(times.user + times.system), family_cpu(self.postmaster)

    @contextmanager
    def run(self, name: str, program: Program | None = None, **changes: Any) -> Iterator[Run]:
        """A run with every topic made, the program (data.program without another) announced, and an empty database."""
        unique = f"bench-{uuid4().hex[:8]}"
        folder = self.folder / f"{name}-{unique}"
        folder.mkdir()
        url = create(self.database, unique.replace("-", "_"))
        made = Settings(
            _env_file=None,
            kafka=self.kafka,
            database=SecretStr(url),
            topic_prefix=f"{unique}-",
            data_dir=folder,
            log_level="WARNING",
            **changes,
        )
        run = None
        try:
            migrate.migrate(url)
            kafka.create_topics(made)
            run = Run(made, folder)
            run.announce(program or data.program())
            yield run
        finally:
            if run is not None:
                run.close()
            drop(self.database, unique.replace("-", "_"))


def create(url: str, name: str) -> str:
    """Makes a database on the server of a URL; its own URL."""
    with psycopg.connect(_sibling(url, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return _sibling(url, name)


def drop(url: str, name: str) -> None:
    """Drops it, once nobody is in it any more."""
    # Not by force: that fails when a superuser's autovacuum is inside, which plain DROP sends away.
    statement = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    with psycopg.connect(_sibling(url, "postgres"), autocommit=True) as connection:
        for pause in (0.2, 0.5, 1, 2, 4, None):
            try:
                connection.execute(statement)
                return
            except psycopg.errors.ObjectInUse:
                if pause is None:
                    raise
                time.sleep(pause)


def _sibling(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def memory(process: psutil.Process) -> int:
    """Bytes of a process and its children; what several share (PostgreSQL's backends, most of theirs) counts once."""
    total = 0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += each.memory_full_info().pss
    return total


def family_cpu(process: psutil.Process) -> float:
    """CPU seconds of a process, its children, and those it has buried."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
            if each == process:
                total += times.children_user + times.children_system
    return float(total)


@contextmanager
def world() -> Iterator[World]:
    """Both servers, up for as long as this lasts; those that were up before stay up."""
    mine = [server for make in servers.SERVERS.values() if not (server := make()).pid()]
    # Not its words: they hold the database's password.
    with locked(STATE), redirect_stdout(StringIO()):
        servers.up([make() for make in servers.SERVERS.values()])
    try:
        yield World()
    finally:
        with locked(STATE), redirect_stdout(StringIO()):
            servers.end(mine)
            if len(mine) == len(servers.SERVERS):
                (STATE / "env").unlink(missing_ok=True)
