"""The processes of LoyalNest one by one, for those who run them under their own supervisor; and their topics."""

from typing import Annotated, Final

import typer
from confluent_kafka.admin import AdminClient
from rich.text import Text

from books import migrate
from cli.commands import common, show
from cli.commands.common import Data, Database
from cli.stack import home
from events import topics
from runtime import kafka, logs
from runtime.settings import Settings
from runtime.supervised import die_with_parent

Host = Annotated[str | None, typer.Option("--host", help="The address to listen on.", show_default="127.0.0.1")]
Port = Annotated[int | None, typer.Option("--port", help="The port to listen on.", show_default="8000")]

#: Processes of their own have no embedded servers.
RealKafka = Annotated[
    str | None, typer.Option("--kafka", help="Kafka's bootstrap servers, as host:port,host:port.", show_default=False)
]
RealDatabase = Annotated[str | None, typer.Option("--database", help="PostgreSQL's URL.", show_default=False)]
Prefix = Annotated[str | None, typer.Option("--topic-prefix", help="Put before every topic's name.")]

#: Whoever gave a wrong address is told within so long (seconds).
_REACHED: Final = 5.0

topics_app = typer.Typer(no_args_is_help=True, help="Kafka's topics.")


def of_its_own(settings: Settings, *, kafka: bool = True) -> Settings:
    """Settings of a process that runs until it is told to end. It needs real servers, or `up` around it."""
    die_with_parent()
    logs.set_up(settings.log_level)
    needed = (("--kafka", settings.kafka), ("--database", settings.database))
    for name, value in needed if kafka else needed[1:]:
        if value is None:
            raise common.CommandError(
                f"a process of its own needs {name} (or LOYALNEST_{name[2:].upper()});"
                " `loyalnest up` starts all of them with embedded servers"
            )
    return settings


def worker(kafka_servers: RealKafka = None, database: RealDatabase = None) -> None:
    """Run one worker: it folds orders and customers into points and RFM. Start several to share the load."""
    settings = of_its_own(common.read_settings(kafka=kafka_servers, database=database))
    from streams.worker import main as program

    raise typer.Exit(program.main(settings))


def sink(kafka_servers: RealKafka = None, database: RealDatabase = None) -> None:
    """Run the history sink: every topic into the database, each record once."""
    settings = of_its_own(common.read_settings(kafka=kafka_servers, database=database))
    from streams.sink import main as program

    raise typer.Exit(program.main(settings))


def api(
    kafka_servers: RealKafka = None,
    database: RealDatabase = None,
    host: Host = None,
    port: Port = None,
) -> None:
    """Run the API: webhooks in, results out, the docs at /docs."""
    settings = of_its_own(common.read_settings(kafka=kafka_servers, database=database, api_host=host, api_port=port))
    from api import server

    raise typer.Exit(server.main(settings, common.new_publisher(settings)))


def schedule(kafka_servers: RealKafka = None, database: RealDatabase = None) -> None:
    """Run every shop's batch once a day, at its program's local time."""
    settings = of_its_own(common.read_settings(kafka=kafka_servers, database=database))
    from batch import schedule as program

    raise typer.Exit(program.main(settings, common.new_publisher(settings)))


def migrate_database(database: Database = None, data: Data = None) -> None:
    """Bring the database's tables up to date. Running it again changes nothing."""
    settings = common.read_settings(database=database, data=data)
    common.quiet_logs(settings)
    with common.err.status("migrating the database"), home.attach(settings) as complete:
        report = migrate.migrate(complete.database_url())
    applied = ", ".join(report.applied) or "nothing new"
    timescale = {"absent": "no TimescaleDB (plain tables)"}.get(report.form, f"TimescaleDB, {report.form} edition")
    common.out.print(f"The database is at version {report.version} (applied: {applied}); {timescale}.")


@topics_app.command("create")
def create_topics(
    kafka_servers: RealKafka = None,
    partitions: Annotated[
        int | None, typer.Option("--partitions", help="Partitions of every keyed topic.", show_default="8")
    ] = None,
    replication: Annotated[
        int | None, typer.Option("--replication", help="Replicas of every topic.", show_default="1")
    ] = None,
    prefix: Prefix = None,
) -> None:
    """Make LoyalNest's topics on a Kafka, with their settings. Running it again changes nothing."""
    settings = _of_kafka(kafka_servers, partitions, replication, prefix)
    with common.err.status("making the topics"):
        made = kafka.create_topics(settings, _REACHED)
    for name in made:
        common.out.print(f"made {name}")
    common.out.print(f"{len(made)} topics made; all {len(kafka.wanted(settings))} are there.")


@topics_app.command("list")
def list_topics(kafka_servers: RealKafka = None, prefix: Prefix = None) -> None:
    """Show LoyalNest's topics: what each carries, and whether a Kafka has it."""
    settings = common.read_settings(kafka=kafka_servers, topic_prefix=prefix)
    there = _partitions(settings) if settings.kafka else {}
    for topic in topics.ALL:
        name = settings.topic(topic.name)
        found = there.get(name) if settings.kafka else (settings.partitions if topic.keyed else 1)
        count = "1 partition" if found == 1 else f"{found} partitions" if found else "not made yet"
        cleanup = "compacted" if topic.compacted else "kept for ever" if topic.retention_ms < 0 else _kept(topic)
        show.block(Text(name), Text(topic.carries), Text(f"{count}, {cleanup}"))


def _kept(topic: topics.Topic) -> str:
    return f"kept for {topic.retention_ms // topics.DAY_MS} days"


def _partitions(settings: Settings) -> dict[str, int]:
    common.quiet_logs(settings)
    return kafka.partitions(AdminClient(kafka.client_config(settings)), _REACHED)


def _of_kafka(servers: str | None, partitions: int | None, replication: int | None, prefix: str | None) -> Settings:
    settings = common.read_settings(kafka=servers, partitions=partitions, replication=replication, topic_prefix=prefix)
    if settings.kafka is None:
        raise common.CommandError("which Kafka? Give --kafka host:port, or set LOYALNEST_KAFKA")
    common.quiet_logs(settings)
    return settings
