"""What the commands share: options, settings, the way to the servers, and errors in one sentence."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from confluent_kafka import KafkaException
from psycopg import AsyncConnection
from pydantic import SecretStr, ValidationError
from rich.console import Console

from cli.stack import home
from events import instants, keys
from events.errors import BadEvent
from runtime import database, logs, topic_settings
from runtime.ports import Publisher
from runtime.settings import Settings

#: Results go to stdout, so that they can be piped; what is said about them to stderr.
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Kafka = Annotated[
    str | None,
    typer.Option("--kafka", help="Kafka's bootstrap servers, as host:port,host:port. Without: an embedded broker."),
]
Database = Annotated[
    str | None,
    typer.Option("--database", help="PostgreSQL's URL. Without: an embedded PostgreSQL in the data folder."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The folder of the embedded servers, keys and logs (LOYALNEST_DATA_DIR).", show_default=False
    ),
]
Shop = Annotated[str, typer.Argument(help="The shop's domain, such as nest.myshopify.com.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


class CommandError(RuntimeError):
    """Something the user can mend; the message is one sentence."""


def read_settings(**given: Any) -> Settings:
    """The settings from the environment and `.env`, with what the command line gave (None: not given)."""
    changes = {name: value for name, value in given.items() if value is not None}
    if "data" in changes:
        changes["data_dir"] = changes.pop("data")
    if "database" in changes:
        changes["database"] = SecretStr(changes["database"])
    settings = Settings(**changes)
    if is_debugging():
        settings = home.changed(settings, log_level="DEBUG")
    return settings


def api_of(settings: Settings) -> str:
    """Where the API is: of the `up` or demo that runs in the data folder, or as it would be started."""
    there = home.running(settings.data)
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host  # noqa: S104
    return str(there["api"]) if there is not None else f"http://{host}:{settings.api_port}"


def is_debugging() -> bool:
    """Whether an error is to be shown with its traceback."""
    return os.environ.get("LOYALNEST_LOG_LEVEL", "").upper() == "DEBUG"


def quiet_logs(settings: Settings) -> None:
    """For commands somebody looks at: warnings only, unless asked for more."""
    logs.set_up("DEBUG" if settings.log_level.upper() == "DEBUG" else "ERROR")


def shop_name(text: str) -> str:
    """A shop as the user wrote it, checked. `nest` is short for nest.myshopify.com."""
    full = text if "." in text else f"{text}.myshopify.com"
    try:
        return keys.shop_domain(full)
    except BadEvent:
        raise typer.BadParameter(f"{text!r} is not a *.myshopify.com domain") from None


def instant(text: str | None) -> datetime:
    """An instant as the user wrote it: RFC 3339 with its offset, a date (its midnight, UTC), or `now`."""
    if text is None or text == "now":
        return datetime.now(UTC)
    try:
        if len(text) == len("2026-01-31"):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        return instants.to_datetime(instants.parse(text))
    except (BadEvent, ValueError):
        raise typer.BadParameter(
            f"{text!r} is not a time such as 2026-01-31T00:00:00Z, a date, or the word now"
        ) from None


@contextmanager
def attached(settings: Settings) -> Iterator[Settings]:
    """Settings whose database can be reached, with its tables in place."""
    quiet_logs(settings)
    with home.attach(settings) as complete:
        yield complete


@contextmanager
def connected(settings: Settings) -> Iterator[tuple[Settings, psycopg.Connection[Any]]]:
    """As `attached`, with a connection that commits by itself."""
    with (
        attached(settings) as complete,
        database.connect(complete.database_url(), "loyalnest", autocommit=True) as connection,
    ):
        yield complete, connection


def new_publisher(settings: Settings) -> Publisher:
    """The way in: the raw history where that is the journal, else Kafka."""
    if settings.journal and settings.kafka is None:
        _check_journal(settings)
    if not settings.journal:
        topic_settings.check_if_there(settings)
    # Here, not above: most commands need no room but their own, and some rooms take a second to load.
    from streams.publisher import JournalPublisher, KafkaPublisher

    return JournalPublisher(settings) if settings.journal else KafkaPublisher(settings)


def _check_journal(settings: Settings) -> None:
    """What is written to the raw history alone never reaches a real Kafka."""
    with database.connect(settings.database_url(), "loyalnest", autocommit=True) as connection:
        fed = connection.execute("SELECT 1 FROM sink_positions WHERE incarnation NOT LIKE 'embedded-%' LIMIT 1")
        if fed.fetchone() is not None:
            raise CommandError("this database is fed from a Kafka: give --kafka too, or set LOYALNEST_KAFKA")


@asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[Publisher]:
    """A publisher, closed in the end."""
    publisher = new_publisher(settings)
    try:
        yield publisher
    finally:
        await publisher.close()


def sentence(error: BaseException) -> str:
    """An error as one sentence for the user, without values that may be secret."""
    if isinstance(error, ValidationError):
        return "; ".join(_problem(error.title, each) for each in error.errors(include_input=False, include_url=False))
    if isinstance(error, psycopg.OperationalError):
        return f"the database cannot be reached: {database.first_line(error)}"
    if isinstance(error, psycopg.errors.UndefinedTable):
        return "the database has no tables yet: run `loyalnest migrate` first"
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is not installed: run `make venv`, or pip install -r requirements.txt"
    if isinstance(error, KafkaException):
        return f"Kafka says: {error.args[0].str()}"
    return database.first_line(error)


def _problem(model: str, each: Any) -> str:
    where = ".".join(map(str, each["loc"]))
    if model == "Settings":
        return f"the setting LOYALNEST_{where.upper()} is wrong: {each['msg']}"
    return f"{where or model}: {each['msg']}"


def asked(database_url: str | None, data: Any, step: Callable[[Settings, AsyncConnection[Any]], Awaitable[Any]]) -> Any:
    """What a step makes of the settings and a connection that commits by itself."""

    async def asking(settings: Settings) -> Any:
        async with await database.connect_async(settings.database_url(), "loyalnest", autocommit=True) as connection:
            return await step(settings, connection)

    with attached(read_settings(database=database_url, data=data)) as settings:
        return asyncio.run(asking(settings))
