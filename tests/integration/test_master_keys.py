"""The master key is rotated: every key is wrapped anew, broken off or not, and none that is gone comes back."""

import asyncio
import base64
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from books import master_keys, vault
from books.master_keys import Rotated, rotate
from books.sealed import MasterKeys, VaultError
from books.vault import Vault
from cli import main as cli
from events.payloads import Contact
from runtime import database as databases
from tests.integration.api_world import MASTER, OTHER, SHOP

NEW = bytes(range(1, 33))
OLD_ONLY, BOTH, NEW_ONLY = MasterKeys([MASTER]), MasterKeys([NEW, MASTER]), MasterKeys([NEW])
PEOPLE = [(shop, str(number)) for shop in (OTHER, SHOP) for number in range(10, 15)]


def sealed(url: str, keys: MasterKeys) -> dict[tuple[str, str], str | None]:
    """What is sealed for each of them."""

    async def sealing() -> dict[tuple[str, str], str | None]:
        async with databases.pool(url, "test", size=2) as pool:
            store = Vault(keys, pool)
            return {who: await store.seal(*who, Contact(f"{who[1]}@example.com", None)) for who in PEOPLE}

    return asyncio.run(sealing())


def opened(url: str, keys: MasterKeys, texts: dict[tuple[str, str], str | None]) -> list[str | None]:
    async def opening() -> list[str | None]:
        async with databases.pool(url, "test", size=2) as pool:
            store = Vault(keys, pool)
            found = [await store.open(*who, text or "") for who, text in texts.items()]
            return [each and each.email for each in found]

    return asyncio.run(opening())


EMAILS = [f"{who[1]}@example.com" for who in PEOPLE]


def test_every_key_is_wrapped_anew_also_after_it_was_broken_off(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_keys, "SLICE", 3)
    texts = sealed(database, OLD_ONLY)
    with databases.connect(database, "test", autocommit=True) as connection:
        # One of them from before wrapped keys had an id.
        connection.execute("UPDATE customer_keys SET wrapped = substring(wrapped FROM 6) WHERE customer_id = '13'")

        def broken_off(done: int) -> None:
            if done > 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rotate(connection, BOTH, broken_off)
        assert opened(database, BOTH, texts) == EMAILS
        with pytest.raises(VaultError):
            opened(database, NEW_ONLY, texts)
        assert rotate(connection, BOTH) == Rotated(4, 0)
        assert rotate(connection, BOTH) == Rotated(0, 0)
    assert opened(database, NEW_ONLY, texts) == EMAILS


def test_a_key_that_is_destroyed_meanwhile_stays_so(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = sealed(database, OLD_ONLY)
    with (
        databases.connect(database, "test", autocommit=True) as connection,
        databases.connect(database, "test", autocommit=True) as other,
    ):
        wrap = BOTH.wrap

        def slowly(shop: str, customer_id: str, key: bytes) -> bytes:
            other.execute(vault.DESTROY.encode(), ([SHOP], ["12"]))
            return wrap(shop, customer_id, key)

        monkeypatch.setattr(BOTH, "wrap", slowly)
        assert rotate(connection, BOTH) == Rotated(9, 0)
        row = connection.execute("SELECT wrapped FROM customer_keys WHERE (shop, customer_id) = (%s, '12')", (SHOP,))
        assert row.fetchone() == (None,)
    expected = [None if who == (SHOP, "12") else email for who, email in zip(PEOPLE, EMAILS, strict=True)]
    assert opened(database, NEW_ONLY, texts) == expected


def test_keys_that_nobody_can_open_are_counted_and_stop_none(database: str) -> None:
    sealed(database, OLD_ONLY)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE customer_keys SET wrapped = 'another key of long ago' WHERE customer_id = '11'")
        assert rotate(connection, BOTH) == Rotated(8, 2)


def test_the_command_needs_both_keys(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = sealed(database, OLD_ONLY)
    new, old = (base64.b64encode(key).decode() for key in (NEW, MASTER))
    words = ["privacy", "rotate-master", "--database", database, "--data", str(tmp_path)]
    monkeypatch.setenv("LOYALNEST_MASTER_KEY", new)
    ended = CliRunner().invoke(cli.command(), words)
    assert ended.exit_code == 1
    monkeypatch.setenv("LOYALNEST_MASTER_KEY", f"{new},{old}")
    ended = CliRunner().invoke(cli.command(), words)
    assert (ended.exit_code, "10 keys wrapped anew" in ended.output) == (0, True), ended.output
    assert opened(database, NEW_ONLY, texts) == EMAILS


def test_embedded_a_new_key_is_made_and_the_old_one_is_let_go(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOYALNEST_MASTER_KEY", raising=False)
    texts, file = sealed(database, OLD_ONLY), tmp_path / "master.key"
    words = ["privacy", "rotate-master", "--database", database, "--data", str(tmp_path)]
    assert CliRunner().invoke(cli.command(), words).exit_code == 1
    file.write_text(base64.b64encode(MASTER).decode() + "\n")
    ended = CliRunner().invoke(cli.command(), words)
    assert ended.exit_code == 0, ended.output
    made = master_keys.parse(file.read_text())
    assert made != MASTER
    assert file.stat().st_mode & 0o777 == 0o600
    assert opened(database, MasterKeys([made]), texts) == EMAILS
    assert [each.name for each in tmp_path.iterdir()] == ["master.key"]
