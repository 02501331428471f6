"""Servers for the tests: an embedded PostgreSQL and broker for all, and the real ones that `make servers` brings up.

`database` and `real_database` give each test a database of its own with every migration applied, and empty.
"""

import gc
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from books.migrate import migrate
from cli.stack.embedded import PARTITIONS, EmbeddedBroker, EmbeddedDatabase
from runtime.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded by the end of it stays: nobody need look through it for garbage, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


#: What a slow test without a timeout of its own counts for, beside the seconds that others may take at most.
_SLOW = 30


def _weight(several: list[pytest.Item]) -> float:
    """How long slow tests of one file take, roughly, beside others: who may take long does, and starts a stack once."""
    markers = [item.get_closest_marker("timeout") for item in several]
    return max(_SLOW if marker is None else marker.args[0] for marker in markers) + _SLOW * (len(several) - 1.0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests first, dealt to the workers of pytest-xdist, the longest of them before the others.

    To each worker `--dist worksteal` gives as long a piece of the list as to the next; who has done theirs takes from
    the end of another's. A slow one among the last would be waited for by all. Those of a file that look at pages are
    one worker's: every other would start a Chromium too, and what it looks at.
    """
    if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))) == 0:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    together: dict[object, list[pytest.Item]] = {}
    for item in slow:
        looks = {"browser", "page"} & {*getattr(item, "fixturenames", ())}
        together.setdefault(item.path if looks else item, []).append(item)
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    weights = [0.0] * workers
    for several in sorted(together.values(), key=_weight, reverse=True):
        least = weights.index(min(weights))
        shares[least].extend(several)
        weights[least] += _weight(several)
    left = len(items)
    items.clear()
    for worker, share in enumerate(shares):
        size = left // (workers - worker)
        more = quick[: max(size - len(share), 0)]
        del quick[: len(more)]
        left -= len(share) + len(more)
        items += share + more


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_mine() -> Iterator[None]:
    """A developer's own LOYALNEST_* settings and .env must not reach the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith("LOYALNEST_")]:
            if not name.startswith("LOYALNEST_TEST_") and name != "LOYALNEST_SERVERS":
                patch.delenv(name)
        patch.setitem(Settings.model_config, "env_file", None)
        yield


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
            # A crash of the machine ends the tests anyway. (Those that kill PostgreSQL start one of their own.)
            # Nothing here lives long enough to be vacuumed, and statistics that come by themselves would change plans.
            for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
                connection.execute(f"ALTER SYSTEM SET {setting} = off".encode())
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


#: All that a migrated database has besides rows. Statistics too: plans follow them. (Not the schema that PostgreSQL
#: makes for a session's temporary tables, and keeps, empty.)
_SHAPE = """
WITH ours AS (SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace)
SELECT 'class', relname, relkind::text, concat(relnatts, relchecks, relhasindex, relhasrules, relhastriggers) FROM ours
UNION ALL
SELECT 'column', relname, attname, concat(atttypid, atttypmod, attnotnull, atthasdef, attisdropped)
FROM pg_attribute a JOIN ours ON ours.oid = attrelid WHERE attnum > 0
UNION ALL
SELECT 'constraint', relname, conname, concat(contype, convalidated)
FROM pg_constraint JOIN ours ON ours.oid = conrelid
UNION ALL
SELECT 'statistics', tablename, attname, '' FROM pg_stats WHERE schemaname = 'public'
UNION ALL
SELECT 'else', nspname, proname, '' FROM pg_namespace LEFT JOIN pg_proc ON pronamespace = pg_namespace.oid
WHERE (pg_namespace.oid >= 16384 OR pg_proc.oid >= 16384) AND nspname !~ '^pg_(toast_)?temp_'
ORDER BY 1, 2, 3, 4
"""

#: Of our role: others' are not ours to end, be it a superuser who looks in or a worker of autovacuum's.
_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user
"""

#: What the migrations themselves leave.
_MIGRATIONS = "SELECT version, checksum FROM schema_migrations ORDER BY 1"

#: TimescaleDB's tables whose rows lie in chunks. One that is empty has its chunks still.
_CHUNKED = "SELECT DISTINCT inhparent::regclass::text FROM pg_inherits"

_RESTART = """
SELECT setval(seqrelid, seqstart, false) FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
WHERE relnamespace = 'public'::regnamespace
"""

#: To PostgreSQL's planner a table that was never vacuumed has ten pages at least: leftovers on them change no plan.
_SMALL = 10 * 8192


class _Databases:
    """Migrated databases of one server. One that a test gives back is emptied, and is another's: quicker than anew.

    Where it differs from what it was in more than rows, it is dropped. To each one connection is kept, to empty it by:
    one that is new has to learn of every table first.
    """

    def __init__(self, server: str, make: Callable[[], str]) -> None:
        """`make` makes one and returns its name."""
        self._server = server
        self._make = make
        self._free: list[str] = []
        self._kept: dict[str, psycopg.Connection[Any]] = {}
        self._like: object = None
        self._filled: sql.Composed

    @contextmanager
    def one(self) -> Iterator[str]:
        name = self._free.pop() if self._free else self._made()
        try:
            yield _named(self._server, name)
        finally:
            if self._emptied(name):
                self._free.append(name)
            else:
                self._kept.pop(name).close()
                _drop(self._server, name)

    def close(self) -> None:
        for name, connection in self._kept.items():
            connection.close()
            _drop(self._server, name)

    def _made(self) -> str:
        name = self._make()
        if self._like is None:
            with psycopg.connect(_named(self._server, name)) as connection:
                self._like = shape, _ = self._seen(connection)
            names = sorted({name for kind, name, what, _ in shape if (kind, what) == ("class", "r")})
            looks = [
                sql.SQL("SELECT {0}, pg_relation_size({0}) WHERE EXISTS (SELECT FROM {1})").format(
                    sql.Literal(name), sql.Identifier(name)
                )
                for name in names
                if name != "schema_migrations"
            ]
            self._filled = sql.SQL(" UNION ALL ").join(looks)
        return name

    def _emptied(self, name: str) -> bool:
        """Whether it is as if it were new."""
        if name in self._kept:
            with suppress(psycopg.OperationalError):  # a test may have ended every connection there was
                return self._empty(self._kept[name])
            self._kept.pop(name).close()
        self._kept[name] = psycopg.connect(_named(self._server, name), autocommit=True)
        return self._empty(self._kept[name])

    def _empty(self, connection: psycopg.Connection[Any]) -> bool:
        connection.execute(_OTHERS, prepare=True)
        if self._seen(connection) != self._like:
            return False
        filled = connection.execute(self._filled, prepare=True).fetchall()
        # TRUNCATE makes new files for a table and all its indexes. What refers to what is all emptied.
        chunked = {table for (table,) in connection.execute(_CHUNKED, prepare=True)}
        large = {table for table, size in filled if size > _SMALL} | chunked
        with connection.transaction():
            for table in {table for table, _ in filled} - large:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            if large:
                tables = sql.SQL(", ").join(map(sql.Identifier, sorted(large)))
                connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(tables))
            connection.execute(_RESTART, prepare=True)
        return True

    def _seen(self, connection: psycopg.Connection[Any]) -> tuple[list[Any], list[Any]]:
        seen = [connection.execute(query, prepare=True).fetchall() for query in (_SHAPE, _MIGRATIONS)]
        return seen[0], seen[1]


@pytest.fixture(scope="session")
def _databases(postgres: str, _template: str) -> Iterator[_Databases]:
    with closing(_Databases(postgres, lambda: _made(postgres, _template))) as databases:
        yield databases


@pytest.fixture
def database(_databases: _Databases) -> Iterator[str]:
    """The URL of an embedded database with every migration applied, and nothing in it."""
    with _databases.one() as url:
        yield url


@pytest.fixture(scope="module")
def module_database(_databases: _Databases) -> Iterator[str]:
    """As `database`, for all tests of a file that only read what it was filled with."""
    with _databases.one() as url:
        yield url


def _named(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    if "://" not in url:
        return make_conninfo(url, dbname=name)
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _database(server: str, base: str, template: str | None = None) -> Iterator[str]:
    name = _made(server, template)
    try:
        yield _named(base, name)
    finally:
        _drop(server, name)


def _made(server: str, template: str | None) -> str:
    name = f"test_{uuid4().hex[:16]}"
    create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        create += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    # Not from within the template: somebody in a database keeps others from copying it.
    with psycopg.connect(_named(server, "postgres"), autocommit=True) as connection:
        _patiently(lambda: connection.execute(create))
    return name


def _drop(server: str, name: str) -> None:
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
def embedded_stream(mock_kafka: str) -> Settings:
    """Settings for an embedded broker: a worker needs no database."""
    return Settings(kafka=mock_kafka, partitions=PARTITIONS, session_timeout=6)


@pytest.fixture
def embedded(embedded_stream: Settings, database: str) -> Settings:
    """Settings for both embedded servers."""
    return embedded_stream.model_copy(update={"database": SecretStr(database)})


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


@pytest.fixture(scope="session")
def _real_databases() -> Iterator[_Databases]:
    yield from _migrated(server_setting("LOYALNEST_TEST_DATABASE"))


@pytest.fixture
def real_database(_real_databases: _Databases) -> Iterator[str]:
    """The URL of a migrated database on a real server with TimescaleDB, and nothing in it."""
    with _real_databases.one() as url:
        yield url


@pytest.fixture(scope="module")
def real_module_database(_real_databases: _Databases) -> Iterator[str]:
    """As `real_database`, for all tests of a file that only read what it was filled with."""
    with _real_databases.one() as url:
        yield url


@pytest.fixture
def real_plain_empty_database() -> Iterator[str]:
    """As `real_empty_database`, where TimescaleDB is refused."""
    url = server_setting("LOYALNEST_TEST_DATABASE_PLAIN")
    yield from _database(url, url, template=_template_of(url))


@pytest.fixture(scope="session")
def _real_plain_databases() -> Iterator[_Databases]:
    url = server_setting("LOYALNEST_TEST_DATABASE_PLAIN")
    yield from _migrated(url, template=_template_of(url))


@pytest.fixture
def real_plain_database(_real_plain_databases: _Databases) -> Iterator[str]:
    """As `real_database`, without TimescaleDB."""
    with _real_plain_databases.one() as url:
        yield url


def _template_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _migrated(server: str, template: str | None = None) -> Iterator[_Databases]:
    def make() -> str:
        name = _made(server, template)
        migrate(_named(server, name))
        return name

    with closing(_Databases(server, make)) as databases:
        yield databases


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
def real_stream(real_kafka: str, topic_prefix: str) -> Settings:
    """Settings for a real Kafka, with topics and groups of this test's own (not made yet), and no database."""
    return Settings(kafka=real_kafka, topic_prefix=topic_prefix, partitions=4)


@pytest.fixture
def real(real_stream: Settings, real_database: str) -> Settings:
    """As `real_stream`, with a database."""
    return real_stream.model_copy(update={"database": SecretStr(real_database)})


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
