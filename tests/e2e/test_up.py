"""`loyalnest up` and `play` as a user runs them, with processes killed at any moment."""

import os
import re
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from batch import parity
from cli.stack import home
from events import instants, topics
from tests.e2e.up import Up, loyalnest, up, wait
from tests.support import CDNOW, CDNOW_SEGMENTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CUT_POINTS = ([37, 98, 160, 247], [1, 1, 3, 4], [2376, 4298, 8047, 17322])
POINTS = 239_444


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not under pytest's own folder: the embedded server's user must be able to enter it.
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    yield parent / "data"
    shutil.rmtree(parent, ignore_errors=True)


def _parity(stack: Up, shop: str, seconds: float = 60) -> None:
    """The stream's tables become what the history says."""
    settings, deadline = stack.settings(), time.monotonic() + seconds
    while differences := parity.main(settings, f"{shop}.myshopify.com"):
        assert time.monotonic() < deadline, differences
        time.sleep(1)


def _rows(stack: Up, query: str, *parameters: Any) -> list[Any]:
    with psycopg.connect(stack.settings().database_url()) as connection:
        return connection.execute(query.encode(), parameters).fetchall()


def _answers(stack: Up) -> bool:
    try:
        return bool(_rows(stack, "SELECT 1"))
    except psycopg.OperationalError:
        return False


def _play(stack: Up, shop: str, *words: str) -> str:
    return stack.run("play", str(CDNOW), "--format", "cdnow", "--shop", shop, *words)


def _check_cdnow(stack: Up, shop: str) -> None:
    report = stack.json("batch", "segments", "--shop", shop, "--as-of", "1998-07-01T00:00:00Z")
    assert report["segments"] == CDNOW_SEGMENTS
    assert report["customers"] == 2357
    domain = f"{shop}.myshopify.com"
    cut_points = _rows(stack, "SELECT recency, frequency, monetary FROM cut_points WHERE shop = %s", domain)
    assert cut_points == [CUT_POINTS]
    live = dict(_rows(stack, "SELECT segment, count(*) FROM customers WHERE shop = %s GROUP BY 1", domain))
    assert live == CDNOW_SEGMENTS
    balance = _rows(stack, "SELECT sum(balance)::bigint FROM customers WHERE shop = %s", domain)
    ledger = _rows(stack, "SELECT sum(points)::bigint FROM points_transactions WHERE shop = %s", domain)
    assert balance == ledger == [(POINTS,)]
    _parity(stack, shop)


def test_cdnow_gives_the_known_figures_in_any_order_and_with_duplicates(folder: Path) -> None:
    with up(folder) as stack:
        assert "7,611 webhooks accepted" in _play(stack, "cdnow", "--shuffle", "7", "--duplicate", "10")
        _check_cdnow(stack, "cdnow")
        assert "6,919 webhooks accepted" in _play(stack, "cdnow")  # once more: the same deliveries
        _check_cdnow(stack, "cdnow")
        # A shop made by `play` has no nightly batch.
        assert '"batch_at": null' in stack.run("programs", "get", "cdnow")


def _orders(folder: Path, count: int = 600) -> Path:
    """A CSV of orders, quicker to play than CDNOW: a balance of 34.50 each on average."""
    rows = (f"{n % 160},2026-0{n % 9 + 1}-1{n % 8},{n % 70}.00" for n in range(count))
    file = folder.parent / "orders.csv"
    file.write_text("\n".join(["customer,date,amount", *rows]) + "\n")
    return file


def _customers(stack: Up) -> list[Any]:
    return _rows(stack, "SELECT customer_id, balance, segment, monetary, now FROM customers ORDER BY customer_id")


