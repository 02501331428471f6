"""Real servers for tests and trials, without Docker: Apache Kafka, and PostgreSQL with TimescaleDB.

    make servers | make servers-down
    python scripts/servers.py up|down|status|restart|kill|purge [kafka|database]

Kafka is Apache's own jars by Maven, run by the machine's Java. PostgreSQL is Debian's, in a folder of its own
that debootstrap fills from the mirror that apt is set up with. Downloads live in a cache outside the checkout
($XDG_CACHE_HOME/loyalnest); pids, ports, logs and Kafka's data in the state folder (.servers, or
$LOYALNEST_SERVERS). PostgreSQL's data must lie inside the folder that it is chrooted to, so they lie in the
cache, under a name made from the state folder's path.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

HERE = Path(__file__).resolve().parent
STATE = Path(os.environ.get("LOYALNEST_SERVERS") or HERE.parent / ".servers").resolve()
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loyalnest"
READY_SECONDS = 60


class ServerError(Exception):
    """One clear sentence for the person at the terminal."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time in this folder: two `make servers` at once must not fill it twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def need(program: str, why: str) -> str:
    found = shutil.which(program)
    if not found:
        raise ServerError(f"{why} wants '{program}' on PATH.")
    return found


def run(command: list[str], log: Path, doing: str, **environment: str) -> None:
    print(f"  {doing} ...", flush=True)
    with log.open("ab") as out:
        code = subprocess.call(command, stdout=out, stderr=out, env={**os.environ, **environment})
    if code:
        raise ServerError(f"{doing} failed; its last words, from {log}:\n{tail(log)}")


def tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""


def kafka_jars() -> Path:
    """Returns the folder of Kafka's jars, each of which has the SHA-256 of the committed list."""
    sums = read_sums(HERE / "kafka/jars.sha256")
    wanted = hashlib.sha256(repr(sorted(sums.items())).encode()).hexdigest()[:12]
    folder = CACHE / f"kafka-{wanted}"
    with locked(CACHE):
        if not folder.exists():
            mvn = need("mvn", "Downloading Apache Kafka")
            partial = CACHE / f"{folder.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
            command = [mvn, "--batch-mode", "--file", str(HERE / "kafka/pom.xml"), *goal]
            run(command, CACHE / "kafka.log", "Downloading Apache Kafka (44 MB)")
            check_sums(partial, sums)
            partial.rename(folder)
        check_sums(folder, sums)
    return folder


