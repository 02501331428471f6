"""One run: its own topics and database, moves, and a check after each so many."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from confluent_kafka.admin import AdminClient
from psycopg import sql

from books.migrate import migrate
from runtime import kafka
from runtime.settings import Settings
from scripts.chaos.crew import SESSION_SECONDS, Crew, Process
from scripts.chaos.judge import Judge
from scripts.chaos.load import SHOP, Chaos, Load

REST_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 300.0


@contextmanager
def world(kafka_servers: str, database: str, partitions: int, store: str = "memory") -> Iterator[Settings]:
    """Topics and a database of this run alone; both are gone at its end."""
    name = f"chaos_{uuid4().hex[:10]}"
    parts = urlsplit(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = urlunsplit(parts._replace(path=f"/{name}"))
    settings = Settings(
        kafka=kafka_servers,
        database=url,
        topic_prefix=f"{name}-",
        partitions=partitions,
        session_timeout=SESSION_SECONDS,
        store=store,
    )
    try:
        migrate(url)
        kafka.create_topics(settings)
        yield settings
    finally:
        admin = AdminClient({"bootstrap.servers": kafka_servers})
        ours = [topic for topic in admin.list_topics(timeout=10).topics if topic.startswith(settings.topic_prefix)]
        for answer in admin.delete_topics(ours).values() if ours else ():
            with suppress(Exception):
                answer.result(10)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run(
    settings: Settings,
    folder: Path,
    rebalances: int,
    seed: int,
    rate: float = 150.0,
    rest_seconds: float = REST_SECONDS,
    every: int = 10,
    rebuild: bool = True,
) -> None:
    """`rebalances` moves, a check after each `every`, then a rebuild and a batch run; Chaos at a difference."""
    chance = random.Random(seed)
    load = Load(settings, random.Random(seed + 1), rate)
    crew, judge = Crew(settings, folder, chance), Judge(settings, load, rest_seconds)
    try:
        crew.start()
        for done in range(1, rebalances + 1):
            load.go()
            crew.move()
            time.sleep(chance.choice((0.3, 1, 2, 4)))
            if done % every == 0 or done == rebalances:
                check(load, crew, judge, f"{done} moves")
        if rebuild:
            crew.end()
            again(Process(settings, folder, "rebuild", "rebuild", "--yes"), "forgetting", chance)
            crew.start()
            load.go()
            time.sleep(4)
            check(load, crew, judge, "a rebuild")
            words = "batch", "segments", "--shop", SHOP, "--despite-gates"
            again(Process(settings, folder, "batch", *words), "", chance)
            check(load, crew, judge, "a batch run")
    finally:
        load.end()
        crew.end()
        judge.close()


def check(load: Load, crew: Crew, judge: Judge, after: str) -> None:
    """Everybody is there, nothing comes in any more, and all must be at rest and right."""
    load.pause()
    crew.everyone()
    crew.wait_until_started()
    seconds = judge.rest()
    decided = judge.check()
    crew.check_sink()
    if surprises := crew.surprises():
        raise Chaos("\n  ".join(["workers stopped by themselves", *surprises]))
    print(
        f"{after} ({listed(crew.moves)}), {crew.assignments()} times partitions given, {load.sent} webhooks,"
        f" {len(load.orders)} orders, {len(load.requests)} requests ({listed(decided)},"
        f" {len(load.cancelled)} cancelled), {len(load.awards)} awards, {load.merges} merges,"
        f" {(load.now - load.began).days} days, {load.programs} programs: at rest after {seconds:.1f} s,"
        " nothing lost, parity",
        flush=True,
    )


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def again(made: Process, begun: str, chance: random.Random) -> None:
    """A command that dies on its way, some time after it has said how far it is, and then is run once more."""
    made.start()
    while made.alive and begun not in made.since_start():
        time.sleep(0.1)
    time.sleep(chance.uniform(0, 8))
    made.end()
    made.start()
    if made.wait(AGAIN_SECONDS):
        raise Chaos(f"{made.name} was broken off and cannot be run again: {made.since_start()[-2000:]}")
