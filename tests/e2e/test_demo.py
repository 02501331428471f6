"""`loyalnest demo --once`, smaller than a user's."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.up import loyalnest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def folder() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="loyalnest-"))
    yield parent / "demo"
    shutil.rmtree(parent, ignore_errors=True)


def test_the_demo_plays_a_shop_and_shows_what_came_of_it(folder: Path) -> None:
    words = ("demo", "--once", "--data", str(folder), "--port", "0", "--customers", "400", "--webhooks", "3000")
    ended = loyalnest(*words, seconds=200)
    for name in ("Champions", "Loyal", "At risk", "Dormant", "Prospects"):
        assert name in ended.stdout
    assert "400 customers" in ended.stdout
    said = re.findall(r"^ *(-?[\d,]+(?: +-?[\d,]+){5}) *$", ended.stdout, re.MULTILINE)[0]
    issued, given_back, by_hand, spent, run_out, balance = (int(each.replace(",", "")) for each in said.split())
    assert issued + given_back + by_hand + spent + run_out == balance > 10_000
    assert min(issued, by_hand) > 0 > max(given_back, spent, run_out)
    assert re.search(r"API +http://127\.0\.0\.1:\d+ +docs: http", ended.stdout)
    assert re.search(r"API key +ln_", ended.stdout)
    assert str(folder) in ended.stdout
    assert re.search(r"^ *NEST-\d{3} +\d+ +\d+ +\d+\.0 *$", ended.stdout, re.MULTILINE)
    asked = loyalnest(
        "sql", "--shop", "demo", "--data", str(folder), "SELECT count(*) FROM customers", "--format", "csv"
    )
    assert asked.stdout.split() == ["count_star()", "400"]
    redeemed = json.loads(loyalnest("points", "redemptions", "demo", "--data", str(folder), "--json").stdout)
    assert {each["status"] for each in redeemed} == {"refused", "reserved", "issued", "used", "returned"}
    assert sum(each["status"] == "refused" for each in redeemed) < len(redeemed) / 4
    # Stream and history agree; the data are still there.
    assert "what the history says" in loyalnest("batch", "parity", "--shop", "demo", "--data", str(folder)).stdout


def test_the_demo_deletes_only_what_a_demo_made(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("my only copy")
    ended = loyalnest("demo", "--once", "--data", str(folder), check=False)
    assert ended.returncode == 1
    assert "was not made by a demo" in ended.stderr
    assert (folder / "thesis.txt").exists()
