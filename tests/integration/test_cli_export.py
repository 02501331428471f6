"""`loyalnest export`: the API's bytes from the shell, and nobody's address without the right to it."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import main as cli
from tests.integration.api_world import MASTER, NOW, OTHER, SHOP, World, opened, prospect


@pytest.fixture
def world(database: str) -> Iterator[World]:
    with opened(database) as running:
        running.program()
        for number in range(1, 8):
            running.customer(
                f"721044830112233456{number}",
                segment="Loyal" if number % 2 else "Fidèle à vie",
                balance=number,
                contact=running.contact(f"721044830112233456{number}", f"{number}@x.com"),
            )
        running.customer("9", **prospect())
        yield running


def run(world: World, *words: str, key: Mapping[str, str] | None = None) -> Result:
    environment: dict[str, str | None] = {
        "LOYALNEST_DATABASE": world.url,
        "LOYALNEST_MASTER_KEY": base64.b64encode(MASTER).decode(),
        "LOYALNEST_DATA_DIR": str(world.services.settings.data),
        "LOYALNEST_API_KEY": None if key is None else key["Authorization"].removeprefix("Bearer "),
    }
    result: Result = CliRunner().invoke(cli.command("export"), ["export", SHOP, *words], env=environment)
    return result


#: What is asked, as parameters and as options, and what a key needs for it.
ASKED: list[tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]]] = [
    ({}, (), ()),
    ({}, (), ("pii",)),
    ({"segment": ["Loyal", "Prospects"]}, ("--segment", "Loyal", "--segment", "Prospects"), ()),
    (
        {"r": "4-5", "m": "3", "points_from": 2, "points_to": 5},
        ("--r=4-5", "--m=3", "--points-from=2", "--points-to=5"),
        (),
    ),
    ({"excel": True, "columns": "customer_id,segment"}, ("--excel", "--columns", "customer_id,segment"), ()),
    ({"preset": "google"}, ("--preset", "google"), ()),
    ({"preset": "klaviyo", "consent": "any"}, ("--preset", "klaviyo", "--consent", "any"), ("pii",)),
    (
        {"last_order_after": "2026-01-01T00:00:00Z", "last_order_before": NOW.isoformat()},
        ("--last-order-after", "2026-01-01", "--last-order-before", NOW.isoformat()),
        (),
    ),
    ({"points_expire_before": "2026-12-01T00:00:00Z"}, ("--points-expire-before", "2026-12-01"), ()),
    ({"changed_since": "2026-01-01T00:00:00Z"}, ("--changed-since", "2026-01-01"), ()),
]


@pytest.mark.parametrize(("asked", "words", "scopes"), ASKED, ids=lambda each: str(each)[:40])
def test_the_bytes_are_the_apis(
    world: World, tmp_path: Path, asked: dict[str, Any], words: tuple[str, ...], scopes: tuple[str, ...]
) -> None:
    key = world.key("export", *scopes)
    wanted = world.get("/exports/segments.csv", key, **asked).content
    result = run(world, *words, key=key if scopes else None)
    assert result.exit_code == 0, result.output
    assert result.stdout_bytes == wanted
    out = tmp_path / "file.csv"
    result = run(world, *words, "--out", str(out), key=key)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == wanted
    assert out.stat().st_mode & 0o777 == 0o600
    assert f"{wanted.count(bytes([13, 10])) - 1} rows" in result.stdout
    assert [*tmp_path.iterdir()] == [out]


@pytest.mark.parametrize("words", [("--preset", "klaviyo"), ("--columns", "email"), ("--preset=meta", "--consent=any")])
def test_addresses_need_a_key_that_may_show_them(world: World, tmp_path: Path, words: tuple[str, ...]) -> None:
    out = tmp_path / "file.csv"
    for key in (None, world.key("export"), world.key("pii"), world.key("export", "pii", shop=OTHER)):
        result = run(world, *words, "--out", str(out), key=key)
        assert result.exit_code == 1
        assert [*tmp_path.iterdir()] == []
        assert "x.com" not in result.output
    revoked = world.key("export", "pii")
    world.sql("UPDATE api_keys SET revoked_at = now()")
    assert run(world, *words, key=revoked).exit_code == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--segment", "loyal"), "At risk, Champions"),
        (("--columns", "colour"), "--columns: Input should be 'customer_id'"),
        (("--preset", "hubspot"), "--preset: Input should be 'klaviyo', 'mailchimp'"),
        (("--r", "5-4"), "--r: "),
        (("--points-from=5", "--points-to=4"), "above"),
    ],
)
def test_what_is_not_known_is_said_in_a_sentence(world: World, words: tuple[str, ...], says: str) -> None:
    result = run(world, *words)
    assert result.exit_code == 1
    assert says in str(result.exception)


def test_a_shop_without_a_program_is_said(world: World) -> None:
    world.sql("DELETE FROM programs")
    result = run(world)
    assert result.exit_code == 1
    assert "no program" in str(result.exception)


def test_the_shells_exports_are_listed_with_the_others(world: World, tmp_path: Path) -> None:
    key = world.key("export", "pii")
    assert run(world, "--preset", "google").exit_code == 0
    assert run(world, "--segment", "Loyal", key=key).exit_code == 0
    assert run(world, "--out", str(tmp_path / "nowhere" / "file.csv")).exit_code == 1
    listed = world.get("/exports", world.key("admin")).json()["exports"]
    told = [(each["asked_by"], each["way"], each["rows"], each["addresses"], each["status"]) for each in listed]
    ident = key["Authorization"].split("_")[1]
    assert told == [(ident, "shell", 4, True, "done"), ("shell", "shell", 7, False, "done")]
