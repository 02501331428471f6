"""CDNOW and the demo's store on real servers, by the commands a user types, every process killed on the way.

tests/e2e/test_up.py does the like embedded.
"""

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from cli.shop.player import Player
from cli.shop.store_maker import make_store
from runtime.settings import Settings
from tests.e2e.up import environment, loyalnest
from tests.support import CDNOW, CDNOW_SEGMENTS

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(420)]

SHOP = "cdnow.myshopify.com"
ROOT = Path(__file__).resolve().parent.parent.parent


class System:
    """`loyalnest up` in a process, and the commands beside it."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._options = ["--kafka", settings.kafka_servers(), "--database", settings.database_url()]
        self._settings = {
            "data_dir": str(folder / "data"),
            "topic_prefix": settings.topic_prefix,
            "partitions": str(settings.partitions),
        }
        self.data = folder / "data"
        self._log = folder / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def up(self) -> None:
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "up", "--port", "0", *self._options],
                cwd=ROOT,
                env=environment(self._settings),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 90
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.2)
        self.url = found.group()

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def run(self, *words: str) -> str:
        """A command beside it; what it printed."""
        servers = self._options if words[0] in ("play", "shops") or words[1] == "segments" else self._options[2:]
        return loyalnest(*words, *servers, seconds=240, settings=self._settings).stdout

    def kill(self, name: str) -> None:
        """kill -9 one of its processes."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            if child.cmdline()[-1:] == [name]:
                child.kill()
                return

    def down(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


@pytest.fixture
def system(real: Settings, tmp_path: Path) -> Iterator[System]:
    system = System(tmp_path, real)
    yield system
    system.down()


def test_the_issue_s_figures_whatever_is_killed(system: System) -> None:
    system.up()
    killer = threading.Thread(target=_kill_each, args=(system,), daemon=True)
    killer.start()
    system.run("play", str(CDNOW), "--format", "cdnow", "--shop", SHOP, "--shuffle", "11", "--duplicate", "10")
    killer.join()
    answer = system.run("batch", "segments", "--shop", SHOP, "--as-of", "1998-07-01T00:00:00Z", "--json")
    assert json.loads(answer)["segments"] == CDNOW_SEGMENTS
    assert system.run("batch", "parity", "--shop", SHOP)
    key = re.search(r"ln_\S+", system.run("keys", "create", SHOP, "--scope", "read"))
    assert key is not None
    found = httpx.get(
        f"{system.url}/v1/shops/{SHOP}/segments", headers={"Authorization": f"Bearer {key.group()}"}, timeout=30
    ).json()
    assert {each["segment"]: each["customers"] for each in found["segments"]} == CDNOW_SEGMENTS
    assert sum(each["points_balance"] for each in found["segments"]) == 239_444


def test_the_demo_store(system: System) -> None:
    """The generated shop over real servers, worker and sink killed while it is played; then stream == batch."""
    system.up()
    system.run("shops", "add", "demo.myshopify.com", "--no-batch")
    secret = (system.data / "webhook.secret").read_text().strip()
    store = make_store(time.time_ns() // 1000, customers=400, webhooks=4000)
    killer = threading.Thread(target=_kill_each, args=(system,), daemon=True)
    killer.start()
    posted = asyncio.run(Player(system.url, "demo.myshopify.com", secret).post(store))
    killer.join()
    assert (posted.accepted, posted.refused) == (4000, {})
    report = json.loads(system.run("batch", "segments", "--shop", "demo.myshopify.com", "--json"))
    assert report["customers"] == 400
    assert "what the history says" in system.run("batch", "parity", "--shop", "demo.myshopify.com")


def _kill_each(system: System) -> None:
    for name in ("worker", "sink", "api"):
        time.sleep(5)
        system.kill(name)