def read_sums(file: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file that a list in sha256sum's format names."""
    return {name: digest for digest, name in map(str.split, file.read_text().splitlines())}


def check_sums(folder: Path, sums: dict[str, str]) -> None:
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    wrong = sorted(name for name in found.keys() | sums.keys() if found.get(name) != sums.get(name))
    if wrong:
        raise ServerError(f"{folder} does not hold the jars of scripts/kafka/jars.sha256; remove it. Wrong: {wrong}")


def postgres_root() -> Path:
    """Returns a Debian folder with PostgreSQL 17 and TimescaleDB; debootstrap checks Debian's signatures."""
    root = CACHE / "trixie-postgresql-17"
    if os.geteuid() != 0:
        remedy = "run this as root, or set LOYALNEST_TEST_DATABASE to a server of your own"
        raise ServerError(f"PostgreSQL with TimescaleDB runs here by chroot, which wants root: {remedy}.")
    with locked(CACHE):
        if not root.exists():
            log = CACHE / "debootstrap.log"
            apt = need("apt-get", "PostgreSQL with TimescaleDB comes from Debian's packages and")
            run([apt, "update"], log, "Reading apt's package lists")
            if not shutil.which("debootstrap"):
                run([apt, "install", "--yes", "debootstrap"], log, "Installing debootstrap")
            partial = CACHE / f"{root.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            packages = "--include=postgresql-17,postgresql-17-timescaledb"
            command = ["debootstrap", "--variant=minbase", packages, "trixie", str(partial), debian_mirror()]
            run(command, log, "Downloading PostgreSQL 17 with TimescaleDB (700 MB unpacked)", **apt_proxy())
            partial.rename(root)
    return root


def debian_mirror() -> str:
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    mirrors = subprocess.check_output([*command, "Label: Debian"], text=True).split()
    if not mirrors:
        raise ServerError("apt is set up with no Debian mirror to take PostgreSQL with TimescaleDB from.")
    return mirrors[0]


def apt_proxy() -> dict[str, str]:
    """What apt goes through; debootstrap knows only the environment."""
    words = subprocess.check_output(["apt-config", "shell", "proxy", "Acquire::http::Proxy"], text=True).strip()
    return {"http_proxy": words.removeprefix("proxy=").strip("'")} if words else {}


def birth(pid: int) -> str | None:
    """Returns when the process was born, in ticks since boot; None if it is dead or a zombie.

    A pid alone is not enough: after a reboot it may be another's.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if words[0] in "ZX" else words[19]


def end_orphan(pid_file: Path, root: Path) -> None:
    """Ends the PostgreSQL of a pid file of its own, if it lives and is chrooted to that root, so surely ours."""
    pid = int(pid_file.read_text().split()[0]) if pid_file.exists() else 0
    if pid and birth(pid) and Path(f"/proc/{pid}/root").resolve() == root.resolve():
        os.kill(pid, signal.SIGINT)
        while birth(pid):
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server of ours: a folder with its pid file, its log and its ports, which it keeps if it can."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.folder = STATE / self.name
        self.log = self.folder / "log"
        self.pid_file = self.folder / "pid"

    def pid(self) -> int | None:
        """Returns the pid of the running process; None if there is none."""
        if not self.pid_file.exists():
            return None
        pid, born = self.pid_file.read_text().split()
        return int(pid) if birth(int(pid)) == born else None

    def kept(self, name: str, make: Callable[[], str]) -> str:
        """Returns a word that is made once and then the same at every start."""
        file = self.folder / name
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(make())
        return file.read_text()

    def port(self, name: str = "port") -> int:
        return int(self.kept(name, lambda: str(free_port())))

    def give_up_taken_ports(self) -> None:
        for file in self.folder.glob("*port"):
            with socket.socket() as probe:
                # As the servers do: a port in TIME_WAIT is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", int(file.read_text())))
                except OSError:
                    file.unlink()

    def start(self) -> None:
        """Starts the process if it is not running; `wait` then says when it is of use."""
        if self.pid():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.give_up_taken_ports()
        self.launch(self.command())

    def launch(self, command: list[str]) -> None:
        nothing = subprocess.DEVNULL
        with self.log.open("ab") as out:
            process = subprocess.Popen(command, stdin=nothing, stdout=out, stderr=out, start_new_session=True)
        # Died at once: no birth, and a pid file that matches no process.
        self.pid_file.write_text(f"{process.pid} {birth(process.pid) or '-'}")

    def wait(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not answer in {READY_SECONDS} s; from its log:\n{tail(self.log)}")
            if not self.pid():
                self.died(deadline)
            time.sleep(0.2)

    def died(self, deadline: float) -> None:
        raise ServerError(f"{self.name} ended while starting; from its log:\n{tail(self.log)}")

    def end(self, sign: signal.Signals) -> bool:
        """Sends the signal and returns, once the process is gone, whether there was one."""
        pid = self.pid()
        if pid:
            os.kill(pid, sign)
            deadline = time.monotonic() + 30
            while self.pid():
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    deadline += 30
                time.sleep(0.05)
        self.pid_file.unlink(missing_ok=True)
        return pid is not None

    def purge(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self) -> list[str]:
        """Prepares what is not yet prepared and returns the command line of the server."""
        raise AssertionError

    def answers(self) -> bool:
        """Whether the server can be used, found out by using it."""
        raise AssertionError

    def environment(self) -> dict[str, str]:
        raise AssertionError


class Kafka(Server):
    """One KRaft node, broker and controller in one."""

    name = "kafka"

    def command(self) -> list[str]:
        java = [need("java", "Apache Kafka"), "-cp", f"{kafka_jars()}/*", "-Xms256m", "-Xmx512m"]
        logger = {
            "defaultLogLevel": "warn",
            "showDateTime": "true",
            "dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS",
        }
        java += [f"-Dorg.slf4j.simpleLogger.{name}={value}" for name, value in logger.items()]
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self.properties().items()))
        if not (self.folder / "data/meta.properties").exists():
            cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
            tool = [
                "kafka.tools.StorageTool",
                "format",
                "--config",
                str(properties),
                f"--cluster-id={cluster}",
            ]
            run([*java, *tool], self.log, "Formatting Kafka's storage")
        return [*java, "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "kafka.Kafka", str(properties)]

    def properties(self) -> dict[str, object]:
        broker, controller = f"127.0.0.1:{self.port()}", f"127.0.0.1:{self.port('controller-port')}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "log.dirs": self.folder / "data",
            # A topic must be made with its settings, so never by a mere mention.
            "auto.create.topics.enable": "false",
            # One node holds every copy.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 8,
            # Tests start groups all the time, and none waits for a second member.
            "group.initial.rebalance.delay.ms": 0,
            # A webhook's body to 10 MB, as JSON text within our envelope.
            "message.max.bytes": 12_582_912,
            "replica.fetch.max.bytes": 12_582_912,
        }

    def answers(self) -> bool:
        address = {"bootstrap.servers": f"127.0.0.1:{self.port()}", "log_level": 0}
        try:
            return bool(AdminClient(address, logger=None).list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def environment(self) -> dict[str, str]:
        return {"LOYALNEST_TEST_KAFKA": f"127.0.0.1:{self.port()}"}


class Database(Server):
    """PostgreSQL as its own user, as it refuses root, in a chroot, as its libraries are not the host's."""

    name = "database"
    # Fast: SIGTERM would wait for every client to leave.
    stop_signal = signal.SIGINT
    settings: ClassVar = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "256MB",
        "max_wal_size": "4GB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # The chroot's /dev/shm is an ordinary folder.
        "dynamic_shared_memory_type": "mmap",
        "shared_preload_libraries": "timescaledb",
        "timescaledb.telemetry_level": "off",
        # The Apache edition has no jobs for them, and a superuser's worker now and then forbids the role to drop
        # its own database.
        "timescaledb.max_background_workers": "0",
    }

    def home(self) -> Path:
        """Returns where the data lie, as the chrooted server sees it."""
        return Path("/srv") / f"loyalnest-{hashlib.sha256(str(STATE).encode()).hexdigest()[:12]}"

    def chrooted(self, program: str, *words: str) -> list[str]:
        # env: the host's locale need not exist in there.
        clean = ["/usr/bin/env", "-i", "LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin", f"HOME={self.home()}"]
        binary = f"/usr/lib/postgresql/17/bin/{program}"
        return ["chroot", "--userspec=postgres:postgres", str(postgres_root()), *clean, binary, *words]

    def command(self) -> list[str]:
        data = self.home() / "data"
        outside = postgres_root() / data.relative_to("/")
        # A state folder removed by hand has left data behind whose password nobody knows any more.
        if not (outside / "PG_VERSION").exists() or not (self.folder / "password").exists():
            self.make_data(data, outside)
        options = [f"-c{name}={value}" for name, value in self.settings.items()]
        return self.chrooted("postgres", "-D", str(data), "-p", str(self.port()), *options)

    def make_data(self, data: Path, outside: Path) -> None:
        end_orphan(outside / "postmaster.pid", postgres_root())
        shutil.rmtree(outside.parent, ignore_errors=True)
        outside.parent.mkdir(mode=0o700)
        password = outside.parent / "password"
        password.write_text(self.password())
        owner = subprocess.check_output(["chroot", str(postgres_root()), "id", "-u", "postgres"], text=True)
        for path in (outside.parent, password):
            os.chown(path, int(owner), -1)
        words = ["--username=postgres", f"--pwfile={data.parent}/password", "--auth=scram-sha-256"]
        words += ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"]
        run(self.chrooted("initdb", "-D", str(data), *words), self.log, "Making PostgreSQL's data folder")
        password.unlink()

    def password(self) -> str:
        return self.kept("password", lambda: secrets.token_hex(16))

    def url(self, database: str, user: str = "loyalnest") -> str:
        return f"postgresql://{user}:{self.password()}@127.0.0.1:{self.port()}/{database}"

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.url("postgres", "postgres"), connect_timeout=2, autocommit=True) as connection:
                self.furnish(connection)
        except psycopg.OperationalError:
            return False
        return True

    def furnish(self, connection: psycopg.Connection) -> None:
        """Makes the role and its two databases; what is there already stays.

        The role may make databases but is no superuser, as in a well-kept house.
        """
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'loyalnest'").fetchone():
            connection.execute(f"CREATE ROLE loyalnest LOGIN CREATEDB PASSWORD '{self.password()}'".encode())
        there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for database, setup in {"loyalnest": WITH_TIMESCALE, "loyalnest_plain": WITHOUT_TIMESCALE}.items():
            if database not in there:
                connection.execute(f"CREATE DATABASE {database} OWNER loyalnest".encode())
            with psycopg.connect(self.url(database, "postgres"), autocommit=True) as inside:
                inside.execute(setup)

    def died(self, deadline: float) -> None:
        # After a kill -9 the old backends hold the data folder until they notice: try until the time is up.
        if "shared memory block" not in tail(self.log, 4) and "lock file" not in tail(self.log, 4):
            super().died(deadline)
        time.sleep(0.5)
        self.launch(self.command())

    def purge(self) -> None:
        if self.folder.exists():
            shutil.rmtree(CACHE / "trixie-postgresql-17" / self.home().relative_to("/"), ignore_errors=True)
        super().purge()

    def environment(self) -> dict[str, str]:
        return {
            "LOYALNEST_TEST_DATABASE": self.url("loyalnest"),
            "LOYALNEST_TEST_DATABASE_PLAIN": self.url("loyalnest_plain"),
        }


