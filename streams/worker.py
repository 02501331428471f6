"""The `loyalnest worker` process."""

import asyncio
import gc
import logging

import uvloop
from prometheus_client import start_http_server

from runtime import kafka, topic_settings
from runtime.settings import Settings
from streams.app import Worker

log = logging.getLogger(__name__)


def main(settings: Settings) -> int:
    """Runs a worker until SIGTERM or SIGINT; the process ends with 1 when something made it stop."""
    try:
        topic_settings.check(settings)
    except kafka.TopicError as error:
        log.error("the worker cannot start: %s", error)
        return 1
    # The folds make many short-lived containers and no cycles: the collector's default pace costs a tenth of them.
    gc.set_threshold(50_000, 20, 50)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = Worker(settings)
    worker.reader.start()
    if settings.worker_port:
        start_http_server(settings.worker_port, addr=settings.api_host)
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
        worker.reader.close()
    return 0
