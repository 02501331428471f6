"""The `loyalnest worker` process."""

import asyncio
import gc
import logging
from typing import Final

import numpy  # noqa: F401 - hashes the keys of chunks (events/keys.py): no chunk need wait until it is loaded
import uvloop

from events import topics
from runtime import health, kafka, topic_settings
from runtime.settings import Settings
from runtime.supervised import health_listener
from streams.worker.app import Worker

log = logging.getLogger(__name__)


#: The folds make many short-lived containers and no cycles: the collector's default pace costs a tenth of them.
COLLECTED: Final = (50_000, 20, 50)

#: The loop moves on between two chunks, and between two slices of a recovery (seconds).
LOOP_SECONDS: Final = 30.0


def waits_for(worker: Worker) -> list[str]:
    """Why the worker does not keep up, in words; called on its loop. Nothing: it does."""
    if not worker.app.tables.actives_ready:
        return ["its tables are being recovered"]
    lag = worker.lag()
    return [f"it is {lag} records behind"] if lag > health.READY_LAG else []


def _kafka(worker: Worker) -> str | None:
    well = kafka.answers(worker.producer, worker.settings.topic(topics.ORDERS))
    return None if well else "Kafka does not answer"


def main(settings: Settings) -> int:
    """Runs a worker until SIGTERM or SIGINT; the process ends with 1 when something made it stop."""
    try:
        topic_settings.check(settings)
    except kafka.TopicError as error:
        log.error("the worker cannot start: %s", error)
        return 1
    gc.set_threshold(*COLLECTED)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        worker = Worker(settings)
    except kafka.TopicError as error:
        log.error("the worker cannot start: %s", error)
        return 1
    worker.reader.start()
    listener = health_listener(settings.worker_host, settings.worker_port)
    if listener is not None:
        pulse = health.Pulse(LOOP_SECONDS)
        loop.call_soon(pulse.follow, loop, lambda: waits_for(worker))
        health.serve(listener, pulse, [lambda: _kafka(worker)])
    runner = worker.app.Worker(
        loop=loop, loglevel=settings.log_level, logging_config=None, redirect_stdouts=False, quiet=True
    )
    try:
        runner.execute_from_commandline()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        worker.guard.stop()
        worker.changelogs.close()
        worker.close()
        worker.reader.close()
    return 0
