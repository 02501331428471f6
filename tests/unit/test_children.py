"""A process of `up` is asked for signs of life, and keeps its port over its lives."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.stack import children
from cli.stack.children import Child

_ANSWERS = """
import time
from runtime import health
from runtime.supervised import health_listener
pulse = health.Pulse(30)
pulse.waiting = []
health.serve(health_listener("127.0.0.1", 0), pulse)
while True:
    pulse.beat()
    time.sleep(0.05)
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(children, "_ASK_EVERY", 0.1)
    monkeypatch.setattr(children, "_ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Child("one", ("-",), dict(os.environ), tmp_path / "one.log", listener)
        made._command = [sys.executable, "-c", _ANSWERS]
        made.start()
        try:
            yield made, f"http://127.0.0.1:{listener.getsockname()[1]}/healthz"
        finally:
            made.kill()
            made.wait(5)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_process_that_hangs_gives_no_sign_and_one_started_anew_does(child: tuple[Child, str]) -> None:
    one, address = child
    until(lambda: one._sign is not None)
    assert one.silent < 1
    os.kill(one.pid, signal.SIGSTOP)
    until(lambda: one.silent > 1)
    one.kill()
    assert one.exit_code == -signal.SIGKILL
    # Nobody is refused meanwhile: the port is held by who starts it.
    one.wait(0)
    one.start()
    assert one.silent == 0.0
    assert httpx.get(address, timeout=20, trust_env=False).status_code == 200
    until(lambda: one._sign is not None)


def test_a_log_that_is_full_moves_aside_and_no_line_of_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOG_BYTES", 100_000)
    one = Child("one", ("-",), dict(os.environ), tmp_path / "one.log")
    one._command = [sys.executable, "-c", "for number in range(20_000): print(f'line {number:06}')"]
    one.start()
    one.wait(20)
    logs = [tmp_path / "one.log.1", tmp_path / "one.log"]
    assert all(0 < log.stat().st_size <= 100_000 for log in logs)
    said = b"".join(log.read_bytes() for log in logs).decode().splitlines()
    assert said == [f"line {number:06}" for number in range(20_000)][-len(said) :]
    assert len(said) > 8_000
    assert one.last_line() == "line 019999"
