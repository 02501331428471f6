"""What every command prints for people can be read at 80 columns: no row wraps, and no id is cut or broken."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psycopg
import pytest
from rich.console import Console
from typer.testing import CliRunner

from batch.runs import RunReport
from cli import main as cli
from cli.commands import batch, common, demo, up
from events import topics
from runtime.settings import Settings

WIDTH = 80
SHOP = "nest.myshopify.com"
LONG = "the-little-kiln-and-teapot-company.myshopify.com"
ZONE = "America/Argentina/Buenos_Aires"
AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
LETTER, RUN = UUID("4adef5bc-0b1d-5c22-9b63-719cef95cd62"), UUID("32f40c8c-703b-4bdd-ae65-dfaf4c8f26b9")


class Terminal:
    """A terminal of 80 columns that keeps what was printed on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, pipe: bool = False, width: int = WIDTH) -> None:
        self.file = io.StringIO()
        console = Console(
            file=self.file,
            width=width,
            force_terminal=not pipe,
            color_system=None,
            highlight=False,
            legacy_windows=False,
        )
        monkeypatch.setattr(common, "out", console)
        monkeypatch.setattr(common, "err", Console(file=io.StringIO(), width=WIDTH))

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.file.getvalue().splitlines()]

    def run(self, *words: str) -> list[str]:
        ended = CliRunner().invoke(cli.command(), words)
        assert ended.exit_code == 0, ended.output
        return self.lines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch)


def check(lines: list[str], *whole: str) -> None:
    """Each of these stands on one line, none of which is too long or cut."""
    assert not [line for line in lines if len(line) > WIDTH or "…" in line]
    for each in whole:
        assert [line for line in lines if each in line], (each, lines)


@pytest.fixture
def filled(database: str) -> str:
    with psycopg.connect(database) as connection:
        for shop, zone in ((SHOP, "UTC"), (LONG, ZONE)):
            program: dict[str, Any] = {"shop": shop, "currency": "USD", "zone": zone, "batch_at": "01:00"}
            if shop == LONG:
                told = {"refunds": "goods_and_adjustments", "taxes": "excluded"}
                later = {"effective_from": "9998-01-01T00:00:00Z", "refunds": "money", "taxes": "as_priced"}
                program["policies"] = [{"effective_from": None, **told}, later]
                reward = {
                    "reward_id": "x" * 64,
                    "cost": 10**13,
                    "kind": "store_credit",
                    "value": "10",
                    "name": "10 off",
                }
                times = {"effective_from": "2026-11-21T09:30:00Z", "until": "9998-01-01T00:00:00Z"}
                program["rewards"] = [reward | times, reward | {"effective_from": "9997-01-01T00:00:00Z"}]
            connection.execute("INSERT INTO programs VALUES (%s, %s, %s)", (shop, json.dumps(program), AT))
        for number, name in (("c076d4e64c5c", "the agency's weekly export of segments"), ("0123456789ab", "demo")):
            scopes = ["read", "export", "pii", "admin"]
            connection.execute(
                "INSERT INTO api_keys (id, shop, name, hash, scopes, created_at, revoked_at)"
                " VALUES (%s, %s, %s, '', %s, %s, %s)",
                (number, LONG, name, scopes, AT, AT),
            )
        connection.execute(
            "INSERT INTO dead_letters (at, id, shop, source, error, detail, value, replayed_at)"
            " VALUES (%s, %s, %s, %s, 'unknown_shop', %s, '{}', %s)",
            (AT, LETTER, LONG, topics.ORDERS, f"{LONG} has no program yet: add the shop, then replay", AT),
        )
    return database


def test_dead_letters(terminal: Terminal, filled: str) -> None:
    check(terminal.run("dead-letters", "list", "--database", filled), str(LETTER), LONG, "unknown_shop", "replayed")


def test_keys(terminal: Terminal, filled: str) -> None:
    lines = terminal.run("keys", "list", "--database", filled)
    check(lines, "c076d4e64c5c", LONG, "the agency's weekly export of segments", "read, export, pii, admin")


def test_shops(terminal: Terminal, filled: str) -> None:
    lines = terminal.run("shops", "list", "--database", filled)
    check(lines, SHOP, LONG, ZONE)
    policies = [line.strip() for line in lines if line.strip().startswith(("refunds", "taxes"))]
    assert policies == ["refunds: goods", "taxes: as_priced", "refunds: goods_and_adjustments", "taxes: excluded"]


def test_rewards(terminal: Terminal, filled: str) -> None:
    lines = terminal.run("programs", "rewards", LONG, "--database", filled)
    check(lines, "x" * 64, "10 off", "store_credit", "10,000,000,000,000", "10 USD", "9998-01-01 00:00:00Z")
    check(lines, "from: 9997-01-01 00:00:00Z")


