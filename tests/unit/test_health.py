"""Signs of life come from the loop: a thread that answers says what the loop last said."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from runtime import health
from runtime.health import Pulse


def served(pulse: Pulse, *probes: Callable[[], str | None]) -> str:
    listener = socket.create_server(("127.0.0.1", 0))
    health.serve(listener, pulse, probes)
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def get(address: str, path: str) -> tuple[int, dict[str, Any]]:
    answer = httpx.get(f"{address}{path}", trust_env=False)
    return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else {}


def test_it_answers_on_its_three_paths_and_no_other() -> None:
    pulse = Pulse(30)
    pulse.waiting = []
    address = served(pulse)
    assert get(address, "/healthz")[0] == 200
    assert get(address, "/readyz") == (200, {"status": "ready", "because": []})
    assert "loyalnest_sink_rows_total" in httpx.get(f"{address}/metrics", trust_env=False).text
    for path in ("/", "/anything", "/healthz/", "/metrics/x"):
        assert get(address, path)[0] == 404, path
    assert httpx.post(f"{address}/healthz", trust_env=False).status_code == 501


def test_a_loop_that_hangs_is_neither_ready_nor_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SLOW", 0.3)
    monkeypatch.setattr(health, "_BEAT", 0.05)
    loop, pulse, go_on = asyncio.new_event_loop(), Pulse(1.0), threading.Event()
    loop.call_soon(pulse.follow, loop, list)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        address = served(pulse)
        time.sleep(1.2)
        assert (get(address, "/healthz")[0], get(address, "/readyz")[0]) == (200, 200)
        loop.call_soon_threadsafe(go_on.wait, 20)
        deadline = time.monotonic() + 10
        while get(address, "/healthz")[0] == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status, said = get(address, "/readyz")
        assert (status, said["status"]) == (503, "not ready")
        assert "has not moved" in said["because"][0]
    finally:
        go_on.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_it_says_what_it_waits_for() -> None:
    pulse = Pulse(30)
    assert get(served(pulse), "/readyz") == (503, {"status": "not ready", "because": ["it starts"]})
    pulse.waiting = ["it is 20000 records behind"]
    because = get(served(pulse, lambda: "Kafka does not answer", lambda: None), "/readyz")[1]["because"]
    assert because == ["it is 20000 records behind", "Kafka does not answer"]
