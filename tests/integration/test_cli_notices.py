"""`loyalnest notices …`: what the API does with endpoints, from the shell."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner, Result

from cli import main as cli
from tests.integration.api_world import MASTER, SHOP, World, opened


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        yield running


def run(world: World, *words: str, **settings: str) -> Result:
    environment = {
        "LOYALNEST_DATABASE": world.url,
        "LOYALNEST_MASTER_KEY": base64.b64encode(MASTER).decode(),
        "LOYALNEST_DATA_DIR": str(world.services.settings.data),
        **settings,
    }
    result: Result = CliRunner().invoke(cli.command("notices"), ["notices", *words], env=environment)
    return result


def printed(world: World, *words: str) -> Any:
    result = run(world, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_an_endpoint_from_its_making_to_its_end(world: World) -> None:
    assert "Nobody is told yet" in run(world, "list", SHOP).stdout
    made = run(world, "add", SHOP, "https://example.com/hook", "--event", "batch.done")
    assert made.exit_code == 0, made.output
    (endpoint,) = printed(world, "list", SHOP)
    ident = endpoint["id"]
    assert (endpoint["url"], endpoint["events"]) == ("https://example.com/hook", ["batch.done"])
    (by_the_api,) = world.get("/webhooks", world.key("admin")).json()["endpoints"]
    assert by_the_api["id"] == ident
    secret = world.run(world.services.vault.notice_secret(SHOP, UUID(ident)))
    assert made.stdout == f"whsec_{base64.b64encode(secret).decode()}\n"
    assert secret not in run(world, "list", SHOP).stdout_bytes
    assert "waits to be sent" in run(world, "test", SHOP, ident).stdout
    run(world, "test", SHOP, ident)
    world.sql("UPDATE notices SET status = 'dead', error = 'status', code = 500, attempts = 20")
    world.sql("UPDATE notice_endpoints SET failures = 9, rests_until = now() + interval '1 hour'")
    dead = printed(world, "deliveries", SHOP, ident, "--status", "dead")
    assert [each["event"] for each in dead] == ["test", "test"]
    assert "2 given up, 9 failures in a row, rests until" in run(world, "list", SHOP).stdout
    assert "20 attempts: status 500" in run(world, "deliveries", SHOP, ident).stdout
    assert run(world, "replay", SHOP, ident, str(dead[0]["id"]), "77").stdout == "1 of 2 are sent again.\n"
    assert printed(world, "list", SHOP)[0]["rests_until"] is None
    assert run(world, "replay", SHOP, ident, "--dead").stdout == "1 of 1 are sent again.\n"
    assert printed(world, "deliveries", SHOP, ident, "--status", "dead") == []
    assert run(world, "remove", SHOP, ident).stdout == "Removed.\n"
    assert printed(world, "list", SHOP) == []


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("add", SHOP, "http://example.com/"), 1, "no address to send to"),
        (("add", SHOP, "https://10.0.0.1/"), 1, "public address"),
        (("add", "nobody", "https://example.com/"), 1, "there is no shop nobody.myshopify.com"),
        (("add", SHOP, "https://example.com/", "--event", "order.paid"), 2, "events are"),
        (("remove", SHOP, str(uuid4())), 1, "no such endpoint"),
        (("test", SHOP, str(uuid4())), 1, "no such endpoint"),
        (("deliveries", SHOP, str(uuid4())), 1, "no such endpoint"),
        (("replay", SHOP, str(uuid4()), "--dead"), 1, "no such endpoint"),
        (("replay", SHOP, str(uuid4())), 2, "which ones?"),
    ],
)
def test_what_cannot_be_done_is_said(world: World, words: tuple[str, ...], code: int, says: str) -> None:
    result = run(world, *words)
    assert result.exit_code == code
    assert says in f"{result.exception} {result.output}"


def test_a_shop_has_ten_at_most(world: World) -> None:
    for number in range(10):
        assert run(world, "add", SHOP, f"https://example.com/{number}").exit_code == 0
    assert "remove one first" in str(run(world, "add", SHOP, "https://example.com/11").exception)
