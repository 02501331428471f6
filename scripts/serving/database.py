"""PostgreSQL with TimescaleDB: Debian's, in a folder of its own that debootstrap fills."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import ClassVar

import psycopg

from scripts.serving.server import CACHE, STATE, Server, ServerError, birth, locked, need, run, tail


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


def end_orphan(pid_file: Path, root: Path) -> None:
    """Ends the PostgreSQL of a pid file of its own, if it lives and is chrooted to that root, so surely ours."""
    pid = int(pid_file.read_text().split()[0]) if pid_file.exists() else 0
    if pid and birth(pid) and Path(f"/proc/{pid}/root").resolve() == root.resolve():
        os.kill(pid, signal.SIGINT)
        while birth(pid):
            time.sleep(0.05)


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
        # Of a password of 128 random bits there is nothing to guess, and each client would reckon for 4 ms to connect.
        "scram_iterations": "1",
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