def test_a_table_that_fits_is_one(monkeypatch: pytest.MonkeyPatch, filled: str) -> None:
    with psycopg.connect(filled) as connection:
        connection.execute("DELETE FROM programs WHERE shop = %s", (LONG,))
    lines = Terminal(monkeypatch, width=120).run("shops", "list", "--database", filled)
    (row,) = [line for line in lines if SHOP in line]
    assert row.split() == [SHOP, "USD", "UTC", "01:00", "0", "0", "goods", "as_priced"]


def test_into_a_pipe_a_line_is_a_row(monkeypatch: pytest.MonkeyPatch, filled: str) -> None:
    Terminal(monkeypatch, pipe=True)
    ended = CliRunner().invoke(cli.command(), ["keys", "list", "--database", filled])
    rows = [line for line in ended.stdout.splitlines() if LONG in line]
    assert len(rows) == 2
    assert all("2026-11-21 09:30:00Z" in row for row in rows)


def test_topics(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOYALNEST_TOPIC_PREFIX", "the-little-kiln-and-teapot-company.")
    lines = terminal.run("topics", "list")
    check(lines, *(f"the-little-kiln-and-teapot-company.{topic.name}" for topic in topics.ALL))


def test_a_batch(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, filled: str) -> None:
    segments = {"Previously loyal": 1_234_567, "Needs attention": 9}
    version = "f" * 32
    differ = 9, f"9 of 1234576 customers are not as the history says after 4 rounds of asking (for one, {10**18})"
    counts = 1_234_576, 9, segments, 1_234_576, 1
    report = RunReport(RUN, LONG, AT, version, True, *counts, *differ, 0, 12_345_678, 0, 1.0)
    monkeypatch.setattr(batch, "run_segments", lambda *_, **__: report)
    words = ("batch", "segments", "--shop", LONG, "--as-of", "2026-11-21", "--no-publish", "--database", filled)
    check(terminal.run(*words), f"{LONG} as of 2026-11-21 00:00:00Z", str(RUN), version, "Previously loyal")


def test_parity(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, filled: str) -> None:
    told = f"points: order 820982911946154508 of 115310627314723954: posted {2**53}, in the ledger 29, deserved 0"
    monkeypatch.setattr("batch.parity.main", lambda *_: [told])
    assert CliRunner().invoke(cli.command(), ["batch", "parity", "--shop", SHOP, "--database", filled]).exit_code == 1
    check(terminal.lines(), "820982911946154508", "115310627314723954", str(2**53), "points: most likely")


def test_runs_and_their_report(terminal: Terminal, filled: str, tmp_path: Path) -> None:
    gate = {"name": "other_currency", "says": "no <b>row</b>", "value": 1, "low": 0, "high": 0, "why": None}
    skipped = {**gate, "name": "stale", "why": "the shop sets no bound", "passed": None, "low": None, "high": None}
    quality = {"measured": {"customers": 1_234_567}, "shares": {}, "gates": [{**gate, "passed": False}, skipped]}
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute("DELETE FROM batch_runs")
        connection.execute(
            "INSERT INTO batch_runs (id, shop, as_of, status, attempt, customers, seconds, detail, started_at, quality)"
            " VALUES (%s, %s, %s, 'failed', 2, 1234567, 123.4, %s, %s, %s)",
            (RUN, LONG, AT, f"GatesError: nothing was published: {LONG}", AT, json.dumps(quality)),
        )
    words = ("--shop", LONG, "--database", filled)
    check(terminal.run("batch", "runs", *words), str(RUN), "other_currency", "failed", "1,234,567", "123.4")
    page = tmp_path / "report.html"
    check(terminal.run("batch", "report", *words, "--run", str(RUN), "--out", str(page)))
    html = page.read_text("utf-8")
    assert "no &lt;b&gt;row&lt;/b&gt;" in html
    assert '<td class="failed">failed</td>' in html
    assert "not asked: the shop sets no bound" in html
    assert "1,234,567" in html
    assert "http" not in html  # nothing is loaded from elsewhere
    ended = CliRunner().invoke(cli.command(), ["batch", "report", *words, "--run", "17"])
    assert str(ended.exception) == "'17' is not a run's id"


def test_where_up_says_everything_is(terminal: Terminal, tmp_path: Any) -> None:
    settings = Settings(data_dir=tmp_path)
    common.out.print(up.describe(settings, SimpleNamespace(api="http://127.0.0.1:54321")), soft_wrap=True)  # type: ignore[arg-type]
    lines = terminal.lines()
    assert len(lines) == 7
    assert f"secret    {tmp_path}/webhook.secret" in lines  # a path is as long as it is, and stays whole


def test_the_demos_table(terminal: Terminal) -> None:
    row = {
        "segment": "Previously loyal",
        "customers": 200_000,
        "share": 1.0,
        "revenue": {"amount": "12345678.00"},
        "mean_recency_days": 365.0,
        "mean_frequency": 12.4,
        "mean_monetary": {"amount": "12345.00"},
        "points_balance": 12_345_678,
    }
    demo.show_segments({"shop": demo.SHOP, "customers": 200_000, "segments": [row]})
    check(terminal.lines(), "Previously loyal", "200,000", "12,345,678")
