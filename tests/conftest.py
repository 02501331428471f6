"""Servers for the tests: an embedded PostgreSQL and broker for all, and the real ones that `make servers` brings up.

`database` and `real_database` give each test a database of its own with every migration applied.
"""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg import sql
from psycopg.conninfo import make_conninfo

from books.migrate import migrate
from cli.stack.embedded import PARTITIONS, EmbeddedBroker, EmbeddedDatabase
from runtime.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _no_settings_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own LOYALNEST_* settings and .env must not reach the tests."""
    for name in [each for each in os.environ if each.startswith("LOYALNEST_")]:
        if not name.startswith("LOYALNEST_TEST_") and name != "LOYALNEST_SERVERS":
            monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command that runs in the tests' own process sets up logging, and the next test would hear nothing."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


# --- embedded ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an embedded PostgreSQL that lives as long as the tests do. It has no TimescaleDB."""
    # Not under pytest's own folder: the server's user must be able to enter it.
    folder = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    server = EmbeddedDatabase(folder / "database")
    try:
        url = server.start()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # a crash of the machine ends the tests anyway
            connection.execute("SELECT pg_reload_conf()")
        yield url
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _template(postgres: str) -> str:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE migrated")
    migrate(make_conninfo(postgres, dbname="migrated"))
    return "migrated"


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """The URL of a fresh embedded database without any table."""
    yield from _database(postgres, postgres)


@pytest.fixture
def database(postgres: str, _template: str) -> Iterator[str]:
    """The URL of a fresh embedded database with every migration applied."""
    yield from _database(postgres, postgres, template=_template)


def _named(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    if "://" not in url:
        return make_conninfo(url, dbname=name)
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _database(server: str, base: str, template: str | None = None) -> Iterator[str]:
    name = f"test_{uuid4().hex[:16]}"
    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    # Not from within the template: somebody in a database keeps others from copying it.
    with psycopg.connect(_named(server, "postgres"), autocommit=True) as connection:
        _patiently(lambda: connection.execute(create))
    try:
        yield _named(base, name)
    finally:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(_named(server, "postgres"), autocommit=True) as connection:
            _patiently(lambda: connection.execute(drop))


def _patiently(step: Callable[[], object]) -> None:
    """A database that others are looking into (a worker of TimescaleDB's, another test run) cannot be copied."""
    for pause in (0.2, 0.5, 1, 2, 4):
        try:
            step()
        except (psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege):
            time.sleep(pause)
        else:
            return
    step()


@pytest.fixture
def mock_kafka() -> Iterator[str]:
    """The address of an embedded broker of this test alone, with all topics (PARTITIONS partitions each)."""
    with closing(EmbeddedBroker()) as broker:
        yield broker.servers


@pytest.fixture
def embedded(mock_kafka: str, database: str) -> Settings:
    """Settings for both embedded servers."""
    return Settings(kafka=mock_kafka, database=database, partitions=PARTITIONS, session_timeout=6)


# --- real --------------------------------------------------------------------------------------------------------


def server_setting(name: str) -> str:
    """An address of `make servers`, from the environment or its file.

    Without one the calling test is skipped, or fails when CI=true: a skip must not lie.
    """
    folder = Path(os.environ.get("LOYALNEST_SERVERS") or ROOT / ".servers")
    file = folder / "env"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    found = os.environ.get(name) or dict(line.split("=", 1) for line in lines if "=" in line).get(name)
    if found:
        return found
    message = f"needs a real server: run `make servers`, or set {name}"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def real_kafka() -> str:
    """The address of a real Kafka. Use a topic prefix and a group of the test's own."""
    return server_setting("LOYALNEST_TEST_KAFKA")


@pytest.fixture
def real_empty_database() -> Iterator[str]:
    """The URL of a fresh database without any table on a real server with TimescaleDB."""
    url = server_setting("LOYALNEST_TEST_DATABASE")
    yield from _database(url, url)


@pytest.fixture
def real_database(real_empty_database: str) -> str:
    """The URL of a fresh, migrated database on a real server with TimescaleDB."""
    migrate(real_empty_database)
    return real_empty_database


@pytest.fixture
def real_plain_empty_database() -> Iterator[str]:
    """As `real_empty_database`, where TimescaleDB is refused."""
    url = server_setting("LOYALNEST_TEST_DATABASE_PLAIN")
    yield from _database(url, url, template=urlsplit(url).path.lstrip("/"))


@pytest.fixture
def real_plain_database(real_plain_empty_database: str) -> str:
    """As `real_database`, without TimescaleDB."""
    migrate(real_plain_empty_database)
    return real_plain_empty_database


@pytest.fixture
def topic_prefix(real_kafka: str) -> Iterator[str]:
    """A prefix for topics on the real Kafka that is this test's own; what was made under it is deleted again."""
    prefix = f"test-{uuid4().hex[:12]}-"
    yield prefix
    admin = AdminClient({"bootstrap.servers": real_kafka, "log_level": 2})
    made = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    if made:
        for answer in admin.delete_topics(made, request_timeout=10).values():
            answer.result(15)


@pytest.fixture
def real(real_kafka: str, real_database: str, topic_prefix: str) -> Settings:
    """Settings for real servers, with topics and groups of this test's own (not made yet)."""
    return Settings(kafka=real_kafka, database=real_database, topic_prefix=topic_prefix, partitions=4)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a fuzz test says may hold half a surrogate pair: a worker could not tell it, and the whole run would end."""
    report = yield
    report.sections = [(title, _encodable(said)) for title, said in report.sections]
    if report.failed and (said := str(report.longrepr)) != (plain := _encodable(said)):
        report.longrepr = plain
    return report


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
