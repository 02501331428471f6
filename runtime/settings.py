"""Every setting, from the environment (`LOYALNEST_*`) or a `.env` file; docs/operations.md lists them."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class OperatorSettings(BaseSettings):
    """What an operator sets. With neither `kafka` nor `database`, both run embedded, to try it."""

    model_config = SettingsConfigDict(env_prefix="LOYALNEST_", env_file=".env", extra="ignore", frozen=True)

    kafka: Annotated[str | None, Field(description="Kafka's bootstrap servers; embedded without")] = None
    database: Annotated[SecretStr | None, Field(description="PostgreSQL's URL; embedded without")] = None
    data_dir: Annotated[Path, Field(description="where embedded servers and the master key are kept")] = Path(
        "~/.local/share/loyalnest"
    )
    lake_dir: Annotated[
        Path | None, Field(description="where the lake's Parquet files are kept; `lake` in the data folder without")
    ] = None
    lake_url: Annotated[
        str | None,
        Field(
            pattern="^(s3|gs|az)://[^@?#]+$",
            description="an object store that holds the lake (s3://bucket/folder, gs://, az://); `lake_dir` then keeps"
            " copies, and the store's own variables say who may read it",
        ),
    ] = None
    analytics_dir: Annotated[
        Path | None, Field(description="where the analysts' files are made; `analytics` in the data folder without")
    ] = None
    parity_hours: Annotated[
        int, Field(ge=0, description="how often the schedule holds every shop's tables against its history; 0: never")
    ] = 24
    batch_gates: Annotated[bool, Field(description="a batch is held against its quality gates before it publishes")] = (
        True
    )
    batch_analytics: Annotated[
        bool, Field(description="after each scheduled batch its shop's analysts' file is made anew")
    ] = True
    master_key: Annotated[
        SecretStr | None,
        Field(description="32 random bytes in base64: wraps customers' keys; embedded: a file; NEW,OLD while rotated"),
    ] = None
    shopify_secrets: Annotated[
        list[SecretStr],
        NoDecode,
        Field(description="the app's client secrets, comma separated; two while one is rotated"),
    ] = []
    shopify_client_id: Annotated[
        str | None,
        Field(description="the app's client id: lets Shopify's admin open the dashboard by a session token"),
    ] = None
    topic_prefix: Annotated[str, Field(description="put before every topic's name")] = ""
    partitions: Annotated[int, Field(ge=1, le=1024, description="partitions of every keyed topic")] = 8
    replication: Annotated[int, Field(ge=1, le=7, description="replicas of every topic")] = 1
    group: Annotated[str, Field(description="the worker's consumer group and the prefix of its tables")] = "loyalnest"
    worker_id: Annotated[
        str | None, Field(description="a worker's lasting name: it comes back to its partitions at once")
    ] = None
    session_timeout: Annotated[
        float, Field(ge=6, le=60, description="seconds until a dead worker's partitions move on")
    ] = 10.0
    store: Annotated[
        Literal["memory", "rocksdb"],
        Field(
            description="where a worker keeps its tables: in memory, or in files in its data folder, for more customers"
            " than fit there and a restart that reads only what is new; embedded always in memory"
        ),
    ] = "memory"
    store_cache_mib: Annotated[
        int, Field(ge=16, le=1_000_000, description="MiB of memory that a worker's files are cached in")
    ] = 256
    chunk_records: Annotated[int, Field(ge=1, description="records at most in one chunk of a partition")] = 2000
    sink_batch: Annotated[int, Field(ge=1, description="records at most in one transaction of the sink")] = 5000
    batch_runs: Annotated[
        int,
        Field(
            ge=1,
            description="batch runs of a shop whose standings are kept: for movement, and where the lake cannot tell",
        ),
    ] = 60
    dead_letter_days: Annotated[int, Field(ge=1, le=36_500, description="days until a dead letter is removed")] = 365
    dead_body_days: Annotated[
        int, Field(ge=1, le=36_500, description="days until its sealed body is, which may hold anybody's data")
    ] = 90
    api_host: Annotated[str, Field(description="the address the API listens on")] = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65535, description="the API's port; 0 takes a free one")] = 8000
    api_docs: Annotated[bool, Field(description="the API shows /docs and /openapi.json to whoever asks")] = True
    api_metrics: Annotated[bool, Field(description="the API shows /metrics to whoever asks")] = True
    api_key_rate: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="requests a minute of one API key or dashboard session, to one process; 0: no limit",
        ),
    ] = 3000
    api_address_rate: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="requests a minute from one address, to one process; 0: no limit",
        ),
    ] = 6000
    api_proxies: Annotated[
        str,
        Field(
            description="addresses and networks, comma separated, of the proxies whose X-Forwarded-For says who asks"
            " (and X-Forwarded-Proto how)"
        ),
    ] = "127.0.0.1"
    notices_private: Annotated[
        bool,
        Field(
            description="notices may go to private, loopback and link-local addresses, and by http: to try it, or where"
            " whoever may set endpoints is one of yours"
        ),
    ] = False
    expiring_days: Annotated[
        list[Annotated[int, Field(ge=1, le=30)]],
        NoDecode,
        Field(
            min_length=1,
            description="how many days before points run out a night's batch tells of it (points.expiring), comma"
            " separated, 30 at most",
        ),
    ] = [30, 7]
    fulfilment_private: Annotated[
        bool,
        Field(
            description="discounts may be made at private, loopback and link-local addresses, and by http: to try it"
        ),
    ] = False
    fulfilment_hours: Annotated[
        int,
        Field(
            ge=1,
            le=720,
            description="hours of failures until a redemption's discount is given up and its points return",
        ),
    ] = 24
    worker_host: Annotated[
        str, Field(description="the address of that port of a worker, sink, schedule, notices or fulfilment")
    ] = "127.0.0.1"
    worker_port: Annotated[
        int,
        Field(
            ge=0,
            le=65535,
            description="the metrics and health port of a worker, sink, schedule, notices or fulfilment; 0 for none",
        ),
    ] = 0
    log_level: Annotated[str, Field(description="DEBUG, INFO, WARNING or ERROR")] = "INFO"

    @field_validator("shopify_secrets", "expiring_days", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @cached_property
    def data(self) -> Path:
        """`data_dir` with `~` resolved."""
        return self.data_dir.expanduser()

    @cached_property
    def lake(self) -> Path:
        """The lake's folder."""
        return self.data / "lake" if self.lake_dir is None else self.lake_dir.expanduser()

    @cached_property
    def tables(self) -> Path:
        """Where a worker's tables are, if in files. Two workers of one machine have names, or folders, of their own."""
        return self.data / "tables" / f"{self.topic_prefix}{self.group}" / (self.worker_id or "worker")

    def analytics_file(self, shop: str) -> Path:
        """A shop's analysts' file, which holds that shop alone."""
        folder = self.data / "analytics" if self.analytics_dir is None else self.analytics_dir.expanduser()
        return folder / shop / "analytics.duckdb"

    def topic(self, name: str) -> str:
        """A topic's name on the broker."""
        return f"{self.topic_prefix}{name}"

    def database_url(self) -> str:
        """The database's URL; ValueError when none is set."""
        if self.database is None:
            raise ValueError("LOYALNEST_DATABASE is not set")
        return self.database.get_secret_value()

    def kafka_servers(self) -> str:
        """Kafka's bootstrap servers; ValueError when none are set."""
        if self.kafka is None:
            raise ValueError("LOYALNEST_KAFKA is not set")
        return self.kafka


class Settings(OperatorSettings):
    """All that a process is told: what the operator sets, and what `up` tells the processes that it starts."""

    ready_file: Annotated[
        Path | None, Field(description="a file the worker writes its process id to once its tables are recovered")
    ] = None
    incarnation: Annotated[str, Field(description="which broker's life the sink's positions belong to")] = "kafka"
    journal: Annotated[bool, Field(description="inputs are committed to the raw history first: embedded")] = False