WITH_TIMESCALE = "CREATE EXTENSION IF NOT EXISTS timescaledb"
# One server, so the extension's files are there for both, and an owner may create it, as it is a trusted one.
# This database refuses it, as a server without it does.
WITHOUT_TIMESCALE = """
CREATE OR REPLACE FUNCTION public.refuse_extension() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this database is kept without extensions' USING ERRCODE = 'feature_not_supported';
END $$;
DROP EVENT TRIGGER IF EXISTS without_extensions;
CREATE EVENT TRIGGER without_extensions ON ddl_command_start
    WHEN TAG IN ('CREATE EXTENSION') EXECUTE FUNCTION public.refuse_extension();
"""


SERVERS: dict[str, type[Server]] = {"kafka": Kafka, "database": Database}


def up(servers: list[Server]) -> None:
    began = time.monotonic()
    for server in servers:
        server.start()
    for server in servers:
        server.wait()
    everything = [make() for make in SERVERS.values()]
    words = {k: v for server in everything if server.pid() for k, v in server.environment().items()}
    file = STATE / "env"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in words.items()))
    for server in servers:
        print(f"{server.name} is up, pid {server.pid()}; its log is {server.log}")
    print(f"Ready in {time.monotonic() - began:.1f} s. To point LoyalNest at them:")
    keys = {name: f"LOYALNEST_TEST_{name.upper()}" for name in SERVERS}
    print("  .venv/bin/loyalnest up", *(f"--{name} {words[key]}" for name, key in keys.items() if key in words))
    print(f"or take the settings from {file}")


