"""Balances brought in: one award for each, by id or by address, and never twice."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from cli import main as cli
from events import codec
from tests.integration.api_world import SHOP, Remembering, opened
from tests.integration.test_imports import bring_in, customers, order

Json = dict[str, Any]


def file_of(folder: Path, *rows: str, name: str = "balances.csv", header: str = "customer,points,date") -> Path:
    path = folder / name
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def webhook(number: int, **changes: Any) -> Json:
    return {
        "topic": "orders/updated",
        "shop": SHOP,
        "webhook_id": f"w-{number}",
        "event_id": None,
        "api_version": None,
        "triggered_at": "2026-10-01T10:00:00Z",
        "received_at": "2026-10-01T10:00:00Z",
        "payload": order(number, **changes),
    }


def test_each_balance_is_an_award_and_again_changes_nothing(database: str, tmp_path: Path) -> None:
    publisher = Remembering()
    path = file_of(tmp_path, "7,350,2026-03-01", "ada@example.com,-20,", "8,0,", "9,many,")
    found = bring_in(database, path, publisher)
    assert (found.status, found.format, found.customers, found.rejected) == ("done", "balances CSV", 2, 1)
    assert found.notes == {"no_points": 1}
    sent = publisher.values()
    assert {each["topic"] for each in sent} == {"account/award"}
    assert [each.topic for each in publisher.messages] == ["loyalnest.requests"] * 2
    mail = sent[1]["payload"]["customer_id"]
    assert mail.startswith("mail-")
    assert publisher.messages[1].key == f"{SHOP}/{mail}"
    assert "example.com" not in codec.dumps(sent).decode()
    assert customers(sent) == {"7": (350, 0), mail: (-20, 0)}

    bring_in(database, path, publisher, again=True)
    assert publisher.values()[2:] == sent
    later = file_of(tmp_path, "7,300,2026-04-01", "ada@example.com,30,", name="later.csv")
    bring_in(database, later, publisher)
    everything = publisher.values()
    assert customers(everything) == customers(everything[::-1]) == {"7": (300, 0), mail: (30, 0)}


def test_whoever_has_the_address_later_has_its_points(database: str, tmp_path: Path) -> None:
    publisher = Remembering()
    with opened(database, publisher) as world:
        payload = order(1, customer={"id": 71, "email": "ada@example.com"})
        world.program()
        assert world.webhook("orders/paid", payload).status_code == 200
        bring_in(database, file_of(tmp_path, "ada@example.com,50,2026-03-01"), publisher)
        sent = publisher.values()
    assert [each["topic"] for each in sent] == ["orders/paid", "account/award"]
    found = customers(sent)
    assert found["71"][0] == customers(sent[:1])["71"][0] + 50
    assert found == customers(sent[::-1])


def test_a_dry_run_says_what_would_come_in(database: str, tmp_path: Path) -> None:
    path = file_of(tmp_path, "7,350,", "8,50,", "9,many,")
    with opened(database) as world:
        world.program()
        environment = {"LOYALNEST_DATABASE": world.url, "LOYALNEST_DATA_DIR": str(world.services.settings.data)}
        words = ["import", str(path), "--shop", SHOP, "--dry-run"]
        said = CliRunner().invoke(cli.command("import"), words, env=environment)
        assert "2 balances, 400 points in all" in said.stdout, said.output
        told = json.loads(CliRunner().invoke(cli.command("import"), [*words, "--json"], env=environment).stdout)
        assert (told["format"], told["balances"], told["points"], told["rejected_lines"]) == ("balances CSV", 2, 400, 1)
        assert world.sql("SELECT * FROM raw_events") == []
