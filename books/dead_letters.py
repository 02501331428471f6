"""Dead letters: what could not be used, to be looked at, and to be sent again once the cause is gone."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from books import contacts, exports, imports
from books.vault import Vault
from events import codec, envelopes, keys, letters, payloads, topics
from events.errors import BadEvent
from events.messages import Message
from events.webhook_topics import TOPICS, Kind
from runtime.database import Pool
from runtime.ports import Publisher

_LIST = """
SELECT at, id, shop, source, key, error, detail, value, sealed, replayed_at
FROM dead_letters
WHERE (%(shop)s::text IS NULL OR shop = %(shop)s) AND (%(error)s::text IS NULL OR error = %(error)s)
  AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s)) AND (NOT %(open)s OR replayed_at IS NULL)
ORDER BY at DESC, id LIMIT %(limit)s
"""


_FORGET_BODIES: Final = """
UPDATE dead_letters SET sealed = NULL WHERE (id, at) IN (
    SELECT id, at FROM dead_letters WHERE at < %(bodies)s AND sealed IS NOT NULL LIMIT %(slice)s)
"""

# What the stream refused counts nowhere as long as a letter says so, and what came before its shop is brought in by
# its letter: these stay until they are replayed. They hold what raw_events holds.
_FORGET: Final = """
DELETE FROM dead_letters WHERE (id, at) IN (
    SELECT id, at FROM dead_letters
    WHERE at < %(letters)s AND NOT (
        replayed_at IS NULL AND (source LIKE 'shopify.%%' OR source = 'loyalnest.requests')
        AND error IN ('unexpected', 'too_large', 'unknown_shop'))
    LIMIT %(slice)s)
"""

#: Letters that are looked at in one transaction.
SLICE: Final = 5_000


class DeadLetterRow(NamedTuple):
    """A dead letter as it is stored. `sealed`: the body, which may hold anybody's data; `opened` reads it."""

    at: datetime
    id: UUID
    shop: str | None
    source: str
    key: str | None
    error: str
    detail: str
    value: str | None
    sealed: str | None
    replayed_at: datetime | None


class Replayed(NamedTuple):
    """What became of one dead letter: `problem` is None if it was published again."""

    letter: DeadLetterRow
    problem: str | None


async def listing(
    pool: Pool,
    *,
    shop: str | None = None,
    error: str | None = None,
    ids: Sequence[UUID] | None = None,
    unreplayed: bool = False,
    limit: int = 100,
) -> list[DeadLetterRow]:
    """Dead letters, newest first: of a shop, with an error, of these ids, or not replayed yet."""
    async with pool.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(DeadLetterRow))
        chosen = None if ids is None else list(ids)
        await cursor.execute(_LIST, {"shop": shop, "error": error, "ids": chosen, "open": unreplayed, "limit": limit})
        return await cursor.fetchall()


async def opened(vault: Vault, letter: DeadLetterRow) -> bytes | None:
    """The sealed body of a front door's dead letter; None if it has none, or nobody can read it any more."""
    if letter.sealed is None or letter.shop is None:
        return None
    return await vault.open_body(letter.shop, letter.sealed)


async def _webhook(vault: Vault | None, letter: DeadLetterRow, now: datetime, page: bool) -> Message:
    """The front door's webhook, read anew: from its body where that was sealed, else from its envelope.

    A redaction is heeded here as it is there: nobody else will see whose address it names.
    """
    envelope: dict[str, Any] = codec.loads((letter.value or "").encode())
    topic, shop = envelope["topic"], keys.shop_domain(envelope["shop"])
    envelope["triggered_at"] = envelope["triggered_at"] or envelope["received_at"]
    if letter.sealed is not None:
        if vault is None:
            raise ValueError("its body is sealed: set LOYALNEST_MASTER_KEY")
        body = await opened(vault, letter)
        if body is None:
            raise ValueError("its body is sealed with a key that has been destroyed")
        found = envelopes.of_body(topic, shop, body, page=page)
        envelope["payload"] = found.payload
        await contacts.take(vault, shop, topic, found, now)
    elif envelope["payload"] is None:
        raise ValueError("its body was not kept")
    data = codec.dumps(envelope)
    stream = TOPICS[topic].stream
    return Message(stream, payloads.key_of(topic, shop, envelopes.envelope(data, stream)["payload"]), data)


async def message(vault: Vault | None, letter: DeadLetterRow, now: datetime, page: bool = True) -> Message:
    """The message that replaying it publishes; ValueError, saying why, if it cannot be replayed."""
    if letter.source == letters.WEBHOOK:
        try:
            return await _webhook(vault, letter, now, page)
        except (BadEvent, KeyError, TypeError) as error:
            raise ValueError(f"it still cannot be used ({error})") from None
    if letter.value is None:
        raise ValueError("its body was not kept")
    if letter.source not in topics.BY_NAME or letter.source == topics.DEAD_LETTERS:
        raise ValueError(f"its source {letter.source!r} is not one of our topics")
    return Message(letter.source, letter.key or "", letter.value.encode())


def _redacted(found: Message) -> str | None:
    """The shop of a message that asks us to forget somebody; None of any other."""
    try:
        envelope = codec.loads(found.value)
        forgets = TOPICS[envelope["topic"]].kind in (Kind.REDACT, Kind.SHOP_REDACT)
        return keys.shop_domain(envelope["shop"]) if forgets else None
    except (BadEvent, KeyError, TypeError):
        return None


async def replay(
    pool: Pool,
    vault: Vault | None,
    publisher: Publisher,
    chosen: Sequence[DeadLetterRow],
    now: datetime,
    page: bool = True,
) -> list[Replayed]:
    """Publishes dead letters again, oldest first, each to where it came from, and notes when.

    Twice does no harm: whoever reads it has it already. `page` as in payloads.check. PublishError when one could not
    be made durable; those before it are noted.
    """
    outcomes = []
    for letter in sorted(chosen, key=lambda each: (each.at, each.id)):
        try:
            again = await message(vault, letter, now, page)
        except ValueError as error:
            outcomes.append(Replayed(letter, str(error)))
            continue
        await publisher.publish([again])
        async with pool.connection() as connection:
            await connection.execute(
                "UPDATE dead_letters SET replayed_at = %s WHERE id = %s AND at = %s", (now, letter.id, letter.at)
            )
            if (redacted := _redacted(again)) is not None:
                for statement in (imports.FORGET, exports.FORGET):
                    await connection.execute(statement, (redacted, now))
        outcomes.append(Replayed(letter, None))
    return outcomes


def forget(connection: Connection[Any], bodies: datetime, letters: datetime) -> tuple[int, int]:
    """Removes sealed bodies from before `bodies`, then letters from before `letters`; how many of each.

    In slices, each of which the connection commits by itself.
    """
    asked = {"bodies": bodies, "letters": letters, "slice": SLICE}
    counts = []
    for statement in (_FORGET_BODIES, _FORGET):
        count = 0
        while (found := connection.execute(statement, asked).rowcount) > 0:
            count += found
        counts.append(count)
    return counts[0], counts[1]
