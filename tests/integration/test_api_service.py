"""The serving process: it says where it listens, ends when asked, and gives its caller time to tidy up."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]

_PROGRAM = """
import sys
from api.server import main
from runtime.settings import Settings

class Publisher:
    def failed(self):
        return None

    async def ready(self):
        return True

    async def publish(self, messages):
        pass

    async def close(self):
        print("closed", flush=True)

settings = Settings(database=sys.argv[1], master_key="A" * 43 + "=", api_port=0)
code = main(settings, Publisher(), lambda address: print(address, flush=True))
print("tidied up", code, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_by_returning(database: str, number: signal.Signals) -> None:
    command = [sys.executable, "-c", _PROGRAM, database]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert httpx.get(f"{address}/readyz").json()["secrets"] is False
        process.send_signal(number)
        said, _ = process.communicate(timeout=15)
        assert (said, process.returncode) == ("closed\ntidied up 0\n", 0)
    finally:
        process.kill()
        process.wait()


def test_a_port_that_is_taken_is_an_error(database: str) -> None:
    program = _PROGRAM.replace("api_port=0", "api_port=int(sys.argv[2])")
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, database], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as first:
        try:
            assert first.stdout is not None
            port = first.stdout.readline().strip().rpartition(":")[2]
            second = [sys.executable, "-c", program, database, port]
            ended = subprocess.run(second, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
            assert ended.returncode != 0
        finally:
            first.kill()
