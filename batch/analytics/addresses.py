"""Addresses and consents for an analysts' file that is asked for with the right to see them: opened here, and nowhere
else in the batch.
"""

import asyncio
import csv
from pathlib import Path
from typing import Final

from psycopg.rows import tuple_row

from batch.analytics.words import CUSTOMER, Table
from batch.frames import BatchError
from books import api_keys, contacts
from books.master_keys import master_keys
from books.vault import Vault
from runtime import database
from runtime.settings import Settings

#: What a key must allow: as for the CSV with addresses.
SCOPES: Final = frozenset({"export", "pii"})

#: Customers of one read of the vault.
_CHUNK: Final = 1000

TABLE: Final = Table(
    "addresses",
    "How customers may be reached, as of when the file was made: whoever withdrew a consent since is not in it.",
    {
        "customer_id": CUSTOMER,
        "email": "the address, in clear",
        "email_consent": "whether marketing may be sent to it: subscribed, and nothing else, says yes",
    },
    "SELECT shown(customer_id), email, consent FROM staged_addresses",
)

#: Of the file that `write` makes, as DuckDB reads it.
COLUMNS: Final = "{'customer_id': 'VARCHAR', 'email': 'VARCHAR', 'consent': 'VARCHAR'}"

_ASKED: Final = (
    f"SELECT customer_id, {contacts.SEALED} FROM customers AS c"
    " WHERE shop = %s AND merged_into IS NULL ORDER BY customer_id"
)


def write(settings: Settings, shop: str, key: str, path: Path) -> None:
    """Writes customer_id, email, consent as CSV, of everybody with an address.

    BatchError unless `key` is an API key of the shop that allows exports with addresses.
    """
    asyncio.run(_write(settings, shop, key, path))


async def _write(settings: Settings, shop: str, key: str, path: Path) -> None:
    url = settings.database_url()
    pool = database.pool(url, "loyalnest batch", size=2)
    await pool.open()
    connection = await database.connect_async(url, "loyalnest batch", statement_seconds=0)
    try:
        granted = await api_keys.check(connection, key)
        if granted is None or shop not in granted.shops or not granted.scopes >= SCOPES:
            raise BatchError(f"addresses need an API key of {shop} with the scopes export and pii: give --key")
        vault = Vault(master_keys(settings), pool)
        async with connection.cursor("addresses", row_factory=tuple_row) as cursor:
            await cursor.execute(_ASKED.encode(), (shop,))
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                while rows := await cursor.fetchmany(_CHUNK):
                    sealed = contacts.Rows(*zip(*rows, strict=True))
                    found = await contacts.opened(vault, connection, shop, sealed)
                    writer.writerows(
                        (customer_id, email, consent or "not_subscribed")
                        for customer_id, email, consent in zip(sealed.customer_ids, *found, strict=True)
                        if email is not None
                    )
    finally:
        await connection.close()
        await pool.close()