def end(servers: list[Server], kill: bool = False) -> None:
    for server in servers:
        there = server.end(signal.SIGKILL if kill else server.stop_signal)
        print(f"{server.name} {'killed' if kill else 'ended'}" if there else f"{server.name} was not running")


def main() -> int:
    parser = argparse.ArgumentParser(description="Apache Kafka and PostgreSQL with TimescaleDB, without Docker")
    parser.add_argument("action", choices=["up", "down", "status", "restart", "kill", "purge"])
    parser.add_argument("server", nargs="?", choices=list(SERVERS), help="only this one")
    arguments = parser.parse_args()
    servers = [make() for name, make in SERVERS.items() if arguments.server in (None, name)]
    if arguments.action == "status":
        for server in servers:
            print(f"{server.name} {'is up' if server.pid() and server.answers() else 'is down'}")
        return 0 if all(server.pid() for server in servers) else 1
    with locked(STATE):
        if arguments.action in ("down", "restart", "purge"):
            end(servers)
        if arguments.action == "kill":
            end(servers, kill=True)
        if arguments.action in ("up", "restart"):
            up(servers)
        if arguments.action in ("down", "purge") and not arguments.server:
            (STATE / "env").unlink(missing_ok=True)
        if arguments.action == "purge":
            for server in servers:
                server.purge()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ServerError, subprocess.CalledProcessError) as error:
        print(f"servers: {error}", file=sys.stderr)
        sys.exit(1)
