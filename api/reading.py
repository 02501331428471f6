"""What reads a shop's results: the settings, the pool, the vault, and past instants; without a request, too."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from api.limits import READ_SECONDS, within
from api.past import Past
from books import programs, vault
from books.master_keys import master_keys
from books.opening import Openers
from events.programs import Program
from runtime import database
from runtime.database import Pool
from runtime.settings import Settings

Row = dict[str, Any]

#: A query as it may reach the database: written down in our code, or composed of such parts. A bare str is none.
Statement = sql.SQL | sql.Composed


class Reading:
    """Whoever made pool and vault opens and closes them."""

    def __init__(self, settings: Settings, pool: Pool, keys: vault.Vault) -> None:
        self.settings = settings
        self.pool = pool
        self.vault = keys
        self.past = Past(settings)

    async def rows(self, query: Statement, parameters: Row) -> list[Row]:
        """A query's rows as dictionaries; TimeoutError when the database does not answer in time."""
        return await within(READ_SECONDS, self._rows(query, parameters))

    async def _rows(self, query: Statement, parameters: Row) -> list[Row]:
        async with self.pool.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(query, parameters)
            return await cursor.fetchall()

    async def row(self, query: Statement, parameters: Row) -> Row | None:
        """A query's first row, if any."""
        found = await self.rows(query, parameters)
        return found[0] if found else None

    async def program(self, shop: str) -> Program | None:
        """The shop's program with all that was announced, by whatever process; None before the first.

        TimeoutError when the database does not answer in time.
        """
        return await within(READ_SECONDS, self._program(shop))

    async def _program(self, shop: str) -> Program | None:
        async with self.pool.connection() as connection:
            return await programs.known_async(connection, shop)


@asynccontextmanager
async def opened(settings: Settings, application: str) -> AsyncIterator[Reading]:
    """Reads without an API, in the running loop. ValueError or VaultError for settings it cannot work with."""
    pool = database.pool(settings.database_url(), application, size=2, statement_seconds=READ_SECONDS)
    masters = master_keys(settings)
    openers = Openers(masters)
    reading = Reading(settings, pool, vault.Vault(masters, pool, openers=openers))
    try:
        await pool.open()
        yield reading
    finally:
        reading.past.close()
        openers.close()
        await pool.close()