def test_any_process_may_be_killed_at_any_moment(folder: Path) -> None:
    file = _orders(folder)
    with up(folder) as stack:
        for number, victim in enumerate(("worker", "sink", "api", "worker")):
            with ThreadPoolExecutor(1) as pool:
                playing = pool.submit(stack.run, "play", str(file), "--shop", "nest", "--shuffle", str(number))
                wait(lambda: _rows(stack, "SELECT 1 FROM raw_events WHERE stream = %s LIMIT 1", topics.ORDERS))
                stack.kill(victim)
                assert "600 webhooks accepted" in playing.result()
        os.kill(int((folder / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        wait(lambda: "PostgreSQL ended" in stack.said(), what="word of PostgreSQL's end")
        wait(lambda: _answers(stack), what="the database")
        _parity(stack, "nest", seconds=90)
        assert _rows(stack, "SELECT sum(balance)::bigint FROM customers") == [(sum(n % 70 for n in range(600)),)]


def _kill_all_of_it(stack: Up) -> None:
    """kill -9 of `up` alone: its processes go with it."""
    assert stack.process is not None
    family = [each for each in stack.descendants() if "cli.main" in " ".join(each.cmdline())]
    stack.process.kill()
    stack.process.wait()
    _, left = psutil.wait_procs(family, timeout=30)
    assert not left


def _become(stack: Up, before: list[Any]) -> None:
    """The customers become what they were, and the history says so.

    A look at them after another at the history would not do: a replay that begins between the two tells old numbers.
    """

    def as_before() -> bool:
        return not parity.main(stack.settings(), "nest.myshopify.com") and _customers(stack) == before

    wait(as_before, 90, what="all as before")


def test_a_restart_keeps_everything_and_a_rebuild_makes_it_anew(folder: Path) -> None:
    with up(folder, as_users_do=True) as stack:
        stack.run("play", str(_orders(folder)), "--shop", "nest")
        stack.run("batch", "segments", "--shop", "nest", "--as-of", "2026-10-01")
        _parity(stack, "nest")
        before = _customers(stack)
        key = stack.run("keys", "create", "nest").strip()
        assert stack.stop() == 0
        assert home.running(folder) is None
        # Nothing runs, and what was kept can be asked for.
        assert "160" in stack.run("shops", "list")
        assert key.split("_")[1] in stack.run("keys", "list", "nest")
        stack.start()
        _become(stack, before)
        _kill_all_of_it(stack)
        stack.start()  # takes over what the dead one left
        _become(stack, before)
        _rows(stack, "DELETE FROM customers WHERE customer_id > '5' RETURNING 1")
        assert "empty" in stack.run("rebuild")
        _become(stack, before)


def test_what_will_not_get_better_ends_it_in_one_sentence(folder: Path) -> None:
    words = ("up", "--data", str(folder), "--port", "0")
    ended = loyalnest(*words, check=False, settings={"master_key": "sesame"})
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert re.match("loyalnest: the (api|fulfilment|notices) ended with exit code 1", last)
    assert "LOYALNEST_MASTER_KEY must be 32 bytes" in last
    assert "Traceback" not in ended.stderr
    assert not (folder / "postgres" / "postmaster.pid").exists()


def _hang_and_be_started_again(stack: Up) -> None:
    """The API's exit code would say nothing: it does not end."""
    hung = stack.pid("api")
    os.kill(hung, signal.SIGSTOP)
    wait(lambda: "the api has given no sign of life" in stack.said(), 90, "word of the silence")
    wait(lambda: stack.pid("api") != hung, what="another life")
    assert not psutil.pid_exists(hung)
    # At the same address, and nobody was refused meanwhile.
    assert urllib.request.urlopen(f"{stack.announced['api']}/readyz", timeout=60).status == 200


def test_a_shop_added_before_is_there_what_hangs_is_started_again_and_sigterm_leaves_nothing(folder: Path) -> None:
    said = loyalnest("shops", "add", "nest", "--currency", "EUR", "--data", str(folder))
    assert "takes effect when" in said.stderr
    again = loyalnest("shops", "add", "nest", "--data", str(folder), check=False)
    assert (again.returncode, "there already" in again.stderr) == (1, True)
    with up(folder, as_users_do=True) as stack:
        second = loyalnest("up", "--data", str(folder), "--port", "0", check=False)
        assert (second.returncode, "another LoyalNest uses" in second.stderr) == (1, True)
        assert stack.announced["api"] in stack.said()  # and the first one is where it was
        wait(lambda: "EUR" in stack.run("shops", "list"), what="the shop")
        now = instants.text(instants.parse("2099-01-01T00:00:00Z"))
        stack.run("programs", "set", "nest", "--points-per-unit", "2", "--from", now)
        assert '"points_per_unit": "2"' in stack.run("programs", "get", "nest")
        _hang_and_be_started_again(stack)
        family = stack.descendants()
        server = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
        assert len(family) >= 3
        assert stack.stop() == 0
        psutil.wait_procs(family, timeout=5)
        assert not [each for each in family if each.is_running()]
        assert not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE
