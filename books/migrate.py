"""Forward-only migrations from sql/, and what TimescaleDB adds where there is some.

Each file runs once, in a transaction, in the order of its number; its checksum is kept, and an applied file that was
edited is an error. Then TimescaleDB, in the form found (docs: three forms): absent, the Apache edition (hypertables)
or the community edition (also compression). Lacking one never fails; running again changes nothing.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psycopg
from psycopg import sql

from books import schema
from runtime import database

log = logging.getLogger(__name__)

FOLDER = Path(__file__).resolve().parent.parent / "sql"

#: One migration at a time in a database (pg_advisory_lock): "LoyalNe" as a number.
LOCK = 0x4C6F79616C4E65

Form = Literal["absent", "apache", "community"]


class MigrationError(RuntimeError):
    """The database and the files in sql/ contradict each other; the message says how."""


class Report(NamedTuple):
    """What `migrate` found and did: TimescaleDB's form, the hypertables there now, the versions it applied."""

    form: Form
    hypertables: tuple[str, ...]
    applied: tuple[str, ...]
    version: str


class Migration(NamedTuple):
    """A file of sql/: its number, its name, its statements and their SHA-256 (hexadecimal)."""

    version: str
    name: str
    text: str
    checksum: str


def read(folder: Path = FOLDER) -> list[Migration]:
    """The migrations of a folder in order; MigrationError for a file or a number that is not as it should be."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = re.fullmatch(r"(\d{4})_([a-z0-9_]+)\.sql", path.name)
        if match is None:
            raise MigrationError(f"sql/{path.name} is not named like 0001_words.sql")
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        found.append(Migration(match[1], match[2], text, hashlib.sha256(text.encode()).hexdigest()))
    if not found:
        raise MigrationError(f"no migrations in {folder}")
    if [each.version for each in found] != [f"{number:04d}" for number in range(1, len(found) + 1)]:
        raise MigrationError("the migrations' numbers must run 0001, 0002, ... without gap or double")
    return found


def migrate(url: str, folder: Path = FOLDER) -> Report:
    """Bring a database up to date.

    Raises MigrationError where files and database contradict each other, psycopg.Error where PostgreSQL refuses.
    """
    migrations = read(folder)
    # No statement timeout: waiting for another migration, or rewriting a large table, may take long.
    with database.connect(url, "loyalnest migrate", statement_seconds=0, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        applied = _apply(connection, migrations)
        form = _timescale(url, connection)
        hypertables = _hypertables(connection, form)
    for version in applied:
        log.info("applied migration %s", version)
    return Report(form, hypertables, tuple(applied), migrations[-1].version)


def _apply(connection: psycopg.Connection, migrations: list[Migration]) -> list[str]:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (version text PRIMARY KEY, name text NOT NULL,"
        " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
    stored: dict[str, str] = dict(connection.execute("SELECT version, checksum FROM schema_migrations").fetchall())
    unknown = sorted(stored.keys() - {each.version for each in migrations})
    if unknown:
        raise MigrationError(f"the database has migration {unknown[-1]}, which this version does not know")
    applied = []
    for each in migrations:
        if each.version in stored:
            if stored[each.version] != each.checksum:
                raise MigrationError(
                    f"sql/{each.version}_{each.name}.sql was edited after it was applied; write a new one instead"
                )
            continue
        with connection.transaction():
            connection.execute(each.text.encode())
            connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES (%s, %s, %s)",
                [each.version, each.name, each.checksum],
            )
        applied.append(each.version)
    return applied


# --- TimescaleDB -------------------------------------------------------------------------------------------------


def form_of(connection: psycopg.Connection[Any]) -> Form:
    """Which form of TimescaleDB this database has."""
    if not connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone():
        return "absent"
    row = connection.execute("SELECT current_setting('timescaledb.license', true)").fetchone()
    return "community" if row is not None and row[0] == "timescale" else "apache"


def _timescale(url: str, connection: psycopg.Connection) -> Form:
    form = form_of(connection)
    if form != "absent":
        return form
    offered = "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"
    if not connection.execute(offered).fetchone():
        log.info("this server has no TimescaleDB: plain tables")
        return "absent"
    try:
        # A session of its own: without preloading, TimescaleDB ends the session that asks for it.
        with database.connect(url, "loyalnest migrate", autocommit=True) as asking:
            asking.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.Error as error:
        log.warning("TimescaleDB is there but cannot be used (%s): plain tables", database.first_line(error))
        return "absent"
    # And one to look: the extension is loaded only into sessions that begin after it.
    with database.connect(url, "loyalnest migrate", autocommit=True) as looking:
        return form_of(looking)


def _hypertables(connection: psycopg.Connection, form: Form) -> tuple[str, ...]:
    if form == "absent":
        return ()
    growing = {table.name: table.hypertable for table in schema.TABLES if table.hypertable is not None}
    made = [name for name, each in growing.items() if _attempt(connection, name, _make, each)]
    if form == "community":
        for name in made:
            _attempt(connection, name, _compress, growing[name])
    return tuple(made)


def _attempt(connection: psycopg.Connection, name: str, step: Any, *arguments: Any) -> bool:
    """Whether a step of TimescaleDB's succeeded; where it does not, the plain table still serves."""
    try:
        with connection.transaction():
            step(connection, name, *arguments)
    except psycopg.Error as error:
        log.warning("%s stays as it is: %s", name, database.first_line(error))
        return False
    return True


def _make(connection: psycopg.Connection, name: str, each: schema.Hypertable) -> None:
    # No default index on the time column: every query names a shop first, and the keys begin with it.
    connection.execute(
        "SELECT create_hypertable(%s::regclass, %s::name, chunk_time_interval => make_interval(days => %s),"
        " create_default_indexes => false, migrate_data => true, if_not_exists => true)",
        [name, each.column, each.chunk_days],
    )


def _compress(connection: psycopg.Connection, name: str, each: schema.Hypertable) -> None:
    if each.compress_days is None:
        return
    known = "SELECT compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_name = %s"
    row = connection.execute(known, [name]).fetchone()
    if row is not None and not row[0]:
        connection.execute(
            sql.SQL(
                "ALTER TABLE {} SET (timescaledb.compress, timescaledb.compress_segmentby = 'shop',"
                " timescaledb.compress_orderby = {})"
            ).format(sql.Identifier(name), sql.Literal(each.order_by))
        )
    connection.execute(
        "SELECT add_compression_policy(%s::regclass, make_interval(days => %s), if_not_exists => true)",
        [name, each.compress_days],
    )
